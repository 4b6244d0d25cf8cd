//! Chat templates: how a conversation becomes one token sequence with a loss mask.
//!
//! There are three kinds, each a `ChatFormat` in a file of its own: fixed strings around the turns ([`StringTemplate`],
//! used by the nano study), the formats of Cambrian-1 with its rules for the loss mask ([`ConversationTemplate`]), and
//! the Jinja template that a model ships ([`JinjaTemplate`]).
//!
//! The template's own system message applies unless the conversation begins with a `system` turn, which replaces it;
//! templates without a system message reject such a turn.
//!
//! The image is one placeholder id among the text's ids, at [`EncodedChat::image_at`]; a prompt may have several
//! ([`ChatTemplate::prompt_with_images`]). Published vocabularies have no
//! entry for it: there the id is [`IMAGE_ID`], which no vocabulary contains. The text before and the text after the
//! placeholder are tokenised separately.

pub mod conversation;
pub mod jinja;
mod limits;
mod placed_images;
mod python;
mod spans;
pub mod strings;
mod template_text;

pub use conversation::ConversationTemplate;
pub use jinja::JinjaTemplate;
pub use placed_images::PlacedImages;
pub use strings::StringTemplate;

use super::tokenizer::{IMAGE, Tokenizer};
use super::weights::Weights;
use burgess_base::{Error, Result, atomic};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The image placeholder in [`EncodedChat::ids`] where the tokenizer has no token for it.
pub const IMAGE_ID: u32 = i32::MAX as u32;

/// How conversations are written as text for a language model; part of a saved model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ChatTemplate {
    /// Fixed strings around the turns.
    Strings(StringTemplate),
    /// One of the formats of Cambrian-1.
    Conversation(ConversationTemplate),
    /// The Jinja template that the model ships.
    Jinja(Box<JinjaTemplate>),
}

// Written by hand so that an error names the field, not only that no kind of template matches.
impl<'de> Deserialize<'de> for ChatTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let has = |key: &str| value.get(key).is_some();
        if has("named") {
            serde_json::from_value(value).map(Self::Conversation)
        } else if has("jinja") {
            serde_json::from_value(value).map(|j| Self::Jinja(Box::new(j)))
        } else {
            serde_json::from_value(value).map(Self::Strings)
        }
        .map_err(serde::de::Error::custom)
    }
}

/// The author of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the assistant; only as the first turn.
    System,
    /// The user, who asks.
    #[serde(alias = "human")]
    User,
    /// The assistant, who answers.
    #[serde(alias = "gpt")]
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The author of the turn.
    pub role: Role,
    /// The message; `<image>` may occur once in the whole conversation.
    pub text: String,
}

impl Turn {
    /// A system message with this text.
    pub fn system(text: impl Into<String>) -> Self {
        Self { role: Role::System, text: text.into() }
    }

    /// A user turn with this text.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, text: text.into() }
    }

    /// An assistant turn with this text.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, text: text.into() }
    }
}

/// A tokenised conversation with its loss mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChat {
    /// Token ids, with at most one image placeholder.
    pub ids: Vec<u32>,
    /// Loss mask, as long as `ids`: `true` for supervised tokens, which are the answers and the tokens that end them.
    pub loss_mask: Vec<bool>,
    /// Index of the image placeholder in `ids`; `None` for text without an image.
    pub image_at: Option<usize>,
    /// Why no token is supervised although there are answers; `None` if the answers were located.
    pub problem: Option<MaskProblem>,
}

/// Why the answers of a conversation could not be located.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskProblem {
    /// The rounds' lengths do not add up to the sequence length; Cambrian's code then masks the whole conversation.
    LengthMismatch {
        /// The sum of the rounds' lengths.
        rebuilt: usize,
        /// The number of ids that are not padding.
        real: usize,
    },
    /// The text that the template writes before answer `turn` depends on later turns.
    PrefixChanged {
        /// Index of the turn, from 0.
        turn: usize,
    },
    /// The rendered text does not contain answer `turn` followed by a special token.
    AnswerChanged {
        /// Index of the turn, from 0.
        turn: usize,
    },
}

impl MaskProblem {
    /// A description of the problem without its numbers, by which problems are counted.
    pub fn what(&self) -> &'static str {
        match self {
            Self::LengthMismatch { .. } => "lengths of the rounds do not add up",
            Self::PrefixChanged { .. } => "chat template rewrites earlier turns",
            Self::AnswerChanged { .. } => "chat template changes an answer",
        }
    }
}

