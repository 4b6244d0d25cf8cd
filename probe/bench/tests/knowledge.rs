//! The benchmarks of perception and knowledge against the scorers of their authors, lmms-eval and the `cambrian-1` code
//! (goldens from `tests/reference/scorers_knowledge.py`), and in the editions in which they are published.

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, Rules, read_images};
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

const RULES: [Rules; 2] = [Rules::Official, Rules::Cambrian1];

/// The ids of the benchmarks whose goldens give a verdict per set of rules: a letter, yes or no, or a score.
fn ids() -> Vec<&'static str> {
    let judged = |id: &&str| {
        let path = Path::new(GOLDENS).join("scorers").join(format!("{id}.json"));
        path.is_file() && golden(id).iter().all(|case| !case["gold"].is_object())
    };
    let ids: Vec<&str> = bench::all().iter().map(|b| b.id()).filter(judged).collect();
    assert!(ids.len() >= 13, "{ids:?}");
    ids
}

fn golden(name: &str) -> Vec<Value> {
    let path = Path::new(GOLDENS).join("scorers").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("goldens are JSON")
}

fn fixture(id: &str) -> PathBuf {
    Path::new(GOLDENS).join("benchmarks").join(id)
}

fn find(id: &str) -> &'static dyn Benchmark {
    bench::find(id).expect("a known benchmark")
}

fn read(b: &dyn Benchmark, data: &Path) -> Vec<Question> {
    b.read(data).unwrap_or_else(|e| panic!("{}: {e}\nhint: {:?}", data.display(), e.hint_text())).questions
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
}

fn facts(value: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    value.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())))
}

/// The question of a case, without its answer.
fn question(case: &Value) -> Question {
    let gold = case["gold"].as_str().unwrap_or_default();
    let accepted = texts(&case["accepted"]);
    let mut q = Question {
        options: texts(&case["options"]),
        answer: accepted.first().cloned().unwrap_or_else(|| gold.to_string()),
        facts: facts(&case["facts"]).collect(),
        ..Question::default()
    };
    if gold.starts_with('[') && !accepted.is_empty() {
        q.facts.insert("written-answer".into(), gold.into());
    }
    q.accepted = accepted;
    q
}

/// What is wrong with the verdicts on a case: with each possible answer as the right one, only that which the golden
/// says may score; open answers have one right answer and a score.
fn problems(b: &dyn Benchmark, case: &Value, rules: Rules) -> Option<String> {
    let (q, verdict) = (question(case), &case[rules.as_str()]);
    let answer = case["answer"].as_str().expect("an answer");
    if case["gold"].is_string() {
        let judged = b.judge(&q, answer, rules);
        let unparsed = rules == Rules::Official && judged.parsed.is_none() != verdict.is_null();
        let differs = judged.score != verdict.as_f64().unwrap_or(0.0) || unparsed;
        return differs.then(|| format!("{}: {judged:?}: {case}", rules.as_str()));
    }
    let possible = match q.options.len() {
        0 => ["yes", "no"].map(String::from).to_vec(),
        n => ('A'..='Z').take(n).map(String::from).collect(),
    };
    possible.into_iter().find_map(|right| {
        let judged = b.judge(&Question { answer: right.clone(), ..q.clone() }, answer, rules);
        let expected = f64::from(u8::from(verdict == right.as_str()));
        // `cambrian-1` compares a whole answer to MathVista with the letter, so it has a verdict on any text.
        let any_text = b.id() == "mathvista" && rules == Rules::Cambrian1;
        let unparsed = !any_text && judged.parsed.is_none() != verdict.is_null();
        let differs = judged.score != expected || unparsed;
        differs.then(|| format!("{} with {right} right: {judged:?}: {case}", rules.as_str()))
    })
}

