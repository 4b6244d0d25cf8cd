//! The whole path on another device than `flex`, beside `flex`: `encode`, `rank`, `train`, `eval` and `ask` give the
//! same features, losses, answers and ranking up to numeric noise.
//!
//! `BURGESS_TEST_DEVICE` names the device; the tests are skipped without it. `.ci/wgpu` runs them on Debian's software
//! Vulkan. An error, not a skipped test, is the outcome if the binary was built without the device.

use burgess_tests::{TestDir, stderr, stdout};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The device under test; `None` (with a message) if there is none.
fn device(test: &str) -> Option<String> {
    match std::env::var("BURGESS_TEST_DEVICE") {
        Ok(name) if name != "flex" => Some(name),
        Ok(_) | Err(std::env::VarError::NotPresent) => {
            println!("{test}: skipped; set BURGESS_TEST_DEVICE=wgpu and build with --features burgess/wgpu (.ci/wgpu)");
            None
        }
        Err(e) => panic!("BURGESS_TEST_DEVICE: {e}"),
    }
}

/// Runs `burgess` and returns what it prints; prints the time it took.
fn run(place: &TestDir, args: &[&str]) -> String {
    let start = Instant::now();
    let output = place.run(args);
    assert!(output.status.success(), "burgess {}: {}", args.join(" "), stderr(&output));
    println!("{:6.1} s  burgess {}", start.elapsed().as_secs_f64(), args.join(" "));
    stdout(&output)
}

/// ‖a − b‖ / ‖b‖.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Compares the logs of two trainings: the same steps, with losses and gradient norms within 0.1 % and 1 %.
fn same_losses(what: &str, found: &Path, expected: &Path) {
    let (found, expected) = (lines(found), lines(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut worst = [0f64; 2];
    for (a, b) in found.iter().zip(&expected) {
        assert_eq!((&a["stage"], &a["step"], &a["tokens"]), (&b["stage"], &b["step"], &b["tokens"]), "{what}");
        for (worst, key) in worst.iter_mut().zip(["loss", "grad_norm"]) {
            *worst = worst.max((number(&a[key]) - number(&b[key])).abs() / number(&b[key]));
        }
    }
    println!("{what}: {} steps, losses within {:.1e}, gradient norms within {:.1e}", found.len(), worst[0], worst[1]);
    assert!(worst[0] < 1e-3 && worst[1] < 1e-2, "{what}: {worst:?}");
}

/// Counts the answers of two evaluations, and those that differ.
fn answers(found: &Path, expected: &Path) -> (usize, usize) {
    let (mut all, mut different) = (0, 0);
    let mut files: Vec<PathBuf> = std::fs::read_dir(expected).expect("samples").map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "jsonl"));
    assert!(!files.is_empty(), "{}", expected.display());
    for file in files {
        let (a, b) = (lines(&found.join(file.file_name().expect("a name"))), lines(&file));
        assert_eq!(a.len(), b.len(), "{}", file.display());
        for (a, b) in a.iter().zip(&b) {
            for key in ["answer", "blind"] {
                all += 1;
                different += usize::from(a[key] != b[key]);
            }
            assert_eq!((&a["id"], &a["question"]), (&b["id"], &b["question"]));
        }
    }
    (all, different)
}

const STUDY: &str = r#"
name = "tiny"
title = "A tiny study"
question = "Does every kind of arm give the same on every device?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = { mlp2x_gelu = { positions = true, standardise = true } }
benchmarks = ["nano-mme", "nano-ai2d", "nano-docvqa", "nano-cvbench-2d"]

[evaluator.data.world]
seed = 5
align = 16
tune = 16
turns = 3
per_benchmark = 4

[[arms]]
encoders = ["nano-sup"]
[[arms]]
encoders = ["nano-random"]
[[arms]]
encoders = ["nano-mae", "nano-dinov2"]
[[arms]]
encoders = ["nano-clip"]
freeze = "unfrozen"
[[arms]]
encoders = ["oracle"]

[evaluator.recipe.align]
steps = 4
batch = 4
lr = 1e-3
trainable = ["connector"]

[evaluator.recipe.tune]
steps = 6
batch = 4
optimiser = "muon"
lr = 5e-4
connector_lr = 2e-3
encoder_lr = 1e-4
trainable = ["connector", "llm"]
"#;

const ARMS: [&str; 5] = ["nano-sup", "nano-random", "nano-mae+nano-dinov2", "nano-clip-unfrozen", "oracle"];

/// Arms of a ranking in its order, each with its average.
fn ranked(root: &Path) -> Vec<(String, f64)> {
    let ranking = json(&root.join("ranking.json"));
    let arms = ranking["arms"].as_array().expect("a list of arms").clone();
    arms.iter()
        .map(|arm| (arm["arm"].as_str().expect("a name").to_string(), number(&arm["average"]["score"])))
        .collect()
}

