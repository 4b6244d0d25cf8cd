//! The benchmarks with choices of 2024 to 2026 against the code of their authors and of VLMEvalKit (goldens of
//! `tests/reference/scorers_choice_2026.py`, which runs that code). The rules of lmms-eval are tested in
//! `lmms_eval.rs`.

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, Rules, read_images};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

const IDS: [&str; 11] = [
    "mmmu-pro",
    "mmmu-pro-vision",
    "ai2d-no-mask",
    "mmbench-v11-en",
    "mmbench-v11-cn",
    "seed-bench-2-plus",
    "vmcbench",
    "muirbench",
    "crpe",
    "crpe-exist",
    "3dsrbench",
];

/// The benchmarks that VLMEvalKit publishes as a TSV besides the edition on the hub.
const EDITIONS: [&str; 5] = ["ai2d-no-mask", "seed-bench-2-plus", "vmcbench", "muirbench", "3dsrbench"];

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn json(path: &str) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(golden(path))?)?)
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn goldens() -> impl Iterator<Item = (&'static str, Value)> {
    IDS.into_iter()
        .map(|id| (id, json(&format!("scorers/choice-2026/{id}.json")).unwrap_or_else(|e| panic!("{id}: {e}"))))
}

fn fixture(id: &str) -> Vec<Question> {
    let read = of(id).read(&golden("benchmarks").join(id)).unwrap_or_else(|e| panic!("{id}: {e} {:?}", e.hint_text()));
    assert!(read.skipped.is_empty(), "{id}: {:?}", read.skipped);
    read.questions
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    array(value).iter().filter_map(|v| v.as_str().map(String::from)).collect()
}

/// The question of a case, without its answer.
fn question(case: &Value) -> Question {
    let facts = case["facts"].as_object().into_iter().flatten();
    Question {
        options: texts(&case["options"]),
        facts: facts.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect(),
        ..Question::default()
    }
}

/// What is wrong with the verdicts on a case: with each choice as the right one, only the letter that the reference
/// reads scores, and the answer is unparsed if it reads none.
fn problem(id: &str, case: &Value) -> Option<String> {
    let (q, letter) = (question(case), &case["official"]);
    let answer = case["answer"].as_str().expect("an answer");
    ('A'..='Z').take(q.options.len()).find_map(|right| {
        let right = right.to_string();
        let judged = of(id).judge(&Question { answer: right.clone(), ..q.clone() }, answer, Rules::Official);
        let expected = f64::from(u8::from(*letter == right.as_str()));
        let same = judged.score == expected && judged.parsed.is_none() == letter.is_null();
        (!same).then(|| format!("{id}, {right} right: {judged:?}, not {letter}: {case}"))
    })
}

