use std::collections::{BTreeMap, BTreeSet};

use burgess_base::stream::stream;

use super::{AnswerForm, BENCHMARKS, BenchmarkUnit, NanoBenchmark, Question, checker};
use crate::scene::{Content, Scene, SceneSplit};

/// Number of units per benchmark: a multiple of the length of every cycle of subtasks.
const UNITS: usize = 238;

fn units(b: &NanoBenchmark, seed: u64) -> Vec<BenchmarkUnit> {
    (0..UNITS).map(|i| (b.unit)(&mut stream(&format!("test/{}/{i}", b.name), seed), i)).collect()
}

fn right_option(q: &Question) -> Option<&str> {
    q.options
        .iter()
        .zip(["A", "B", "C", "D"].iter().zip(["(a)", "(b)", "(c)", "(d)"]))
        .find(|(_, (l, p))| q.answer == **l || q.answer == *p)
        .map(|(o, _)| o.as_str())
}

fn check(scene: &Scene, q: &Question) {
    if let Content::Solids(c) = &scene.content
        && q.form == AnswerForm::Named
    {
        assert_eq!(checker::closer(c, &q.text, &q.options).as_deref(), right_option(q), "{q:?} {scene:?}");
        return;
    }
    if let Err(e) = checker::check(scene, q) {
        panic!("{e}");
    }
}

#[test]
fn every_benchmark_answer_agrees_with_an_independent_reading() {
    for b in &BENCHMARKS {
        for unit in units(b, 5) {
            for (scene, questions) in &unit.images {
                assert!(scene.is_test());
                questions.iter().for_each(|q| check(scene, q));
            }
        }
    }
}

#[test]
fn every_training_answer_agrees_with_an_independent_reading() {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for i in 0..1000 {
        let scene = Scene::draw(SceneSplit::Tune, 11, i);
        let mut s = stream("test/ask", i);
        for b in &BENCHMARKS {
            for _ in 0..3 {
                if let Some(q) = (b.ask)(&scene, &mut s) {
                    check(&scene, &q);
                    *asked.entry(b.name).or_default() += 1;
                }
            }
        }
        assert!(!scene.turns(4, &mut s).is_empty(), "{scene:?}");
    }
    assert_eq!(asked.len(), BENCHMARKS.len(), "{asked:?}");
    assert!(asked.values().all(|n| *n > 100), "{asked:?}");
}

#[test]
fn no_constant_answer_beats_chance() {
    for b in &BENCHMARKS {
        let mut letters: BTreeMap<(&str, usize), BTreeMap<String, usize>> = BTreeMap::new();
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        for unit in units(b, 6) {
            let answers: Vec<&Question> = unit.images.iter().flat_map(|(_, q)| q).collect();
            match answers.as_slice() {
                [one] if matches!(one.form, AnswerForm::Choice | AnswerForm::Named) => {
                    *letters
                        .entry((one.subtask, one.options.len()))
                        .or_default()
                        .entry(one.answer.clone())
                        .or_default() += 1;
                }
                [one] => *open.entry(one.answer.to_lowercase()).or_default() += 1,
                // In a pair each answer occurs once.
                [x, y] => {
                    assert_ne!(x.answer, y.answer);
                    assert!(x.form == AnswerForm::YesNo || (x.text == y.text && x.options == y.options));
                }
                _ => panic!("{} questions", answers.len()),
            }
        }
        // Letters take turns within each subtask. Questions about facts have two to four options, so there the turns
        // are balanced across numbers of options only.
        let slack = if b.name == "nano-scienceqa" { 5 } else { 1 };
        for ((subtask, k), counts) in &letters {
            let (low, high) =
                (counts.values().min().copied().unwrap_or(0), counts.values().max().copied().unwrap_or(0));
            assert!(counts.len() == *k || high <= 2, "{} {subtask} {counts:?}", b.name);
            assert!(high - low <= slack, "{} {subtask} {k} {counts:?}", b.name);
        }
        // Limits for the most frequent open answer. gqa has a quarter of its questions about eight colours; chartqa has
        // values.
        let most = open.values().max().copied().unwrap_or(0) as f64 / UNITS as f64;
        let allowed = match b.name {
            "nano-gqa" => 0.06,
            "nano-chartqa" => 0.10,
            // A quarter of the answers are digits of a table.
            "nano-docvqa" => 0.055,
            _ => 0.04,
        };
        assert!(most <= allowed, "{} {most} {open:?}", b.name);
    }
}

