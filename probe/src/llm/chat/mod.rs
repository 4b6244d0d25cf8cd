//! How a conversation becomes one sequence of tokens, and which of them are learned.
//!
//! Three kinds of templates: strings around the turns ([`Strings`], the nano study), the paper's own formats with its
//! rules for what is learned ([`Study`]), and the Jinja template that a model ships ([`Jinja`]).
//!
//! A system message is the template's own unless the conversation begins with one (a `system` turn), which then takes
//! its place; templates without one refuse it.
//!
//! The picture is one id among the text's, of which [`Encoded::image_at`] knows the place. Real vocabularies have no
//! entry for it: there it is [`PICTURE`], which no vocabulary can have. The text before and after it is tokenised by
//! itself.

pub mod jinja;
mod limits;
mod python;
mod spans;
pub mod strings;
pub mod study;

pub use jinja::Jinja;
pub use strings::Strings;
pub use study::Study;

use super::tokenizer::{IMAGE, Tokenizer};
use super::weights::Weights;
use burgess_base::{Error, Result, atomic};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Stands for the picture in [`Encoded::ids`] where the tokenizer has no token for it.
pub const PICTURE: u32 = i32::MAX as u32;

/// How conversations are written for a language model; part of a saved model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ChatTemplate {
    /// Strings around the turns.
    Strings(Strings),
    /// One of the paper's.
    Study(Study),
    /// The model's own.
    Jinja(Box<Jinja>),
}

// By hand, so that an error names the field and not only that no kind of template fits.
impl<'de> Deserialize<'de> for ChatTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let has = |key: &str| value.get(key).is_some();
        if has("named") {
            serde_json::from_value(value).map(Self::Study)
        } else if has("jinja") {
            serde_json::from_value(value).map(|j| Self::Jinja(Box::new(j)))
        } else {
            serde_json::from_value(value).map(Self::Strings)
        }
        .map_err(serde::de::Error::custom)
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Says what the assistant is to be; only before everything else.
    System,
    /// Asks.
    #[serde(alias = "human")]
    User,
    /// Answers.
    #[serde(alias = "gpt")]
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said; may contain `<image>` once in the whole conversation.
    pub text: String,
}

impl Turn {
    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self { role: Role::System, text: text.into() }
    }

    /// A question.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, text: text.into() }
    }

    /// An answer.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, text: text.into() }
    }
}

/// A conversation as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, the picture's included (once).
    pub ids: Vec<u32>,
    /// Which ids are learned: the answers and what ends them.
    pub learned: Vec<bool>,
    /// Index in `ids` of the picture.
    pub image_at: Option<usize>,
    /// Why nothing of it is learned although it has answers; to be counted by whoever reads the data.
    pub problem: Option<Problem>,
}

/// Why the answers of a conversation could not be marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The paper's code adds up the lengths of the rounds; it learns nothing of a conversation in which the sum is not the
    /// real length.
    Mismatch {
        /// The sum.
        rebuilt: usize,
        /// The number of ids that are no filler.
        real: usize,
    },
    /// What the template writes before answer `turn` depends on what comes after it.
    Moved {
        /// Number of the turn, from 0.
        turn: usize,
    },
    /// The text of answer `turn`, followed by a special token, is not in what the template writes.
    Changed {
        /// Number of the turn, from 0.
        turn: usize,
    },
}

impl Problem {
    /// The kind of problem, to count by.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Mismatch { .. } => "lengths of the rounds do not add up",
            Self::Moved { .. } => "chat template rewrites earlier turns",
            Self::Changed { .. } => "chat template changes an answer",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { rebuilt, real } => write!(f, "{}: {rebuilt} instead of {real}", self.what()),
            Self::Moved { turn } | Self::Changed { turn } => write!(f, "{}: turn {turn}", self.what()),
        }
    }
}

