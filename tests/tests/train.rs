//! `burgess train` through the binary: killed and started again, on files with all kinds of entries, and with wrong
//! input.

mod events;

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const RECIPE: &str = r#"
[evaluator.recipe.align]
steps = 6
batch = 4
lr = 1e-3
trainable = ["connector"]

[evaluator.recipe.tune]
steps = 60
batch = 4
accumulate = 2
lr = 1e-3
trainable = ["connector", "llm"]
"#;

const WORLD: &str = "[evaluator.data.world]\nseed = 5\nalign = 16\ntune = 16\nturns = 3\nper_benchmark = 6\n";

/// Writes a small run on these data; `tune` holds further keys of its tune stage.
fn run_file(place: &TestDir, name: &str, data: &str, tune: &str) -> String {
    let text = format!(
        "name = \"{name}\"\nencoders = [\"nano-sup\"]\n[evaluator]\nllm = \"nano-lm\"\nconnector = \"mlp2x_gelu\"\n{data}{RECIPE}{tune}"
    );
    let file = format!("{name}.toml");
    place.file(&file, &text);
    file
}

fn log(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("train.jsonl")).expect("a log");
    text.lines()
        .map(|line| {
            let mut step: Value = serde_json::from_str(line).expect("JSON");
            step["seconds"] = Value::Null;
            step
        })
        .collect()
}

fn model(dir: &Path) -> Vec<Vec<u8>> {
    let files = ["config.json", "connector.safetensors", "llm/model.safetensors"];
    files.iter().map(|f| std::fs::read(dir.join("model").join(f)).expect("a model")).collect()
}

/// Directory of the rendered world, in which the images lie.
fn world(place: &TestDir) -> PathBuf {
    let worlds = place.path().join("cache/worlds");
    let mut found = std::fs::read_dir(worlds).expect("worlds").flatten();
    found.next().expect("a world").path()
}