/// Answers questions by the option that was right most often in another set; this must not beat chance.
#[test]
fn options_do_not_give_the_answer_away() {
    for b in &BENCHMARKS {
        let mut wins: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
        let list = |seed: u64| -> Vec<Question> {
            units(b, seed)
                .into_iter()
                .flat_map(|u| u.images)
                .flat_map(|(_, q)| q)
                .filter(|q| !q.options.is_empty())
                .collect()
        };
        for seed in [21, 22] {
            for q in list(seed) {
                for option in &q.options {
                    let entry = wins.entry((q.subtask.to_string(), option.clone())).or_default();
                    entry.0 += f64::from(u8::from(right_option(&q) == Some(option)));
                    entry.1 += 1.0;
                }
            }
        }
        let (mut hits, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for q in list(24) {
            let rate =
                |o: &String| wins.get(&(q.subtask.to_string(), o.clone())).map_or(0.5, |(w, n)| (w + 1.0) / (n + 3.0));
            let guess = q.options.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
            hits += f64::from(u8::from(guess.map(String::as_str) == right_option(&q)));
            let p = 1.0 / q.options.len() as f64;
            expected += p;
            variance += p * (1.0 - p);
        }
        assert!(
            hits <= expected + 3.0 * f64::sqrt(variance),
            "{}: {hits} right by the options alone, {expected} by chance",
            b.name
        );
    }
}

#[test]
fn training_answers_are_balanced() {
    let mut yes = [0usize; 2];
    let mut places: BTreeMap<usize, BTreeMap<String, usize>> = BTreeMap::new();
    for i in 0..1800 {
        let scene = Scene::draw(SceneSplit::Tune, 3, i);
        let mut s = stream("test/balance", i);
        for b in &BENCHMARKS {
            match (b.ask)(&scene, &mut s) {
                Some(q) if q.form == AnswerForm::YesNo => yes[usize::from(q.answer == "Yes")] += 1,
                Some(q) if q.form != AnswerForm::Short => {
                    *places.entry(q.options.len()).or_default().entry(q.answer).or_default() += 1
                }
                _ => {}
            }
        }
    }
    assert!(yes[0].abs_diff(yes[1]) < (yes[0] + yes[1]) / 12, "{yes:?}");
    for (k, counts) in places {
        // Pairs and choices of two options are counted together: four answers.
        let (low, high) = (counts.values().min().copied().unwrap_or(0), counts.values().max().copied().unwrap_or(0));
        // There are only few questions with three options, so their limit is wider.
        let most = if k == 3 { 2.0 } else { 1.6 };
        assert!(k == 2 || (counts.len() == k && high as f64 <= low as f64 * most), "{k} {counts:?}");
        if k == 2 {
            assert!(
                counts["A"].abs_diff(counts["B"]) < counts["A"] / 4
                    && counts["(a)"].abs_diff(counts["(b)"]) < counts["(a)"] / 4,
                "{counts:?}"
            );
        }
    }
}

#[test]
fn questions_are_short_and_simple() {
    let mut words: BTreeSet<String> = BTreeSet::new();
    for i in 0..1800 {
        let scene = Scene::draw(SceneSplit::Tune, 9, i);
        let mut s = stream("test/words", i);
        let mut texts = vec![scene.description(&mut s)];
        for b in &BENCHMARKS {
            if let Some(q) = (b.ask)(&scene, &mut s) {
                assert!(q.text.split(' ').count() <= 10, "{}", q.text);
                texts.push(q.text);
                texts.extend(q.options);
            }
        }
        if !matches!(scene.content, Content::Writing(_)) {
            let text = texts.join(" ");
            words.extend(text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase));
        }
    }
    assert!(words.len() < 550, "{} words", words.len());
}

#[test]
fn the_format_line_comes_once_for_each_form() {
    for i in 0..300 {
        let scene = Scene::draw(SceneSplit::Tune, 2, i);
        let turns = scene.turns(8, &mut stream("test/turns", i));
        for line in ["Please answer yes or no.", "single word or phrase."] {
            assert!(turns.iter().filter(|t| t.question.contains(line)).count() <= 1);
        }
        let letters = turns
            .iter()
            .filter(|t| t.question.ends_with("\nAnswer with the option's letter from the given choices directly."))
            .count();
        assert!(letters <= 2, "once for A, B, … and once for (a), (b)");
        assert!(turns.iter().all(|t| !t.answer.is_empty()));
    }
}
