//! Loads pretrained language models: a directory in Hugging Face's layout (`config.json` beside safetensors or
//! `pytorch_model.bin`, whole or sharded), a GGUF file, or a repository of the hub that holds either.
//!
//! ```no_run
//! use burgess_probe::llm::Weights;
//! # fn f() -> burgess_base::Result<()> {
//! let weights = Weights::open("HuggingFaceTB/SmolLM2-135M-Instruct")?;
//! let (llm, report) = weights.load(&burn::tensor::Device::flex())?;
//! # Ok(()) }
//! ```
//!
//! Loading is as strict as for encoders: every parameter is filled, every tensor used or listed as ignored.

mod adapters;
mod gguf;
mod locate;
mod merged;
pub(crate) mod names;
mod notes;
mod sizes;

pub use adapters::save_adapters;
pub use locate::locate;
pub use merged::{is_reference, write_merged};

use crate::llm::config::LlmConfig;
use crate::llm::decoder::Llm;
use crate::llm::stored::WeightStorage;
use crate::llm::tokenizer::Tokenizer;
use adapters::AdapterFiles;
use burgess_base::{Context, Error, Result, digest};
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, LoadReport, Metadata, Parameter};
use burgess_encoders::kernel::stored::RowOrder;
use burgess_encoders::transfer;
use burn::tensor::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened language model: its configuration and the location of its weights, which are not in memory yet.
#[derive(Debug)]
pub struct Weights {
    /// The directory or GGUF file.
    path: PathBuf,
    /// The contents of `config.json`; for GGUF, derived from the metadata.
    json: Value,
    config: LlmConfig,
    checkpoint: Checkpoint,
    /// The directory or GGUF file that holds the weights: `path`, or that to which a directory of adapters refers.
    base: PathBuf,
    adapters: Option<AdapterFiles>,
}

/// Where the tokenizer of a model comes from.
#[derive(Debug, Clone)]
pub enum TokenizerSource<'a> {
    /// A `tokenizer.json` file.
    Json(PathBuf),
    /// A SentencePiece `tokenizer.model` file.
    SentencePiece(PathBuf),
    /// The `tokenizer.ggml.*` metadata of a GGUF file.
    Gguf(Metadata<'a>),
}

