//! Answers to single questions: about an image, by a multimodal model from a directory (of a run, or a released
//! Cambrian model), or by a language model alone.

use crate::data::field;
use crate::features::model_cards;
use crate::run::exported;
use burgess_base::{Error, Result};
use burgess_encoders::preprocess;
use burgess_probe::connector::ImageSize;
use burgess_probe::generate::{self, Decoding, Prompt, Sampling};
use burgess_probe::llm::{Activations, ChatTemplate, Compute, Llm, Tokenizer, Weights};
use burgess_probe::mllm::Mllm;
use burgess_probe::released::ReleasedModel;
use burgess_probe::text::{self, ScoredToken, TokenLogprob};
use burn::tensor::Device;
use serde::Serialize;
use std::path::Path;

/// A multimodal model with the preprocessing of its images.
pub struct MultimodalModel {
    pub(crate) model: Mllm,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) encoders: Vec<model_cards::ModelEncoder>,
    pub(crate) device: Device,
}

/// Options for an answer.
#[derive(Debug, Clone)]
pub struct AnswerOptions {
    /// Largest number of tokens of an answer.
    pub max_new_tokens: usize,
    /// Sampling; greedy decoding if absent.
    pub sampling: Option<Sampling>,
    /// Whether the answer lists its tokens with their log-probabilities.
    pub logprobs: bool,
    /// A given answer to score, instead of generating one.
    pub continuation: Option<String>,
}

/// An answer with its token counts and log-probabilities.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// Text of the answer.
    pub answer: String,
    /// Number of positions that the model read: text and image tokens.
    pub prompt_tokens: usize,
    /// Number of tokens of the answer.
    pub answer_tokens: usize,
    /// Tokens of the answer and the token that ended it; empty unless requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<AnswerToken>,
    /// Sum of the log-probabilities of `tokens`, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f64>,
}

/// A token with its text.
#[derive(Debug, Clone, Serialize)]
pub struct NamedToken {
    /// Text of the token in the tokenizer's vocabulary.
    pub text: String,
    /// Id and log-probability of the token.
    #[serde(flatten)]
    pub token: TokenLogprob,
}

/// A token of an answer, with the most probable alternatives.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerToken {
    /// The token of the answer.
    #[serde(flatten)]
    pub token: NamedToken,
    /// The most probable tokens at this position, most probable first.
    pub top: Vec<NamedToken>,
}

fn answer_tokens(tokenizer: &Tokenizer, scored: &[ScoredToken]) -> Vec<AnswerToken> {
    let named =
        |token: &TokenLogprob| NamedToken { text: tokenizer.token(token.id).unwrap_or_default(), token: *token };
    scored.iter().map(|s| AnswerToken { token: named(&s.token), top: s.top.iter().map(named).collect() }).collect()
}

/// Makes an [`Answer`] of these tokens.
fn answer(
    tokenizer: &Tokenizer,
    ids: &[u32],
    prompt_tokens: usize,
    scored: &[ScoredToken],
    options: &AnswerOptions,
) -> Result<Answer> {
    let lists_tokens = options.logprobs || options.continuation.is_some();
    Ok(Answer {
        answer: tokenizer.decode(ids)?,
        prompt_tokens,
        answer_tokens: ids.len(),
        tokens: if lists_tokens { answer_tokens(tokenizer, scored) } else { Vec::new() },
        logprob: lists_tokens.then(|| scored.iter().map(|s| s.token.logprob).sum()),
    })
}

/// Tokenises a given answer, which must not be empty.
fn continuation_tokens(tokenizer: &Tokenizer, continuation: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(continuation)?;
    match ids.is_empty() {
        true => Err(Error::usage("the answer to score has no tokens").hint("give a text that is not empty")),
        false => Ok(ids),
    }
}

/// A language model without images.
pub struct TextModel {
    llm: Llm,
    tokenizer: Tokenizer,
    /// Chat template for questions; `None` to continue the text as it is.
    chat: Option<ChatTemplate>,
    device: Device,
}

