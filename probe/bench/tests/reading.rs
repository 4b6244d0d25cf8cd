//! The benchmarks of reading and of small details: verdicts on adversarial answers against those of the published
//! scorers (goldens of `tests/reference/scorers_reading.py`), and reading of their tables (fixtures of
//! `benchmarks_reading.py`).

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, Rules};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Label = fn(&Question) -> &str;
type Checked = Result<(), Box<dyn std::error::Error>>;
/// Id of a benchmark and its recorded cases.
type Cases = Vec<(&'static str, Vec<Value>)>;

/// The benchmarks whose goldens give whole questions, with their cases. `textvqa-ocr`, `infovqa`, `docvqa-test` and
/// `st-vqa` have no goldens, because they are judged by the code of others.
fn cases() -> Result<Cases, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for id in bench::all().iter().map(|b| b.id()) {
        let path = golden("scorers").join(format!("{id}.json"));
        if path.is_file() {
            let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(path)?)?;
            if cases.iter().all(|case| case["gold"].is_object()) {
                all.push((id, cases));
            }
        }
    }
    assert!(all.len() >= 11, "{}", all.len());
    Ok(all)
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

/// The question of a golden.
fn question(gold: &Value) -> Question {
    let facts = gold["facts"].as_object().into_iter().flatten();
    Question {
        answer: gold["answer"].as_str().unwrap_or_default().into(),
        accepted: texts(&gold["accepted"]),
        options: texts(&gold["options"]),
        subtask: gold["subtask"].as_str().unwrap_or_default().into(),
        facts: facts.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect(),
        ..Question::default()
    }
}

