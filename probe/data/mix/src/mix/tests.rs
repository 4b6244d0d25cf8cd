//! Every key is read, and every wrong one is named with its file and line.

use super::*;

const FULL: &str = r#"
about = "all keys"
seed = 7
catalogue = "cambrian-10m"
unlisted = "drop"
order = "shuffle"
reported = 5

[[pools]]
path = ["a.jsonl", "b/*.jsonl"]
images = "images"
source = "mine"

[[sources]]
name = "dvqa"
take = 10

[[sources]]
name = "mine"
kind = "ocr"
from = ["my-source.json:folder/a", "other:"]
count = 100
text_only = true

[kinds]
gqa = "general"

[filters]
turns = { min = 1, max = 20 }
words = { max = 1000 }
chars = { min = 2 }
question_words = { min = 1 }
answer_words = { min = 1 }
drop_matching = ['(?i)as an ai']
text_only = "keep"
languages = ["eng", "deu"]
unknown_language = "drop"
ratings = { relevance = 3.0 }
unrated = "drop"
missing_images = "drop"
duplicates = { how = "minhash", similarity = 0.7, shingle = 5, images = "any", within_source = true }
duplicate_images = { distance = 2, same_file = true, within_source = true }
leaks = { benchmarks = { mmvp = "MMVP" }, distance = 1 }

[threshold]
t = 5
how = "soft"
multimodal_only = true
except = ["language"]

[ratios]
total = 10
shortfall = "smaller"
within = "even"
shares = { ocr = 1.0, language = 2 }

[system_prompts]
texts = "none"
sources = { mine = "Be brief." }
turns = "first"
"#;

#[test]
fn every_key_is_read_and_written_again() -> Result<()> {
    let mix = Mix::read(FULL, "full.toml")?;
    let written = toml::to_string(&mix).map_err(|e| Error::failed(e.to_string()))?;
    assert_eq!(Mix::read(&written, "written.toml")?, mix);
    let sources = mix.listed_sources()?;
    let dvqa = sources.iter().find(|source| source.name == "DVQA").cloned().unwrap_or_default();
    assert_eq!((dvqa.take, dvqa.count, dvqa.kind.as_deref()), (Some(10), Some(2_325_000), Some("ocr")));
    assert!(sources.last().is_some_and(|source| source.name == "mine"));
    assert_eq!(Mix::read("", "empty.toml")?, Mix::default());
    Ok(())
}