#[test]
fn verdicts_are_those_of_the_goldens() {
    let mut wrong = Vec::new();
    for id in ids() {
        let cases = golden(id);
        assert!(cases.len() >= 60, "{id}: {}", cases.len());
        for case in &cases {
            wrong
                .extend(RULES.iter().filter_map(|rules| problems(find(id), case, *rules)).map(|p| format!("{id} {p}")));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_difference_to_a_published_scorer_has_a_reason() {
    let plain = |v: &Value| if v.is_null() { Value::from(0.0) } else { v.clone() };
    for id in ids() {
        for case in golden(id) {
            for (reference, verdict) in case["references"].as_object().expect("references") {
                let rules = if reference == "study" { Rules::Cambrian1 } else { Rules::Official };
                let agree = plain(verdict) == plain(&case[rules.as_str()]);
                assert_eq!(agree, case["differs"][reference].is_null(), "{id} {reference}: {case}");
            }
        }
    }
}

/// The questions of a case of sums, and the verdicts on them.
fn summed(case: &Value) -> (Vec<Question>, Vec<AnswerScore>) {
    let questions = case["questions"].as_array().expect("questions");
    let text = |q: &Value, field: &str| q[field].as_str().unwrap_or_default().to_string();
    let of = |(i, q): (usize, &Value)| {
        let question = Question {
            id: i.to_string(),
            subtask: text(q, "subtask"),
            unit: text(q, "unit"),
            image_id: text(q, "image_id"),
            answer: text(q, "answer"),
            facts: facts(&q["facts"]).collect(),
            ..Question::default()
        };
        (question, AnswerScore::new(q["said"].as_str().unwrap_or("A"), q["score"] == 1.0))
    };
    questions.iter().enumerate().map(of).unzip()
}

#[test]
fn sums_are_those_of_the_goldens() {
    for case in golden("knowledge_sums") {
        let b = find(case["benchmark"].as_str().expect("an id"));
        let (qs, judged) = summed(&case);
        for rules in RULES {
            let outcome = b.aggregate(&qs, &judged, rules).unwrap_or_else(|e| panic!("{e}: {case}"));
            let expected = case[rules.as_str()].as_f64().expect("a number");
            assert!((outcome.score - expected).abs() < 1e-9, "{}: {} not {expected}", b.id(), outcome.score);
            for (name, value) in case["others"].as_object().into_iter().flatten() {
                let ours = outcome.subtasks[&format!("all {name}")];
                assert!((ours - value.as_f64().expect("a number")).abs() < 1e-9, "{name}: {ours}, not {value}");
            }
            let plain = case["plain"].as_f64().unwrap_or(100.0);
            assert!(outcome.score <= plain + 1e-9, "CircularEval {} above accuracy {plain}", outcome.score);
        }
    }
}

proptest! {
    /// All rotations right is no easier than one of them: with as many rotations of each question, CircularEval is at
    /// most the plain accuracy.
    #[test]
    fn circular_is_at_most_plain(right in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..12)) {
        let b = find("mmbench-en");
        let mut qs = Vec::new();
        let mut judged = Vec::new();
        for (group, turns) in right.iter().enumerate() {
            for (turn, right) in turns.iter().enumerate() {
                let (name, main) = (group.to_string(), (turn == 0).to_string());
                let names = [("group", name.clone()), ("study-group", name), ("main", main)];
                qs.push(Question {
                    id: (group + 1_000_000 * turn).to_string(),
                    unit: group.to_string(),
                    facts: names.map(|(k, v)| (k.to_string(), v)).into(),
                    ..Question::default()
                });
                judged.push(AnswerScore::new("A", *right));
            }
        }
        let plain = 100.0 * judged.iter().map(|j| j.score).sum::<f64>() / judged.len() as f64;
        for rules in RULES {
            prop_assert!(b.aggregate(&qs, &judged, rules).expect("complete groups").score <= plain + 1e-9);
        }
    }
}

/// What makes a question, apart from names and images.
fn asked(b: &dyn Benchmark, q: &Question) -> (Vec<String>, String, Vec<String>, usize, String) {
    let choices = if b.id() == "mmstar" { Vec::new() } else { q.options.clone() };
    (
        choices,
        q.answer.trim_matches(['(', ')']).into(),
        q.accepted.clone(),
        q.images.len(),
        b.prompt(q, Rules::Official),
    )
}

#[test]
fn editions_have_the_same_questions() {
    for id in ids().iter().filter(|id| **id != "mmbench-cn") {
        let b = find(id);
        let (hub, tsv) = (read(b, &fixture(id)), read(b, &fixture(id).join("vlmevalkit")));
        // MMMU's file holds the dev split too, and BLINK's folders come in the order of their names.
        let left_out = if *id == "mmmu" { 1 } else { 0 };
        assert_eq!(tsv.len() + left_out, hub.len(), "{id}");
        for q in &tsv {
            let same = hub.iter().any(|other| match *id {
                // Choices in columns are asked in lines, those in the question as they stand there.
                "mmstar" => other.id == q.id && other.answer == q.answer,
                _ => asked(b, other) == asked(b, q),
            });
            assert!(same, "{id}: {q:?}");
        }
        let images: Vec<_> = tsv.iter().flat_map(|q| &q.images).collect();
        for bytes in read_images(&images) {
            assert!(bytes.unwrap_or_else(|e| panic!("{id}: {e}")).starts_with(b"\x89PNG"), "{id}");
        }
    }
}

#[test]
fn authors_own_editions_are_read() {
    let b = find("q-bench");
    let (hub, own) = (read(b, &fixture("q-bench")), read(b, &fixture("q-bench").join("authors")));
    let all = |qs: &[Question]| qs.iter().map(|q| (asked(b, q), q.subtask.clone())).collect::<Vec<_>>();
    assert_eq!(all(&hub), all(&own));
    let b = find("mmmu");
    let folders = read(b, &fixture("mmmu").join("folders"));
    assert_eq!(folders.iter().map(|q| q.subtask.as_str()).collect::<Vec<_>>(), ["Art", "Art_Theory"]);
    assert_eq!(folders.iter().map(|q| q.row).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn questions_are_filtered_grouped_and_shown_as_published() {
    let rows = |id: &str| read(find(id), &fixture(id)).iter().map(|q| q.row).collect::<Vec<_>>();
    assert_eq!(rows("scienceqa"), [0, 2, 3], "without an image it is not part of the benchmark");
    assert_eq!(rows("seed-bench"), [0, 1, 2], "videos are not part of it");

    let mmbench = read(find("mmbench-en"), &fixture("mmbench-en"));
    let group = |index: &str| mmbench.iter().find(|q| q.id == index).map(|q| q.fact("study-group").to_string());
    assert_eq!(group("241"), Some("241".into()));
    assert_eq!(group("1000252"), Some("252".into()), "the same question about another image");

    let blink = read(find("blink"), &fixture("blink"));
    let jigsaw = blink.iter().find(|q| q.subtask == "Jigsaw").expect("a jigsaw");
    assert_eq!(find("blink").prompt_images(jigsaw, Rules::Official).len(), 3);
    assert_eq!(find("blink").prompt_images(jigsaw, Rules::Cambrian1), &jigsaw.images[..1]);
    assert!(find("blink").prompt(jigsaw, Rules::Official).starts_with("Disclaimer: "));
    assert!(!find("blink").prompt(jigsaw, Rules::Cambrian1).contains("Disclaimer"));

    let mmmu = read(find("mmmu"), &fixture("mmmu"));
    let choices = find("mmmu").prompt(&mmmu[1], Rules::Cambrian1);
    // What Python's `re.findall(r"'(.*?)'", …)` makes of the written list: cut at the apostrophe of "It's".
    let expected = "Which of  and  is lighter? Options:\nA. s \", \nB. , \nC. , \n\
                    Answer with the option's letter from the given choices directly.";
    assert_eq!(choices, expected);

    let mme = find("mme");
    let qs = read(mme, &fixture("mme"));
    let judged: Vec<AnswerScore> = qs.iter().map(|q| AnswerScore::new("yes", q.subtask != "code_reasoning")).collect();
    let outcome = mme.aggregate(&qs, &judged, Rules::Official).expect("pairs");
    assert_eq!((outcome.score, outcome.subtasks["code_reasoning"]), (100.0, 0.0), "cognition does not count");
}
