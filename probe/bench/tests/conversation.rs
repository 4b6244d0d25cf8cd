//! Open questions with reference answers: ROUGE-L against the Python package, the editions of LLaVA-Bench, one's own
//! questions, and what the score distinguishes (fixtures and goldens of `tests/reference/benchmarks_conversation.py`).

use burgess_bench::{self as bench, AnswerScore, Benchmark, BenchmarkOutcome, Question, Rules, overlap, read_images};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

type Checked = Result<(), Box<dyn std::error::Error>>;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn score(b: &dyn Benchmark, qs: &[Question], answer: impl Fn(usize, &Question) -> String) -> BenchmarkOutcome {
    let judged: Vec<AnswerScore> =
        qs.iter().enumerate().map(|(i, q)| b.judge(q, &answer(i, q), Rules::Official)).collect();
    b.aggregate(qs, &judged, Rules::Official).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn rouge_l_is_that_of_the_python_package() -> Checked {
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(golden("scorers/rouge_l.json"))?)?;
    let text = |case: &Value, field: &str| case[field].as_str().unwrap_or_default().to_string();
    let mut wrong = Vec::new();
    for case in &cases {
        let ours = overlap::rouge_l(&text(case, "answer"), &text(case, "reference"));
        for (name, ours) in [("precision", ours.precision), ("recall", ours.recall), ("f1", ours.f1)] {
            if (ours - case[name].as_f64().unwrap_or(f64::NAN)).abs() > 1e-12 {
                wrong.push(format!("{name} is {ours}: {case}"));
            }
        }
    }
    assert!(wrong.is_empty() && cases.len() == 400, "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_edition_has_the_same_questions() -> Checked {
    let texts = |qs: &[Question]| -> Vec<(String, String, String, String, Option<String>)> {
        let of =
            |q: &Question| (q.id.clone(), q.question.clone(), q.answer.clone(), q.subtask.clone(), q.context.clone());
        qs.iter().map(of).collect()
    };
    for (id, editions) in
        [("llava-bench-wild", ["authors", "vlmevalkit"].as_slice()), ("llava-bench-coco", &["authors"])]
    {
        let hub = of(id).read(&golden("benchmarks").join(id))?;
        assert_eq!((hub.len(), hub.skipped.len(), hub[1].subtask.as_str()), (6, 0, "detail"), "{id}");
        for edition in editions {
            let qs = of(id).read(&golden("benchmarks").join(id).join(edition))?;
            assert_eq!(texts(&qs), texts(&hub), "{id} {edition}");
            // Questions about one image are one unit in every edition.
            let units = |qs: &[Question]| -> Vec<bool> { qs.windows(2).map(|w| w[0].unit == w[1].unit).collect() };
            assert_eq!(units(&qs), [true, true, false, true, false], "{id} {edition}");
            assert_eq!(units(&hub), units(&qs), "{id} {edition}");
            let images: Vec<_> = qs.iter().flat_map(|q| &q.images).collect();
            assert!(read_images(&images).into_iter().all(|bytes| bytes.is_ok()), "{id} {edition}");
        }
    }
    Ok(())
}

#[test]
fn the_authors_edition_with_gaps_is_read_and_the_gaps_are_counted() -> Checked {
    let dir = tempfile::tempdir()?;
    let from = golden("benchmarks/llava-bench-wild/authors");
    fs::create_dir(dir.path().join("images"))?;
    for image in ["001.jpg", "002.jpg"] {
        fs::copy(from.join("images").join(image), dir.path().join("images").join(image))?;
    }
    fs::copy(from.join("questions.jsonl"), dir.path().join("questions.jsonl"))?;
    // The answer to question 1 is missing, as are the image of question 5 and all descriptions.
    let answers = fs::read_to_string(from.join("answers_gpt4.jsonl"))?;
    let kept: Vec<&str> = answers.lines().filter(|line| !line.contains("\"question_id\": 1,")).collect();
    fs::write(dir.path().join("answers_gpt4.jsonl"), kept.join("\n"))?;
    let read = of("llava-bench-wild").read(dir.path())?;
    let skipped: Vec<(&str, usize)> = read.skipped.iter().map(|s| (s.why.as_str(), s.count)).collect();
    assert_eq!(read.len(), 4);
    assert!(read.iter().all(|q| q.context.is_none()));
    assert!(skipped.contains(&("answers_gpt4.jsonl holds no answer to the question", 1)), "{skipped:?}");
    assert!(skipped.contains(&("the image file is missing", 1)), "{skipped:?}");
    fs::write(dir.path().join("answers_gpt4.jsonl"), "{\"question_id\": 0, \"text\": [3]}")?;
    let error = of("llava-bench-wild").read(dir.path()).expect_err("no text").to_string();
    assert!(error.contains("answers_gpt4.jsonl:1: field `text` must be a list of texts, found a list of 1"), "{error}");
    Ok(())
}

/// Twelve questions about six images, each with two references.
fn own() -> Vec<Question> {
    let things = ["lighthouse", "tractor", "violin", "penguin", "volcano", "kettle"];
    let places = ["harbour", "meadow", "stage", "ice", "island", "kitchen"];
    let make = |n: usize| {
        let (thing, place) = (things[n / 2], places[n / 2]);
        let accepted = match n % 2 {
            0 => vec![
                format!("The image shows an old {thing} in the middle of a {place}, under a grey sky."),
                format!("An old {thing} stands under a grey sky; around it is a {place}."),
            ],
            _ => vec![format!("Because the {place} is wet after the rain, the {thing} glistens in the evening light.")],
        };
        Question {
            id: format!("q{n}"),
            image_id: format!("i{}", n / 2),
            unit: format!("i{}", n / 2),
            question: ["Describe the image.", "Why does it glisten?"][n % 2].into(),
            answer: accepted[0].clone(),
            accepted,
            subtask: ["detail", "complex"][n % 2].into(),
            ..Question::default()
        }
    };
    (0..12).map(make).collect()
}

#[test]
fn the_score_orders_answers_as_it_should() {
    let (b, qs) = (of("conversation"), own());
    let value = |outcome: &BenchmarkOutcome, name: &str| outcome.subtasks.get(name).copied().unwrap_or(f64::NAN);
    let reference = score(b, &qs, |_, q| q.answer.clone());
    let second = score(b, &qs, |_, q| q.accepted.last().cloned().unwrap_or_default());
    let shuffled = score(b, &qs, |i, _| qs[(i + 2) % 12].answer.clone());
    let word = score(b, &qs, |i, _| ["lighthouse", "tractor", "violin", "penguin", "volcano", "kettle"][i / 2].into());
    let looping = score(b, &qs, |_, q| format!("{} ", q.answer).repeat(5));
    let half = score(b, &qs, |_, q| q.answer.split(',').next().unwrap_or_default().into());
    let refusal = score(b, &qs, |_, _| "I'm sorry, but I cannot see the image.".into());
    let random = score(b, &qs, |i, _| format!("{} purple monday algebra seventeen", "xyz".repeat(i)));
    let empty = score(b, &qs, |_, _| " ".into());
    let chance = b.chance(&qs, Rules::Official);
    assert_eq!([reference.score, second.score, empty.score, random.score], [100.0, 100.0, 0.0, 0.0]);
    assert_eq!((empty.n_unparsed, refusal.n_unparsed), (12, 0));
    let scores = [half.score, shuffled.score, looping.score, word.score, refusal.score];
    assert!(half.score > 60.0 && half.score < 100.0, "{scores:?}");
    assert!((20.0..45.0).contains(&looping.score), "{scores:?}");
    assert!(word.score < 30.0 && refusal.score < 15.0, "{scores:?}");
    // References of the question of the same kind about the next image share a frame of words, others little.
    assert!(shuffled.score > chance && (5.0..60.0).contains(&chance), "{chance} {scores:?}");
    for (outcome, name, expected) in [
        (&reference, "ROUGE-L F1", 100.0),
        (&reference, "recall of content words", 100.0),
        (&word, "precision of content words", 100.0),
        (&word, "answers of one word", 100.0),
        (&word, "answers shorter than half the shortest reference", 100.0),
        (&looping, "loops", 100.0),
        (&looping, "recall of content words", 100.0),
        (&refusal, "refusals", 100.0),
        (&reference, "refusals", 0.0),
        (&reference, "loops", 0.0),
        (&empty, "answers of one word", 0.0),
    ] {
        assert_eq!(value(outcome, name), expected, "{name}");
    }
    assert!(b.chance(&qs[..1], Rules::Official) == 0.0 && b.chance(&[], Rules::Official).is_nan());
    assert!(b.constant_baseline(&qs, Rules::Official) < 60.0);
}

/// Data with a question file of these lines beside one image.
fn data(lines: &[Value]) -> Result<tempfile::TempDir, std::io::Error> {
    let dir = tempfile::tempdir()?;
    fs::create_dir_all(dir.path().join("bench"))?;
    fs::write(dir.path().join("a.png"), "")?;
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(dir.path().join("bench/conversation.jsonl"), text.join("\n"))?;
    Ok(dir)
}

#[test]
fn own_questions_are_read_and_faults_are_named_with_line_and_field() -> Checked {
    let good = json!({"id": "1", "image": "a.png", "question": "Why?", "answers": ["Because.", "It rains."]});
    let full = json!({"id": "2", "image": ["a.png", "a.png"], "image_id": "a", "question": "Why?", "answer": "So.",
                      "context": "Rain.", "subtask": "s", "unit": "u"});
    let blind = json!({"id": "3", "image": null, "question": "Why?", "answer": "So."});
    let dir = data(&[good.clone(), full, blind])?;
    let qs = of("conversation").read(dir.path())?;
    assert_eq!(qs, of("conversation").read(dir.path())?, "the same again");
    let shape = |q: &Question| (q.images.len(), q.accepted.len(), q.unit.clone(), q.subtask.clone());
    let shapes: Vec<_> = qs.iter().map(shape).collect();
    let expected = [(1, 2, "a.png", "all"), (2, 1, "u", "s"), (0, 1, "line 3", "all")];
    assert_eq!(shapes, expected.map(|(i, a, unit, subtask)| (i, a, unit.to_string(), subtask.to_string())));
    // The file alone, with images beside it.
    fs::copy(dir.path().join("bench/conversation.jsonl"), dir.path().join("mine.jsonl"))?;
    assert_eq!(of("conversation").read(&dir.path().join("mine.jsonl"))?.len(), 3);
    let with = |field: &str, value: Value| {
        let mut line = good.clone();
        line["id"] = "9".into();
        line[field] = value;
        line
    };
    for (line, message) in [
        (with("id", "1".into()), "field `id`: `1` is already on line 1"),
        (with("question", "".into()), "field `question` is empty"),
        (with("answers", json!([])), "field `answers` is missing or empty"),
        (with("answers", json!(["a", " "])), "field `answers` must be a list of texts that are not blank"),
        (with("answer", "b".into()), "fields `answer` and `answers` are both given"),
        (with("image", json!([3])), "field `image` must be a list of texts that are not blank, found the number 3"),
        (with("colour", "red".into()), "field `colour` is unknown"),
        (json!([1]), "expected an object, found a list of 1"),
    ] {
        let dir = data(&[good.clone(), line])?;
        let error = of("conversation").read(dir.path()).expect_err(message).to_string();
        assert!(error.contains(&format!("conversation.jsonl:2: {message}")), "{error}");
    }
    let dir = data(&[with("image", "b.png".into())])?;
    let error = of("conversation").read(dir.path()).expect_err("no image").to_string();
    assert!(error.contains("1 of 1 image files are missing"), "{error}");
    Ok(())
}
