//! Plans and outputs of small pools.

use super::*;
use crate::manifest::Manifest;
use crate::write::{DATA_FILE, OutputFormat, WORK, WriteOptions};
use std::collections::BTreeMap;
use std::fs;

/// A pool with `myqa` (general, 40), `dvqa_2325k.json` (ocr, 30) and text only of `orca_994k.json` (language, 20).
fn pool(dir: &Path) -> Result<PathBuf> {
    let mut text = String::new();
    for i in 0..90 {
        let (source, image) = match i % 9 {
            0..=3 => ("myqa", format!("\"image\": \"gqa/{}.png\", ", i / 2)),
            4..=6 => ("dvqa_2325k.json", format!("\"image\": \"dvqa/{i}.png\", ")),
            _ => ("orca_994k.json", String::new()),
        };
        let words = "word ".repeat(i % 7 + 1);
        let mark = if image.is_empty() { "" } else { "<image>\\n" };
        text += &format!(
            "{{\"id\": {i}, {image}\"source\": \"{source}\", \"extra\": [1.50, {{}}], \"conversations\": \
             [{{\"from\": \"human\", \"value\": \"{mark}What is {i}?\"}}, {{\"from\": \"gpt\", \"value\": \"{words}{i}\"}}]}}\n"
        );
        if i == 10 {
            text += "{\"id\": \"broken\"\n{\"id\": \"empty\", \"conversations\": []}\n";
        }
    }
    let path = dir.join("pool.jsonl");
    fs::write(&path, text)?;
    Ok(path)
}

fn mix(pool: &Path, rules: &str) -> Result<Mix> {
    let pools =
        format!("\n[[pools]]\npath = {:?}\nimages = {:?}\n", pool, pool.parent().unwrap_or(pool).join("images"));
    Mix::read(&format!("{rules}{pools}"), "test.toml")
}

fn plan(mix: &Mix, dir: &Path) -> Result<MixPlan> {
    mix.plan(dir, &mut |_| ())
}

fn after(plan: &MixPlan, rule: &str) -> BTreeMap<String, u64> {
    let at = plan.table.rules.iter().position(|name| name == rule).unwrap_or(usize::MAX);
    plan.table.sources.iter().map(|row| (row.source.clone(), row.after[at])).filter(|(_, count)| *count > 0).collect()
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(name, count)| ((*name).to_string(), *count)).collect()
}

fn written(plan: &MixPlan, out: &Path, format: OutputFormat) -> Result<Manifest> {
    let options = WriteOptions { name: "test".into(), format, per_shard: 8 };
    Ok(plan.write(out, &options, &mut |_| ())?.manifest)
}

