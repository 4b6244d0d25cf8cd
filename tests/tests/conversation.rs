//! Open questions through the binary: a model answers them, its answers are scored by their words and measured by their
//! form, a judge marks them, prompts are asked without their response-format sentences, and sources of training data
//! get such sentences.

use burgess_site::{ChatFault, ChatOptions, ChatSite, Fault};
use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;

/// Writes a study of one arm on the nano world that trains for a few steps; `more` is appended to its tune stage.
fn study(place: &TestDir, name: &str, more: &str) -> String {
    let text = format!(
        r#"
name = "{name}"
title = "Open questions"
question = "Does it explain?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-gqa"]
[evaluator.data.world]
seed = 5
align = 8
tune = 12
turns = 3
per_benchmark = 6
[[arms]]
encoders = ["nano-sup"]
[evaluator.recipe.tune]
steps = 4
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
{more}"#
    );
    let file = format!("{name}.toml");
    place.file(&file, &text);
    file
}

fn done(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    assert!(output.status.success(), "{args:?}\n{}", stderr(&output));
    stdout(&output)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The directory of the only nano world in the cache.
fn world(place: &TestDir) -> String {
    let worlds = std::fs::read_dir(place.path().join("cache/worlds")).expect("worlds");
    worlds.flatten().next().expect("a world").path().display().to_string()
}

#[test]
fn open_questions_are_scored_measured_and_judged() {
    let place = TestDir::new();
    let file = study(&place, "open", "");
    let ranked = done(&place, &["rank", &file]);
    assert!(!ranked.contains("How the models answer open questions"), "all are asked for a short answer\n{ranked}");
    let root = place.path().join("runs/open");
    let ranking = json_of(&root.join("ranking.json"));
    let style = &ranking["answer_style"];
    assert_eq!((&style["questions"]["open"], &style["questions"]["short_form"]), (&json!(6), &json!(6)), "{style}");
    let page = std::fs::read_to_string(root.join("report/index.html")).expect("the page");
    assert!(page.contains("<section id=\"style\">") && page.contains("None of the 6 open questions"), "the section");
    let run = root.join("nano-sup/seed-0");
    let samples = lines(&run.join("samples/nano-gqa.jsonl"));
    assert!(samples.iter().all(|s| s["tokens"].is_u64()), "{}", samples[0]);
    let results = json_of(&run.join("results.json"));
    assert!(results.get("answer_style").is_none(), "the results of a run are the same as before");

    // One's own questions, about images of the world.
    let data = world(&place);
    let image = samples[0]["image"].as_str().expect("a path").to_string();
    let questions: Vec<String> = (0..6)
        .map(|i| {
            let question = if i % 2 == 0 { "Describe the image." } else { "Why is it there?" };
            json!({"id": format!("c{i}"), "image": image, "image_id": format!("i{}", i / 2), "question": question,
                   "answers": [format!("A red square and {i} dogs."), "It shows dogs and a square."],
                   "context": "A square."})
            .to_string()
        })
        .collect();
    std::fs::write(Path::new(&data).join("bench/conversation.jsonl"), questions.join("\n")).expect("a file");
    let model = run.join("model").display().to_string();
    let eval = |more: &[&str]| {
        place.run(&[&["eval", "--model", &model, "--benchmarks", "conversation", "--data", &data], more].concat())
    };
    let plain = eval(&["--name", "mine"]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let text = stdout(&plain);
    assert!(text.contains("How the models answer open questions"), "{text}");
    assert!(text.contains("explanation") && text.contains("6 questions ask for an explanation"), "{text}");
    let dir = place.path().join("runs/eval/mine/seed-0");
    let before = json_of(&dir.join("results.json"));
    let result = &before["results"]["conversation"];
    assert_eq!((&result["category"], &result["metric"]), (&json!("Conversation"), &json!("F1 of content words")));
    assert!(result["chance"].as_f64().is_some_and(|c| c > 0.0 && c < 100.0) && result.get("judge").is_none());
    assert_eq!(before["average"], result["score"], "the only category is the average");

    // A judge that refuses one request, answers one without marks, and is asked only for what is missing.
    let judge = ChatSite::start(ChatOptions { key: Some("secret-key".into()), ..ChatOptions::default() });
    judge.fail("3 dogs", 1, ChatFault::Http(Fault::status(400)));
    let asked = |more: &[&str]| {
        let url = judge.base_url();
        let list = ["eval", "--model", &model, "--benchmarks", "conversation", "--data", &data, "--name", "mine"];
        let judge = ["--judge", &url, "--judge-model", "j"];
        let mut command = place.burgess(&[&list[..], &judge, more].concat());
        command.env("JUDGE_KEY", "secret-key").output().expect("burgess starts")
    };
    let unauthorised = asked(&[]);
    assert!(!unauthorised.status.success() && stderr(&unauthorised).contains("judge"), "{}", stderr(&unauthorised));
    let judged = asked(&["--judge-key", "JUDGE_KEY", "--json"]);
    assert!(judged.status.success(), "{}", stderr(&judged));
    assert!(stderr(&judged).contains("refused 1 of 6 requests"), "{}", stderr(&judged));
    assert!(!stderr(&judged).contains("secret-key"));
    let printed: Value = serde_json::from_str(&stdout(&judged)).expect("JSON");
    assert_eq!(printed["answer_style"]["questions"]["explanation"], 6);
    let found = &printed["results"]["conversation"]["judge"];
    let count = |key: &str| found[key].as_u64().expect("a number");
    assert_eq!(count("judged") + count("unparsed"), 5, "{found}");
    assert!(count("prompt_tokens") > 0 && found["model"] == "j", "{found}");
    assert_eq!(printed["results"]["conversation"]["score"], result["score"], "the marks are not mixed with the score");
    let texts: Vec<Value> = lines(&dir.join("samples/conversation.jsonl"));
    assert_eq!(texts.iter().filter(|s| s["judge"]["text"].is_string()).count(), 5);
    let requests = judge.requests().len();
    assert!(asked(&["--judge-key", "JUDGE_KEY"]).status.success());
    assert_eq!(judge.requests().len(), requests + 1, "only the refused one is asked again");
    let sent = judge.requests().last().expect("a request").body.to_string();
    assert!(sent.contains("A red square and 3 dogs.") && sent.contains("[Answer 2]"), "{sent}");
    let misused = place.run(&[
        "eval",
        "--model",
        &model,
        "--benchmarks",
        "nano-gqa",
        "--data",
        &data,
        "--judge",
        "http://127.0.0.1:1/v1",
        "--judge-model",
        "j",
    ]);
    assert!(stderr(&misused).contains("none of the benchmarks has open questions"), "{}", stderr(&misused));
}

#[test]
fn prompts_are_asked_without_their_response_format() {
    let place = TestDir::new();
    let file = study(&place, "formats", "");
    done(&place, &["rank", &file]);
    let model = place.path().join("runs/formats/nano-sup/seed-0/model").display().to_string();
    let data = world(&place);
    let list = ["eval", "--model", &model, "--benchmarks", "nano-gqa", "--data", &data];
    let with = done(&place, &[&list[..], &["--out", "with"]].concat());
    let output = place.run(&[&list[..], &["--out", "without", "--response-prompt", "drop"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let note = "nano-gqa: dropped from 6 of 6 prompts: \"Answer the question using a single word or phrase\"";
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
    assert!(with.contains("short form  "), "{with}");
    assert!(stdout(&output).contains("free form  "), "{}", stdout(&output));
    let samples = |out: &str| {
        let eval = place.path().join(out).join("eval");
        let run = std::fs::read_dir(&eval).expect("runs").flatten().find(|e| e.path().is_dir()).expect("a run").path();
        lines(&run.join("seed-0/samples/nano-gqa.jsonl"))
    };
    for (with, without) in samples("with").iter().zip(samples("without")) {
        assert_eq!(without["prompt"], with["question"]);
        assert_ne!(with["prompt"], without["prompt"]);
    }
    // Another choice in the same directory would be another evaluation.
    let other = place.run(&[&list[..], &["--out", "with", "--response-prompt", "drop"]].concat());
    assert!(!other.status.success() && stderr(&other).contains("response_prompt"), "{}", stderr(&other));
    // Both are compared, with a warning.
    let compared = place.run(&["compare", "with/eval", "without/eval"]);
    assert!(compared.status.success(), "{}", stderr(&compared));
}

#[test]
fn sources_get_their_response_formats_and_runs_depend_on_them() {
    let place = TestDir::new();
    let rank = |name: &str, more: &str| place.run(&["rank", &study(&place, name, more)]);
    let config = |name: &str| json_of(&place.path().join(format!("runs/{name}/nano-sup/seed-0/config.json")));
    let loss =
        |name: &str| lines(&place.path().join(format!("runs/{name}/nano-sup/seed-0/train.jsonl")))[0]["loss"].clone();
    let plain = rank("plain", "");
    assert!(plain.status.success(), "{}", stderr(&plain));
    assert!(config("plain")["evaluator"]["recipe"]["tune"].get("response_prompts").is_none(), "no trace by default");
    // The conversations of the world have no source of the paper: nothing is appended, and the note says so.
    let paper = rank("paper", "response_prompts = true\n");
    assert!(paper.status.success(), "{}", stderr(&paper));
    assert_eq!(config("paper")["evaluator"]["recipe"]["tune"]["response_prompts"], "cambrian-1");
    assert!(config("paper")["notes"].to_string().contains("so nothing is appended"), "{}", config("paper")["notes"]);
    assert_eq!(loss("paper"), loss("plain"), "the same conversations");
    // Images lie in images/, which is the source of a conversation that names none.
    let own = rank("own", "response_prompts = { images = \"Answer briefly, please.\" }\n");
    assert!(own.status.success(), "{}", stderr(&own));
    let notes = config("own")["notes"].to_string();
    assert!(
        notes.contains("response-format prompts appended to ") && notes.contains("questions of `images`"),
        "{notes}"
    );
    assert_ne!(loss("own"), loss("plain"), "other conversations");
    let unknown = rank("unknown", "response_prompts = { vqa = \"Briefly.\" }\n");
    assert!(!unknown.status.success());
    assert!(
        stderr(&unknown).contains("names the source `vqa`") && stderr(&unknown).contains("`images`"),
        "{}",
        stderr(&unknown)
    );
    let wrong = rank("wrong", "response_prompts = 3\n");
    assert!(
        stderr(&wrong).contains("expected true, false, \"cambrian-1\", or a table of texts by source"),
        "{}",
        stderr(&wrong)
    );
}