#[test]
fn verdicts_are_those_of_the_authors_code() {
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for (id, golden) in goldens() {
        let cases = array(&golden["verdicts"]);
        assert!(cases.len() >= 80, "{id}: {}", cases.len());
        let found: Vec<String> = cases.iter().filter_map(|case| problem(id, case)).collect();
        table += &format!("{id:<18} official {:>4}/{}", cases.len() - found.len(), cases.len());
        // What another harness reads is shown for comparison; it is another rule.
        let mut others: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
        for case in cases {
            for (name, letter) in case["others"].as_object().into_iter().flatten() {
                let (same, all) = others.entry(name).or_default();
                *same += usize::from(*letter == case["official"]);
                *all += 1;
            }
        }
        for (name, (same, all)) in others {
            table += &format!("   {name} {same}/{all}");
        }
        table.push('\n');
        wrong.extend(found);
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The images that go with the prompts, encoded as in the goldens.
fn images(id: &str, q: &Question, rules: Rules) -> Vec<Vec<u8>> {
    let images: Vec<_> = of(id).prompt_images(q, rules).iter().collect();
    read_images(&images).into_iter().map(|bytes| bytes.unwrap_or_else(|e| panic!("{id}: {e}"))).collect()
}

fn decoded(value: &Value) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    texts(value).iter().map(|text| base64::prelude::BASE64_STANDARD.decode(text).expect("base64")).collect()
}

#[test]
fn prompts_and_images_are_those_of_the_authors_code() {
    let mut wrong = Vec::new();
    for (id, golden) in goldens() {
        let prompts = golden["prompts"].as_object().expect("prompts");
        let qs = fixture(id);
        assert!(prompts.is_empty() || prompts.len() == qs.len(), "{id}: {} prompts", prompts.len());
        for q in qs.iter().filter(|_| !prompts.is_empty()) {
            let (ours, theirs) = (of(id).prompt(q, Rules::Official), &prompts[&q.row.to_string()]);
            if theirs.as_str() != Some(&ours) {
                wrong.push(format!("{id} {}: {ours:?}\n  not {theirs}", q.row));
            }
            if let Some(theirs) = golden["images"].get(q.row.to_string()) {
                assert_eq!(images(id, q, Rules::Official), decoded(theirs), "{id} {}", q.row);
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn images_are_those_that_lmms_eval_sends() -> Checked {
    let tables = json("scorers/lmms_eval_tables-choice.json")?;
    let mut seen = 0;
    for (id, table) in tables.as_object().expect("tables") {
        for q in fixture(id) {
            if let Some(theirs) = table["images"].get(q.row.to_string()) {
                seen += 1;
                assert_eq!(images(id, &q, Rules::LmmsEval), decoded(theirs), "{id} {}", q.row);
            }
        }
    }
    assert!(seen >= 16, "{seen}");
    Ok(())
}

#[test]
fn numbers_are_those_of_the_authors_code() -> Checked {
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for (id, golden) in goldens() {
        let qs = fixture(id);
        // VMCBench's and CRPE's scripts round to two decimals.
        let rounding = if ["vmcbench", "crpe", "crpe-exist"].contains(&id) { 0.005 } else { 0.0 };
        for run in array(&golden["runs"]) {
            runs += 1;
            let said = |q: &Question| run["answers"][q.row.to_string()].as_str().unwrap_or_default().to_string();
            let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, &said(q), Rules::Official)).collect();
            let outcome = of(id).aggregate(&qs, &judged, Rules::Official)?;
            for (name, theirs) in run["numbers"].as_object().expect("numbers") {
                let ours = if name == "score" { Some(outcome.score) } else { outcome.subtasks.get(name).copied() };
                let (ours, theirs) = (ours.unwrap_or(f64::NAN), theirs.as_f64().unwrap_or(f64::NAN));
                if ours.is_nan() || (ours - theirs).abs() > rounding + 1e-9 {
                    wrong.push(format!("{id}: {name} is {ours}, not {theirs}: {run}"));
                }
            }
        }
        if let Some(chance) = golden["chance"].as_f64() {
            let ours = of(id).chance(&qs, Rules::Official);
            assert!((ours - chance).abs() < 1e-9, "{id}: chance {ours}, not {chance}");
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(runs >= 72, "{runs}");
    Ok(())
}

#[test]
fn vlmevalkits_edition_asks_the_same() -> Checked {
    for id in EDITIONS {
        let (hub, kit) = (fixture(id), of(id).read(&golden("benchmarks").join(id).join("vlmevalkit"))?);
        assert_eq!(hub.len(), kit.len(), "{id}");
        for (a, b) in hub.iter().zip(&kit.questions) {
            let asked = |q: &Question| (q.options.clone(), q.answer.to_uppercase(), images(id, q, Rules::Official));
            assert_eq!(asked(a), asked(b), "{id} {}", a.row);
            assert_eq!(of(id).prompt(a, Rules::Official), of(id).prompt(b, Rules::Official), "{id} {}", a.row);
        }
    }
    Ok(())
}

/// Writes the fixture's TSV with some cells changed, and returns the ids of the questions that are read from it.
fn ids_without(tsv: &str, id: &str, column: &str, of_row: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(golden("benchmarks").join(id).join(tsv))?;
    let mut lines: Vec<Vec<String>> = text.lines().map(|l| l.split('\t').map(String::from).collect()).collect();
    let at = lines[0].iter().position(|name| name == column).expect("the column");
    let row = lines.iter_mut().find(|cells| cells.iter().any(|cell| cell == of_row)).expect("the row");
    row[at] = String::new();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(tsv.rsplit('/').next().unwrap_or(tsv));
    fs::write(&file, lines.iter().map(|cells| cells.join("\t") + "\n").collect::<String>())?;
    Ok(of(id).read(&file)?.iter().map(|q| q.id.clone()).collect())
}

#[test]
fn what_is_scored_together_is_skipped_together() -> Checked {
    let left = ids_without("vlmevalkit/3dsrbench_v1_vlmevalkit_circular.tsv", "3dsrbench", "answer", "EF56GH78-flip")?;
    assert_eq!(left.len(), 12, "{left:?}");
    assert!(left.iter().all(|id| !id.starts_with("EF56GH78")), "{left:?}");
    let left = ids_without("MMBench_DEV_EN_V11.tsv", "mmbench-v11-en", "answer", "1000241")?;
    assert_eq!(left.len(), 5, "{left:?}");
    Ok(())
}

#[test]
fn counterparts_and_rotations_are_one_unit() {
    let units = |id: &str| fixture(id).iter().map(|q| q.unit.clone()).collect::<Vec<_>>();
    assert_eq!(units("muirbench"), ["1", "1", "3", "4"]);
    assert_eq!(units("crpe")[3..5], ["0", "1"]);
    assert_eq!(units("3dsrbench")[..5], ["AB12CD34", "AB12CD34", "AB12CD34", "AB12CD34", "EF56GH78"]);
    let images: Vec<usize> = fixture("muirbench").iter().map(|q| q.images.len()).collect();
    assert_eq!(images, [2, 2, 4, 3], "several images stay several");
    let pro: Vec<usize> = fixture("mmmu-pro").iter().map(|q| q.images.len()).collect();
    assert_eq!(pro, [1, 5 + 4, 2 + 1, 1, 1, 2 + 2]);
}

#[test]
fn datasets_that_moved_are_known_under_both_names() {
    let published = bench::all().iter().filter_map(|b| Some((b.id(), b.card().source?)));
    let moved: Vec<_> = published.filter(|(_, source)| source.repository.starts_with("lmms-lab/")).collect();
    assert!(moved.len() >= 16, "{}", moved.len());
    for (id, source) in moved.iter().filter(|(id, _)| !id.starts_with("mmbench")) {
        let name = source.repository.trim_start_matches("lmms-lab/");
        assert_eq!(source.alias, Some(format!("lmms-lab-encoder/{name}").as_str()), "{id}");
    }
}