#[test]
fn every_filter_leaves_out_what_it_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    let all = [("DVQA", 30), ("OpenOrca", 20), ("myqa", 40)];
    for (rules, rule, expected) in [
        ("filters.text_only = 'drop'", "text_only", vec![("DVQA", 30), ("myqa", 40)]),
        ("filters.text_only = 'only'", "text_only", vec![("OpenOrca", 20)]),
        ("filters.turns = {min = 2}", "turns", vec![]),
        ("filters.answer_words = {min = 2, max = 3}", "answer_words", vec![("DVQA", 9), ("OpenOrca", 6), ("myqa", 11)]),
        ("filters.words = {max = 6}", "words", vec![("DVQA", 9), ("OpenOrca", 6), ("myqa", 11)]),
        ("filters.question_words = {min = 4}", "question_words", vec![]),
        ("filters.chars = {max = 10000}", "chars", all.to_vec()),
        (
            "filters.drop_matching = ['is 1\\?', 'is [2-9]\\d*\\?']",
            "drop_matching",
            vec![("DVQA", 3), ("OpenOrca", 2), ("myqa", 6)],
        ),
        ("filters.languages = ['jpn']\nfilters.unknown_language = 'drop'", "languages", vec![]),
        ("filters.ratings = {relevance = 3}", "ratings (quality)", all.to_vec()),
        ("filters.ratings = {relevance = 3}\nfilters.unrated = 'drop'", "ratings (quality)", vec![]),
        ("filters.missing_images = 'drop'", "missing_images", vec![("OpenOrca", 20)]),
        ("unlisted = 'drop'", "unlisted", vec![("DVQA", 30), ("OpenOrca", 20)]),
        ("sources = [{name = 'DVQA', take = 7}]", "take", vec![("DVQA", 7), ("OpenOrca", 20), ("myqa", 40)]),
        ("threshold = {t = 25, how = 'first'}", "threshold", vec![("DVQA", 25), ("OpenOrca", 20), ("myqa", 25)]),
        ("threshold = {t = 5, multimodal_only = true}", "threshold", vec![("DVQA", 5), ("OpenOrca", 20), ("myqa", 5)]),
        ("ratios = {total = 30, shares = {ocr = 2, language = 1}}", "ratios", vec![("DVQA", 20), ("OpenOrca", 10)]),
    ] {
        let mix = mix(&pool, &format!("catalogue = 'cambrian-10m'\nkinds = {{myqa = 'general'}}\n{rules}\n"))?;
        let plan = plan(&mix, dir.path())?;
        assert_eq!(plan.table.before(), 90, "{rules}");
        assert_eq!(after(&plan, rule), counts(&expected), "{rules}\n{}", plan.table.text());
        assert_eq!(plan.len() as u64, plan.table.taken());
        assert_eq!(plan.problems.skipped.iter().map(|s| s.count).sum::<usize>(), 2, "{:?}", plan.problems);
    }
    let kinds: BTreeMap<String, u64> = plan(&mix(&pool, "catalogue = 'cambrian-10m'\n")?, dir.path())?
        .table
        .kinds()
        .into_iter()
        .map(|row| (row.kind.clone(), row.taken()))
        .collect();
    let found: BTreeMap<String, u64> = kinds.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, counts(&[("language", 20), ("ocr", 30), ("unknown", 40)]));
    Ok(())
}

#[test]
fn lines_are_unchanged_unless_a_rule_edits_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    let out = dir.path().join("out");
    let made = plan(&mix(&pool, "threshold = {t = 12}\n")?, dir.path())?;
    let manifest = written(&made, &out, OutputFormat::Jsonl)?;
    let text = fs::read_to_string(&pool)?;
    let data = fs::read_to_string(out.join(DATA_FILE))?;
    let mut lines = text.lines();
    assert!(data.lines().all(|line| lines.any(|own| own == line)), "a subsequence of the pool's lines");
    assert_eq!((data.lines().count(), manifest.entries), (36, 36));
    assert_eq!(manifest.outputs[0].digest, digest::of_file(&out.join(DATA_FILE))?);
    assert_eq!(manifest.inputs[0].digest, digest::of_file(&pool)?);
    assert_eq!(manifest.images.values().copied().collect::<Vec<_>>(), [24]);
    assert!(!out.join(WORK).exists() && out.join("mix.toml").exists());
    assert_eq!(Manifest::beside(&out.join(DATA_FILE))?.as_ref(), Some(&manifest));
    assert_eq!(Manifest::beside(&pool)?, None);
    // The same again is there already; another mix is refused.
    let again = made.write(&out, &WriteOptions { per_shard: 8, ..WriteOptions::default() }, &mut |_| ())?;
    assert!(again.was_there);
    let other = plan(&mix(&pool, "threshold = {t = 13}\n")?, dir.path())?;
    let e = written(&other, &out, OutputFormat::Jsonl).unwrap_err();
    assert!(e.to_string().contains("holds another mix, `test`"), "{e}");
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign)?;
    fs::write(foreign.join(DATA_FILE), "mine")?;
    assert!(written(&made, &foreign, OutputFormat::Jsonl).is_err_and(|e| e.exit_code() == 2));
    assert_eq!(fs::read_to_string(foreign.join(DATA_FILE))?, "mine");
    // `mix.toml` makes the same mix.
    let rules = Mix::open(&out.join("mix.toml"))?;
    assert_eq!(plan(&rules, dir.path())?.key, made.key);
    Ok(())
}

