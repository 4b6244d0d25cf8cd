//! Opens Cambrian-1's released models (`nyu-visionx/cambrian-8b`, `-13b`, `-34b`, `-phi3-3b`): directories in Hugging
//! Face's layout whose `config.json` describes connector and language model, and whose checkpoint holds both.
//!
//! ```no_run
//! use burgess_probe::llm::ChatTemplate;
//! use burgess_probe::released::ReleasedModel;
//! # fn f() -> burgess_base::Result<()> {
//! let released = ReleasedModel::open("cambrian-8b".as_ref())?;
//! let model = released.load(ChatTemplate::named("llama_3")?, &burn::tensor::Device::flex())?;
//! # Ok(()) }
//! ```
//!
//! The checkpoint does not contain the encoders: they were frozen, and each is the published one that the
//! configuration names.

use crate::connector::{ConnectorConfig, ConnectorKind};
use crate::llm::weights::load_network;
use crate::llm::{ChatTemplate, LlmConfig, WeightStorage};
use crate::mllm::{Mllm, MllmConfig};
use burgess_base::{Error, Result, json as foreign, nearest, text};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect};
use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Upstream's names of encoders, and the ids of their cards. A name may end in `-interp<tokens>`.
const TOWERS: [(&str, &str); 4] = [
    ("siglip/CLIP-ViT-SO400M-14-384", "siglip-so400m14-384"),
    ("openai/clip-vit-large-patch14-336", "openai-clip-l14-336"),
    ("facebook/dinov2-giant-res378", "dinov2-g14-378"),
    ("clip-convnext-XXL-multi-stage", "openclip-convnext-xxl-1024-multi-stage"),
];

/// Upstream's `model_type`, and that of the language model in it.
const FAMILIES: [(&str, &str); 5] = [
    ("cambrian_llama", "llama"),
    ("cambrian_phi3", "phi3"),
    ("cambrian_mistral", "mistral"),
    ("llava_llama", "llama"),
    ("cambrian", "llama"),
];

/// Keys below `model.` that belong to the language model; the connector ignores them.
const OF_LLM: [&str; 5] = [
    "embed_tokens.weight",
    "layers.{rest}",
    "norm.weight",
    "rotary_emb.{rest}",
    // Unfrozen encoders; a configuration that has them is rejected earlier.
    "vision_tower_aux_list.{rest}",
];

/// Keys that belong to the connector; the language model ignores them.
const OF_CONNECTOR: [&str; 8] = [
    "model.vision_query",
    "model.image_newline",
    "model.mm_projector.{rest}",
    "model.mm_projector_aux_{k}.{rest}",
    "model.vision_sampler_{g}.{rest}",
    "model.vision_sampler_layers.{rest}",
    "model.rotary_emb.inv_freq",
    "model.layers.{i}.self_attn.rotary_emb.inv_freq",
];

/// A released model whose configuration was read; its weights are not in memory yet.
#[derive(Debug)]
pub struct ReleasedModel {
    dir: PathBuf,
    /// The encoders in order, with upstream's preprocessing.
    pub encoders: Vec<EncoderCard>,
    /// The connector's configuration.
    pub connector: ConnectorConfig,
    /// The language model's configuration.
    pub llm: LlmConfig,
    /// Number of tokens before the image in upstream's prompts, which identifies the chat template. It is not needed to
    /// place the image, which has a placeholder.
    pub image_position: Option<usize>,
}

/// The fields of `config.json` that describe connector and encoders.
#[derive(Debug, Deserialize)]
pub(crate) struct CambrianConfig {
    pub mm_projector_type: String,
    mm_vision_tower_aux_list: Vec<String>,
    mm_vision_tower_aux_token_len_list: Vec<usize>,
    image_token_len: usize,
    #[serde(default)]
    query_num_list: Vec<usize>,
    pub num_query_group: Option<usize>,
    pub vision_hidden_size: Option<usize>,
    pub connector_depth: Option<usize>,
    pub connector_only: Option<bool>,
    pub start_of_vision_sampler_layers: Option<usize>,
    pub stride_of_vision_sampler_layers: Option<usize>,
    pub num_of_vision_sampler_layers: Option<usize>,
    image_position: Option<usize>,
    #[serde(default)]
    unfreeze_mm_vision_tower: bool,
    #[serde(default)]
    mm_use_im_start_end: bool,
}

impl ReleasedModel {
    /// Whether `dir` has the `config.json` of a released Cambrian-1 model.
    pub fn is_model_dir(dir: &Path) -> bool {
        let config = std::fs::read(dir.join("config.json")).ok();
        let json = config.and_then(|bytes| foreign::from_slice::<Value>(&bytes).ok());
        json.is_some_and(|json| json.get("mm_vision_tower_aux_list").is_some())
    }

