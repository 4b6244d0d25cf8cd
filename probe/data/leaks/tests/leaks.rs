//! Searches images whose hashes are known by construction, in every kind of training data.

use burgess_leaks::{FILES, LeakOptions, LeakReport, NamedDataset, find};
use image::{Rgb, RgbImage};
use rand::Rng;
use serde_json::{Value, json};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// Returns an image of 9 × 8 pixels with this hash; resizing it to 9 × 8 pixels does not change it.
fn image(hash: u64) -> RgbImage {
    let mut image = RgbImage::new(9, 8);
    for y in 0..8 {
        let mut level = 128u8;
        for x in 0..9 {
            image.put_pixel(x, y, Rgb([level; 3]));
            let bit = x < 8 && (hash >> (63 - (8 * y + x))) & 1 == 1;
            level = if bit { level + 11 } else { level - 11 };
        }
    }
    image
}

fn png(hash: u64) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image(hash).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn save(dir: &Path, name: &str, hash: u64) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, png(hash)).unwrap();
}

fn named(name: &str, path: impl AsRef<Path>) -> NamedDataset {
    NamedDataset { name: name.into(), path: path.as_ref().into() }
}

fn lines(out: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(out.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_parquet(path: &Path, rows: &[(&str, Option<u64>)]) -> Checked {
    use arrow_array::builder::{BinaryBuilder, StringBuilder, StructBuilder};
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use arrow_schema::{DataType, Field};
    let fields = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let mut images = StructBuilder::new(fields, vec![Box::new(BinaryBuilder::new()), Box::new(StringBuilder::new())]);
    for (_, hash) in rows {
        images.field_builder::<BinaryBuilder>(0).unwrap().append_option(hash.map(png));
        images.field_builder::<StringBuilder>(1).unwrap().append_null();
        images.append(hash.is_some());
    }
    let sources: Vec<&str> = rows.iter().map(|(source, _)| *source).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("source", Arc::new(StringArray::from(sources))), ("image", Arc::new(images.finish()))];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = parquet::arrow::ArrowWriter::try_new(fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Creates a benchmark of four images, 10 to 13, and one file that is not an image.
fn benchmark(root: &Path) -> NamedDataset {
    for hash in 10..14 {
        save(root, &format!("test/{hash}.png"), hash);
    }
    fs::write(root.join("test/readme.txt"), "no image").unwrap();
    fs::write(root.join("test/damaged.png"), "neither").unwrap();
    named("mine", root.join("test"))
}

fn search(
    benchmarks: &[NamedDataset],
    training: &[NamedDataset],
    options: &LeakOptions,
    out: &Path,
) -> burgess_base::Result<LeakReport> {
    find(benchmarks, training, options, out, &mut |_, _| {})
}

#[test]
fn conversations_are_counted_by_source() -> Checked {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    for (name, hash) in [("coco/a.png", 10), ("coco/b.png", 99), ("vg/c.png", 10), ("vg/d.png", 13), ("e.png", 12)] {
        save(&root.join("images"), name, hash);
    }
    fs::write(root.join("images/vg/cut.png"), &png(11)[..60])?;
    let entries = [
        json!({"id": 1, "image": "coco/a.png", "conversations": [{"from": "human", "value": "<image>"}]}),
        json!({"image": "coco/b.png"}),
        json!({"image": "coco/a.png", "conversations": []}),
        json!({"image": "coco/a.png", "source": "vqa"}),
        json!({"image": "vg/c.png", "extra": {"deep": [1, 2]}}),
        json!({"images": ["vg/d.png", "e.png"]}),
        json!({"image": "vg/absent.png"}),
        json!({"image": "vg/cut.png"}),
        json!({"image": 7}),
        json!({"image": null}),
        json!({"image": "None"}),
        json!({"conversations": []}),
    ];
    let as_lines: String = entries.iter().map(|e| format!("{e}\n")).collect();
    fs::write(root.join("lines.jsonl"), format!("\u{feff}\n{as_lines}"))?;
    fs::write(root.join("array.json"), format!(" {}", json!(entries)))?;
    let options = LeakOptions { images: Some(root.join("images")), ..LeakOptions::default() };
    let out = root.join("out");
    let training = [named("lines", root.join("lines.jsonl")), named("array", root.join("array.json"))];
    let report = search(&[benchmark], &training, &options, &out)?;

    let mine = &report.benchmarks[0];
    assert_eq!((mine.images, mine.unreadable, mine.hashes, mine.blank, mine.found), (4, 1, 4, 0, 3));
    assert_eq!(json!(mine.found_in), json!({"lines": 3, "array": 3}));
    let [lines_set, array] = &report.training[..] else { return Err("two sets".into()) };
    assert_eq!((array.hashed, array.matched, array.unreadable, array.found), (6, 5, 2, 3));
    assert_eq!((lines_set.images, lines_set.text_only, lines_set.repeated, lines_set.malformed), (9, 3, 1, 1));
    assert_eq!((lines_set.hashed, lines_set.unreadable, lines_set.matched, lines_set.found), (6, 2, 5, 3));
    let sources: Vec<Value> = lines_set.sources.iter().map(|s| json!([s.name, s.hashed, s.matched, s.found])).collect();
    assert_eq!(json!(sources), json!([["vg", 2, 2, 2], ["coco", 2, 1, 1], ["lines", 1, 1, 1], ["vqa", 1, 1, 1]]));

    let matches = lines(&out, FILES[0]);
    assert_eq!(matches.len(), 10);
    let first = &matches[0];
    assert_eq!((&first["id"], &first["source"], &first["distance"]), (&json!("10.png"), &json!("coco"), &json!(0)));
    assert_eq!((&first["hash"], &first["set"]), (&json!("000000000000000a"), &json!("lines")));
    assert!(first["training"].as_str().is_some_and(|t| t.ends_with("images/coco/a.png")));
    // One unreadable image in the benchmark, three in each set.
    let failures = lines(&out, FILES[1]);
    assert_eq!(failures.len(), 7);
    assert_eq!((&failures[0]["benchmark"], &failures[1]["set"]), (&json!("mine"), &json!("lines")));
    assert!(
        failures.iter().any(|f| f["detail"].as_str().is_some_and(|d| d.ends_with("entry 9: 7 is no path of an image")))
    );
    assert!(report.unreadable.iter().any(|(cause, c)| cause.contains("No such file") && c.count == 2));
    let written: LeakReport = serde_json::from_str(&fs::read_to_string(out.join(FILES[2]))?)?;
    assert_eq!(written, report);
    let text = report.text();
    assert!(
        text.starts_with(
            "benchmark    images    found    lines    array\nmine              4        3        3        3\n"
        ),
        "{text}"
    );
    assert!(text.contains("lines: 6 images hashed, 1 repeated, 5 match; 3 entries of text only\n"), "{text}");
    Ok(())
}

#[test]
fn tables_and_directories_are_read() -> Checked {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/benchmarks");
    let published = named("mmstar", golden.join("mmstar"));
    fs::create_dir_all(root.join("web/deep/er"))?;
    // More rows than one batch of table images.
    let mut rows: Vec<(&str, Option<u64>)> = (1000..1200).map(|hash| ("a", Some(hash))).collect();
    rows.extend([("b", Some(11)), ("b", None), ("", Some(12))]);
    write_parquet(&root.join("web/deep/part.parquet"), &rows)?;
    save(root, "web/deep/er/x.PNG", 10);
    save(root, "web/y.png", 77);
    fs::write(root.join("web/notes.md"), "")?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("web"), root.join("web/deep/again"))?;
    let training = [named("web", root.join("web")), named("same", golden.join("mmstar/mmstar.parquet"))];
    let report = search(&[benchmark, published], &training, &LeakOptions::default(), &root.join("out"))?;
    let [mine, mmstar] = &report.benchmarks[..] else { return Err("two benchmarks".into()) };
    assert_eq!(json!(mine.found_in), json!({"web": 3, "same": 0}));
    assert_eq!((mmstar.images, mmstar.found, mmstar.found_in["same"]), (3, 3, 3));
    let web = &report.training[0];
    assert_eq!((web.hashed, web.unreadable, web.text_only, web.other_files, web.matched), (204, 0, 1, 1, 3));
    let sources: Vec<(&str, u64, usize)> = web.sources.iter().map(|s| (s.name.as_str(), s.hashed, s.found)).collect();
    assert_eq!(sources, [("deep", 2, 2), ("b", 1, 1), ("a", 200, 0), ("web", 1, 0)]);

    let none = LeakOptions { columns: vec!["photo".into()], ..LeakOptions::default() };
    let table = [named("t", root.join("web/deep/part.parquet"))];
    let error = search(&[named("mine", root.join("test"))], &table, &none, &root.join("out2")).unwrap_err();
    assert!(
        error.to_string().contains("contains neither images nor parquet files with an image column named photo"),
        "{error}"
    );
    assert!(!root.join("out2").join(FILES[0]).exists());
    Ok(())
}

/// Compares lookups with a bit count over all pairs.
#[test]
fn near_images_are_found() -> Checked {
    let dir = tempfile::tempdir()?;
    let mut stream = burgess_base::stream::stream("near", 1);
    let tests: Vec<u64> = (0..150).map(|_| stream.next_u64()).collect();
    let copies: Vec<u64> = (0..600)
        .map(|i| (0..stream.next_u32() % 8).fold(tests[i % 150], |hash, _| hash ^ (1 << (stream.next_u32() % 64))))
        .collect();
    for (folder, all) in [("test", &tests), ("train", &copies)] {
        for (i, hash) in all.iter().enumerate() {
            save(&dir.path().join(folder), &format!("{i}.png"), *hash);
        }
    }
    for distance in [0, 1, 3, 6] {
        let out = dir.path().join(format!("out{distance}"));
        let options = LeakOptions { distance, ..LeakOptions::default() };
        let sets = [named("train", dir.path().join("train"))];
        let report = search(&[named("test", dir.path().join("test"))], &sets, &options, &out)?;
        let mut expected: Vec<(String, String, u64)> = Vec::new();
        for (t, test) in tests.iter().enumerate() {
            let near = copies.iter().enumerate().map(|(c, copy)| (c, (test ^ copy).count_ones()));
            expected.extend(
                near.filter(|(_, d)| *d <= distance).map(|(c, d)| (format!("{t}.png"), format!("{c}.png"), d.into())),
            );
        }
        let mut found: Vec<(String, String, u64)> = Vec::new();
        for line in lines(&out, FILES[0]) {
            let (Some(id), Some(path)) = (line["id"].as_str(), line["training"].as_str()) else {
                return Err("text".into());
            };
            let name = path.rsplit('/').next().unwrap_or_default();
            found.push((id.into(), name.into(), line["distance"].as_u64().unwrap_or(99)));
        }
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{distance}");
        let distinct: std::collections::BTreeSet<&String> = expected.iter().map(|(test, ..)| test).collect();
        assert_eq!(report.benchmarks[0].found, distinct.len());
    }
    Ok(())
}

#[test]
fn many_matches_of_one_image_are_cut() -> Checked {
    let dir = tempfile::tempdir()?;
    for i in 0..30 {
        save(dir.path(), &format!("test/{i}.png"), 0);
    }
    save(dir.path(), "train/blank.png", 0);
    let options = LeakOptions { matches: 4, ..LeakOptions::default() };
    let (tests, sets) = ([named("test", dir.path().join("test"))], [named("train", dir.path().join("train"))]);
    let report = search(&tests, &sets, &options, &dir.path().join("out"))?;
    assert_eq!((report.benchmarks[0].found, report.benchmarks[0].blank, report.benchmarks[0].hashes), (30, 30, 1));
    let matches = lines(&dir.path().join("out"), FILES[0]);
    assert_eq!((matches.len(), &matches[3]["further"], matches[2].get("further")), (4, &json!(26), None));
    assert!(report.text().contains("30 of these images have the hash of a blank image"));
    Ok(())
}

#[test]
fn what_is_wrong_is_said() -> Checked {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let mine = benchmark(root);
    fs::write(root.join("broken.jsonl"), "{\"image\": \"a.png\"}\n{\"image\": \"b.png\"\n")?;
    fs::write(root.join("broken.json"), "[{\"image\": \"a.png\"},\n ]")?;
    fs::write(root.join("behind.json"), "[]\n[]")?;
    fs::write(root.join("empty.json"), " \n")?;
    fs::create_dir(root.join("nothing"))?;
    let options = LeakOptions { images: Some(root.join("test")), ..LeakOptions::default() };
    let error = |benchmark: &NamedDataset, set: &str, options: &LeakOptions| {
        let error =
            search(std::slice::from_ref(benchmark), &[named("set", root.join(set))], options, &root.join("out"));
        let error = error.expect_err(set);
        let hint = error.hint_text().unwrap_or_default();
        format!("{error} ({hint})").replace(&root.display().to_string(), "DIR")
    };
    for (set, says) in [
        ("broken.jsonl", "DIR/broken.jsonl: EOF while parsing an object at line 3 column 0"),
        ("broken.json", "DIR/broken.json: trailing comma at line 2 column 2"),
        ("behind.json", "trailing characters at line 2 column 1"),
        ("empty.json", "DIR/empty.json is empty"),
        ("absent.json", "the set of training data DIR/absent.json does not exist"),
        ("nothing", "DIR/nothing contains neither images nor parquet files"),
        ("test/10.png", "is a single image"),
    ] {
        let said = error(&mine, set, &options);
        assert!(said.contains(says), "{said}");
    }
    assert!(!root.join("out").join(FILES[0]).exists(), "no partial output files");
    assert!(error(&mine, "broken.json", &LeakOptions::default()).contains("the option `images` is not set"));
    assert!(
        error(&named("empty", root.join("nothing")), "test", &options).contains("there are no images in DIR/nothing")
    );
    assert!(error(&named("mmstr", root.join("empty.json")), "test", &options).contains("did you mean `mmstar`?"));
    assert!(error(&named("mmstar", root.join("test")), "test", &options).contains("mmstar"));
    assert!(
        error(&mine, "test", &LeakOptions { side: 1, ..LeakOptions::default() })
            .contains("`side` must be from 2 to 32, found 1")
    );
    assert!(
        error(&mine, "test", &LeakOptions { distance: 64, ..LeakOptions::default() })
            .contains("less than the 64 bits of a hash, found 64")
    );
    fs::create_dir(root.join("bad"))?;
    fs::write(root.join("bad/x.jpg"), "no")?;
    assert!(
        error(&named("bad", root.join("bad")), "test", &options).contains("none of the 1 images of bad can be read")
    );
    let twice = search(&[mine.clone(), mine.clone()], &[named("s", root)], &options, root).unwrap_err();
    assert!(twice.to_string().contains("a second benchmark is called mine"));

    assert_eq!(NamedDataset::parse("a=b/c")?, named("a", "b/c"));
    assert_eq!(NamedDataset::parse("x/data.json.gz")?, named("data", "x/data.json.gz"));
    assert!(
        NamedDataset::parse("=x").is_err() && NamedDataset::parse("x=").is_err() && NamedDataset::parse("").is_err()
    );
    Ok(())
}

#[test]
fn what_cannot_be_read_is_listed_within_bounds() -> Checked {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    fs::create_dir(root.join("images"))?;
    // Long values, long names, long sources; entries that are not objects.
    let long = "x".repeat(100_000);
    let mut entries = vec![json!(null), json!(7), json!("text"), json!([1]), json!({"image": {"a": long}})];
    entries.push(json!({"image": [[long], long, {"b": 1}], "source": long}));
    entries.extend((0..300).map(|i| json!({"image": format!("{i}{long}.png")})));
    fs::write(root.join("t.json"), json!(entries).to_string().replace("null,7", "null, NaN ,7"))?;
    let options = LeakOptions { images: Some(root.join("images")), ..LeakOptions::default() };
    let out = root.join("out");
    let report = search(std::slice::from_ref(&benchmark), &[named("t", root.join("t.json"))], &options, &out)?;
    assert_eq!((report.training[0].malformed, report.training[0].unreadable), (8, 301));
    let odd = &report.unreadable["the entry is no object"];
    assert_eq!((odd.count, odd.first.ends_with("t.json entry 1 is null")), (5, true));
    for name in [FILES[1], FILES[2]] {
        assert!(fs::metadata(out.join(name))?.len() < 1_000_000, "{name}");
    }
    assert!(report.training[0].sources.iter().all(|s| s.name.len() < 300));
    Ok(())
}

#[test]
fn a_list_of_failures_ends() -> Checked {
    use std::io::Write;
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    fs::create_dir(root.join("images"))?;
    // A small file with many entries: each is counted, but not all are listed.
    let entry = format!("{{\"image\": [{}]}}\n", vec!["7"; 1000].join(","));
    let mut file = fs::File::create(root.join("t.jsonl"))?;
    for _ in 0..300 {
        file.write_all(entry.as_bytes())?;
    }
    let options = LeakOptions { images: Some(root.join("images")), ..LeakOptions::default() };
    let out = root.join("out");
    let report = search(&[benchmark], &[named("t", root.join("t.jsonl"))], &options, &out)?;
    assert_eq!(report.training[0].malformed, 300_000);
    assert!(fs::metadata(out.join(FILES[1]))?.len() <= burgess_leaks::MAX_FAILURE_BYTES + 1000);
    let last = fs::read_to_string(out.join(FILES[1]))?.lines().last().map(String::from).unwrap_or_default();
    assert!(last.contains("further failures are not listed"), "{last}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_counted_and_not_waited_for() -> Checked {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    let fifo = |name: &str| std::process::Command::new("mkfifo").arg(root.join(name)).status().map(|s| s.success());
    save(&root.join("train"), "line\nfeed.png", 10);
    fs::write(root.join("train").join(std::ffi::OsStr::from_bytes(b"gr\xfc\xdf.png")), png(11))?;
    assert!(fifo("train/fifo.png")? && fifo("train/fifo.txt")?);
    std::os::unix::fs::symlink("nowhere.png", root.join("train/link.png"))?;
    let out = root.join("out");
    let of = |name: &str| [named("t", root.join(name))];
    let benchmark = std::slice::from_ref(&benchmark);
    let report = search(benchmark, &of("train"), &LeakOptions::default(), &out)?;
    let set = &report.training[0];
    assert_eq!((set.hashed, set.matched, set.unreadable, set.other_files), (2, 2, 2, 1));
    assert!(report.unreadable.keys().any(|why| why == "it is a FIFO, not a file"), "{:?}", report.unreadable);
    assert!(report.unreadable.keys().any(|why| why.contains("a link to nowhere.png, which does not exist")));
    assert!(fifo("train/fifo.parquet")? && fifo("fifo.json")?);
    let error = search(benchmark, &of("train"), &LeakOptions::default(), &out).expect_err("a table").to_string();
    assert!(error.ends_with("fifo.parquet: it is a FIFO, not a file"), "{error}");
    let options = LeakOptions { images: Some(root.into()), ..LeakOptions::default() };
    let error = search(benchmark, &of("fifo.json"), &options, &out).expect_err("a FIFO").to_string();
    assert!(error.ends_with("fifo.json: it is a FIFO, not a file"), "{error}");
    Ok(())
}

#[test]
fn an_entry_that_decompresses_to_gigabytes_is_refused() -> Checked {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    let benchmark = benchmark(root);
    let path = root.join("t.json");
    let text = format!("[{{\"image\": \"{}", "x".repeat(70 << 20));
    fs::write(&path, text)?;
    let options = LeakOptions { images: Some(root.into()), ..LeakOptions::default() };
    let error = search(&[benchmark], &[named("t", &path)], &options, &root.join("out")).expect_err("long").to_string();
    assert!(error.contains("one row is longer than 64 MiB"), "{error}");
    Ok(())
}