#[test]
fn a_training_that_is_killed_goes_on_with_the_same_bits() {
    let place = TestDir::new();
    let run = run_file(&place, "small", WORLD, "");
    let whole = place.run(&["train", &run, "--out", "whole"]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    assert!(stdout(&whole).contains("whole/model"), "{}", stdout(&whole));

    let mut kills = 0;
    for attempt in 0..20 {
        let mut child = place
            .burgess(&["train", &run, "--out", "killed", "--keep-every", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("burgess starts");
        std::thread::sleep(Duration::from_millis(400 + 37 * attempt));
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        child.kill().expect("a running child");
        child.wait().expect("a child");
        kills += 1;
    }
    let ended = place.run(&["train", &run, "--out", "killed"]);
    assert!(ended.status.success(), "{}", stderr(&ended));
    println!("{kills} kills");
    assert!(kills > 0, "the training was too fast to be killed");
    let (whole, killed) = (place.path().join("whole"), place.path().join("killed"));
    assert_eq!(model(&killed), model(&whole));
    assert_eq!(log(&killed), log(&whole));
    assert_eq!(log(&whole).len(), 66);
    // The event files have each step of their log once, however often the training was killed.
    for run in [&whole, &killed] {
        assert_eq!(events::logged(&events::points(run)), events::expected(run));
    }
    assert!(!killed.join("state").exists(), "saved training states are removed at the end");

    // Nothing is left to do; other settings are rejected.
    let again = place.run(&["train", &run, "--out", "whole", "--json"]);
    assert!(stderr(&again).contains("already trained"), "{}", stderr(&again));
    assert!(serde_json::from_str::<Value>(&stdout(&again)).is_ok_and(|v| v["model"].is_string()));
    let text = std::fs::read_to_string(place.path().join(&run)).expect("the run").replace("lr = 1e-3", "lr = 2e-3");
    place.file(&run, &text);
    let refused = place.run(&["train", &run, "--out", "whole"]);
    assert!(!refused.status.success() && stderr(&refused).contains("recipe"), "{}", stderr(&refused));
}

#[test]
fn entries_of_all_kinds_are_used_or_counted() {
    let place = TestDir::new();
    let first = run_file(&place, "world", WORLD, "");
    assert!(place.run(&["train", &first]).status.success());
    let images = world(&place);
    let tune = std::fs::read_to_string(images.join("tune.jsonl")).expect("conversations");
    let one: Value = serde_json::from_str(tune.lines().next().expect("a line")).expect("JSON");
    let with = |image: Value, source: &str| {
        let mut entry = one.clone();
        entry["image"] = image;
        entry["source"] = source.into();
        if entry["image"].as_str().is_none_or(|i| i == "None") {
            for turn in entry["conversations"].as_array_mut().expect("turns") {
                turn["value"] = turn["value"].as_str().expect("text").replace("<image>", "").into();
            }
        }
        entry.to_string() + "\n"
    };
    place.file("broken.png", "no image");
    std::fs::copy(place.path().join("broken.png"), images.join("broken.png")).expect("copied");
    let mut lines = tune;
    lines += &with("None".into(), "");
    lines += &with(Value::Null, "");
    lines += &with("away/1.png".into(), "");
    lines += &with("away/2.png".into(), "");
    lines += &with("broken.png".into(), "bad");
    place.file("tune.jsonl", &lines);
    let data = format!(
        "[evaluator.data.files]\nalign = {:?}\ntune = \"tune.jsonl\"\nimages = {:?}\n",
        images.join("align.jsonl"),
        images
    );
    let options = "max_length = 60\norder = \"grouped_by_modality\"\nlora = { rank = 2, alpha = 4 }\n";
    let run = run_file(&place, "files", &data, options);
    let output = place.run(&["train", &run]);
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("2 conversations of away left out: their images cannot be read"), "{told}");
    assert!(told.contains("1 conversations of bad left out") && told.contains("broken.png"), "{told}");
    assert!(told.contains("are longer than max_length = 60, by"), "{told}");
    assert!(place.path().join("runs/files/model/llm/model.safetensors").is_file());

    // A malformed line is named; missing images are an error, not an empty training.
    place.file("tune.jsonl", &(lines + "{\"id\": 3,\n"));
    let output = place.run(&["train", &run, "--out", "other"]);
    assert!(stderr(&output).contains("tune.jsonl:22:"), "{}", stderr(&output));
    std::fs::create_dir(place.path().join("empty")).expect("a directory");
    let data = format!(
        "[evaluator.data.files]\nalign = {0:?}\ntune = {0:?}\nimages = \"empty\"\n",
        images.join("align.jsonl")
    );
    let run = run_file(&place, "nowhere", &data, "");
    let output = place.run(&["train", &run]);
    let told = stderr(&output);
    assert!(told.contains("none of the images of the 16 conversations") && told.contains("under empty"), "{told}");
}

#[test]
fn mistakes_in_a_run_are_named() {
    let place = TestDir::new();
    for (change, expected) in [
        ("accumulate = 9\n", "duplicate key"),
        ("lora = { rank = 0, alpha = 4 }\n", "`lora.rank` is 0, must be from 1"),
        ("lora = { rank = 4, alpha = 4, targets = [\"q\"] }\n", "no projection `q`"),
        ("sampler_lr = -1.0\n", "`sampler_lr` is negative"),
        ("max_length = 1\n", "`max_length`"),
        ("maximum = 1\n", "unknown field `maximum`"),
    ] {
        let run = run_file(&place, "wrong", WORLD, change);
        let output = place.run(&["train", &run]);
        assert_eq!(output.status.code(), Some(2), "{change}");
        assert!(stderr(&output).contains(expected), "{change}: {}", stderr(&output));
    }
    let run = run_file(&place, "short", WORLD, "max_length = 12\n");
    let output = place.run(&["train", &run]);
    assert!(stderr(&output).contains("raise `max_length` to"), "{}", stderr(&output));
}
