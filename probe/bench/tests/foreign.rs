//! Files that other programs write: published tables with unusable rows, predictions in every format, and files that
//! are damaged or malicious.

use burgess_bench::{self as bench, Benchmark, Predictions, Question, QuestionSet, Rules, judge_predictions};
use flate2::Crc;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

type Checked = Result<(), Box<dyn std::error::Error>>;

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

/// A cell with an image: more than 64 characters of base64.
fn tiny_image(n: u8) -> String {
    format!("{}{}", char::from(b'A' + n).to_string().repeat(79), "A")
}

const HEADER: [&str; 11] =
    ["index", "image", "question", "A", "B", "C", "answer", "category", "source", "prompt", "question_type"];

fn row(index: &str, image: &str, choices: [&str; 3], answer: &str) -> Vec<String> {
    let [a, b, c] = choices;
    [index, image, "Which?", a, b, c, answer, "some", "COCO", "Which?", "multiple-choice"].map(String::from).to_vec()
}

/// VLMEvalKit's editions with choices, by benchmark.
const VLMEVALKIT_TABLES: [(&str, &str); 11] = [
    ("ai2d", "AI2D_TEST.tsv"),
    ("scienceqa", "ScienceQA_TEST.tsv"),
    ("seed-bench", "SEEDBench_IMG.tsv"),
    ("mmstar", "MMStar.tsv"),
    ("blink", "BLINK.tsv"),
    ("q-bench", "Q-Bench1_VAL.tsv"),
    ("mmbench-en", "MMBench_DEV_EN.tsv"),
    ("realworldqa", "RealWorldQA.tsv"),
    ("cv-bench-2d", "CV-Bench-2D.tsv"),
    ("v-star", "VStarBench.tsv"),
    ("mmmu", "MMMU_DEV_VAL.tsv"),
];

#[test]
fn unusable_rows_are_skipped_and_counted() -> Checked {
    let [p0, p1, p2] = [0, 1, 2].map(tiny_image);
    let rows = [
        row("7", &p0, ["left", "right", "both"], "B"),
        row("8", &p1, ["left", "", "both"], "C"),
        row("9", &p1, ["left", "right", "both"], ""),
        row("10", "", ["left", "right", "both"], "A"),
        row("11", &p1, ["left", "right", "both"], "E"),
        row("7", &p1, ["left", "right", "both"], "A"),
        vec![String::new(); HEADER.len()],
        row("13", &p1, ["", "", ""], "A"),
        row("14", &p1, ["left", "nan", "nan"], "A"),
        row("15", "nowhere", ["left", "right", "both"], "A"),
        vec!["16".into(), p1.clone()],
        row("17", &p2, ["left", "right", ""], "B"),
    ];
    for (id, name) in VLMEVALKIT_TABLES {
        let dir = tempfile::tempdir()?;
        let line = |cells: &[String]| format!("{}\n", cells.join("\t"));
        let header: Vec<String> = HEADER.map(String::from).to_vec();
        let text: String = std::iter::once(&header).chain(&rows).map(|cells| line(cells)).collect();
        fs::write(dir.path().join(name), text.replace("\n16\t", "\n\n16\t"))?;
        let read = of(id).read(dir.path()).map_err(|e| format!("{id}: {e}"))?;
        let asked: Vec<&str> = read.iter().map(|q| q.id.as_str()).collect();
        // RealWorldQA has questions without choices.
        let open = id == "realworldqa";
        let right = if open { vec!["7", "13", "17"] } else { vec!["7", "17"] };
        assert_eq!(asked, right, "{id}: {:?}", read.skipped);
        assert_eq!(read.skipped_count(), rows.len() - right.len(), "{id}: {:?}", read.skipped);
        assert_eq!(read.last().map(|q| q.options.clone()), Some(vec!["left".into(), "right".into()]), "{id}");
        let why = |index: &str| {
            let named = format!("(index {index})");
            let found = read.skipped.iter().find(|l| l.examples.iter().any(|e| e.contains(&named)));
            found.map_or_else(String::new, |l| l.why.clone())
        };
        assert_eq!(why("8"), "the choice B is empty, but C is not", "{id}");
        assert_eq!(why("9"), "the column `answer` is blank", "{id}");
        let rest = ["an earlier row has the same id", "the row is blank", "the row has 2 cells, but the header has 11"];
        for reason in rest {
            assert!(read.skipped.iter().any(|l| l.why == reason), "{id}: {reason}: {:?}", read.skipped);
        }
    }
    Ok(())
}

