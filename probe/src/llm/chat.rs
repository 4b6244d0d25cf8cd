//! How a conversation becomes one sequence of tokens, and which of them are learned.

use super::tokenizer::{ASSISTANT, EOS, IMAGE, Tokenizer, USER};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The strings around the turns of a conversation. A template is data; every language-model family has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatTemplate {
    /// Before everything.
    #[serde(default)]
    pub prefix: String,
    /// Before a question.
    pub user_prefix: String,
    /// After a question.
    #[serde(default)]
    pub user_suffix: String,
    /// Before an answer.
    pub assistant_prefix: String,
    /// After an answer; learned with it, so that the model knows when to stop.
    pub assistant_suffix: String,
    /// The token that stands for the picture.
    pub image: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
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
    /// Token ids, the picture's token included (once).
    pub ids: Vec<u32>,
    /// Which ids are learned: the answers and what ends them.
    pub learned: Vec<bool>,
    /// Index in `ids` of the picture's token.
    pub image_at: Option<usize>,
}

impl ChatTemplate {
    /// The nano study's template, kept short: `<|user|><image>\nquestion<|assistant|>answer<|eos|>`.
    pub fn nano() -> Self {
        Self {
            prefix: String::new(),
            user_prefix: USER.into(),
            user_suffix: String::new(),
            assistant_prefix: ASSISTANT.into(),
            assistant_suffix: EOS.into(),
            image: IMAGE.into(),
        }
    }

    /// A whole conversation with its labels. The picture stands at the front of the first question, followed by a line
    /// break, wherever its token was written, as in LLaVA's `<image>\n…`; `with_image` puts one there if none is written.
    ///
    /// # Errors
    /// When the picture is named twice, or the tokenizer lacks a token of the template.
    pub fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<Encoded> {
        self.build(tokenizer, turns, with_image, false)
    }

    /// A question ready to be answered: ends with the prefix of the answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn prompt(&self, tokenizer: &Tokenizer, question: &str, with_image: bool) -> Result<Vec<u32>> {
        Ok(self.build(tokenizer, &[Turn::user(question)], with_image, true)?.ids)
    }

    /// The ids after which generation stops.
    ///
    /// # Errors
    /// When the end of an answer is no single token of the tokenizer.
    pub fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        Ok(vec![tokenizer.id(&self.assistant_suffix)?])
    }

    fn build(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool, open: bool) -> Result<Encoded> {
        let written = turns.iter().map(|t| t.text.matches(&self.image).count()).sum::<usize>();
        if written > 1 {
            return Err(Error::failed(format!("the conversation names the picture {written} times"))
                .hint(format!("one picture per conversation: keep a single {}", self.image)));
        }
        let mut sequence = Encoded { ids: Vec::new(), learned: Vec::new(), image_at: None };
        let mut say = |text: &str, learn: bool| -> Result<()> {
            sequence.ids.extend(tokenizer.encode(text)?);
            sequence.learned.resize(sequence.ids.len(), learn);
            Ok(())
        };
        say(&self.prefix, false)?;
        let mut picture = with_image || written == 1;
        for turn in turns {
            let text = turn.text.replace(&self.image, "");
            let text = text.trim();
            match turn.role {
                // The picture stands inside the first question, where text pretraining has what a question is about;
                // what stands before the first question is another document to the model, and is ignored.
                Role::User if std::mem::take(&mut picture) => {
                    say(&format!("{}{}\n{text}{}", self.user_prefix, self.image, self.user_suffix), false)?;
                }
                Role::User => say(&format!("{}{text}{}", self.user_prefix, self.user_suffix), false)?,
                Role::Assistant => {
                    say(&self.assistant_prefix, false)?;
                    say(&format!("{text}{}", self.assistant_suffix), true)?;
                }
            }
        }
        if open {
            say(&self.assistant_prefix, false)?;
        }
        let image = tokenizer.id(&self.image)?;
        sequence.image_at = sequence.ids.iter().position(|id| *id == image);
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::tokenizer::SPECIALS;

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