#[test]
fn wrong_keys_and_values_are_named_with_their_line() {
    for (from, to, said, hint) in [
        ("seed = 7", "sede = 7", "full.toml:3: `sede = 7`: unknown field `sede`", "did you mean `seed`?"),
        ("seed = 7", "seed = \"7\"", "full.toml:3: `seed = \"7\"`: invalid type", ""),
        ("seed = 7", "seed = -7", "full.toml:3:", ""),
        ("t = 5", "t = 0", "`t = 0`: `t` is 0, expected at least 1", "leave out the whole table"),
        ("how = \"soft\"", "how = \"random\"", "`how = \"random\"`: unknown variant `random`", ""),
        ("catalogue = \"cambrian-10m\"", "catalogue = \"x\"", "there is no catalogue called `x`", "cambrian-10m"),
        ("relevance = 3.0", "relevence = 3.0", "no rating called `relevence`", "did you mean `relevance`?"),
        ("relevance = 3.0", "relevance = nan", "`relevance` is NaN", ""),
        ("\"eng\"", "\"english\"", "`languages` is `english`, expected a code of ISO 639-3", "write `eng`"),
        ("'(?i)as an ai'", "'('", "is not a regular expression", "escape"),
        ("similarity = 0.7", "similarity = 1.5", "`similarity` is 1.5, expected a number above 0", ""),
        ("shingle = 5", "shingle = 0", "`shingle` is 0", ""),
        ("distance = 2,", "distance = 9,", "`distance` is 9, expected a number of bits from 0 to 7", ""),
        ("{ mmvp = \"MMVP\" }", "{}", "`leaks` names no benchmark", "write a path per name"),
        ("distance = 1 }", "distance = 64 }", "from 0 to 63", ""),
        ("ocr = 1.0", "ocr = -1.0", "`shares.ocr` is -1", ""),
        ("total = 10", "total = 0", "`total = 0`: `total` is 0", "leave it out"),
        ("{ min = 1, max = 20 }", "{ min = 21, max = 20 }", "`filters.turns` keeps nothing", "exchange"),
        ("name = \"mine\"", "name = \"DVQA\"", "listed as number 1 and 2", "remove one"),
        ("name = \"mine\"", "name = \" \"", "source 2 has no name", "write `name"),
        ("kind = \"ocr\"", "kind = \"\"", "`kind = \"\"`: `kind` is empty", ""),
        ("\"other:\"", "\"gqa\"", "`gqa` stands for both", "leave it with one"),
        ("mine = \"Be brief.\"", "\" \" = \"Be brief.\"", "is empty", ""),
        ("reported = 5", "reported = 0", "full.toml:7: `reported = 0`", ""),
        ("gqa = \"general\"", "gqa = \"\"", "`kinds.gqa`", ""),
        ("[threshold]", "[threshold", "full.toml:", ""),
    ] {
        assert!(FULL.contains(from), "{from}");
        let e = Mix::read(&FULL.replacen(from, to, 1), "full.toml").unwrap_err();
        let told = e.to_string();
        assert!(told.contains(said) && told.contains("full.toml:"), "{to}: {told}");
        let given = e.hint_text().unwrap_or_default();
        assert!(given.contains(hint), "{to}: {given}");
        assert_eq!(e.exit_code(), 2, "{to}");
    }
}

#[test]
fn built_in_mixes_are_files_of_the_folder() -> Result<()> {
    for (folder, embedded) in [("mixes", BUILT_IN), ("catalogues", CATALOGUES)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files: Vec<String> = std::fs::read_dir(folder)?
            .map(|file| Ok(file?.file_name().to_string_lossy().trim_end_matches(".toml").to_string()))
            .collect::<Result<_>>()?;
        files.sort();
        let mut names: Vec<&str> = embedded.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(files, names);
    }
    for (name, _) in BUILT_IN {
        let mix = Mix::builtin(name)?;
        assert!(mix.about.is_some() && mix.pools.is_empty(), "{name}");
        assert_eq!(Mix::builtin_text(name).map(|text| Mix::read(text, name).is_ok()), Some(true));
    }
    let e = Mix::builtin("cambrian-10m-150k").unwrap_err();
    assert!(e.hint_text().is_some_and(|hint| hint.contains("did you mean `cambrian-10m")), "{e}");
    Ok(())
}

#[test]
fn folders_by_which_no_entry_is_told_apart_are_refused() {
    let read = |from: &str| Mix::read(&format!("[[sources]]\nname = \"s\"\nfrom = [\"{from}\"]\n"), "mix.toml");
    assert!(read("llava:coco/train2017").is_ok());
    let e = read("llava:coco/train2017/a").expect_err("three folders").to_string();
    assert!(e.contains("at most two folders"), "{e}");
}

#[test]
fn paths_are_relative_to_the_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("mix.toml");
    std::fs::write(&path, format!("\u{feff}{FULL}"))?;
    let mix = Mix::open(&path)?;
    assert_eq!(mix.pools[0].images.as_deref(), Some(dir.path().join("images").as_path()));
    let leaks = mix.filters.leaks.unwrap_or_default();
    assert_eq!(leaks.benchmarks["mmvp"], dir.path().join("MMVP"));
    std::fs::write(&path, [0xff, 0xfe])?;
    assert!(Mix::open(&path).is_err_and(|e| e.to_string().contains("not UTF-8")));
    assert!(Mix::open(&dir.path().join("none.toml")).is_err());
    Ok(())
}