impl TextModel {
    /// Opens a language model, named as in the `llm` key of a study. `chat` names a chat template that replaces the
    /// model's own; with `raw`, texts are continued without a chat template.
    ///
    /// # Errors
    /// It is not on this machine, its model family is not supported, or it has no chat template.
    pub fn open(name: &str, chat: Option<&str>, raw: bool, device: &Device) -> Result<Self> {
        let weights = Weights::open(&field::resolve(name)?)?;
        let tokenizer = Tokenizer::of_model(&weights)?;
        weights.check_tokenizer(&tokenizer)?;
        let chat = match (raw, chat) {
            (true, _) => None,
            (false, Some(name)) => Some(ChatTemplate::named(name)?),
            (false, None) => {
                let own = ChatTemplate::of_model(&weights, &tokenizer);
                Some(own.map_err(|e| e.hint("name a chat template, or continue the text without one (raw)"))?)
            }
        };
        let llm = weights.load_frozen(device)?.0;
        Ok(Self { llm, tokenizer, chat, device: device.clone() })
    }

    /// Returns this model with its matrix products in `precision`, and with `activations` in those with quantised weights.
    ///
    /// # Errors
    /// Its weights or the device do not allow it, see [`Llm::with_activations`] and [`Llm::with_compute`].
    pub fn answering_in(mut self, activations: Activations, precision: Compute) -> Result<Self> {
        self.llm = self.llm.with_activations(activations)?.with_compute(precision)?;
        Ok(self)
    }

    /// Answers a question, or continues a text.
    ///
    /// # Errors
    /// The text is too long, or a value in the model is not finite.
    pub fn answer(&self, question: &str, options: &AnswerOptions) -> Result<Answer> {
        let (ids, stop) = match &self.chat {
            Some(chat) => (chat.prompt(&self.tokenizer, question, false)?, chat.stop(&self.tokenizer)?),
            None => {
                let special = self.tokenizer.special();
                let stop = special.ends.iter().chain(&special.eos).copied().collect();
                (self.tokenizer.encode_text(question)?, stop)
            }
        };
        if let Some(continuation) = &options.continuation {
            let given = continuation_tokens(&self.tokenizer, continuation)?;
            let scored = text::score_text(&self.llm, &ids, &given, &self.device)?;
            return answer(&self.tokenizer, &given, ids.len(), &scored, options);
        }
        let (most, sampling, device) = (options.max_new_tokens, options.sampling, &self.device);
        let generated = match options.logprobs {
            true => text::continue_text_scored(&self.llm, &ids, most, &stop, sampling, device)?,
            false => Vec::new(),
        };
        let mut answer_ids: Vec<u32> = match options.logprobs {
            true => generated.iter().map(|s| s.token.id).collect(),
            false => text::continue_text(&self.llm, &ids, most, &stop, sampling, device)?,
        };
        answer_ids.retain(|id| !stop.contains(id));
        let mut answer = answer(&self.tokenizer, &answer_ids, ids.len(), &generated, options)?;
        if self.chat.is_some() {
            answer.answer = answer.answer.trim().to_string();
        }
        Ok(answer)
    }
}

/// Chat template of each released model, by the `image_position` of its configuration.
const TEMPLATES: [(usize, &str); 4] = [(91, "llama_3"), (35, "vicuna_v1"), (87, "chatml_direct"), (13, "phi3")];

impl MultimodalModel {
    /// Opens a model's directory. `chat` names the chat template where the directory does not determine it.
    ///
    /// # Errors
    /// The directory holds no multimodal model, or weights of the model or of its encoders are missing.
    pub fn open(dir: &Path, chat: Option<&str>, device: &Device) -> Result<Self> {
        if ReleasedModel::is_model_dir(dir) {
            return Self::released(dir, chat, device);
        }
        if exported::is_export(dir) && chat.is_none() {
            let (model, tokenizer, encoders) = exported::load(dir, device)?;
            return Ok(Self { model, tokenizer, encoders, device: device.clone() });
        }
        if chat.is_some() {
            return Err(Error::usage("the chat template of this model is stored with it and cannot be replaced")
                .hint("leave the chat template out"));
        }
        if !dir.join("connector.safetensors").is_file() {
            return Err(Error::usage(format!(
                "{} is not a multimodal model directory: it has no connector.safetensors and is not a released \
                 Cambrian model",
                dir.display()
            ))
            .hint("give the `model` directory of a run, OUT/<study>/<arm>/seed-<n>/model, or a released model"));
        }
        let (model, tokenizer) = Mllm::load(dir, device)?;
        Ok(Self { model, tokenizer, encoders: model_cards::read(dir)?, device: device.clone() })
    }

