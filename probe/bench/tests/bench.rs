//! The benchmarks against the published scorers (goldens from `tests/reference/scorers.py`), their properties, and
//! what happens to broken files.

use burgess_bench::{
    self as bench, AnswerForm, AnswerScore, Benchmark, BenchmarkOutcome, Category, ImageLocation, Predictions,
    Question, Rules, labels, score,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

type Checked = Result<(), Box<dyn std::error::Error>>;

fn golden(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/scorers").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("goldens are JSON")
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_else(|| panic!("{field} in {case}"))
}

fn bench(id: &str) -> &'static dyn Benchmark {
    bench::find(id).expect("a known benchmark")
}

/// The benchmarks that are made on this machine.
fn drawn() -> Vec<&'static dyn Benchmark> {
    bench::all().iter().copied().filter(|b| b.card().source.is_none()).collect()
}

fn question(n: usize, options: &[&str], answer: &str) -> Question {
    Question {
        id: format!("q{n}"),
        image_id: format!("i{}", n / 2),
        question: "What is it?".into(),
        options: options.iter().map(|o| (*o).to_string()).collect(),
        answer: answer.into(),
        subtask: ["first", "second"][n / 2 % 2].into(),
        unit: format!("u{}", n / 2),
        ..Question::default()
    }
}

/// 24 questions in 12 pairs that fit the benchmark.
fn sample(b: &dyn Benchmark) -> Vec<Question> {
    let open = ["red", "12", "105", "100", "two dogs", "30%"];
    let make = |n: usize| match b.card().form {
        AnswerForm::YesNo => question(n, &[], ["yes", "no"][n % 2]),
        AnswerForm::Open => question(n, &[], open[n % open.len()]),
        AnswerForm::Choice if b.id() == "nano-mmvp" => question(n, &["open", "closed"], ["(a)", "(b)"][n % 2]),
        AnswerForm::Choice => question(n, &["dog", "cup", "car"], ["A", "B", "C"][n % 3]),
    };
    (0..24).map(make).collect()
}

/// The right answer as a model would say it: the field's choices are answered in words.
fn right(b: &dyn Benchmark, q: &Question) -> String {
    let letter = labels::choice_letter(&q.answer)
        .filter(|_| b.id().starts_with("field-") && b.card().form == AnswerForm::Choice);
    letter.and_then(|l| q.options.get(l as usize - 'A' as usize)).unwrap_or(&q.answer).clone()
}

fn outcome(b: &dyn Benchmark, qs: &[Question], answer: impl Fn(usize, &Question) -> String) -> BenchmarkOutcome {
    let judged: Vec<AnswerScore> =
        qs.iter().enumerate().map(|(i, q)| b.judge(q, &answer(i, q), Rules::Official)).collect();
    b.aggregate(qs, &judged, Rules::Official).expect("complete pairs")
}

// ------------------------------------------------------------------------------------------ published scorers

