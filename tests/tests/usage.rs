//! Output that users see: help, lists, and errors with their hints. The snapshots lie in `snapshots/`.

use burgess_tests::{TestDir, stderr, stdout};

/// Returns standard error and exit code, with values that differ between machines replaced.
fn complaint(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    let text = stderr(&output).replace(&place.path().display().to_string(), "HERE");
    format!("exit code {}\n{text}", output.status.code().unwrap_or(-1))
}

#[test]
fn help() {
    let place = TestDir::new();
    insta::assert_snapshot!("help", stdout(&place.run(&["--help"])));
    for verb in [
        "rank",
        "report",
        "compare",
        "predict",
        "study",
        "data",
        "encoders",
        "fetch",
        "encode",
        "pretrain",
        "train",
        "score",
        "bench",
        "doctor",
        "launch",
        "status",
        "zoo",
        "serve",
        "export",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(format!("help-{verb}"), stdout(&place.run(&[verb, "--help"])));
    }
    insta::assert_snapshot!("help-data-mix", stdout(&place.run(&["data", "mix", "--help"])));
    for form in ["score", "diff"] {
        insta::assert_snapshot!(format!("help-zoo-{form}"), stdout(&place.run(&["zoo", form, "--help"])));
    }
    for form in ["slurm", "list", "run", "hq"] {
        insta::assert_snapshot!(format!("help-launch-{form}"), stdout(&place.run(&["launch", form, "--help"])));
    }
}

#[test]
fn the_zoo() {
    let place = TestDir::new();
    insta::assert_snapshot!("encoders", stdout(&place.run(&["encoders"])));
    let one = place.run(&["encoders", "nano-clip", "--json"]);
    let card: serde_json::Value = serde_json::from_str(&stdout(&one)).expect("JSON");
    assert_eq!(card["card"]["id"], "nano-clip");
}

#[test]
fn studies_keys_and_schemas() {
    let place = TestDir::new();
    insta::assert_snapshot!("study", stdout(&place.run(&["study"])));
    insta::assert_snapshot!("study-keys", stdout(&place.run(&["study", "--keys", "evaluator.recipe.align.lora"])));
    // What is printed is the study itself: a copy of it can be ranked.
    place.file("mine.toml", &stdout(&place.run(&["study", "nano"])));
    assert!(place.run(&["rank", "mine.toml", "--dry-run"]).status.success());
    let schema: serde_json::Value = serde_json::from_str(&stdout(&place.run(&["study", "--schema"]))).expect("JSON");
    assert_eq!(schema["required"].as_array().map(Vec::len), Some(6));
}

#[test]
fn wrong_usage_is_answered_with_a_hint() {
    let place = TestDir::new();
    place.file("broken.toml", "name = \"x\"\ntitle = \"x\"\nquestion = \"x\"\nseeds = [0]\nsede = 1\n");
    place.file("noise.png", "this is no image");
    insta::assert_snapshot!("unknown-encoder", complaint(&place, &["rank", "nano", "--encoders", "nano-clp"]));
    insta::assert_snapshot!("unknown-study", complaint(&place, &["rank", "nanno"]));
    insta::assert_snapshot!("unknown-built-in-study", complaint(&place, &["study", "nanno"]));
    insta::assert_snapshot!("unknown-key", complaint(&place, &["study", "--keys", "evaluator.recipe.warmpu"]));
    insta::assert_snapshot!("no-full-study", complaint(&place, &["rank", "cambrian-1/sva", "--full"]));
    insta::assert_snapshot!("unknown-device", complaint(&place, &["rank", "nano", "--device", "gpu"]));
    insta::assert_snapshot!("malformed-study", complaint(&place, &["rank", "broken.toml"]));
    insta::assert_snapshot!("unknown-verb", complaint(&place, &["rnak"]));
    insta::assert_snapshot!("field-not-prepared", complaint(&place, &["rank", "field", "--dry-run"]));
    insta::assert_snapshot!("no-packages", complaint(&place, &["data", "field", "--from", "nowhere"]));
    insta::assert_snapshot!("no-study-directory", complaint(&place, &["report", "nowhere"]));
    insta::assert_snapshot!(
        "not-an-image",
        complaint(&place, &["encode", "noise.png", "--encoder", "nano-sup", "-o", "f.safetensors"])
    );
    assert!(!place.path().join("f.safetensors").exists());
}

#[test]
fn unwritable_output_says_so_and_leaves_nothing() {
    let place = TestDir::new();
    place.file("file", "");
    let text = complaint(&place, &["rank", "nano", "--out", "file/below"]);
    assert!(text.starts_with("exit code 1\n") && text.contains("file/below"), "{text}");
}

#[test]
fn doctor_tells_what_is_there() {
    let place = TestDir::new();
    let output = place.run(&["doctor", "--quick", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> = serde_json::from_str(&stdout(&output)).expect("JSON");
    let flex = lines.iter().find(|l| l["what"] == "device flex").expect("the default device");
    assert_eq!(flex["state"], "ok");
}

#[test]
fn encoding_writes_features_that_name_their_images() {
    let place = TestDir::new();
    for (name, shade) in [("a.png", 40), ("b.png", 200)] {
        image::RgbImage::from_pixel(120, 80, image::Rgb([shade, 90, 30]))
            .save(place.path().join(name))
            .expect("an image");
    }
    let output = place.run(&["encode", "a.png", "b.png", "--encoder", "nano-sup", "-o", "f.safetensors"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let bytes = std::fs::read(place.path().join("f.safetensors")).expect("features");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(tensors.tensor("features").expect("features").shape(), [2, 16, 128]);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("metadata");
    let names = metadata.metadata().as_ref().and_then(|m| m.get("images")).expect("names");
    assert_eq!(names, "[\"a.png\",\"b.png\"]");
}

#[test]
fn scoring_reads_anyones_answers() {
    let place = TestDir::new();
    std::fs::create_dir_all(place.path().join("data/bench")).expect("a directory");
    image::RgbImage::new(8, 8).save(place.path().join("data/p.png")).expect("an image");
    let line = |id: &str, answer: &str| {
        format!(
            "{{\"id\":\"{id}\",\"image\":\"p.png\",\"image_id\":\"{id}\",\"question\":\"What is written?\",\"answer\":\"{answer}\",\"subtask\":\"word\",\"unit\":\"{id}\"}}\n"
        )
    };
    place.file("data/bench/nano-docvqa.jsonl", &format!("{}{}", line("a", "boat"), line("b", "42")));
    place.file("answers.jsonl", "{\"id\":\"a\",\"answer\":\"BOAT\"}\n{\"id\":\"b\",\"answer\":\"24\"}\n");
    let args = ["score", "nano-docvqa", "--data", "data", "--predictions", "answers.jsonl"];
    let output = place.run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("50.00"), "{}", stdout(&output));
    place.file("answers.jsonl", "{\"id\":\"a\",\"answer\":\"boat\"}\n{\"id\"");
    let broken = complaint(&place, &args);
    assert!(broken.contains("answers.jsonl:2") && broken.starts_with("exit code 1"), "{broken}");
}