impl ChatTemplate {
    /// The nano study's template, kept short: `<|user|><image>\nquestion<|assistant|>answer<|eos|>`.
    pub fn nano() -> Self {
        Self::Strings(Strings::nano())
    }

    /// One of the paper's: `vicuna_v1`, `llama_3`, `chatml_direct`, `phi3`.
    ///
    /// # Errors
    /// There is none with this name: the known ones are listed.
    pub fn named(name: &str) -> Result<Self> {
        Study::named(name).map(Self::Study)
    }

    /// The Jinja template that came with a tokenizer.
    ///
    /// # Errors
    /// When there came none, or it is no Jinja.
    pub fn from_model(tokenizer: &Tokenizer) -> Result<Self> {
        Jinja::from_model(tokenizer).map(|j| Self::Jinja(Box::new(j)))
    }

    /// The template of a language model: its `chat.json`, which is ours, or else the Jinja template that it ships.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_model`]; also when its `chat.json` is damaged.
    pub fn of_model(weights: &Weights, tokenizer: &Tokenizer) -> Result<Self> {
        match weights.directory().map(|dir| dir.join("chat.json")) {
            Some(own) if own.is_file() => atomic::read_json(&own),
            _ => Self::from_model(tokenizer).map_err(|e| e.context(format!("{}", weights.path().display()))),
        }
    }

    /// Where it does not do what it says, for people.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Strings(_) | Self::Study(_) => Vec::new(),
            Self::Jinja(jinja) => jinja.notes(),
        }
    }

    /// With another system message than the template's own, unless a conversation has one; an empty one is the shortest.
    ///
    /// # Errors
    /// When the template has no place for one.
    pub fn with_system(self, system: &str) -> Result<Self> {
        match self {
            Self::Strings(_) => Err(Error::usage("this chat template has no place for a system message")
                .hint("leave `system` out of the evaluator")),
            Self::Study(s) => Ok(Self::Study(s.with_system(system))),
            Self::Jinja(j) => Ok(Self::Jinja(Box::new(j.with_system(system)))),
        }
    }

    /// A whole conversation with its labels. The picture stands at the front of the first question, followed by a line
    /// break (of the turn in which it is written, for templates other than [`Strings`]), as in LLaVA's `<image>\n…`;
    /// `with_image` puts one there if none is written.
    ///
    /// # Errors
    /// When the picture is named in two places, turns are in an order that the template does not know, the tokenizer
    /// lacks a token of the template, or the template raises an error.
    pub fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<Encoded> {
        match self {
            Self::Strings(s) => s.build(tokenizer, turns, with_image, false),
            Self::Study(s) => s.encode(tokenizer, &placed(turns, with_image)?),
            Self::Jinja(j) => j.encode(tokenizer, &placed(turns, with_image)?),
        }
    }

    /// A conversation that waits for its next answer: ends with what stands before one.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<Encoded> {
        match self {
            Self::Strings(s) => s.build(tokenizer, turns, with_image, true),
            Self::Study(s) => s.open(tokenizer, &placed(turns, with_image)?),
            Self::Jinja(j) => j.open(tokenizer, &placed(turns, with_image)?),
        }
    }

    /// A question ready to be answered.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn prompt(&self, tokenizer: &Tokenizer, question: &str, with_image: bool) -> Result<Vec<u32>> {
        Ok(self.open(tokenizer, &[Turn::user(question)], with_image)?.ids)
    }

    /// The id that stands for the picture.
    ///
    /// # Errors
    /// When the tokenizer lacks the template's token for it.
    pub fn image_id(&self, tokenizer: &Tokenizer) -> Result<u32> {
        match self {
            Self::Strings(s) => tokenizer.id(&s.image),
            Self::Study(_) | Self::Jinja(_) => Ok(PICTURE),
        }
    }

    /// The ids after which generation stops: what ends an answer in this template, and what the model's files name.
    ///
    /// # Errors
    /// When the end of an answer is no single token of the tokenizer.
    pub fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match self {
            Self::Strings(s) => s.stop(tokenizer),
            Self::Study(s) => s.stop(tokenizer),
            Self::Jinja(j) => j.stop(tokenizer),
        }
    }
}