#[test]
fn a_table_of_nothing_but_bad_rows_is_an_error() -> Checked {
    let dir = tempfile::tempdir()?;
    let text = format!(
        "{}\n{}\n{}\n",
        HEADER.join("\t"),
        row("1", &tiny_image(0), ["a", "", "c"], "A").join("\t"),
        "\t".repeat(10)
    );
    fs::write(dir.path().join("AI2D_TEST.tsv"), text)?;
    let error = of("ai2d").read(dir.path()).expect_err("nothing to ask").to_string();
    assert!(error.starts_with("none of the 2 rows is a usable question: "), "{error}");
    assert!(error.ends_with("AI2D_TEST.tsv row 1: the choice B is empty, but C is not"), "{error}");
    Ok(())
}

#[test]
fn what_is_scored_together_is_skipped_together() -> Checked {
    let dir = tempfile::tempdir()?;
    // Pairs of MME; of the second, one has no answer.
    let line = |path: &str, image: u8, answer: &str| {
        format!(
            "{path}{image}{answer}\t{}\tIs it? Please answer yes or no.\tcount\t{path}\t{answer}\n",
            tiny_image(image)
        )
    };
    let text = [
        "index\timage\tquestion\tcategory\timage_path\tanswer\n".to_string(),
        line("x", 0, "Yes"),
        line("x", 0, "No"),
        line("y", 1, "Yes"),
        line("y", 1, ""),
    ];
    fs::write(dir.path().join("MME.tsv"), text.concat())?;
    let read = of("mme").read(dir.path())?;
    assert_eq!((read.len(), read.skipped_count()), (2, 2), "{:?}", read.skipped);
    assert_eq!(read.skipped[1].why, "a question that is scored together with it was skipped");
    // Rotations of MMBench: without one of them a question would be easier.
    let rotation =
        |index: &str, answer: &str| row(index, &tiny_image(0), ["left", "right", "both"], answer).join("\t") + "\n";
    let text = [
        HEADER.join("\t") + "\n",
        rotation("1", "A"),
        rotation("1000001", "B"),
        rotation("2", "A"),
        rotation("1000002", ""),
    ];
    fs::write(dir.path().join("MMBench_DEV_EN.tsv"), text.concat())?;
    let read = of("mmbench-en").read(dir.path())?;
    let asked: Vec<&str> = read.iter().map(|q| q.id.as_str()).collect();
    assert_eq!((asked, read.skipped_count()), (vec!["1", "1000001"], 2));
    Ok(())
}

