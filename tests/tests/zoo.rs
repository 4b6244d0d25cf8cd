//! Many encoders under one evaluator, through the binary: lists, patterns, encoders that cannot be loaded, a race, the
//! tasks of a cluster, and the difference of two tables.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A study whose arms are replaced by those of the zoo, with a few images and steps.
const STUDY: &str = r#"
name = "tiny"
title = "A tiny study"
question = "Which encoder is best?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-mme", "nano-docvqa"]

[evaluator.data.world]
seed = 5
align = 16
tune = 8
turns = 2
per_benchmark = 4

[[arms]]
encoders = ["oracle"]

[evaluator.recipe.align]
steps = 4
batch = 4
lr = 1e-3
trainable = ["connector"]

[evaluator.recipe.tune]
epochs = 1.0
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

fn ended(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(output), stderr(output));
    stdout(output)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// The rows of a table as cells by column; the only quoted cells would be numbers above 999 million parameters.
fn rows(path: &Path) -> Vec<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).expect("a table");
    let mut lines = text.lines();
    let header: Vec<String> = lines.next().unwrap_or_default().split(',').map(String::from).collect();
    lines.map(|line| header.iter().cloned().zip(line.split(',').map(String::from)).collect()).collect()
}

fn cell<'a>(row: &'a [(String, String)], column: &str) -> &'a str {
    row.iter().find(|(name, _)| name == column).map_or_else(|| panic!("no column {column}"), |(_, text)| text.as_str())
}

#[test]
fn encoders_are_scored_and_those_that_cannot_be_loaded_are_counted() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    place.file("list.txt", "# a list\nnano-sup\nnano-s[ai]*  # a pattern\nnano-mae@99\nno-such-encoder, nano-sup\n");
    std::fs::create_dir(place.path().join("empty")).expect("a directory");
    let args = ["zoo", "score", "list.txt,nano-sup+nano-mae", "./empty", "--study", "tiny.toml", "--jobs", "1"];

    let planned = ended(&place.run(&[&args[..], &["--dry-run"]].concat()), 0);
    // Commas separate names, so that a file among them is no list.
    assert!(planned.contains("# zoo: 1 arms, 2 encoders cannot be loaded"), "{planned}");

    let args = ["zoo", "score", "list.txt", "nano-sup+nano-mae", "./empty", "--study", "tiny.toml", "--jobs", "1"];
    let planned = ended(&place.run(&[&args[..], &["--dry-run"]].concat()), 0);
    assert!(planned.contains("# zoo: 4 arms, 3 encoders cannot be loaded"), "{planned}");
    assert!(!place.path().join("runs/zoo/tiny").join("zoo.json").exists());

    let output = place.run(&args);
    let text = ended(&output, 1);
    assert!(text.contains("3 encoders have no score:") && text.contains("no-such-encoder"), "{text}");
    assert!(stderr(&output).contains("3 of 7 encoders have no score"), "{}", stderr(&output));
    let dir = place.path().join("runs/zoo/tiny");
    let about = json(&dir.join("zoo.json"));
    assert_eq!((about["listed"].as_u64(), about["scored"].as_u64()), (Some(7), Some(4)));
    let failed = about["failed"].as_array().expect("a list");
    assert!(failed.iter().all(|f| f["cause"].as_str().is_some_and(|c| !c.is_empty())), "{failed:?}");

    let table = rows(&dir.join("results-mllm.csv"));
    assert_eq!(table.len(), 4);
    let header: Vec<&str> = table[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(&header[..5], ["model", "img_size", "average", "average_low", "average_high"]);
    let sup = table.iter().find(|row| cell(row, "model") == "nano-sup").expect("nano-sup");
    assert_eq!(
        ["img_size", "param_count", "crop_pct", "interpolation", "share", "role"].map(|c| cell(sup, c)),
        ["96", "1.02", "1.000", "bicubic", "1", "trained"]
    );
    let order: Vec<(f64, &str)> =
        table.iter().map(|row| (-cell(row, "average").parse::<f64>().expect("a number"), cell(row, "model"))).collect();
    assert!(order.is_sorted_by(|a, b| (a.0, a.1) <= (b.0, b.1)), "{order:?}");

    // Called again, nothing is run, and the scores are the same.
    let before = std::fs::read(dir.join("results-mllm.csv")).expect("a table");
    let output = place.run(&[&args[..], &["--keep-going", "--json"]].concat());
    let told: Value = serde_json::from_str(&ended(&output, 0)).expect("JSON");
    assert_eq!((told["scored"].as_u64(), told["failed"].as_array().map(Vec::len)), (Some(4), Some(3)));
    assert_eq!(std::fs::read(dir.join("results-mllm.csv")).expect("a table"), before);

    // The tasks of a cluster see the same runs.
    let tasks = ended(&place.run(&[&args[..], &["--tasks"]].concat()), 0);
    assert!(!tasks.contains("--stage train") && tasks.lines().count() <= 1, "{tasks}");

    // Nothing that can be loaded, and patterns without matches.
    let none = place.run(&["zoo", "score", "no-such-encoder", "--study", "tiny.toml"]);
    assert!(stderr(&none).contains("none of the 1 encoders can be loaded"), "{}", stderr(&none));
    ended(&none, 1);
    for wrong in ["nono-*", "./away-*", "timm:vit_*"] {
        let output = place.run(&["zoo", "score", wrong, "--study", "tiny.toml"]);
        ended(&output, 2);
        assert!(stderr(&output).contains("matches nothing") && stderr(&output).contains("hint"), "{}", stderr(&output));
    }
}

