//! Several processes work on the same study at once, as on a cluster: in one directory, with one feature cache.

use burgess_tests::{TestDir, files, remove_measured, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const STUDY: &str = r#"
name = "tiny"
title = "A tiny study"
question = "Do processes share it?"
seeds = [0, 1]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-mme", "nano-docvqa"]

[evaluator.data.world]
seed = 5
align = 160
tune = 16
turns = 3
per_benchmark = 6

[[arms]]
encoders = ["nano-sup"]
[[arms]]
encoders = ["nano-random"]
[[arms]]
encoders = ["nano-mae", "nano-dinov2"]

[evaluator.recipe.align]
steps = 4
batch = 4
lr = 1e-3
trainable = ["connector"]

[evaluator.recipe.tune]
steps = 6
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

/// Reads every `results.json` without the fields that may differ between two runs: times, dates, memory, throughput.
fn results(dir: &Path) -> BTreeMap<PathBuf, Value> {
    let read = |path: PathBuf| {
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        remove_measured(&mut value);
        (path.strip_prefix(dir).expect("inside").to_path_buf(), value)
    };
    files(dir).into_iter().filter(|p| p.ends_with("results.json")).map(read).collect()
}

/// Starts `burgess rank` with a cache that is given by name.
fn start(place: &TestDir, cache: &str, out: &str) -> Child {
    let mut command = place.burgess(&["rank", "tiny.toml", "--jobs", "1", "--out", out]);
    command.env("BURGESS_CACHE", place.path().join(cache)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("burgess starts")
}

#[test]
fn four_processes_give_the_bits_of_one_and_killed_ones_do_no_harm() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    let alone = start(&place, "cache-alone", "alone").wait_with_output().expect("a child");
    assert!(alone.status.success(), "{}", stderr(&alone));
    let expected = results(&place.path().join("alone"));
    assert_eq!(expected.len(), 6);

    let workers: Vec<Child> = (0..4).map(|_| start(&place, "cache-shared", "shared")).collect();
    // Others begin later and are killed: while they render, encode, train or answer.
    for victim in 0..4_u64 {
        let mut killed = start(&place, "cache-shared", "shared");
        std::thread::sleep(Duration::from_millis(150 + 350 * victim));
        // It may have finished.
        let _ = killed.kill();
        let _ = killed.wait();
    }
    let outputs: Vec<_> = workers.into_iter().map(|c| c.wait_with_output().expect("a child")).collect();
    let mut told = String::new();
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
        assert!(stdout(output).contains("nano-mae+nano-dinov2"), "each prints the whole ranking: {}", stdout(output));
        told += &stderr(output);
    }
    assert!(
        told.contains("is being worked on by") && told.contains("waiting for the runs of other processes"),
        "{told}"
    );
    let root = place.path().join("shared");
    assert_eq!(results(&root), expected);
    for file in ["ranking.json", "report/index.html", "study.json", "made.json"] {
        assert!(root.join("tiny").join(file).is_file(), "{file}");
    }
    // The killed processes left temporary files at most in what nobody used after them; the next start removes those.
    let again = start(&place, "cache-shared", "shared").wait_with_output().expect("a child");
    assert!(again.status.success() && !stderr(&again).contains("encoded "), "{}", stderr(&again));
    for dir in [root.clone(), place.path().join("cache-shared")] {
        let left: Vec<_> = files(&dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(results(&root), expected);
}

#[cfg(unix)]
#[test]
fn a_suspended_process_is_waited_for_by_name() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    let first = start(&place, "cache", "out");
    let lease = place.path().join("out/tiny/nano-sup/seed-0/.lease-1");
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !lease.exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let signal = |child: &Child, name: &str| {
        let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(status.expect("kill starts").success());
    };
    signal(&first, "-STOP");
    let mut second = start(&place, "cache", "out");
    // It does the other runs, and then waits for the suspended process.
    let of_others = || results(&place.path().join("out")).len() == 5;
    while !of_others() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(of_others() && second.try_wait().expect("a child").is_none());
    signal(&first, "-CONT");
    let (one, two) = (first.wait_with_output().expect("a child"), second.wait_with_output().expect("a child"));
    assert!(one.status.success(), "{}", stderr(&one));
    assert!(two.status.success(), "{}", stderr(&two));
    let told = stderr(&two);
    assert!(told.contains("nano-sup (seed 0) is being worked on by "), "{told}");
    assert!(told.contains("waiting for the runs of other processes: nano-sup (seed 0)"), "{told}");
    assert_eq!(results(&place.path().join("out")).len(), 6);
}