#[test]
fn json_rows_have_gaps_too() -> Checked {
    let dir = tempfile::tempdir()?;
    let good = json!({"question": "Which?", "options": ["a", "b", "", null], "answer": 1, "image": "0.png"});
    let mut lines = vec![good.to_string(), "null".into(), "[]".into(), "7".into(), String::new(), "  ".into()];
    for (field, value) in [
        ("options", json!(["a", null, "c"])),
        ("options", json!(["a", "  ", "c"])),
        ("options", json!("none")),
        ("options", json!(["a", {}])),
        ("options", json!([])),
        ("options", json!(["a"])),
        ("answer", json!(7)),
        ("answer", Value::Null),
        ("answer", json!("x")),
        ("answer", json!(-1)),
        ("image", Value::Null),
        ("image", json!(3)),
        ("question", json!(" ")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        lines.push(bad.to_string());
    }
    lines.push("{\"question\": \"Which?\", \"image\": \"0.png\", \"answer\": 0}".into());
    lines.push("{\"question\": NaN, \"options\": [\"a\", \"b\"], \"image\": \"0.png\", \"answer\": 0}".into());
    lines.push(good.to_string().replace('}', ", \"score\": NaN}"));
    fs::write(dir.path().join("test.jsonl"), lines.join("\n"))?;
    let by_line = of("ai2d").read(dir.path())?;
    assert_eq!((by_line.len(), by_line.skipped_count()), (2, 18), "{:?}", by_line.skipped);
    assert_eq!(by_line[0].options, ["a", "b"]);
    // As one list the same.
    let items: Vec<&str> = lines.iter().map(|l| l.trim()).filter(|l| !l.is_empty()).collect();
    fs::remove_file(dir.path().join("test.jsonl"))?;
    fs::write(dir.path().join("test.json"), format!("[{}]", items.join(",")))?;
    let by_item = of("ai2d").read(dir.path())?;
    assert_eq!((by_item.len(), by_item.skipped_count()), (2, 18));
    Ok(())
}

#[test]
fn csv_damage_is_named_with_its_line() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("AI2D_TEST.tsv");
    let rows = |lines: &[String]| format!("{}\n{}\n", HEADER.join("\t"), lines.join("\n"));
    let line = |n: u8| row(&n.to_string(), &tiny_image(n), ["a", "b", "c"], "A").join("\t");
    let read = |text: &[u8]| -> Result<QuestionSet, String> {
        fs::write(&file, text).map_err(|e| e.to_string())?;
        of("ai2d").read(dir.path()).map_err(|e| e.to_string())
    };
    // A lone quotation mark takes what follows into its cell, up to the end or up to the next one.
    let lone = line(1).replace("Which?\ta", "\"Which?\ta");
    for text in [
        rows(&[line(0), lone.clone(), line(2)]),
        rows(&[line(0), line(1), lone.clone()]) + "x",
        rows(&[line(0), lone, line(2).replace("\tsome", "\t\"some\""), line(3)]),
    ] {
        let error = read(text.as_bytes()).expect_err("a quotation mark");
        assert!(error.contains("unclosed quotation mark"), "{error}");
        assert!(error.contains("AI2D_TEST.tsv:3:") || error.contains("AI2D_TEST.tsv:4:"), "{error}");
    }
    // Quoted lines, a mark within a cell, and NUL are text.
    let good = rows(&[line(0).replace("Which?\ta", "\"Wh\nich\"\"?\"\ta"), line(1).replace("\tb\t", "\t5\" \0\t")]);
    let questions = read(good.as_bytes())?;
    assert_eq!((questions.len(), questions.skipped_count()), (2, 0));
    assert_eq!((questions[0].question.as_str(), questions[1].options[1].as_str()), ("Wh\nich\"?", "5\" \0"));
    let mut latin: Vec<u8> = rows(&[line(0), line(1), line(2)]).into_bytes();
    let places: Vec<usize> = (0..latin.len()).filter(|at| latin[*at..].starts_with(b"Which?")).collect();
    latin[places[places.len() - 2] + 2] = 0xe4;
    let questions = read(&latin)?;
    assert_eq!((questions.len(), questions.skipped[0].why.as_str()), (2, "the column `question` is not UTF-8"));
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(good.bytes().flat_map(|b| [b, 0])).collect();
    assert!(read(&wide).expect_err("UTF-16").contains("UTF-16"));
    Ok(())
}

// Answers.

/// Three questions, ids `a`, `b`, `7`.
fn questions() -> Vec<Question> {
    let of = |(row, id): (u64, &&str)| Question {
        id: (*id).to_string(),
        row,
        question: format!("What is {id}?"),
        answer: "red".into(),
        unit: (*id).to_string(),
        subtask: "all".into(),
        ..Question::default()
    };
    (0..).zip(&["a", "b", "7"]).map(of).collect()
}

fn score(predictions: Predictions) -> Result<(bench::ScoreReport, Vec<bench::PredictionVerdict>), burgess_base::Error> {
    judge_predictions(of("nano-gqa"), &questions(), predictions, Rules::Official)
}

