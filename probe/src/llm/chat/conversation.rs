//! The chat formats of Cambrian-1 and its rules for the loss mask, which add up the lengths of separately tokenised
//! rounds.
//!
//! Source: `cambrian/conversation.py`, `cambrian/train/train_fsdp.py`, `cambrian/mm_utils.py`. Some formats differ from
//! the vendors': Llama 3 lacks the line breaks after its headers, ChatML the one after `<|im_end|>`, and both have
//! Cambrian's system message. The published code masks a conversation whose rounds do not add up to its length; here it
//! is returned with a [`MaskProblem`]. Two things differ: a conversation that begins with a `system` turn uses it (the
//! published code cannot read one), and an image that no turn names is placed before the first question (there the
//! conversation would be masked).

use super::template_text::{filled, turns};
use super::{ChatFormat, EncodedChat, IMAGE_ID, MaskProblem, Role, Turn, with_placed_image};
use crate::llm::tokenizer::{IMAGE, Tokenizer};
use burgess_base::{Error, Result, nearest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of Cambrian-1's chat formats with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversationTemplate {
    /// The format, serialised as its name.
    #[serde(rename = "named", serialize_with = "name_of", deserialize_with = "spec_of_name")]
    spec: &'static ConversationSpec,
    /// A system message that replaces the format's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// The sequence length in tokens from which on the rounds need not add up (`model_max_length`).
    #[serde(default = "model_max_length")]
    max_length: usize,
}

fn model_max_length() -> usize {
    2048
}

fn name_of<S: Serializer>(spec: &&'static ConversationSpec, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(spec.name)
}

fn spec_of_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<&'static ConversationSpec, D::Error> {
    let name = String::deserialize(deserializer)?;
    ConversationSpec::named(&name).map_err(serde::de::Error::custom)
}

/// The strings, tokens and masking rule of a format.
#[derive(Debug)]
struct ConversationSpec {
    /// The name in `conv_templates` of `conversation.py`.
    name: &'static str,
    /// The default system message.
    system: &'static str,
    /// Text before and after the system message.
    around_system: [&'static str; 2],
    /// Text before a question and before an answer.
    roles: [&'static str; 2],
    /// Separator between role and message.
    colon: &'static str,
    /// Text after a question and after an answer.
    ends: [&'static str; 2],
    /// Special tokens that the tokenizer must have.
    needs: &'static [&'static str],
    /// The token whose ids count as padding; the unknown token if `None`.
    pad: Option<&'static str>,
    /// Whether the text itself contains BOS, so that the tokenizer must not add it.
    writes_bos: bool,
    /// Whether the tokenizer must begin a text with BOS.
    needs_bos: bool,
    /// What an empty message leaves.
    empty_message: EmptyMessage,
    /// How the loss mask is computed.
    mask: MaskRule,
}

/// What an empty message leaves in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EmptyMessage {
    /// Its role, as in a prompt.
    Role,
    /// No text at all.
    Skipped,
}

/// How the published code computes the loss mask.
#[derive(Debug, Clone, Copy)]
enum MaskRule {
    /// Round by round, a round being a question and its answer.
    Rounds {
        /// Number of tokens at the end of the tokenised question that are not masked.
        unmasked: isize,
        /// Correction to the token count of each round after the first, relative to the round tokenised alone; the
        /// argument is `legacy` of the tokenizer.
        adjustment: fn(Option<bool>) -> isize,
    },
    /// Message by message; the first `header` tokens of an answer are masked.
    Messages {
        /// Number of tokens.
        header: usize,
    },
}

static CONVERSATIONS: [ConversationSpec; 4] = [
    // The format for Vicuna 1.5.
    ConversationSpec {
        name: "vicuna_v1",
        system: "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                 detailed, and polite answers to the user's questions.",
        around_system: ["", " "],
        roles: ["USER", "ASSISTANT"],
        colon: ": ",
        ends: [" ", "</s>"],
        needs: &["</s>"],
        pad: None,
        writes_bos: false,
        needs_bos: true,
        empty_message: EmptyMessage::Role,
        // BOS, and the trailing space of the role, which merges into the answer's first token.
        mask: MaskRule::Rounds { unmasked: 2, adjustment: |legacy| -isize::from(!legacy.unwrap_or(true)) },
    },
    // The format for Llama-3-Instruct.
    ConversationSpec {
        name: "llama_3",
        system: "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. \n    As a multimodal \
                 AI, you have the ability to process and analyze images. Whenever an image is present in the \
                 conversation, very carefully examine it and consider its content when formulating your \
                 response.\n    You should give concise responses to very simple questions, but provide thorough \
                 responses to more complex and open-ended questions. ",
        around_system: ["<|begin_of_text|><|start_header_id|>system<|end_header_id|>", "<|eot_id|>"],
        roles: ["<|start_header_id|>user<|end_header_id|>", "<|start_header_id|>assistant<|end_header_id|>"],
        colon: "",
        ends: ["<|eot_id|>", "<|eot_id|>"],
        needs: &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        pad: Some("<|reserved_special_token_0|>"),
        writes_bos: true,
        needs_bos: false,
        empty_message: EmptyMessage::Skipped,
        mask: MaskRule::Messages { header: 3 },
    },
    // The format for Nous-Hermes-2-Yi.
    ConversationSpec {
        name: "chatml_direct",
        system: "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. As a multimodal AI, you \
                 have the ability to process and analyze images. Whenever an image is present in the conversation, \
                 very carefully examine it and consider its content when formulating your response. You should give \
                 concise responses to very simple questions, but provide thorough responses to more complex and \
                 open-ended questions.",
        around_system: ["<|im_start|>system\n", "<|im_end|>"],
        roles: ["<|im_start|>user\n", "<|im_start|>assistant\n"],
        colon: "",
        ends: ["<|im_end|>", "<|im_end|>"],
        needs: &["<|im_start|>", "<|im_end|>"],
        pad: None,
        writes_bos: false,
        needs_bos: false,
        empty_message: EmptyMessage::Role,
        mask: MaskRule::Rounds { unmasked: 1, adjustment: |legacy| isize::from(legacy.unwrap_or(false)) },
    },
    // The format for Phi-3-mini.
    ConversationSpec {
        name: "phi3",
        system: "You are a helpful AI assistant.",
        around_system: ["<|system|>\n", "<|end|>"],
        roles: ["\n<|user|>\n", "\n<|assistant|>\n"],
        colon: "",
        ends: ["<|end|>", "<|end|>"],
        needs: &["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        pad: None,
        writes_bos: false,
        needs_bos: false,
        empty_message: EmptyMessage::Role,
        // Rounds begin with a line break, which merges into the previous token.
        mask: MaskRule::Rounds { unmasked: 1, adjustment: |legacy| -1 - isize::from(!legacy.unwrap_or(false)) },
    },
];

impl PartialEq for ConversationSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl ConversationSpec {
    /// The format with this name.
    fn named(name: &str) -> Result<&'static Self> {
        CONVERSATIONS.iter().find(|spec| spec.name == name).ok_or_else(|| {
            let known = ConversationTemplate::names();
            let error = Error::usage(format!("there is no chat template `{name}`; there are {}", known.join(", ")));
            match nearest(name, known.iter().copied()).first() {
                Some(like) => error.hint(format!("did you mean `{like}`?")),
                None => error,
            }
        })
    }
}

impl ConversationTemplate {
    /// The names of all formats.
    pub fn names() -> Vec<&'static str> {
        CONVERSATIONS.iter().map(|spec| spec.name).collect()
    }