#[test]
fn system_prompts_edit_only_their_text() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    let out = dir.path().join("out");
    let made = plan(&mix(&pool, "catalogue = 'cambrian-10m'\nsystem_prompts = {}\n")?, dir.path())?;
    let manifest = written(&made, &out, OutputFormat::Jsonl)?;
    let (before, data) = (fs::read_to_string(&pool)?, fs::read_to_string(out.join(DATA_FILE))?);
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
    let good = before.lines().filter(|line| read(line)["conversations"][0].is_object());
    let mut edited = 0;
    for (old, new) in good.zip(data.lines()) {
        let (mut old_value, new_value) = (read(old), read(new));
        if old_value["source"] == "dvqa_2325k.json" {
            edited += 1;
            let question = old_value["conversations"][0]["value"].as_str().unwrap_or_default();
            let expected = format!("{question}\nAnswer the question using a single word or phrase.");
            old_value["conversations"][0]["value"] = expected.into();
            assert_eq!(new_value, old_value);
        } else {
            assert_eq!(old, new);
        }
    }
    let count = manifest.counts.system_prompts.get("DVQA").copied().unwrap_or_default();
    assert_eq!((edited, count.appended, count.present), (30, 30, 0));
    // From its own output: every question has the text.
    let again = plan(&mix(&out.join(DATA_FILE), "catalogue = 'cambrian-10m'\nsystem_prompts = {}\n")?, dir.path())?;
    let second = written(&again, &dir.path().join("second"), OutputFormat::Jsonl)?;
    assert_eq!(second.counts.system_prompts["DVQA"].present, 30);
    assert_eq!(fs::read(dir.path().join("second").join(DATA_FILE))?, data.as_bytes());
    Ok(())
}

#[test]
fn duplicates_are_found_exactly_and_by_similarity() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let entry = |id: usize, source: &str, image: &str, answer: &str| {
        format!(
            "{{\"id\": {id}, \"image\": \"{image}\", \"source\": \"{source}\", \"conversations\": [{{\"from\": \"human\", \
             \"value\": \"What is it?\"}}, {{\"from\": \"gpt\", \"value\": \"{answer}\"}}]}}\n"
        )
    };
    let long = |changed: usize| -> String {
        (0..40).map(|i| if i < changed { format!("other{i} ") } else { format!("word{i} ") }).collect()
    };
    let text = [
        entry(0, "a", "1.png", "A cup."),
        entry(1, "a", "1.png", "a CUP"),
        entry(2, "b", "1.png", "a cup"),
        entry(3, "a", "2.png", "a cup"),
        entry(4, "a", "1.png", &long(0)),
        entry(5, "a", "1.png", &long(2)),
        entry(6, "a", "1.png", &long(30)),
        entry(7, "a", "1.png", "two cups"),
    ]
    .concat();
    let pool = dir.path().join("p.jsonl");
    fs::write(&pool, text)?;
    for (rule, kept) in [
        ("{}", "034567"),
        ("{within_source = true}", "0234567"),
        ("{images = 'any'}", "04567"),
        ("{how = 'minhash', images = 'any'}", "0467"),
        ("{how = 'minhash', similarity = 1.0}", "034567"),
        ("{how = 'minhash', within_source = true}", "023467"),
    ] {
        let plan = plan(&mix(&pool, &format!("filters.duplicates = {rule}\n"))?, dir.path())?;
        let out = tempfile::tempdir()?;
        written(&plan, &out.path().join("o"), OutputFormat::Jsonl)?;
        let data = fs::read_to_string(out.path().join("o").join(DATA_FILE))?;
        let ids: String = data.lines().filter_map(|line| line.get(7..8)).collect();
        assert_eq!(ids, kept, "{rule}");
    }
    Ok(())
}

/// A white image with a black disc whose centre depends on `seed`.
fn image(path: &Path, seed: u32) -> Result<()> {
    let mut drawn = image::RgbImage::from_pixel(64, 64, image::Rgb([255, 255, 255]));
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let (dx, dy) = (x.abs_diff(seed * 13 % 60), y.abs_diff(seed * 29 % 60));
        if seed > 0 && dx * dx + dy * dy < 400 {
            *pixel = image::Rgb([0, (seed * 20) as u8, 0]);
        }
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    drawn.save(path).map_err(|e| Error::failed(e.to_string()))
}

