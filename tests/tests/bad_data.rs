//! Bad data files for `burgess data show` and `burgess data mix`: every unusable line is counted with its file and
//! line, the others are read, and no output is left half-written.
#![cfg(unix)]

use burgess_tests::{TestDir, files, stderr, stdout};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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
        (
            "image named but not given",
            turns(json!([{"from": "human", "value": "<image> ?"}, {"from": "gpt", "value": "a"}])),
        ),
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

/// The exit code and output of a command that must not panic.
fn told(place: &TestDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = place.run(args);
    let (out, err) = (stdout(&output), stderr(&output));
    assert!(!err.contains("panicked") && !out.contains("panicked"), "{args:?}: {err}");
    (output.status.code(), out, err)
}

/// Contents of the files of a mix that do not depend on the directory in which it was made.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let named = |path: PathBuf| {
        let name = path.strip_prefix(dir).expect("a file of the directory").display().to_string();
        (name, std::fs::read(&path).expect("a file"))
    };
    files(dir).into_iter().map(named).collect()
}

/// Sum of a field over the entries of a list.
fn sum(list: &Value, field: &str) -> u64 {
    list.as_array().expect("a list").iter().map(|entry| entry[field].as_u64().expect("a number")).sum()
}

#[test]
fn each_bad_line_is_counted_with_its_place_and_the_others_are_mixed() {
    let place = TestDir::new();
    let good = mixed_pool(&place.path().join("pool.jsonl"));
    let (code, _, err) = told(&place, &["data", "mix", "mix.toml", "--dry-run"]);
    assert!(code == Some(2) && err.contains("mix.toml"), "{err}");
    place.file("mix.toml", "seed = 3\n[[pools]]\npath = \"pool.jsonl\"\n");
    let (code, out, err) = told(&place, &["data", "mix", "mix.toml", "--dry-run", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let counts: Value = serde_json::from_str(&out).expect("JSON");
    let bad = bad_lines();
    assert_eq!(sum(&counts["problems"]["skipped"], "count"), bad.len() as u64, "{out}");
    for (index, (reason, _)) in bad.iter().enumerate() {
        // Up to three places per reason are named.
        let same = bad.iter().take(index).filter(|(other, _)| other == reason).count();
        let line = format!("pool.jsonl:{}", 2 * index + 2);
        assert!(same > 2 || err.contains(&line), "{reason}: {line} is missing in\n{err}");
        assert!(err.contains(reason), "{reason} is missing in\n{err}");
    }
    let (code, out, err) = told(&place, &["data", "mix", "mix.toml", "-o", "out"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&format!("{good} entries in out")), "{out}");
    let text = std::fs::read_to_string(place.path().join("out/mix.jsonl")).expect("text");
    assert_eq!(text.lines().count(), good);
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        assert!(entry["id"].as_str().is_some_and(|id| id.starts_with("good-")), "{line}");
    }
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["entries"], good as u64);
    assert_eq!(sum(&manifest["problems"]["skipped"], "count"), bad.len() as u64);
}

