//! The benchmarks of grounding, OCR, charts, VQA and space of 2024 to 2026 against their references: prompts, verdicts and
//! numbers of the authors' code and of lmms-eval 0.7.3 (goldens of `tests/reference/scorers_open_2026.py`).

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, QuestionSet, Rules};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// Every benchmark, and the number of questions in its fixture.
const BENCHMARKS: [(&str, usize); 14] = [
    ("refcoco-testa", 9),
    ("refcoco-testb", 9),
    ("refcoco-plus-testa", 9),
    ("refcoco-plus-testb", 9),
    ("refcocog", 9),
    ("screenspot-v2", 5),
    ("vqav2", 6),
    ("ok-vqa", 6),
    ("vsi-bench", 12),
    ("vsi-bench-debiased", 11),
    ("charxiv-reasoning", 5),
    ("charxiv-descriptive", 20),
    ("ocrbench-v2-en", 21),
    ("ocrbench-v2-cn", 7),
];

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn goldens(id: &str) -> Value {
    let path = golden(&format!("scorers/open_2026/{id}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn questions(id: &str) -> QuestionSet {
    of(id).read(&golden("benchmarks").join(id)).unwrap_or_else(|e| panic!("{e}\nhint: {:?}", e.hint_text()))
}

fn rules(name: &str) -> Rules {
    name.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn by_row<'a>(qs: &'a QuestionSet, row: &str) -> &'a Question {
    qs.iter().find(|q| q.row.to_string() == row).unwrap_or_else(|| panic!("no question of row {row}"))
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[test]
fn rows_become_questions_and_rows_without_a_rule_are_counted() {
    for (id, n) in BENCHMARKS {
        let qs = questions(id);
        assert_eq!((qs.len(), qs.skipped_count()), (n, 0), "{id}: {:?}", qs.skipped);
        assert!(qs.iter().all(|q| !q.images.is_empty() && !q.answer.is_empty()), "{id}");
    }
    for (id, n) in [("ocrbench-v2-en", 21), ("ocrbench-v2-cn", 7)] {
        let all = of(id).read(&golden("benchmarks/ocrbench-v2")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((all.len(), all.skipped_count()), (n, 4), "{id}: {:?}", all.skipped);
        assert!(all.skipped.iter().all(|s| s.why.contains("has no rule here")), "{:?}", all.skipped);
    }
    let frames = questions("vsi-bench");
    assert!(frames.iter().all(|q| q.images.len() == 3), "three frames of each video are asked about");
}

#[test]
fn prompts_are_those_of_the_references() {
    let mut wrong = Vec::new();
    for (id, n) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        for (name, prompts) in entries(&golden["prompts"]) {
            assert_eq!(prompts.as_object().map(serde_json::Map::len), Some(n), "{id} {name}");
            for (row, theirs) in entries(prompts) {
                let ours = of(id).prompt(by_row(&qs, row), rules(name));
                if theirs.as_str() != Some(&ours) {
                    wrong.push(format!("{id} {name} {row}: {ours:?}\n  not {theirs}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn verdicts_are_those_of_the_references() {
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for (id, ..) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        let mut agree = std::collections::BTreeMap::<String, (usize, usize)>::new();
        for case in golden["cases"].as_array().into_iter().flatten() {
            let (row, answer) = (case[0].to_string(), case[1].as_str().unwrap_or_default());
            for (name, theirs) in entries(&case[2]) {
                let AnswerScore { parsed, score } = of(id).judge(by_row(&qs, &row), answer, rules(name));
                let same = match theirs.as_f64() {
                    Some(theirs) => (score - theirs).abs() <= 1e-9,
                    // The reference fails on the answer.
                    None => score == 0.0,
                };
                let count = agree.entry(name.clone()).or_default();
                *count = (count.0 + usize::from(same), count.1 + 1);
                if !same {
                    wrong.push(format!("{id} {name} {row}: {score} for {parsed:?}, not {theirs}: {answer:?}"));
                }
            }
        }
        for (name, (same, all)) in agree {
            assert!(all >= 80, "{id} {name}: {all}");
            table += &format!("{id:<20} {name:<10} {same:>5} of {all:>5}\n");
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn numbers_are_those_that_the_references_print() -> Checked {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (id, ..) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        for run in golden["runs"].as_array().into_iter().flatten() {
            for (name, numbers) in entries(&run["numbers"]) {
                let said = |q: &Question| run["answers"][q.row.to_string()].as_str().unwrap_or_default().to_string();
                let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, &said(q), rules(name))).collect();
                let outcome = of(id).aggregate(&qs, &judged, rules(name))?;
                for (key, theirs) in entries(numbers) {
                    let ours = match (key.as_str(), name.as_str()) {
                        ("", _) => Some(outcome.score),
                        (key, "lmms-eval") => outcome.subtasks.get(&format!("lmms-eval {key}")).copied(),
                        (key, _) => outcome.subtasks.get(key).copied(),
                    };
                    let (ours, theirs) = (ours.unwrap_or(f64::NAN), theirs.as_f64().unwrap_or(f64::NAN));
                    // lmms-eval rounds the numbers of VSI-Bench.
                    let most = if id.starts_with("vsi-bench") && name == "lmms-eval" { 1e-6 } else { 1e-7 };
                    compared += 1;
                    if (ours - theirs).abs() > most || ours.is_nan() {
                        wrong.push(format!("{id} {name}: {key:?} is {ours}, not {theirs}: {}", run["answers"]));
                    }
                }
            }
        }
    }
    println!("{compared} numbers are equal");
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 500, "{compared}");
    Ok(())
}

#[test]
fn chance_is_that_of_guessing_letters() {
    for (id, ..) in BENCHMARKS {
        let qs = questions(id);
        let chance = of(id).chance(&qs, Rules::Official);
        match id {
            // Five of eight tasks have letters: a half, a third and a quarter are one task's mean.
            "vsi-bench" => {
                let directions = (1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0) / 3.0;
                let expected = 100.0 * (directions + 1.0 / 4.0 + 1.0 / 3.0 + 1.0 / 4.0) / 8.0;
                assert!((chance - expected).abs() < 1e-9, "{chance} {expected}");
            }
            "vsi-bench-debiased" => assert!(chance > 0.0 && chance < 50.0, "{chance}"),
            _ => assert_eq!(chance, 0.0, "{id}"),
        }
    }
}
