//! A reduced nano study through the binary: it is run, killed and resumed, and the results must be identical.

mod unset_fields;

use burgess_tests::{TestDir, files, remove_measured, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use unset_fields::unset_fields;

/// Writes a study with two arms, a few images and a few steps: it has every part of the nano study, but learns nothing.
fn study(place: &TestDir) -> String {
    let text = r#"
name = "tiny"
title = "A tiny study"
question = "Does everything run?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-mme", "nano-cvbench-3d", "nano-mmvp", "nano-docvqa"]

[evaluator.data.world]
seed = 5
align = 16
tune = 16
turns = 3
per_benchmark = 6

[[arms]]
encoders = ["nano-sup"]
[[arms]]
encoders = ["nano-random"]
[[arms]]
encoders = ["nano-mae", "nano-dinov2"]
[[arms]]
encoders = ["nano-random"]
freeze = "unfrozen"

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
    place.file("tiny.toml", text);
    "tiny.toml".into()
}

/// Reads every `results.json` without the fields that may differ between two runs: times, dates, memory, throughput.
fn results(dir: &Path) -> BTreeMap<PathBuf, Value> {
    files(dir)
        .into_iter()
        .filter(|p| p.ends_with("results.json"))
        .map(|path| {
            let mut value: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
            measured(&path, &value);
            remove_measured(&mut value);
            (path.strip_prefix(dir).expect("inside").to_path_buf(), value)
        })
        .collect()
}

/// Checks that no field of a run's results is a placeholder: no field is empty, and durations are positive.
fn measured(path: &Path, results: &Value) {
    fn filled(path: &Path, at: &str, value: &Value) {
        match value {
            Value::Null => panic!("{}: {at} is null", path.display()),
            Value::String(text) => assert!(!text.is_empty(), "{}: {at} is empty", path.display()),
            Value::Object(fields) => fields.iter().for_each(|(k, v)| filled(path, &format!("{at}.{k}"), v)),
            Value::Array(items) => items.iter().for_each(|v| filled(path, at, v)),
            _ => {}
        }
    }
    filled(path, "", results);
    let cost = results["cost"].as_object().expect("cost");
    let scale = cost["features"].as_array().expect("cost.features");
    let known = |key: &str| scale.iter().all(|tap| tap[key].as_f64().is_some_and(|v| v > 0.0));
    assert!(
        !scale.is_empty() && known("std") && known("effective_rank"),
        "{}: cost.features is {scale:?}",
        path.display()
    );
    for (key, value) in cost.iter().filter(|(key, _)| *key != "features") {
        let unknown = cfg!(not(target_os = "linux")) && key == "peak_memory_bytes";
        assert!(unknown || value.as_f64().is_some_and(|v| v > 0.0), "{}: cost.{key} is {value}", path.display());
    }
    for (id, benchmark) in results["results"].as_object().expect("results") {
        for key in ["seconds", "n"] {
            assert!(benchmark[key].as_f64().is_some_and(|v| v > 0.0), "{}: {id}.{key}", path.display());
        }
    }
    let lock = include_str!("../../Cargo.lock");
    for library in ["burn", "tokenizers"] {
        let version = results["versions"][library].as_str().expect("a version");
        assert!(lock.contains(&format!("name = \"{library}\"\nversion = \"{version}\"\n")), "{library} {version}");
    }
}

