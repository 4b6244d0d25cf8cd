//! The paper's chat formats and its rules for the loss mask, which add up the lengths of separately tokenised rounds.
//!
//! Source: the published code (`cambrian/conversation.py`, `cambrian/train/train_fsdp.py`, `cambrian/mm_utils.py`).
//! Some formats differ from the vendors': Llama 3 lacks the line breaks after its headers, ChatML the one after
//! `<|im_end|>`, and both have the paper's system message. The published code masks a conversation whose rounds do
//! not add up to its length; here it is returned with a [`Problem`]. Two things differ: a conversation that begins
//! with a `system` turn uses it (the published code cannot read one), and an image that no turn names is placed
//! before the first question (there the conversation would be masked).

use super::{Encoded, IMAGE_ID, Problem, Role, Turn};
use crate::llm::tokenizer::{IMAGE, Tokenizer};
use burgess_base::{Error, Result, nearest};
use serde::{Deserialize, Serialize};

/// One of the paper's chat formats with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The format.
    named: Format,
    /// A system message that replaces the format's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// From this sequence length on, the rounds need not add up (`model_max_length`).
    #[serde(default = "model_max_length")]
    max_length: usize,
}

fn model_max_length() -> usize {
    2048
}

/// The name of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    /// The format for Vicuna 1.5.
    #[serde(rename = "vicuna_v1")]
    VicunaV1,
    /// The format for Llama-3-Instruct.
    #[serde(rename = "llama_3")]
    Llama3,
    /// The format for Nous-Hermes-2-Yi.
    #[serde(rename = "chatml_direct")]
    ChatmlDirect,
    /// The format for Phi-3-mini.
    #[serde(rename = "phi3")]
    Phi3,
}

/// The strings and tokens of a format.
struct Parts {
    format: Format,
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
}