/// A workbook with one sheet of these rows: cells are the XML of `<c>` elements.
fn workbook(path: &Path, rows: &str, strings: &str, deflate: bool) -> std::io::Result<()> {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let document = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006/relationships";
    let relation = |id: u8, kind: &str, target: &str| {
        format!("<Relationship Id=\"rId{id}\" Type=\"{document}/{kind}\" Target=\"{target}\"/>")
    };
    let parts = [
        (
            "[Content_Types].xml",
            "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>".to_string(),
        ),
        (
            "_rels/.rels",
            format!(
                "<Relationships xmlns=\"{package}\">{}</Relationships>",
                relation(1, "officeDocument", "xl/workbook.xml")
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "<Relationships xmlns=\"{package}\">{}{}</Relationships>",
                relation(1, "worksheet", "worksheets/sheet1.xml"),
                relation(2, "sharedStrings", "sharedStrings.xml")
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "<workbook xmlns=\"{main}\" xmlns:r=\"{document}\"><sheets><sheet name=\"Answers\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
            ),
        ),
        ("xl/worksheets/sheet1.xml", format!("<worksheet xmlns=\"{main}\"><sheetData>{rows}</sheetData></worksheet>")),
        ("xl/sharedStrings.xml", strings.to_string()),
    ];
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in &parts {
        let mut crc = Crc::new();
        crc.update(text.as_bytes());
        let content = match deflate {
            true => {
                let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text.as_bytes())?;
                encoder.finish()?
            }
            false => text.clone().into_bytes(),
        };
        let offset = zip.len() as u32;
        let mut head = vec![20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0x21, 0];
        head.extend(crc.sum().to_le_bytes());
        head.extend((content.len() as u32).to_le_bytes());
        head.extend((text.len() as u32).to_le_bytes());
        head.extend((name.len() as u16).to_le_bytes());
        head.extend([0, 0]);
        zip.extend([b"PK\x03\x04", head.as_slice(), name.as_bytes(), &content].concat());
        directory.extend(
            [b"PK\x01\x02\x14\x00", head.as_slice(), &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let count = (parts.len() as u16).to_le_bytes();
    let (size, start) = ((directory.len() as u32).to_le_bytes(), (zip.len() as u32).to_le_bytes());
    let end = [b"PK\x05\x06\x00\x00\x00\x00", &count[..], &count, &size, &start, &[0, 0]].concat();
    fs::write(path, [zip, directory, end].concat())
}

/// A row of cells that hold their text themselves.
fn cells(row: u32, texts: &[&str]) -> String {
    let cell = |(column, text): (char, &&str)| match *text {
        "" => format!("<c r=\"{column}{row}\"/>"),
        "#TRUE" => format!("<c r=\"{column}{row}\" t=\"b\"><v>1</v></c>"),
        "#N/A" => format!("<c r=\"{column}{row}\" t=\"e\"><v>#N/A</v></c>"),
        text if text.parse::<f64>().is_ok() => format!("<c r=\"{column}{row}\"><v>{text}</v></c>"),
        text => format!("<c r=\"{column}{row}\" t=\"inlineStr\"><is><t>{text}</t></is></c>"),
    };
    let cells: String = ('A'..='Z').zip(texts).map(cell).collect();
    format!("<row r=\"{row}\">{cells}</row>")
}

const NO_STRINGS: &str = "<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"/>";

#[test]
fn null_numbers_truth_values_and_absent_answers_are_read_in_every_format() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    // By id: the answer as JSON, as a cell, and what it says.
    let cases =
        [("a", json!("red"), "red", Some("red")), ("b", Value::Null, "", None), ("7", json!(30), "30", Some("30"))];
    let object = |id: &str, answer: &Value| json!({"index": id, "prediction": answer});
    let list: Vec<Value> = cases.iter().map(|(id, answer, _, _)| object(id, answer)).collect();
    fs::write(path("p.json"), serde_json::to_string_pretty(&list)?)?;
    let lines: Vec<String> = list.iter().map(Value::to_string).collect();
    fs::write(path("p.jsonl"), format!("\u{feff}{}\n\n", lines.join("\r\n")))?;
    fs::write(path("lines.json"), lines.join("\n"))?;
    let map: serde_json::Map<String, Value> =
        cases.iter().map(|(id, a, _, _)| ((*id).to_string(), a.clone())).collect();
    fs::write(path("map.json"), serde_json::to_string_pretty(&map)?)?;
    let table = |by: &str| {
        let row = |(id, _, cell, _): &(&str, Value, &str, Option<&str>)| format!("{id}{by}{cell}\n");
        format!("index{by}prediction\n{}\n\n", cases.iter().map(row).collect::<String>())
    };
    fs::write(path("p.csv"), table(","))?;
    fs::write(path("P.TSV"), table("\t"))?;
    let mut rows = cells(1, &["index", "prediction"]);
    for (n, (id, _, cell, _)) in (2..).zip(&cases) {
        rows += &cells(n, &[id, cell]);
    }
    workbook(&path("p.xlsx"), &rows, NO_STRINGS, true)?;
    for name in ["p.json", "p.jsonl", "lines.json", "map.json", "p.csv", "P.TSV", "p.xlsx"] {
        let (report, verdicts) = score(bench::read_predictions(&path(name)).map_err(|e| format!("{name}: {e}"))?)?;
        assert_eq!((report.outcome.n, report.outcome.n_unparsed, report.missing.count), (3, 1, 0), "{name}");
        for (verdict, (id, _, _, said)) in verdicts.iter().zip(&cases) {
            assert_eq!((verdict.id.as_str(), verdict.parsed.as_deref()), (*id, *said), "{name}");
            assert_eq!((verdict.state, verdict.score), ("answered", f64::from(*said == Some("red"))), "{name}");
        }
        assert_eq!((report.unanswered.len(), report.unanswered[0].count), (1, 1), "{name}");
        assert_eq!(report.unanswered[0].examples, ["b"], "{name}");
    }
    // Truth values, lists of one, floats, and what is no answer.
    let odd = [
        ("a", json!(true), Some("true")),
        ("b", json!([["blue"]]), Some("blue")),
        ("7", json!(0.5), Some("0.5")),
        ("a2", json!(["x", "y"]), None),
        ("b2", json!({"text": "x"}), None),
        ("c2", json!([]), None),
    ];
    let lines: Vec<String> =
        odd.iter().map(|(id, answer, _)| json!({"id": id, "answer": answer}).to_string()).collect();
    fs::write(path("odd.jsonl"), lines.join("\n") + "\n{\"id\": \"d2\"}\n{\"answer\": 1}\nnull\n[1]\n")?;
    let predictions = bench::read_predictions(&path("odd.jsonl"))?;
    for (id, _, said) in &odd {
        assert_eq!(predictions.answers.get(*id).map(|a| a.text.as_str()), Some(said.unwrap_or("")), "{id}");
    }
    let why: Vec<&str> = predictions.unanswered.iter().map(|l| l.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "`answer` is a list of several values, not one answer",
            "`answer` is an object",
            "`answer` is an empty list",
            "`prediction` is missing"
        ]
    );
    let why: Vec<(&str, usize)> = predictions.unusable.iter().map(|l| (l.why.as_str(), l.count)).collect();
    assert_eq!(why, [("field `id` is missing", 1), ("the entry is not an object", 2)]);
    Ok(())
}

