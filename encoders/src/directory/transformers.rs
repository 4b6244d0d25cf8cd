//! Reads `config.json` of Hugging Face transformers.
//!
//! Hyper-parameters that follow from the shapes of the tensors (width, depth, class token, layer scale ...) are derived
//! from these, and the configuration must agree where it states them. All others are read from the configuration.

use super::config_values::{
    ChannelStats, ConfigSection, HALF, IMAGENET, OPENAI, SupportedValues, first_unsupported, integer, side,
};
use super::derived::{DerivedEncoder, locate};
use super::processor::{self, DefaultProcessor};
use super::shapes::TensorShapes;
use crate::arch::{Activation, ArchitectureConfig, SamConfig, Tap, VitConfig};
use crate::checkpoint::{Checkpoint, CheckpointPart, Dialect};
use crate::preprocess::Interpolation::{self, Bicubic, Bilinear};
use crate::preprocess::Preprocess;
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Default number of attention heads of all these models in transformers; `config.json` may omit it.
const HEADS: usize = 12;

/// A family of transformers models: its `model_type`s, the dialect of its weights, and its defaults.
pub(super) struct ModelFamily {
    types: &'static [&'static str],
    dialect: &'static str,
    act: &'static str,
    eps: f64,
    image_size: usize,
    tap: DefaultTap,
    /// Whether position embeddings are antialiased when they are resampled to a smaller grid.
    antialias: bool,
    /// Default drop-path rate; only in BEiT it increases linearly with depth.
    drop_path: f64,
    /// Keys for which only one value is supported.
    fixed: &'static SupportedValues,
    /// Preprocessing of the published models of this family.
    default_processor: DefaultProcessor,
}

/// The features that are tapped by default.
#[derive(PartialEq)]
enum DefaultTap {
    /// The output of the last block, after the final norm.
    AfterNorm,
    /// The output of the last block, before the final norm, as used by the heads of depth models.
    BeforeNorm,
    /// The output of the block before the last, without the final norm (which CLIP applies to the class token only), as
    /// used by LLaVA.
    BlockBeforeLast,
}

const fn default_processor(
    interpolation: Interpolation,
    colours: ChannelStats,
    class: &'static str,
) -> DefaultProcessor {
    DefaultProcessor { interpolation, colours, class }
}

const PLAIN: ModelFamily = ModelFamily {
    types: &["vit"],
    dialect: "transformers-vit",
    act: "gelu",
    eps: 1e-12,
    image_size: 224,
    tap: DefaultTap::AfterNorm,
    antialias: false,
    drop_path: 0.0,
    fixed: &[("num_channels", "3")],
    default_processor: default_processor(Bilinear, HALF, "ViTImageProcessor"),
};

