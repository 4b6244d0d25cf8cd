//! Questions about composed images, each with an answer that follows from the composition.
//!
//! Choices are listed as words ("What is in the image: frog, lemon, horse or hammer?") and answered with one of them,
//! because small language models cannot map letters to options reliably, which would not measure vision.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};

use crate::composition::Composition;
use crate::kinds;
use crate::names::ObjectName;
use crate::stamps::Stamp;

/// The right answer and the form in which it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedAnswer {
    /// The answer is yes or no.
    YesNo(bool),
    /// The answer is one of several words, `options[right]`.
    Choice {
        /// The words from which the answer is chosen.
        options: Vec<String>,
        /// Index of the right option.
        right: usize,
        /// Whether the question lists the options; not needed for numbers and kinds.
        listed: bool,
    },
    /// The answer is a free word or phrase.
    Open(String),
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldQuestion {
    /// The subject of the question: "count", "relation", …
    pub about: &'static str,
    /// The question's text without options.
    pub text: String,
    /// The right answer.
    pub answer: ExpectedAnswer,
}

impl FieldQuestion {
    /// Returns the whole question as a user asks it. There is no line about the form of the answer: all answers are a
    /// few words, which a model learns quickly, and every token costs time.
    pub fn prompt(&self) -> String {
        match &self.answer {
            ExpectedAnswer::Choice { options, listed: true, .. } => with_options(&self.text, options),
            _ => self.text.clone(),
        }
    }

    /// Returns how much text and answer reveal about the image, from 0. In a conversation the more revealing questions
    /// come later, so that no answer can be derived from an earlier turn.
    pub fn revealed(&self) -> usize {
        const ORDER: [&str; 6] = ["presence", "kind", "count", "relation", "occlusion", "name"];
        ORDER.iter().position(|about| *about == self.about).unwrap_or(ORDER.len())
    }

    /// Returns the answer as a model should give it.
    pub fn reply(&self) -> String {
        match &self.answer {
            ExpectedAnswer::YesNo(true) => "Yes".into(),
            ExpectedAnswer::YesNo(false) => "No".into(),
            ExpectedAnswer::Choice { options, right, .. } => options.get(*right).cloned().unwrap_or_default(),
            ExpectedAnswer::Open(text) => text.clone(),
        }
    }
}

/// Adds the options to a question: "Which is in front: animal or fruit?"
fn with_options(question: &str, options: &[String]) -> String {
    let list = match options {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => options.join(", "),
    };
    format!("{}: {list}?", question.trim_end_matches('?'))
}

/// Creates a question with options, with the right one at index `place` (modulo their number).
pub fn choice(
    about: &'static str,
    text: impl Into<String>,
    right: String,
    wrong: Vec<String>,
    place: usize,
) -> FieldQuestion {
    let mut options = wrong;
    let place = place % (options.len() + 1);
    options.insert(place, right);
    FieldQuestion { about, text: text.into(), answer: ExpectedAnswer::Choice { options, right: place, listed: true } }
}

const REQUESTS: [&str; 6] = [
    "Describe the image concisely.",
    "Give a brief description of the image.",
    "Say in a few words what the picture shows.",
    "What does the picture show? Be brief.",
    "Write a short caption for this image.",
    "Sum up the image in a short sentence.",
];

/// Asks for the stamp's original caption, in one of several wordings.
pub fn caption(s: &mut Stream, words: &str) -> FieldQuestion {
    FieldQuestion {
        about: "caption",
        text: (*dice::pick(s, &REQUESTS)).into(),
        answer: ExpectedAnswer::Open(words.into()),
    }
}

/// Asks for the name of the object, without options.
pub fn naming(name: &ObjectName) -> FieldQuestion {
    FieldQuestion {
        about: "name",
        text: "What is in the picture?".into(),
        answer: ExpectedAnswer::Open(name.words.clone()),
    }
}

