mod formats;
mod harm;

use super::*;
use std::fs;

type Checked = std::result::Result<(), Box<dyn std::error::Error>>;

const GOOD: &str = r#"{"id": 7, "image": "coco/a.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cup"}]}"#;

/// Writes a file and opens it as a pool.
fn pool(dir: &Path, name: &str, content: &[u8]) -> Result<Pool> {
    let path = dir.join(name);
    fs::write(&path, content)?;
    Pool::open(&PoolSpec::new(path.display().to_string()))
}

/// An entry in one line: id, source, images, turns.
fn shown(entry: &Entry<'_>) -> String {
    let images: Vec<String> = entry.images.iter().map(|i| format!("{i:?}")).collect();
    let turns: Vec<String> = entry.turns.iter().map(|t| format!("{}: {}", t.from.name(), t.text)).collect();
    format!("{} [{}] {} | {}", entry.id, entry.source, images.join(" "), turns.join(" / "))
}

fn read(pool: &Pool) -> Result<(Vec<String>, ScanReport)> {
    let mut all = Vec::new();
    let report = pool.scan(&mut |entry| {
        all.push(shown(&entry));
        Ok(())
    })?;
    Ok((all, report))
}

#[test]
fn lines_are_read_with_their_places() -> Checked {
    let dir = tempfile::tempdir()?;
    let system = r#"{"id":"x","source":"gqa","conversations":[{"from":"system","value":"Be brief."},{"value":"é?","from":"user"},{"from":"assistant","value":"a"}],"relevance_ratings":[5,3],"other":{"a":[1]}}"#;
    let pool = pool(dir.path(), "a.jsonl", format!("{GOOD}\r\n\n\u{feff} {system}").as_bytes())?;
    let (mut all, mut places, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let report = pool.scan(&mut |entry| {
        all.push(shown(&entry));
        places.push((entry.at, pool.place(&entry).replace(&dir.path().display().to_string(), "DIR")));
        raw.push(String::from_utf8_lossy(entry.raw).into_owned());
        if entry.id == "x" {
            assert_eq!(entry.system(), Some("Be brief."));
            assert_eq!(entry.ratings.get("relevance").and_then(|r| r.least), Some(3.0));
        }
        Ok(())
    })?;
    assert_eq!(
        all,
        [
            r#"7 [coco] Path("coco/a.png") | human: <image>
What? / gpt: a cup"#,
            "x [gqa]  | system: Be brief. / human: é? / gpt: a"
        ]
    );
    assert_eq!((report.entries, report.skipped.total(), report.damaged.len()), (2, 0, 0));
    assert_eq!(raw, [GOOD, system]);
    assert_eq!(places[1].1, "DIR/a.jsonl:3");
    let mut again = Vec::new();
    pool.read_at(&[places[1].0], &mut |entry| {
        again.push(shown(&entry));
        Ok(())
    })?;
    assert_eq!(again, all[1..]);
    let beyond = Position { file: 0, offset: 5 };
    assert!(pool.read_at(&[beyond], &mut |_| Ok(())).is_err());
    let stopped = pool.scan(&mut |_| Err(Error::failed("full"))).unwrap_err();
    assert_eq!(stopped.to_string(), "full");
    Ok(())
}

#[test]
fn many_lines_come_in_order_from_several_threads() -> Checked {
    let dir = tempfile::tempdir()?;
    let mut content = String::new();
    let long = "word ".repeat(60);
    for i in 0..20_000 {
        content += &format!(
            "{{\"id\": {i}, \"conversations\": [{{\"from\": \"human\", \"value\": \"{long}\"}}, {{\"from\": \"gpt\", \
             \"value\": \"{}\"}}]}}\n",
            if i % 1000 == 7 { "" } else { "a\\u00e9" }
        );
    }
    let pool = pool(dir.path(), "a.jsonl", content.as_bytes())?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(3).build()?;
    let (ids, report) = threads.install(|| -> Result<_> {
        let mut ids = Vec::new();
        let report = pool.scan_map(&|entry| (entry.id.parse::<u64>().unwrap_or(0), entry.at), &mut |id| {
            ids.push(id);
            Ok(())
        })?;
        Ok((ids, report))
    })?;
    assert_eq!(ids.len(), 19_980);
    assert!(ids.windows(2).all(|w| w[0] < w[1]));
    assert_eq!(report.skipped.total(), 20);
    let place = dir.path().join("a.jsonl");
    assert_eq!(report.skipped.by_source().next().map(|s| s.first[0].clone()), Some(format!("{}:8", place.display())));
    assert_eq!(report.bytes, content.len() as u64);
    let some: Vec<Position> = ids.iter().rev().step_by(777).map(|(_, at)| *at).collect();
    let mut found = Vec::new();
    pool.read_at(&some, &mut |entry| {
        found.push(entry.at);
        Ok(())
    })?;
    assert!(found.iter().rev().eq(&some));
    // A panic on a worker becomes an error and leaves no thread waiting.
    let panicked = threads.install(|| {
        pool.scan_map(
            &|entry| {
                if entry.id == "9000" {
                    panic!("odd")
                }
            },
            &mut |()| Ok(()),
        )
    });
    assert!(panicked.is_err());
    Ok(())
}