#[test]
fn letters_are_those_of_the_goldens() {
    let cases = golden("letters");
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in &cases {
        let options: Vec<&str> =
            case["options"].as_array().expect("options").iter().filter_map(Value::as_str).collect();
        let answer = text(case, "answer");
        for b in ["nano-scienceqa", "nano-ai2d", "nano-cvbench-2d", "nano-cvbench-3d", "nano-mmvp"].map(bench) {
            let said = b.judge(&question(0, &options, "A"), answer, Rules::Official).parsed;
            let said = said.map(|l| l.trim_matches(['(', ')']).to_uppercase());
            if said.as_deref() != case["expected"].as_str() {
                wrong.push(format!("{}: {answer:?} of {options:?}: {said:?}, expected {}", b.id(), case["expected"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn yes_and_no_are_those_of_the_goldens() {
    let cases = golden("yes_no");
    assert!(cases.len() >= 60);
    for case in &cases {
        let said = bench("nano-mme").judge(&question(0, &[], "yes"), text(case, "answer"), Rules::Official);
        assert_eq!(said.parsed.as_deref(), case["expected"].as_str(), "{case}");
        assert_eq!(said.score, f64::from(u8::from(case["expected"] == "yes")), "{case}");
    }
}

fn scores_are_golden(name: &str, id: &str) {
    let cases = golden(name);
    assert!(cases.len() >= 60, "{name}");
    let mut wrong = Vec::new();
    for case in &cases {
        let judged = bench(id).judge(&question(0, &[], text(case, "gold")), text(case, "answer"), Rules::Official);
        if Some(judged.score) != case["expected"].as_f64() {
            wrong.push(format!("{judged:?}: {case}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exact_match_is_that_of_the_goldens() {
    scores_are_golden("exact", "nano-gqa");
}

#[test]
fn containment_is_that_of_the_goldens() {
    scores_are_golden("contained", "ocrbench");
}

#[test]
fn relaxed_accuracy_is_that_of_the_goldens() {
    scores_are_golden("relaxed", "nano-chartqa");
}

#[test]
fn edit_similarity_is_that_of_the_goldens() {
    for case in golden("anls") {
        let accepted: Vec<&str> =
            case["accepted"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
        let ours = score::anls(text(&case, "answer"), &accepted);
        assert!((ours - case["expected"].as_f64().expect("a number")).abs() < 1e-12, "{ours}: {case}");
    }
}

#[test]
fn pair_sums_are_those_of_the_goldens() {
    for case in golden("sums") {
        for (id, expected) in [("nano-mme", &case["mme"]), ("nano-mmvp", &case["mmvp"])] {
            let (mut qs, mut judged) = (Vec::new(), Vec::new());
            for pair in case["pairs"].as_array().expect("pairs") {
                for right in pair["scores"].as_array().expect("scores") {
                    let mut q = question(qs.len(), &[], "yes");
                    (q.unit, q.image_id, q.subtask) =
                        (text(pair, "unit").into(), text(pair, "unit").into(), text(pair, "subtask").into());
                    qs.push(q);
                    judged.push(AnswerScore::new("yes", right == 1.0));
                }
            }
            let ours = bench(id).aggregate(&qs, &judged, Rules::Official).expect("pairs").score;
            assert!((ours - expected.as_f64().expect("a number")).abs() < 1e-9, "{id}: {ours}, expected {expected}");
        }
    }
}

#[test]
fn every_difference_to_a_published_scorer_has_a_reason() {
    for name in ["letters", "yes_no", "exact", "contained", "relaxed"] {
        for case in golden(name) {
            let references = case["references"].as_object().expect("references");
            let differs = references.values().any(|verdict| *verdict != case["expected"]);
            assert_eq!(differs, case["why"].is_string(), "{name}: {case}");
        }
    }
}

// ------------------------------------------------------------------------------------------ prompts and registry

#[test]
fn prompts_have_the_published_forms() {
    let choice = question(0, &["dog", "cup"], "A");
    let letters = "What is it?\nA. dog\nB. cup\nAnswer with the option's letter from the given choices directly.";
    let short = "What is it?\nAnswer the question using a single word or phrase.";
    for b in drawn() {
        let expected = match b.id() {
            "nano-mme" => "What is it? Please answer yes or no.",
            "nano-mmvp" => {
                "What is it?\n(a) dog (b) cup\nAnswer with the option's letter from the given choices directly."
            }
            "field-presence" | "field-kind" | "field-count" | "conversation" | "nano-conversation" => "What is it?",
            "nano-gqa" | "nano-docvqa" | "nano-chartqa" | "field-cocoqa" => short,
            id if id.starts_with("field-") => "What is it: dog or cup?",
            "nano-ai2d" | "nano-cvbench-2d" | "nano-cvbench-3d" => {
                "What is it?\ndog, cup\nAnswer with one of the options."
            }
            _ => letters,
        };
        assert_eq!(b.prompt(&choice, Rules::Official), expected, "{}", b.id());
    }
}

#[test]
fn the_registry_is_complete_and_suggests() {
    let ids: BTreeSet<&str> = bench::all().iter().map(|b| b.id()).collect();
    assert_eq!(ids.len(), bench::all().len(), "ids are unique");
    for category in Category::CAMBRIAN {
        assert!(drawn().iter().filter(|b| *b.category() == category).count() >= 2, "{category}");
        assert_eq!(json!(category), json!(category.to_string()));
    }
    let error = bench::find("nano-chart").err().expect("unknown");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(error.to_string(), "no benchmark is called `nano-chart`");
    assert!(error.hint_text().is_some_and(|h| h.contains("nano-chartqa")), "{error:?}");
}

// ------------------------------------------------------------------------------------------ properties

#[test]
fn perfect_is_100_and_empty_is_0() {
    for b in drawn() {
        let qs = sample(b);
        let perfect = outcome(b, &qs, |_, q| right(b, q));
        assert_eq!((perfect.score, perfect.stderr, perfect.n, perfect.n_unparsed), (100.0, 0.0, 24, 0), "{}", b.id());
        let subtasks = ["first", "second"].map(|name| perfect.subtasks.get(name).copied());
        assert_eq!(subtasks, [Some(100.0); 2], "{perfect:?}");
        assert!(perfect.subtasks.len() == 2 || !b.category().is_averaged(), "{perfect:?}");
        let empty = outcome(b, &qs, |_, _| String::new());
        assert_eq!((empty.score, empty.n_unparsed), (0.0, 24), "{}", b.id());
    }
}

#[test]
fn chance_and_the_constant_answer_baseline_come_from_the_data() {
    let expected = [
        ("nano-mme", 37.5, 25.0),
        ("nano-gqa", 0.0, 100.0 / 6.0),
        ("nano-scienceqa", 100.0 / 3.0, 100.0 / 3.0),
        ("nano-ai2d", 100.0 / 3.0, 100.0 / 3.0),
        // One value is within 5 % of both 100 and 105.
        ("nano-chartqa", 0.0, 200.0 / 6.0),
        // "105" is two thirds of "100".
        ("nano-docvqa", 0.0, 500.0 / 18.0),
        ("nano-mmvp", 25.0, 0.0),
        ("nano-cvbench-2d", 100.0 / 3.0, 100.0 / 3.0),
        ("nano-cvbench-3d", 100.0 / 3.0, 100.0 / 3.0),
        ("field-presence", 50.0, 50.0),
        ("field-cocoqa", 0.0, 100.0 / 6.0),
        ("field-stamps", 100.0 / 3.0, 100.0 / 3.0),
    ];
    for (id, chance, constant) in expected {
        let b = bench(id);
        let qs = sample(b);
        assert!(
            (b.chance(&qs, Rules::Official) - chance).abs() < 1e-9,
            "{id}: chance {}",
            b.chance(&qs, Rules::Official)
        );
        assert!(
            (b.constant_baseline(&qs, Rules::Official) - constant).abs() < 1e-9,
            "{id}: constant answer {}",
            b.constant_baseline(&qs, Rules::Official)
        );
        assert!(b.chance(&[], Rules::Official).is_nan() && b.constant_baseline(&[], Rules::Official).is_nan());
    }
}

#[test]
fn the_field_is_answered_in_words() {
    let said = |id: &str, options: &[&str], answer: &str| {
        let judged = bench(id).judge(&question(0, options, "B"), answer, Rules::Official);
        (judged.parsed, judged.score)
    };
    let right = (Some("B".to_string()), 1.0);
    for answer in ["horse", "A horse.", "the Horse", " horse\n"] {
        assert_eq!(said("field-stamps", &["frog", "horse", "pair of pliers"], answer), right, "{answer}");
    }
    for answer in ["B", "horses", "frog or horse", "I think it is a horse", "", "a"] {
        assert_eq!(said("field-stamps", &["frog", "horse", "pair of pliers"], answer), (None, 0.0), "{answer}");
    }
    assert_eq!(said("field-stamps", &["frog", "horse"], "a frog"), (Some("A".into()), 0.0));
    assert_eq!(said("field-count", &["1", "2", "3"], "Two."), right);
    assert_eq!(said("field-count", &["1", "2", "3"], "3"), (Some("C".into()), 0.0));
    assert_eq!(said("field-count", &["1", "2", "3"], "4"), (None, 0.0), "no such choice");
}

#[test]
fn mme_counts_every_subtask_alike() {
    // Four pairs of one subtask all right, one pair of another all wrong: mean of 100 and 0.
    let b = bench("nano-mme");
    let mut qs: Vec<Question> = (0..10).map(|n| question(n, &[], "yes")).collect();
    qs.iter_mut().for_each(|q| q.subtask = if q.image_id == "i4" { "rare".into() } else { "common".into() });
    let o = outcome(b, &qs, |i, _| if i < 8 { "yes".into() } else { "no".into() });
    assert!((o.score - 50.0).abs() < 1e-9, "{o:?}");
    assert_eq!(o.subtasks, [("common".to_string(), 100.0), ("rare".to_string(), 0.0)].into());
}

#[test]
fn errors_cluster_by_unit() {
    // Two identical questions per unit carry the information of one: the error is that of 12 units, not 24.
    let b = bench("nano-gqa");
    let qs = sample(b);
    let o = outcome(b, &qs, |i, q| if i / 2 % 2 == 0 { q.answer.clone() } else { "?".into() });
    assert_eq!(o.units.len(), 12);
    let expected = 100.0 * (0.25_f64 / 11.0).sqrt();
    assert!((o.stderr - expected).abs() < 1e-9, "{} instead of {expected}", o.stderr);
    let one = outcome(b, &qs[..2], |_, q| q.answer.clone());
    assert_eq!(one.stderr, 50.0, "one unit says nothing of the spread");
}

#[test]
fn incomplete_pairs_and_wrong_lengths_are_errors() {
    for id in ["nano-mme", "nano-mmvp"] {
        let b = bench(id);
        let qs = sample(b);
        let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, "yes", Rules::Official)).collect();
        let error = b.aggregate(&qs[1..], &judged[1..], Rules::Official).expect_err("half a pair");
        assert!(error.to_string().contains("question `q1`") && error.hint_text().is_some(), "{error}");
        assert!(
            b.aggregate(&qs, &judged[1..], Rules::Official)
                .expect_err("lengths")
                .to_string()
                .contains("24 questions but 23 verdicts")
        );
        assert!(b.aggregate(&[], &[], Rules::Official).is_err());
    }
}

fn any_answer() -> impl Strategy<Value = String> {
    let words = [
        "yes",
        "no",
        "A",
        "B",
        "(b)",
        "C. car",
        "dog",
        "a dog",
        "red",
        "12",
        "102.4",
        "30%",
        "two dogs red 12",
        "",
        "The answer is B",
        "nan",
    ];
    prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(String::from), 1 => "\\PC{0,20}"]
}

proptest! {
    #[test]
    fn scores_are_in_range_and_order_does_not_matter(
        answers in proptest::collection::vec(any_answer(), 24),
        order in Just((0..24).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        for b in drawn() {
            let qs = sample(b);
            let o = outcome(b, &qs, |i, _| answers[i].clone());
            prop_assert!((0.0..=100.0).contains(&o.score) && (0.0..=50.0).contains(&o.stderr), "{} {:?}", b.id(), o);
            prop_assert!(o.subtasks.values().all(|s| (0.0..=100.0).contains(s)));
            let sum: f64 = o.units.iter().map(|u| u.sum).sum();
            let weight: f64 = o.units.iter().map(|u| u.weight).sum();
            prop_assert!((o.score - 100.0 * sum / weight).abs() < 1e-9);
            let shuffled: Vec<Question> = order.iter().map(|&i| qs[i].clone()).collect();
            prop_assert_eq!(outcome(b, &shuffled, |i, _| answers[order[i]].clone()), o, "to the last bit");
        }
    }

    #[test]
    fn both_right_is_no_easier_than_one(answers in proptest::collection::vec(any_answer(), 24)) {
        for b in [bench("nano-mme"), bench("nano-mmvp")] {
            let qs = sample(b);
            let score = |i: usize| b.judge(&qs[i], &answers[i], Rules::Official).score;
            let single: f64 = (0..24).map(score).sum::<f64>() / 24.0 * 100.0;
            let o = outcome(b, &qs, |i, _| answers[i].clone());
            // (acc + acc+) / 2 ≤ acc holds exactly if acc+ ≤ acc; the sample's subtasks are of one size.
            prop_assert!(o.score <= single + 1e-9, "{}: {} > {single}", b.id(), o.score);
        }
    }

    #[test]
    fn no_constant_answer_beats_the_baseline(answer in any_answer(), value in 90.0f64..115.0) {
        // Neither has the overlap of words with references.
        // The answer nearest to several right ones by ANLS need not be one of them.
        for b in drawn().into_iter().filter(|b| b.category().is_averaged() && b.id() != "nano-docvqa") {
            let qs = sample(b);
            for constant in [answer.clone(), value.to_string()] {
                let o = outcome(b, &qs, |_, _| constant.clone());
                let baseline = b.constant_baseline(&qs, Rules::Official);
                prop_assert!(o.score <= baseline + 1e-9, "{}: {constant:?} scores {}", b.id(), o.score);
            }
        }
    }

    #[test]
    fn no_text_breaks_a_parser(
        answer in prop_oneof!["\\PC{0,40}", "[A-Fa-f().,:/&ornswe*’' \n]{0,30}", "[0-9_.%e+ -]{0,12}"],
        option in "\\PC{1,8}",
    ) {
        let q = question(0, &[&option, "cup", "ß", "Ⅷ x"], "A");
        for b in drawn() {
            let judged = b.judge(&q, &answer, Rules::Official);
            prop_assert!(judged.score == 0.0 || judged.parsed.is_some());
            let said = judged.parsed.unwrap_or_else(|| "A".into()).to_uppercase();
            let offered = ["A", "B", "C", "D", "(A)", "(B)", "(C)", "(D)"].contains(&said.as_str());
            prop_assert!(offered || b.card().form != AnswerForm::Choice, "{said} is not a choice");
        }
        score::anls(&answer, &[&option]);
    }
}

// ------------------------------------------------------------------------------------------ the nano world

#[test]
fn the_nano_world_is_read_and_no_constant_answer_beats_chance() -> Checked {
    use burgess_world::dataset;
    let dir = tempfile::tempdir()?;
    let spec = dataset::WorldSpec {
        seed: 7,
        align: 0,
        tune: 0,
        turns: 1,
        per_benchmark: 160,
        pool: Vec::new(),
        open_questions: 0,
    };
    dataset::write(dir.path(), &spec, &|_, _| {})?;
    for b in drawn().into_iter().filter(|b| b.id().starts_with("nano-") && b.category().is_averaged()) {
        let qs = b.read(dir.path())?;
        assert!(qs.len() >= 160, "{}: {}", b.id(), qs.len());
        let perfect = outcome(b, &qs, |_, q| q.answer.clone());
        assert_eq!((perfect.score, perfect.n_unparsed, perfect.units.len()), (100.0, 0, 160), "{}", b.id());
        let (chance, constant) = (b.chance(&qs, Rules::Official), b.constant_baseline(&qs, Rules::Official));
        match b.card().form {
            // Balanced options: a letter is as good as a guess, up to two standard errors of guessing.
            AnswerForm::YesNo | AnswerForm::Choice => {
                let error = (chance * (100.0 - chance) / 160.0).sqrt();
                assert!(constant <= chance + 2.0 * error, "{}: {constant} > {chance} + 2 · {error}", b.id());
            }
            AnswerForm::Open => assert!(chance == 0.0 && constant < 50.0, "{}: {constant}", b.id()),
        }
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------ files

fn line(n: usize) -> Value {
    json!({"id": format!("q{n}"), "image": "images/a.png", "image_id": "a", "question": "What is it?",
           "options": ["dog", "cup"], "answer": "B", "subtask": "s", "unit": "a"})
}

fn open_line(n: usize, answer: &str) -> Value {
    let mut line = line(n);
    line.as_object_mut().expect("object").remove("options");
    line["answer"] = answer.into();
    line
}

/// Writes lines as data of `id` beside one image; the data directory.
fn data(id: &str, lines: &[String]) -> Result<tempfile::TempDir, std::io::Error> {
    let dir = tempfile::tempdir()?;
    fs::create_dir_all(dir.path().join("bench"))?;
    fs::create_dir_all(dir.path().join("images"))?;
    fs::write(dir.path().join("images/a.png"), "")?;
    fs::write(dir.path().join(format!("bench/{id}.jsonl")), lines.join("\n"))?;
    Ok(dir)
}

fn read_error(id: &str, lines: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let dir = data(id, lines)?;
    let error = bench(id).read(dir.path()).expect_err("a broken file");
    assert_eq!(error.exit_code(), 1);
    Ok(error.to_string().replace(&dir.path().display().to_string(), "DATA"))
}

#[test]
fn good_files_are_read() -> Checked {
    let lines = [line(0).to_string(), String::new(), line(1).to_string() + "\r", String::new()];
    let dir = data("nano-ai2d", &lines)?;
    let qs = bench("nano-ai2d").read(dir.path())?;
    assert_eq!(qs.len(), 2);
    assert_eq!(qs[1].id, "q1");
    assert_eq!(qs[0].images, [ImageLocation::File(dir.path().join("images/a.png"))]);
    assert_eq!(qs[0].options, ["dog", "cup"]);
    let dir = data("nano-mme", &[open_line(0, "yes").to_string(), open_line(1, "no").to_string()])?;
    assert_eq!(bench("nano-mme").read(dir.path())?.len(), 2);
    Ok(())
}

#[test]
fn broken_files_say_where_and_what() -> Checked {
    let id = "nano-ai2d";
    let with = |field: &str, value: Value| {
        let mut line = line(1);
        line[field] = value;
        vec![self::line(0).to_string(), line.to_string()]
    };
    let without = |field: &str| {
        let mut line = line(1);
        line.as_object_mut().expect("object").remove(field);
        vec![self::line(0).to_string(), line.to_string()]
    };
    let place = "DATA/bench/nano-ai2d.jsonl:2: field";
    for field in ["id", "image", "image_id", "question", "options", "answer", "subtask", "unit"] {
        assert_eq!(read_error(id, &without(field))?, format!("{place} `{field}` is missing"));
    }
    let cases = [
        (with("id", 7.into()), "`id` must be a string, found the number 7"),
        (with("id", "q0".into()), "`id`: `q0` is already on line 1"),
        (with("question", " ".into()), "`question` is empty"),
        (with("colour", "red".into()), "`colour` is unknown"),
        (with("options", "dog".into()), "`options` must be a list of strings, found the string \"dog\""),
        (with("options", json!(["dog"])), "`options` holds 1 choices; expected 2 to 702"),
        (with("options", json!(["dog", 3])), "`options` must hold strings, found the number 3"),
        (with("options", json!(["dog", "dog "])), "`options` holds \"dog \" twice"),
        (with("answer", "C".into()), "`answer`: \"C\" is not among the letters of the 2 choices"),
        (with("answer", "dog".into()), "`answer`: \"dog\" is not a letter such as B or (B)"),
        (with("answer", Value::Null), "`answer` must be a string, found null"),
    ];
    for (lines, message) in cases {
        assert_eq!(read_error(id, &lines)?, format!("{place} {message}"));
    }
    let cut = line(1).to_string()[..40].to_string();
    let error = read_error(id, &[line(0).to_string(), cut])?;
    assert!(error.starts_with("DATA/bench/nano-ai2d.jsonl:2: EOF while parsing"), "{error}");
    assert_eq!(read_error(id, &["[1]".into()])?, "DATA/bench/nano-ai2d.jsonl:1: expected an object, found a list of 1");
    assert_eq!(read_error(id, &[])?, "DATA/bench/nano-ai2d.jsonl holds no questions");
    let missing = read_error(id, &with("image", "images/b.png".into()))?;
    assert_eq!(
        missing,
        "DATA/bench/nano-ai2d.jsonl: field `image`: 1 of 2 image files are missing, the first is DATA/images/b.png"
    );
    let error = read_error("nano-mme", &[open_line(0, "maybe").to_string()])?;
    assert_eq!(error, "DATA/bench/nano-mme.jsonl:1: field `answer`: \"maybe\" is neither yes nor no");
    let error = read_error("nano-mme", &[open_line(0, "yes").to_string()])?;
    assert!(error.contains("has 1 question(s) instead of 2"), "{error}");
    let error = read_error("nano-gqa", &[line(0).to_string()])?;
    assert!(error.contains("`options` is not allowed"), "{error}");
    let absent = bench(id).read(Path::new("/nowhere")).expect_err("no file").to_string();
    assert!(absent.starts_with("reading /nowhere/bench/nano-ai2d.jsonl: "), "{absent}");
    Ok(())
}

fn predictions(lines: &str) -> Result<(tempfile::TempDir, PathBuf), std::io::Error> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("p.jsonl");
    fs::write(&path, lines)?;
    Ok((dir, path))
}

#[test]
fn predictions_are_scored_and_their_faults_counted() -> Checked {
    let b = bench("nano-gqa");
    let qs = sample(b);
    let (_dir, path) = predictions(
        "{\"id\":\"q0\",\"answer\":\"Red.\"}\n{\"id\":\"q1\",\"answer\":\"12\",\"prompt\":\"x\"}\n\
         {\"id\":\"q1\",\"answer\":\"12\"}\n{\"id\":\"q2\",\"answer\":\"105\"}\n{\"id\":\"q2\",\"answer\":\"1\"}\n\
         {\"id\":\"q3\",\"answer\":\"\"}\n{\"id\":\"zz\",\"answer\":\"1\"}\n",
    )?;
    let (report, _) = bench::judge_predictions(b, &qs, bench::read_predictions(&path)?, Rules::Official)?;
    assert_eq!((report.missing.count, report.unknown.count, report.duplicates.count), (21, 1, 2));
    assert_eq!((report.unknown.first.as_slice(), report.duplicates.first.len()), (["zz".to_string()].as_slice(), 2));
    assert_eq!((report.outcome.n, report.outcome.n_unparsed), (24, 22));
    assert!((report.outcome.score - 200.0 / 24.0).abs() < 1e-9, "q0 and q1; q2 was answered in two ways");
    assert_eq!(
        (report.chance, report.constant_baseline),
        (b.chance(&qs, Rules::Official), b.constant_baseline(&qs, Rules::Official))
    );
    let back: bench::ScoreReport = serde_json::from_str(&serde_json::to_string(&report)?)?;
    assert_eq!(back, report);
    Ok(())
}

#[test]
fn predictions_that_do_not_fit_are_errors() -> Checked {
    let b = bench("nano-gqa");
    let strangers: HashMap<String, String> = [("x".to_string(), "red".to_string())].into();
    let error = bench::judge_predictions(b, &sample(b), strangers, Rules::Official).expect_err("strangers");
    assert!(error.to_string().contains("none of the 1 predictions"), "{error}");
    assert!(bench::judge_predictions(b, &sample(b), Predictions::default(), Rules::Official).is_err());
    for (lines, message) in [
        ("{\"answer\":\"4\"}", ":1: field `id` is missing; the fields are answer"),
        ("{\"id\":\"a\"}", ":1: field `prediction` is missing"),
        ("{\"id\":true,\"answer\":\"4\"}", ":1: field `id` must be a string or a number, found the boolean true"),
        (
            "{\"doc_id\":1,\"filtered_resps\":[[-1.5,false],[-2,true]]}",
            ":1: field `filtered_resps` is a list of several values, not one answer",
        ),
        (
            "{\"doc_id\":1,\"filtered_resps\":\"a\"}\n{\"id\":1,\"answer\":\"a\"}",
            ":2: an entry in the format of burgess follows entries in the format of lmms-eval",
        ),
        ("4", ":1: expected an object, found the number 4"),
    ] {
        let (_dir, path) = predictions(lines)?;
        let error = bench::read_predictions(&path).expect_err(lines).to_string();
        assert_eq!(error, format!("{}{message}", path.display()));
    }
    Ok(())
}

/// A file of the folder in which the harnesses' files lie.
fn of_harness(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/predictions").join(name)
}

#[test]
fn answers_of_other_harnesses_are_read() -> Checked {
    let b = bench("nano-gqa");
    let mut qs: Vec<Question> = (0..4).map(|n| question(n, &[], ["red", "12", "105", "two dogs"][n])).collect();
    for (i, q) in qs.iter_mut().enumerate() {
        (q.row, q.question) = (i as u64, format!("What is it, {i}?"));
    }
    for (file, harness) in [
        ("20260101_samples_gqa.jsonl", "lmms-eval"),
        ("model_GQA.xlsx", "VLMEvalKit"),
        ("model_GQA.tsv", "VLMEvalKit"),
        ("model_GQA.json", "VLMEvalKit"),
    ] {
        let (report, _) =
            bench::judge_predictions(b, &qs, bench::read_predictions(&of_harness(file))?, Rules::Official)?;
        assert_eq!(report.harness.as_str(), harness, "{file}");
        assert_eq!((report.outcome.score, report.missing.count, report.mismatched.count), (75.0, 0, 0), "{file}");
    }
    // The same rows of another edition: the questions are others, and are not scored as if they were these.
    qs.rotate_left(1);
    for file in ["20260101_samples_gqa.jsonl", "model_GQA.xlsx"] {
        let mut qs = qs.clone();
        if file.ends_with("jsonl") {
            // One target fits, so the form of targets is known.
            qs.swap(0, 3);
        }
        qs.iter_mut().enumerate().for_each(|(i, q)| q.row = i as u64);
        let error = bench::judge_predictions(b, &qs, bench::read_predictions(&of_harness(file))?, Rules::Official);
        let error = error.expect_err(file).to_string();
        assert!(error.contains("of 4 predictions are for other questions"), "{error}");
    }
    Ok(())
}
