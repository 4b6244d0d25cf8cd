//! Pretrained language models from files: a directory in Hugging Face's layout (`config.json` beside safetensors or
//! `pytorch_model.bin`, whole or in shards), a GGUF file, or a repository of the hub that holds either.
//!
//! ```no_run
//! use burgess_probe::llm::Weights;
//! # fn f() -> burgess_base::Result<()> {
//! let weights = Weights::open("HuggingFaceTB/SmolLM2-135M-Instruct")?;
//! let (llm, report) = weights.load(&burn::tensor::Device::flex())?;
//! # Ok(()) }
//! ```
//!
//! Loading is as strict as that of encoders: every parameter is filled, every tensor used or named as ignored.

mod gguf;
mod locate;
mod names;
mod notes;
mod sizes;

pub use locate::locate;

use crate::llm::config::{Family, LlmConfig};
use crate::llm::decoder::Llm;
use crate::llm::tokenizer::Tokenizer;
use burgess_base::{Context, Error, Result, digest};
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, LoadReport, Metadata};
use burn::tensor::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// An opened language model: its configuration and where its weights are. Nothing of them is in memory yet.
#[derive(Debug)]
pub struct Weights {
    /// The directory, or the file of GGUF.
    path: PathBuf,
    /// As in `config.json`; made from the metadata for GGUF.
    json: Value,
    config: LlmConfig,
    checkpoint: Checkpoint,
}

/// From what the tokenizer of a model is made.
#[derive(Debug, Clone)]
pub enum TokenizerSource<'a> {
    /// A `tokenizer.json`.
    Json(PathBuf),
    /// A `tokenizer.model` of SentencePiece.
    SentencePiece(PathBuf),
    /// `tokenizer.ggml.*` of a GGUF file.
    Gguf(Metadata<'a>),
}

/// What may lie beside the weights and changes what a model is or reads, in the order in which it is digested.
const DESCRIPTIONS: [&str; 9] = [
    "config.json",
    "chat.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
];

