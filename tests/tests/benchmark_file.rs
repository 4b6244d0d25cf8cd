//! Benchmarks of one's own through the binary: a benchmark file is shown, its answers are scored, and models are asked
//! its questions by `eval` and in a study, under its own category; changed files and mistakes are told.

use burgess_tests::{TestDir, remove_measured, stderr, stdout};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;

/// A benchmark file beside the table `shapes.jsonl`.
const SHAPES: &str = r#"category = "Colours"
citation = "made by this test"

[data]
path = "shapes.jsonl"

[columns]
id = "n"
image = "file"
question = "text"
options = "choices"
answer = "right"
subtask = "kind"

[prompt]
template = """
{{ question }}
{{ options | lettered }}
Answer with the letter."""

[answer]
read = "letter"
"#;

/// The right letters of the eight questions.
const RIGHT: [&str; 8] = ["A", "B", "A", "B", "A", "B", "A", "B"];

/// Writes `benchmarks/` with `shapes.toml`, its table and four images.
fn shapes(place: &TestDir) {
    let folder = place.path().join("benchmarks");
    std::fs::create_dir_all(folder.join("img")).expect("a folder");
    let colours = [[200, 30, 30], [30, 160, 40], [30, 40, 200], [230, 220, 40]];
    for (i, colour) in colours.into_iter().enumerate() {
        let image = RgbImage::from_pixel(48, 48, Rgb(colour));
        image.save(folder.join(format!("img/{i}.png"))).expect("an image");
    }
    let rows: Vec<String> = RIGHT
        .iter()
        .enumerate()
        .map(|(i, right)| {
            json!({"n": format!("q{i}"), "file": format!("img/{}.png", i / 2), "text": "Which colour is it?",
                   "choices": ["red", "green"], "right": right, "kind": if i < 4 { "warm" } else { "cold" }})
            .to_string()
        })
        .collect();
    std::fs::write(folder.join("shapes.jsonl"), rows.join("\n")).expect("a table");
    std::fs::write(folder.join("shapes.toml"), SHAPES).expect("a benchmark file");
}

/// Puts the questions of `benchmarks/moved.toml` into the Hugging Face cache under the second of the dataset's names,
/// and returns its edition.
fn moved(place: &TestDir) -> String {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let dataset = place.path().join("huggingface/hub/datasets--owner--old");
    let snapshot = dataset.join("snapshots").join(commit);
    std::fs::create_dir_all(snapshot.join("img")).expect("a folder");
    std::fs::create_dir_all(dataset.join("refs")).expect("a folder");
    std::fs::write(dataset.join("refs/main"), commit).expect("a reference");
    let folder = place.path().join("benchmarks");
    std::fs::copy(folder.join("shapes.jsonl"), snapshot.join("test.jsonl")).expect("a table");
    for i in 0..4 {
        let name = format!("img/{i}.png");
        std::fs::copy(folder.join(&name), snapshot.join(&name)).expect("an image");
    }
    let text = SHAPES.replacen("path = \"shapes.jsonl\"", "repository = \"owner/new\"\nalias = \"owner/old\"", 1);
    std::fs::write(folder.join("moved.toml"), text).expect("a benchmark file");
    format!("owner/old@{commit}")
}

/// Writes a study of one arm on the nano world with these benchmarks.
fn study(place: &TestDir, name: &str, benchmarks: &str) -> String {
    let text = format!(
        r#"
name = "{name}"
title = "Own questions"
question = "Which colour is it?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = {benchmarks}
[evaluator.data.world]
seed = 5
align = 8
tune = 12
turns = 3
per_benchmark = 6
[[arms]]
encoders = ["nano-sup"]
[evaluator.recipe.tune]
steps = 3
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#
    );
    let file = format!("{name}.toml");
    place.file(&file, &text);
    file
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", stdout(output), stderr(output));
    stdout(output)
}

