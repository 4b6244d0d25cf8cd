//! Fuzz targets for files of answers: JSON, JSON lines, CSV, TSV, spreadsheets.

use super::zip;
use crate::FuzzTarget;
use crate::corpus::root;
use crate::mutate::MutationForm;
use burgess_base::Result;
use burgess_bench::{Benchmark, Question, Rules, find, judge_predictions, read_predictions};
use std::path::Path;
use std::sync::LazyLock;

const WORDS: &[&str] = &[
    "\"doc_id\"",
    "\"filtered_resps\"",
    "\"resps\"",
    "\"target\"",
    "\"index\"",
    "\"prediction\"",
    "\"question_id\"",
    "\"text\"",
    "\"id\"",
    "\"answer\"",
    "\u{feff}",
    "\r\n",
    "\t",
    "\"\"\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "predictions-json",
        about: "answers in JSON and JSON lines",
        corpus: &["tests/golden/predictions/*.json", "tests/golden/predictions/*.jsonl"],
        words: WORDS,
        form: MutationForm::Json,
        share: 100,
        run: |input, place| scored(&place.file(&input.name(), input.bytes)?),
    },
    FuzzTarget {
        name: "predictions-table",
        about: "answers in TSV and CSV",
        corpus: &["tests/golden/predictions/*.tsv"],
        words: WORDS,
        form: MutationForm::Text,
        share: 100,
        run: |input, place| scored(&place.file(&input.name(), input.bytes)?),
    },
    FuzzTarget {
        name: "xlsx",
        about: "answers in a spreadsheet",
        corpus: &["tests/golden/predictions/*.xlsx"],
        words: &["PK\x01\x02", "PK\x05\x06", "xl/workbook.xml"],
        form: MutationForm::Binary,
        share: 25,
        run: |input, place| scored(&place.file("m.xlsx", input.bytes)?),
    },
    FuzzTarget {
        name: "xlsx-sheet",
        about: "a sheet and its texts inside a spreadsheet",
        corpus: &[],
        words: &[
            "<c r=\"XFD1048576\"><v>1</v></c>",
            "<row r=\"1048577\">",
            "<f t=\"shared\" ref=\"A1:B9999\" si=\"0\">A1</f>",
            "t=\"s\"",
            "t=\"inlineStr\"",
            "<is><t>a</t></is>",
            "<dimension ref=\"A1:XFD1048576\"/>",
            "<mergeCell ref=\"A1:XFD1048576\"/>",
            "&#x0;",
            "&amp;",
            "<!DOCTYPE a [<!ENTITY b \"c\">]>",
            "<![CDATA[",
            "uniqueCount=\"4294967295\"",
            "s=\"99\"",
        ],
        form: MutationForm::Text,
        share: 40,
        run: |input, place| scored(&place.file("m.xlsx", &workbook(input.bytes))?),
    },
];

/// Makes a workbook with this sheet; the text after `<!--texts-->` becomes its shared strings.
fn workbook(bytes: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"<!--texts-->";
    const KIND: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let at = bytes.windows(MARK.len()).position(|w| w == MARK);
    let (sheet, texts) = at.map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + MARK.len()..]));
    let rels = |all: &[(&str, &str)]| {
        let one = |(i, (kind, target)): (usize, &(&str, &str))| {
            format!("<Relationship Id=\"rId{}\" Type=\"{KIND}/{kind}\" Target=\"{target}\"/>", i + 1)
        };
        let all: String = all.iter().enumerate().map(one).collect();
        format!(
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">{all}</Relationships>"
        )
    };
    let book = format!(
        "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"{KIND}\"><sheets>\
         <sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
    );
    zip::stored(&[
        ("_rels/.rels", rels(&[("officeDocument", "xl/workbook.xml")]).as_bytes()),
        ("xl/workbook.xml", book.as_bytes()),
        (
            "xl/_rels/workbook.xml.rels",
            rels(&[("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")]).as_bytes(),
        ),
        ("xl/worksheets/sheet1.xml", sheet),
        ("xl/sharedStrings.xml", texts),
    ])
}

/// Reads answers and scores them on the goldens of two benchmarks.
fn scored(path: &Path) -> Result<()> {
    static ASKED: LazyLock<Vec<(&'static dyn Benchmark, Vec<Question>)>> = LazyLock::new(|| {
        let read = |id: &str| {
            let benchmark = find(id).ok()?;
            Some((benchmark, benchmark.read(&root().join("tests/golden/benchmarks").join(id)).ok()?.questions))
        };
        ["gqa", "ai2d"].into_iter().filter_map(read).collect()
    });
    let answers = read_predictions(path)?;
    assert_eq!(ASKED.len(), 2);
    let (mut scored, mut failed) = (false, None);
    for (benchmark, questions) in ASKED.iter() {
        for rules in [Rules::Official, Rules::LmmsEval] {
            match judge_predictions(*benchmark, questions, answers.clone(), rules) {
                Ok(_) => scored = true,
                Err(e) => failed = Some(e),
            }
        }
    }
    failed.filter(|_| !scored).map_or(Ok(()), Err)
}
