//! Robustness against the environment: signals, full disks and pipes, outputs that are not regular files, flipped bits,
//! leftovers of killed processes, a cache that is too small, and control characters in texts.
#![cfg(unix)]

use burgess_base::temporary::TemporaryPath;
use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const EVALUATOR: &str = "[evaluator]\nllm = \"nano-lm\"\nconnector = \"mlp2x_gelu\"\n";
const WORLD: &str = "[evaluator.data.world]\nseed = 5\nalign = 16\ntune = 16\nturns = 3\nper_benchmark = 6\n";

/// Writes a run and a study whose tune stage has this many steps.
fn files(place: &TestDir, steps: usize) {
    let recipe = format!(
        "[evaluator.recipe.align]\nsteps = 2\nbatch = 4\nlr = 1e-3\ntrainable = [\"connector\"]\n[evaluator.recipe.tune]\nsteps = {steps}\nbatch = 4\nlr = 1e-3\ntrainable = [\"connector\", \"llm\"]\n"
    );
    place.file("run.toml", &format!("name = \"run\"\nencoders = [\"nano-sup\"]\n{EVALUATOR}{WORLD}{recipe}"));
    let head = "name = \"tiny\"\ntitle = \"A tiny study\"\nquestion = \"Does it hold?\"\nseeds = [0]\n";
    let evaluator = format!("{EVALUATOR}benchmarks = [\"nano-mme\", \"nano-docvqa\"]\n");
    let arms = "[[arms]]\nencoders = [\"nano-sup\"]\n";
    place.file("tiny.toml", &format!("{head}{evaluator}{WORLD}{arms}{recipe}"));
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stderr(output)
}

/// Runs a line of bash, in which `"$0"` is the binary.
fn bash(place: &TestDir, line: &str) -> Output {
    let mut command = place.shell("");
    let mut bash = Command::new("bash");
    bash.args(["-c", line]).arg(burgess_tests::binary()).current_dir(place.path());
    for (name, value) in command.stdin(Stdio::null()).get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash.output().expect("bash starts")
}

/// Reads the results of a run without the fields that may differ between two runs.
fn results(run: &Path) -> Value {
    let bytes = std::fs::read(run.join("results.json")).expect("results");
    let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
    value["date"] = Value::Null;
    value["cost"] = Value::Null;
    for (_, benchmark) in value["results"].as_object_mut().expect("results") {
        benchmark["seconds"] = Value::Null;
    }
    value
}

fn flip(path: &Path, place: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    let place = place.min(bytes.len() - 2);
    bytes[place] ^= 4;
    std::fs::write(path, bytes).expect("a file");
}

/// Finds a file below a directory by the end of its name.
fn find(dir: &Path, ending: &str) -> PathBuf {
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path if path.to_string_lossy().ends_with(ending) => return path,
                _ => {}
            }
        }
    }
    panic!("{} has no {ending}", dir.display())
}

