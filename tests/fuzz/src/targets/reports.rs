//! Fuzz targets for results of studies, as `burgess report` reads them.

use crate::FuzzTarget;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::{Error, Result, json};
use burgess_reports::load::StudyData;
use burgess_reports::page::StudyInfo;
use burgess_reports::ranking::{RankOptions, rank};
use burgess_reports::{page, table};

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "results",
        about: "results.json of a run",
        corpus: &[],
        words: &[
            "\"score\"",
            "\"stderr\"",
            "\"units\"",
            "\"schema\"",
            "\"n_unparsed\"",
            "\"blind\"",
            "\"chance\"",
            "\"results\"",
        ],
        form: MutationForm::Json,
        share: 3,
        run: |input, place| {
            place.file("study/arm/seed-0/results.json", input.bytes)?;
            reported(place)
        },
    },
    FuzzTarget {
        name: "samples",
        about: "samples/BENCHMARK.jsonl of a run",
        corpus: &[],
        words: &[
            "\"parsed\"",
            "\"images\"",
            "\"score\"",
            "\"prompt\"",
            "../../../etc/passwd",
            "<script>",
            "]]>",
            "\"unit\"",
        ],
        form: MutationForm::Json,
        share: 3,
        run: |input, place| {
            let results = crate::corpus::load("results", &[])?;
            let first = results.first().map(|seed| seed.bytes.clone()).unwrap_or_default();
            place.file("study/arm/seed-0/results.json", &first)?;
            place.file("study/arm/seed-0/samples/nano-gqa.jsonl", input.bytes)?;
            reported(place)
        },
    },
    FuzzTarget {
        name: "json",
        about: "JSON as other programs write it, against the strict reader",
        corpus: &["tests/golden/predictions/*.json", "tests/golden/llm/*/config.json"],
        words: &[
            "NaN",
            "-Infinity",
            "Infinity",
            "\\ud800",
            "\\udc00",
            "\\ud83d\\ude42",
            "\u{feff}",
            "\\\\",
            "\\u0000",
            "nan",
        ],
        form: MutationForm::Json,
        share: 400,
        run: |input, _| {
            let lenient = json::from_slice::<serde_json::Value>(input.bytes);
            if let Ok(strict) = serde_json::from_slice::<serde_json::Value>(input.bytes) {
                assert_eq!(lenient.as_ref().ok(), Some(&strict), "JSON input is read as JSON");
            }
            Ok(lenient.map(drop)?)
        },
    },
];

/// Does what `burgess report` does, without writing files.
fn reported(place: &InputDir) -> Result<()> {
    let mut study = StudyData::load(&place.dir().join("study"))?;
    study.count_constant_answers()?;
    for missing in &study.missing {
        place.tell(missing.cause.clone());
    }
    for problem in &study.problems {
        place.tell(problem.to_string());
    }
    if let (true, Some(missing)) = (study.runs.is_empty(), study.missing.first()) {
        return Err(Error::failed(missing.cause.clone()));
    }
    let options = RankOptions { replicates: 20, ..RankOptions::default() };
    let ranking = rank(&study.results(), &study.missing, &options)?;
    drop(table::ranking_table(&ranking, 80, false));
    drop(page::page(&study, &ranking, &StudyInfo::default())?);
    Ok(())
}
