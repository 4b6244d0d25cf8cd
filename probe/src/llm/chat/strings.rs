//! Chat templates that put fixed strings around the turns; the nano study uses one.

use super::template_text::{filled, turns};
use super::{ChatFormat, EncodedChat, Role, Turn};
use crate::llm::tokenizer::{ASSISTANT, EOS, IMAGE, Tokenizer, USER};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The fixed strings before and after the turns of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StringTemplate {
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

impl StringTemplate {
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

    /// Tokenises a conversation; with `open` it ends with the text that precedes an answer.
    fn build(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool, open: bool) -> Result<EncodedChat> {
        let written = turns.iter().map(|t| t.text.matches(&self.image).count()).sum::<usize>();
        if written > 1 {
            return Err(Error::failed(format!("the conversation names the image {written} times"))
                .hint(format!("one image per conversation: keep a single {}", self.image)));
        }
        let mut sequence = EncodedChat { ids: Vec::new(), loss_mask: Vec::new(), image_at: None, problem: None };
        let mut append = |text: &str, supervised: bool| -> Result<()> {
            sequence.ids.extend(tokenizer.encode(text)?);
            sequence.loss_mask.resize(sequence.ids.len(), supervised);
            Ok(())
        };
        append(&self.prefix, false)?;
        let mut image = with_image || written == 1;
        for turn in turns {
            let text = turn.text.replace(&self.image, "");
            let text = text.trim();
            match turn.role {
                Role::System => return Err(no_system()),
                // The image is inside the first question, where text pretraining has its context. The model treats text
                // before the first question as another document and ignores it.
                Role::User if std::mem::take(&mut image) => {
                    append(&format!("{}{}\n{text}{}", self.user_prefix, self.image, self.user_suffix), false)?;
                }
                Role::User => append(&format!("{}{text}{}", self.user_prefix, self.user_suffix), false)?,
                Role::Assistant => {
                    append(&self.assistant_prefix, false)?;
                    append(&format!("{text}{}", self.assistant_suffix), true)?;
                }
            }
        }
        if open {
            append(&self.assistant_prefix, false)?;
        }
        let image = tokenizer.id(&self.image)?;
        sequence.image_at = sequence.ids.iter().position(|id| *id == image);
        Ok(sequence)
    }
}

fn no_system() -> Error {
    Error::failed("this chat template does not support a system message")
        .hint("remove the `system` turns from the data")
}

/// The turns in Jinja: the image is in the first question, whichever turn names it.
const TURNS: &str = "{%- set first = namespace(image=false) -%}
{%- for message in turns.list -%}
{%- if @IMAGE@ in message['content'] -%}{%- set first.image = true -%}{%- endif -%}
{%- endfor -%}
{{- @PREFIX@ -}}
{%- for message in turns.list -%}
{%- set text = message['content'].replace(@IMAGE@, '').strip() -%}
{%- if message['role'] == 'user' and first.image -%}
{%- set first.image = false -%}
{{- @USER_PREFIX@ + @IMAGE_LINE@ + text + @USER_SUFFIX@ -}}
{%- elif message['role'] == 'user' -%}
{{- @USER_PREFIX@ + text + @USER_SUFFIX@ -}}
{%- elif message['role'] == 'assistant' -%}
{{- @ANSWER_PREFIX@ + text + @ANSWER_SUFFIX@ -}}
{%- else -%}
{{- raise_exception('this model does not support a system message') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- @ANSWER_PREFIX@ -}}
{%- endif -%}
";

impl ChatFormat for StringTemplate {
    fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        self.build(tokenizer, turns, with_image, false)
    }

    fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        self.build(tokenizer, turns, with_image, true)
    }

    fn open_placed(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<u32>> {
        let mut ids = tokenizer.encode(&self.prefix)?;
        for turn in turns {
            let written = turn.text.trim();
            ids.extend(tokenizer.encode(&match turn.role {
                Role::System => return Err(no_system()),
                Role::User => format!("{}{written}{}", self.user_prefix, self.user_suffix),
                Role::Assistant => format!("{}{written}{}", self.assistant_prefix, self.assistant_suffix),
            })?);
        }
        ids.extend(tokenizer.encode(&self.assistant_prefix)?);
        Ok(ids)
    }

    fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        Ok(vec![tokenizer.id(&self.assistant_suffix)?])
    }

    fn image_id(&self, tokenizer: &Tokenizer) -> Result<u32> {
        tokenizer.id(&self.image)
    }

    fn image_token(&self) -> &str {
        &self.image
    }

    fn to_jinja(&self) -> String {
        let body = filled(
            TURNS,
            &[
                ("USER_PREFIX", &self.user_prefix),
                ("USER_SUFFIX", &self.user_suffix),
                ("ANSWER_PREFIX", &self.assistant_prefix),
                ("ANSWER_SUFFIX", &self.assistant_suffix),
                ("PREFIX", &self.prefix),
                ("IMAGE_LINE", &format!("{}\n", self.image)),
                ("IMAGE", &self.image),
            ],
        );
        turns(&self.image) + &body
    }

    fn set_system(&mut self, _: &str) -> Result<()> {
        Err(Error::usage("this chat template does not support a system message")
            .hint("remove `system` from the evaluator"))
    }
}
