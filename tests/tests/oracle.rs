//! The oracle baseline on a data directory with ground truth in `truth.jsonl`.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [200, 30, 30]), ("green", [30, 160, 40]), ("blue", [30, 40, 200]), ("white", [240; 3])];
/// Number of training images; `ASKED` is the number of images with questions.
const TRAINED: usize = 12;
const ASKED: usize = 4;

fn image(i: usize) -> String {
    format!("images/{i}.png")
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| row.to_string() + "\n").collect()
}

/// Makes a data directory: black images with a square of one colour, and their ground truth on a grid of 2×3 cells.
fn data(place: &TestDir) {
    std::fs::create_dir_all(place.path().join("data/images")).expect("a directory");
    std::fs::create_dir_all(place.path().join("data/bench")).expect("a directory");
    let colour = |i: usize| COLOURS[i % COLOURS.len()];
    for i in 0..TRAINED + ASKED {
        let shown =
            image::RgbImage::from_fn(24, 24, |x, y| image::Rgb(if x < 12 && y < 8 { colour(i).1 } else { [0; 3] }));
        shown.save(place.path().join("data").join(image(i))).expect("an image");
    }
    let talk = |i: usize, question: &str, answer: String| {
        json!({"id": format!("c{i}"), "image": image(i), "conversations": [
            {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
    };
    let align = (0..TRAINED).map(|i| talk(i, "Describe the image.", format!("a {} box", colour(i).0)));
    place.file("data/align.jsonl", &lines(align));
    let tune = (0..TRAINED).map(|i| talk(i, "What colour is the box?", colour(i).0.to_string()));
    place.file("data/tune.jsonl", &lines(tune));
    let asked = (TRAINED..TRAINED + ASKED).map(|i| {
        json!({"id": format!("q{i}"), "image": image(i), "image_id": format!("{i}"), "question": "What colour is the box?",
            "answer": colour(i).0, "subtask": "colour", "unit": format!("{i}")})
    });
    place.file("data/bench/nano-gqa.jsonl", &lines(asked));
    place.file("data/truth.jsonl", &truth(|i| colour(i).0));
}

fn truth(colour: impl Fn(usize) -> &'static str) -> String {
    lines((0..TRAINED + ASKED).map(|i| {
        let cells = json!([[colour(i), "box"], [], [], [colour(i), "box", "center"], [], []]);
        json!({"image": image(i), "grid": [2, 3], "cells": cells})
    }))
}

/// Writes a study on these data with these arms; `evaluator` holds further keys of its evaluator.
fn study(place: &TestDir, name: &str, evaluator: &str, arms: &[&str]) -> String {
    let arms: String = arms.iter().map(|arm| format!("[[arms]]\nencoders = [\"{arm}\"]\n")).collect();
    let text = format!(
        "name = \"{name}\"\ntitle = \"Boxes\"\nquestion = \"Which colour?\"\nseeds = [0]\n{arms}[evaluator]\nllm = \"nano-lm\"\n\
         connector = \"mlp2x_gelu\"\nbenchmarks = [\"nano-gqa\"]\n{evaluator}data = {{ directory = \"data\" }}\n{RECIPE}"
    );
    let file = format!("{name}.toml");
    place.file(&file, &text);
    file
}

const RECIPE: &str = "[evaluator.recipe.align]\nsteps = 6\nbatch = 4\nlr = 1e-3\ntrainable = [\"connector\"]\n\
    [evaluator.recipe.tune]\nsteps = 12\nbatch = 4\nlr = 1e-3\ntrainable = [\"connector\", \"llm\"]\n";

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
}

fn run_of(place: &TestDir, study: &str, arm: &str) -> PathBuf {
    place.path().join("runs").join(study).join(arm).join("seed-0")
}

/// Reads the results of a run without the fields that may differ between two runs.
fn results(run: &Path) -> Value {
    let mut results = read(&run.join("results.json"));
    results["date"] = Value::Null;
    results["results"]["nano-gqa"]["seconds"] = Value::Null;
    results["cost"]["train_seconds"] = Value::Null;
    results["cost"]["peak_memory_bytes"] = Value::Null;
    results
}

#[test]
fn the_oracle_trains_answers_and_is_kept_like_any_arm() {
    let place = TestDir::new();
    data(&place);
    let file = study(&place, "boxes", "", &["oracle", "nano-random"]);

    let planned = place.run(&["rank", &file, "--dry-run"]);
    assert!(planned.status.success(), "{}", stderr(&planned));
    let plan = stdout(&planned);
    assert!(plan.contains("oracle") && plan.contains("note: oracle: features are the ground truth"), "{plan}");

    let done = place.run(&["rank", &file]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("oracle"), "{}", stdout(&done));
    let run = run_of(&place, "boxes", "oracle");
    let first = results(&run);
    assert_eq!((&first["run"]["role"], &first["run"]["encoders"]), (&json!("oracle"), &json!(["oracle"])));
    assert_eq!(results(&run_of(&place, "boxes", "nano-random"))["run"]["role"], "random");
    let cost = &first["cost"];
    assert_eq!((&cost["encoder_params"], &cost["gflops_per_image"]), (&json!(0), &json!(0.0)), "{cost}");
    assert_eq!((&cost["images_per_second"], &cost["tokens"]), (&Value::Null, &json!(6)), "{cost}");
    assert!(first["notes"][0].as_str().is_some_and(|n| n.contains("no parameters and no operations")), "{first}");
    assert_eq!(first["results"]["nano-gqa"]["n"], ASKED);
    let cards = read(&run.join("model/cards.json"));
    assert_eq!((&cards[0]["oracle"]["grid"], &cards[0]["card"]), (&json!([2, 3]), &Value::Null), "{cards}");

    // Nothing is left to do. If the run is removed, its features are still in the cache and give identical results.
    assert!(place.run(&["rank", &file]).status.success());
    assert_eq!(results(&run), first);
    std::fs::remove_dir_all(place.path().join("runs/boxes/oracle")).expect("removed");
    let again = place.run(&["rank", &file]);
    assert!(again.status.success() && !stderr(&again).contains("encoded"), "{}", stderr(&again));
    assert_eq!(results(&run), first);

    // The same run, killed several times.
    std::fs::remove_dir_all(place.path().join("runs/boxes/oracle")).expect("removed");
    for attempt in 0..4 {
        let mut child = place.burgess(&["rank", &file]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("burgess starts");
        std::thread::sleep(Duration::from_millis(250 + 250 * attempt));
        child.kill().expect("killed");
        child.wait().expect("a child");
    }
    assert!(place.run(&["rank", &file]).status.success());
    assert_eq!(results(&run), first);

    // Computed features instead of cached ones, and a grey image for the blind baseline.
    let other = study(&place, "computed", "features = \"computed\"\nblind = \"grey\"\n", &["oracle"]);
    let computed = place.run(&["rank", &other]);
    assert!(computed.status.success(), "{}", stderr(&computed));
    let answers = |run: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(run.join("samples/nano-gqa.jsonl")).expect("samples");
        text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["answer"].to_string()).collect()
    };
    assert_eq!(answers(&run_of(&place, "computed", "oracle")), answers(&run));

    // The model alone can be evaluated on the same data, but cannot be asked about an image file.
    let model = run.join("model").display().to_string();
    let asked =
        place.run(&["eval", "--model", &model, "--benchmarks", "nano-gqa", "--data", "data", "--name", "again"]);
    assert!(asked.status.success(), "{}", stderr(&asked));
    let asked = read(&place.path().join("runs/eval/again/seed-0/results.json"));
    assert_eq!(asked["results"]["nano-gqa"]["score"], first["results"]["nano-gqa"]["score"]);
    assert_eq!(asked["run"]["role"], "oracle");
    assert_eq!(asked["run"]["llm"], "llama");
    assert!(place.run(&["ask", "--model", &model, "What colour is a box?"]).status.success());
    let refused = place.run(&["ask", "--model", &model, "--image", "data/images/0.png", "What colour is the box?"]);
    assert!(
        stderr(&refused).contains("`oracle` is no encoder") && stderr(&refused).contains("hint"),
        "{}",
        stderr(&refused)
    );

    // Other ground truth changes the inputs of the oracle's run only.
    place.file("data/truth.jsonl", &truth(|_| "grey"));
    let changed = place.run(&["rank", &file]);
    assert_eq!(changed.status.code(), Some(1), "{}", stderr(&changed));
    let told = stderr(&changed);
    assert!(told.contains("oracle (seed 0) failed") && told.contains("other inputs: encoders.oracle"), "{told}");
    assert!(!told.contains("nano-random (seed 0) failed"), "{told}");
    let fresh = place.run(&["rank", &file, "--encoders", "oracle", "--out", "fresh"]);
    assert!(fresh.status.success() && stderr(&fresh).contains("encoded 16 images"), "{}", stderr(&fresh));
}

#[test]
fn what_the_oracle_cannot_use_is_named_before_work_starts() {
    let place = TestDir::new();
    data(&place);
    let whole = std::fs::read_to_string(place.path().join("data/truth.jsonl")).expect("the ground truth");
    let file = study(&place, "boxes", "", &["nano-sup"]);
    let say = |arm: &str, truth: Option<&str>| {
        let path = place.path().join("data/truth.jsonl");
        match truth {
            Some(text) => std::fs::write(&path, text).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let output = place.run(&["rank", &file, "--dry-run", "--encoders", arm]);
        let told = stderr(&output);
        assert!(!output.status.success() && told.contains("hint: "), "{arm}: {told}");
        told
    };
    let without_last: String = whole.lines().take(TRAINED + ASKED - 1).map(|l| format!("{l}\n")).collect();
    for (arm, truth, expected) in [
        ("oracle", Some(without_last.as_str()), "truth.jsonl has no line for the image images/15.png, one of 1 of 16"),
        ("oracle", Some(&*whole.replacen("[2,3]", "[2,2]", 1)), "there are 6 cells, expected 4 for the grid 2×2"),
        ("oracle", Some(&*(whole.clone() + "{\"image\": 3}\n")), "invalid type: integer `3`"),
        ("oracle:unfrozen", Some(&*whole), "it has no parameters to train"),
        ("oracle+nano-sup", Some(&*whole), "the oracle cannot be combined"),
        ("oracle", None, "the data have no ground truth for the oracle: "),
    ] {
        let told = say(arm, truth);
        assert!(told.contains(expected), "{expected}: {told}");
    }
    // Other arms need no ground truth.
    assert!(place.run(&["rank", &file, "--dry-run"]).status.success());
    assert!(!place.path().join("runs").exists() && !place.path().join("cache/features").exists());

    // With conversations and images in separate places, the ground truth lies beside the images.
    place.file("data/truth.jsonl", &whole);
    let text = format!(
        "name = \"files\"\nencoders = [\"oracle\"]\n[evaluator]\nllm = \"nano-lm\"\nconnector = \"mlp2x_gelu\"\n\
         [evaluator.data.files]\nalign = \"data/align.jsonl\"\ntune = \"data/tune.jsonl\"\nimages = \"data\"\n{RECIPE}"
    );
    place.file("files.toml", &text);
    let trained = place.run(&["train", "files.toml"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    assert!(place.path().join("runs/files/model/cards.json").is_file());
}

#[test]
fn a_rendered_world_has_ground_truth_of_all_its_images() {
    let place = TestDir::new();
    data(&place);
    let file = study(&place, "world", "", &["oracle"]);
    let text = std::fs::read_to_string(place.path().join(&file)).expect("the study");
    let world = "world = { seed = 5, align = 8, tune = 8, turns = 2, per_benchmark = 4 }";
    let benchmarks = text.replace("[\"nano-gqa\"]", "[\"nano-gqa\", \"nano-cvbench-3d\", \"nano-chartqa\"]");
    place.file(&file, &benchmarks.replace("directory = \"data\"", world));
    // A plan needs no images.
    let planned = place.run(&["rank", &file, "--dry-run"]);
    assert!(planned.status.success(), "{}", stderr(&planned));
    let row = stdout(&planned).lines().find(|l| l.contains("oracle  ") && l.contains("none")).map(str::to_string);
    assert!(row.is_some_and(|row| row.split_whitespace().any(|cell| cell == "16")), "{}", stdout(&planned));
    assert!(!place.path().join("cache/worlds").exists());
    let done = place.run(&["rank", &file]);
    assert!(done.status.success(), "{}", stderr(&done));
    let found = read(&run_of(&place, "world", "oracle").join("results.json"));
    assert_eq!((&found["run"]["role"], &found["cost"]["tokens"]), (&json!("oracle"), &json!(16)));
}
