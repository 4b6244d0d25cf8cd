//! Chat templates of fixed strings around the turns; the nano study uses one.

use super::{Encoded, Role, Turn};
use crate::llm::tokenizer::{ASSISTANT, EOS, IMAGE, Tokenizer, USER};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The fixed strings before and after the turns of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strings {
    /// Text at the start of the sequence.
    #[serde(default)]
    pub prefix: String,
    /// Text before a question.
    pub user_prefix: String,
    /// Text after a question.
    #[serde(default)]
    pub user_suffix: String,
    /// Text before an answer.
    pub assistant_prefix: String,
    /// Text after an answer; it is supervised, so the model learns to stop.
    pub assistant_suffix: String,
    /// The image token.
    pub image: String,
}

impl Strings {
    /// The nano study's template: `<|user|><image>\nquestion<|assistant|>answer<|eos|>`.
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

    pub(super) fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        Ok(vec![tokenizer.id(&self.assistant_suffix)?])
    }

    pub(super) fn build(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool, open: bool) -> Result<Encoded> {
        let written = turns.iter().map(|t| t.text.matches(&self.image).count()).sum::<usize>();
        if written > 1 {
            return Err(Error::failed(format!("the conversation names the image {written} times"))
                .hint(format!("one image per conversation: keep a single {}", self.image)));
        }
        let mut sequence = Encoded { ids: Vec::new(), learned: Vec::new(), image_at: None, problem: None };
        let mut say = |text: &str, learn: bool| -> Result<()> {
            sequence.ids.extend(tokenizer.encode(text)?);
            sequence.learned.resize(sequence.ids.len(), learn);
            Ok(())
        };
        say(&self.prefix, false)?;
        let mut image = with_image || written == 1;
        for turn in turns {
            let text = turn.text.replace(&self.image, "");
            let text = text.trim();
            match turn.role {
                Role::System => {
                    return Err(Error::failed("this chat template has no place for a system message")
                        .hint("leave the turns of `system` out of the data"));
                }
                // The image is inside the first question, where text pretraining has its context: text before the
                // first question looks like another document to the model, which ignores it.
                Role::User if std::mem::take(&mut image) => {
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