/// Files beside the weights that change the model's answers, in the order in which they are digested.
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
    /// When it is not on this machine, or its configuration needs a network that the decoder does not support.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_path(&locate(name)?)
    }

    /// Opens a directory or a GGUF file.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_path(path: &Path) -> Result<Self> {
        let step = || format!("opening the language model {}", path.display());
        Self::read(path).map_err(|e| e.context(step()))
    }

    /// Opens the files and reads the configuration.
    fn read(path: &Path) -> Result<Self> {
        if let Some(adapters) = AdapterFiles::find(path)? {
            let base = adapters.base(Self::read)?;
            return Ok(Self { path: path.to_path_buf(), adapters: Some(adapters), ..base });
        }
        let checkpoint = Checkpoint::open(path)?;
        let (json, checkpoint) = match gguf::architecture(&checkpoint)? {
            Some(architecture) => (architecture.config(&checkpoint)?, checkpoint),
            None if path.is_dir() => of_directory(path, checkpoint)?,
            None => {
                return Err(Error::usage("a file of weights without a configuration")
                    .hint("give the directory with its config.json, or a .gguf file"));
            }
        };
        sizes::check(&json, &checkpoint)?;
        let config: LlmConfig = serde_json::from_value(json.clone()).context("reading its configuration")?;
        config.check().map_err(|e| e.hint("correct the configuration, or get the model's files again"))?;
        Ok(Self { path: path.to_path_buf(), base: path.to_path_buf(), json, config, checkpoint, adapters: None })
    }

    /// The path of the directory or GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &LlmConfig {
        &self.config
    }

    /// The whole configuration including token ids, with the keys of `config.json`.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The opened weight files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Loads the weights into a model as f32 parameters, with its adapters merged into them.
    ///
    /// # Errors
    /// When a tensor does not match the configuration; all mismatches are listed.
    pub fn load(&self, device: &Device) -> Result<(Llm, LoadReport)> {
        self.load_as(WeightStorage::F32, device)
    }

    /// Loads the weights into a model that is not trained, or only by LoRA: as [`WeightStorage::of_frozen`] says.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn load_frozen(&self, device: &Device) -> Result<(Llm, LoadReport)> {
        self.load_as(WeightStorage::of_frozen(&self.config, device), device)
    }

    /// Loads the weights into a model.
    ///
    /// # Errors
    /// As [`Weights::load`]; or when weights are to stay as stored on a device other than the CPU backend.
    pub fn load_as(&self, storage: WeightStorage, device: &Device) -> Result<(Llm, LoadReport)> {
        let load = || {
            let (mut llm, report) = match gguf::architecture(&self.checkpoint)? {
                Some(architecture) => {
                    let (keep, restore) = (
                        |parameter: &Parameter| architecture.row_order(&self.config, parameter),
                        |parameter: &Parameter, values| Ok(architecture.restore(&self.config, parameter, values)),
                    );
                    network(&self.config, &self.checkpoint, architecture.dialect, storage, device, keep, restore)?
                }
                None => load_network(&self.config, &self.checkpoint, self.config.model_type.dialect, storage, device)?,
            };
            llm.base = llm.has_stored_weights().then(|| Arc::new(self.base.clone()));
            if let Some(adapters) = &self.adapters {
                llm = adapters.attach(llm, device)?.merge_lora();
            }
            Ok((llm, report))
        };
        load().map_err(|e: Error| e.context(format!("loading the language model {}", self.path.display())))
    }

    /// Size in memory, in bytes, of weights that stay as stored: 16-bit matrices and quantised blocks as in the files,
    /// all others as f32. Reads only the files' headers.
    pub fn stored_bytes(&self) -> u64 {
        let size = |key: &str| {
            let shape = self.checkpoint.shape(key).unwrap_or_default();
            let stored = self.checkpoint.stored_rows(key, 0..shape.first().copied().unwrap_or(0));
            stored.map_or_else(|| size_of::<f32>() * shape.iter().product::<usize>(), |matrix| matrix.size()) as u64
        };
        self.checkpoint.keys().map(size).sum()
    }

    /// Checks keys and shapes of the weights against the configuration; reads only the files' headers.
    ///
    /// # Errors
    /// As [`Weights::load`], except for values that are not finite.
    pub fn check(&self) -> Result<()> {
        let check = || {
            let module = self.config.init(&Device::flex())?;
            let dialect = match gguf::architecture(&self.checkpoint)? {
                Some(architecture) => architecture.dialect,
                None => self.config.model_type.dialect,
            };
            checkpoint::check(&module, &self.checkpoint, dialect)
        };
        check().map_err(|e| e.context(format!("checking the language model {}", self.path.display())))
    }

    /// Checks that there is an embedding for every entry of `tokenizer` that a text can produce.
    ///
    /// Special tokens beyond the table are allowed unless they begin or end a text: many files name an image or
    /// padding token that the model never had. Such a token in a text is an error that names its id.
    ///
    /// # Errors
    /// When the vocabulary is larger than the table; the error gives both sizes.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let rows = self.config.vocab_size;
        let special = tokenizer.special();
        let needed =
            |id: u32, token: &str| !tokenizer.is_special(token) || [special.bos, special.eos].contains(&Some(id));
        let vocabulary = tokenizer.vocabulary();
        let beyond = vocabulary.iter().filter(|(token, id)| **id as usize >= rows && needed(**id, token));
        let Some((token, id)) = beyond.min_by_key(|(_, id)| **id) else { return Ok(()) };
        Err(Error::failed(format!(
            "{}: the tokenizer has {} entries, but the model only {rows} embeddings (`vocab_size`): `{}` has the id \
             {id}",
            self.path.display(),
            vocabulary.len(),
            burgess_base::text::excerpt(token, 40),
        ))
        .hint("use the tokenizer and the language model of the same directory"))
    }

    /// Source of the tokenizer: `tokenizer.json`, else `tokenizer.model`, else the GGUF metadata.
    ///
    /// # Errors
    /// When there is no tokenizer.
    pub fn tokenizer_source(&self) -> Result<TokenizerSource<'_>> {
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

    /// The directory with the files beside the weights; `None` for a single file.
    pub fn directory(&self) -> Option<&Path> {
        self.path.is_dir().then_some(self.path.as_path())
    }

    /// Digest of the weights and of all files beside them that change the model's answers.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> Result<String> {
        let mut parts = Vec::new();
        for file in DESCRIPTIONS.iter().filter_map(|name| Some(self.directory()?.join(name))) {
            if file.is_file() {
                parts.push(digest::of_file(&file)?);
            }
        }
        parts.push(self.checkpoint.digest()?);
        if let Some(adapters) = &self.adapters {
            parts.extend(adapters.digests()?);
        }
        digest::of_value(&parts)
    }
}

/// Loads a language model of this configuration from tensors with the names of `dialect`.
///
/// # Errors
/// As [`Weights::load_as`].
pub(crate) fn load_network(
    config: &LlmConfig,
    checkpoint: &Checkpoint,
    dialect: &Dialect,
    storage: WeightStorage,
    device: &Device,
) -> Result<(Llm, LoadReport)> {
    network(config, checkpoint, dialect, storage, device, |_| RowOrder::Outputs, |_, values| Ok(values))
}

/// [`load_network`] where `order` returns the order of a matrix's rows in the file, and `restore` undoes changes to
/// values.
fn network(
    config: &LlmConfig,
    checkpoint: &Checkpoint,
    dialect: &Dialect,
    storage: WeightStorage,
    device: &Device,
    order: impl Fn(&Parameter) -> RowOrder,
    restore: impl Fn(&Parameter, Vec<f32>) -> Result<Vec<f32>>,
) -> Result<(Llm, LoadReport)> {
    if storage == WeightStorage::AsStored && !transfer::is_host(device) {
        return Err(Error::failed("weights can stay as their file stores them on the device flex only"));
    }
    let keep = |parameter: &Parameter| {
        (storage == WeightStorage::AsStored && Llm::can_store(&parameter.path)).then(|| order(parameter))
    };
    let module = config.init(device)?;
    let (mut llm, report, matrices) = checkpoint::load_stored(module, checkpoint, dialect, restore, keep)?;
    llm.set_stored(matrices);
    Ok((llm, report))
}

/// Reads the configuration of a directory in Hugging Face's layout, and the weights that it refers to.
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

/// Defaults of `Gemma3TextConfig`, which the configurations of multimodal Gemma 3 models leave out.
const GEMMA_3_DEFAULTS: [(&str, u64); 4] = [
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("vocab_size", 262_208),
    ("max_position_embeddings", 131_072),
];
