//! `burgess ask --llm`: a language model alone, whose log-probabilities must equal those of `transformers` (goldens of
//! `tests/reference/ask.py` and `llm.py`).

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden() -> Value {
    let text = std::fs::read_to_string(root().join("tests/golden/ask.json")).expect("the golden");
    serde_json::from_str(&text).expect("JSON")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn ask(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(&[&["ask"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// Checks that tokens and log-probabilities equal those of the golden.
fn same(found: &[Value], wanted: &[Value]) {
    assert_eq!(found.len(), wanted.len());
    let near = |a: &Value, b: &Value| {
        assert_eq!(a["id"], b["id"]);
        let (a, b) = (a["logprob"].as_f64().expect("a number"), b["logprob"].as_f64().expect("a number"));
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    };
    for (found, wanted) in found.iter().zip(wanted) {
        near(found, wanted);
        for (found, wanted) in
            found["top"].as_array().expect("five").iter().zip(wanted["top"].as_array().expect("five"))
        {
            near(found, wanted);
            assert!(found["text"].is_string());
        }
    }
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    let (place, golden) = (TestDir::new(), golden());
    let list = |key: &str| golden[key].as_array().expect("a list").clone();
    let text = |key: &str| golden[key].as_str().expect("a text").to_string();
    let prompt = text("prompt");
    let steps = list("greedy").len().to_string();
    let raw = ["--llm", "nano-lm", "--raw", &prompt];
    let made = lines(&ask(&place, &[&raw[..], &["--max-new-tokens", &steps, "--logprobs", "--json"]].concat()));
    let (whole, tokens) = made.split_last().expect("lines");
    same(tokens, &list("greedy"));
    assert_eq!(whole["prompt_tokens"], golden["prompt_ids"].as_array().expect("ids").len());

    let scored = lines(&ask(&place, &[&raw[..], &["--continuation", &text("text"), "--json"]].concat()));
    let (whole, tokens) = scored.split_last().expect("lines");
    same(tokens, &list("continuation"));
    let sum: f64 = list("continuation").iter().filter_map(|t| t["logprob"].as_f64()).sum();
    assert!((whole["logprob"].as_f64().expect("a sum") - sum).abs() < 1e-3);

    // As a table, and as the plain answer; a model may be given as a directory instead of a name.
    let table = ask(&place, &[&raw[..], &["--max-new-tokens", &steps, "--logprobs"]].concat());
    assert!(table.contains("logprob") && table.contains("sum"), "{table}");
    let directory = root().join("probe/zoo/nano-lm").display().to_string();
    let plain = ask(&place, &["--llm", &directory, "--raw", &prompt, "--max-new-tokens", &steps]);
    assert!(table.starts_with(plain.trim_end()), "{plain:?} {table:?}");
    // With the model's chat template and sampling: the same seed gives the same answer.
    let drawn = ["--llm", "nano-lm", "How many cups?", "--temperature", "1.5", "--seed", "3", "--max-new-tokens", "8"];
    assert_eq!(ask(&place, &drawn), ask(&place, &drawn));
}

#[test]
fn what_cannot_be_asked_says_why() {
    let place = TestDir::new();
    let complaint = |args: &[&str], code: i32| {
        let output = place.run(&[&["ask"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        stderr(&output)
    };
    let tied = root().join("tests/golden/llm/llama-tied").display().to_string();
    assert!(complaint(&["--llm", &tied, "x"], 1).contains("tokenizer"));
    assert!(complaint(&["x"], 2).contains("--model"));
    assert!(complaint(&["--llm", "nano-lm", "--model", "m", "x"], 2).contains("cannot be used with"));
    assert!(complaint(&["--llm", "nano-lm", "--image", "i.png", "x"], 2).contains("cannot be used with"));
    assert!(complaint(&["--llm", "nano-lm", "--raw", "--chat", "phi3", "x"], 2).contains("cannot be used with"));
    assert!(complaint(&["--llm", "nano-ml", "x"], 2).contains("nano-lm"));
    assert!(complaint(&["--llm", "nano-lm", "--raw", "x", "--continuation", ""], 2).contains("--continuation"));
    let family = place.path().join("mamba");
    std::fs::create_dir(&family).expect("a directory");
    std::fs::copy(Path::new(&tied).join("model.safetensors"), family.join("model.safetensors")).expect("a copy");
    std::fs::write(family.join("config.json"), r#"{"model_type":"mamba"}"#).expect("a file");
    let text = complaint(&["--llm", "mamba", "x"], 1);
    assert!(
        text.contains("`mamba` is not supported") && text.contains("state") && text.contains("supported are llama"),
        "{text}"
    );
}
