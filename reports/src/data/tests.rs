use super::*;

fn lengths(values: &[(u64, u64)]) -> Option<DataLengths> {
    let bars =
        values.iter().map(|(from, count)| DataBar { from: *from, to: (from * 2).saturating_sub(1), count: *count });
    let count = values.iter().map(|v| v.1).sum();
    Some(DataLengths {
        count,
        total: 9 * count,
        mean: 9.04,
        median: 3.0,
        p95: 1283.0,
        largest: 5000,
        bars: bars.collect(),
        ..DataLengths::default()
    })
}

fn summary() -> DataSummary {
    let group = |name: &str, conversations: u64| DataGroup {
        name: name.into(),
        conversations,
        short_answers: conversations / 2,
        images: conversations,
        question_words: lengths(&[(4, conversations)]),
        answer_words: lengths(&[(1, conversations / 2), (64, conversations / 2)]),
        ..DataGroup::default()
    };
    let skipped = SkippedEntries {
        reason: "no answer".into(),
        source: "vqa".into(),
        count: 7,
        first: vec!["a:1".into(), "a:4".into()],
    };
    DataSummary {
        files: 1,
        stored: 5 << 20,
        all: DataGroup { missing: 3, one_word_answers: 1, ..group("", 1234) },
        sources: vec![group("dvqa_<b>\u{202e}", 1000), group("", 234)],
        turns: vec![(1, 1000), (20, 234)],
        languages: vec![("English".into(), 9), ("not certain".into(), 1)],
        languages_of: 10,
        images_checked: true,
        missing: vec!["coco/1.jpg".into()],
        outside: 1,
        skipped: vec![skipped],
        damaged: vec![("x.json".into(), "it ends".into())],
        ratings: vec![DataRating { name: "visual_dependency".into(), rated: 4, mean: 3.5, counts: [0, 1, 0, 3, 0] }],
        samples: vec![DataSample {
            place: "a.jsonl:3".into(),
            id: "<i>".into(),
            images: vec!["a.png".into(), "b.png".into()],
            turns: vec![("human".into(), "<image>\nWhat?".into()), ("gpt".into(), "word ".repeat(400))],
            ..DataSample::default()
        }],
        ..DataSummary::default()
    }
}

#[test]
fn the_terminal_shows_facts_tables_and_what_is_wrong() {
    insta::assert_snapshot!(data_text(&summary(), 100, false));
    let narrow = data_text(&summary(), 60, false);
    let wide: Vec<_> = narrow.lines().filter(|l| l.chars().count() > 60).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(narrow.contains("Columns that do not fit this width: "), "{narrow}");
}

#[test]
fn the_page_is_self_contained_and_escapes_what_it_quotes() {
    let images = vec![vec![
        DataImage { size: (640, 480), jpeg: Ok(vec![0xff, 0xd8, 0xff]) },
        DataImage { size: (0, 0), jpeg: Err("it does not exist".into()) },
    ]];
    let page = data_page(&summary(), "a<b>.jsonl", "burgess data show 'a.jsonl'", &images).unwrap();
    for wanted in [
        "a&lt;b&gt;.jsonl",
        "data:image/jpeg;base64,/9j/",
        "640 × 480",
        "it does not exist",
        "&lt;image&gt;",
        "&lt;i&gt;",
        "x.json could not be read to its end: it ends.",
        "2 images do not exist, the first: coco",
        "<details>",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for unwanted in ["<script", "http:", "https:", "<b>.jsonl", "\u{202e}", "src=\"/"] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
    let empty = data_page(&DataSummary::default(), "x", "y", &[]).unwrap();
    assert!(empty.contains("no answers"));
}