impl fmt::Display for MaskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LengthMismatch { rebuilt, real } => write!(f, "{}: {rebuilt} instead of {real}", self.what()),
            Self::PrefixChanged { turn } | Self::AnswerChanged { turn } => write!(f, "{}: turn {turn}", self.what()),
        }
    }
}

impl ChatTemplate {
    /// The nano study's template: `<|user|><image>\nquestion<|assistant|>answer<|eos|>`.
    pub fn nano() -> Self {
        Self::Strings(StringTemplate::nano())
    }

    /// One of the formats of Cambrian-1 by name: `vicuna_v1`, `llama_3`, `chatml_direct`, `phi3`.
    ///
    /// # Errors
    /// When the name is unknown; the known names are listed.
    pub fn named(name: &str) -> Result<Self> {
        ConversationTemplate::named(name).map(Self::Conversation)
    }

    /// The Jinja template that ships with a tokenizer.
    ///
    /// # Errors
    /// When there is none, or its Jinja syntax is invalid.
    pub fn from_model(tokenizer: &Tokenizer) -> Result<Self> {
        JinjaTemplate::from_model(tokenizer).map(|j| Self::Jinja(Box::new(j)))
    }

    /// The template of a language model: its `chat.json` (our own format) or else the Jinja template that it ships.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_model`]; also when `chat.json` is damaged.
    pub fn of_model(weights: &Weights, tokenizer: &Tokenizer) -> Result<Self> {
        match weights.directory().map(|dir| dir.join("chat.json")) {
            Some(own) if own.is_file() => atomic::read_json(&own),
            _ => Self::from_model(tokenizer).map_err(|e| e.context(format!("{}", weights.path().display()))),
        }
    }

    fn format(&self) -> &dyn ChatFormat {
        match self {
            Self::Strings(template) => template,
            Self::Conversation(template) => template,
            Self::Jinja(template) => template.as_ref(),
        }
    }

    fn format_mut(&mut self) -> &mut dyn ChatFormat {
        match self {
            Self::Strings(template) => template,
            Self::Conversation(template) => template,
            Self::Jinja(template) => template.as_mut(),
        }
    }

    /// Known deviations of the template from its original, as sentences for the user.
    pub fn notes(&self) -> Vec<String> {
        self.format().notes()
    }

    /// Replaces the template's system message, for conversations without a system turn; it may be empty.
    ///
    /// # Errors
    /// When the template does not support a system message.
    pub fn with_system(mut self, system: &str) -> Result<Self> {
        self.format_mut().set_system(system)?;
        Ok(self)
    }

