//! Text without images for pretraining the language model: words, facts, and the forms of questions and answers.

use std::sync::LazyLock;

use burgess_base::stream::{Stream, stream};
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::facts::{ATTRIBUTES, Attribute, THINGS, Thing, pictograms, thing};
use crate::flat::Relation;
use crate::questions::{self, AnswerForm, BENCHMARKS, QaPair, Question};
use crate::scene::Scene;
use crate::truth::{self, WordKind};
use crate::{caption, dice, lessons, map, palette};

/// Number of documents in each of the two lessons at the beginning of [`corpus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LessonCounts {
    /// Documents that consist of lettered options and questions without any other words.
    pub options: u64,
    /// Documents that mix lettered options, questions about single words, and the documents of the main part.
    pub words: u64,
}

/// Returns an endless sequence of documents for `seed`: facts, descriptions of images, and conversations in every form
/// that training and benchmarks use, with a description or a fact in the question in place of the image. The sequence
/// begins with two lessons. A model learns that a letter stands for its option only if nothing else has to be learned
/// at the same time. In measurements, a small model stayed at chance for 14 million tokens of long documents, but
/// learned it within two million tokens of lists with bare questions, and then used it everywhere.
pub fn corpus(seed: u64, lessons: LessonCounts) -> impl Iterator<Item = Document> {
    (0u64..).map(move |index| document(index, lessons, &mut stream(&format!("world/corpus/{index}"), seed)))
}

fn document(index: u64, lessons: LessonCounts, s: &mut Stream) -> Document {
    if index < lessons.options {
        return options(s, true);
    }
    if index < lessons.options + lessons.words {
        match dice::below(s, 100) {
            0..=14 => return options(s, true),
            15..=34 => return options(s, false),
            35..=84 => return one_word(s),
            _ => {}
        }
    }
    match dice::below(s, 100) {
        0 => Document::Text(facts(s)),
        1 => {
            let scene = Scene::draw_from(s, false);
            Document::Text(if dice::chance(s, 50) { scene.caption(s) } else { scene.description(s) })
        }
        2..=3 => options(s, false),
        4..=5 => one_word(s),
        6..=8 => fact_chat(s),
        9..=12 => lessons::recall(s),
        13..=18 => lessons::grid(s),
        19..=38 => lessons::places(s),
        39..=43 => lessons::chain(s),
        44..=47 => lessons::table(s),
        // Retelling a description in another order: every word of the answer has to be found in the question.
        48 => retelling(s),
        49..=57 => {
            let scene = Scene::draw_from(s, false);
            let n = dice::within(s, 3, 7) as usize;
            let told = scene.description(s);
            chat(&told, scene.turns(n, s))
        }
        58..=65 => {
            let scene = if dice::chance(s, 60) { Scene::draw_full(s) } else { Scene::draw_from(s, false) };
            Document::Cells(seen(&scene, s), map::unlike(&scene, 2, s))
        }
        66 => {
            let scene = Scene::draw_from(s, false);
            let question = caption::request(s).to_string();
            Document::Cells(seen(&scene, s), vec![QaPair { question, answer: scene.caption(s) }])
        }
        _ => {
            let scene = Scene::draw_from(s, false);
            let n = dice::within(s, 4, 8) as usize;
            let turns = scene.turns(n, s);
            Document::Cells(seen(&scene, s), turns)
        }
    }
}

/// Returns the cells of a scene with simulated perception errors: in half of all scenes some words are missing, and in
/// a third some cells with a thing also have the name of another thing, so that the model has to combine the cells of a
/// thing.
fn seen(scene: &Scene, s: &mut Stream) -> Vec<Vec<String>> {
    let truth = scene.truth();
    let mut cells = truth::words(&truth);
    if dice::chance(s, 33) {
        let mistaken = dice::within(s, 5, 40) as u32;
        for (cell, truth) in cells.iter_mut().zip(&truth) {
            if truth.iter().any(|(kind, _)| *kind == WordKind::Thing) && dice::chance(s, mistaken) {
                cell.push(any(s).name.clone());
            }
        }
    }
    if dice::chance(s, 50) {
        let missing = dice::within(s, 0, 25) as u32;
        for cell in &mut cells {
            // Words are not removed from cells with a single word or a "center" mark, because answers depend on them.
            if cell.len() > 1 && !cell.iter().any(|w| w == "center") {
                cell.retain(|_| !dice::chance(s, missing));
            }
        }
    }
    cells
}

/// Creates a conversation whose first question is preceded by the text `told`.
fn chat(told: &str, mut turns: Vec<QaPair>) -> Document {
    if let Some(first) = turns.first_mut() {
        first.question = format!("{told}\n{}", first.question);
    }
    Document::Chat(turns)
}

