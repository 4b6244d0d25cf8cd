//! Writers go on where they stopped, and give the same bytes.

use super::*;
use serde_json::json;

fn line(i: u64) -> Vec<u8> {
    format!("{{\"id\": {i}, \"text\": \"{}\"}}", "x".repeat(i as usize % 50)).into_bytes()
}

#[test]
fn json_lines_go_on_after_the_last_checkpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let mut whole = JsonLines::open(&at("whole.jsonl"), "k")?;
    (0..100).try_for_each(|i| whole.write(&line(i)))?;
    let expected = whole.finish()?;
    let mut cut = JsonLines::open(&at("cut.jsonl"), "k")?;
    (0..40).try_for_each(|i| cut.write(&line(i)))?;
    cut.checkpoint(json!({"seen": 40}))?;
    (40..60).try_for_each(|i| cut.write(&line(i)))?;
    drop(cut);
    assert!(!at("cut.jsonl").exists());
    let mut cut = JsonLines::open(&at("cut.jsonl"), "k")?;
    assert_eq!((cut.entries(), cut.state()["seen"].as_u64()), (40, Some(40)));
    (40..100).try_for_each(|i| cut.write(&line(i)))?;
    let found = cut.finish()?;
    assert_eq!((found.bytes, &found.digest, found.entries), (expected.bytes, &expected.digest, 100));
    assert_eq!(std::fs::read(at("cut.jsonl"))?, std::fs::read(at("whole.jsonl"))?);
    assert_eq!(found.digest, burgess_base::digest::of_file(&at("cut.jsonl"))?);
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 2, "no journal and no partial file are left");
    // Another key, a file that is shorter than its journal says, and a broken journal begin again.
    for damage in 0..3 {
        let mut begun = JsonLines::open(&at("new.jsonl"), "k")?;
        begun.write(b"{}")?;
        begun.checkpoint(json!(1))?;
        drop(begun);
        match damage {
            1 => std::fs::File::options().write(true).open(at("new.jsonl.partial"))?.set_len(1)?,
            2 => std::fs::write(at("new.jsonl.journal"), "{")?,
            _ => {}
        }
        let again = JsonLines::open(&at("new.jsonl"), if damage == 0 { "other" } else { "k" })?;
        assert_eq!((again.entries(), again.bytes(), again.state()), (0, 0, &Value::Null), "{damage}");
        drop(again);
        JsonLines::discard(&at("new.jsonl"))?;
    }
    assert!(JsonLines::open(&at("x.jsonl"), "k")?.write(b"a\nb").is_err());
    Ok(())
}

#[test]
fn shards_are_whole_and_go_on() -> Result<()> {
    let png = b"\x89PNG\r\n\x1a\nrest".as_slice();
    let add = |to: &mut WebDataset, i: u64| {
        let images: Vec<(&str, &[u8])> = (0..i % 3).map(|_| ("png", png)).collect();
        let json = line(i);
        let id = i.to_string();
        let sample = WebSample { json: &json, images: &images, id: &id, source: "gqa", kind: "general", turns: 2 };
        to.add(&sample)?;
        if to.wants_checkpoint() { to.checkpoint(json!(i)) } else { Ok(()) }
    };
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut whole = WebDataset::open(one.path(), "k", 10)?;
    (0..25).try_for_each(|i| add(&mut whole, i))?;
    let expected = whole.finish(json!(25))?;
    let names: Vec<&str> = expected.iter().map(|file| file.file.as_str()).collect();
    assert_eq!(names, ["000000.tar", "000000.parquet", "000001.tar", "000001.parquet", "000002.tar", "000002.parquet"]);
    assert_eq!(expected.iter().map(|file| file.entries).collect::<Vec<_>>(), [10, 10, 10, 10, 5, 5]);
    let mut cut = WebDataset::open(two.path(), "k", 10)?;
    (0..17).try_for_each(|i| add(&mut cut, i))?;
    drop(cut);
    let mut cut = WebDataset::open(two.path(), "k", 10)?;
    assert_eq!((cut.entries(), cut.state()), (10, &json!(9)));
    (10..25).try_for_each(|i| add(&mut cut, i))?;
    assert_eq!(cut.finish(json!(25))?, expected);
    for file in &expected {
        let digest = burgess_base::digest::of_file(&two.path().join(&file.file))?;
        assert_eq!(
            (digest.as_str(), std::fs::metadata(two.path().join(&file.file))?.len()),
            (file.digest.as_str(), file.bytes)
        );
    }
    assert_eq!(std::fs::read_dir(two.path())?.count(), 6);
    let mut archive = tar::Archive::new(std::fs::File::open(one.path().join("000000.tar"))?);
    let members: Vec<String> =
        archive.entries()?.map(|entry| Ok(entry?.path()?.display().to_string())).collect::<Result<_>>()?;
    assert_eq!(
        members.get(..5).unwrap_or_default(),
        ["000000000.json", "000000001.json", "000000001.png", "000000002.json", "000000002.0.png"]
    );
    // The shards of another key are removed.
    let mut begun = WebDataset::open(two.path(), "other", 1)?;
    add(&mut begun, 0)?;
    drop(begun);
    WebDataset::discard(two.path())?;
    assert!(!two.path().join("000000.tar").exists());
    Ok(())
}