    /// Tokenises a whole conversation with its loss mask.
    ///
    /// The image is placed at the start of a question, followed by a line break, as in LLaVA's `<image>\n…`: of the
    /// first question for [`StringTemplate`], of the turn that names it for other templates. With `with_image`, it is
    /// added to the first question if no turn names it.
    ///
    /// # Errors
    /// When the image is named twice, the template does not support the order of turns, the tokenizer lacks a token
    /// of the template, or the template raises an error.
    pub fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        self.format().encode(tokenizer, turns, with_image)
    }

    /// Tokenises a conversation up to the next answer: it ends with the text that precedes an answer (the generation
    /// prompt).
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        self.format().open(tokenizer, turns, with_image)
    }

    /// Token ids of a prompt that asks one question.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn prompt(&self, tokenizer: &Tokenizer, question: &str, with_image: bool) -> Result<Vec<u32>> {
        Ok(self.open(tokenizer, &[Turn::user(question)], with_image)?.ids)
    }

    /// Places `count` images in the text of a question: at `<image 1>`, `<image1>` and `<image>`, those that the text
    /// does not refer to before it, each on its own line.
    pub fn place_images(&self, question: &str, count: usize) -> PlacedImages {
        placed_images::placed_images(question, count, self.image_token())
    }

    /// Token ids of a prompt that asks one question about several images: `question` has a placeholder
    /// ([`ChatTemplate::image_token`]) where each image goes, as in [`PlacedImages::text`].
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`]; also when a placeholder is lost.
    pub fn prompt_with_images(&self, tokenizer: &Tokenizer, question: &str) -> Result<Vec<u32>> {
        let ids = self.format().open_placed(tokenizer, &[Turn::user(question)])?;
        let (image, wanted) = (self.image_id(tokenizer)?, question.matches(self.image_token()).count());
        let found = ids.iter().filter(|id| **id == image).count();
        if found != wanted {
            return Err(Error::failed(format!(
                "the chat template writes {found} image placeholders for a question with {wanted} images"
            )));
        }
        Ok(ids)
    }

    /// Returns the template in Jinja, as `chat_template.jinja` of a model for `transformers`. Messages may be texts, or
    /// lists with parts of type `image` and `text`.
    pub fn to_jinja(&self) -> String {
        self.format().to_jinja()
    }

    /// The text of the image placeholder.
    pub fn image_token(&self) -> &str {
        self.format().image_token()
    }

    /// The id of the image placeholder.
    ///
    /// # Errors
    /// When the tokenizer lacks the template's image token.
    pub fn image_id(&self, tokenizer: &Tokenizer) -> Result<u32> {
        self.format().image_id(tokenizer)
    }

    /// The ids after which generation stops: the template's end-of-answer token, and those that the model's files name.
    ///
    /// # Errors
    /// When the end of an answer is not a single token of the tokenizer.
    pub fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        self.format().stop(tokenizer)
    }
}

/// A kind of chat template; [`ChatTemplate`] documents the methods.
trait ChatFormat {
    fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat>;

    fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat>;

    /// As `open`, with any number of placeholders, each of which stays where it is in the text of its turn.
    fn open_placed(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<u32>>;

    fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>>;

    fn image_id(&self, _: &Tokenizer) -> Result<u32> {
        Ok(IMAGE_ID)
    }

    fn image_token(&self) -> &str {
        IMAGE
    }

    fn to_jinja(&self) -> String;

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn set_system(&mut self, system: &str) -> Result<()>;
}

/// The turns with `<image>` at the start of the turn that names it, followed by a line break.
///
/// # Errors
/// When several turns name the image, or a system turn is not the first.
fn with_placed_image(turns: &[Turn], with_image: bool) -> Result<Vec<Turn>> {
    if let Some(at) = turns.iter().skip(1).position(|t| t.role == Role::System) {
        return Err(Error::failed(format!("turn {}: a system message that is not the first turn", at + 1))
            .hint("only the first turn may be a system message"));
    }
    let mut written = turns.iter().enumerate().filter(|(_, t)| t.text.contains(IMAGE)).map(|(i, _)| i);
    let place =
        match (written.next(), written.count()) {
            (None, _) if !with_image => None,
            (None, _) => Some(turns.iter().position(|t| t.role == Role::User).ok_or_else(|| {
                Error::failed("the conversation has an image but no question").hint("add a user turn")
            })?),
            (Some(first), 0) => Some(first),
            (Some(_), more) => {
                return Err(Error::failed(format!("the conversation names the image in {} turns", more + 1))
                    .hint(format!("one image per conversation: keep a single {IMAGE}")));
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
    use std::collections::BTreeMap;

    fn tokenizer() -> Result<Tokenizer> {
        Tokenizer::train(["How many? three", "Which one? the red one"].iter(), 270, &SPECIALS)
    }

    #[test]
    fn only_answers_and_their_ends_are_supervised() -> Result<()> {
        let t = tokenizer()?;
        let turns = [
            Turn::user("<image>\nHow many?"),
            Turn::assistant("three"),
            Turn::user("Which one?"),
            Turn::assistant("the red one"),
        ];
        let e = ChatTemplate::nano().encode(&t, &turns, true)?;
        assert_eq!(e.image_at, Some(1));
        assert_eq!(e.ids.len(), e.loss_mask.len());
        let supervised: Vec<u32> = e.ids.iter().zip(&e.loss_mask).filter(|(_, l)| **l).map(|(i, _)| *i).collect();
        let ends = supervised.iter().filter(|i| **i == t.id(EOS).unwrap_or(99)).count();
        assert_eq!(ends, 2);
        assert_eq!(t.decode(&supervised)?.trim(), "three the red one");
        Ok(())
    }

    #[test]
    fn a_prompt_is_the_beginning_of_the_conversation() -> Result<()> {
        let t = tokenizer()?;
        let c = ChatTemplate::nano();
        let prompt = c.prompt(&t, "How many?", true)?;
        let whole = c.encode(&t, &[Turn::user("How many?"), Turn::assistant("three")], true)?;
        assert_eq!(whole.ids[..prompt.len()], prompt);
        assert_eq!(whole.loss_mask.iter().position(|l| *l), Some(prompt.len()));
        let blind = c.prompt(&t, "How many?", false)?;
        // A blind prompt lacks only the image and the line break after it.
        assert!(prompt.contains(&t.id(IMAGE)?) && !blind.contains(&t.id(IMAGE)?));
        assert_eq!(t.decode(&prompt)?.trim(), t.decode(&blind)?.trim());
        Ok(())
    }

    #[test]
    fn several_images_stand_in_the_prompt_as_one_does() -> Result<()> {
        let t = tokenizer()?;
        let shipped = JinjaTemplate::new(
            "{% for message in messages %}<|user|>{{ message['content'] }}<|eos|>{% endfor %}\
             {% if add_generation_prompt %}<|assistant|>{% endif %}",
            BTreeMap::new(),
        )?;
        for c in [ChatTemplate::nano(), ChatTemplate::Jinja(Box::new(shipped))] {
            let image = c.image_id(&t)?;
            // One image gives the ids of the usual prompt, wherever it is named.
            let usual = c.prompt(&t, "Which one?", true)?;
            let prompt = |question: &str, count: usize| c.prompt_with_images(&t, &c.place_images(question, count).text);
            assert_eq!(prompt("Which one?", 1)?, usual);
            let two = prompt("Which one?", 2)?;
            assert_eq!(two.iter().filter(|id| **id == image).count(), 2);
            let at = usual.iter().position(|id| *id == image).unwrap_or_default();
            // A placeholder and a line break more, before which some tokenizers write a space.
            let more = two.len() - usual.len();
            assert!((2..=3).contains(&more), "{more}");
            assert_eq!(two[..=at], usual[..=at]);
            assert_eq!(two[at + more..], usual[at..]);
            assert_eq!(t.decode(&two[at + 1..at + more])?.trim_matches(' '), "\n");
            let within = prompt("Which <image 2> one <image 1>?", 2)?;
            assert_eq!(within.iter().filter(|id| **id == image).count(), 2);
            assert_ne!(within[at], image, "no image in front");
            let blind = c.place_images("Which <image 2> one <image 1>?", 2).blind;
            assert_eq!(c.prompt(&t, &blind, false)?, prompt(&blind, 0)?);
        }
        Ok(())
    }

    #[test]
    fn templates_for_other_libraries_give_the_same_tokens() -> Result<()> {
        let t = tokenizer()?;
        let shipped = JinjaTemplate::new(
            "{{- bos_token }}{% for message in messages %}<|user|>{{ message['role'] }}: {{ message['content'] }}<|eos|>\
             {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
            [("bos_token".to_string(), "<|bos|>".to_string())].into(),
        )?;
        let shipped = ChatTemplate::Jinja(Box::new(shipped));
        let named: Vec<ChatTemplate> =
            ConversationTemplate::names().into_iter().map(ChatTemplate::named).collect::<Result<_>>()?;
        let question = |text: &str| vec![Turn::user(text)];
        let conversations = [
            question("How many?"),
            question("  It's \"odd\"\nhere \\ "),
            question("<image>\nHow many?"),
            question("Which <image> one?"),
            vec![Turn::user("<image>How many?"), Turn::assistant("three"), Turn::user("Which one?")],
        ];
        for template in [ChatTemplate::nano(), shipped.clone(), shipped.with_system("Be brief, it's late.")?] {
            let tokens = [("bos_token".to_string(), "<|bos|>".to_string())].into();
            let exported = ChatTemplate::Jinja(Box::new(JinjaTemplate::new(template.to_jinja(), tokens)?));
            for turns in &conversations {
                let (own, other) = (template.open(&t, turns, false)?, exported.open(&t, turns, false)?);
                let image = template.image_id(&t)?;
                let ids =
                    |e: &EncodedChat| e.ids.iter().map(|i| if *i == image { IMAGE_ID } else { *i }).collect::<Vec<_>>();
                assert_eq!(ids(&own), ids(&other), "{turns:?}");
            }
        }
        // The formats of Cambrian-1 need other tokenizers: their text is compared.
        for template in named {
            let ChatTemplate::Conversation(own) = &template else { continue };
            let exported = JinjaTemplate::new(template.to_jinja(), BTreeMap::new())?;
            for turns in &conversations {
                assert_eq!(
                    exported.text(turns, true)?,
                    own.text(&with_placed_image(turns, false)?, true)?,
                    "{turns:?}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn two_images_are_refused() -> Result<()> {
        let t = tokenizer()?;
        let turns = [Turn::user("<image> or <image>?")];
        assert!(ChatTemplate::nano().encode(&t, &turns, true).unwrap_err().hint_text().is_some());
        Ok(())
    }
}