impl Weights {
    /// Opens the language model `name`; see [`locate`].
    ///
    /// # Errors
    /// It is not on this machine; its configuration asks for a network that the decoder is not.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_path(&locate(name)?)
    }

    /// Opens a directory, or a file of GGUF.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_path(path: &Path) -> Result<Self> {
        let step = || format!("opening the language model {}", path.display());
        Self::read(path).map_err(|e| e.context(step()))
    }

    fn read(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let (json, checkpoint) = match gguf::architecture(&checkpoint)? {
            Some(architecture) => (architecture.config(&checkpoint)?, checkpoint),
            None if path.is_dir() => of_directory(path, checkpoint)?,
            None => {
                return Err(Error::usage("this is a file of weights without a configuration")
                    .hint("name the directory with its config.json, or a .gguf file"));
            }
        };
        sizes::check(&json, &checkpoint)?;
        let config: LlmConfig = serde_json::from_value(json.clone()).context("reading its configuration")?;
        config.check().map_err(|e| e.hint("correct the configuration, or get the model's files again"))?;
        Ok(Self { path: path.to_path_buf(), json, config, checkpoint })
    }

    /// The directory, or the file of GGUF.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers of the network.
    pub fn config(&self) -> &LlmConfig {
        &self.config
    }

    /// The whole configuration, token ids and all, in the terms of `config.json`.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The opened files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model.
    ///
    /// # Errors
    /// The weights do not fit the configuration in any tensor; all of them are listed.
    pub fn load(&self, device: &Device) -> Result<(Llm, LoadReport)> {
        let step = || format!("loading the language model {}", self.path.display());
        let load = || {
            let module = self.config.init(device)?;
            match gguf::architecture(&self.checkpoint)? {
                Some(architecture) => {
                    checkpoint::load_with(module, &self.checkpoint, architecture.dialect, |parameter, values| {
                        Ok(architecture.change(&self.config, parameter, values))
                    })
                }
                None => checkpoint::load(module, &self.checkpoint, dialect(self.config.model_type)),
            }
        };
        load().map_err(|e| e.context(step()))
    }

    /// Checks without loading them that the weights have the keys and shapes of the configuration: only headers are
    /// read.
    ///
    /// # Errors
    /// As [`Weights::load`], but for numbers that are not finite.
    pub fn check(&self) -> Result<()> {
        let check = || {
            let module = self.config.init(&Device::flex())?;
            let dialect = match gguf::architecture(&self.checkpoint)? {
                Some(architecture) => architecture.dialect,
                None => dialect(self.config.model_type),
            };
            checkpoint::check(&module, &self.checkpoint, dialect)
        };
        check().map_err(|e| e.context(format!("checking the language model {}", self.path.display())))
    }

    /// Checks that there is an embedding for every entry of `tokenizer` that a text can become.
    ///
    /// Special tokens beyond the table are let pass, unless a text begins or ends with them: many files name an image
    /// or a filler that the model never had. Written out in a text, such a token is an error that names its id.
    ///
    /// # Errors
    /// Tells both numbers.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let rows = self.config.vocab_size;
        let special = tokenizer.special();
        let needed =
            |id: u32, token: &str| !tokenizer.is_special(token) || [special.bos, special.eos].contains(&Some(id));
        let vocabulary = tokenizer.vocabulary();
        let beyond = vocabulary.iter().filter(|(token, id)| **id as usize >= rows && needed(**id, token));
        let Some((token, id)) = beyond.min_by_key(|(_, id)| **id) else { return Ok(()) };
        Err(Error::failed(format!(
            "{}: the tokenizer has {} entries, the model embeddings for {rows} (`vocab_size`): `{}` has the id {id}",
            self.path.display(),
            vocabulary.len(),
            burgess_base::text::excerpt(token, 40),
        ))
        .hint("the tokenizer and the language model do not belong together: take both from one place"))
    }

    /// From what its tokenizer is made: `tokenizer.json` before `tokenizer.model` before the metadata of GGUF.
    ///
    /// # Errors
    /// There is none.
    pub fn tokenizer(&self) -> Result<TokenizerSource<'_>> {
        let directory = self.directory();
        let own = directory.map(|dir| [dir.join("tokenizer.json"), dir.join("tokenizer.model")]);
        match own {
            Some([json, _]) if json.is_file() => return Ok(TokenizerSource::Json(json)),
            Some([_, model]) if model.is_file() => return Ok(TokenizerSource::SentencePiece(model)),
            _ => {}
        }
        let metadata = self.checkpoint.metadata();
        match metadata.get("tokenizer.ggml.tokens") {
            Some(_) => Ok(TokenizerSource::Gguf(metadata)),
            None => Err(Error::failed(format!("{} has no tokenizer", self.path.display()))
                .hint("expected tokenizer.json or tokenizer.model beside the weights, or one in the GGUF file")),
        }
    }

    /// The directory whose other files speak of this model; nothing for a single file.
    pub fn directory(&self) -> Option<&Path> {
        self.path.is_dir().then_some(self.path.as_path())
    }

    /// Digest of the weights and of everything beside them that changes what the model answers.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self) -> Result<String> {
        let mut parts = Vec::new();
        for file in DESCRIPTIONS.iter().filter_map(|name| Some(self.directory()?.join(name))) {
            if file.is_file() {
                parts.push(digest::of_file(&file)?);
            }
        }
        parts.push(self.checkpoint.digest()?);
        digest::of_value(&parts)
    }
}

/// The names of a family's tensors in Hugging Face's layout.
pub fn dialect(family: Family) -> &'static Dialect {
    match family {
        Family::Phi3 => &names::FUSED,
        Family::Glm => &names::GLM,
        Family::Glm4 => &names::GLM_4,
        Family::Starcoder2 => &names::STARCODER_2,
        Family::Mixtral => &names::MIXTRAL,
        Family::Qwen2Moe | Family::Qwen3Moe | Family::Olmoe => &names::EXPERTS,
        _ => &names::SPLIT,
    }
}

/// The configuration in a directory of Hugging Face's layout, and the weights that it speaks of.
fn of_directory(dir: &Path, checkpoint: Checkpoint) -> Result<(Value, Checkpoint)> {
    let json: Value = burgess_base::json::read(&dir.join("config.json"))?;
    match json.get("text_config").and_then(Value::as_object) {
        Some(text) if json["model_type"] == "gemma3" => {
            let mut text = text.clone();
            for (key, value) in GEMMA_3_DEFAULTS {
                text.entry(key).or_insert(value.into());
            }
            let prefix = "language_model.";
            let inside = checkpoint.keys().any(|key| key.starts_with(prefix));
            Ok((Value::Object(text), if inside { checkpoint.inside(prefix)? } else { checkpoint }))
        }
        _ => Ok((json, checkpoint)),
    }
}

/// What the configurations of the language model within a Gemma 3 that sees leave out where it is as in
/// `Gemma3TextConfig`.
const GEMMA_3_DEFAULTS: [(&str, u64); 4] = [
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("vocab_size", 262_208),
    ("max_position_embeddings", 131_072),
];