const FORMATS: [Parts; 4] = [
    Parts {
        format: Format::VicunaV1,
        name: "vicuna_v1",
        system: "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                 detailed, and polite answers to the user's questions.",
        around_system: ["", " "],
        roles: ["USER", "ASSISTANT"],
        colon: ": ",
        ends: [" ", "</s>"],
        needs: &["</s>"],
        pad: None,
    },
    Parts {
        format: Format::Llama3,
        name: "llama_3",
        system: "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. \n    As a multimodal AI, you \
                 have the ability to process and analyze images. Whenever an image is present in the conversation, very \
                 carefully examine it and consider its content when formulating your response.\n    You should give concise \
                 responses to very simple questions, but provide thorough responses to more complex and open-ended \
                 questions. ",
        around_system: ["<|begin_of_text|><|start_header_id|>system<|end_header_id|>", "<|eot_id|>"],
        roles: ["<|start_header_id|>user<|end_header_id|>", "<|start_header_id|>assistant<|end_header_id|>"],
        colon: "",
        ends: ["<|eot_id|>", "<|eot_id|>"],
        needs: &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        pad: Some("<|reserved_special_token_0|>"),
    },
    Parts {
        format: Format::ChatmlDirect,
        name: "chatml_direct",
        system: "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. As a multimodal AI, you have \
                 the ability to process and analyze images. Whenever an image is present in the conversation, very \
                 carefully examine it and consider its content when formulating your response. You should give concise \
                 responses to very simple questions, but provide thorough responses to more complex and open-ended \
                 questions.",
        around_system: ["<|im_start|>system\n", "<|im_end|>"],
        roles: ["<|im_start|>user\n", "<|im_start|>assistant\n"],
        colon: "",
        ends: ["<|im_end|>", "<|im_end|>"],
        needs: &["<|im_start|>", "<|im_end|>"],
        pad: None,
    },
    Parts {
        format: Format::Phi3,
        name: "phi3",
        system: "You are a helpful AI assistant.",
        around_system: ["<|system|>\n", "<|end|>"],
        roles: ["\n<|user|>\n", "\n<|assistant|>\n"],
        colon: "",
        ends: ["<|end|>", "<|end|>"],
        needs: &["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        pad: None,
    },
];

impl Study {
    /// The names of all formats.
    pub fn names() -> Vec<&'static str> {
        FORMATS.iter().map(|p| p.name).collect()
    }

    /// The format with this name.
    ///
    /// # Errors
    /// When the name is unknown; the known names are listed.
    pub fn named(name: &str) -> Result<Self> {
        let found = FORMATS.iter().find(|p| p.name == name);
        let parts = found.ok_or_else(|| {
            let known = Self::names();
            let error = Error::usage(format!("there is no chat template `{name}`; there are {}", known.join(", ")));
            match nearest(name, known.iter().copied()).first() {
                Some(like) => error.hint(format!("did you mean `{like}`?")),
                None => error,
            }
        })?;
        Ok(Self { named: parts.format, system: None, max_length: model_max_length() })
    }

    /// Sets the system message for conversations that do not bring their own.
    #[must_use]
    pub fn with_system(self, system: impl Into<String>) -> Self {
        Self { system: Some(system.into()), ..self }
    }

    /// Sets the sequence length from which on the rounds need not add up; the paper's is 2048.
    #[must_use]
    pub fn with_max_length(self, max_length: usize) -> Self {
        Self { max_length, ..self }
    }

    fn parts(&self) -> Result<&'static Parts> {
        FORMATS
            .iter()
            .find(|p| p.format == self.named)
            .ok_or_else(|| Error::failed("a chat template without its parts"))
    }

    /// Checks that the tokenizer has the special tokens and the BOS behaviour that the format needs.
    fn check(&self, tokenizer: &Tokenizer) -> Result<&'static Parts> {
        let parts = self.parts()?;
        let hint = "take the model that the template is for, or the model's own template";
        for token in parts.needs {
            let id = tokenizer.id(token).ok();
            if id.is_none() || tokenizer.encode(token)?.as_slice() != id.as_slice() {
                let name = parts.name;
                return Err(Error::failed(format!(
                    "chat template {name}: the tokenizer has no special token `{token}`"
                ))
                .hint(hint));
            }
        }
        if self.named == Format::VicunaV1 && !tokenizer.special().add_bos {
            return Err(
                Error::failed("chat template vicuna_v1: the tokenizer does not begin a text with BOS").hint(hint)
            );
        }
        Ok(parts)
    }

    pub(super) fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let parts = self.check(tokenizer)?;
        let mut ids = tokenizer.special().ends.clone();
        ids.push(tokenizer.id(parts.ends[1])?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    pub(super) fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Encoded> {
        let parts = self.check(tokenizer)?;
        let text = self.text(parts, turns, false)?;
        let writer = Writer { tokenizer, adds_bos: self.named != Format::Llama3, image: text.contains(IMAGE) };
        let ids = writer.ids(&text)?;
        let (mut learned, rebuilt) = match self.named {
            Format::Llama3 => writer.llama3_labels(&text, parts, ids.len())?,
            _ => writer.labels(parts, &self.rounds(parts, &text), self.adjustment(tokenizer), ids.len())?,
        };
        let pad = parts.pad.map_or(tokenizer.special().unk, |token| tokenizer.id(token).ok());
        let real = ids.iter().filter(|id| Some(**id) != pad).count();
        let problem = (rebuilt < self.max_length && rebuilt != real).then_some(Problem::Mismatch { rebuilt, real });
        if problem.is_some() {
            learned.fill(false);
        }
        let image_at = ids.iter().position(|id| *id == IMAGE_ID);
        Ok(Encoded { ids, learned, image_at, problem })
    }

    pub(super) fn open(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Encoded> {
        let parts = self.check(tokenizer)?;
        let text = self.text(parts, turns, true)?;
        let writer = Writer { tokenizer, adds_bos: self.named != Format::Llama3, image: text.contains(IMAGE) };
        let ids = writer.ids(&text)?;
        let image_at = ids.iter().position(|id| *id == IMAGE_ID);
        Ok(Encoded { learned: vec![false; ids.len()], ids, image_at, problem: None })
    }

    /// Renders the conversation as one text. An answer before the first question is skipped; an empty message leaves
    /// only its role, like an open turn.
    fn text(&self, parts: &Parts, turns: &[Turn], open: bool) -> Result<String> {
        let (own, turns) = match turns.split_first() {
            Some((first, rest)) if first.role == Role::System => (Some(first.text.as_str()), rest),
            _ => (None, turns),
        };
        let turns = match turns.split_first() {
            Some((first, rest)) if first.role == Role::Assistant => rest,
            _ => turns,
        };
        let system = own.or(self.system.as_deref()).unwrap_or(parts.system);
        let [before, after] = parts.around_system;
        let mut text = format!("{before}{system}{after}");
        for (i, turn) in turns.iter().enumerate() {
            let side = i % 2;
            if turn.role != [Role::User, Role::Assistant][side] {
                return Err(Error::failed(format!("question {i} and its neighbour are by the same speaker"))
                    .hint("questions and answers must alternate"));
            }
            match turn.text.is_empty() {
                true if self.named == Format::Llama3 => {}
                true => text.push_str(&format!("{}{}", parts.roles[side], parts.colon.trim_end())),
                false => {
                    text.push_str(&format!("{}{}{}{}", parts.roles[side], parts.colon, turn.text, parts.ends[side]))
                }
            }
        }
        if turns.is_empty() {
            return Err(Error::failed("the conversation has no question"));
        }
        if open {
            text.push_str(&format!("{}{}", parts.roles[1], parts.colon.trim_end()));
        }
        Ok(text)
    }

    /// Splits the text into rounds of question and answer; the first includes the system message.
    fn rounds(&self, parts: &Parts, text: &str) -> Vec<String> {
        let end = parts.ends[1];
        let pieces: Vec<&str> = text.split(end).collect();
        match self.named {
            Format::VicunaV1 => pieces.into_iter().map(str::to_string).collect(),
            _ => {
                let (first, rest) = pieces.split_at(pieces.len().min(3));
                std::iter::once(first.join(end)).chain(rest.chunks(2).map(|pair| pair.join(end))).collect()
            }
        }
    }

    /// Correction to the token count of each round after the first, relative to the round tokenised alone.
    fn adjustment(&self, tokenizer: &Tokenizer) -> isize {
        // If the tokenizer does not set `legacy`, it is true for Vicuna and false for the others.
        let legacy = tokenizer.special().legacy;
        match self.named {
            Format::VicunaV1 => -isize::from(!legacy.unwrap_or(true)),
            Format::ChatmlDirect => isize::from(legacy.unwrap_or(false)),
            // Rounds begin with a line break, which merges into the previous token.
            Format::Phi3 => -1 - isize::from(!legacy.unwrap_or(false)),
            Format::Llama3 => 0,
        }
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
    fn labels(&self, parts: &Parts, rounds: &[String], adjustment: isize, n: usize) -> Result<(Vec<bool>, usize)> {
        let vicuna = parts.format == Format::VicunaV1;
        let marker = match vicuna {
            true => format!("{}{}{}", parts.ends[0], parts.roles[1], parts.colon),
            false => format!("{}{}", parts.ends[0], parts.roles[1]),
        };
        // BOS, and for Vicuna the trailing space, which merges into the answer's first token.
        let outside = if vicuna { 2 } else { 1 };
        let mut learned = vec![true; n];
        let mut mask = |from: usize, to: usize| learned.iter_mut().take(to).skip(from).for_each(|l| *l = false);
        mask(0, 1);
        let mut at: usize = 1;
        for (i, round) in rounds.iter().enumerate() {
            // Also stops at the empty round after the last answer.
            let mut sides = round.split(&marker);
            let (Some(question), Some(_), None) = (sides.next(), sides.next(), sides.next()) else { break };
            let change = if i == 0 { 0 } else { adjustment };
            let length = self.length(round)?.saturating_add_signed(change);
            let asked = self.length(&format!("{question}{marker}"))?.saturating_add_signed(change - outside);
            mask(at, at + asked);
            at += length;
        }
        mask(at, n);
        Ok((learned, at))
    }

    /// The loss mask for Llama 3, message by message: system, question, answer, each with its end token. The three
    /// header tokens of an answer are masked.
    fn llama3_labels(&self, text: &str, parts: &Parts, n: usize) -> Result<(Vec<bool>, usize)> {
        let mut learned = vec![true; n];
        let mut mask = |from: usize, to: usize| learned.iter_mut().take(to).skip(from).for_each(|l| *l = false);
        let mut at = 0;
        for (i, message) in text.split(parts.ends[1]).enumerate() {
            if message.is_empty() {
                break;
            }
            let message = format!("{message}{}", parts.ends[1]);
            // Only the first question is searched for an image.
            let length = if i == 1 { self.length(&message)? } else { self.piece(&message)?.len() };
            mask(at, at + if i > 0 && i % 2 == 0 { 3 } else { length });
            at += length;
        }
        mask(at, n);
        Ok((learned, at))
    }
}
