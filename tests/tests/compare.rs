//! `burgess compare` through the binary: files of scored answers in several formats, its outputs and its complaints.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};

/// Lines of answers to 40 questions about 20 images; of every ten questions the first `right` are right.
fn answers(place: &TestDir, name: &str, right: usize, line: impl Fn(usize, bool) -> Value) {
    let lines: String = (0..40).map(|i| format!("{}\n", line(i, i % 10 < right))).collect();
    place.file(name, &lines);
}

fn verdict(i: usize, right: bool) -> Value {
    json!({"id": format!("q{i}"), "unit": format!("u{}", i / 2), "subtask": "count", "answer": "a|b", "target": "a",
        "score": f64::from(u8::from(right))})
}

#[test]
fn files_are_compared_in_every_format() {
    let place = TestDir::new();
    answers(&place, "one.jsonl", 8, verdict);
    answers(&place, "two.jsonl", 3, verdict);
    let output = place.run(&["compare", "one.jsonl", "two.jsonl"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("one is 50.0 points above two on one (one − two: 95 % interval"), "{text}");
    assert!(text.contains("40 questions about 20 images or groups"), "{text}");
    let output = place.run(&["compare", "one.jsonl", "two.jsonl", "--format", "json", "--questions", "2"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let scope = &value["pairs"][0]["scopes"][0];
    assert_eq!((&scope["a"], &scope["b"], &scope["separable"]), (&json!(80.0), &json!(30.0), &json!(true)));
    assert_eq!(value["pairs"][0]["questions"].as_array().map(Vec::len), Some(2), "the second wins no question");
    for (format, part) in [("csv", "one,two,one,benchmark,"), ("md", "| one | 80.0 | 30.0 |"), ("latex", "\\toprule")] {
        let output = place.run(&["compare", "one.jsonl", "two.jsonl", "--format", format]);
        assert!(output.status.success() && stdout(&output).contains(part), "{format}: {}", stdout(&output));
        assert!(stderr(&output).is_empty(), "{}", stderr(&output));
        let file = format!("out.{format}");
        let written = place.run(&["compare", "one.jsonl", "two.jsonl", "--format", format, "-o", &file]);
        assert!(written.status.success() && stdout(&written).is_empty());
        assert_eq!(std::fs::read_to_string(place.path().join(&file)).expect("the file"), stdout(&output));
    }
}

#[test]
fn scores_of_other_harnesses_are_compared() {
    let place = TestDir::new();
    let lmms = |i: usize, right: bool| {
        json!({"doc_id": i, "doc": {"question": format!("q{i}?"), "image_id": i / 2}, "target": "a", "input": "p",
            "filtered_resps": ["a"], "exact_match": f64::from(u8::from(right)), "anls": 0.5})
    };
    answers(&place, "1_samples_gqa.jsonl", 8, lmms);
    answers(&place, "2_samples_gqa.jsonl", 3, lmms);
    let output = place.run(&["compare", "1_samples_gqa.jsonl", "2_samples_gqa.jsonl"]);
    let text = stdout(&output);
    assert!(text.contains("50.0 points above") && text.contains("on gqa"), "{text}{}", stderr(&output));
    let output =
        place.run(&["compare", "1_samples_gqa.jsonl", "2_samples_gqa.jsonl", "--metric", "anls", "--format", "json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(value["pairs"][0]["scopes"][0]["difference"], json!(0.0));
}

#[test]
fn what_cannot_be_compared_is_said() {
    let place = TestDir::new();
    answers(&place, "one.jsonl", 8, verdict);
    answers(&place, "other.jsonl", 8, |i, right| {
        let mut other = verdict(i, right);
        other["id"] = json!(format!("x{i}"));
        other
    });
    answers(&place, "plain.jsonl", 8, |i, _| json!({"id": i, "answer": "a"}));
    answers(&place, "nan.jsonl", 8, |i, _| json!({"id": format!("q{i}"), "score": null}));
    answers(&place, "twice.jsonl", 8, |i, right| verdict(i % 20, right));
    place.file("empty.jsonl", "");
    place.file("folder/file", "");
    for (a, b, code, part) in [
        ("one.jsonl", "one.jsonl", 2, "are the same"),
        ("one.jsonl", "nowhere", 2, "does not exist"),
        ("one.jsonl", "folder", 2, "neither a study, an arm nor a run"),
        ("one.jsonl", "plain.jsonl", 2, "records no scores"),
        ("one.jsonl", "empty.jsonl", 2, "is empty"),
        ("one.jsonl", "nan.jsonl", 1, "the score `score` of question `q0` is not a number"),
        ("one.jsonl", "twice.jsonl", 1, "the id `q0` occurs twice"),
        ("one.jsonl", "other.jsonl", 1, "no question in common"),
    ] {
        let output = place.run(&["compare", a, b]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{a} {b}: {text}");
        assert!(text.contains(part) && text.contains("\nhint: ") && stdout(&output).is_empty(), "{a} {b}: {text}");
    }
    let output = place.run(&["compare", "one.jsonl", "other.jsonl", "--detect", "-1"]);
    assert_eq!(output.status.code(), Some(2));
}
