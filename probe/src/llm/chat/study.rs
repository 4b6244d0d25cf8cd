//! The paper's own formats, and its rules for what is learned, which go by the lengths of rounds tokenised one by one.
//!
//! Facts from the published code (`cambrian/conversation.py`, `cambrian/train/train_fsdp.py`, `cambrian/mm_utils.py`);
//! three of the formats differ from the vendors': Llama 3 without the line breaks after its headers, ChatML without the
//! one after `<|im_end|>`, both with the paper's system message. A conversation whose rounds do not add up to its length
//! is not learned at all there, and here it is returned with a [`Problem`]. What is different here: a conversation that
//! begins with a `system` turn uses it (the published code cannot read one), and a picture that no turn names stands
//! before the first question (there it would be masked).

use super::{Encoded, PICTURE, Problem, Role, Turn};
use crate::llm::tokenizer::{IMAGE, Tokenizer};
use burgess_base::{Error, Result, nearest};
use serde::{Deserialize, Serialize};

/// One of the paper's templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Which.
    named: Format,
    /// Another system message than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// From this length on the rounds need not add up (`model_max_length`).
    #[serde(default = "model_max_length")]
    max_length: usize,
}

fn model_max_length() -> usize {
    2048
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    /// For Vicuna 1.5.
    #[serde(rename = "vicuna_v1")]
    VicunaV1,
    /// For Llama-3-Instruct.
    #[serde(rename = "llama_3")]
    Llama3,
    /// For Nous-Hermes-2-Yi.
    #[serde(rename = "chatml_direct")]
    ChatmlDirect,
    /// For Phi-3-mini.
    #[serde(rename = "phi3")]
    Phi3,
}

/// What a format is made of.
struct Parts {
    format: Format,
    name: &'static str,
    /// Its system message.
    system: &'static str,
    /// Around it.
    around_system: [&'static str; 2],
    /// Before a question, and before an answer.
    roles: [&'static str; 2],
    /// Between the speaker and what is said.
    colon: &'static str,
    /// After a question, and after an answer.
    ends: [&'static str; 2],
    /// Tokens that the tokenizer must have.
    needs: &'static [&'static str],
    /// The token whose ids count as filler; the unknown one if there is none.
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
    /// The names of all.
    pub fn names() -> Vec<&'static str> {
        FORMATS.iter().map(|p| p.name).collect()
    }

    /// The one with this name.
    ///
    /// # Errors
    /// There is none: the known ones are listed.
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

    /// With another system message, unless a conversation has its own.
    #[must_use]
    pub fn with_system(self, system: impl Into<String>) -> Self {
        Self { system: Some(system.into()), ..self }
    }

    /// With another length from which on the rounds need not add up; the paper's is 2048.
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

    /// What the format needs of a tokenizer.
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
        let writer = Writer { tokenizer, adds_bos: self.named != Format::Llama3, picture: text.contains(IMAGE) };
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
        let image_at = ids.iter().position(|id| *id == PICTURE);
        Ok(Encoded { ids, learned, image_at, problem })
    }

    pub(super) fn open(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Encoded> {
        let parts = self.check(tokenizer)?;
        let text = self.text(parts, turns, true)?;
        let writer = Writer { tokenizer, adds_bos: self.named != Format::Llama3, picture: text.contains(IMAGE) };
        let ids = writer.ids(&text)?;
        let image_at = ids.iter().position(|id| *id == PICTURE);
        Ok(Encoded { learned: vec![false; ids.len()], ids, image_at, problem: None })
    }

    /// The conversation as one text. An answer before the first question is passed over; an empty message leaves only its
    /// speaker, as if it was still to be said.
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

    /// Questions with their answers, the first with the system message before it.
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

    /// How much longer each round after the first counts than it is by itself.
    fn adjustment(&self, tokenizer: &Tokenizer) -> isize {
        // A tokenizer that does not say is `legacy` for the one format, and not for the others.
        let legacy = tokenizer.special().legacy;
        match self.named {
            Format::VicunaV1 => -isize::from(!legacy.unwrap_or(true)),
            Format::ChatmlDirect => isize::from(legacy.unwrap_or(false)),
            // Its rounds begin with a line break, which the token before takes.
            Format::Phi3 => -1 - isize::from(!legacy.unwrap_or(false)),
            Format::Llama3 => 0,
        }
    }
}

/// Text to ids as the published code does it.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether BOS is left to the tokenizer; otherwise the text holds it.
    adds_bos: bool,
    /// Whether the conversation has a picture.
    picture: bool,
}

impl Writer<'_> {
    fn piece(&self, text: &str) -> Result<Vec<u32>> {
        if self.adds_bos { self.tokenizer.encode_text(text) } else { self.tokenizer.encode(text) }
    }

    /// The pieces around the picture, each by itself; BOS only before the first.
    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        if !self.picture {
            return self.piece(text);
        }
        let mut all = Vec::new();
        for (i, part) in text.split(IMAGE).enumerate() {
            let ids = self.piece(part)?;
            let bos = self.tokenizer.special().bos.filter(|_| self.adds_bos);
            let repeated = i > 0 && bos.is_some() && ids.first() == bos.as_ref();
            if i > 0 {
                all.push(PICTURE);
            }
            all.extend_from_slice(ids.get(usize::from(repeated)..).unwrap_or_default());
        }
        Ok(all)
    }

    fn length(&self, text: &str) -> Result<usize> {
        Ok(self.ids(text)?.len())
    }

    /// What is learned of `n` ids, and the length to which the rounds add up.
    ///
    /// The first position stands for BOS, or for the end of the round before, by which a round by itself is short.
    fn labels(&self, parts: &Parts, rounds: &[String], adjustment: isize, n: usize) -> Result<(Vec<bool>, usize)> {
        let vicuna = parts.format == Format::VicunaV1;
        let marker = match vicuna {
            true => format!("{}{}{}", parts.ends[0], parts.roles[1], parts.colon),
            false => format!("{}{}", parts.ends[0], parts.roles[1]),
        };
        // BOS, and for Vicuna the space at the end, which the answer's first token takes.
        let outside = if vicuna { 2 } else { 1 };
        let mut learned = vec![true; n];
        let mut mask = |from: usize, to: usize| learned.iter_mut().take(to).skip(from).for_each(|l| *l = false);
        mask(0, 1);
        let mut at: usize = 1;
        for (i, round) in rounds.iter().enumerate() {
            // Also the empty one after the last answer.
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

    /// The same for Llama 3: system message, question, answer by turns, each with its end; of an answer the header's three
    /// tokens are not learned.
    fn llama3_labels(&self, text: &str, parts: &Parts, n: usize) -> Result<(Vec<bool>, usize)> {
        let mut learned = vec![true; n];
        let mut mask = |from: usize, to: usize| learned.iter_mut().take(to).skip(from).for_each(|l| *l = false);
        let mut at = 0;
        for (i, message) in text.split(parts.ends[1]).enumerate() {
            if message.is_empty() {
                break;
            }
            let message = format!("{message}{}", parts.ends[1]);
            // Only in the first question a picture is looked for.
            let length = if i == 1 { self.length(&message)? } else { self.piece(&message)?.len() };
            mask(at, at + if i > 0 && i % 2 == 0 { 3 } else { length });
            at += length;
        }
        mask(at, n);
        Ok((learned, at))
    }
}