    /// Returns this model with its language model as [`TextModel::answering_in`].
    ///
    /// # Errors
    /// As [`TextModel::answering_in`].
    pub fn answering_in(mut self, activations: Activations, precision: Compute) -> Result<Self> {
        self.model.llm = self.model.llm.with_activations(activations)?.with_compute(precision)?;
        Ok(self)
    }

    fn released(dir: &Path, chat: Option<&str>, device: &Device) -> Result<Self> {
        let released = ReleasedModel::open(dir)?;
        let known = TEMPLATES.iter().find(|(at, _)| Some(*at) == released.image_position).map(|(_, name)| *name);
        let name = chat.or(known).ok_or_else(|| {
            let names = TEMPLATES.map(|(_, name)| name).join(", ");
            Error::usage("the configuration does not state the chat template with which the model was trained")
                .hint(format!("name the chat template: {names}"))
        })?;
        let tokenizer = Tokenizer::open(dir)?;
        let model = released.load(ChatTemplate::named(name)?, device)?;
        let encoders = released.encoders.iter().cloned().map(model_cards::ModelEncoder::of_card).collect();
        Ok(Self { model, tokenizer, encoders, device: device.clone() })
    }

    /// Answers a question, with or without an image.
    ///
    /// # Errors
    /// The image cannot be read, an encoder's weights are missing, or the question is too long.
    pub fn answer(&self, image: Option<&Path>, question: &str, options: &AnswerOptions) -> Result<Answer> {
        let chat = &self.model.config().chat;
        let image_tokens = match image {
            Some(file) => {
                let orientation = model_cards::orientation(self.encoders.iter().map(|e| &e.card));
                let image = preprocess::decode_oriented(file, orientation)?;
                let (width, height) = image.dimensions();
                let size = ImageSize { width: width as usize, height: height as usize };
                let visual =
                    model_cards::image_batch(&image, &self.encoders, !self.model.encoders.is_empty(), &self.device)?;
                Some(self.model.encode_images_with(visual, Some(&[size]), None)?)
            }
            None => None,
        };
        let ids = chat.prompt(&self.tokenizer, question, image_tokens.is_some())?;
        let id = chat.image_id(&self.tokenizer)?;
        let at = ids.iter().position(|i| *i == id).filter(|_| image_tokens.is_some());
        let positions = image_tokens.as_ref().map_or(0, |s| s.tokens_per_image().saturating_sub(1));
        let prompt_tokens = ids.len() + positions;
        let score = |image_tokens, answer: &[u32]| {
            text::score_text_with_image(&self.model, image_tokens, &ids, at, answer, &self.device)
        };
        if let Some(continuation) = &options.continuation {
            let given = continuation_tokens(&self.tokenizer, continuation)?;
            let scored = score(image_tokens, &given)?;
            return answer(&self.tokenizer, &given, prompt_tokens, &scored, options);
        }
        let prompt = Prompt { ids: &ids, images: at.map(|at| (0, at)).into_iter().collect() };
        let stop = chat.stop(&self.tokenizer)?;
        let decoding = Decoding { max_new_tokens: options.max_new_tokens, stop: &stop, sampling: options.sampling };
        let generated = generate::answer(&self.model, image_tokens.as_ref(), &[prompt], &decoding, &self.device)?;
        let generated = generated.into_iter().next().unwrap_or_default();
        let scored = if options.logprobs { score(image_tokens, &generated)? } else { Vec::new() };
        let mut answer = answer(&self.tokenizer, &generated, prompt_tokens, &scored, options)?;
        answer.answer = answer.answer.trim().to_string();
        Ok(answer)
    }
}
