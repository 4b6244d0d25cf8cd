//! Text without pictures, for pretraining the language model: it learns the words, the facts and the forms of questions
//! and answers, and has never seen a picture.

use burgess_base::stream::{Stream, stream};

use crate::dice;
use crate::facts::{ATTRIBUTES, Thing, pictograms, thing};
use crate::questions::{BENCHMARKS, Turn};
use crate::scene::{Content, Scene};

/// One piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Sentences.
    Text(String),
    /// A conversation.
    Chat(Vec<Turn>),
}

/// Endless text under `seed`: facts, descriptions of imagined pictures, and conversations in every form that training
/// and benchmarks use, with a description or a fact in the question where a picture would have been.
pub fn corpus(seed: u64) -> impl Iterator<Item = Document> {
    (0u64..).map(move |index| document(&mut stream(&format!("world/corpus/{index}"), seed)))
}

fn document(s: &mut Stream) -> Document {
    match dice::below(s, 100) {
        0..=7 => Document::Text(facts(s)),
        8..=12 => {
            let scene = imagined(s, false);
            Document::Text(if dice::chance(s, 50) { scene.caption(s) } else { scene.description(s) })
        }
        13..=22 => fact_chat(s),
        // To tell again, in another order, what was told: every word of the answer has to be found in the question.
        23..=42 => {
            let (scene, told) = told(s, false);
            let question = format!("{told}\n{}", crate::dataset::caption_request(s));
            let answer = if dice::chance(s, 50) { scene.caption(s) } else { scene.description(s) };
            Document::Chat(vec![Turn { question, answer }])
        }
        _ => loop {
            let (scene, told) = told(s, false);
            let n = dice::within(s, 2, 6) as usize;
            let mut turns = scene.turns(n, s);
            if let Some(first) = turns.first_mut() {
                first.question = format!("{told}\n{}", first.question);
                return Document::Chat(turns);
            }
        },
    }
}

/// A question about a description, for [`reading`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercise {
    /// The benchmark whose form the question has.
    pub benchmark: &'static str,
    /// Everything that is to be seen, in sentences.
    pub description: String,
    /// The same as a map, where there is one.
    pub map: Option<String>,
    /// The question, with the line that says how to answer, and the right answer.
    pub turn: Turn,
}

/// Endless questions about descriptions of **test** scenes, which [`corpus`] never describes, the benchmarks in turn:
/// what a language model must be able to read before it can be shown pictures.
pub fn reading(seed: u64) -> impl Iterator<Item = Exercise> {
    (0usize..).map(move |index| {
        let s = &mut stream(&format!("world/reading/{index}"), seed);
        let benchmark = &BENCHMARKS[index % BENCHMARKS.len()];
        loop {
            let scene = imagined(s, true);
            if let Some(question) = (benchmark.ask)(&scene, s) {
                return Exercise {
                    benchmark: benchmark.name,
                    description: scene.description(s),
                    map: crate::map::map(&scene, s),
                    turn: question.turn(true),
                };
            }
        }
    })
}

/// A scene to be told in words. Of solids there are three at most: with four, the relations alone would fill a page.
fn imagined(s: &mut Stream, test: bool) -> Scene {
    loop {
        let scene = Scene::draw_from(s, test);
        if !matches!(&scene.content, Content::Solids(c) if c.solids.len() > 3) {
            return scene;
        }
    }
}

/// A scene with what stands for its picture in text: half of them a map, half a description.
fn told(s: &mut Stream, test: bool) -> (Scene, String) {
    loop {
        let map = dice::chance(s, 50);
        let scene = imagined(s, test);
        match map.then(|| crate::map::map(&scene, s)) {
            None => {
                let text = scene.description(s);
                return (scene, text);
            }
            Some(Some(text)) => return (scene, text),
            // A kind of picture that has none: another is drawn.
            Some(None) => {}
        }
    }
}

fn any(s: &mut Stream) -> &'static Thing {
    thing(dice::below(s, pictograms()) as u16)
}

/// What is true of a thing or two.
fn facts(s: &mut Stream) -> String {
    let mut sentences = Vec::new();
    for _ in 0..dice::within(s, 1, 2) {
        let t = any(s);
        let mut about: Vec<String> = ATTRIBUTES.iter().filter_map(|a| a.sentence(t)).collect();
        dice::shuffle(s, &mut about);
        sentences.extend(about);
    }
    sentences.join(" ")
}

/// Questions about a thing that is named, as they would be asked of its picture.
fn fact_chat(s: &mut Stream) -> Document {
    loop {
        let t = any(s);
        let mut asked: Vec<&'static str> = Vec::new();
        let mut turns: Vec<Turn> = Vec::new();
        for _ in 0..dice::within(s, 1, 4) {
            if let Some(q) = crate::questions::about(t, s).filter(|q| !asked.contains(&q.subtask)) {
                asked.push(q.subtask);
                turns.push(q.turn(turns.is_empty()));
            }
        }
        if let Some(first) = turns.first_mut() {
            let named = crate::caption::sentence(&t.with_article(""));
            first.question = format!("{named}.\n{}", first.question);
            return Document::Chat(turns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_corpus_is_endless_the_same_each_time_and_has_every_form() {
        let texts: Vec<Document> = corpus(1).take(1500).collect();
        assert_eq!(texts[..200], corpus(1).take(200).collect::<Vec<_>>());
        assert_ne!(texts[..200], corpus(2).take(200).collect::<Vec<_>>());
        let chats: Vec<&Turn> =
            texts.iter().filter_map(|d| if let Document::Chat(t) = d { Some(t) } else { None }).flatten().collect();
        for answer in ["Yes", "No", "A", "B", "C", "D", "(a)", "(b)", "red", "7"] {
            assert!(chats.iter().any(|t| t.answer == answer), "{answer}");
        }
        // Each fact is stated somewhere.
        for t in (0..pictograms()).map(|t| thing(t as u16)) {
            let any = ATTRIBUTES.iter().filter_map(|a| a.sentence(t)).count();
            assert!(any > 0, "{}", t.name);
        }
        assert!(texts.iter().all(|d| if let Document::Text(t) = d { t.ends_with('.') } else { true }));
    }

    #[test]
    fn reading_asks_in_every_form_about_scenes_the_corpus_does_not_describe() {
        let exercises: Vec<Exercise> = reading(1).take(9 * 20).collect();
        assert_eq!(exercises[..50], reading(1).take(50).collect::<Vec<_>>());
        let told: BTreeSet<String> = corpus(1)
            .take(3000)
            .filter_map(|d| if let Document::Chat(t) = d { t.first().map(|t| t.question.clone()) } else { None })
            .collect();
        for (exercise, benchmark) in exercises.iter().zip(BENCHMARKS.iter().cycle()) {
            assert_eq!(exercise.benchmark, benchmark.name);
            assert!(exercise.description.ends_with('.') && !exercise.turn.answer.is_empty(), "{exercise:?}");
            assert!(!told.contains(&format!("{}\n{}", exercise.description, exercise.turn.question)), "{exercise:?}");
        }
    }
}