    /// The format with this name.
    ///
    /// # Errors
    /// When the name is unknown; the known names are listed.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self { spec: ConversationSpec::named(name)?, system: None, max_length: model_max_length() })
    }

    /// Sets the sequence length in tokens from which on the rounds need not add up; 2048 in Cambrian-1.
    #[must_use]
    pub fn with_max_length(self, max_length: usize) -> Self {
        Self { max_length, ..self }
    }

    /// Checks that the tokenizer has the special tokens and the BOS behaviour that the format needs.
    fn check(&self, tokenizer: &Tokenizer) -> Result<&'static ConversationSpec> {
        let spec = self.spec;
        let hint = "use the model that the template is for, or the model's own template";
        for token in spec.needs {
            let id = tokenizer.id(token).ok();
            if id.is_none() || tokenizer.encode(token)?.as_slice() != id.as_slice() {
                let name = spec.name;
                return Err(Error::failed(format!(
                    "chat template {name}: the tokenizer has no special token `{token}`"
                ))
                .hint(hint));
            }
        }
        if spec.needs_bos && !tokenizer.special().add_bos {
            let name = spec.name;
            return Err(
                Error::failed(format!("chat template {name}: the tokenizer does not begin a text with BOS")).hint(hint)
            );
        }
        Ok(spec)
    }

    /// Renders the conversation as one text. An answer before the first question is skipped; an empty message leaves
    /// only its role, like an open turn.
    pub(super) fn text(&self, turns: &[Turn], open: bool) -> Result<String> {
        let spec = self.spec;
        let (own, turns) = match turns.split_first() {
            Some((first, rest)) if first.role == Role::System => (Some(first.text.as_str()), rest),
            _ => (None, turns),
        };
        let turns = match turns.split_first() {
            Some((first, rest)) if first.role == Role::Assistant => rest,
            _ => turns,
        };
        let system = own.or(self.system.as_deref()).unwrap_or(spec.system);
        let [before, after] = spec.around_system;
        let mut text = format!("{before}{system}{after}");
        for (i, turn) in turns.iter().enumerate() {
            let side = i % 2;
            if turn.role != [Role::User, Role::Assistant][side] {
                return Err(Error::failed(format!("turn {i} has the same role as the turn before it"))
                    .hint("questions and answers must alternate"));
            }
            match turn.text.is_empty() {
                true if spec.empty_message == EmptyMessage::Skipped => {}
                true => text.push_str(&format!("{}{}", spec.roles[side], spec.colon.trim_end())),
                false => text.push_str(&format!("{}{}{}{}", spec.roles[side], spec.colon, turn.text, spec.ends[side])),
            }
        }
        if turns.is_empty() {
            return Err(Error::failed("the conversation has no question"));
        }
        if open {
            text.push_str(&format!("{}{}", spec.roles[1], spec.colon.trim_end()));
        }
        Ok(text)
    }

    /// Splits the text into rounds of question and answer; the first includes the system message.
    fn rounds(&self, text: &str) -> Vec<String> {
        let [question_end, answer_end] = self.spec.ends;
        let pieces: Vec<&str> = text.split(answer_end).collect();
        if question_end != answer_end {
            return pieces.into_iter().map(str::to_string).collect();
        }
        // All messages end alike: the first round has three (system, question, answer), the others two.
        let (first, rest) = pieces.split_at(pieces.len().min(3));
        std::iter::once(first.join(answer_end)).chain(rest.chunks(2).map(|pair| pair.join(answer_end))).collect()
    }

    fn writer<'a>(&self, tokenizer: &'a Tokenizer, text: &str) -> Writer<'a> {
        Writer { tokenizer, adds_bos: !self.spec.writes_bos, image: text.contains(IMAGE) }
    }
}