/// Waits until a file has this many lines, sends the signals, and waits for the end of the process.
fn signalled(mut child: Child, file: &Path, lines: usize, signals: &[&str]) -> Output {
    let deadline = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(file).map_or(0, |t| t.lines().count()) < lines {
        assert!(
            Instant::now() < deadline && child.try_wait().expect("a child").is_none(),
            "fewer than {lines} lines within the time limit"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    for signal in signals {
        assert!(
            Command::new("kill").args([signal.to_string(), child.id().to_string()]).status().expect("kill").success()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "the process ignored the signal");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("a child")
}

fn started(place: &TestDir, args: &[&str]) -> Child {
    place.burgess(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burgess starts")
}

/// Whether this process ignores a signal, which its children inherit (as under `nohup` or after a shell's `&`).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> (signal - 1) & 1 != 0)
}

#[test]
fn signals_keep_the_state_and_say_how_to_go_on() {
    let place = TestDir::new();
    files(&place, 240);
    done(&place.run(&["train", "run.toml", "--out", "whole"]));
    let model = |dir: &str| std::fs::read(place.path().join(dir).join("model/llm/model.safetensors")).expect("a model");
    let stopped = place.path().join("it's stopped");
    let log = stopped.join("train.jsonl");
    let mut steps = 5;
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1), ("-USR1", 10)] {
        if is_ignored(number) {
            continue;
        }
        let code = 128 + number;
        // The interval of saved states is too long to be reached, so a saved state was saved because of the signal.
        let child = started(&place, &["train", "run.toml", "--out", "it's stopped", "--keep-every", "6000"]);
        let output = signalled(child, &log, steps, &[signal]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        let line = r"train run.toml --out 'it'\''s stopped' --keep-every 6000";
        assert!(told.lines().any(|l| l.contains("To resume: ") && l.ends_with(line)), "{told}");
        assert!(!told.contains("error:") && stopped.join("state/tune.safetensors").is_file(), "{told}");
        let now = std::fs::read_to_string(&log).expect("a log").lines().count();
        steps = now + 4;
    }
    done(&place.run(&["train", "run.toml", "--out", "it's stopped"]));
    assert_eq!(model("it's stopped"), model("whole"));

    // A second signal ends the process at once.
    let child = started(&place, &["train", "run.toml", "--out", "twice"]);
    let output = signalled(child, &place.path().join("twice/train.jsonl"), 4, &["-TERM", "-TERM"]);
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
}

#[test]
fn a_study_that_is_stopped_has_no_failed_runs_and_ends_with_the_same_bits() {
    let place = TestDir::new();
    files(&place, 30);
    done(&place.run(&["rank", "tiny.toml", "--out", "whole"]));
    let run = place.path().join("stopped/tiny/nano-sup/seed-0");
    let child = started(&place, &["rank", "tiny.toml", "--out", "stopped"]);
    let output = signalled(child, &run.join("train.jsonl"), 6, &["-TERM"]);
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    assert!(stderr(&output).contains("To resume: ") && !run.join("failed.json").exists(), "{}", stderr(&output));
    // Interrupted while it answers questions.
    let child = started(&place, &["rank", "tiny.toml", "--out", "stopped"]);
    let output = signalled(child, &run.join("model/config.json"), 1, &["-INT"]);
    assert!([Some(130), Some(0)].contains(&output.status.code()), "{}", stderr(&output));
    done(&place.run(&["rank", "tiny.toml", "--out", "stopped"]));
    assert_eq!(results(&run), results(&place.path().join("whole/tiny/nano-sup/seed-0")));
    assert!(
        std::fs::read_dir(run.join("samples"))
            .expect("samples")
            .flatten()
            .all(|e| { !e.file_name().to_string_lossy().contains(".part.") })
    );

    // Signals that were ignored at the start stay ignored.
    let line = "trap '' HUP; exec \"$0\" rank tiny.toml --out nohup";
    let mut command = place.shell(line);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh starts");
    let log = place.path().join("nohup/tiny/nano-sup/seed-0/train.jsonl");
    done(&signalled(child, &log, 3, &["-HUP"]));
}

#[test]
fn stderr_and_stdout_may_be_full_or_gone() {
    let place = TestDir::new();
    files(&place, 4);
    for (number, way) in ["2>/dev/full", "2> >(sleep 0.2)", "2>&-", "2> >(head -c 1 >/dev/null)"].iter().enumerate() {
        let output = bash(&place, &format!("\"$0\" rank tiny.toml --out out{number} {way}"));
        assert!(output.status.success(), "{way}: {:?} {}", output.status, stdout(&output));
        assert!(stdout(&output).contains("nano-sup"), "{way}: {}", stdout(&output));
    }
    let error = bash(&place, "\"$0\" rank nowhere 2>/dev/full");
    assert_eq!(error.status.code(), Some(2));
    for verb in [
        "encoders",
        "encoders --json",
        "prompts",
        "doctor --quick",
        "--help",
        "rank --help",
        "--version",
        "report out0/tiny",
    ] {
        let full = bash(&place, &format!("\"$0\" {verb} >/dev/full"));
        assert_eq!(full.status.code(), Some(1), "{verb}: {}", stderr(&full));
        assert!(stderr(&full).contains("standard output"), "{verb}: {}", stderr(&full));
        let closed = bash(&place, &format!("set -o pipefail; \"$0\" {verb} | head -1"));
        assert!(closed.status.success() && stderr(&closed).is_empty(), "{verb}: {}", stderr(&closed));
    }
}

#[test]
fn outputs_keep_links_and_refuse_what_is_no_file() {
    let place = TestDir::new();
    let at = |name: &str| place.path().join(name);
    image::RgbImage::from_pixel(40, 40, image::Rgb([90; 3])).save(at("a.png")).expect("an image");
    let encode = |out: &str| place.run(&["encode", "a.png", "--encoder", "nano-sup", "-o", out]);
    done(&encode("plain.safetensors"));
    let plain = std::fs::read(at("plain.safetensors")).expect("features");
    std::fs::create_dir(at("far")).expect("a directory");
    std::os::unix::fs::symlink("far/target", at("link")).expect("a link");
    done(&encode("link"));
    assert!(std::fs::symlink_metadata(at("link")).expect("the link").is_symlink());
    assert_eq!(std::fs::read(at("far/target")).expect("features"), plain);
    let output = bash(&place, "mkfifo fifo; cat fifo > through & \"$0\" encode a.png --encoder nano-sup -o fifo; wait");
    done(&output);
    assert_eq!(std::fs::read(at("through")).expect("features"), plain);
    for name in ["-", "/dev/stdout"] {
        let output = encode(name);
        assert!(output.stdout == plain && stderr(&output).contains("1 images"), "{name}: {}", stderr(&output));
    }
    std::os::unix::fs::symlink("nowhere/target", at("dangling")).expect("a link");
    for (name, why) in
        [("/dev/null", "is a device"), ("far", "is a directory"), ("dangling", "does not exist"), ("a.png/x", "a.png")]
    {
        let output = encode(name);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(why) && stderr(&output).contains(name), "{name}: {}", stderr(&output));
    }
    // Output directories that cannot be directories.
    files(&place, 2);
    for (verb, option) in [("rank tiny.toml", "--out"), ("train run.toml", "--out"), ("report --published", "-o")] {
        for (name, why) in [("a.png", "is a file, not a directory"), ("dangling", "which does not exist")] {
            let words: Vec<&str> = verb.split(' ').chain([option, name]).collect();
            let output = place.run(&words);
            assert_eq!(output.status.code(), Some(1), "{words:?}: {}", stderr(&output));
            assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
        }
    }
    // A second process in the same directory fails with an error.
    let child = started(&place, &["train", "run.toml", "--out", "held"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !at("held/.lease-1").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = place.run(&["train", "run.toml", "--out", "held"]);
    assert!(stderr(&second).contains("another burgess is working in held"), "{}", stderr(&second));
    done(&child.wait_with_output().expect("the first"));
}

#[test]
fn a_flipped_bit_is_noticed_where_it_is_used() {
    let place = TestDir::new();
    files(&place, 4);
    let rank = |out: &str| place.run(&["rank", "tiny.toml", "--out", out]);
    done(&rank("whole"));
    let run = place.path().join("whole/tiny/nano-sup/seed-0");
    let right = results(&run);
    let cache = place.path().join("cache");

    // Damage in the feature cache and in the rendered world.
    flip(&find(&cache.join("features"), "00000.safetensors"), 5000);
    let told = done(&rank("features"));
    assert!(told.contains("00000.safetensors") && told.contains("are computed again"), "{told}");
    assert_eq!(results(&place.path().join("features/tiny/nano-sup/seed-0")), right);
    for (number, name) in ["tune.jsonl", "nano-mme.jsonl", ".png"].iter().enumerate() {
        let file = find(&cache.join("worlds"), name);
        let before = std::fs::read(&file).expect("a file");
        flip(&file, 60);
        let told = done(&rank(&format!("world{number}")));
        assert!(told.contains("differ from their checksums") && told.contains("rendered again"), "{name}: {told}");
        assert_eq!(std::fs::read(&file).expect("a file"), before, "{name}");
        assert_eq!(results(&place.path().join(format!("world{number}/tiny/nano-sup/seed-0"))), right, "{name}");
    }

    // Damaged results that can be computed again are computed again.
    let forget = |names: &[&str]| {
        for name in names {
            let path = run.join(name);
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
        }
    };
    let cases: [(&str, &[&str], &str); 5] = [
        ("results.json", &[], "computed again from the samples"),
        ("samples/nano-mme.jsonl", &[], "nano-mme is evaluated again"),
        ("model/llm/model.safetensors", &["results.json"], "the model is trained again"),
        ("model/config.json", &["results.json", "samples"], "the model is trained again"),
        ("aligned/connector.safetensors", &["results.json", "model"], "it is aligned again"),
    ];
    for (file, gone, note) in cases {
        forget(gone);
        flip(&run.join(file), 700);
        let told = done(&rank("whole"));
        assert!(told.contains(file) && told.contains(note), "{file}: {told}");
        assert_eq!(results(&run), right, "{file}");
        assert!(!done(&rank("whole")).contains("note:"), "{file}: once");
    }

    // A damaged model or configuration is an error.
    let model = run.join("model/connector.safetensors");
    flip(&model, 700);
    let asked = place.run(&["ask", "--model", &run.join("model").display().to_string(), "What?"]);
    assert!(asked.status.code() == Some(1) && stderr(&asked).contains("connector.safetensors is not what was written"));
    assert!(stderr(&asked).contains("hint: the model directory is damaged"), "{}", stderr(&asked));
    flip(&model, 700);
    let config = run.join("config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text.replacen("\"seed\": 0", "\"seed\": 1", 1)).expect("written");
    let refused = rank("whole");
    assert!(
        !refused.status.success() && stderr(&refused).contains("config.json is not what was written"),
        "{}",
        stderr(&refused)
    );
    std::fs::write(&config, text).expect("written");

    // Values that no scorer gives, in files of an earlier version without checksums.
    std::fs::remove_file(run.join("checksums.json")).expect("removed");
    std::fs::remove_file(run.join("model/checksums.json")).expect("removed");
    let told = done(&rank("whole"));
    assert!(told.contains("made by an earlier version without checksums"), "{told}");
    let file = run.join("samples/nano-mme.jsonl");
    let text = std::fs::read_to_string(&file).expect("samples");
    let broken = text.replacen("\"score\":0.0", "\"score\":1e300", 1).replacen("\"score\":1.0", "\"score\":1e300", 1);
    std::fs::write(&file, broken).expect("written");
    std::fs::remove_file(run.join("results.json")).expect("removed");
    let told = done(&rank("whole"));
    assert!(told.contains("expected 0 to 1") && told.contains("nano-mme is evaluated again"), "{told}");
    assert_eq!(results(&run), right);
}

#[test]
fn leftovers_are_swept_and_a_small_cache_is_no_failure() {
    let place = TestDir::new();
    files(&place, 2);
    done(&place.run(&["rank", "tiny.toml", "--out", "out"]));
    let run = place.path().join("out/tiny/nano-sup/seed-0");
    let mut child = Command::new("true").spawn().expect("a process");
    let dead = child.id();
    child.wait().expect("its end");
    let leftover = |path: PathBuf| {
        let name = TemporaryPath::beside(&path).path().to_string_lossy().into_owned();
        PathBuf::from(name.replace(&format!("-{}-", std::process::id()), &format!("-{dead}-")))
    };
    let features = find(&place.path().join("cache/features"), "00000.safetensors");
    let swept = [
        leftover(run.join("results.json")),
        leftover(run.join("samples/nano-mme.jsonl")),
        leftover(features),
        leftover(place.path().join("cache/worlds/0123")),
    ];
    let stay = [run.join("notes.tmp"), TemporaryPath::beside(&run.join("other")).path().to_path_buf()];
    for path in swept.iter().chain(&stay) {
        std::fs::write(path, "left").expect("written");
    }
    std::fs::remove_file(run.join("results.json")).expect("removed");
    done(&place.run(&["rank", "tiny.toml", "--out", "out"]));
    for path in &swept {
        assert!(!path.exists(), "{} is still there", path.display());
    }
    for path in &stay {
        assert!(path.exists(), "{} is gone", path.display());
    }

    // Two processes with a cache limit near 0: each evicts entries that the other does not use at present.
    let begin = |out: &str, encoder: &str| {
        let mut command = place.burgess(&["rank", "tiny.toml", "--out", out, "--encoders", encoder]);
        command.env("BURGESS_CACHE_GB", "0.0000001").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("burgess starts")
    };
    for round in 0..2 {
        let children: Vec<Child> = ["nano-sup,nano-random", "nano-random,nano-mae"]
            .iter()
            .enumerate()
            .map(|(i, encoders)| begin(&format!("small-{round}-{i}"), encoders))
            .collect();
        for child in children {
            done(&child.wait_with_output().expect("a child"));
        }
    }
}

#[test]
fn nothing_that_is_shown_steers_the_terminal() {
    let place = TestDir::new();
    let evil = "\x1b[2J\x1b]0;title\x07.png";
    place.file(evil, "no image");
    place.file("long.jsonl", &format!("{{\"id\": {}\n", "x".repeat(1 << 20)));
    std::fs::create_dir_all(place.path().join("data/bench")).expect("a directory");
    image::RgbImage::new(8, 8).save(place.path().join("data/p.png")).expect("an image");
    place.file(
        "data/bench/nano-docvqa.jsonl",
        "{\"id\":\"a\",\"image\":\"p.png\",\"image_id\":\"a\",\"question\":\"?\",\"answer\":\"b\",\"subtask\":\"w\",\"unit\":\"a\"}\n",
    );
    let commands: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("a file", vec!["encode", evil, "--encoder", "nano-sup", "-o", "f"]),
        ("an option", vec!["rank", "--\x1b[2J"]),
        ("a verb", vec!["\x1b[2J"]),
        ("an encoder", vec!["encode", "a.png", "--encoder", "\x1b[2J", "-o", "f"]),
        ("a study", vec!["rank", "\u{9b}2J"]),
        ("an output", vec!["encode", evil, "--encoder", "nano-sup", "-o", "no/\x1b[2J/"]),
        ("a long line", vec!["score", "nano-docvqa", "--data", "data", "--predictions", "long.jsonl"]),
    ]);
    for (what, args) in commands {
        let output = place.run(&args);
        let told = stderr(&output) + &stdout(&output);
        assert!(!output.status.success() && !told.is_empty(), "{what}");
        assert!(!told.chars().any(|c| c != '\n' && c.is_control()), "{what}: {told:?}");
        assert!(told.len() < 3000, "{what}: {} bytes", told.len());
    }
}
