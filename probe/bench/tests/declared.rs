//! Benchmarks that are declared in files of one's own: reading, asking, judging, scoring, and errors.

use burgess_bench::declared::DeclaredBenchmark;
use burgess_bench::{self as bench, AnswerScore, Benchmark, Rules};
use std::fs;
use std::path::Path;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// A benchmark file for a table `q.jsonl` with four choices.
const CHOICES: &str = r#"
category = "Medical"

[data]
path = "q.jsonl"

[columns]
id = "id"
image = "image"
question = "question"
options = "choices"
answer = "answer"
subtask = "kind"

[prompt]
template = """
{{ question }}
{{ options | lettered }}
Answer with the letter."""

[answer]
read = "letter"
"#;

const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Writes files and returns the benchmark.
fn made(dir: &Path, toml: &str, files: &[(&str, &str)]) -> Result<DeclaredBenchmark, burgess_base::Error> {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, text)?;
    }
    for name in ["a.png", "b.png"] {
        fs::write(dir.join(name), PIXEL)?;
    }
    DeclaredBenchmark::parse(toml, "my.toml", "my")
}

fn error(toml: &str) -> String {
    match DeclaredBenchmark::parse(toml, "my.toml", "my") {
        Ok(_) => "no error".into(),
        Err(e) => e.hint_text().map_or_else(|| e.to_string(), |hint| format!("{e}\nhint: {hint}")),
    }
}

