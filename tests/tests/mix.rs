//! `burgess data mix` through the command line: tables, outputs that are the same twice, and errors.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::Value;

/// Conversations of three sources, 12, 8 and 4.
fn pool(place: &TestDir) {
    let line = |i: usize| {
        let (source, image) = match i % 6 {
            0..=2 => ("dvqa_2325k.json", format!("\"image\": \"dvqa/{i}.png\", ")),
            3 | 4 => ("tallyqa_250k.json", format!("\"image\": \"tallyqa/{i}.png\", ")),
            _ => ("orca_994k.json", String::new()),
        };
        let mark = if image.is_empty() { "" } else { "<image>\\n" };
        format!(
            "{{\"id\": \"{i}\", {image}\"source\": \"{source}\", \"conversations\": [{{\"from\": \"human\", \"value\": \
             \"{mark}Which {i}?\"}}, {{\"from\": \"gpt\", \"value\": \"{i}\"}}]}}\n"
        )
    };
    let text: String = (0..24).map(line).collect();
    place.file("pool.jsonl", &(text + "{\"id\": \"cut\n"));
}

#[test]
fn the_built_in_mixes_are_listed_and_counted() {
    let place = TestDir::new();
    let list = stdout(&place.run(&["data", "mix"]));
    assert!(list.lines().count() >= 13 && list.contains("cambrian-10m-t350k  "), "{list}");
    let table = stdout(&place.run(&["data", "mix", "cambrian-10m-t350k", "--dry-run"]));
    for part in ["9,745,500  5,776,500", "5,883,000", "-106,500 (-1.8 %)", "No data were read"] {
        assert!(table.contains(part), "{part}\n{table}");
    }
    let json: Value =
        serde_json::from_str(&stdout(&place.run(&["data", "mix", "cambrian-ratio-5", "--dry-run", "--json"])))
            .expect("JSON");
    assert_eq!(json["table"]["basis"], "published-counts");
    assert_eq!(json["table"]["ratios"]["total"], 1_350_000);
    let toml = stdout(&place.run(&["data", "mix", "cambrian-5m", "--toml"]));
    place.file("mine.toml", &toml);
    assert!(place.run(&["data", "mix", "mine.toml", "--dry-run"]).status.success());
}

#[test]
fn a_mix_is_written_once_and_the_same() {
    let place = TestDir::new();
    pool(&place);
    place.file(
        "rules.toml",
        "catalogue = \"cambrian-10m\"\nthreshold = { t = 5, except = [\"language\"] }\nsystem_prompts = {}\n",
    );
    let args = |out: &'static str| ["data", "mix", "rules.toml", "--pool", "pool.jsonl", "-o", out];
    let first = place.run(&args("one"));
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(stdout(&first).contains("14 entries in one"), "{}", stdout(&first));
    assert!(stderr(&first).contains("1 skipped") && stderr(&first).contains("pool.jsonl"), "{}", stderr(&first));
    assert!(place.run(&args("two")).status.success());
    for name in ["mix.jsonl", "manifest.json", "index.html", "cumulative.svg"] {
        let read = |out: &str| std::fs::read(place.path().join(out).join(name)).expect("a file");
        assert!(read("one") == read("two"), "{name}");
    }
    assert!(stdout(&place.run(&args("one"))).contains("(was there already)"));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("one/manifest.json")).expect("a file")).expect("JSON");
    assert_eq!(manifest["entries"], 14);
    assert_eq!(manifest["counts"]["system_prompts"]["DVQA"]["appended"], 5);
    // mix.toml has all that is needed.
    let again = place.run(&["data", "mix", "one/mix.toml", "--dry-run"]);
    assert!(stdout(&again).contains("24") && again.status.success(), "{}", stderr(&again));
    // Shards of the entries without images; those with a missing image are left out and counted.
    let shards =
        ["data", "mix", "rules.toml", "--pool", "pool.jsonl", "--images", ".", "--format", "webdataset", "-o", "s"];
    let output = place.run(&shards);
    assert!(stdout(&output).contains("4 entries in s"), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("left out: an image cannot be read"), "{}", stderr(&output));
}

#[test]
fn wrong_mixes_say_what_to_change() {
    let place = TestDir::new();
    pool(&place);
    place.file("wrong.toml", "seed = 1\n[threshold]\nt = 5\nhows = \"first\"\n");
    place.file("empty.toml", "[filters]\nwords = { min = 1000 }\n");
    for (args, code, said, hint) in [
        (vec!["cambrian-10m-t250"], 2, "no mix called `cambrian-10m-t250`", "did you mean"),
        (vec!["wrong.toml"], 2, "wrong.toml:4: `hows = \"first\"`", "did you mean `how`?"),
        (vec!["none.toml"], 2, "the mix none.toml does not exist", "built-in mix"),
        (vec!["cambrian-5m", "-o", "x"], 2, "has no pools", "--pool"),
        (vec!["cambrian-5m", "--pool", "pool.jsonl"], 2, "no output directory", "--dry-run"),
        (
            vec!["cambrian-5m", "--pool", "nowhere.jsonl", "--dry-run"],
            2,
            "`nowhere.jsonl` does not exist",
            "give a data file",
        ),
        (
            vec!["empty.toml", "--pool", "pool.jsonl", "-o", "x"],
            1,
            "no entry is left for the mix",
            "counts after each rule",
        ),
    ] {
        let output = place.run(&[&["data", "mix"], args.as_slice()].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?} {told}");
        assert!(told.contains(said) && told.contains(hint), "{args:?} {told}");
    }
}