/// Evaluates the models of a study outside it: they get the same scores again, and can be asked published benchmarks,
/// whose images lie in tables, several per question.
fn asked_again(place: &TestDir, root: &Path) {
    let worlds = std::fs::read_dir(place.path().join("cache/worlds")).expect("worlds");
    let world = worlds.flatten().next().expect("a world").path();
    for id in ["blink", "docvqa-test"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/benchmarks").join(id);
        std::os::unix::fs::symlink(fixture, world.join("bench").join(id)).expect("a link");
    }
    for arm in ["nano-mae+nano-dinov2", "nano-random-unfrozen"] {
        let run = root.join(arm).join("seed-0");
        let (model, data) = (run.join("model").display().to_string(), world.display().to_string());
        let list = "nano-docvqa,blink,docvqa-test";
        let output = place.run(&[
            "eval",
            "--model",
            &model,
            "--benchmarks",
            list,
            "--data",
            &data,
            "--name",
            "again",
            "--out",
            arm,
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let rules = |id: &str| {
            let line = stdout(&output).lines().find(|line| line.starts_with(id)).map(str::to_string);
            // Benchmark, score, ±, its error, blind, chance, n, unparsed, scoring, prompts; how images are put may
            // follow.
            line.and_then(|line| line.split_whitespace().nth(9).map(str::to_string))
        };
        assert_eq!(rules("nano-docvqa"), Some("strict".into()), "{}", stdout(&output));
        assert_eq!(rules("blink"), Some("official".into()), "{}", stdout(&output));
        assert!(stdout(&output).contains("2 with 5 images as blocks"), "{}", stdout(&output));
        let dir = place.path().join(arm).join("eval/again/seed-0");
        let read =
            |file: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(file).expect("results")).expect("JSON") };
        let (again, before) = (read(dir.join("results.json")), read(run.join("results.json")));
        for key in ["score", "blind", "stderr", "chance"] {
            assert_eq!(again["results"]["nano-docvqa"][key], before["results"]["nano-docvqa"][key], "{arm}: {key}");
        }
        let (again_cost, before_cost) = (&again["cost"], &before["cost"]);
        for key in ["encoder_params", "gflops_per_image", "tokens", "train_seconds"] {
            assert_eq!(again_cost[key], before_cost[key], "{arm}: {key}");
        }
        assert!(again["results"]["nano-docvqa"]["seconds"].as_f64().is_some_and(|s| s > 0.0), "{arm}");
        assert_eq!(again["versions"]["burn"], before["versions"]["burn"], "{arm}");
        assert!(again["results"]["blink"]["n"].as_u64().is_some_and(|n| n > 0), "{arm}");
        assert!(again["results"].get("docvqa-test").is_none(), "its right answers are secret");
        let submission = read(dir.join("samples/docvqa-test.submission.json"));
        assert!(submission[0]["questionId"].is_u64() && submission[0]["answer"].is_string(), "{submission}");
    }
}