#[test]
fn images_are_looked_for_compared_and_packed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join("images").join(name);
    for (name, seed) in [("a.png", 1), ("copy.png", 1), ("b.png", 2), ("c.png", 3), ("blank.png", 0), ("white.png", 0)]
    {
        image(&at(name), seed)?;
    }
    fs::write(at("bad.png"), "no image")?;
    fs::create_dir(dir.path().join("bench"))?;
    image(&dir.path().join("bench/test.png"), 3)?;
    let names = [
        "a.png",
        "a.png",
        "copy.png",
        "b.png",
        "c.png",
        "blank.png",
        "white.png",
        "bad.png",
        "none.png",
        "../x.png",
        "",
    ];
    let line = |(i, name): (usize, &&str)| {
        format!(
            "{{\"id\": \"{i:x}\", \"image\": \"{name}\", \"conversations\": [{{\"from\": \"human\", \"value\": \"What?\"}}, {{\"from\": \"gpt\", \"value\": \"it\"}}]}}\n"
        )
    };
    let pool = dir.path().join("p.jsonl");
    fs::write(&pool, names.iter().enumerate().map(line).collect::<String>())?;
    let ids = |rules: &str| -> Result<(String, MixPlan)> {
        let made = plan(&mix(&pool, rules)?, dir.path())?;
        let out = tempfile::tempdir()?;
        written(&made, &out.path().join("o"), OutputFormat::Jsonl)?;
        let data = fs::read_to_string(out.path().join("o").join(DATA_FILE))?;
        let id = |line: &str| line.split("\"id\": \"").nth(1).and_then(|rest| rest.chars().next());
        Ok((data.lines().filter_map(id).collect(), made))
    };
    assert_eq!(ids("filters.missing_images = 'drop'\n")?.0, "01234567a");
    let (kept, made) = ids("filters.duplicate_images = {}\n")?;
    assert_eq!(kept, "013456789a");
    let reasons: Vec<(&str, usize)> =
        made.problems.unreadable_images.iter().map(|s| (s.reason.as_str(), s.count)).collect();
    assert_eq!(reasons, [("an image cannot be read", 2), ("an image has no place", 1)]);
    assert!(made.table.notes.iter().any(|note| note.contains("2 images are blank")), "{:?}", made.table.notes);
    assert_eq!(ids("filters.duplicate_images = {same_file = true}\n")?.0, "03456789a");
    let bench = format!("filters.leaks.benchmarks = {{mine = {:?}}}\n", dir.path().join("bench"));
    let (kept, made) = ids(&bench)?;
    assert_eq!(kept, "012356789a");
    assert!(made.table.notes.iter().any(|note| note.contains("1 images have the hash of an image of mine")));
    // Shards: what has no readable image is left out and counted.
    let out = dir.path().join("shards");
    let made = plan(&mix(&pool, "")?, dir.path())?;
    let manifest = written(&made, &out, OutputFormat::WebDataset)?;
    assert_eq!(manifest.entries, 8);
    let left_out: Vec<(&str, usize)> = manifest.counts.left_out.iter().map(|s| (s.reason.as_str(), s.count)).collect();
    let mut sorted = left_out.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [("an image cannot be read", 1), ("an image has no known format", 1), ("the entry cannot be edited", 1)]
    );
    let mut members = Vec::new();
    for entry in tar::Archive::new(fs::File::open(out.join("000000.tar"))?).entries()? {
        members.push(entry?.path()?.display().to_string());
    }
    assert_eq!(members.len(), 15, "{members:?}");
    Ok(())
}