/// Asks for the name of the object, with other names as options.
pub fn naming_choice(name: &ObjectName, wrong: Vec<String>, place: usize) -> FieldQuestion {
    choice("name", "What is in the picture?", name.words.clone(), wrong, place)
}

/// Asks for the kind of the object, one of those in `among`, which the question does not list.
pub fn kind(kind: usize, among: &[usize]) -> FieldQuestion {
    let options = among.iter().map(|k| kinds::name(*k).to_string()).collect();
    let right = among.iter().position(|k| *k == kind).unwrap_or(0);
    let answer = ExpectedAnswer::Choice { options, right, listed: false };
    FieldQuestion { about: "kind", text: "What kind of thing is in the picture?".into(), answer }
}

/// Asks whether an object of a kind is present.
pub fn kind_present(kind: usize, yes: bool) -> FieldQuestion {
    let text = format!("Is there {} {} in the picture?", kinds::article(kind), kinds::name(kind));
    FieldQuestion { about: "presence", text, answer: ExpectedAnswer::YesNo(yes) }
}

/// Asks whether an object of this name is present.
pub fn name_present(name: &ObjectName, yes: bool) -> FieldQuestion {
    FieldQuestion { about: "name", text: name.is_there(), answer: ExpectedAnswer::YesNo(yes) }
}

/// Maximum number of objects of one kind or name in an image.
pub const MAX_COUNT: usize = 5;

/// Asks how many objects of a kind or name (given in the plural) there are, 1 to [`MAX_COUNT`].
pub fn count(plural: &str, n: usize) -> FieldQuestion {
    let options = (1..=MAX_COUNT).map(|n| n.to_string()).collect();
    let right = n.clamp(1, MAX_COUNT) - 1;
    let text = format!("How many {plural} are in the picture?");
    FieldQuestion { about: "count", text, answer: ExpectedAnswer::Choice { options, right, listed: false } }
}

/// Asks for the position of `a` relative to `b`; both are names or kinds without article.
pub fn relation(a: &str, b: &str, relation: Relation) -> FieldQuestion {
    let options = Relation::ALL.map(|r| r.word().to_string()).to_vec();
    let right = Relation::ALL.iter().position(|r| *r == relation).unwrap_or(0);
    let text = format!("Where is the {a}, seen from the {b}?");
    FieldQuestion { about: "relation", text, answer: ExpectedAnswer::Choice { options, right, listed: true } }
}

/// Asks what lies in that direction of `b`, for images that contain only these two objects.
pub fn beside(a: &str, b: &str, relation: Relation) -> FieldQuestion {
    let text = format!("What is {} the {b}?", relation.words());
    FieldQuestion { about: "relation", text, answer: ExpectedAnswer::Open(a.to_string()) }
}

/// Asks which of two objects is in front; `place` sets the order in which they are named.
pub fn in_front(front: &str, behind: &str, place: usize) -> FieldQuestion {
    choice("occlusion", "Which is in front?", front.to_string(), vec![behind.to_string()], place)
}

/// Names and kinds of the items of a scene, by their indices.
pub struct ItemNames<'a> {
    scene: &'a Composition,
    stamps: &'a [Stamp],
}

impl<'a> ItemNames<'a> {
    /// Creates the view of a scene.
    pub fn new(scene: &'a Composition, stamps: &'a [Stamp]) -> Self {
        Self { scene, stamps }
    }

    fn stamp(&self, item: usize) -> Option<&'a Stamp> {
        self.stamps.get(self.scene.items.get(item)?.stamp)
    }

    /// Returns the name of the item.
    pub fn name(&self, item: usize) -> Option<&'a ObjectName> {
        self.stamp(item)?.name.as_ref()
    }

    /// Returns the kind of the item, as index into the kinds.
    pub fn kind(&self, item: usize) -> Option<usize> {
        self.stamp(item)?.kind
    }

    /// Returns unambiguous words for two items: their kinds in half of the cases and where they have no names, else
    /// their names.
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