    /// Reads the configuration of a released model.
    ///
    /// # Errors
    /// When it is not a released model, or has a connector, encoder or language model that is not supported.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("config.json");
        let step = || format!("reading {}", file.display());
        let json: Value = foreign::read(&file)?;
        Self::of(dir, json).map_err(|e| e.context(step()))
    }

    fn of(dir: &Path, mut json: Value) -> Result<Self> {
        let written: CambrianConfig = serde_json::from_value(json.clone())
            .map_err(|e| Error::from(e).hint("expected the `config.json` of a released Cambrian-1 model"))?;
        let family = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
            return Err(Error::failed(format!("`model_type` = `{}` is not supported", text::excerpt(family, 60)))
                .hint(format!("known: {}", FAMILIES.map(|(name, _)| name).join(", "))));
        };
        if let Some(fields) = json.as_object_mut() {
            fields.insert("model_type".into(), (*family).into());
        }
        let llm: LlmConfig = serde_json::from_value(json)?;
        llm.check()?;
        let encoders: Vec<EncoderCard> =
            written.mm_vision_tower_aux_list.iter().map(|name| tower(name)).collect::<Result<_>>()?;
        let connector = written.connector(&encoders, llm.hidden_size).map_err(|e| {
            e.context(
                "its connector (`connector_depth`, `vision_hidden_size`, `query_num_list`, `image_token_len`, \
                 …)",
            )
        })?;
        Ok(Self { dir: dir.to_path_buf(), encoders, connector, llm, image_position: written.image_position })
    }

    /// Loads the model: every parameter is filled, and every key of the checkpoint is used.
    ///
    /// # Errors
    /// When the weights are missing or damaged, or do not match the configuration.
    pub fn load(&self, chat: ChatTemplate, device: &Device) -> Result<Mllm> {
        let step = || format!("loading {}", self.dir.display());
        let load = || {
            let connector = self.connector.init(device)?;
            let names = Dialect { name: "cambrian", rules: connector.dialect().rules, ignored: &OF_LLM };
            let half = Checkpoint::open(&self.dir)?.inside("model.")?;
            let (connector, _) = checkpoint::load(connector, &half, &names)?;
            let names =
                Dialect { name: "cambrian-llm", rules: self.llm.model_type.dialect.rules, ignored: &OF_CONNECTOR };
            let storage = WeightStorage::of_frozen(&self.llm, device);
            let (llm, _) = load_network(&self.llm, &Checkpoint::open(&self.dir)?, &names, storage, device)?;
            let config = MllmConfig {
                connector: self.connector.clone(),
                llm: self.llm.clone(),
                chat,
                encoders: Vec::new(),
                grid: None,
            };
            Mllm::from_parts(config, connector, llm)
        };
        load().map_err(|e: Error| e.context(step()))
    }
}

/// Returns the card of an encoder with upstream's name.
fn tower(name: &str) -> Result<EncoderCard> {
    let plain = match name.rsplit_once("-interp") {
        Some((plain, tokens)) if tokens.bytes().all(|b| b.is_ascii_digit()) => plain,
        _ => name,
    };
    match TOWERS.iter().find(|(known, _)| *known == plain) {
        Some((_, id)) => EncoderCard::find(id),
        None => {
            let known = TOWERS.map(|(known, _)| known);
            let near = nearest(plain, known);
            let hint = if near.is_empty() { known.join(", ") } else { near.join(", ") };
            Err(Error::failed(format!(
                "`mm_vision_tower_aux_list`: there is no card for the encoder `{}`",
                text::excerpt(name, 80)
            ))
            .hint(format!("known: {hint}")))
        }
    }
}

/// Returns the side of the square grid with this number of tokens; `key` is for the error.
fn side(key: &str, tokens: usize) -> Result<usize> {
    let side = tokens.isqrt();
    match side * side == tokens && tokens > 0 {
        true => Ok(side),
        false => Err(Error::failed(format!("`{key}`: {tokens} is not the number of tokens of a square grid"))),
    }
}

impl CambrianConfig {
    fn connector(&self, encoders: &[EncoderCard], llm_width: usize) -> Result<ConnectorConfig> {
        if self.mm_vision_tower_aux_token_len_list.len() != encoders.len() {
            return Err(Error::failed(format!(
                "`mm_vision_tower_aux_token_len_list` has {} entries, `mm_vision_tower_aux_list` {}; expected as many",
                self.mm_vision_tower_aux_token_len_list.len(),
                encoders.len()
            )));
        }
        if self.unfreeze_mm_vision_tower || self.mm_use_im_start_end {
            return Err(Error::failed(
                "`unfreeze_mm_vision_tower` and `mm_use_im_start_end` are not supported, must be false",
            )
            .hint("open one of the released models: they have neither"));
        }
        let grids = self.encoder_grids()?;
        let towers = encoders.iter().zip(&grids);
        let towers: Vec<(usize, [usize; 2])> =
            towers.map(|(card, &g)| Ok((card.architecture.width(&card.tap)?, [g, g]))).collect::<Result<_>>()?;
        ConnectorConfig::new(ConnectorKind::from_cambrian(self)?, &towers, llm_width)
    }

    /// Returns the side of the grid of each encoder's features.
    pub fn encoder_grids(&self) -> Result<Vec<usize>> {
        let grids = self.mm_vision_tower_aux_token_len_list.iter();
        grids.map(|n| side("mm_vision_tower_aux_token_len_list", *n)).collect()
    }

    /// Returns the side of the query grid of each group of the SVA.
    pub fn query_grids(&self) -> Result<Vec<usize>> {
        self.query_num_list.iter().map(|n| side("query_num_list", *n)).collect()
    }

    /// Returns the side of the grid of image tokens.
    pub fn image_grid(&self) -> Result<usize> {
        side("image_token_len", self.image_token_len)
    }
}