const FAMILIES: [ModelFamily; 12] = [
    PLAIN,
    ModelFamily {
        types: &["deit"],
        default_processor: default_processor(Bicubic, IMAGENET, "DeiTImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["vit_mae", "ijepa"],
        default_processor: default_processor(Bicubic, IMAGENET, "ViTImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["vit_msn"],
        eps: 1e-6,
        default_processor: default_processor(Bicubic, IMAGENET, "ViTImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["clip", "clip_vision_model"],
        dialect: "transformers-clip",
        act: "quick_gelu",
        eps: 1e-5,
        tap: DefaultTap::BlockBeforeLast,
        default_processor: default_processor(Bicubic, OPENAI, "CLIPImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["siglip", "siglip_vision_model"],
        dialect: "transformers-siglip",
        act: "gelu_pytorch_tanh",
        eps: 1e-6,
        default_processor: default_processor(Bicubic, HALF, "SiglipImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["dinov2"],
        dialect: "transformers-dinov2",
        eps: 1e-6,
        default_processor: default_processor(Bicubic, IMAGENET, "BitImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["dinov2_with_registers"],
        dialect: "transformers-dinov2",
        eps: 1e-6,
        antialias: true,
        default_processor: default_processor(Bicubic, IMAGENET, "BitImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["beit"],
        dialect: "transformers-beit",
        drop_path: 0.1,
        fixed: &[("num_channels", "3"), ("use_shared_relative_position_bias", "false")],
        default_processor: default_processor(Bicubic, HALF, "BeitImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["data2vec-vision"],
        dialect: "transformers-beit",
        drop_path: 0.1,
        fixed: &[("num_channels", "3"), ("use_shared_relative_position_bias", "false")],
        default_processor: default_processor(Bicubic, IMAGENET, "BeitImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["dpt"],
        image_size: 384,
        tap: DefaultTap::BeforeNorm,
        fixed: &[("num_channels", "3"), ("is_hybrid", "false")],
        default_processor: default_processor(Bicubic, HALF, "DPTImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["sam", "sam_vision_model"],
        dialect: "transformers-sam",
        eps: 1e-6,
        image_size: 1024,
        tap: DefaultTap::BeforeNorm,
        fixed: &[("num_channels", "3"), ("qkv_bias", "true"), ("use_rel_pos", "true")],
        default_processor: default_processor(Bilinear, IMAGENET, "SamImageProcessor"),
        ..PLAIN
    },
];

/// Derives the encoder from its configuration and the shapes of its tensors.
pub(super) fn derive(model_type: &str, config: &Value, dir: &Path, weights: &Checkpoint) -> Result<DerivedEncoder> {
    let mut kind = kind(model_type)?;
    let mut vision = section(config.get("vision_config").unwrap_or(config));
    let outer = kind.tap == DefaultTap::BeforeNorm;
    // A depth model whose encoder belongs to another family.
    if let Some(backbone) = vision.get("backbone_config") {
        let inner = backbone.get("model_type").and_then(Value::as_str).unwrap_or_default();
        kind = self::kind(inner).map_err(|e| e.context("reading backbone_config"))?;
        vision = section(backbone);
    }
    if let Some(key) = first_unsupported(kind.fixed, |key| vision.get(key))? {
        return Err(vision.unsupported(key));
    }
    let gated = vision.read("use_swiglu_ffn", Value::as_bool)?.unwrap_or(false);
    let dialect = if gated { "transformers-dinov2-swiglu" } else { kind.dialect };
    let own_size = vision.read("image_size", side)?.unwrap_or(kind.image_size);
    let version = config.get("transformers_version").and_then(Value::as_str);
    let (preprocess, notes) = processor::preprocess(dir, model_type, kind.default_processor, own_size, version)?;
    let model = Model { kind, model_type, vision, outer, gated, dialect, preprocess, notes };
    let wanted = Dialect::find(dialect)?.names("patch_embed.proj.weight").into_iter().flatten().next();
    let wanted = wanted.unwrap_or_default();
    let parts = CheckpointPart::all(weights, Dialect::find(dialect)?, &wanted);
    if parts.is_empty() {
        return Err(Error::failed(format!("the weights have no `{wanted}`"))
            .hint("download config.json and the weights again: they belong to different models"));
    }
    locate(weights, parts, |part| model.at(weights, part))
}

/// A model before its weights are located.
struct Model<'a> {
    kind: &'static ModelFamily,
    model_type: &'a str,
    vision: ConfigSection<'a>,
    /// Whether features are tapped before the final norm.
    outer: bool,
    gated: bool,
    dialect: &'static str,
    preprocess: Preprocess,
    notes: Vec<String>,
}

impl Model<'_> {
    /// Describes the model with its weights in `part`.
    fn at(&self, weights: &Checkpoint, part: &CheckpointPart) -> Result<DerivedEncoder> {
        let Self { kind, vision, outer, gated, dialect, .. } = self;
        let (preprocess, mut notes) = (self.preprocess.clone(), self.notes.clone());
        let shapes = TensorShapes::new(weights, dialect, part)?;
        let heads = vision.read("num_attention_heads", integer)?.unwrap_or(HEADS);
        let activation = match vision.read("hidden_act", Value::as_str)?.unwrap_or(kind.act) {
            _ if *gated => Activation::Swiglu,
            "gelu" => Activation::Gelu,
            "quick_gelu" => Activation::QuickGelu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
            _ => return Err(vision.unsupported("hidden_act")),
        };
        let norm_eps = vision.read("layer_norm_eps", Value::as_f64)?.unwrap_or(kind.eps);
        let (architecture, final_norm) = if kind.dialect == "transformers-sam" {
            if activation != Activation::Gelu {
                return Err(vision.unsupported("hidden_act"));
            }
            let indexes = |list: &Value| list.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
            let sam = SamConfig {
                heads,
                window: vision.read("window_size", integer)?.unwrap_or(14),
                global_blocks: vision.read("global_attn_indexes", indexes)?.unwrap_or_else(|| vec![2, 5, 8, 11]),
                norm_eps,
                ..shapes.sam(preprocess.size)?
            };
            agrees(vision, sam.width, sam.depth, sam.mlp_hidden, sam.patch)?;
            (ArchitectureConfig::Sam(sam), false)
        } else {
            let mut vit = shapes.vit(preprocess.size)?;
            agrees(vision, vit.width, vit.depth, vit.mlp_hidden, vit.patch)?;
            let final_norm = vit.final_norm && !outer;
            let rate = vision.read("drop_path_rate", Value::as_f64)?.unwrap_or(kind.drop_path);
            let drop_path = if kind.dialect == "transformers-beit" { rate } else { 0.0 };
            if rate > drop_path {
                notes.push(format!("drop_path_rate = {rate} is not supported: no drop path is used"));
            }
            let position_antialias = kind.antialias;
            vit = VitConfig { drop_path, heads, activation, norm_eps, final_norm, position_antialias, ..vit };
            (ArchitectureConfig::Vit(vit), final_norm)
        };
        let before = kind.tap == DefaultTap::BlockBeforeLast && !outer;
        let tap = Tap { layer: if before { -2 } else { -1 }, norm: final_norm && !before, ..Tap::default() };
        let (family, part) = (self.model_type.into(), part.clone());
        Ok(DerivedEncoder { family, dialect, part, architecture, preprocess, tap, notes })
    }
}

fn kind(model_type: &str) -> Result<&'static ModelFamily> {
    let known = || FAMILIES.iter().flat_map(|k| k.types).copied().collect::<Vec<_>>().join(", ");
    FAMILIES.iter().find(|k| k.types.contains(&model_type)).ok_or_else(|| {
        Error::failed(format!("config.json is that of a `{model_type}` model, which is not supported"))
            .hint(format!("use a model of one of these types: {}", known()))
    })
}

/// Returns the section of `config.json` that describes the encoder.
fn section(table: &Value) -> ConfigSection<'_> {
    ConfigSection { table, before: "config.json: ", hint: "write a card: this value is not supported" }
}

/// Checks that the configuration agrees with the shapes of the weights.
///
/// # Errors
/// A value of the configuration differs from that of the weights.
fn agrees(config: &ConfigSection, width: usize, depth: usize, mlp_hidden: usize, patch: usize) -> Result<()> {
    let told = [
        ("hidden_size", width),
        ("num_hidden_layers", depth),
        ("intermediate_size", mlp_hidden),
        ("mlp_dim", mlp_hidden),
        ("patch_size", patch),
    ];
    for (key, found) in told {
        if let Some(said) = config.read(key, side)?
            && said != found
        {
            return Err(Error::failed(format!("config.json has {key} = {said}, but the weights have {found}"))
                .hint("download config.json and the weights again: they belong to different models"));
        }
    }
    Ok(())
}
