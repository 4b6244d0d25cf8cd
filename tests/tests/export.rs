//! `burgess export`, the event files of runs, `burgess completions` and `burgess man`, through the binary.
//!
//! That other libraries read the files is shown by `tests/reference/llava_export.py` (transformers) and
//! `tests/reference/tensorboard_events.py` (TensorBoard, trackio).

mod events;

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const STUDY: &str = r#"name = "tiny"
title = "A tiny study"
question = "Does it hold?"
seeds = [0]

[evaluator]
llm = "nano-lm"
connector = { mlp2x_gelu = { standardise = true } }
benchmarks = ["nano-mme"]

[evaluator.data.world]
seed = 5
align = 32
tune = 16
turns = 2
per_benchmark = 6

[[arms]]
encoders = ["nano-siglip"]

[[arms]]
encoders = ["nano-dinov2"]
freeze = "unfrozen"

[[arms]]
encoders = ["nano-clip", "nano-siglip"]

[[arms]]
encoders = ["oracle"]

[evaluator.recipe.align]
steps = 8
batch = 4
lr = 1e-2
trainable = ["connector"]

[evaluator.recipe.tune]
steps = 6
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

/// A directory with a finished study and an image that is not square.
fn study() -> TestDir {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    done(&place, &["rank", "tiny.toml", "--jobs", "1"]);
    let image = image::RgbImage::from_fn(130, 90, |x, y| image::Rgb([x as u8, (2 * y) as u8, (x ^ y) as u8]));
    image.save(place.path().join("wide.png")).expect("an image");
    place
}

