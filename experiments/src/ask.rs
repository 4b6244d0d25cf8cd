//! One question about one picture, answered by a model from a directory: one that a run left, or a released Cambrian.

use crate::cards;
use burgess_base::{Error, Result};
use burgess_encoders::preprocess::{self, Orientation};
use burgess_probe::connector::PictureSize;
use burgess_probe::generate::{self, Decoding, Prompt, Sampling};
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_probe::mllm::Mllm;
use burgess_probe::released::Released;
use burn::tensor::Device;
use serde::Serialize;
use std::path::Path;

/// A model with what prepares its pictures.
pub struct Answerer {
    pub(crate) model: Mllm,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) encoders: Vec<cards::Tower>,
    device: Device,
}

/// How it is asked.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// The longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Greedy without this.
    pub sampling: Option<Sampling>,
}

/// What it said.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The answer.
    pub answer: String,
    /// Positions that the model read: text and picture.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
}

/// The template of each released model, by where its prompts have the picture (`image_position` of its configuration).
const TEMPLATES: [(usize, &str); 4] = [(91, "llama_3"), (35, "vicuna_v1"), (87, "chatml_direct"), (13, "phi3")];

impl Answerer {
    /// Opens a model's directory. `chat` names its template where the directory does not tell.
    ///
    /// # Errors
    /// It is no model's directory, or the weights of it or of its encoders are not there.
    pub fn open(dir: &Path, chat: Option<&str>, device: &Device) -> Result<Self> {
        if Released::is(dir) {
            return Self::released(dir, chat, device);
        }
        if chat.is_some() {
            return Err(Error::usage("this model was trained with a template of its own, which --chat cannot change")
                .hint("leave --chat out"));
        }
        if !dir.join("connector.safetensors").is_file() {
            return Err(Error::usage(format!("{} is not the directory of a model that sees", dir.display())).hint(
                "give the `model` directory of a run, RUNS/<study>/<arm>/seed-<n>/model, or a released Cambrian model",
            ));
        }
        let (model, tokenizer) = Mllm::load(dir, device)?;
        Ok(Self { model, tokenizer, encoders: cards::read(dir)?, device: device.clone() })
    }

    fn released(dir: &Path, chat: Option<&str>, device: &Device) -> Result<Self> {
        let released = Released::open(dir)?;
        let known = TEMPLATES.iter().find(|(at, _)| Some(*at) == released.image_position).map(|(_, name)| *name);
        let name = chat.or(known).ok_or_else(|| {
            let names = TEMPLATES.map(|(_, name)| name).join(", ");
            Error::usage("the configuration does not tell which chat template the model was trained with")
                .hint(format!("name it with --chat: {names}"))
        })?;
        let tokenizer = Tokenizer::open(dir)?;
        let model = released.load(ChatTemplate::named(name)?, device)?;
        let encoders = released.encoders.iter().cloned().map(cards::Tower::own).collect();
        Ok(Self { model, tokenizer, encoders, device: device.clone() })
    }

    /// Answers a question, about a picture or about none.
    ///
    /// # Errors
    /// The picture cannot be read, an encoder's weights are not there, or the question is too long.
    pub fn answer(&self, picture: Option<&Path>, question: &str, how: How) -> Result<Answer> {
        let chat = &self.model.config().chat;
        let seen = match picture {
            Some(file) => {
                let upright = self.encoders.iter().any(|e| e.card.preprocess.upright);
                let orientation = if upright { Orientation::Upright } else { Orientation::AsStored };
                let picture = preprocess::decode_turned(file, orientation)?;
                let (width, height) = picture.dimensions();
                let size = PictureSize { width: width as usize, height: height as usize };
                let encoders = self.encoders.iter().map(|e| (&e.encoder, &e.card));
                let visual = cards::visual(&picture, encoders, !self.model.encoders.is_empty(), &self.device)?;
                Some(self.model.look(visual, Some(&[size]), None)?)
            }
            None => None,
        };
        let ids = chat.prompt(&self.tokenizer, question, seen.is_some())?;
        let id = chat.image_id(&self.tokenizer)?;
        let at = ids.iter().position(|i| *i == id).filter(|_| seen.is_some());
        let prompt = Prompt { ids: &ids, image: at.map(|at| (0, at)) };
        let stop = chat.stop(&self.tokenizer)?;
        let decoding = Decoding { max_new_tokens: how.max_new_tokens, stop: &stop, sampling: how.sampling };
        let made = generate::answer(&self.model, seen.as_ref(), &[prompt], &decoding, &self.device)?;
        let made = made.into_iter().next().unwrap_or_default();
        let positions = seen.as_ref().map_or(0, |s| s.positions().saturating_sub(1));
        Ok(Answer {
            answer: self.tokenizer.decode(&made)?.trim().to_string(),
            prompt_tokens: ids.len() + positions,
            answer_tokens: made.len(),
        })
    }
}
