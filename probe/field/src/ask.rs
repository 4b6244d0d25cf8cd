//! Questions about composed pictures, each with an answer that follows from how the picture was made.
//!
//! A choice is asked in words ("What is in the picture: frog, lemon, horse or hammer?") and answered with one of them: which
//! letter stands for which option is a skill that small language models do not have, and it says nothing about seeing.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};

use crate::kinds;
use crate::names::Name;
use crate::scene::Scene;
use crate::stamps::Stamp;

/// How an answer is to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes or no.
    YesNo(bool),
    /// One of some words, `options[right]`.
    Choice {
        /// The words.
        options: Vec<String>,
        /// Which is right.
        right: usize,
        /// Whether the question lists them; numbers and kinds it need not.
        listed: bool,
    },
    /// A word or phrase.
    Open(String),
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it asks about: "count", "relation" …
    pub about: &'static str,
    /// Without options.
    pub text: String,
    /// The right answer.
    pub answer: Answer,
}

impl Question {
    /// The whole question as a user asks it. No line says how to answer: every answer is a word or a few, which is soon learned,
    /// and each position costs time.
    pub fn prompt(&self) -> String {
        match &self.answer {
            Answer::Choice { options, listed: true, .. } => with_options(&self.text, options),
            _ => self.text.clone(),
        }
    }

    /// How much its text and answer tell of the picture: in a conversation what tells more is asked later, so that no answer
    /// can be read off an earlier turn.
    pub fn tells(&self) -> usize {
        const ORDER: [&str; 6] = ["presence", "kind", "count", "relation", "occlusion", "name"];
        ORDER.iter().position(|about| *about == self.about).unwrap_or(ORDER.len())
    }

    /// The answer as a model should give it.
    pub fn reply(&self) -> String {
        match &self.answer {
            Answer::YesNo(true) => "Yes".into(),
            Answer::YesNo(false) => "No".into(),
            Answer::Choice { options, right, .. } => options.get(*right).cloned().unwrap_or_default(),
            Answer::Open(text) => text.clone(),
        }
    }
}

/// "Which is in front?" with its options: "Which is in front: animal or fruit?"
fn with_options(question: &str, options: &[String]) -> String {
    let list = match options {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => options.join(", "),
    };
    format!("{}: {list}?", question.trim_end_matches('?'))
}

/// A choice with the right option at a given place.
pub fn choice(
    about: &'static str,
    text: impl Into<String>,
    right: String,
    wrong: Vec<String>,
    place: usize,
) -> Question {
    let mut options = wrong;
    let place = place % (options.len() + 1);
    options.insert(place, right);
    Question { about, text: text.into(), answer: Answer::Choice { options, right: place, listed: true } }
}

const REQUESTS: [&str; 6] = [
    "Describe the image concisely.",
    "Give a brief description of the image.",
    "Say in a few words what the picture shows.",
    "What does the picture show? Be brief.",
    "Write a short caption for this image.",
    "Sum up the image in a short sentence.",
];

/// What the makers of a stamp wrote about it, asked for in one way or another.
pub fn caption(s: &mut Stream, words: &str) -> Question {
    Question { about: "caption", text: (*dice::pick(s, &REQUESTS)).into(), answer: Answer::Open(words.into()) }
}

/// What the picture shows, in words.
pub fn naming(name: &Name) -> Question {
    Question { about: "name", text: "What is in the picture?".into(), answer: Answer::Open(name.words.clone()) }
}

/// What the picture shows, among other names.
pub fn naming_choice(name: &Name, wrong: Vec<String>, place: usize) -> Question {
    choice("name", "What is in the picture?", name.words.clone(), wrong, place)
}

/// Of which kind the thing is, one of those in `among`, which the question does not list.
pub fn kind(kind: usize, among: &[usize]) -> Question {
    let options = among.iter().map(|k| kinds::name(*k).to_string()).collect();
    let right = among.iter().position(|k| *k == kind).unwrap_or(0);
    let answer = Answer::Choice { options, right, listed: false };
    Question { about: "kind", text: "What kind of thing is in the picture?".into(), answer }
}

/// Whether something of a kind is there.
pub fn kind_present(kind: usize, yes: bool) -> Question {
    let text = format!("Is there {} {} in the picture?", kinds::article(kind), kinds::name(kind));
    Question { about: "presence", text, answer: Answer::YesNo(yes) }
}

/// Whether a thing of this name is there.
pub fn name_present(name: &Name, yes: bool) -> Question {
    Question { about: "name", text: name.is_there(), answer: Answer::YesNo(yes) }
}

/// Most of one kind or name that a picture shows.
pub const MOST: usize = 5;

/// How many of a kind or name (in the plural) there are, 1 to [`MOST`].
pub fn count(plural: &str, n: usize) -> Question {
    let options = (1..=MOST).map(|n| n.to_string()).collect();
    let right = n.clamp(1, MOST) - 1;
    let text = format!("How many {plural} are in the picture?");
    Question { about: "count", text, answer: Answer::Choice { options, right, listed: false } }
}

/// Where `a` is, seen from `b`; both are names or kinds without article.
pub fn relation(a: &str, b: &str, relation: Relation) -> Question {
    let options = Relation::ALL.map(|r| r.word().to_string()).to_vec();
    let right = Relation::ALL.iter().position(|r| *r == relation).unwrap_or(0);
    let text = format!("Where is the {a}, seen from the {b}?");
    Question { about: "relation", text, answer: Answer::Choice { options, right, listed: true } }
}

/// What lies in that direction of `b`, if the picture holds just these two.
pub fn beside(a: &str, b: &str, relation: Relation) -> Question {
    let text = format!("What is {} the {b}?", relation.words());
    Question { about: "relation", text, answer: Answer::Open(a.to_string()) }
}

/// Which of two lies in front, named in this order or the other.
pub fn in_front(front: &str, behind: &str, place: usize) -> Question {
    choice("occlusion", "Which is in front?", front.to_string(), vec![behind.to_string()], place)
}

/// What the items of a scene are called, by their numbers.
pub struct Called<'a> {
    scene: &'a Scene,
    stamps: &'a [Stamp],
}

impl<'a> Called<'a> {
    /// Things of a scene.
    pub fn new(scene: &'a Scene, stamps: &'a [Stamp]) -> Self {
        Self { scene, stamps }
    }

    fn stamp(&self, item: usize) -> Option<&'a Stamp> {
        self.stamps.get(self.scene.items.get(item)?.stamp)
    }

    /// The item's name.
    pub fn name(&self, item: usize) -> Option<&'a Name> {
        self.stamp(item)?.name.as_ref()
    }

    /// The item's kind.
    pub fn kind(&self, item: usize) -> Option<usize> {
        self.stamp(item)?.kind
    }

    /// Name or kind of two items, so that each means one of them: kinds in half of the cases, and where names would not do.
    pub fn two(&self, s: &mut Stream, a: usize, b: usize) -> Option<[String; 2]> {
        let kinds = self.kind(a).zip(self.kind(b)).filter(|(a, b)| kinds::may_meet(*a, *b));
        let names = self.name(a).zip(self.name(b));
        match (kinds, names) {
            (Some((a, b)), _) if dice::chance(s, 50) => Some([a, b].map(|k| kinds::name(k).to_string())),
            (_, Some((a, b))) => Some([a.words.clone(), b.words.clone()]),
            _ => None,
        }
    }
}
