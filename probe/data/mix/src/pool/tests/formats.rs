//! Every published form reads as the library that wrote it reads it.

use super::*;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/train").join(name)
}

#[test]
fn tables_and_shards_read_as_by_datasets_and_webdataset() -> Checked {
    let expected: Value = serde_json::from_slice(&fs::read(golden("pools/expected.json"))?)?;
    for (name, ending) in [
        ("onevision", "parquet"),
        ("finevision", "parquet"),
        ("cauldron", "parquet"),
        ("paths", "parquet"),
        ("lists", "parquet"),
        ("shard-000000", "tar"),
    ] {
        let rows = expected[name].as_array().ok_or("no rows")?;
        let pool = Pool::open(&PoolSpec::new(golden(&format!("pools/{name}.{ending}")).display().to_string()))?;
        let (mut found, mut places) = (Vec::new(), Vec::new());
        let report = pool.scan(&mut |entry| {
            let images: Vec<Value> = match entry.images.first() {
                Some(ImageRef::Path(_)) => {
                    let path = |image: &ImageRef| match image {
                        ImageRef::Path(path) => Value::from(*path),
                        other => panic!("{other:?}"),
                    };
                    entry.images.iter().map(path).collect()
                }
                _ => {
                    let images = pool.images(&entry)?;
                    let read = read_images(&images.iter().collect::<Vec<_>>());
                    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                    read.into_iter().map(|bytes| bytes.map(|b| hex(b).into())).collect::<Result<_>>()?
                }
            };
            let source = if name == "paths" { "" } else { entry.source };
            let turns: Vec<Value> = entry.turns.iter().map(|t| serde_json::json!([t.from.name(), t.text])).collect();
            let mut row = serde_json::json!({"id": entry.id, "source": source, "images": images, "turns": turns});
            let whole = |n: &f32| Value::from(*n as i64);
            for (key, fill) in [("least", true), ("each", false)] {
                let mut of = serde_json::Map::new();
                for (quality, rating) in entry.ratings.iter() {
                    let value = match fill {
                        true => rating.least.as_ref().map(whole),
                        false => (!rating.each.is_empty()).then(|| rating.each.iter().map(whole).collect()),
                    };
                    of.extend(value.map(|value| (quality.to_string(), value)));
                }
                row[key] = of.into();
            }
            found.push(row);
            places.push(entry.at);
            Ok(())
        })?;
        let wanted: Vec<&Value> =
            rows.iter().filter(|row| row["turns"].as_array().is_some_and(|t| t.len() > 1)).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{name}");
        assert_eq!(report.skipped.total(), rows.len() - wanted.len(), "{name}");
        assert!(report.damaged.is_empty() && report.bytes > 0, "{name}: {report:?}");
        let mut again = 0;
        pool.read_at(&places[1..], &mut |entry| {
            again += 1;
            assert_eq!(Value::from(entry.id), found[again]["id"], "{name}");
            Ok(())
        })?;
        assert_eq!(again + 1, places.len(), "{name}");
    }
    Ok(())
}

#[test]
fn compressed_files_and_arrays_read_as_lines() -> Checked {
    let (lines, _) = read(&Pool::open(&PoolSpec::new(golden("conversations/plain.jsonl").display().to_string()))?)?;
    assert_eq!(lines.len(), 40);
    for name in ["gzip", "gzip-members", "zstd", "zstd-frames"] {
        let spec = PoolSpec::new(golden(&format!("conversations/{name}")).display().to_string());
        assert_eq!(read(&Pool::open(&spec)?)?.0, lines, "{name}");
    }
    let text = fs::read_to_string(golden("conversations/plain.jsonl"))?;
    let dir = tempfile::tempdir()?;
    let entries: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (name, content) in [
        ("one-line.json", serde_json::to_string(&entries)?),
        ("indented.json", format!("\u{feff}\n{}\n", serde_json::to_string_pretty(&entries)?)),
    ] {
        let pool = pool(dir.path(), name, content.as_bytes())?;
        let (mut raw, mut found, mut at) = (Vec::new(), Vec::new(), Vec::new());
        pool.scan(&mut |entry| {
            raw.push(serde_json::from_slice::<Value>(entry.raw)?);
            found.push(shown(&entry));
            at.push((entry.at, entry.number));
            Ok(())
        })?;
        assert_eq!((&found, &raw), (&lines, &entries), "{name}");
        assert_eq!(at[39].1, 40, "{name}");
        let mut again = Vec::new();
        pool.read_at(&[at[39].0, at[3].0], &mut |entry| {
            again.push(shown(&entry));
            Ok(())
        })?;
        assert_eq!(again, [lines[3].clone(), lines[39].clone()], "{name}");
    }
    Ok(())
}

#[test]
fn a_large_array_is_divided_as_its_lines() -> Checked {
    let dir = tempfile::tempdir()?;
    let text = "\\\"}, {[é\\\\ ".repeat(70);
    let entry = |i: usize| {
        format!(
            "{{\"id\": {i}, \"x\": [[1], {{}}], \"conversations\": [{{\"from\": \"human\", \"value\": \"{text}\"}}, {{\"from\": \"gpt\", \"value\": \"{i}\"}}]}}"
        )
    };
    let all: Vec<String> = (0..4000).map(entry).collect();
    let lines = pool(dir.path(), "a.jsonl", all.join("\n").as_bytes())?;
    let array = pool(dir.path(), "a.json", format!("[{}]", all.join(", ")).as_bytes())?;
    assert!(fs::metadata(dir.path().join("a.json"))?.len() > 3 << 20);
    let (lines, array) = (read(&lines)?, read(&array)?);
    assert_eq!(lines.0, array.0);
    assert_eq!((array.1.entries, array.1.skipped.total(), array.1.damaged.len()), (4000, 0, 0));
    Ok(())
}

