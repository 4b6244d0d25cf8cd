//! NaturalBench, HallusionBench, VisOnlyQA, CountBenchQA, PixMo-Count, VLMs are blind, HR-Bench and MME-RealWorld
//! against the code of their authors (goldens of `tests/reference/scorers_pairs_2026.py`). `lmms_eval.rs` has the rules
//! of lmms-eval.

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, QuestionSet, Rules};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// The benchmarks; those in one line have the same rules, and the goldens of the first.
const FAMILIES: [&[&str]; 8] = [
    &["naturalbench"],
    &["hallusion-bench"],
    &["visonlyqa-real", "visonlyqa-synthetic"],
    &["countbenchqa"],
    &["pixmo-count"],
    &["vlms-are-blind"],
    &["hr-bench-4k", "hr-bench-8k"],
    &["mme-realworld", "mme-realworld-lite"],
];

fn ids() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().flatten().copied()
}

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn json(path: &str) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(golden(path))?)?)
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn read(id: &str) -> QuestionSet {
    let read = of(id).read(&golden("benchmarks").join(id));
    read.unwrap_or_else(|e| panic!("{id}: {e}\nhint: {:?}", e.hint_text()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn question(value: &Value) -> Question {
    let facts = value["facts"].as_object().into_iter().flatten();
    Question {
        answer: text(&value["answer"]),
        options: value["options"].as_array().into_iter().flatten().map(text).collect(),
        subtask: text(&value["subtask"]),
        facts: facts.map(|(name, value)| (name.clone(), text(value))).collect(),
        ..Question::default()
    }
}

#[test]
fn verdicts_are_those_of_the_reference_code() -> Checked {
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for family in FAMILIES {
        let cases = json(&format!("scorers/pairs_2026/{}.json", family[0]))?;
        let cases = cases.as_array().expect("cases");
        let answers: BTreeSet<&str> = cases.iter().filter_map(|case| case["answer"].as_str()).collect();
        assert!(answers.len() >= 80, "{family:?}: {} answers", answers.len());
        for id in family {
            let before = wrong.len();
            for case in cases {
                let q = question(&case["question"]);
                let AnswerScore { parsed, score } = of(id).judge(&q, &text(&case["answer"]), Rules::Official);
                let same = match case["own"].as_f64() {
                    Some(expected) => parsed.is_some() && score == expected,
                    None => parsed.is_none() && score == 0.0,
                };
                if !same {
                    wrong.push(format!("{id}: {score} for {parsed:?}: {case}"));
                }
            }
            let (equal, all) = (cases.len() + before - wrong.len(), cases.len());
            table += &format!("{id:<20} own rules {equal:>4}/{all}");
            // Agreement of the same verdicts with further code; 1 is right, anything else is not.
            let mut further: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
            for case in cases {
                for (name, verdict) in case["references"].as_object().into_iter().flatten() {
                    let entry = further.entry(name).or_default();
                    entry.0 += usize::from(verdict.as_f64().unwrap_or(0.0) == case["own"].as_f64().unwrap_or(0.0));
                    entry.1 += 1;
                }
            }
            for (name, (equal, all)) in further {
                table += &format!("   {name} {equal}/{all}");
            }
            table += "\n";
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn prompts_are_those_of_the_reference_code() -> Checked {
    let tables = json("scorers/pairs_2026/tables.json")?;
    let mut compared = 0;
    for id in ids() {
        let qs = read(id);
        let Some(prompts) = tables[id]["prompts"].as_object() else { continue };
        assert_eq!(prompts.len(), qs.len(), "{id}");
        for q in &qs {
            assert_eq!(
                Some(&*of(id).prompt(q, Rules::Official)),
                prompts[&q.row.to_string()].as_str(),
                "{id} {}",
                q.row
            );
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared}");
    Ok(())
}

#[test]
fn numbers_are_those_of_the_reference_code() -> Checked {
    let tables = json("scorers/pairs_2026/tables.json")?;
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for id in ids() {
        let qs = read(id);
        for run in tables[id]["runs"].as_array().expect("runs") {
            runs += 1;
            let said = |q: &Question| text(&run["answers"][q.row.to_string()]);
            let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, &said(q), Rules::Official)).collect();
            let outcome = of(id).aggregate(&qs, &judged, Rules::Official)?;
            for (name, number) in run["numbers"].as_object().expect("numbers") {
                let ours = match name.as_str() {
                    "score" => outcome.score,
                    name => outcome.subtasks.get(name).copied().unwrap_or(f64::NAN),
                };
                let theirs = 100.0 * number.as_f64().unwrap_or(f64::NAN);
                if (ours - theirs).abs() > 1e-9 || ours.is_nan() {
                    wrong.push(format!("{id}: {name} is {ours}, not {theirs}: {run}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(runs, 88);
    Ok(())
}

#[test]
fn chance_is_that_of_a_uniform_guess() {
    // Of the 30 questions of the fixture of VisOnlyQA, 15 have two options, 12 five, and 3 any of 15 sets of four.
    let real = (15.0 * 50.0 + 12.0 * 20.0 + 3.0 * 100.0 / 15.0) / 30.0;
    let synthetic = (6.0 * 50.0 + 12.0 * 20.0 + 3.0 * 100.0 / 3.0) / 21.0;
    for (id, expected) in [
        ("naturalbench", 100.0 / 16.0),
        ("hallusion-bench", 50.0),
        ("visonlyqa-real", real),
        ("visonlyqa-synthetic", synthetic),
        ("countbenchqa", 0.0),
        ("pixmo-count", 0.0),
        ("vlms-are-blind", 50.0 / 8.0),
        ("hr-bench-4k", 25.0),
        ("hr-bench-8k", 25.0),
        ("mme-realworld", 20.0),
        ("mme-realworld-lite", 20.0),
    ] {
        let chance = of(id).chance(&read(id), Rules::Official);
        assert!((chance - expected).abs() < 1e-9, "{id}: {chance}, expected {expected}");
    }
}

#[test]
fn a_model_that_does_not_look_scores_nothing_on_pairs() {
    // The best constant answer to NaturalBench is right about one of the two images of every question.
    let baseline = of("naturalbench").constant_baseline(&read("naturalbench"), Rules::Official);
    assert_eq!(baseline, 0.0);
}

#[test]
fn both_editions_of_hr_bench_have_the_same_questions() -> Checked {
    for id in ["hr-bench-4k", "hr-bench-8k"] {
        let tsv = of(id).read(&golden("benchmarks").join(id).join("vlmevalkit"))?;
        let (mut one, mut other) = (read(id).questions, tsv.questions);
        for (a, b) in one.iter_mut().zip(&mut other) {
            assert!(a.images != b.images, "{id}: the editions are different files");
            assert_eq!(a.images[0].bytes()?, b.images[0].bytes()?, "{id}");
            (a.images, b.images) = (Vec::new(), Vec::new());
        }
        assert_eq!(one, other, "{id}");
    }
    Ok(())
}

#[test]
fn questions_are_read_as_published() {
    let of_row = |id: &str, row: usize| read(id).questions[row].clone();
    let q = of_row("naturalbench", 6);
    assert_eq!((q.unit.as_str(), q.fact("question"), q.fact("image"), q.answer.as_str()), ("1", "1", "0", "B"));
    // HallusionBench: questions without an image are asked without one.
    let hallusion = read("hallusion-bench");
    let blind: Vec<&Question> = hallusion.iter().filter(|q| q.images.is_empty()).collect();
    assert_eq!((hallusion.len(), blind.len()), (16, 3));
    assert!(blind.iter().all(|q| q.fact("category") == "VS" && q.fact("figure") == "0"));
    assert!(hallusion.iter().all(|q| q.images.is_empty() || q.images.len() == 1));
    let units: BTreeSet<&str> = hallusion.iter().map(|q| q.unit.as_str()).collect();
    assert_eq!(units.len(), 4);
    // The orders of the choices of one question are one unit, also if another question has the same text.
    let units: Vec<String> = read("hr-bench-4k").iter().map(|q| q.unit.clone()).collect();
    assert_eq!((units.len(), units.iter().collect::<BTreeSet<_>>().len()), (20, 5));
    assert!(units.chunks(4).all(|four| four.iter().all(|unit| *unit == four[0])));
    // The answer may be a sentence.
    assert_eq!(of_row("pixmo-count", 2).answer, "2");
    assert_eq!(of_row("pixmo-count", 1).question, "How many oars are in the image?");
    assert_eq!(of_row("mme-realworld", 11).fact("task"), "Reasoning");
    assert_eq!(of_row("visonlyqa-real", 23).answer, "a,b,c,d");
    let subtasks = |id: &str| read(id).iter().map(|q| q.subtask.clone()).collect::<BTreeSet<_>>().len();
    assert_eq!((subtasks("visonlyqa-real"), subtasks("visonlyqa-synthetic")), (10, 7));
}