#[test]
fn ids_are_numbers_or_text() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.jsonl");
    let read = |text: &str| -> Result<Vec<String>, Box<dyn std::error::Error>> {
        fs::write(&path, text)?;
        let mut names: Vec<String> = bench::read_predictions(&path)?.answers.into_keys().collect();
        names.sort();
        Ok(names)
    };
    let ids = ["7", "7.0", "\" 7 \"", "\"7.0\"", "\"x\"", "1.5", "18446744073709551615"];
    for (id, name) in ids.iter().zip(["7", "7", "7", "7", "x", "1.5", "18446744073709551615"]) {
        assert_eq!(read(&format!("{{\"id\": {id}, \"answer\": \"1\"}}"))?, [name], "{id}");
    }
    // Two ids that a float cannot tell apart are refused, not mixed up.
    let error = read("{\"id\": 100000000000000000001, \"answer\": \"1\"}").expect_err("too large").to_string();
    assert!(error.contains("too large to be exact"), "{error}");
    Ok(())
}

#[test]
fn answers_of_llava_are_read() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("llava.jsonl");
    // By id, and by row where the ids are those of a question file of rows.
    for ids in [[json!("a"), json!("b"), json!("7")], [json!(0), json!(1), json!(2)]] {
        let line = |(id, q): (&Value, &Question)| {
            let prompt = format!("<image>\n{}\nAnswer the question using a single word or phrase.", q.question);
            json!({"question_id": id, "prompt": prompt, "text": "Red", "answer_id": "x", "model_id": "m", "metadata": {}})
        };
        let lines: Vec<String> = ids.iter().zip(&questions()).map(|pair| line(pair).to_string()).collect();
        fs::write(&path, lines.join("\n"))?;
        let (report, _) = score(bench::read_predictions(&path)?)?;
        assert_eq!((report.harness.as_str(), report.outcome.score, report.missing.count), ("LLaVA", 100.0, 0));
        assert_eq!((report.unknown.count, report.mismatched.count), (0, 0));
    }
    // The prompts are of other questions.
    let lines: Vec<String> =
        (0..3).map(|n| json!({"question_id": n, "prompt": "Who?", "text": "Red"}).to_string()).collect();
    fs::write(&path, lines.join("\n"))?;
    let error = score(bench::read_predictions(&path)?).expect_err("others").to_string();
    assert!(error.contains("3 of 3 predictions are for other questions"), "{error}");
    Ok(())
}