/// The turns in Jinja.
const TURNS: &str = "{%- set messages = turns.list -%}
{%- if messages and messages[0]['role'] == 'system' -%}
{{- @SYSTEM_PREFIX@ + messages[0]['content'] + @SYSTEM_SUFFIX@ -}}
{%- set messages = messages[1:] -%}
{%- else -%}
{{- @SYSTEM_PREFIX@ + @SYSTEM_TEXT@ + @SYSTEM_SUFFIX@ -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['content'] == '' -%}
{%- if message['role'] == 'user' -%}{{- @USER_EMPTY@ -}}{%- else -%}{{- @ANSWER_EMPTY@ -}}{%- endif -%}
{%- elif message['role'] == 'user' -%}
{{- @USER_ROLE@ + message['content'] + @USER_END@ -}}
{%- elif message['role'] == 'assistant' -%}
{{- @ANSWER_ROLE@ + message['content'] + @ANSWER_END@ -}}
{%- else -%}
{{- raise_exception('only the first message may be a system message') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- @ANSWER_OPEN@ -}}
{%- endif -%}
";

impl ChatFormat for ConversationTemplate {
    fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        let spec = self.check(tokenizer)?;
        let text = self.text(&with_placed_image(turns, with_image)?, false)?;
        let writer = self.writer(tokenizer, &text);
        let ids = writer.ids(&text)?;
        let (mut loss_mask, rebuilt) = match spec.mask {
            MaskRule::Messages { header } => writer.message_mask(&text, spec, header, ids.len())?,
            MaskRule::Rounds { unmasked, adjustment } => {
                let change = adjustment(tokenizer.special().legacy);
                writer.round_mask(spec, &self.rounds(&text), unmasked, change, ids.len())?
            }
        };
        let pad = spec.pad.map_or(tokenizer.special().unk, |token| tokenizer.id(token).ok());
        let real = ids.iter().filter(|id| Some(**id) != pad).count();
        let mismatch = rebuilt < self.max_length && rebuilt != real;
        let problem = mismatch.then_some(MaskProblem::LengthMismatch { rebuilt, real });
        if problem.is_some() {
            loss_mask.fill(false);
        }
        let image_at = ids.iter().position(|id| *id == IMAGE_ID);
        Ok(EncodedChat { ids, loss_mask, image_at, problem })
    }

    fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        self.check(tokenizer)?;
        let text = self.text(&with_placed_image(turns, with_image)?, true)?;
        let ids = self.writer(tokenizer, &text).ids(&text)?;
        let image_at = ids.iter().position(|id| *id == IMAGE_ID);
        Ok(EncodedChat { loss_mask: vec![false; ids.len()], ids, image_at, problem: None })
    }

    fn open_placed(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<u32>> {
        self.check(tokenizer)?;
        let text = self.text(turns, true)?;
        self.writer(tokenizer, &text).ids(&text)
    }

    fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let spec = self.check(tokenizer)?;
        let mut ids = tokenizer.special().ends.clone();
        ids.push(tokenizer.id(spec.ends[1])?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn to_jinja(&self) -> String {
        let spec = self.spec;
        let [user, answer] = spec.roles.map(|role| format!("{role}{}", spec.colon));
        let [user_open, answer_open] = spec.roles.map(|role| format!("{role}{}", spec.colon.trim_end()));
        let empty = |open| if spec.empty_message == EmptyMessage::Skipped { "" } else { open };
        let body = filled(
            TURNS,
            &[
                ("SYSTEM_PREFIX", spec.around_system[0]),
                ("SYSTEM_SUFFIX", spec.around_system[1]),
                ("SYSTEM_TEXT", self.system.as_deref().unwrap_or(spec.system)),
                ("USER_EMPTY", empty(&user_open)),
                ("ANSWER_EMPTY", empty(&answer_open)),
                ("USER_ROLE", &user),
                ("USER_END", spec.ends[0]),
                ("ANSWER_ROLE", &answer),
                ("ANSWER_END", spec.ends[1]),
                ("ANSWER_OPEN", &answer_open),
            ],
        );
        turns(IMAGE) + &body
    }

    fn set_system(&mut self, system: &str) -> Result<()> {
        self.system = Some(system.into());
        Ok(())
    }
}

/// Tokenises text as the published code does.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether the tokenizer adds BOS; otherwise the text contains it.
    adds_bos: bool,
    /// Whether the conversation has an image.
    image: bool,
}

