//! Bad data files for `burgess data show` and `burgess data mix`: every unusable line is counted with its file and line,
//! the others are read, and no output is left half-written.
#![cfg(unix)]

use burgess_tests::{TestDir, files, stderr, stdout};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Output;

/// A usable conversation of this source.
fn good(id: usize, source: &str) -> Value {
    json!({"id": format!("good-{id}"), "source": source, "conversations": [
        {"from": "human", "value": format!("What is written on board number {id}?")},
        {"from": "gpt", "value": format!("Board {id} says that the mill at Orrin opens at nine in the morning.")}]})
}

/// Unusable lines with a word of the reason for which each is left out.
fn bad_lines() -> Vec<(&'static str, Vec<u8>)> {
    let turns = |turns: Value| json!({"id": 1, "source": "bad", "conversations": turns}).to_string().into_bytes();
    let human = json!({"from": "human", "value": "a question"});
    let with_image = |image: Value| {
        let turns = json!([{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]);
        json!({"id": 1, "source": "bad", "image": image, "conversations": turns}).to_string().into_bytes()
    };
    let latin = b"{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"caf\xe9\"}]}".to_vec();
    let utf16: Vec<u8> = good(0, "bad").to_string().encode_utf16().flat_map(u16::to_be_bytes).collect();
    vec![
        ("not valid JSON", b"{\"id\": 1, \"conversations\": [".to_vec()),
        ("not valid JSON", b"id,image,question".to_vec()),
        ("not valid JSON", b"{\"id\": 1} {\"id\": 2}".to_vec()),
        ("not valid JSON", b"\x00\x01\x02".to_vec()),
        ("not valid JSON", "[".repeat(200_000).into_bytes()),
        ("not an object", b"[1, 2, 3]".to_vec()),
        ("not an object", b"17".to_vec()),
        ("not an object", b"null".to_vec()),
        ("not an object", b"\"text\"".to_vec()),
        ("no `conversations`", b"{}".to_vec()),
        ("no `conversations`", b"{\"id\": 1, \"Conversations\": []}".to_vec()),
        ("`conversations` is no list", turns(json!("a text"))),
        ("`conversations` is no list", turns(json!({"from": "human"}))),
        ("`conversations` is no list", turns(json!(null))),
        ("no turns", turns(json!([]))),
        ("a turn is not an object", turns(json!([1, 2]))),
        ("`from`", turns(json!([{"value": "a"}, {"value": "b"}]))),
        ("`from`", turns(json!([{"from": 7, "value": "a"}]))),
        ("`value`", turns(json!([human, {"from": "gpt"}]))),
        ("`value`", turns(json!([human, {"from": "gpt", "value": ["a", "list"]}]))),
        ("speaker", turns(json!([human, {"from": "narrator", "value": "a"}]))),
        ("no answer", turns(json!([human]))),
        ("image named but not given", turns(json!([{"from": "human", "value": "<image> ?"}, {"from": "gpt", "value": "a"}]))),
        ("the image is no path", with_image(json!(5))),
        ("the image is no path", with_image(json!({"path": "a.png"}))),
        ("not UTF-8", latin),
        ("not UTF-8", [b"\xfe\xff".to_vec(), utf16].concat()),
        ("longer than 16 MiB", format!("{{\"id\": \"{}\"}}", "x".repeat(17 << 20)).into_bytes()),
    ]
}

/// Writes a pool in which each unusable line stands between good ones; returns the number of good ones.
fn mixed_pool(path: &Path) -> usize {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    // A byte order mark, Windows' line ends, and an empty line are no faults.
    file.write_all("\u{feff}".as_bytes()).expect("written");
    let lines = bad_lines();
    for (index, (_, line)) in lines.iter().enumerate() {
        let end: &[u8] = if index % 2 == 0 { b"\r\n" } else { b"\n" };
        for part in [good(index, "boards").to_string().as_bytes(), end, line, b"\n"] {
            file.write_all(part).expect("written");
        }
    }
    // The last line has no end.
    let last = format!("\n  \n{}", good(lines.len(), "boards"));
    file.write_all(last.as_bytes()).expect("written");
    lines.len() + 1
}

/// The output of a command that must not panic.
fn told(place: &TestDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = place.run(args);
    let (out, err) = (stdout(&output), stderr(&output));
    assert!(!err.contains("panicked") && !out.contains("panicked"), "{args:?}: {err}");
    (output.status.code(), out, err)
}

fn no_temporary(dir: &Path) {
    let left: Vec<_> = files(dir).into_iter().filter(|p| p.to_string_lossy().contains(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn output_lines(dir: &Path) -> usize {
    let written = files(dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "jsonl"));
    written.map(|p| std::fs::read_to_string(p).expect("text").lines().count()).sum()
}

#[allow(dead_code)]
fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stderr(output)
}