/// A question about a description, as returned by [`reading`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingExercise {
    /// Name of the benchmark whose form the question has, or of a closed form ("yes-no", "choice", "pair").
    pub benchmark: &'static str,
    /// Description of everything in the image, in sentences.
    pub description: String,
    /// The same contents as words in cells; `None` for the closed forms.
    pub cells: Option<Vec<Vec<String>>>,
    /// The question, with the line that says how to answer, and the right answer.
    pub turn: QaPair,
}

/// Returns an endless sequence of questions about descriptions of **test** scenes, which [`corpus`] never describes;
/// the benchmarks take turns. They measure what a language model must be able to read before it is given images. The
/// closed forms in between ask about a single word. A model that fails there has not learned the answer format, so its
/// score on images would not measure vision.
pub fn reading(seed: u64) -> impl Iterator<Item = ReadingExercise> {
    (0usize..).map(move |index| {
        let s = &mut stream(&format!("world/reading/{index}"), seed);
        let turn = index % (BENCHMARKS.len() + WORD_FORMS.len());
        let Some(benchmark) = BENCHMARKS.get(turn) else {
            let (name, form) = WORD_FORMS[turn - BENCHMARKS.len()];
            let words = words(s, 4);
            let turn = about_word(&words, form, s).turn(true);
            let description = format!("It is {}.", words[0]);
            return ReadingExercise { benchmark: name, description, cells: None, turn };
        };
        loop {
            let scene = Scene::draw_from(s, true);
            if let Some(question) = (benchmark.ask)(&scene, s) {
                return ReadingExercise {
                    benchmark: benchmark.name,
                    description: scene.description(s),
                    cells: Some(scene.cells()),
                    turn: question.turn(true),
                };
            }
        }
    })
}

fn any(s: &mut Stream) -> &'static Thing {
    thing(dice::below(s, pictograms()) as u16)
}

/// Draws the facts about one or two things, in sentences.
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

/// Draws a description of a training scene with the request to tell it again.
pub(crate) fn retelling(s: &mut Stream) -> Document {
    let scene = Scene::draw_from(s, false);
    let question = format!("{}\n{}", scene.description(s), caption::request(s));
    Document::Chat(vec![QaPair { question, answer: scene.caption(s) }])
}

/// Draws a conversation about a named thing with the questions that its image would get; half of the conversations
/// state the facts first.
pub(crate) fn fact_chat(s: &mut Stream) -> Document {
    loop {
        let t = any(s);
        let mut questions: Vec<Question> = Vec::new();
        for _ in 0..dice::within(s, 2, 6) {
            let open = dice::chance(s, 40);
            if let Some(q) = questions::about(t, open, s)
                && questions.iter().all(|old| old.text != q.text || old.form != q.form)
            {
                questions.push(q);
            }
        }
        if questions.is_empty() {
            continue;
        }
        let mut told = format!("{}.", caption::sentence(&t.with_article("")));
        if dice::chance(s, 50) {
            let mut about: Vec<String> = ATTRIBUTES.iter().filter_map(|a| a.sentence(t)).collect();
            dice::shuffle(s, &mut about);
            told = format!("{told} {}", about.join(" "));
        }
        return chat(&told, questions::explained(&questions));
    }
}

/// Draws a conversation about which letter stands for which option; if `bare`, the questions consist of the option or
/// the letter alone.
pub(crate) fn options(s: &mut Stream, bare: bool) -> Document {
    let words = words(s, 4);
    let letter = |i: usize| char::from(b'A' + i as u8).to_string();
    let list: Vec<String> = words.iter().enumerate().map(|(i, w)| format!("{}. {w}", letter(i))).collect();
    let turns = (0..dice::within(s, 8, 12))
        .map(|_| {
            let i = dice::below(s, words.len());
            let (asked, answer, form) = if dice::chance(s, 60) {
                (words[i].clone(), letter(i), "Which is")
            } else {
                (letter(i), words[i].clone(), "What is")
            };
            QaPair { question: if bare { asked } else { format!("{form} {asked}?") }, answer }
        })
        .collect();
    chat(&list.join("\n"), turns)
}

/// Draws a conversation of one word and questions in the closed forms, whose answers only require finding that word.
fn one_word(s: &mut Stream) -> Document {
    let words = words(s, 6);
    let asked: Vec<Question> = (0..dice::within(s, 3, 6))
        .map(|_| {
            let (_, form) = *dice::pick(s, &WORD_FORMS);
            about_word(&words, form, s)
        })
        .collect();
    chat(&format!("It is {}.", words[0]), questions::explained(&asked))
}