impl Writer<'_> {
    fn piece(&self, text: &str) -> Result<Vec<u32>> {
        if self.adds_bos { self.tokenizer.encode_text(text) } else { self.tokenizer.encode(text) }
    }

    /// Tokenises the text before and after the image separately; only the first part gets BOS.
    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        if !self.image {
            return self.piece(text);
        }
        let mut all = Vec::new();
        for (i, part) in text.split(IMAGE).enumerate() {
            let ids = self.piece(part)?;
            let bos = self.tokenizer.special().bos.filter(|_| self.adds_bos);
            let repeated = i > 0 && bos.is_some() && ids.first() == bos.as_ref();
            if i > 0 {
                all.push(IMAGE_ID);
            }
            all.extend_from_slice(ids.get(usize::from(repeated)..).unwrap_or_default());
        }
        Ok(all)
    }

    fn length(&self, text: &str) -> Result<usize> {
        Ok(self.ids(text)?.len())
    }

    /// The loss mask of `n` ids, and the length to which the rounds add up.
    ///
    /// The first position counts for BOS, or for the previous round's end token, which a round tokenised alone lacks.
    fn round_mask(
        &self,
        spec: &ConversationSpec,
        rounds: &[String],
        unmasked: isize,
        adjustment: isize,
        n: usize,
    ) -> Result<(Vec<bool>, usize)> {
        let marker = format!("{}{}{}", spec.ends[0], spec.roles[1], spec.colon);
        let mut loss_mask = vec![true; n];
        let mut mask = |from: usize, to: usize| {
            loss_mask.iter_mut().take(to).skip(from).for_each(|supervised| *supervised = false)
        };
        mask(0, 1);
        let mut at: usize = 1;
        for (i, round) in rounds.iter().enumerate() {
            // Also stops at the empty round after the last answer.
            let mut sides = round.split(&marker);
            let (Some(question), Some(_), None) = (sides.next(), sides.next(), sides.next()) else { break };
            let change = if i == 0 { 0 } else { adjustment };
            let length = self.length(round)?.saturating_add_signed(change);
            let asked = self.length(&format!("{question}{marker}"))?.saturating_add_signed(change - unmasked);
            mask(at, at + asked);
            at += length;
        }
        mask(at, n);
        Ok((loss_mask, at))
    }

    /// The loss mask of `n` ids, and the length to which the messages add up: system, question, answer, each with its
    /// end token. The first `header` tokens of an answer are masked.
    fn message_mask(&self, text: &str, spec: &ConversationSpec, header: usize, n: usize) -> Result<(Vec<bool>, usize)> {
        let mut loss_mask = vec![true; n];
        let mut mask = |from: usize, to: usize| {
            loss_mask.iter_mut().take(to).skip(from).for_each(|supervised| *supervised = false)
        };
        let mut at = 0;
        for (i, message) in text.split(spec.ends[1]).enumerate() {
            if message.is_empty() {
                break;
            }
            let message = format!("{message}{}", spec.ends[1]);
            // Only the first question is searched for an image.
            let length = if i == 1 { self.length(&message)? } else { self.piece(&message)?.len() };
            mask(at, at + if i > 0 && i % 2 == 0 { header } else { length });
            at += length;
        }
        mask(at, n);
        Ok((loss_mask, at))
    }
}