#[test]
fn what_does_not_fit_is_counted_and_named() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.csv");
    fs::write(&path, "id,answer\na,red\nzz,red\nb,red\nb,blue\na,red\nshort\n,red\n")?;
    let (report, verdicts) = score(bench::read_predictions(&path)?)?;
    let counts = (report.missing.count, report.unknown.count, report.duplicates.count, report.unusable.len());
    assert_eq!(counts, (2, 1, 2, 2));
    assert_eq!((report.unknown.first, report.missing.first), (vec!["zz".to_string()], vec!["7".into(), "b".into()]));
    let states: Vec<&str> = verdicts.iter().map(|v| v.state).collect();
    assert_eq!(states, ["answered", "duplicate", "missing"]);
    assert_eq!(
        (verdicts[0].target.as_str(), verdicts[0].unit.as_str(), verdicts[1].answer.as_ref()),
        ("red", "a", None)
    );
    fs::write(&path, "name,answer\na,red\n")?;
    let error = bench::read_predictions(&path).expect_err("no id").to_string();
    assert!(error.ends_with("no columns with an id and an answer; the columns are name, answer"), "{error}");
    Ok(())
}

#[test]
fn a_line_feed_in_the_right_answer_is_not_compared_as_a_letter() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("x_samples_ocrbench.jsonl");
    let mut qs = questions();
    for (q, accepted) in qs.iter_mut().zip([["CHAIN\nCAFE", "it's"], ["a\tb", "zz"], ["é\u{a0}x", "y"]]) {
        (q.answer, q.accepted) = (accepted[0].into(), accepted.map(String::from).into());
    }
    let targets = [json!("['CHAIN\\nCAFE', \"it's\"]"), json!(["a\tb", "zz"]), json!("['é\\xa0x', 'y']")];
    let lines: Vec<String> = (0..)
        .zip(&targets)
        .map(|(n, target): (u64, &Value)| {
            json!({"doc_id": n, "target": target, "filtered_resps": ["chain cafe"]}).to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n"))?;
    let (report, _) = judge_predictions(of("nano-docvqa"), &qs, bench::read_predictions(&path)?, Rules::Official)?;
    assert_eq!((report.mismatched.count, report.missing.count, report.outcome.n_unparsed), (0, 0, 0));
    assert!((report.outcome.score - 100.0 / 3.0).abs() < 1e-9);
    Ok(())
}

// Files that do harm.

fn workbook_error(rows: &str, strings: &str) -> Result<String, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.xlsx");
    workbook(&path, rows, strings, true)?;
    let error = bench::read_predictions(&path).map(drop).expect_err("harm").to_string();
    Ok(error.replace(&path.display().to_string(), "P"))
}

