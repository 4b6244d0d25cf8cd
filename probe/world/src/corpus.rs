//! Text without pictures, for pretraining the language model: it learns the words, the facts and the forms of questions
//! and answers, and has never seen a picture.

use burgess_base::stream::{Stream, stream};

use crate::dice;
use crate::facts::{ATTRIBUTES, Thing, pictograms, thing};
use crate::questions::Turn;
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
        0..=14 => Document::Text(facts(s)),
        15..=34 => {
            let scene = imagined(s);
            Document::Text(if dice::chance(s, 50) { scene.caption(s) } else { scene.description(s) })
        }
        35..=49 => fact_chat(s),
        50..=57 => {
            let scene = imagined(s);
            let question = format!("{}\n{}", scene.description(s), crate::dataset::caption_request(s));
            let answer = scene.caption(s);
            Document::Chat(vec![Turn { question, answer }])
        }
        _ => loop {
            let scene = imagined(s);
            let n = dice::within(s, 1, 4) as usize;
            let mut turns = scene.turns(n, s);
            if let Some(first) = turns.first_mut() {
                first.question = format!("{}\n{}", scene.description(s), first.question);
                return Document::Chat(turns);
            }
        },
    }
}

/// A scene to be told in words. Of solids there are three at most: with four, the relations alone would fill a page.
fn imagined(s: &mut Stream) -> Scene {
    loop {
        let scene = Scene::draw_from(s, false);
        if !matches!(&scene.content, Content::Solids(c) if c.solids.len() > 3) {
            return scene;
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

/// A question about a thing that is named, as it would be asked of its picture.
fn fact_chat(s: &mut Stream) -> Document {
    loop {
        let t = any(s);
        if let Some(q) = crate::questions::about(t, s) {
            let mut turn = q.turn(true);
            let named = crate::caption::sentence(&t.with_article(""));
            turn.question = format!("{named}.\n{}", turn.question);
            return Document::Chat(vec![turn]);
        }
    }
}

#[cfg(test)]
mod tests {
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
}
