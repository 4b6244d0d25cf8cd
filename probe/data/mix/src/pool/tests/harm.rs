//! Bad input is counted with its place, and the rest is read.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// Unusual entries with the reason for which each is skipped (`-`), is odd (`~`), or nothing if it is read.
const ODD: &[(&str, &str)] = &[
    ("null", "-not an object"),
    ("3", "-not an object"),
    ("NaN", "-not an object"),
    ("\"text\"", "-not an object"),
    ("[1, {}]", "-not an object"),
    ("{}", "-no `conversations`"),
    (r#"{"conversations": null}"#, "-`conversations` is no list"),
    (r#"{"conversations": {"from": "human"}}"#, "-`conversations` is no list"),
    (r#"{"conversations": {}}"#, "-`conversations` is no list"),
    (r#"{"conversations": {"from": ["human", "gpt"], "value": ["?"]}}"#, "-a turn without `value`"),
    (r#"{"conversations": {"from": ["human", "gpt"], "value": ["?", "a"]}}"#, ""),
    (r#"{"conversations": []}"#, "-no turns"),
    (r#"{"conversations": [null]}"#, "-a turn is not an object"),
    (r#"{"conversations": [[]]}"#, "-a turn is not an object"),
    (r#"{"conversations": [{"value": "?"}, {"from": "gpt", "value": "a"}]}"#, "-a turn without `from`"),
    (r#"{"conversations": [{"from": null, "value": "?"}]}"#, "-`from` of a turn is no text"),
    (r#"{"conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}"#, "-a turn without `value`"),
    (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": NaN}]}"#, NO_TEXT),
    (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": ["a"]}]}"#, NO_TEXT),
    (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": " \n"}]}"#, "-empty answer"),
    (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "robot", "value": "b"}]}"#, "-unknown speaker"),
    (
        r#"{"conversations": [{"from": "gpt", "value": "?"}, {"from": "gpt", "value": "b"}]}"#,
        "-first turn is no question",
    ),
    (r#"{"conversations": [{"from": "human", "value": "?"}]}"#, "-no answer"),
    (r#"{"conversations": [{"from": "system", "value": "?"}]}"#, "-no turns"),
    (r#"{"texts": [{"user": "?"}]}"#, "-a text without `user` or `assistant`"),
    (r#"{"texts": [{"user": "?", "assistant": 3}]}"#, "-`user` or `assistant` is no text"),
    (r#"{"image": 5, "conversations": [QA]}"#, "-the image is no path"),
    (r#"{"image": {"path": "a.png"}, "conversations": [QA]}"#, "-the image is no path"),
    (r#"{"image": [["a.png"]], "conversations": [QA]}"#, "-the image is no path"),
    (r#"{"video": "a.mp4", "conversations": [QA]}"#, "-a video instead of an image"),
    (
        r#"{"conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "a"}]}"#,
        "-image named but not given",
    ),
    (
        r#"{"image": "a", "conversations": [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "a"}]}"#,
        "-more image marks than images",
    ),
    (r#"{"conversations": [QA"#, "-not valid JSON"),
    (r#"{"conversations": [QA]} {"#, "-not valid JSON"),
    (r#"{"conversations" [QA]}"#, "-not valid JSON"),
    (r#"{'conversations': [QA]}"#, "-not valid JSON"),
    (r#"{"conversations": [QA], "x": DEEP}"#, ""),
    (r#"{"image": NaN, "conversations": [QA]}"#, ""),
    (r#"{"image": ["", null, NaN, "none"], "video": null, "conversations": [QA]}"#, ""),
    (r#"{"image": "x", "image": null, "conversations": [], "conversations": [QA]}"#, "~a key stands twice"),
    (r#"{"conversations": [QA, QA, {"from": "human", "value": "?"}]}"#, "~the last turn is a question"),
    (r#"{"conversations": [{"from": "human", "value": "?"}, QA]}"#, "~one speaker has two turns in a row"),
    (
        r#"{"image": ["a", "b"], "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]}"#,
        "~fewer image marks than images",
    ),
    (
        r#"{"id": {"a": [1]}, "s": -Infinity, "conversations": [{"from": "human", "value": "\ud83d?"}, {"from": "gpt", "value": "a"}]}"#,
        "",
    ),
    (r#"{"relevance_ratings": "high", "formatting_min": {"x": 1}, "conversations": [QA]}"#, ""),
];
const NO_TEXT: &str = "-`value` of a turn is no text";
const QA: &str = r#"{"from": "human", "value": "?"}, {"from": "gpt", "value": "a"}"#;

#[test]
fn odd_entries_are_counted_and_the_others_are_read() -> Checked {
    let dir = tempfile::tempdir()?;
    for (entry, expected) in ODD {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        let entry = entry.replace("QA", QA).replace("DEEP", &deep);
        // In an array, an entry that is not closed would hold the rest.
        let closed = entry.matches(['{', '[']).count() == entry.matches(['}', ']']).count();
        let array = format!("[{GOOD}, {entry},\n{GOOD}]");
        let lines = format!("{GOOD}\n\u{feff}{entry}\r\n\n{GOOD}");
        for (name, text) in [("a.json", array), ("a.jsonl", lines)] {
            if name == "a.json" && !closed {
                continue;
            }
            let (all, report) = read(&pool(dir.path(), name, text.as_bytes())?)?;
            let counts = |r: &burgess_base::skipped::SkippedReport| -> Vec<(String, usize, String)> {
                r.iter().map(|(reason, n, at)| (reason.to_string(), n, at.to_string())).collect()
            };
            let (skipped, odd) = (counts(&report.skipped), counts(&report.odd));
            let (kept, found) = match expected.split_at_checked(1) {
                Some(("-", reason)) => (2, (&skipped, reason)),
                Some((_, reason)) => (3, (&odd, reason)),
                None => (3, (&odd, "")),
            };
            assert_eq!(all.len(), kept, "{text}: {report:?}");
            assert_eq!(skipped.len() + odd.len(), usize::from(!expected.is_empty()), "{text}: {report:?}");
            if let Some((reason, count, at)) = found.0.first() {
                assert_eq!((reason.as_str(), *count), (found.1, 1), "{text}");
                assert!(at.contains(&format!("{name}:2")), "{text}: {at}");
            }
            assert!(report.damaged.is_empty(), "{text}: {report:?}");
        }
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_text_are_counted() -> Checked {
    let dir = tempfile::tempdir()?;
    let latin = GOOD.replace("cup", "tass\u{e9}").into_bytes();
    let latin: Vec<u8> = latin.into_iter().filter(|b| *b != 0xc3).collect();
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(GOOD.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let good = GOOD.as_bytes();
    let join = |parts: &[&[u8]], by: &[u8]| parts.join(by);
    let lines = join(&[good, &latin, b"\0\0\0", &utf16, good], b"\n");
    let (all, report) = read(&pool(dir.path(), "a.jsonl", &lines)?)?;
    let reasons: Vec<_> = report
        .skipped
        .iter()
        .map(|(reason, n, at)| (reason, n, at.ends_with(":2: byte 130"), at.to_string()))
        .collect();
    assert_eq!((all.len(), reasons.len()), (2, 2), "{reasons:?}");
    assert_eq!(reasons.iter().map(|r| r.1).collect::<Vec<_>>(), [2, 1], "{reasons:?}");
    let array = [b"[".as_slice(), &join(&[good, &latin, b"", good], b","), b",]"].concat();
    let (all, report) = read(&pool(dir.path(), "a.json", &array)?)?;
    let reasons: Vec<_> = report.skipped.iter().map(|(reason, n, _)| (reason, n)).collect();
    assert_eq!((all.len(), reasons), (2, vec![("not UTF-8", 1), ("not valid JSON", 2)]));
    // A file that is UTF-16 altogether is damaged; the others are read.
    fs::write(dir.path().join("0.json"), &utf16)?;
    let spec = PoolSpec {
        path: ["0.json", "a.json"].map(|n| dir.path().join(n).display().to_string()).into(),
        ..PoolSpec::default()
    };
    let (all, report) = read(&Pool::open(&spec)?)?;
    assert_eq!((all.len(), report.damaged.len(), report.files), (2, 1, 2));
    assert!(
        report.notes()[0].contains("0.json is damaged after 0 conversations: the file is UTF-16"),
        "{:?}",
        report.notes()
    );
    Ok(())
}

#[test]
fn truncated_files_are_reported_and_what_stands_before_is_read() -> Checked {
    let dir = tempfile::tempdir()?;
    let mut random = burgess_base::stream::stream("harm", 0);
    let mut noise = || {
        use rand::Rng;
        (0..200).map(|_| format!("{:x}", random.next_u64())).collect::<String>()
    };
    let lines: String = (0..200).map(|_| GOOD.replace("cup", &noise()) + "\n").collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    let gzip = |text: &str| -> std::io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes())?;
        encoder.finish()
    };
    let tar =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/train/pools/shard-000000.tar"))?;
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let mut wrong = tar.clone();
    wrong[5 * 1024] ^= 0x40;
    for (name, content, least, what) in [
        ("a.jsonl.gz", cut(&gzip(&lines)?), 50, "ends in the middle: the file is truncated"),
        ("a.json.gz", cut(&gzip(&array)?), 50, "ends in the middle: the file is truncated"),
        ("a.json", cut(array.as_bytes()), 99, "the array is not closed: the file ends in entry"),
        ("b.json", format!("{array} x").into_bytes(), 200, "but the file has more content"),
        (
            "c.json",
            format!("{} \"{}", &array[..array.len() - 1], "x".repeat(17 << 20)).into_bytes(),
            199,
            "the array is not closed",
        ),
        ("a.tar", tar[..7 * 512 + 100].to_vec(), 2, "after 2 entries"),
        ("b.tar", wrong, 2, "after 2 entries"),
        ("c.tar", tar[..6 * 512].to_vec(), 2, "the archive does not end"),
    ] {
        let good = dir.path().join("good.jsonl");
        fs::write(&good, GOOD)?;
        let path = dir.path().join(name);
        fs::write(&path, content)?;
        let spec = PoolSpec { path: [&path, &good].map(|p| p.display().to_string()).into(), ..PoolSpec::default() };
        let (all, report) = read(&Pool::open(&spec)?)?;
        assert!(all.len() > least, "{name}: {} {report:?}", all.len());
        assert_eq!((report.damaged.len(), report.files), (1, 2), "{name}: {report:?}");
        let damaged = &report.damaged[0];
        assert!(damaged.what.contains(what) && damaged.entries as usize + 1 == all.len(), "{name}: {damaged:?}");
    }
    let table =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/train/pools/paths.parquet"))?;
    let e = pool(dir.path(), "x.parquet", &cut(&table))?;
    let report = read(&e)?.1;
    assert!(report.damaged[0].what.contains("does not end with PAR1"), "{report:?}");
    Ok(())
}

#[test]
fn a_line_that_is_too_long_is_passed_over() -> Checked {
    let dir = tempfile::tempdir()?;
    let long = GOOD.replace("cup", &"x".repeat(40 << 20));
    for (name, text) in [
        ("a.jsonl", format!("{GOOD}\n{long}\n{GOOD}\n{GOOD}")),
        ("a.json", format!("[{GOOD}, {long}, {GOOD}, {GOOD}]")),
        ("b.jsonl", format!("{GOOD}\n{GOOD}\n{GOOD}\n{long}")),
        ("b.json", format!("[{GOOD},{GOOD},{GOOD},{long}]")),
    ] {
        let pool = pool(dir.path(), name, text.as_bytes())?;
        let mut numbers = Vec::new();
        let report = pool.scan(&mut |entry| {
            numbers.push(entry.number);
            Ok(())
        })?;
        let skipped: Vec<_> = report.skipped.iter().map(|(reason, n, at)| (reason, n, at.to_string())).collect();
        let line = if name.starts_with('a') { 2 } else { 4 };
        let place = format!("{}:{line}: 4194", dir.path().join(name).display());
        assert_eq!((skipped.len(), skipped[0].0, skipped[0].1), (1, "longer than 16 MiB", 1), "{name}");
        assert!(skipped[0].2.starts_with(&place), "{name}: {skipped:?}");
        assert_eq!(numbers, (1..5).filter(|n| *n != line).collect::<Vec<u64>>(), "{name}");
        assert!(report.damaged.is_empty(), "{name}: {report:?}");
    }
    Ok(())
}