#[test]
fn a_race_drops_encoders_and_goes_on_from_what_is_there() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    // With such a level all are dropped but the most probable.
    let racing = "--racing=k=1,level=0.9,rungs=0.5:1,replicates=500";
    let args = ["zoo", "score", "nano-sup,nano-mae,nano-random,oracle,nano-sam", "--study", "tiny.toml", "--jobs", "1"];
    let with = |more: &[&str]| place.run(&[&args[..], &[racing], more].concat());

    let planned = ended(&with(&["--dry-run"]), 0);
    assert!(planned.contains("rung 1: 0.5 of the training data, seeds [0], 3 arms"), "{planned}");

    // The first rung as tasks, one of which is done here.
    let tasks = ended(&with(&["--tasks"]), 0);
    let trainings: Vec<&str> = tasks.lines().filter(|line| line.contains("--stage train")).collect();
    assert_eq!(trainings.len(), 3, "baselines are trained on all data only: {tasks}");
    assert!(trainings[0].contains("rung-0.5/tiny.toml") && trainings[0].contains("--out"), "{tasks}");
    assert!(place.shell(trainings[0]).output().expect("a shell").status.success());

    let text = ended(&with(&[]), 0);
    assert!(text.starts_with("Race for the best 1 of 3 arms"), "{text}");
    let dir = place.path().join("runs/zoo/tiny");
    let race = json(&dir.join("race.json"));
    let rungs = race["rungs"].as_array().expect("rungs");
    let dropped = rungs[0]["dropped"].as_array().expect("a list").len();
    assert_eq!(rungs[0]["arms"], 3);
    assert!(dropped >= 1 && rungs[1]["arms"].as_u64() == Some(3 - dropped as u64), "{rungs:?}");
    // 4 steps of 4 and 8 conversations, and half of it; steps are shortened like data.
    assert_eq!((race["samples"].as_u64(), rungs[0]["spent"]["samples"].as_f64()), (Some(24), Some(36.0)));
    assert!(race["spent"]["tokens"].as_f64() > Some(0.0) && race["spent"]["petaflops"].as_f64() > Some(0.0));
    let steps = |run: &str| {
        let log = std::fs::read_to_string(place.path().join("runs/zoo").join(run).join("train.jsonl")).expect("a log");
        log.lines().filter(|line| line.contains("\"align\"")).count()
    };
    assert_eq!(steps("rung-0.5/tiny/nano-sup/seed-0"), 2);

    let table = rows(&dir.join("results-mllm.csv"));
    assert_eq!(table.len(), 5, "the baselines too");
    let by_share: Vec<&str> = table.iter().map(|row| cell(row, "share")).collect();
    assert!(by_share.is_sorted_by(|a, b| a >= b), "{by_share:?}");
    let gone: Vec<_> = table.iter().filter(|row| cell(row, "share") == "0.5").collect();
    assert_eq!(gone.len(), dropped);
    assert!(gone.iter().all(|row| cell(row, "dropped_after") == "1" && !cell(row, "average_low").is_empty()));
    assert!(gone.iter().all(|row| cell(row, "p_best").is_empty()));
    let page = std::fs::read_to_string(dir.join("report/index.html")).expect("a page");
    assert!(page.contains("id=\"race\"") && page.contains("dropped after rung 1"));
    assert!(json(&dir.join("ranking.json"))["race"]["rules"]["k"] == 1);

    // Nothing is left to run.
    assert!(stderr(&with(&["--tasks"])).contains("the race is over"));
    let again: Value = serde_json::from_str(&ended(&with(&["--json"]), 0)).expect("JSON");
    assert_eq!(again["race"], race);

    // Rules that make no sense.
    for (rules, expected) in
        [("k=9", "none could be dropped"), ("k=1,seeds=1:2,rungs=0.5:1", "2 seeds"), ("best=1", "no rule")]
    {
        let output = place.run(&[&args[..], &[&format!("--racing={rules}")]].concat());
        ended(&output, 2);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn two_tables_are_compared_as_by_timm() {
    let place = TestDir::new();
    let golden = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/zoo").join(name);
        place.file(name, &std::fs::read_to_string(path).expect("a golden table"));
    };
    golden("base.csv");
    golden("test.csv");
    insta::assert_snapshot!("zoo-diff", ended(&place.run(&["zoo", "diff", "base.csv", "test.csv"]), 0));
    let csv = ended(&place.run(&["zoo", "diff", "base.csv", "test.csv", "--csv"]), 0);
    assert!(csv.contains("bicubic,+4.125,+2\n"), "{csv}");
    let diff: Value =
        serde_json::from_str(&ended(&place.run(&["zoo", "diff", "base.csv", "test.csv", "--json"]), 0)).expect("JSON");
    assert_eq!((diff["column"].as_str(), diff["rows"].as_array().map(Vec::len)), (Some("top1"), Some(6)));
    let wrong = place.run(&["zoo", "diff", "base.csv", "test.csv", "--column", "general"]);
    ended(&wrong, 2);
    assert!(stderr(&wrong).contains("its columns: model, img_size"), "{}", stderr(&wrong));
}