#[test]
fn files_that_are_no_pools_are_refused_and_damaged_ones_are_named() {
    let place = TestDir::new();
    let lines: String = (0..500).map(|n| format!("{}\n", good(n, "boards"))).collect();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let packed = gzip(lines.as_bytes());
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(lines.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let whole_array = format!("[{}]", lines.trim_end().replace('\n', ","));
    // Name, contents, and what is said: for those that have something to read, the number of entries.
    let cases: Vec<(&str, Vec<u8>, Result<u64, &str>)> = vec![
        ("empty.jsonl", Vec::new(), Err("empty")),
        ("blank.jsonl", b"\n\n \n".to_vec(), Err("blank.jsonl")),
        ("page.jsonl", b"<!DOCTYPE html><p>404".to_vec(), Err("page.jsonl")),
        ("zeros.jsonl", vec![0; 100_000], Err("zeros.jsonl")),
        ("utf16.jsonl", utf16, Err("UTF-16")),
        (
            "lfs.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec(),
            Err("git lfs pull"),
        ),
        ("fake.parquet", b"PAR1 and nothing else PAR1".to_vec(), Ok(0)),
        ("fake.jsonl.gz", b"\x1f\x8bnot gzip".to_vec(), Err("fake.jsonl.gz")),
        ("fake.jsonl.zst", b"\x28\xb5\x2f\xfdnot zstd".to_vec(), Err("fake.jsonl.zst")),
        ("whole.jsonl.gz", packed.clone(), Ok(500)),
        ("array.json", whole_array.clone().into_bytes(), Ok(500)),
        ("named-wrongly.json", lines.clone().into_bytes(), Ok(500)),
        ("named-wrongly.jsonl", whole_array.clone().into_bytes(), Ok(500)),
        ("one.json", good(1, "boards").to_string().into_bytes(), Ok(1)),
    ];
    for (name, bytes, expected) in cases {
        std::fs::write(place.path().join(name), bytes).expect("a file");
        let (code, out, err) = told(&place, &["data", "mix", "cambrian-10m", "--pool", name, "--dry-run", "--json"]);
        match expected {
            Ok(entries) => {
                assert_eq!(code, Some(0), "{name}: {err}");
                let counts: Value = serde_json::from_str(&out).expect(name);
                assert_eq!(sum(&counts["table"]["sources"], "before"), entries, "{name}: {out}");
            }
            Err(said) => {
                assert!(matches!(code, Some(1 | 2)), "{name}: {code:?} {out} {err}");
                assert!(err.contains(said) && err.contains(name), "{name}: {err}");
            }
        }
    }
    // A file that ends too early gives what stands before, and says so.
    let half = format!("[{}", &whole_array[1..whole_array.len() / 2]);
    for (name, bytes) in [("cut.jsonl.gz", packed[..packed.len() / 2].to_vec()), ("cut.json", half.into_bytes())] {
        std::fs::write(place.path().join(name), bytes).expect("a file");
        let (code, out, err) = told(&place, &["data", "mix", "cambrian-10m", "--pool", name, "--dry-run", "--json"]);
        assert_eq!(code, Some(0), "{name}: {err}");
        assert!(err.contains("damaged") && err.contains(name), "{name}: {err}");
        let counts: Value = serde_json::from_str(&out).expect(name);
        let found = sum(&counts["table"]["sources"], "before");
        assert!(found > 100 && found < 500, "{name}: {found}");
    }
    // A mix without entries is an error that says why.
    let (code, _, err) = told(&place, &["data", "mix", "cambrian-10m", "--pool", "fake.parquet", "-o", "empty"]);
    assert!(code == Some(1) && err.contains("no entry is left") && err.contains("fake.parquet"), "{code:?} {err}");
    assert!(!place.path().join("empty/mix.jsonl").exists());
    // Special files, and directories that hold none.
    assert!(Command::new("mkfifo").arg(place.path().join("pipe.jsonl")).status().expect("mkfifo").success());
    std::os::unix::fs::symlink("loop.jsonl", place.path().join("loop.jsonl")).expect("a link");
    std::fs::create_dir(place.path().join("nothing")).expect("a directory");
    for path in ["pipe.jsonl", "loop.jsonl", "nothing", "absent.jsonl", "absent/*.jsonl", "/dev/zero"] {
        let (code, _, err) = told(&place, &["data", "mix", "cambrian-10m", "--pool", path, "--dry-run"]);
        assert!(matches!(code, Some(1 | 2)), "{path}: {code:?} {err}");
        assert!(err.contains(path), "{path}: {err}");
    }
}

#[test]
fn images_that_are_missing_or_no_images_are_counted_in_shards() {
    let place = TestDir::new();
    std::fs::create_dir(place.path().join("images")).expect("a directory");
    let png = burgess_site::WikiSite::benchmark_image();
    for (name, bytes) in [("good.png", png.as_slice()), ("text.png", b"no image".as_slice()), ("empty.png", b"")] {
        std::fs::write(place.path().join("images").join(name), bytes).expect("a file");
    }
    std::fs::write(place.path().join("secret.png"), &png).expect("a file");
    let entry = |image: &str| {
        let turns = json!([{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A board."}]);
        json!({"id": image, "source": "boards", "image": image, "conversations": turns})
    };
    let images =
        ["good.png", "absent.png", "text.png", "empty.png", "../secret.png", "/etc/hostname", "images", "a\u{0}b"];
    let lines: String = images.iter().map(|image| format!("{}\n", entry(image))).collect();
    place.file("pool.jsonl", &lines);
    let mix = ["data", "mix", "cambrian-10m", "--pool", "pool.jsonl", "--images", "images"];
    let (code, _, err) = told(&place, &[&mix[..], &["-o", "shards", "--format", "webdataset", "--json"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("shards/manifest.json")).expect("a manifest")).unwrap();
    let left_out = sum(&manifest["counts"]["left_out"], "count");
    assert_eq!((manifest["entries"].as_u64(), left_out), (Some(1), images.len() as u64 - 1), "{manifest:#}");
    assert!(err.contains("pool.jsonl:2") && err.contains("absent.png"), "{err}");
    let tar = std::fs::read(place.path().join("shards/000000.tar")).expect("a shard");
    assert!(!tar.windows(6).any(|w| w == b"secret"), "a file outside of the images was copied");
    // Without a directory of images, shards cannot be made, and it is said what is missing.
    let (code, _, err) =
        told(&place, &["data", "mix", "cambrian-10m", "--pool", "pool.jsonl", "-o", "none", "--format", "webdataset"]);
    assert!(code != Some(0) || err.contains("images"), "{code:?} {err}");
}

#[test]
fn wrong_mixes_name_file_line_and_key() {
    let place = TestDir::new();
    place.file("pool.jsonl", &format!("{}\n", good(1, "boards")));
    let pool = "[[pools]]\npath = \"pool.jsonl\"\n";
    for (text, line, said) in [
        ("seed = -1\n", 1, "seed"),
        ("seed = \"x\"\n", 1, "seed"),
        ("\n\nsed = 1\n", 3, "seed"),
        ("[threshold]\nt = 0\n", 2, "t"),
        ("[threshold]\nt = 5\nhow = \"sometimes\"\n", 3, "sometimes"),
        ("[ratios]\ntotal = 10\n[ratios.shares]\nocr = -1\n", 3, "shares.ocr"),
        ("[[sources]]\nname = \"a\"\n[[sources]]\nname = \"A\"\n", 4, "listed"),
        ("[filters]\nlanguages = [\"English\"]\n", 2, "eng"),
        ("[filters]\ndrop_matching = [\"(\"]\n", 2, "regular"),
        ("[filters.words]\nmin = 5\nmax = 2\n", 1, "min"),
        ("catalogue = \"cambrian\"\n", 1, "cambrian-10m"),
        ("[[pools]]\npath = \"pool.jsonl\"\nformat = \"csv\"\n", 3, "csv"),
        ("this is no TOML\n", 1, "TOML"),
        ("seed = 1\nseed = 2\n", 2, "seed"),
    ] {
        let own = if text.contains("[[pools]]") { String::new() } else { pool.to_string() };
        place.file("mix.toml", &format!("{text}{own}"));
        let (code, _, err) = told(&place, &["data", "mix", "mix.toml", "-o", "out"]);
        assert_eq!(code, Some(2), "{text}: {err}");
        assert!(err.contains(&format!("mix.toml:{line}")) && err.contains(said), "{text}: {err}");
        assert!(!place.path().join("out").exists(), "{text}");
    }
    std::fs::write(place.path().join("latin.toml"), b"about = \"caf\xe9\"\n").expect("a file");
    let (code, _, err) = told(&place, &["data", "mix", "latin.toml", "--dry-run"]);
    assert!(code == Some(2) && err.contains("UTF-8"), "{err}");
    let (code, _, err) = told(&place, &["data", "mix", "cambrian-7n", "--dry-run"]);
    assert!(code == Some(2) && err.contains("cambrian-7m"), "{err}");
}

#[test]
fn a_full_disk_and_kills_lose_nothing() {
    let place = TestDir::new();
    let sources = ["boards", "mills", "bridges"];
    let lines: String = (0..60_000).map(|n| format!("{}\n", good(n, sources[n % 3]))).collect();
    place.file("pool.jsonl", &lines);
    place.file("mix.toml", "seed = 5\norder = \"shuffle\"\n[threshold]\nt = 15000\nhow = \"reservoir\"\n[[pools]]\npath = \"pool.jsonl\"\n");
    let (code, out, err) = told(&place, &["data", "mix", "mix.toml", "-o", "whole"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let whole = contents(&place.path().join("whole"));
    assert!(whole.keys().all(|name| !name.contains(".mix/") && !name.ends_with(".partial")), "{:?}", whole.keys());

    // Files may have 2 MB at most.
    let full = place.shell("trap '' XFSZ; ulimit -f 2000; exec \"$0\" data mix mix.toml -o full").output().expect("sh");
    let told_full = stderr(&full);
    assert_eq!(full.status.code(), Some(1), "{told_full}");
    assert!(told_full.contains("full/") && !told_full.contains("panicked"), "{told_full}");
    assert!(!place.path().join("full/manifest.json").exists() && !place.path().join("full/mix.jsonl").exists());
    let (code, _, err) = told(&place, &["data", "mix", "mix.toml", "-o", "full"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(contents(&place.path().join("full")), whole);

    // Killed at moments that a seed chooses, until a run ends by itself.
    let mut kills = 0;
    for attempt in 0..60u64 {
        let mut child = place
            .burgess(&["data", "mix", "mix.toml", "-o", "killed"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("burgess starts");
        std::thread::sleep(Duration::from_millis(15 + attempt.wrapping_mul(7919) % 23 * 12));
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        let signal = if attempt % 2 == 0 { "KILL" } else { "TERM" };
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill");
        child.wait().expect("a child");
        kills += 1;
    }
    let (code, _, err) = told(&place, &["data", "mix", "mix.toml", "-o", "killed"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(kills > 0, "no run was killed");
    assert_eq!(contents(&place.path().join("killed")), whole);
}
