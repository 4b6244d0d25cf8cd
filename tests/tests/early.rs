//! Errors that can be found before work starts are found then: a run that must fail writes and encodes nothing.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Writes images and conversations in LLaVA's format, and a run on them with `changes` applied to its text.
fn run_file(place: &TestDir, name: &str, changes: &[(&str, &str)]) -> String {
    let images = place.path().join("images");
    std::fs::create_dir_all(&images).expect("a directory");
    let (mut align, mut tune) = (Vec::new(), Vec::new());
    for i in 0..8_u8 {
        let image = format!("{i}.png");
        let path = images.join(&image);
        if !path.exists() {
            image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([x as u8, y as u8, 30 * i]))
                .save(path)
                .expect("an image");
        }
        let entry = |question: &str, answer: &str| {
            json!({"id": format!("c{i}"), "image": image, "conversations": [
                {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
        };
        align.push(entry("Describe the image.", "red boat"));
        tune.push(entry("What is it?", "a red boat"));
    }
    place.file("align.json", &Value::from(align).to_string());
    place.file("tune.json", &Value::from(tune).to_string());
    let stage = "steps = 2\nbatch = 4\nlr = 1e-3\n";
    let mut text = format!(
        "name = \"{name}\"\nencoders = [\"nano-sup\"]\n[evaluator]\nllm = \"nano-lm\"\nconnector = \"mlp2x_gelu\"\n\
         [evaluator.data.files]\nalign = \"align.json\"\ntune = \"tune.json\"\nimages = \"images\"\n\
         [evaluator.recipe.align]\n{stage}trainable = [\"connector\"]\n\
         [evaluator.recipe.tune]\n{stage}trainable = [\"connector\", \"llm\"]\n"
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let file = format!("{name}.toml");
    place.file(&file, &text);
    file
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// Whether no run and no features were written.
fn untouched(place: &TestDir) -> bool {
    !place.path().join("runs").exists() && !place.path().join("cache/features").exists()
}

#[test]
fn a_run_that_cannot_end_well_does_not_begin() {
    let place = TestDir::new();
    run_file(&place, "good", &[]);
    place.file("empty.jsonl", "");
    place.file("unusable.jsonl", "{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"?\"}]}\n");
    let answerless =
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"?\"}, {\"from\": \"gpt\", \"value\": \"\"}]}\n";
    place.file("answerless.jsonl", answerless);
    let llm = place.path().join("llm");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe/zoo/nano-lm"), &llm);
    let mut tokenizer = read(&llm.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array_mut().expect("added tokens");
    for i in 0..20_000 {
        added.push(json!({"id": 1024 + i, "content": format!("<more-{i}>"), "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": false}));
    }
    std::fs::write(llm.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    let cut = place.path().join("cut");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe/zoo/nano-lm"), &cut);
    without_a_tensor(&cut.join("model.safetensors"));

    let tune = "tune = \"tune.json\"";
    for (name, changes, expected) in [
        (
            "empty",
            vec![(tune, "tune = \"empty.jsonl\"")],
            "stage tune: empty.jsonl has no usable conversations: it is empty",
        ),
        ("unusable", vec![(tune, "tune = \"unusable.jsonl\"")], "of 1 none is usable"),
        (
            "answerless",
            vec![(tune, "tune = \"answerless.jsonl\"")],
            "answerless.jsonl: no conversation to train on: of 1 none is usable: empty answer",
        ),
        ("absent", vec![(tune, "tune = \"away.json\"")], "away.json does not exist"),
        ("folder", vec![("\"images\"", "\"photos\"")], "photos does not exist"),
        ("nollm", vec![("nano-lm", "./models/x")], "the language model ./models/x does not exist"),
        ("noencoder", vec![("nano-sup", "./vit-tiny")], "the encoder ./vit-tiny does not exist"),
        ("tokens", vec![("nano-lm", "llm")], "the tokenizer has 21024 entries"),
        ("cut", vec![("nano-lm", "cut")], "missing in the file"),
        ("negative", vec![("lr = 1e-3", "lr = -4e-3")], "`lr` is negative: -0.004"),
        ("nan", vec![("lr = 1e-3", "lr = nan")], "`lr` is not a finite number"),
        ("epochs", vec![("steps = 2", "epochs = 0")], "`epochs` = 0"),
        ("both", vec![("steps = 2", "steps = 2\nepochs = 1")], "either `steps` or `epochs`"),
        ("short", vec![("batch = 4", "batch = 4\nmax_length = 12")], "raise `max_length` to"),
        ("cut-all", vec![("batch = 4", "batch = 4\nmax_length = 20")], "removes the answers of all 8 conversations"),
        ("rank", vec![("\"llm\"]", "\"llm\"]\nlora = { rank = 100000000, alpha = 4 }")], "`lora.rank` is 100000000"),
        ("frozen", vec![("[\"connector\", \"llm\"]", "[\"encoder\"]")], "`trainable` names only `encoder`"),
        ("dots", vec![("\"dots\"", "\"..\"")], "cannot name a directory"),
        ("option", vec![("nano-sup", "nano-sup@layers=2")], "@layer=7 is the same"),
    ] {
        let file = run_file(&place, name, &changes);
        for args in [vec!["train", &file], vec!["train", &file, "--dry-run"]] {
            let output = place.run(&args);
            let told = stderr(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{name}: {told}");
            assert!(told.contains(expected) && told.contains("hint: "), "{name}: {told}");
            assert!(untouched(&place), "{name}: {told}");
        }
    }
    let file = run_file(&place, "zero", &[("lr = 1e-3", "lr = 0")]);
    let output = place.run(&["train", &file, "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: stage tune: `lr` = 0"), "{}", stderr(&output));
    assert!(stdout(&output).contains("tune  8 conversations, 2 steps"), "{}", stdout(&output));
    assert!(untouched(&place));
    place.file("file", "");
    let output = place.run(&["train", &file, "--dry-run", "--out", "file/below"]);
    assert!(stderr(&output).contains("file is a file, not a directory"), "{}", stderr(&output));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    // A language model's directory may contain a directory with the model from which it was trained.
    let entries = std::fs::read_dir(from).expect("a directory").flatten();
    for entry in entries.filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

fn without_a_tensor(file: &Path) {
    let bytes = std::fs::read(file).expect("weights");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut kept = tensors.tensors();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    kept.pop();
    std::fs::write(file, safetensors::serialize(kept, None).expect("serialized")).expect("written");
}

#[test]
fn a_study_is_checked_by_its_dry_run() {
    let place = TestDir::new();
    let study = |arms: &str, evaluator: &str, per_benchmark: usize| {
        let text = format!(
            "name = \"s\"\ntitle = \"s\"\nquestion = \"?\"\nseeds = [0]\n{arms}[evaluator]\nllm = \"nano-lm\"\n\
             connector = \"mlp2x_gelu\"\nbenchmarks = [\"nano-mme\"]\n{evaluator}[evaluator.data.world]\nseed = 5\nalign = 8\n\
             tune = 8\nturns = 2\nper_benchmark = {per_benchmark}\n[evaluator.recipe.tune]\nsteps = 2\nbatch = 4\nlr = 1e-3\n\
             trainable = [\"connector\", \"llm\"]\n"
        );
        place.file("s.toml", &text);
        place.run(&["rank", "s.toml", "--dry-run"])
    };
    let sup = "[[arms]]\nencoders = [\"nano-sup\"]\n";
    let good = study(sup, "", 6);
    assert!(good.status.success(), "{}", stderr(&good));
    for (arms, evaluator, per_benchmark, expected) in [
        (sup, "", 0, "`per_benchmark` = 0"),
        ("[[arms]]\nname = \"x.tmp\"\nencoders = [\"nano-sup\"]\n", "", 6, "`.tmp` is the ending of temporary files"),
        ("[[arms]]\nname = \"NUL\"\nencoders = [\"nano-sup\"]\n", "", 6, "a device on Windows"),
        ("[[arms]]\nencoders = [\"./vit-tiny\"]\n", "", 6, "./vit-tiny does not exist"),
        ("[[arms]]\nencoders = [\"nano-sup@99\"]\n", "", 6, "the arm nano-sup@99"),
        (sup, "limit = 0\n", 6, "`limit` = 0"),
    ] {
        let output = study(arms, evaluator, per_benchmark);
        let told = stderr(&output);
        assert!(!output.status.success() && told.contains(expected) && told.contains("hint: "), "{expected}: {told}");
    }
    assert!(untouched(&place));
}

#[test]
fn what_the_data_do_not_name_changes_nothing_and_what_changed_is_named() {
    let place = TestDir::new();
    let file = run_file(&place, "mine", &[]);
    let output = place.run(&["train", &file]);
    assert!(output.status.success(), "{}", stderr(&output));
    place.file("images/a note.txt", "not an image");
    std::fs::create_dir(place.path().join("images/more")).expect("a directory");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", place.path().join("images/dangling.png")).expect("a link");
    let output = place.run(&["train", &file]);
    assert!(output.status.success() && stderr(&output).contains("already trained"), "{}", stderr(&output));
    image::RgbImage::new(50, 50).save(place.path().join("images/3.png")).expect("an image");
    let output = place.run(&["train", &file]);
    let told = stderr(&output);
    assert!(!output.status.success() && told.contains("other inputs: `data`: 3.png has other contents"), "{told}");
    assert!(told.contains("hint: restore the files"), "{told}");
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let place = TestDir::new();
    std::fs::create_dir(place.path().join("mine")).expect("a directory");
    run_file(&place, "run", &[]);
    for name in ["align.json", "tune.json", "images", "run.toml"] {
        std::fs::rename(place.path().join(name), place.path().join("mine").join(name)).expect("moved");
    }
    let output = place.run(&["train", "mine/run.toml", "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    std::fs::remove_file(place.path().join("mine/tune.json")).expect("removed");
    let told = stderr(&place.run(&["train", "mine/run.toml", "--dry-run"]));
    let both = [place.path().join("mine/tune.json"), place.path().join("tune.json")];
    let shown = |p: &PathBuf| told.contains(&p.display().to_string());
    assert!(told.contains("tune.json does not exist: neither") && both.iter().all(shown), "{told}");
}

#[cfg(unix)]
#[test]
fn images_may_be_called_anything() {
    use std::os::unix::ffi::OsStrExt;
    let place = TestDir::new();
    let file = run_file(&place, "names", &[]);
    let names: [&[u8]; 2] = [b"line\nfeed.png", b"\xff\xfe.png"];
    let mut command = place.burgess(&["encode", "--encoder", "nano-sup", "-o", "f.safetensors"]);
    for (i, name) in names.iter().enumerate() {
        let name = std::ffi::OsStr::from_bytes(name);
        std::fs::copy(place.path().join(format!("images/{i}.png")), place.path().join(name)).expect("copied");
        command.arg(name);
    }
    let output = command.output().expect("burgess starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let tune = std::fs::read_to_string(place.path().join("tune.json")).expect("conversations");
    std::fs::rename(place.path().join("images/1.png"), place.path().join("images/1\n.png")).expect("renamed");
    std::fs::remove_file(place.path().join("align.json")).expect("removed");
    place.file("align.json", &tune.replace("1.png", "1\\n.png"));
    place.file("tune.json", &tune.replace("1.png", "1\\n.png"));
    let output = place.run(&["train", &file, "--dry-run"]);
    assert!(output.status.success() && !stderr(&output).contains("left out"), "{}", stderr(&output));
}
