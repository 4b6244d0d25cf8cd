//! The rules `lmms-eval` against the verdicts, prompts and printed numbers of lmms-eval 0.7.3 (goldens of
//! `tests/reference/scorers_lmms_eval.py`, which calls that library).

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, Rules};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn json(path: &str) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(golden(path))?)?)
}

/// The files of goldens whose names begin with `name`: that of `scorers_lmms_eval.py`, and those of scripts that make
/// the same goldens for further benchmarks.
fn files(name: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(golden("scorers"))? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        if file.strip_prefix(name).is_some_and(|rest| rest == ".json" || rest.starts_with('-')) {
            found.push(file);
        }
    }
    found.sort();
    found.iter().map(|file| json(&format!("scorers/{file}"))).collect()
}

/// Prompts and printed numbers of the library, by benchmark.
fn tables() -> Result<BTreeMap<String, Value>, Box<dyn std::error::Error>> {
    let of = |table: Value| table.as_object().cloned().expect("tables by benchmark");
    Ok(files("lmms_eval_tables")?.into_iter().flat_map(of).collect())
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

fn facts(value: &Value) -> BTreeMap<String, String> {
    let facts = value.as_object().into_iter().flatten();
    facts.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string())).collect()
}

/// The question of a case, once for each answer that may be right.
fn questions(case: &Value) -> Vec<Question> {
    let gold = &case["gold"];
    if gold.is_object() {
        return vec![Question {
            answer: gold["answer"].as_str().unwrap_or_default().into(),
            accepted: texts(&gold["accepted"]),
            options: texts(&gold["options"]),
            subtask: gold["subtask"].as_str().unwrap_or_default().into(),
            facts: facts(&gold["facts"]),
            ..Question::default()
        }];
    }
    let accepted = texts(&case["accepted"]);
    let mut q = Question { options: texts(&case["options"]), facts: facts(&case["facts"]), ..Question::default() };
    if let Some(gold) = gold.as_str() {
        q.answer = accepted.first().cloned().unwrap_or_else(|| gold.to_string());
        q.accepted = accepted;
        if gold.starts_with('[') && !q.accepted.is_empty() {
            q.facts.insert("written-answer".into(), gold.into());
        }
        return vec![q];
    }
    let possible: Vec<String> = match q.options.len() {
        0 => ["yes", "no"].map(String::from).into(),
        n => ('A'..='Z').take(n).map(String::from).collect(),
    };
    possible.into_iter().map(|answer| Question { answer, ..q.clone() }).collect()
}

/// What is wrong with our verdicts on a case: the library's score for each right answer; none where it draws or asks.
fn problem(id: &str, case: &Value, scores: &Value) -> Option<String> {
    let answer = case["answer"].as_str().unwrap_or_default();
    let (questions, scores) = (questions(case), scores.as_array().cloned().unwrap_or_default());
    assert_eq!(questions.len(), scores.len(), "{id}: {case}");
    questions.iter().zip(&scores).find_map(|(q, score)| {
        let AnswerScore { parsed, score: ours } = of(id).judge(q, answer, Rules::LmmsEval);
        let same = match score.as_f64() {
            Some(score) => (ours - score).abs() <= 1e-12,
            None => ours == 0.0 && parsed.is_none(),
        };
        (!same).then(|| format!("{id}: {ours} for {parsed:?}, not {score}, with {} right: {case}", q.answer))
    })
}

#[test]
fn verdicts_are_those_of_the_library_in_every_case() -> Checked {
    let (verdicts, more) = (json("scorers/lmms_eval.json")?, files("lmms_eval_more")?);
    let more: Vec<&Value> = more.iter().filter_map(Value::as_array).flatten().collect();
    let ids = more.iter().filter_map(|case| case["benchmark"].as_str());
    let ids: BTreeSet<&str> = verdicts.as_object().expect("benchmarks").keys().map(String::as_str).chain(ids).collect();
    let mut wrong = Vec::new();
    let mut table = String::new();
    for id in ids {
        let cases = if verdicts[id].is_array() { json(&format!("scorers/{id}.json"))? } else { Value::Array(vec![]) };
        let cases = cases.as_array().expect("cases");
        let scores = verdicts[id].as_array().map_or(&[] as &[Value], Vec::as_slice);
        assert_eq!(cases.len(), scores.len(), "{id}");
        let here = more.iter().copied().filter(|c| c["benchmark"] == id).map(|c| (c, &c["scores"]));
        let all: Vec<(&Value, &Value)> = cases.iter().zip(scores).chain(here).collect();
        let found: Vec<String> = all.iter().filter_map(|(case, scores)| problem(id, case, scores)).collect();
        table += &format!("{id:<20} {:>4}/{}\n", all.len() - found.len(), all.len());
        assert!(all.len() >= 80, "{id}: {}", all.len());
        wrong.extend(found);
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn prompts_are_those_of_the_library() -> Checked {
    let mut wrong = Vec::new();
    for (id, table) in &tables()? {
        let qs = of(id).read(&golden("benchmarks").join(id))?;
        assert_eq!(table["prompts"].as_object().map(serde_json::Map::len), Some(qs.len()), "{id}");
        for q in &qs {
            let (ours, theirs) = (of(id).prompt(q, Rules::LmmsEval), &table["prompts"][q.row.to_string()]);
            if theirs.as_str() != Some(&ours) {
                wrong.push(format!("{id} {}: {ours:?}\n  not {theirs}", q.row));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn numbers_are_those_that_the_library_prints() -> Checked {
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for (id, table) in &tables()? {
        let qs = of(id).read(&golden("benchmarks").join(id))?;
        for run in table["runs"].as_array().expect("runs") {
            runs += 1;
            let said = |q: &Question| run["answers"][q.row.to_string()].as_str().unwrap_or_default().to_string();
            let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, &said(q), Rules::LmmsEval)).collect();
            let outcome = of(id).aggregate(&qs, &judged, Rules::LmmsEval)?;
            for (name, number) in run["numbers"].as_object().expect("numbers") {
                let ours = outcome.subtasks.get(&format!("lmms-eval {name}")).copied().unwrap_or(f64::NAN);
                let theirs = number.as_f64().unwrap_or(f64::NAN);
                if (ours - theirs).abs() > 1e-9 || ours.is_nan() {
                    wrong.push(format!("{id}: {name} is {ours}, not {theirs}: {run}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(runs >= 120, "{runs}");
    Ok(())
}

#[test]
fn only_tasks_of_lmms_eval_have_its_rules() -> Checked {
    let tables = tables()?;
    for b in bench::all() {
        let has = tables.contains_key(b.id());
        match b.rules(Rules::LmmsEval) {
            Ok(rules) => assert!(rules == Rules::LmmsEval && has, "{}", b.id()),
            Err(e) => {
                assert!(e.to_string().contains("not a task of lmms-eval") && !has, "{}: {e}", b.id())
            }
        }
    }
    for id in ["docvqa-test", "st-vqa"] {
        let qs = of(id).read(&golden("benchmarks").join(id)).unwrap_or_else(|e| panic!("{e}"));
        let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, "x", Rules::LmmsEval)).collect();
        assert!(of(id).aggregate(&qs, &judged, Rules::LmmsEval).is_err(), "a server scores it");
    }
    Ok(())
}