fn done(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn complaint(place: &TestDir, args: &[&str], code: i32) -> String {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
    stderr(&output)
}

/// Ids and log-probabilities of a given answer about the image.
fn scored(place: &TestDir, model: &str) -> Vec<(u64, f64)> {
    let text = "The red cup is left of the blue bottle.";
    let args = ["ask", "--model", model, "--image", "wide.png", "What is this?", "--continuation", text, "--json"];
    let tokens: Vec<Value> = done(place, &args).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    tokens.iter().filter_map(|t| Some((t["id"].as_u64()?, t["logprob"].as_f64()?))).collect()
}

/// Checks that two models give the same answer and log-probabilities up to rounding; returns the largest difference.
fn same(place: &TestDir, one: &str, other: &str) -> f64 {
    let answer = |model| {
        let args =
            ["ask", "--model", model, "--image", "wide.png", "How many cups are there?", "--max-new-tokens", "8"];
        done(place, &args)
    };
    assert_eq!(answer(one), answer(other));
    let (one, other) = (scored(place, one), scored(place, other));
    assert_eq!(one.len(), other.len());
    assert!(one.len() > 8);
    let difference = |((a, x), (b, y)): (&(u64, f64), &(u64, f64))| {
        assert_eq!(a, b);
        (x - y).abs()
    };
    one.iter().zip(&other).map(difference).fold(0.0, f64::max)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn exported_models_answer_as_the_originals() {
    let place = study();
    let at = |path: &str| place.path().join(path);

    // A frozen encoder without a class token is a vision tower of SigLIP.
    let report: Value =
        serde_json::from_str(&done(&place, &["export", "runs/tiny/nano-siglip", "--to", "out/siglip", "--json"]))
            .expect("JSON");
    assert_eq!((report["layout"].as_str(), report["folded"].as_array().map(Vec::len)), (Some("llava"), Some(2)));
    let config = json(&at("out/siglip/config.json"));
    assert_eq!(config["vision_config"]["model_type"], "siglip_vision_model");
    assert_eq!((&config["image_token_index"], &config["image_seq_length"]), (&5.into(), &16.into()));
    assert_eq!(json(&at("out/siglip/preprocessor_config.json"))["do_pad"], true);
    assert!(same(&place, "runs/tiny/nano-siglip/seed-0/model", "out/siglip") < 1e-4);

    // An encoder that was trained with the model, whose layer scales are multiplied into its weights.
    done(&place, &["export", "runs/tiny/nano-dinov2-unfrozen/seed-0", "--to", "out/dinov2"]);
    assert!(same(&place, "runs/tiny/nano-dinov2-unfrozen/seed-0/model", "out/dinov2") < 1e-4);

    // Two encoders are none of LLaVA's models: the same bits in Burgess's own layout.
    let two = "runs/tiny/nano-clip+nano-siglip/seed-0/model";
    let output = place.run(&["export", two, "--to", "out/two"]);
    assert!(stderr(&output).contains("it has 2 encoders, LLaVA has one"), "{}", stderr(&output));
    assert!(same(&place, two, "out/two") == 0.0);
    // So is what the user asks for; weights are not copied where the file system links them.
    done(&place, &["export", "runs/tiny/nano-siglip", "--to", "out/own", "--own-layout"]);
    assert!(same(&place, "runs/tiny/nano-siglip/seed-0/model", "out/own") == 0.0);

    // Cards and scores.
    let card = std::fs::read_to_string(at("out/siglip/README.md")).expect("a card");
    let (front, body) = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).expect("front matter");
    for line in ["license: other", "license_name: mit-or-apache-2.0", "pipeline_tag: image-text-to-text", "- \"llava\""]
    {
        assert!(front.lines().any(|l| l == line), "{line}: {front}");
    }
    let score = json(&at("runs/tiny/nano-siglip/seed-0/results.json"))["results"]["nano-mme"]["score"].as_f64();
    for part in [
        "LlavaForConditionalGeneration.from_pretrained",
        &format!("| nano-mme | (acc + acc+) / 2, mean of subtasks | {:.1} ± ", score.expect("a score")),
        "burgess rank tiny.toml --jobs 1",
        "burgess export runs/tiny/nano-siglip --to out/siglip",
        "| encoder | nano-siglip | MIT OR Apache-2.0 |",
        "| training data | nano world (generated by Burgess) | MIT OR Apache-2.0 |",
        "\"optimiser\"",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    let other = std::fs::read_to_string(at("out/two/README.md")).expect("a card");
    assert!(
        other.contains("does not compute this model: it has 2 encoders") && !other.contains("```python"),
        "{other}"
    );
    assert!(other.contains("burgess fetch nano-clip nano-siglip"), "{other}");
    let record = json(&at("out/siglip/every_eval_ever.json"));
    assert_eq!(record["evaluation_results"].as_array().map(Vec::len), Some(1));

    // An earlier export is replaced; anything else is kept.
    done(&place, &["export", "runs/tiny/nano-siglip", "--to", "out/two", "--seed", "0"]);
    assert!(at("out/two/config.json").is_file() && !at("out/two/connector.safetensors").exists());
    for (args, code, why) in [
        (vec!["export", "runs/tiny/nano-siglip", "--to", "runs/tiny"], 2, "was not made by `burgess export`"),
        (vec!["export", "runs/tiny/oracle", "--to", "out/oracle"], 2, "the oracle baseline"),
        (vec!["export", "runs/tiny/nano-siglip", "--to", "out/x", "--seed", "7"], 2, "there are the seeds 0"),
        (vec!["export", "cache", "--to", "out/x"], 2, "holds no trained model"),
        (vec!["export", "nowhere", "--to", "out/x"], 2, "there is no directory nowhere"),
        (vec!["export", "runs/tiny/nano-siglip", "--to", "out/x", "--repository", "me"], 2, "owner/name"),
    ] {
        let text = complaint(&place, &args, code);
        assert!(text.contains(why) && text.contains("hint:"), "{args:?}: {text}");
    }
    assert!(!at("out/x").exists() && !at("out/oracle").exists());
    let left = std::fs::read_dir(at("out")).expect("a directory").count();
    assert_eq!(left, 4, "no temporary directory is left");

    // Damage is found, in the export and in its source.
    let file = at("out/siglip/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("a file");
    let text = complaint(&place, &["ask", "--model", "out/siglip", "x"], 1);
    assert!(text.contains("model.safetensors is not what was written") && text.contains("export"), "{text}");
    std::fs::write(at("runs/tiny/nano-siglip/seed-0/model/connector.safetensors"), "short").expect("a file");
    let text = complaint(&place, &["export", "runs/tiny/nano-siglip", "--to", "out/own"], 1);
    assert!(text.contains("connector.safetensors is not what was written"), "{text}");
    assert!(at("out/own/connector.safetensors").is_file(), "the earlier export stays");

    // The event files of the runs: the steps of the log, and the scores once.
    for arm in ["nano-siglip", "nano-dinov2-unfrozen", "oracle"] {
        let run = at(&format!("runs/tiny/{arm}/seed-0"));
        let points = events::points(&run);
        assert_eq!(events::logged(&points), events::expected(&run), "{arm}");
        let results = json(&run.join("results.json"));
        let average = ("eval/average".to_string(), 14, results["average"].as_f64().expect("a number") as f32);
        assert_eq!(points.iter().filter(|p| p.0 == "eval/average").collect::<Vec<_>>(), [&average], "{arm}");
    }
}

/// Whether a program exists; prints what is skipped without it.
fn has(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn shells_read_the_completions() {
    let place = TestDir::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = done(&place, &["completions", shell]);
        assert!(script.contains("burgess") && script.contains("own-layout"), "{shell}");
        let file = place.file(&format!("burgess.{shell}"), &script);
        if ["bash", "zsh", "fish"].contains(&shell) && has(shell) {
            let output = Command::new(shell).arg("-n").arg(&file).output().expect("the shell starts");
            assert!(output.status.success(), "{shell}: {}", stderr(&output));
        }
    }
    if has("bash") {
        let line = "source ./burgess.bash; COMP_WORDS=(burgess encode --encoder nano-si); COMP_CWORD=3; \
                    _burgess burgess nano-si --encoder; echo \"${COMPREPLY[@]}\"; COMP_WORDS=(burgess expo); COMP_CWORD=1; \
                    _burgess burgess expo burgess; echo \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        let output = command.args(["-c", line]).current_dir(place.path()).output().expect("bash starts");
        assert_eq!(stdout(&output), "nano-siglip\nexport\n", "{}", stderr(&output));
    }
    let text = complaint(&place, &["completions", "tcsh"], 2);
    assert!(text.contains("bash") && text.contains("zsh"), "{text}");
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let place = TestDir::new();
    let told = done(&place, &["man", "-o", "man1"]);
    let pages: Vec<_> =
        std::fs::read_dir(place.path().join("man1")).expect("pages").flatten().map(|e| e.path()).collect();
    assert!(pages.len() > 30 && told.starts_with(&format!("{} pages", pages.len())), "{told}");
    assert!(place.path().join("man1/burgess-launch-slurm.1").is_file());
    let page = done(&place, &["man", "export"]);
    assert!(page.contains(".TH burgess") && page.contains(".SH EXAMPLES\n.nf\n"), "{page}");
    assert!(complaint(&place, &["man", "exprt"], 2).contains("known: "));
    if has("mandoc") {
        let mut command = Command::new("mandoc");
        let output = command.args(["-T", "lint", "-W", "error"]).args(&pages).output().expect("mandoc starts");
        assert!(output.status.success(), "{}", stdout(&output));
    }
    if has("man") {
        let mut command = Command::new("man");
        let page = place.path().join("man1/burgess-export.1");
        let output = command.args(["--warnings", "-l"]).arg(&page).env("MANWIDTH", "90").output().expect("man starts");
        let text = stdout(&output);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
        assert!(text.contains("EXAMPLES") && text.contains("burgess export runs/nano/nano-siglip --to"), "{text}");
    }
}