/// Words that questions can ask for: things, colours, values of attributes, numbers, directions.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let things = THINGS.iter().map(|t| t.name.as_str());
    let colours = palette::COLOURS.iter().map(|(name, _)| *name);
    let values = ATTRIBUTES.iter().flat_map(Attribute::values);
    let places = Relation::ALL.iter().map(|r| r.word());
    let mut words: Vec<String> = things.chain(colours).chain(values).chain(places).map(str::to_string).collect();
    words.extend((1..=9).map(|n| n.to_string()));
    // Only single words, because it is learned first that an option begins two tokens after its letter.
    words.retain(|w| !w.contains(' '));
    words.sort_unstable();
    words.dedup();
    words
});

/// Draws `n` different words of all categories. Within a single category a model could answer by word frequency, and
/// would then not learn to look up the answer.
fn words(s: &mut Stream, n: usize) -> Vec<String> {
    dice::sample(s, &WORDS, n)
}

/// The closed forms with their names in [`ReadingExercise::benchmark`].
const WORD_FORMS: [(&str, AnswerForm); 3] =
    [("yes-no", AnswerForm::YesNo), ("choice", AnswerForm::Choice), ("pair", AnswerForm::Pair)];

/// Creates a question about the first of some words, with the others as wrong options.
fn about_word(words: &[String], form: AnswerForm, s: &mut Stream) -> Question {
    let (word, others) = (words[0].as_str(), &words[1..]);
    let wrong = dice::sample(s, others, 3);
    let place = dice::below(s, 12);
    let other = wrong[0].as_str();
    match form {
        AnswerForm::YesNo if place.is_multiple_of(2) => Question::yes_no("word", format!("Is it {word}?"), true),
        AnswerForm::YesNo => Question::yes_no("word", format!("Is it {other}?"), false),
        AnswerForm::Pair => {
            let mut options = [word.to_string(), other.to_string()];
            options.rotate_left(place % 2);
            Question::pair("word", "What is it?", options, place % 2)
        }
        AnswerForm::Choice | AnswerForm::Named | AnswerForm::Short => {
            Question::choice("word", "What is it?", word.to_string(), wrong, place)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_corpus_is_endless_the_same_each_time_and_has_every_form() {
        let texts: Vec<Document> = corpus(1, LessonCounts::default()).take(1500).collect();
        assert_eq!(texts[..200], corpus(1, LessonCounts::default()).take(200).collect::<Vec<_>>());
        assert_ne!(texts[..200], corpus(2, LessonCounts::default()).take(200).collect::<Vec<_>>());
        let chats: Vec<&QaPair> = texts
            .iter()
            .filter_map(|d| if let Document::Chat(t) | Document::Cells(_, t) = d { Some(t) } else { None })
            .flatten()
            .collect();
        for answer in ["Yes", "No", "A", "B", "C", "D", "(a)", "(b)", "red", "7"] {
            assert!(chats.iter().any(|t| t.answer == answer), "{answer}");
        }
        // Every fact occurs in the text.
        for t in (0..pictograms()).map(|t| thing(t as u16)) {
            let any = ATTRIBUTES.iter().filter_map(|a| a.sentence(t)).count();
            assert!(any > 0, "{}", t.name);
        }
        assert!(texts.iter().all(|d| if let Document::Text(t) = d { t.ends_with('.') } else { true }));
    }

    #[test]
    fn reading_asks_in_every_form_about_scenes_the_corpus_does_not_describe() {
        let exercises: Vec<ReadingExercise> = reading(1).take(12 * 20).collect();
        assert_eq!(exercises[..50], reading(1).take(50).collect::<Vec<_>>());
        let told: BTreeSet<String> = corpus(1, LessonCounts::default())
            .take(3000)
            .filter_map(|d| if let Document::Chat(t) = d { t.first().map(|t| t.question.clone()) } else { None })
            .collect();
        let names = BENCHMARKS.iter().map(|b| b.name).chain(WORD_FORMS.iter().map(|(name, _)| *name));
        for (exercise, name) in exercises.iter().zip(names.cycle()) {
            assert_eq!(exercise.benchmark, name);
            assert!(exercise.description.ends_with('.') && !exercise.turn.answer.is_empty(), "{exercise:?}");
            // The number of words is small, so that a text such as "It is saw. Is it saw?" may also occur in the
            // corpus.
            let word = WORD_FORMS.iter().any(|(form, _)| *form == name);
            assert!(
                word || !told.contains(&format!("{}\n{}", exercise.description, exercise.turn.question)),
                "{exercise:?}"
            );
        }
    }
}