#[test]
fn a_table_of_choices_is_asked_and_scored() -> Checked {
    let dir = tempfile::tempdir()?;
    let rows = r#"{"id": 1, "image": "a.png", "question": "Which?", "choices": ["cat", "dog"], "answer": "B", "kind": "x"}
{"id": "2", "image": "a.png", "question": "What?", "choices": ["red", "blue", "green"], "answer": "A", "kind": "y"}
{"id": "3", "image": "b.png", "question": "Why?", "choices": ["so", "thus"], "answer": "B", "kind": "y"}
"#;
    let my = made(dir.path(), CHOICES, &[("q.jsonl", rows)])?;
    let qs = my.read(&dir.path().join("q.jsonl"))?;
    assert_eq!((my.id(), my.category().as_str(), my.metric(Rules::Official)), ("my", "Medical", "accuracy"));
    assert_eq!(my.prompt(&qs[1], Rules::Official), "What?\nA. red\nB. blue\nC. green\nAnswer with the letter.");
    assert_eq!(qs[0].unit, qs[1].unit, "questions about one image are one unit");
    let judged: Vec<AnswerScore> =
        qs.iter().zip(["B", "(A)", "so"]).map(|(q, a)| my.judge(q, a, Rules::Official)).collect();
    let outcome = my.aggregate(&qs, &judged, Rules::Official)?;
    assert!((outcome.score - 200.0 / 3.0).abs() < 1e-9, "{outcome:?}");
    assert_eq!(outcome.subtasks["y"], 50.0);
    assert!((my.chance(&qs, Rules::Official) - 100.0 * (0.5 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn groups_templates_and_numbers() -> Checked {
    let dir = tempfile::tempdir()?;
    let toml = r#"
category = "Vision-centric"
[data]
path = "t.csv"
where = "split != 'train'"
[columns]
id = "n"
image = "file"
question = "{{ text.strip() }}?"
answer = "answer"
unit = "{{ n | int // 2 }}"
facts = { pair = "{{ n | int // 2 }}", image = "file" }
[prompt]
template = "{{ question }} Yes or no?"
[answer]
read = "yes-no"
[score]
all_right = "facts.pair"
size = 2
numbers = [
    { name = "Acc" },
    { name = "by image", all_right = "facts.image" },
    { name = "first image", where = "facts.image == 'a.png'", scale = 1.0 },
]
"#;
    let rows = "n,file,text,answer,split\n0,a.png, Is it ,yes,test\n1,b.png,Is it,no,test\n2,a.png,Is it,yes,test\n\
        3,b.png,Is it,no,test\n4,a.png,Is it,no,train\n";
    let my = made(dir.path(), toml, &[("t.csv", rows)])?;
    let qs = my.read(&dir.path().join("t.csv"))?;
    assert_eq!(qs.len(), 4);
    assert_eq!(my.prompt(&qs[0], Rules::Official), "Is it? Yes or no?");
    let judged: Vec<AnswerScore> =
        qs.iter().zip(["yes", "No.", "yes", "yes"]).map(|(q, a)| my.judge(q, a, Rules::Official)).collect();
    let outcome = my.aggregate(&qs, &judged, Rules::Official)?;
    assert_eq!(outcome.score, 50.0);
    assert_eq!(
        [&outcome.subtasks["Acc"], &outcome.subtasks["by image"], &outcome.subtasks["first image"]],
        [&75.0, &50.0, &1.0]
    );
    assert_eq!(my.chance(&qs, Rules::Official), 25.0);
    let broken = made(dir.path(), toml, &[("t.csv", "n,file,text,answer,split\n0,a.png,Is it,yes,test\n")])?;
    let e = broken.read(&dir.path().join("t.csv")).unwrap_err();
    assert!(e.to_string().contains("the group `0` (unit `0`) has 1 question(s) instead of 2"), "{e}");
    Ok(())
}

#[test]
fn a_folder_of_images_is_a_table() -> Checked {
    let dir = tempfile::tempdir()?;
    let toml = r#"
category = "Own"
[data]
path = "shots"
[columns]
image = "file"
question = "{{ 'What is this' }}?"
answer = "folder"
[prompt]
template = "{{ question }}"
[answer]
read = "exact"
"#;
    let my = made(dir.path(), toml, &[("shots/cat/1.png", "x"), ("shots/dog/2.PNG", "x"), ("shots/notes.txt", "x")])?;
    let qs = my.read(&dir.path().join("shots"))?;
    let read: Vec<(&str, &str)> = qs.iter().map(|q| (q.question.as_str(), q.answer.as_str())).collect();
    assert_eq!(read, [("What is this?", "cat"), ("What is this?", "dog")]);
    Ok(())
}

#[test]
fn rows_of_ones_own_are_all_usable() -> Checked {
    let dir = tempfile::tempdir()?;
    let row = |id: u32, answer: &str| {
        format!(
            "{{\"id\": {id}, \"image\": \"a.png\", \"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": \"{answer}\", \"kind\": \"x\"}}\n"
        )
    };
    let my = made(dir.path(), CHOICES, &[("q.jsonl", &(row(1, "A") + &row(2, "C") + &row(3, "B")))])?;
    let e = my.read(&dir.path().join("q.jsonl")).unwrap_err();
    assert!(e.to_string().contains("1 of 3 rows are not usable questions"), "{e}");
    assert!(e.to_string().contains("q.jsonl row 2"), "{e}");
    let e = my.read(&dir.path().join("none.jsonl")).unwrap_err();
    assert!(e.to_string().contains("none.jsonl does not exist"), "{e}");
    Ok(())
}

#[test]
fn wrong_keys_are_named_with_their_line() {
    let replaced = |from: &str, to: &str| {
        assert!(CHOICES.contains(from), "{from}");
        error(&CHOICES.replace(from, to))
    };
    let mut page = String::new();
    for (from, to) in [
        ("category = \"Medical\"", "categori = \"Medical\""),
        ("category = \"Medical\"", "category = \" \""),
        ("category = \"Medical\"", "category = \"M\"\nid = \"My Bench\""),
        ("category = \"Medical\"", "category = \"M\"\nmax_new_tokens = 0"),
        ("category = \"Medical\"", "category = \"M\"\nrules = \"mine\""),
        ("path = \"q.jsonl\"", "path = \"q.jsonl\"\nrepository = \"a/b\""),
        ("path = \"q.jsonl\"", ""),
        ("path = \"q.jsonl\"", "path = \"q.jsonl\"\nsplit = \"test\""),
        ("path = \"q.jsonl\"", "repository = \"a\""),
        ("path = \"q.jsonl\"", "repository = \"a/b\"\nfolder = \"../c\""),
        ("path = \"q.jsonl\"", "path = \"q.jsonl\"\nwhere = \"kind ==\""),
        ("path = \"q.jsonl\"", "generated = true"),
        ("image = \"image\"", ""),
        ("image = \"image\"", "image = 3"),
        ("question = \"question\"", ""),
        ("question = \"question\"", "question = \"{{ question \""),
        ("options = \"choices\"\n", ""),
        ("answer = \"answer\"", ""),
        ("answer = \"answer\"", "answer = \"answer\"\nanswer_is = \"word\""),
        ("subtask = \"kind\"", "subtask = \"\""),
        ("subtask = \"kind\"", "facts = { x = \"{% if %}\" }"),
        ("{{ question }}", "{{ quest }}"),
        ("{{ options | lettered }}", "{{ options | nothing }}"),
        ("read = \"letter\"", "read = \"leter\""),
        ("read = \"letter\"", "read = \"letter\"\nby = \"best\""),
        ("read = \"letter\"", "read = \"letter\"\nrelative = 0.1"),
        ("read = \"letter\"", "read = \"number\"\nrelative = -1.0"),
        ("read = \"letter\"", "read = \"anls\"\nthreshold = 5.0"),
        ("read = \"letter\"", "read = \"letter\"\npattern = \"(\""),
        ("read = \"letter\"", "read = \"letter\"\npattern = \"x\""),
        ("read = \"letter\"", "read = \"letter\"\nguess = \"1 +\""),
        ("read = \"letter\"", "read = \"yes-no\"\n[answer.choice]\nread = \"exact\""),
        ("read = \"letter\"", "read = \"letter\"\n[score]\nsize = 2"),
        ("read = \"letter\"", "read = \"letter\"\n[score]\nall_right = \"a b\""),
        ("read = \"letter\"", "read = \"letter\"\n[score]\nmean_of = \"kind\""),
        ("read = \"letter\"", "read = \"letter\"\n[[score.numbers]]\nname = \"\""),
        ("read = \"letter\"", "read = \"letter\"\n[vlmevalkit]\nquestion = \"q\""),
        ("read = \"letter\"", "read = \"letter\"\n[lmms-eval]\ntask = \"t\""),
        (
            "read = \"letter\"",
            "read = \"letter\"\n[lmms-eval]\ntask = \"t\"\nmetric = \"m\"\nanswer = { read = \"x\" }",
        ),
    ] {
        page += &format!("{from:?} → {to:?}\n{}\n\n", replaced(from, to));
    }
    insta::assert_snapshot!(page);
}

#[test]
fn files_are_registered_once() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("registered-once.toml");
    fs::write(&file, CHOICES)?;
    let loaded = bench::load(&file)?;
    assert_eq!(bench::load(&file)?.id(), "registered-once");
    assert_eq!(bench::find("registered-once")?.id(), loaded.id());
    assert_eq!(loaded.own_data(), Some(dir.path().join("q.jsonl")));
    let definition = loaded.definition().expect("a file");
    assert_eq!((definition.text, definition.path), (CHOICES, file.as_path()));
    fs::write(dir.path().join("gqa.toml"), CHOICES)?;
    let e = bench::load(&dir.path().join("gqa.toml")).err().expect("an error");
    assert!(e.to_string().contains("the id `gqa` is that of a built-in benchmark"), "{e}");
    fs::write(dir.path().join("other.toml"), format!("id = \"registered-once\"\n{CHOICES}"))?;
    let e = bench::load(&dir.path().join("other.toml")).err().expect("an error");
    assert!(e.to_string().contains("is already that of"), "{e}");
    fs::write(&file, [0xff, 0xfe])?;
    assert!(bench::load(&file).err().expect("an error").to_string().contains("is not UTF-8"));
    assert!(bench::load(&dir.path().join("absent.toml")).is_err());
    Ok(())
}