#[test]
fn a_study_runs_resumes_after_a_kill_and_gives_the_same_bits() {
    let place = TestDir::new();
    let study = study(&place);

    // First run, without interruption.
    let whole = place.run(&["rank", &study, "--out", "whole"]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let table = stdout(&whole);
    for arm in ["nano-sup", "nano-random", "nano-mae+nano-dinov2", "(unfrozen)", "chance", "blind"] {
        assert!(table.contains(arm), "{arm} is missing in\n{table}");
    }
    assert!(
        table.lines().all(|l| l.chars().count() <= 100
            || l.starts_with("ranking")
            || l.starts_with("report")
            || l.starts_with("answers")),
        "{table}"
    );
    let root = place.path().join("whole/tiny");
    for file in [
        "ranking.json",
        "report/index.html",
        "report/answers/index.html",
        "nano-sup/seed-0/config.json",
        "nano-sup/seed-0/train.jsonl",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let page = std::fs::read_to_string(root.join("report/index.html")).expect("the report");
    assert!(page.contains("data:image/png;base64,") && !page.contains("src=\"http"), "self-contained, with images");
    assert!(files(&root).iter().all(|p| p.extension().is_none_or(|e| e != "tmp")), "no temporary file is left");

    // The page shows the command as it was typed. Every field of the results is measured by some run, except those that
    // this study does not use.
    assert!(page.contains("burgess rank tiny.toml --out whole"), "the command");
    let runs: Vec<burgess_reports::schema::RunResults> = files(&root)
        .iter()
        .filter(|p| p.ends_with("results.json"))
        .map(|p| burgess_base::atomic::read_json(p).expect("results"))
        .collect();
    let unset = unset_fields(&runs);
    let unused = [
        "notes",
        "results.*.likelihood",
        "results.*.n_reasoning",
        "results.*.n_unparsed",
        "results.*.n_without_image",
        "results.*.sample_of",
        "results.*.several_images",
        "run.published",
        "run.seed",
    ];
    let missing: Vec<&String> = unset.iter().filter(|field| !unused.contains(&field.as_str())).collect();
    assert!(missing.is_empty(), "fields that no run sets: {missing:?}");

    // A model gives the same answers outside the study: frozen, with several encoders, and with a trained encoder.
    for arm in ["nano-sup", "nano-mae+nano-dinov2", "nano-random-unfrozen"] {
        let run = root.join(arm).join("seed-0");
        let samples = std::fs::read_to_string(run.join("samples/nano-docvqa.jsonl")).expect("samples");
        let sample: Value = serde_json::from_str(samples.lines().next().expect("a sample")).expect("JSON");
        let text = |key: &str| sample[key].as_str().expect("a text").to_string();
        let model = run.join("model").display().to_string();
        let (prompt, image) = (text("prompt"), text("image"));
        let ask = |more: &[&str]| {
            let output = place.run(&[&["ask", "--model", &model, &prompt, "--max-new-tokens", "16"], more].concat());
            assert!(output.status.success(), "{}", stderr(&output));
            stdout(&output).trim_end_matches('\n').to_string()
        };
        let same = |said: &str, key: &str| {
            let known = text(key);
            assert!(known.starts_with(said) || said.starts_with(&known), "{arm}: {said:?} {known:?}");
        };
        same(&ask(&["--image", &image]), "answer");
        same(&ask(&[]), "blind_answer");
    }
    asked_again(&place, &root);
    let no_model = place.run(&["ask", "--model", "whole", "What?"]);
    assert!(no_model.status.code() == Some(2) && stderr(&no_model).contains("seed-<n>/model"), "{}", stderr(&no_model));

    // The same study in another directory, killed several times.
    let mut kills = 0;
    for attempt in 0..12 {
        let mut child = place
            .burgess(&["rank", &study, "--out", "killed", "--jobs", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("burgess starts");
        let deadline = Instant::now() + Duration::from_millis(300 + 350 * attempt);
        loop {
            if child.try_wait().expect("a child").is_some() {
                break;
            }
            if Instant::now() > deadline {
                child.kill().expect("a running child");
                child.wait().expect("a child");
                kills += 1;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // After each kill, every file is complete.
        let killed = place.path().join("killed");
        if killed.is_dir() {
            results(&killed);
        }
    }
    let resumed = place.run(&["rank", &study, "--out", "killed"]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(kills > 0, "the study was too fast to be killed");
    assert_eq!(results(&place.path().join("killed")), results(&place.path().join("whole")));

    // Started again, the command has nothing left to do and changes no file.
    let before: Vec<_> = files(&root.join("nano-sup"))
        .into_iter()
        .map(|p| (p.clone(), p.metadata().and_then(|m| m.modified()).expect("a time")))
        .collect();
    let again = place.run(&["rank", &study, "--out", "whole", "--json"]);
    assert!(again.status.success(), "{}", stderr(&again));
    let ranking: Value = serde_json::from_str(&stdout(&again)).expect("JSON on stdout");
    assert_eq!(ranking["arms"].as_array().map(Vec::len), Some(4));
    for (path, time) in before {
        assert_eq!(path.metadata().and_then(|m| m.modified()).expect("a time"), time, "{}", path.display());
    }

    // A study with another configuration is rejected in the same directory.
    let changed =
        std::fs::read_to_string(place.path().join("tiny.toml")).expect("the study").replace("steps = 6", "steps = 7");
    place.file("tiny.toml", &changed);
    let refused = place.run(&["rank", &study, "--out", "whole"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("evaluator.recipe.tune.steps: 6 stored, 7 now"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("hint:"));
}

#[test]
fn a_learning_curve_reuses_features_and_claims_decide_the_exit_code() {
    let place = TestDir::new();
    let study = study(&place);
    let refused = place.run(&["rank", &study, "--check"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("the study tiny has no claims"), "{}", stderr(&refused));
    let text = std::fs::read_to_string(place.path().join(&study)).expect("the study");
    place.file("claims.toml", &format!("{text}\n[check]\nbest_above_blind = 90.0\n"));
    let arms = ["rank", "claims.toml", "--encoders", "nano-sup,nano-random", "--out", "out"];
    let curve = [&arms[..], &["--learning-curve", "0.5", "--check"]].concat();
    let first = place.run(&curve);
    assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
    assert!(
        stdout(&first).contains("FAILED") && stderr(&first).contains("1 of 1 claims do not hold"),
        "{}",
        stderr(&first)
    );
    assert_eq!(stderr(&first).matches("encoded ").count(), 1, "once for all shares: {}", stderr(&first));
    let root = place.path().join("out/tiny");
    let half = root.join("learning-curve/0.5");
    let read =
        |file: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON") };
    let (part, whole) = (read(half.join("share.json")), read(root.join("learning-curve/1/share.json")));
    assert_eq!((&whole["align"], &whole["tune"]), (&16.into(), &16.into()));
    let tune = part["tune"].as_u64().expect("a number");
    assert!(tune > 0 && tune < 16, "{part}");
    let config = read(half.join("nano-sup/seed-0/config.json"));
    assert_eq!(config["evaluator"]["share"], 0.5);
    assert!(read(root.join("nano-sup/seed-0/config.json"))["evaluator"].get("share").is_none());
    assert_eq!(read(root.join("report/learning-curve.json"))["arms"].as_array().map(Vec::len), Some(2));
    let page = std::fs::read_to_string(root.join("report/index.html")).expect("the report");
    assert!(page.contains("id=\"learning\"") && page.contains("id=\"check\""));

    // Started again, the command changes nothing; the plain study is finished too.
    let before = results(&root);
    assert_eq!(before.len(), 4);
    assert_eq!(place.run(&curve).status.code(), Some(1));
    assert!(place.run(&arms).status.success());
    assert_eq!(results(&root), before);
    let samples = std::fs::read_to_string(root.join("nano-sup/seed-0/samples/nano-cvbench-3d.jsonl")).expect("samples");
    assert!(samples.contains("\"subtask\":\"depth\""), "{samples}");
}

#[test]
fn a_failed_arm_does_not_stop_the_others() {
    let place = TestDir::new();
    let study = study(&place);
    // A zoo in which the weights of one encoder are truncated.
    let zoo = place.path().join("zoo");
    std::fs::create_dir_all(zoo.join("weights")).expect("a directory");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoders/zoo/weights");
    for id in ["nano-sup", "nano-random"] {
        let bytes = std::fs::read(shipped.join(format!("{id}.safetensors"))).expect("shipped weights");
        let end = if id == "nano-random" { bytes.len() / 2 } else { bytes.len() };
        std::fs::write(zoo.join("weights").join(format!("{id}.safetensors")), &bytes[..end]).expect("written");
    }
    let output = place
        .burgess(&["rank", &study, "--encoders", "nano-sup,nano-random,nano-clip", "--out", "out"])
        .env("BURGESS_ZOO", &zoo)
        .output()
        .expect("burgess starts");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.contains("nano-sup"), "{table}");
    let failed = |arm: &str| -> Value {
        let path = place.path().join("out/tiny").join(arm).join("seed-0/failed.json");
        serde_json::from_slice(&std::fs::read(&path).expect("a note of the failure")).expect("JSON")
    };
    assert!(
        failed("nano-random")["cause"].as_str().is_some_and(|c| c.contains("nano-random")),
        "{}",
        failed("nano-random")
    );
    assert!(failed("nano-clip")["hint"].as_str().is_some_and(|h| h.contains("BURGESS_ZOO")), "{}", failed("nano-clip"));

    // Once the weights are repaired, the same command finishes the study.
    let mended = place.run(&["rank", &study, "--encoders", "nano-sup,nano-random,nano-clip", "--out", "out"]);
    assert!(!mended.status.success() || stdout(&mended).contains("nano-clip"), "{}", stderr(&mended));
}

/// A limit of 3 MB per file stands for a disk that fills up: features fit, the model does not.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_is_reported_and_loses_nothing() {
    let place = TestDir::new();
    let study = study(&place);
    let rank = format!("rank {study} --encoders nano-sup --out");
    let full =
        place.shell(&format!("trap '' XFSZ; ulimit -f 5800; exec \"$0\" {rank} full")).output().expect("sh starts");
    assert_eq!(full.status.code(), Some(1), "{}", stderr(&full));
    let told = stderr(&full);
    assert!(
        told.contains("nano-sup (seed 0) failed") && told.contains("too large") && told.contains("hint:"),
        "{told}"
    );
    let arm = place.path().join("full/tiny/nano-sup/seed-0");
    assert!(!arm.join("model").exists() && !arm.join("results.json").exists(), "{:?}", files(&arm));

    let mended = place.shell(&format!("exec \"$0\" {rank} full")).output().expect("sh starts");
    assert!(mended.status.success(), "{}", stderr(&mended));
    let whole = place.shell(&format!("exec \"$0\" {rank} whole")).output().expect("sh starts");
    assert!(whole.status.success(), "{}", stderr(&whole));
    assert_eq!(results(&place.path().join("full")), results(&place.path().join("whole")));
    assert!(files(&place.path().join("full")).iter().all(|p| p.extension().is_none_or(|e| e != "tmp")));
}

#[test]
fn answers_can_be_weighed_drawn_and_compared_with_a_grey_image() {
    let place = TestDir::new();
    let study = study(&place);
    let plain = std::fs::read_to_string(place.path().join(&study)).expect("the study");
    let asked = plain.replacen(
        "[evaluator]\n",
        "[evaluator]\nblind = \"grey\"\nlikelihoods = true\nsampling = { temperature = 0.8, top_p = 0.9, seed = 1 }\n",
        1,
    );
    place.file("asked.toml", &asked);
    let run = |out: &str| {
        let output = place.run(&["rank", "asked.toml", "--encoders", "nano-sup,nano-random:unfrozen", "--out", out]);
        assert!(output.status.success(), "{}", stderr(&output));
        results(&place.path().join(out))
    };
    let found = run("one");
    assert_eq!(found, run("two"), "draws come from named streams");
    assert_eq!(found.len(), 2);
    for value in found.values() {
        assert_eq!(value["run"]["blind"], "grey");
        assert!(value["results"]["nano-mme"]["likelihood"].is_number(), "{value}");
        assert!(value["results"]["nano-docvqa"]["likelihood"].is_null(), "open questions have no list of answers");
    }
    let samples = |benchmark: &str| -> Vec<Value> {
        let path = place.path().join("one/tiny/nano-sup/seed-0/samples").join(format!("{benchmark}.jsonl"));
        let text = std::fs::read_to_string(path).expect("samples");
        text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
    };
    for (benchmark, first) in [("nano-mme", "Yes"), ("nano-cvbench-3d", "A")] {
        for sample in samples(benchmark) {
            let options = sample["likelihoods"]["options"].as_array().expect("options");
            assert!(options.len() >= 2 && options[0][0] == first, "{sample}");
            let best = options.iter().map(|o| o[1].as_f64().expect("a number")).fold(f64::NEG_INFINITY, f64::max);
            let said = options.iter().find(|o| o[0] == sample["likelihoods"]["answer"]).expect("one of them");
            assert_eq!(said[1].as_f64(), Some(best));
        }
    }
    assert!(samples("nano-docvqa").iter().all(|s| s.get("likelihoods").is_none()));
    // The blind mode belongs to the configuration of a study.
    place.file("asked.toml", &asked.replace("grey", "omitted"));
    let refused = place.run(&["rank", "asked.toml", "--encoders", "nano-sup", "--out", "one"]);
    assert!(stderr(&refused).contains("blind"), "{}", stderr(&refused));
}