#[test]
fn a_shuffled_mix_is_a_permutation_in_any_format() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    let made = plan(&mix(&pool, "order = 'shuffle'\nseed = 3\n")?, dir.path())?;
    let lines = |name: &str| -> Result<Vec<String>> {
        written(&made, &dir.path().join(name), OutputFormat::Jsonl)?;
        Ok(fs::read_to_string(dir.path().join(name).join(DATA_FILE))?.lines().map(String::from).collect())
    };
    let (one, two) = (lines("one")?, lines("two")?);
    assert_eq!(one, two);
    let ordered = plan(&mix(&pool, "seed = 3\n")?, dir.path())?;
    written(&ordered, &dir.path().join("ordered"), OutputFormat::Jsonl)?;
    let text = fs::read_to_string(dir.path().join("ordered").join(DATA_FILE))?;
    let mut all: Vec<&str> = text.lines().collect();
    let mut sorted: Vec<&str> = one.iter().map(String::as_str).collect();
    assert_ne!(all, sorted);
    all.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(all, sorted);
    Ok(())
}

#[test]
fn an_interrupted_mix_goes_on_from_its_plan() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    for (format, order) in
        [(OutputFormat::Jsonl, "pools"), (OutputFormat::Jsonl, "shuffle"), (OutputFormat::WebDataset, "pools")]
    {
        let text_only = "filters.text_only = 'only'\n";
        let rules = format!("order = '{order}'\n{text_only}");
        let mix = mix(&pool, &rules)?;
        let whole = dir.path().join(format!("whole-{format:?}-{order}"));
        let expected = written(&plan(&mix, dir.path())?, &whole, format)?;
        let cut = dir.path().join(format!("cut-{format:?}-{order}"));
        let work = MixPlan::work_directory(&cut);
        // Interrupted after each entry in turn.
        for stop in 0..3 {
            let made = plan(&mix, &work)?;
            let options = WriteOptions { name: "test".into(), format, per_shard: 8 };
            let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut calls = 0;
                made.write(&cut, &options, &mut |_| {
                    calls += 1;
                    assert!(calls <= stop, "killed here");
                })
            }));
            assert!(interrupted.is_err() || stop > 1, "{format:?} {stop}");
            if cut.join("manifest.json").exists() {
                break;
            }
            assert!(MixPlan::stored(&work, &mix, &made.key)?.is_some(), "the plan is kept");
        }
        let manifest = written(&plan(&mix, &work)?, &cut, format)?;
        assert_eq!(manifest, expected);
        for file in &expected.outputs {
            assert_eq!(fs::read(cut.join(&file.file))?, fs::read(whole.join(&file.file))?);
        }
    }
    // A damaged plan counts as none.
    let mix = mix(&pool, "")?;
    let made = plan(&mix, dir.path())?;
    made.store(dir.path())?;
    let stored = stored::path(dir.path());
    assert_eq!(MixPlan::stored(dir.path(), &mix, &made.key)?.map(|plan| plan.len()), Some(90));
    let bytes = fs::read(&stored)?;
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&stored, &bytes[..cut])?;
        assert!(MixPlan::stored(dir.path(), &mix, &made.key)?.is_none());
    }
    let mut flipped = bytes.clone();
    let middle = bytes.len() - 100;
    flipped[middle] ^= 1;
    fs::write(&stored, flipped)?;
    assert!(MixPlan::stored(dir.path(), &mix, &made.key)?.is_none());
    Ok(())
}

#[test]
fn problems_of_pools_are_errors_with_a_hint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pool = pool(dir.path())?;
    let e = plan(&Mix::default(), dir.path()).err().unwrap_or_else(Error::interrupted);
    assert!(e.to_string().contains("the mix has no pools") && e.hint_text().is_some(), "{e}");
    let twice = format!("[[pools]]\npath = {pool:?}\n[[pools]]\npath = [{pool:?}]\n");
    let e = plan(&Mix::read(&twice, "twice.toml")?, dir.path()).err().unwrap_or_else(Error::interrupted);
    assert!(e.to_string().contains("is in the pools twice"), "{e}");
    // A pool that changes between the passes.
    let made = plan(&mix(&pool, "")?, dir.path())?;
    fs::write(&pool, fs::read_to_string(&pool)?.replace("\"extra\": [1.50, {}], ", ""))?;
    let e = written(&made, &dir.path().join("out"), OutputFormat::Jsonl).unwrap_err();
    assert!(e.hint_text().is_some_and(|hint| hint.contains("again")), "{e} {:?}", e.hint_text());
    assert!(!dir.path().join("out/manifest.json").exists());
    Ok(())
}