#[test]
fn workbooks_are_read_within_limits() -> Checked {
    let good = cells(1, &["index", "prediction"]) + &cells(2, &["a", "red"]);
    let far = "<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>";
    for rows in [format!("{far}{good}"), format!("{good}{far}")] {
        let error = workbook_error(&rows, NO_STRINGS)?;
        assert!(error.contains("the sheet `Answers` spans 1048576 rows × 16384 columns"), "{error}");
    }
    let beyond = format!("{good}<row r=\"4000000000\"><c r=\"A4000000000\"><v>1</v></c></row>");
    workbook_error(&beyond, NO_STRINGS)?;
    let many = NO_STRINGS.replace("/>", " count=\"1\" uniqueCount=\"4294967295\"><si><t>x</t></si></sst>");
    let error = workbook_error(&good, &many)?;
    assert!(error.contains("declares 4294967295 texts"), "{error}");
    workbook_error(&good, &many.replace("uniqueCount=\"4294967295\"", "uniqueCount = '99999999999999999999999'"))?;
    // A column that is far away but narrow, and a row far below, are read.
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.xlsx");
    let wide = "<row r=\"3\"><c r=\"XFD3\"><v>1</v></c></row>";
    let below = "<row r=\"1000000\"><c r=\"A1000000\" t=\"inlineStr\"><is><t>b</t></is></c></row>";
    workbook(&path, &format!("{good}{below}"), NO_STRINGS, false)?;
    assert_eq!(bench::read_predictions(&path)?.answers.len(), 2);
    workbook(&path, &format!("{good}{wide}"), NO_STRINGS, false)?;
    let read = bench::read_predictions(&path)?;
    assert_eq!((read.answers.len(), read.unusable.len()), (1, 1), "{:?}", read.unusable);
    Ok(())
}

#[test]
fn a_workbook_of_zeros_is_not_unpacked() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.xlsx");
    let good = cells(1, &["index", "prediction"]) + &cells(2, &["a", "red"]);
    let bomb = NO_STRINGS.replace("/>", ">") + &" ".repeat(300 << 20) + "</sst>";
    workbook(&path, &good, &bomb, true)?;
    assert!(fs::metadata(&path)?.len() < 4 << 20);
    let error = bench::read_predictions(&path).map(drop).expect_err("a bomb").to_string();
    assert!(
        error.contains("the unpacked archive is larger than 256 MiB (at the part `xl/sharedStrings.xml`)"),
        "{error}"
    );
    Ok(())
}

#[test]
fn damaged_workbooks_never_panic() -> Checked {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.xlsx");
    let good = cells(1, &["index", "prediction"]) + &cells(2, &["a", "red"]);
    workbook(&path, &good, NO_STRINGS, false)?;
    let bytes = fs::read(&path)?;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged)?;
        let _ = bench::read_predictions(&path);
        if at % 16 == 0 {
            fs::write(&path, &bytes[..at])?;
            assert!(bench::read_predictions(&path).is_err(), "cut at {at}");
        }
    }
    fs::write(&path, [&[0xd0, 0xcf, 0x11, 0xe0][..], &[0; 600]].concat())?;
    assert!(bench::read_predictions(&path).map(drop).expect_err("old").to_string().contains("an old workbook"));
    Ok(())
}

#[cfg(unix)]
#[test]
fn paths_that_are_not_files_are_errors_without_waiting() -> Checked {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir()?;
    let fifo = |name: &str| -> Result<PathBuf, Box<dyn std::error::Error>> {
        let path = dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
        Ok(path)
    };
    for name in ["p.jsonl", "p.json", "p.csv", "p.tsv", "p.xlsx"] {
        let error = bench::read_predictions(&fifo(name)?).map(drop).expect_err(name).to_string();
        assert!(error.contains("it is a FIFO, not a file"), "{error}");
    }
    for name in ["test-00000-of-00001.parquet", "test.jsonl"] {
        let path = fifo(name)?;
        for place in [dir.path(), path.as_path()] {
            let error = of("ai2d").read(place).expect_err(name).to_string();
            assert!(error.contains("it is a FIFO, not a file"), "{error}");
        }
        fs::remove_file(&path)?;
    }
    for (id, name) in [("ai2d", "AI2D_TEST.tsv"), ("mmvp", "Questions.csv"), ("mmstar", "mmstar.parquet")] {
        let path = fifo(name)?;
        let error = of(id).read(dir.path()).expect_err(name).to_string();
        assert!(error.contains("it is a FIFO, not a file"), "{error}");
        fs::remove_file(&path)?;
    }
    symlink("nowhere.parquet", dir.path().join("test.parquet"))?;
    let error = of("ai2d").read(dir.path()).expect_err("a link").to_string();
    assert!(error.contains("it is a link to nowhere.parquet, which does not exist"), "{error}");
    let pipe = fifo("0.png")?;
    let error = bench::ImageLocation::File(pipe).bytes().expect_err("an image").to_string();
    assert!(error.contains("it is a FIFO, not a file"), "{error}");
    Ok(())
}
