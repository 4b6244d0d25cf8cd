//! A study whose arms differ in their data, through the binary: mixes, the shared align stage, the report's series.

use burgess_tests::{TestDir, remove_measured, stderr, stdout};
use serde_json::Value;
use std::path::Path;

const STUDY: &str = r#"
name = "mixed"
title = "A study of data"
question = "Does everything run?"
seeds = [3]
[[arms]]
name = "few"
encoders = ["nano-random"]
mix = { threshold = { t = 6 } }
[[arms]]
name = "all"
encoders = ["nano-random"]
[[arms]]
name = "asked"
encoders = ["nano-random"]
mix = "asked.toml"
[[series]]
title = "By threshold"
axis = "t"
points = [{ arm = "few", x = 6 }, { arm = "all", x = 20 }]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-gqa", "nano-conversation"]
[evaluator.data.world]
seed = 5
align = 12
tune = 0
turns = 1
per_benchmark = 6
open_questions = 6
pool = [
    { source = "gists", kind = "General", family = "gist", count = 20 },
    { source = "words", kind = "OCR", family = "word", count = 9 },
    { source = "facts", kind = "Language", family = "fact", count = 5 },
]
[evaluator.recipe.align]
steps = 3
batch = 4
lr = 1e-3
trainable = ["connector"]
[evaluator.recipe.tune]
epochs = 1.0
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

const ASKED: &str = r#"
[ratios]
total = 12
shares = { general = 2, ocr = 1 }
[system_prompts]
texts = "none"
sources = { gists = "Answer the question using a single word or phrase." }
"#;

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Number of steps of a stage in the training log of an arm.
fn steps(study: &Path, arm: &str, stage: &str) -> usize {
    let log = std::fs::read_to_string(study.join(arm).join("seed-3/train.jsonl")).expect("a training log");
    log.lines().filter(|line| line.contains(&format!("\"stage\":\"{stage}\""))).count()
}

#[test]
fn arms_with_mixes_share_features_and_alignment_and_differ_in_data() {
    let place = TestDir::new();
    place.file("mixed.toml", STUDY);
    place.file("asked.toml", ASKED);
    let plan = place.run(&["rank", "mixed.toml", "--dry-run", "--throughput", "1"]);
    assert!(plan.status.success(), "{}", stderr(&plan));
    assert!(stdout(&plan).contains("Tune conversations: few 17, all 34, asked 12"), "{}", stdout(&plan));
    let ran = place.run(&["rank", "mixed.toml", "--jobs", "1"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let shared = |log: &str| log.matches("the aligned connector is that of").count();
    assert_eq!(shared(&stderr(&ran)), 2, "of three arms one aligns: {}", stderr(&ran));
    let study = place.path().join("runs/mixed");
    let config = |arm: &str| json(&study.join(arm).join("seed-3/config.json"));
    let few = config("few");
    assert_eq!(few["mix"]["entries"], 17);
    assert_eq!(few["mix"]["sources"], serde_json::json!({"facts": 5, "gists": 6, "words": 6}));
    assert_eq!(few["mix"]["rules"], serde_json::json!({"threshold": few["mix"]["rules"]["threshold"]}));
    assert!(config("all").get("mix").is_none());
    let asked = config("asked");
    assert_eq!(asked["mix"]["kinds"], serde_json::json!({"General": 8, "OCR": 4}));
    assert_ne!(few["mix"]["digest"], asked["mix"]["digest"]);
    for (arm, tune) in [("few", 5), ("all", 9), ("asked", 3)] {
        assert_eq!((steps(&study, arm, "align"), steps(&study, arm, "tune")), (3, tune), "{arm}");
    }
    // The chosen conversations lie in the cache, with the prompts that were appended.
    let mixes: Vec<_> = std::fs::read_dir(place.path().join("cache/mixes")).expect("the mixes").flatten().collect();
    let read = |mix: &std::fs::DirEntry| std::fs::read_to_string(mix.path().join("mix.jsonl")).expect("a mix");
    let asks = |text: &String| text.matches("\\nAnswer the question using a single word or phrase.").count();
    let counts: Vec<usize> = mixes.iter().map(|mix| asks(&read(mix))).collect();
    assert!(counts.len() == 2 && counts.contains(&8), "{counts:?}");
    let series = json(&study.join("report/series.json"));
    assert_eq!(series[0]["points"][1]["arm"], "all");
    let page = std::fs::read_to_string(study.join("report/index.html")).expect("the page");
    assert!(page.contains("id=\"series\"") && page.contains("By threshold"));

    // An arm alone aligns itself, and gets the same bits.
    let alone = place.run(&["rank", "mixed.toml", "--arm", "asked", "--out", "alone"]);
    assert!(alone.status.success() && shared(&stderr(&alone)) == 0, "{}", stderr(&alone));
    let results = |out: &str| {
        let mut results = json(&place.path().join(out).join("mixed/asked/seed-3/results.json"));
        remove_measured(&mut results);
        results
    };
    assert_eq!(results("runs"), results("alone"));

    // A damaged mix is made again, with the same contents, so that finished runs stay.
    let damaged = mixes[0].path().join("mix.jsonl");
    let before = std::fs::read_to_string(&damaged).expect("a mix");
    std::fs::write(&damaged, "x").expect("writable");
    let again = place.run(&["rank", "mixed.toml"]);
    assert!(again.status.success() && stderr(&again).contains("the mix is made again"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(&damaged).expect("a mix"), before);

    // Another mix under the same name is another run.
    place.file("asked.toml", &ASKED.replace("total = 12", "total = 9"));
    let changed = place.run(&["rank", "mixed.toml"]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(stderr(&changed).contains("was made from other inputs: mix."), "{}", stderr(&changed));
}

#[test]
fn mixes_that_cannot_be_applied_are_refused_before_anything_runs() {
    let place = TestDir::new();
    let refused = |study: &str, mix: &str| -> String {
        place.file("mixed.toml", study);
        place.file("asked.toml", mix);
        let output = place.run(&["rank", "mixed.toml"]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", stderr(&output));
        assert!(stderr(&output).contains("hint: "), "{}", stderr(&output));
        stderr(&output)
    };
    for (study, mix, said) in [
        (STUDY.replace("t = 6 }", "t = 0 }"), ASKED, "`mix`"),
        (STUDY.replace("t = 6 }", "tt = 6 }"), ASKED, "unknown field `tt`"),
        (STUDY.to_string(), "[ratio]\n", "asked.toml:1"),
        (STUDY.to_string(), "[filters]\nmissing_images = \"drop\"\n", "`filters.missing_images`"),
        (STUDY.replace("\"asked.toml\"", "\"away.toml\""), ASKED, "away.toml does not exist"),
        (STUDY.replace("arm = \"all\", x", "arm = \"none\", x"), ASKED, "no arm called `none`"),
        (STUDY.replace("open_questions = 6", ""), ASKED, "no open questions"),
        (STUDY.replace("count = 9", "count = 0"), ASKED, "`count` = 0 of words"),
        (STUDY.to_string(), "[filters.answer_words]\nmin = 500\n", "leaves no conversation"),
    ] {
        let told = refused(&study, mix);
        assert!(told.contains(said), "{said}: {told}");
    }
    assert!(!place.path().join("runs").exists(), "nothing was run");
}