/// Runs a command that must be used wrongly, and returns its message.
fn wrong(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}\n{}\n{}", stdout(&output), stderr(&output));
    stderr(&output)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// Returns the predictions in which the answers to the first `right` questions are right.
fn predictions(right: usize) -> String {
    let line = |(i, letter): (usize, &&str)| {
        let other = if *letter == "A" { "B" } else { "A" };
        json!({"id": format!("q{i}"), "answer": if i < right { *letter } else { other }}).to_string()
    };
    RIGHT.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_benchmark_file_is_shown_and_scored() {
    let place = TestDir::new();
    shapes(&place);
    let shown = done(&place.run(&["prompts", "benchmarks/shapes.toml"]));
    for part in ["Colours", "made by this test", "shapes.jsonl", "Which colour is it?\nA. red\nB. green\nAnswer with"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let page: Value =
        serde_json::from_str(&done(&place.run(&["prompts", "benchmarks/shapes.toml", "--json"]))).expect("JSON");
    assert_eq!((&page["id"], &page["questions"][0]["id"]), (&json!("shapes"), &json!("q0")));

    place.file("five.jsonl", &predictions(5));
    place.file("eight.jsonl", &predictions(8));
    let score = ["score", "benchmarks/shapes.toml", "--predictions", "five.jsonl"];
    let report: Value = serde_json::from_str(&done(&place.run(&[&score[..], &["--json"]].concat()))).expect("JSON");
    assert_eq!((report["outcome"]["score"].as_f64(), report["chance"].as_f64()), (Some(62.5), Some(50.0)), "{report}");
    let text = done(&place.run(&score));
    assert!(
        text.contains("shapes (Colours, version 1") && text.contains("warm") && !text.contains("published"),
        "{text}"
    );

    let compared = done(&place.run(&["compare", "eight.jsonl", "five.jsonl", "--benchmark", "benchmarks/shapes.toml"]));
    assert!(compared.contains("shapes") && compared.contains("37.5"), "{compared}");

    let schema = done(&place.run(&["study", "--schema", "benchmark"]));
    assert!(schema.contains("max_new_tokens") && schema.contains("all_right"), "{schema}");
}

#[test]
fn a_study_asks_the_benchmarks_beside_it() {
    let place = TestDir::new();
    shapes(&place);
    let edition = moved(&place);
    let file = study(&place, "own", r#"["nano-gqa", "shapes", "moved"]"#);
    let plan = done(&place.run(&["rank", &file, "--dry-run", "--throughput", "1"]));
    assert!(plan.contains(r#"benchmarks = ["nano-gqa", "shapes", "moved"]"#), "{plan}");
    assert!(!plan.contains("not on this machine"), "{plan}");
    let tasks = done(&place.run(&["launch", "list", &file]));
    let table = done(&place.run(&["rank", &file]));
    assert!(table.contains("The average is the mean of the categories General, Colours."), "{table}");

    // Results, the average over both categories, and what is recorded of the file.
    let root = place.path().join("runs/own");
    let run = root.join("nano-sup/seed-0");
    let results = json_of(&run.join("results.json"));
    let shapes_of = |results: &Value| results["results"]["shapes"].clone();
    assert_eq!((&shapes_of(&results)["category"], &shapes_of(&results)["n"]), (&json!("Colours"), &json!(8)));
    let category = |name: &str| results["categories"][name].as_f64().expect("a category");
    let mean = (category("Colours") + category("General")) / 2.0;
    assert!((results["average"].as_f64().expect("an average") - mean).abs() < 1e-9, "{results}");
    let digest = results["digests"]["shapes.toml"].clone();
    assert!(digest.is_string() && results["digests"]["shapes"].is_string(), "{}", results["digests"]);
    assert_eq!(results["digests"]["moved dataset"], json!(edition));
    assert_eq!(results["results"]["shapes"]["units"][0][0], json!("img/0.png"), "units are the same on every machine");
    assert_eq!(json_of(&run.join("config.json"))["benchmark_files"]["shapes"], digest);
    assert_eq!(std::fs::read_to_string(root.join("benchmarks/shapes.toml")).expect("the copy"), SHAPES);
    let page = std::fs::read_to_string(root.join("report/index.html")).expect("the page");
    assert!(page.contains("Colours") && page.contains("the average is the mean of the categories"), "the page");
    let answers = std::fs::read_to_string(root.join("made.json")).expect("made.json");
    assert!(answers.contains("/benchmarks\""), "{answers}");
    assert!(done(&place.run(&["status", &file])).contains("done"));

    // The tasks of a scheduler find that everything is done; a second call computes nothing.
    let task = tasks.lines().find(|line| line.contains("--stage eval")).expect("an evaluation").to_string();
    assert!(task.contains("own.toml"), "{task}");
    done(&place.shell(&task).output().expect("a task"));
    let again = place.run(&["rank", &file]);
    assert_eq!(stdout(&again), table, "{}", stderr(&again));

    // A model on its own gets the same answers, with the file named by its path.
    let model = run.join("model").display().to_string();
    let eval = ["eval", "--model", &model, "--benchmark", "benchmarks/shapes.toml", "--json"];
    let mut alone: Value = serde_json::from_str(&done(&place.run(&eval))).expect("JSON");
    let mut within = json_of(&run.join("results.json"));
    [&mut alone, &mut within].into_iter().for_each(remove_measured);
    assert_eq!(shapes_of(&alone), shapes_of(&within));

    // A changed file, and a changed image, are noticed.
    let toml = place.path().join("benchmarks/shapes.toml");
    std::fs::write(&toml, SHAPES.replacen("with the letter", "by the letter", 1)).expect("a file");
    let changed = wrong(&place, &["rank", &file]);
    for part in ["shapes.toml has changed", "line 19 was `Answer with the letter.\"\"\"`", "another output directory"] {
        assert!(changed.contains(part), "{part}\n{changed}");
    }
    assert!(wrong(&place, &eval).contains("has changed"));
    std::fs::write(&toml, SHAPES).expect("a file");
    let image = place.path().join("benchmarks/img/0.png");
    RgbImage::from_pixel(48, 48, Rgb([0, 0, 0])).save(&image).expect("an image");
    let output = place.run(&["rank", &file]);
    assert!(
        !output.status.success() && stderr(&output).contains("img/0.png has other contents"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn files_are_named_by_paths_and_on_the_command_line() {
    let place = TestDir::new();
    shapes(&place);
    let resolved = |args: &[&str]| {
        let plan = done(&place.run(&[args, &["--dry-run", "--throughput", "1"]].concat()));
        plan.lines().find(|line| line.starts_with("benchmarks = ")).expect("the benchmarks").to_string()
    };
    let by_path = study(&place, "by-path", r#"["nano-gqa", "benchmarks/shapes.toml"]"#);
    assert_eq!(resolved(&["rank", &by_path]), r#"benchmarks = ["nano-gqa", "shapes"]"#);
    let without = study(&place, "without", r#"["nano-gqa"]"#);
    let more = ["rank", &without, "--benchmark", "benchmarks/shapes.toml"];
    assert_eq!(resolved(&more), r#"benchmarks = ["nano-gqa", "shapes"]"#);
    // Tasks of a scheduler get the whole path.
    let tasks = done(&place.run(&["launch", "list", &without, "--benchmark", "benchmarks/shapes.toml"]));
    assert!(tasks.lines().all(|line| line.contains("--benchmark /")), "{tasks}");
    // A file that states another id than its name.
    let renamed = SHAPES.replacen("category", "id = \"tints\"\ncategory", 1);
    std::fs::write(place.path().join("benchmarks/other.toml"), renamed).expect("a file");
    let tints = study(&place, "tints-study", r#"["tints", "shapes"]"#);
    assert_eq!(resolved(&["rank", &tints]), r#"benchmarks = ["tints", "shapes"]"#);
}

#[test]
fn mistakes_are_told_with_file_line_and_key() {
    let place = TestDir::new();
    shapes(&place);
    let folder = place.path().join("benchmarks");
    let broken = |from: &str, to: &str| {
        assert!(SHAPES.contains(from), "{from}");
        std::fs::write(folder.join("broken.toml"), SHAPES.replacen(from, to, 1)).expect("a file");
        wrong(&place, &["prompts", "benchmarks/broken.toml"])
    };
    for (from, to, line, said) in [
        ("category =", "categry =", 1, "did you mean `category`"),
        ("category = \"Colours\"", "category = \"\"", 1, "the category is empty"),
        ("citation =", "max_new_tokens = 0\ncitation =", 2, "between 1 and 32768"),
        ("path =", "paths =", 5, "did you mean `path`"),
        ("path = \"shapes.jsonl\"", "path = \"shapes.jsonl\"\nwhere = \"kind ==\"", 6, "`where"),
        ("id = \"n\"", "idd = \"n\"", 8, "unknown field `idd`"),
        ("question = \"text\"", "question = \"{{ text\"", 10, "`question"),
        ("options = \"choices\"\n", "", 7, "names no `options`"),
        ("{{ question }}", "{{ quest }}", 16, "uses `quest`"),
        ("read = \"letter\"", "read = \"leter\"", 22, "did you mean `letter`"),
        ("read = \"letter\"", "read = \"letter\"\nby = \"best\"", 23, "has no variant `best`"),
        ("read = \"letter\"", "read = \"letter\"\n[score]\nsize = 2", 24, "`size`"),
    ] {
        let told = broken(from, to);
        assert!(told.contains(&format!("benchmarks/broken.toml:{line}: ")) && told.contains(said), "{to}\n{told}");
    }
    std::fs::remove_file(folder.join("broken.toml")).expect("the file");

    // Ids: unknown ones, those of files that are not named by their path, and those of built-in benchmarks.
    let shown = wrong(&place, &["prompts", "shapes"]);
    assert!(shown.contains("did you mean benchmarks/shapes.toml?"), "{shown}");
    assert!(wrong(&place, &["prompts", "benchmarks/shape.toml"]).contains("did you mean benchmarks/shapes.toml?"));
    let unknown = wrong(&place, &["rank", &study(&place, "unknown", r#"["shape"]"#), "--dry-run"]);
    assert!(unknown.contains("no benchmark is called `shape`") && unknown.contains("shapes.toml?"), "{unknown}");
    std::fs::write(folder.join("mme.toml"), SHAPES).expect("a file");
    let taken = wrong(&place, &["rank", &study(&place, "taken", r#"["mme"]"#), "--dry-run"]);
    assert!(taken.contains("the id `mme` is that of a built-in benchmark"), "{taken}");
    assert!(wrong(&place, &["prompts", "benchmarks/mme.toml"]).contains("that of a built-in benchmark"));
    let twice = study(&place, "twice", r#"["shapes", "benchmarks/shapes.toml"]"#);
    assert!(wrong(&place, &["rank", &twice, "--dry-run"]).contains("the benchmark shapes is listed twice"));

    // Questions that do not exist, and a row that cannot be used.
    std::fs::rename(folder.join("shapes.jsonl"), folder.join("away.jsonl")).expect("the table");
    let absent = wrong(&place, &["rank", &study(&place, "absent", r#"["shapes"]"#), "--dry-run"]);
    assert!(
        absent.contains("the questions of shapes do not exist") && absent.contains("is relative to that file"),
        "{absent}"
    );
    let row = json!({"n": 1, "file": "img/9.png", "text": "?", "choices": ["a", "b"], "right": "A", "kind": "x"});
    std::fs::write(folder.join("shapes.jsonl"), row.to_string()).expect("a table");
    let output = place.run(&["prompts", "benchmarks/shapes.toml", "--questions", "1"]);
    assert!(!output.status.success() && stderr(&output).contains("img/9.png"), "{}", stderr(&output));
}