/// The turns with the picture in front of the one in which it is written, followed by a line break, and nowhere else.
fn placed(turns: &[Turn], with_image: bool) -> Result<Vec<Turn>> {
    if let Some(at) = turns.iter().skip(1).position(|t| t.role == Role::System) {
        return Err(Error::failed(format!("turn {}: a system message after the beginning", at + 1))
            .hint("only the first turn may be a system message"));
    }
    let mut written = turns.iter().enumerate().filter(|(_, t)| t.text.contains(IMAGE)).map(|(i, _)| i);
    let place = match (written.next(), written.count()) {
        (None, _) if !with_image => None,
        (None, _) => Some(turns.iter().position(|t| t.role == Role::User).ok_or_else(|| {
            Error::failed("the conversation has a picture, but no question").hint("every conversation needs a question")
        })?),
        (Some(first), 0) => Some(first),
        (Some(_), more) => {
            return Err(Error::failed(format!("the conversation names the picture in {} turns", more + 1))
                .hint(format!("one picture per conversation: keep a single {IMAGE}")));
        }
    };
    let mut turns = turns.to_vec();
    if let Some(turn) = place.and_then(|i| turns.get_mut(i)) {
        let text = turn.text.replace(IMAGE, "");
        turn.text = python::strip(&format!("{IMAGE}\n{}", python::strip(&text))).to_string();
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::tokenizer::{EOS, SPECIALS};

    fn tokenizer() -> Result<Tokenizer> {
        Tokenizer::train(["How many? three", "Which one? the red one"].iter(), 270, &SPECIALS)
    }

    #[test]
    fn only_answers_and_their_ends_are_learned() -> Result<()> {
        let t = tokenizer()?;
        let turns = [
            Turn::user("<image>\nHow many?"),
            Turn::assistant("three"),
            Turn::user("Which one?"),
            Turn::assistant("the red one"),
        ];
        let e = ChatTemplate::nano().encode(&t, &turns, true)?;
        assert_eq!(e.image_at, Some(1));
        assert_eq!(e.ids.len(), e.learned.len());
        let learned: Vec<u32> = e.ids.iter().zip(&e.learned).filter(|(_, l)| **l).map(|(i, _)| *i).collect();
        let ends = learned.iter().filter(|i| **i == t.id(EOS).unwrap_or(99)).count();
        assert_eq!(ends, 2);
        assert_eq!(t.decode(&learned)?.trim(), "three the red one");
        Ok(())
    }

    #[test]
    fn a_prompt_is_the_beginning_of_the_conversation() -> Result<()> {
        let t = tokenizer()?;
        let c = ChatTemplate::nano();
        let prompt = c.prompt(&t, "How many?", true)?;
        let whole = c.encode(&t, &[Turn::user("How many?"), Turn::assistant("three")], true)?;
        assert_eq!(whole.ids[..prompt.len()], prompt);
        assert_eq!(whole.learned.iter().position(|l| *l), Some(prompt.len()));
        let blind = c.prompt(&t, "How many?", false)?;
        // The picture and the line break after it are all that a blind prompt lacks.
        assert!(prompt.contains(&t.id(IMAGE)?) && !blind.contains(&t.id(IMAGE)?));
        assert_eq!(t.decode(&prompt)?.trim(), t.decode(&blind)?.trim());
        Ok(())
    }

    #[test]
    fn two_pictures_are_refused() -> Result<()> {
        let t = tokenizer()?;
        let turns = [Turn::user("<image> or <image>?")];
        assert!(ChatTemplate::nano().encode(&t, &turns, true).unwrap_err().hint_text().is_some());
        Ok(())
    }
}
