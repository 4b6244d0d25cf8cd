//! Properties of every published benchmark, tested on a small fixture in its published schema
//! (`tests/golden/benchmarks/<id>/`, made by `tests/reference/benchmarks_*.py`).

use burgess_bench::{self as bench, AnswerScore, Benchmark, Category, Question, Rules, read_images};
use std::path::PathBuf;

const RULES: [Rules; 3] = [Rules::Official, Rules::Cambrian1, Rules::LmmsEval];

/// The sets of rules that a benchmark has, by their names.
fn rules_of(b: &dyn Benchmark) -> impl Iterator<Item = Rules> {
    RULES.into_iter().filter_map(|rules| b.rules(rules).ok())
}

/// Every published benchmark with the questions of its fixture.
fn fixtures() -> Vec<(&'static dyn Benchmark, Vec<Question>)> {
    let published = bench::all().iter().copied().filter(|b| b.card().source.is_some());
    let read = |b: &'static dyn Benchmark| {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/benchmarks").join(b.id());
        let read = b.read(&dir).unwrap_or_else(|e| panic!("{}: {e}\nhint: {:?}", b.id(), e.hint_text()));
        assert!(read.skipped.is_empty(), "{}: {:?}", b.id(), read.skipped);
        (b, read.questions)
    };
    published.map(read).collect()
}

/// The benchmarks whose right answers are published; the others are scored by a server.
fn scored() -> Vec<(&'static dyn Benchmark, Vec<Question>)> {
    fixtures().into_iter().filter(|(b, _)| b.server().is_none()).collect()
}

fn score(
    b: &dyn Benchmark,
    qs: &[Question],
    rules: Rules,
    answer: impl Fn(&Question) -> String,
) -> bench::BenchmarkOutcome {
    let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, &answer(q), rules)).collect();
    b.aggregate(qs, &judged, rules).unwrap_or_else(|e| panic!("{}: {e}", b.id()))
}

#[test]
fn the_sixteen_benchmarks_of_the_paper_have_its_categories() {
    for (category, ids) in [
        (Category::GENERAL, ["mme", "mmbench-en", "seed-bench", "gqa"]),
        (Category::KNOWLEDGE, ["scienceqa", "mmmu", "mathvista", "ai2d"]),
        (Category::OCR_CHART, ["chartqa", "ocrbench", "textvqa", "docvqa"]),
        (Category::VISION_CENTRIC, ["mmvp", "realworldqa", "cv-bench-2d", "cv-bench-3d"]),
    ] {
        for id in ids {
            let found = bench::find(id).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(*found.category(), category, "{id}");
        }
    }
}

#[test]
fn prompts_are_as_published() {
    for (b, qs) in fixtures() {
        let mut page = String::new();
        for rules in rules_of(b) {
            // The first question of each shape: with and without choices, with and without context.
            let mut shapes = std::collections::BTreeSet::new();
            for q in qs.iter().filter(|q| shapes.insert((q.options.is_empty(), q.context.is_none()))) {
                page += &format!("--- {} {}\n{}\n", rules.as_str(), q.id, b.prompt(q, rules));
            }
        }
        insta::assert_snapshot!(format!("prompts-{}", b.id()), page);
    }
}

#[test]
fn perfect_is_100_and_empty_is_0() {
    for (b, qs) in scored() {
        let perfect = score(b, &qs, Rules::Official, |q| q.answer.clone());
        assert!((perfect.score - 100.0).abs() < 1e-9, "{}: {perfect:?}", b.id());
        for rules in rules_of(b) {
            // lmms-eval takes an empty answer to MathVista for the choice with the shortest text, and to MME-RealWorld
            // for the first choice.
            if rules == Rules::LmmsEval && ["mathvista", "mme-realworld", "mme-realworld-lite"].contains(&b.id()) {
                continue;
            }
            // An empty document is similar to a short one.
            if b.id().starts_with("ocrbench-v2") {
                continue;
            }
            let empty = score(b, &qs, rules, |_| String::new());
            assert_eq!((empty.score, empty.n_unparsed), (0.0, qs.len()), "{} {rules:?}", b.id());
            let chance = b.chance(&qs, rules);
            assert!((0.0..100.0).contains(&chance), "{}: chance {chance}", b.id());
        }
    }
}

#[test]
fn order_does_not_matter() {
    for (b, qs) in scored() {
        let mut back = qs.clone();
        back.reverse();
        let said = |q: &Question| if q.row.is_multiple_of(3) { "A".to_string() } else { q.answer.clone() };
        for rules in rules_of(b) {
            assert_eq!(score(b, &qs, rules, said), score(b, &back, rules, said), "{}", b.id());
        }
    }
}

#[test]
fn every_image_opens() {
    for (b, qs) in fixtures() {
        let images: Vec<_> = qs.iter().flat_map(|q| &q.images).collect();
        assert!(images.len() >= qs.len() || b.allows_no_image(), "{}", b.id());
        for (image, bytes) in images.iter().zip(read_images(&images)) {
            let bytes = bytes.unwrap_or_else(|e| panic!("{}: {image}: {e}", b.id()));
            assert!(bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"\xff\xd8"), "{}: {image}", b.id());
        }
    }
}

#[test]
fn a_sample_keeps_groups_whole() {
    for (b, qs) in scored() {
        let units = bench::sample::sample(&qs, 3, b.id());
        let some: Vec<Question> = qs.iter().filter(|q| units.contains(&q.unit)).cloned().collect();
        assert!(!some.is_empty(), "{}", b.id());
        score(b, &some, Rules::Official, |q| q.answer.clone());
    }
}