#[test]
fn verdicts_are_those_of_the_published_scorers() -> Checked {
    let mut wrong = Vec::new();
    for (id, cases) in cases()? {
        assert!(cases.len() >= 60, "{id}: {}", cases.len());
        for case in &cases {
            let answer = case["answer"].as_str().unwrap_or_default();
            for rules in [Rules::Official, Rules::Cambrian1] {
                let AnswerScore { parsed, score } = of(id).judge(&question(&case["gold"]), answer, rules);
                let expected = case[rules.as_str()].as_f64().unwrap_or(f64::NAN);
                if (score - expected).abs() > 1e-12 || (parsed.is_none() && score != 0.0) {
                    wrong.push(format!("{id} {}: {score} for {parsed:?}: {case}", rules.as_str()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn every_difference_to_a_published_scorer_has_a_reason() -> Checked {
    for (id, cases) in cases()? {
        for case in cases {
            let official = case["official"].as_f64().unwrap_or(f64::NAN);
            let same = |v: &Value| v.as_f64().is_some_and(|v| (v - official).abs() <= 1e-12);
            let differs = case["references"].as_object().is_some_and(|all| !all.values().all(same));
            assert_eq!(differs, !texts(&case["why"]).is_empty(), "{id}: {case}");
        }
    }
    Ok(())
}

/// `vizwiz` and the hub's edition of others number or name their rows otherwise than VLMEvalKit.
const VLMEVALKIT_TABLES: [(&str, &str); 9] = [
    ("chartqa", "ChartQA_TEST"),
    ("ocrbench", "OCRBench"),
    ("textvqa", "TextVQA_VAL"),
    ("vizwiz", "VizWiz"),
    ("docvqa", "DocVQA_VAL"),
    ("infovqa", "InfoVQA_VAL"),
    ("cv-bench-2d", "CV-Bench-2D"),
    ("v-star", "VStarBench"),
    ("mmvp", "MMVP"),
];

#[test]
fn vlmevalkits_edition_asks_the_same() -> Checked {
    for (id, name) in VLMEVALKIT_TABLES {
        let b = of(id);
        let own = b.read(&golden("benchmarks").join(id))?;
        let theirs = b.read(&golden("benchmarks").join(id).join("vlmevalkit").join(format!("{name}.tsv")))?;
        assert!(theirs.len() >= 2, "{id}");
        for (own, theirs) in own.iter().zip(&theirs) {
            let told = |q: &Question| (q.row, q.question.clone(), q.options.clone(), q.accepted.clone());
            assert_eq!(told(own), told(theirs), "{id}");
            assert_eq!(
                own.answer.trim_matches(['(', ')']).to_lowercase(),
                theirs.answer.trim_matches(['(', ')']).to_lowercase(),
                "{id}"
            );
            assert_eq!(b.prompt(own, Rules::Official), b.prompt(theirs, Rules::Official), "{id}");
        }
        let bytes = bench::read_images(&theirs.iter().flat_map(|q| &q.images).collect::<Vec<_>>());
        assert!(bytes.iter().all(|b| b.as_ref().is_ok_and(|b| b.starts_with(b"\x89PNG"))), "{id}");
    }
    // Questions that share an image there are one unit.
    let charts = of("chartqa").read(&golden("benchmarks/chartqa/vlmevalkit/ChartQA_TEST.tsv"))?;
    assert_eq!(charts[0].unit, charts[1].unit);
    assert_ne!(charts[0].unit, charts[2].unit);
    let real = of("realworldqa").read(&golden("benchmarks/realworldqa/vlmevalkit/RealWorldQA.tsv"))?;
    assert_eq!(
        of("realworldqa").prompt(&real[0], Rules::Official),
        "In which direction is the front wheel turned?\nA. Left\nB. Straight\nC. Right\n\
         Please answer directly with only the letter of the correct option and nothing else."
    );
    let error =
        of("textvqa-ocr").read(&golden("benchmarks/textvqa/vlmevalkit/TextVQA_VAL.tsv")).expect_err("no tokens");
    assert!(error.to_string().contains("OCR tokens"), "{error}");
    Ok(())
}

#[test]
fn v_star_is_read_from_lines_and_from_the_table() -> Checked {
    let (lines, table) = (golden("benchmarks/v-star"), golden("benchmarks/v-star/table"));
    let (lines, table) = (of("v-star").read(&lines)?, of("v-star").read(&table)?);
    for (a, b) in lines.iter().zip(&table) {
        assert_eq!((&a.id, &a.question, &a.options, &a.answer), (&b.id, &b.question, &b.options, &b.answer));
    }
    assert_eq!(lines.len(), table.len());
    // Two questions are about one image.
    assert_eq!(lines[0].unit, lines[2].unit);
    Ok(())
}

#[test]
fn wrong_labels_of_mmvp_are_put_right_for_official_scores_only() -> Checked {
    let b = of("mmvp");
    let qs = b.read(&golden("benchmarks/mmvp"))?;
    let by_label = |rules, label: Label| -> Result<f64, Box<dyn std::error::Error>> {
        let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, label(q), rules)).collect();
        Ok(b.aggregate(&qs, &judged, rules)?.score)
    };
    let (right, published): (Label, Label) = (|q| &q.answer, |q| q.fact("published"));
    assert_eq!(by_label(Rules::Official, right)?, 100.0);
    assert_eq!(by_label(Rules::Cambrian1, published)?, 100.0);
    // Two of the three pairs of the fixture are the wrong ones.
    for (rules, label) in [(Rules::Official, published), (Rules::Cambrian1, right)] {
        assert!((by_label(rules, label)? - 100.0 / 3.0).abs() < 1e-9);
    }
    let answers: BTreeMap<&str, &str> = qs.iter().map(|q| (q.id.as_str(), q.answer.as_str())).collect();
    assert_eq!((answers["99"], answers["100"], answers["279"], answers["280"]), ("(b)", "(a)", "(b)", "(a)"));
    assert!((b.chance(&qs, Rules::Official) - 25.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn secret_answers_are_handed_in_and_not_scored() -> Checked {
    for (id, key, first) in [("docvqa-test", "questionId", 57344), ("st-vqa", "question_id", 0)] {
        let b = of(id);
        let qs = b.read(&golden("benchmarks").join(id))?;
        let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, "x", Rules::Official)).collect();
        let error = b.aggregate(&qs, &judged, Rules::Official).expect_err("the answers are secret");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("rrc.cvc.uab.es")), "{error}");
        assert!(b.chance(&qs, Rules::Official).is_nan() && b.constant_baseline(&qs, Rules::Official).is_nan());
        let answers: Vec<String> = qs.iter().map(|q| format!(" to {}\n", q.id)).collect();
        let file = b.submission(&qs, &answers)?.expect("a file for the server");
        let lines: Vec<Value> = serde_json::from_str(&file)?;
        assert_eq!(lines.len(), qs.len());
        assert_eq!((lines[0][key].as_u64(), lines[0]["answer"].as_str()), (Some(first), Some(&*format!("to {first}"))));
        assert!(b.submission(&qs, &answers[1..]).is_err());
    }
    assert_eq!(of("docvqa").submission(&[], &[])?, None);
    Ok(())
}

#[test]
fn sources_of_cv_bench_count_the_same() -> Checked {
    let b = of("cv-bench-2d");
    let qs = b.read(&golden("benchmarks/cv-bench-2d"))?;
    // One question of ADE20K, three of COCO; the first of COCO is right.
    let said = |q: &Question| if q.fact("source") == "ADE20K" || q.id == "1" { q.answer.clone() } else { "E".into() };
    for rules in [Rules::Official, Rules::Cambrian1] {
        let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, &said(q), rules)).collect();
        let outcome = b.aggregate(&qs, &judged, rules)?;
        assert!((outcome.score - (100.0 + 100.0 / 3.0) / 2.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!(outcome.subtasks["COCO Relation"], 0.0);
    }
    // ADE20K: a quarter; COCO: a fifth and two halves.
    let chance = 100.0 * (0.25 + (0.2 + 0.5 + 0.5) / 3.0) / 2.0;
    assert!((b.chance(&qs, Rules::Official) - chance).abs() < 1e-9);
    let error = of("cv-bench-2d").read(&golden("benchmarks/cv-bench-3d/test_3d.parquet")).expect_err("the other half");
    assert!(error.to_string().contains("`3D`"), "{error}");
    Ok(())
}

#[test]
fn missing_columns_answers_and_images_are_named() -> Checked {
    let error =
        of("textvqa").read(&golden("benchmarks/chartqa/data/test-00000-of-00001.parquet")).expect_err("columns");
    assert!(error.to_string().contains("`image_id` is missing"), "{error}");
    let error =
        of("docvqa").read(&golden("benchmarks/docvqa-test/DocVQA/test-00000-of-00001.parquet")).expect_err("null");
    assert!(error.to_string().contains("`answers`"), "{error}");
    let dir = tempfile::tempdir()?;
    fs::copy(golden("benchmarks/mmvp/Questions.csv"), dir.path().join("Questions.csv"))?;
    let error = of("mmvp").read(dir.path()).expect_err("images");
    assert!(error.to_string().contains("6 of 6 image files are missing"), "{error}");
    let header = "Index,Question,Options,Correct Answer\n";
    for (rows, what) in [
        ("1,Open?,(a) Open (b) Closed,(a)\n", "instead of 2"),
        ("1,Open?,(a) Open,(a)\n2,Open?,(a) Open,(a)\n", "1 choices"),
        ("1,Open?,(a) Open (b) Closed,(c)\n", "neither (a) nor (b)"),
        ("99,Tusks?,(a) One (b) Two,(a)\n", "no choice `short`"),
    ] {
        fs::write(dir.path().join("Questions.csv"), format!("{header}{rows}"))?;
        let error = of("mmvp").read(dir.path()).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
    Ok(())
}