#[test]
fn a_study_gives_the_same_ranking_as_on_flex() {
    let Some(device) = device("rank") else { return };
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    for (name, out) in [("flex", "flex"), (device.as_str(), "other")] {
        run(&place, &["rank", "tiny.toml", "--device", name, "--out", out]);
    }
    let [flex, other] = ["flex", "other"].map(|out| place.path().join(out).join("tiny"));
    let (mut all, mut different) = (0, 0);
    for arm in ARMS {
        let [a, b] = [&other, &flex].map(|root| root.join(arm).join("seed-0"));
        same_losses(arm, &a.join("train.jsonl"), &b.join("train.jsonl"));
        let (count, wrong) = answers(&a.join("samples"), &b.join("samples"));
        println!("{arm}: {} of {count} answers equal", count - wrong);
        (all, different) = (all + count, different + wrong);
    }
    let (found, expected) = (ranked(&other), ranked(&flex));
    println!("{:<28} {:>10}   {device}", "average", "flex");
    for (arm, average) in &expected {
        let here = found.iter().position(|(name, _)| name == arm).unwrap_or_else(|| panic!("{arm} is not ranked"));
        println!("{arm:<28} {average:>10.2}   {:.2}, place {}", found[here].1, here + 1);
        // As many points as the answers that differ can be worth.
        let worth = 100.0 * different as f64 / (all / (2 * ARMS.len())) as f64;
        assert!((found[here].1 - average).abs() <= worth + 1e-9, "{arm}: {found:?} {expected:?}");
    }
    if different == 0 {
        assert_eq!(found, expected);
    }
    assert!(different * 50 <= all, "{different} of {all} answers differ");
}

const RUN: &str = r#"
name = "small"
encoders = ["nano-sup"]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
[evaluator.data.world]
seed = 5
align = 16
tune = 16
turns = 3
per_benchmark = 6
[evaluator.recipe.align]
steps = 4
batch = 4
lr = 1e-3
trainable = ["connector"]
[evaluator.recipe.tune]
steps = 6
batch = 4
accumulate = 2
lr = 1e-3
trainable = ["connector", "llm"]
lora = { rank = 2, alpha = 4 }
checkpointing = true
max_length = 90
"#;

#[test]
fn features_training_evaluation_and_answers_equal_those_of_flex() {
    let Some(device) = device("encode, train, eval, ask") else { return };
    let place = TestDir::new();
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/encoders/picture.png").display().to_string();
    let devices = [("flex", "flex"), (device.as_str(), "other")];

    // Features of a transformer from a file, twice in one batch.
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/directories/timm-deit3").display().to_string();
    let features = devices.map(|(name, out)| {
        let file = format!("{out}.safetensors");
        run(&place, &["encode", &image, &image, "--encoder", &encoder, "--device", name, "-o", &file]);
        let bytes = std::fs::read(place.path().join(file)).expect("features");
        let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
        let view = tensors.tensor("features").expect("features");
        view.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect::<Vec<f64>>()
    });
    let off = difference(&features[1], &features[0]);
    println!("features within {off:.1e}");
    assert!(off < 1e-3, "features differ by {off:e}");

    place.file("small.toml", RUN);
    for (name, out) in devices {
        run(&place, &["train", "small.toml", "--device", name, "--out", out]);
    }
    let logs = ["other", "flex"].map(|out| place.path().join(out).join("train.jsonl"));
    same_losses("train", &logs[0], &logs[1]);

    // The model that was trained on flex is asked on both devices.
    let model = place.path().join("flex/model").display().to_string();
    let worlds = std::fs::read_dir(place.path().join("cache/worlds")).expect("worlds");
    let world = worlds.flatten().next().expect("a world").path().display().to_string();
    for (name, out) in devices {
        let list = "nano-mme,nano-docvqa";
        let more = ["--data", &world, "--likelihoods", "--name", "m", "--device", name, "--out", out];
        run(&place, &[&["eval", "--model", &model, "--benchmarks", list], &more[..]].concat());
    }
    let samples = ["other", "flex"].map(|out| place.path().join(out).join("eval/m/seed-0/samples"));
    let (count, different) = answers(&samples[0], &samples[1]);
    println!("eval: {} of {count} answers equal", count - different);
    assert!(different * 50 <= count, "{different} of {count} answers differ");

    for question in ["What is this?", "How many cups are there?"] {
        let answers = devices.map(|(name, _)| {
            run(&place, &["ask", "--model", &model, "--image", &image, question, "--device", name, "--json"])
        });
        assert_eq!(answers[0], answers[1], "{question}");
    }
    // A language model alone: log-probabilities of a text.
    let scored = devices.map(|(name, _)| {
        let text = ["ask", "--llm", "nano-lm", "--raw", "The cup", "--continuation", " is red.", "--json"];
        let printed = run(&place, &[&text[..], &["--device", name]].concat());
        let whole: Value = serde_json::from_str(printed.lines().last().expect("a line")).expect("JSON");
        number(&whole["logprob"])
    });
    println!("log-probability {} on flex, {} on {device}", scored[0], scored[1]);
    assert!((scored[0] - scored[1]).abs() < 1e-3 * scored[0].abs(), "{scored:?}");
}