#[test]
fn pools_of_several_files_are_found_by_folder_and_pattern() -> Checked {
    let dir = tempfile::tempdir()?;
    let entry = |id: &str| GOOD.replace("7,", &format!("\"{id}\",")).replace("coco/", "");
    for (name, id) in
        [("b/1.jsonl", "b1"), ("b/0.jsonl", "b0"), ("a/x.json.gz", "ax"), ("a/list.txt", ""), ("a/.h.json", "")]
    {
        fs::create_dir_all(dir.path().join(name).parent().ok_or("no folder")?)?;
        fs::write(dir.path().join(name), entry(id))?;
    }
    fs::write(dir.path().join("b/manifest.json"), "{}")?;
    fs::write(dir.path().join("a/list.txt"), "words")?;
    let root = dir.path().display().to_string();
    let ids = |spec: &PoolSpec| -> Result<Vec<String>> {
        let mut all = Vec::new();
        Pool::open(spec)?.scan(&mut |e| {
            all.push(format!("{}@{}", e.id, e.source));
            Ok(())
        })?;
        Ok(all)
    };
    assert_eq!(ids(&PoolSpec::new(&root))?, ["ax@a", "b0@b", "b1@b"]);
    assert_eq!(Pool::open(&PoolSpec::new(&root))?.other_files(), 1, "manifest.json");
    assert_eq!(ids(&PoolSpec::new(format!("{root}/?/?.json*")))?, ["ax@", "b0@", "b1@"]);
    assert_eq!(ids(&PoolSpec::new(format!("{root}/*")))?, ["ax@a", "b0@b", "b1@b"]);
    let spec = PoolSpec { source: Some("mine".into()), kind: Some("OCR".into()), ..PoolSpec::new(format!("{root}/b")) };
    assert_eq!(ids(&spec)?, ["b0@mine", "b1@mine"]);
    for (stated, expected) in [
        (format!("{root}/none.jsonl"), "does not exist"),
        (format!("{root}/none/*.jsonl"), "there is no data file in"),
        (format!("{root}/a/list.txt"), "neither JSON nor parquet"),
    ] {
        let e = Pool::open(&PoolSpec::new(&stated)).unwrap_err();
        assert!(e.to_string().contains(expected) && e.hint_text().is_some(), "{e}");
    }
    let several: PoolSpec = toml::from_str(&format!("path = ['{root}/b/1.jsonl', '{root}/a']\nformat = 'jsonl'"))?;
    assert_eq!(ids(&several)?, ["b1@", "ax@"]);
    assert!(toml::from_str::<PoolSpec>("path = 3").is_err_and(|e| e.to_string().contains("a path or a list of paths")));
    Ok(())
}

#[test]
fn image_paths_stay_in_their_directory() -> Checked {
    let dir = tempfile::tempdir()?;
    let content = [GOOD.to_string(), GOOD.replace("coco/a.png", "../a.png"), GOOD.replace("coco/a.png", "/etc/passwd")];
    let path = dir.path().join("a.jsonl");
    fs::write(&path, content.join("\n"))?;
    let spec = PoolSpec::new(path.display().to_string());
    let with = PoolSpec { images: Some("img".into()), ..spec.clone() };
    let found = |spec: &PoolSpec| -> Result<Vec<String>> {
        let pool = Pool::open(spec)?;
        let mut all = Vec::new();
        pool.scan(&mut |entry| {
            all.push(match pool.images(&entry) {
                Ok(images) => images.iter().map(ToString::to_string).collect(),
                Err(e) => e.to_string(),
            });
            Ok(())
        })?;
        Ok(all)
    };
    let outside = [
        "img/coco/a.png",
        "the image path `../a.png` leads out of img",
        "the image path `/etc/passwd` leads out of img",
    ];
    assert_eq!(found(&with)?, outside);
    assert!(found(&spec)?.iter().all(|e| e.starts_with("no directory of images is given for")));
    Ok(())
}

#[test]
fn an_entry_is_written_as_it_is_read() -> Checked {
    let dir = tempfile::tempdir()?;
    let several = r#"{"image": ["a", "b"], "kind": "OCR", "source": "s", "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "\"<image><image>"}, {"from": "gpt", "value": "é\n"}], "formatting_min": 2, "relevance_ratings": [1.5, 4]}"#;
    let first = pool(dir.path(), "a.jsonl", format!("{GOOD}\n{several}").as_bytes())?;
    let mut out = Vec::new();
    first.scan(&mut |entry| {
        let images: Vec<&str> =
            entry.images.iter().map(|i| if let ImageRef::Path(path) = i { path } else { "" }).collect();
        entry.write_llava(&mut out, &images, entry.turns)?;
        out.push(b'\n');
        assert!(entry.write_llava(&mut Vec::new(), &[], entry.turns).is_err());
        Ok(())
    })?;
    let again = pool(dir.path(), "b.jsonl", &out)?;
    assert_eq!(read(&first)?.0, read(&again)?.0);
    let mut ratings = Vec::new();
    for pool in [&first, &again] {
        pool.scan(&mut |entry| {
            ratings.push((entry.ratings.clone(), entry.kind.map(str::to_string)));
            Ok(())
        })?;
    }
    assert_eq!(ratings[..2], ratings[2..]);
    Ok(())
}
