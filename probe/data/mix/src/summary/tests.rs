use super::*;
use crate::pool::PoolSpec;
use std::fs;

type Checked = std::result::Result<(), Box<dyn std::error::Error>>;

fn line(source: &str, image: &str, pairs: &[(&str, &str)]) -> String {
    let turns: Vec<_> = pairs
        .iter()
        .flat_map(|(q, a)| {
            [serde_json::json!({"from": "human", "value": q}), serde_json::json!({"from": "gpt", "value": a})]
        })
        .collect();
    serde_json::json!({"id": 1, "source": source, "image": image, "conversations": turns}).to_string()
}

#[test]
fn a_pool_is_counted_by_source_kind_and_length() -> Checked {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("img"))?;
    fs::write(dir.path().join("img/a.png"), "x")?;
    let long = "This is a long answer in plain English about the things that can be seen here.";
    let german = "Dies ist eine lange Antwort in deutscher Sprache, die etwas über das Bild erzählt.";
    let lines = [
        line("vqa", "a.png", &[("<image>\nWhat is it?", "a cup"), ("And?", "red")]),
        line("vqa", "b.png", &[("<image>", long)]),
        line("chat", "", &[("Say something long please, my friend", german)]),
        line("chat", "../x.png", &[("Hello there my friend", "one two three four")]),
        "{}".to_string(),
    ];
    let path = dir.path().join("a.jsonl");
    fs::write(&path, lines.join("\n"))?;
    let images = dir.path().join("img");
    let spec = PoolSpec { images: Some(images.clone()), ..PoolSpec::new(path.display().to_string()) };
    let pool = Pool::open(&spec)?;
    let options = SummaryOptions {
        images: Some(&images),
        samples: 3,
        tokens: Some(&|text| (!text.contains("Hello")).then_some(text.len() as u32)),
        kind_of: &|source| (source == "vqa").then(|| "General".to_string()),
        ..SummaryOptions::default()
    };
    let mut seen = 0;
    let summary = summarise(&pool, &options, &mut |n| seen = n)?;
    assert_eq!((seen, summary.all.conversations, summary.all.answers()), (4, 4, 5));
    assert_eq!((summary.all.short_answers, summary.all.one_word_answers), (2, 1));
    assert_eq!((summary.all.text_only, summary.all.images, summary.all.missing, summary.outside), (1, 3, 2, 1));
    assert_eq!((summary.missing, summary.not_encoded), (vec!["b.png".to_string()], 1));
    let names: Vec<_> = summary.sources.iter().map(|s| (s.name.as_str(), s.conversations)).collect();
    assert_eq!(names, [("chat", 2), ("vqa", 2)]);
    let kinds: Vec<_> = summary.kinds.iter().map(|s| (s.name.as_str(), s.conversations)).collect();
    assert_eq!(kinds, [("General", 2), ("", 2)]);
    // The mark of an image is no word.
    let questions = summary.all.question_words.ok_or("no questions")?;
    assert_eq!((questions.bars[0].from, questions.bars[0].count, questions.largest), (0, 1, 6));
    let tokens = summary.all.answer_tokens.ok_or("no tokens")?;
    assert_eq!(u64::from(tokens.largest), german.len() as u64);
    assert_eq!(summary.turns, [(1, 3), (2, 1)]);
    assert_eq!((summary.samples.len(), summary.skipped.len()), (3, 1));
    let languages: Vec<_> = summary.languages.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert!(languages.contains(&("German", 1)) && languages.contains(&("English", 1)), "{languages:?}");
    assert_eq!(languages.iter().map(|l| l.1).sum::<u64>(), 4);
    fs::write(&path, "{}\n[]\n")?;
    let e = summarise(&Pool::open(&spec)?, &options, &mut |_| {}).unwrap_err();
    assert!(e.to_string().contains("no conversation can be used: 1 conversation left out: no `conversations`"), "{e}");
    Ok(())
}

#[test]
fn published_sources_have_kinds() -> Checked {
    let kinds = PublishedKinds::load()?;
    assert_eq!(kinds.kind_of("dvqa_2325k.json").as_deref(), Some("ocr"));
    assert_eq!(kinds.kind_of("my own"), None);
    Ok(())
}

#[test]
fn a_summary_does_not_depend_on_the_threads() -> Checked {
    let dir = tempfile::tempdir()?;
    let text: String = (0..30_000)
        .map(|i| {
            line(
                &format!("s{}", i % 1200),
                "",
                &[("Which number is this one?", &format!("It is {i} {}", "x ".repeat(i % 50)))],
            ) + "\n"
        })
        .collect();
    let path = dir.path().join("a.jsonl");
    fs::write(&path, text)?;
    let pool = Pool::open(&PoolSpec::new(path.display().to_string()))?;
    let options = SummaryOptions { languages: 50, ..SummaryOptions::default() };
    let summary = |threads| -> Result<serde_json::Value> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let threads = threads.map_err(|e| Error::failed(e.to_string()))?;
        Ok(serde_json::to_value(threads.install(|| summarise(&pool, &options, &mut |_| {}))?)?)
    };
    let one = summary(1)?;
    assert_eq!(one, summary(3)?);
    // The source that comes first beyond the limit is counted with the others.
    assert_eq!(one["sources"].as_array().map(Vec::len), Some(1001));
    assert_eq!(one["sources"][0]["name"], "other sources");
    Ok(())
}
