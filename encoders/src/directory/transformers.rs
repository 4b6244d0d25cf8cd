//! `config.json` of Hugging Face transformers.
//!
//! Hyper-parameters that follow from the shapes of the tensors (width, depth, class token, layer scale ...) are read
//! from these, and the configuration must agree where it states them. Only the others are read from the configuration.

use super::processor::{self, Published};
use super::shapes::TensorShapes;
use super::{Colours, Fixed, Found, HALF, IMAGENET, OPENAI, Section, otherwise, placed, side, whole};
use crate::arch::{Activation, ArchitectureConfig, SamConfig, Tap, VitConfig};
use crate::checkpoint::{Checkpoint, CheckpointPart, Dialect};
use crate::preprocess::Interpolation::{self, Bicubic, Bilinear};
use crate::preprocess::Preprocess;
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// The default number of heads of all these models in transformers, which `config.json` may omit.
const HEADS: usize = 12;

/// A kind of transformers model: its `model_type`s, the dialect of its weights, and its defaults.
pub(super) struct Kind {
    types: &'static [&'static str],
    dialect: &'static str,
    act: &'static str,
    eps: f64,
    image_size: usize,
    tap: Last,
    /// Whether position embeddings are antialiased when they are resampled to a smaller grid.
    antialias: bool,
    /// Default drop-path rate; only BEiT lets it grow from block to block.
    drop_path: f64,
    /// Keys for which only one value is supported.
    fixed: &'static Fixed,
    /// Preprocessing of the published models of this kind.
    published: Published,
}

/// The features that are tapped by default.
#[derive(PartialEq)]
enum Last {
    /// The output of the last block, after the final norm.
    Normed,
    /// The output of the last block, before the final norm, as the heads of depth models use it.
    Bare,
    /// LLaVA's tap of CLIP: the block before the last, without the final norm, which is for the class token only.
    Before,
}

const fn published(interpolation: Interpolation, colours: Colours, class: &'static str) -> Published {
    Published { interpolation, colours, class }
}

const PLAIN: Kind = Kind {
    types: &["vit"],
    dialect: "transformers-vit",
    act: "gelu",
    eps: 1e-12,
    image_size: 224,
    tap: Last::Normed,
    antialias: false,
    drop_path: 0.0,
    fixed: &[("num_channels", "3")],
    published: published(Bilinear, HALF, "ViTImageProcessor"),
};

const KINDS: [Kind; 12] = [
    PLAIN,
    Kind { types: &["deit"], published: published(Bicubic, IMAGENET, "DeiTImageProcessor"), ..PLAIN },
    Kind { types: &["vit_mae", "ijepa"], published: published(Bicubic, IMAGENET, "ViTImageProcessor"), ..PLAIN },
    Kind { types: &["vit_msn"], eps: 1e-6, published: published(Bicubic, IMAGENET, "ViTImageProcessor"), ..PLAIN },
    Kind {
        types: &["clip", "clip_vision_model"],
        dialect: "transformers-clip",
        act: "quick_gelu",
        eps: 1e-5,
        tap: Last::Before,
        published: published(Bicubic, OPENAI, "CLIPImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["siglip", "siglip_vision_model"],
        dialect: "transformers-siglip",
        act: "gelu_pytorch_tanh",
        eps: 1e-6,
        published: published(Bicubic, HALF, "SiglipImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["dinov2"],
        dialect: "transformers-dinov2",
        eps: 1e-6,
        published: published(Bicubic, IMAGENET, "BitImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["dinov2_with_registers"],
        dialect: "transformers-dinov2",
        eps: 1e-6,
        antialias: true,
        published: published(Bicubic, IMAGENET, "BitImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["beit"],
        dialect: "transformers-beit",
        drop_path: 0.1,
        fixed: &[("num_channels", "3"), ("use_shared_relative_position_bias", "false")],
        published: published(Bicubic, HALF, "BeitImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["data2vec-vision"],
        dialect: "transformers-beit",
        drop_path: 0.1,
        fixed: &[("num_channels", "3"), ("use_shared_relative_position_bias", "false")],
        published: published(Bicubic, IMAGENET, "BeitImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["dpt"],
        image_size: 384,
        tap: Last::Bare,
        fixed: &[("num_channels", "3"), ("is_hybrid", "false")],
        published: published(Bicubic, HALF, "DPTImageProcessor"),
        ..PLAIN
    },
    Kind {
        types: &["sam", "sam_vision_model"],
        dialect: "transformers-sam",
        eps: 1e-6,
        image_size: 1024,
        tap: Last::Bare,
        fixed: &[("num_channels", "3"), ("qkv_bias", "true"), ("use_rel_pos", "true")],
        published: published(Bilinear, IMAGENET, "SamImageProcessor"),
        ..PLAIN
    },
];

/// Describes the model in `dir`, without its weights.
pub(super) fn found(model_type: &str, config: &Value, dir: &Path, weights: &Checkpoint) -> Result<Found> {
    let mut kind = kind(model_type)?;
    let mut vision = section(config.get("vision_config").unwrap_or(config));
    let outer = kind.tap == Last::Bare;
    // A depth model whose encoder is of another kind.
    if let Some(backbone) = vision.get("backbone_config") {
        let inner = backbone.get("model_type").and_then(Value::as_str).unwrap_or_default();
        kind = self::kind(inner).map_err(|e| e.context("reading backbone_config"))?;
        vision = section(backbone);
    }
    if let Some(key) = otherwise(kind.fixed, |key| vision.get(key))? {
        return Err(vision.refused(key));
    }
    let gated = vision.read("use_swiglu_ffn", Value::as_bool)?.unwrap_or(false);
    let dialect = if gated { "transformers-dinov2-swiglu" } else { kind.dialect };
    let own_size = vision.read("image_size", side)?.unwrap_or(kind.image_size);
    let version = config.get("transformers_version").and_then(Value::as_str);
    let (preprocess, notes) = processor::preprocess(dir, model_type, kind.published, own_size, version)?;
    let model = Model { kind, model_type, vision, outer, gated, dialect, preprocess, notes };
    let wanted = Dialect::find(dialect)?.names("patch_embed.proj.weight").into_iter().flatten().next();
    let wanted = wanted.unwrap_or_default();
    let places = CheckpointPart::all(weights, Dialect::find(dialect)?, &wanted);
    if places.is_empty() {
        return Err(Error::failed(format!("the weights have no `{wanted}`"))
            .hint("config.json and the weights belong to different models"));
    }
    placed(weights, places, |place| model.at(weights, place))
}

/// A model whose weights have not been located yet.
struct Model<'a> {
    kind: &'static Kind,
    model_type: &'a str,
    vision: Section<'a>,
    /// Whether the encoder's features are those before the final norm.
    outer: bool,
    gated: bool,
    dialect: &'static str,
    preprocess: Preprocess,
    notes: Vec<String>,
}

impl Model<'_> {
    /// Describes the model with its weights at `place`.
    fn at(&self, weights: &Checkpoint, place: &CheckpointPart) -> Result<Found> {
        let Self { kind, vision, outer, gated, dialect, .. } = self;
        let (preprocess, mut notes) = (self.preprocess.clone(), self.notes.clone());
        let shapes = TensorShapes::new(weights, dialect, place)?;
        let heads = vision.read("num_attention_heads", whole)?.unwrap_or(HEADS);
        let activation = match vision.read("hidden_act", Value::as_str)?.unwrap_or(kind.act) {
            _ if *gated => Activation::Swiglu,
            "gelu" => Activation::Gelu,
            "quick_gelu" => Activation::QuickGelu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
            _ => return Err(vision.refused("hidden_act")),
        };
        let norm_eps = vision.read("layer_norm_eps", Value::as_f64)?.unwrap_or(kind.eps);
        let (architecture, final_norm) = if kind.dialect == "transformers-sam" {
            if activation != Activation::Gelu {
                return Err(vision.refused("hidden_act"));
            }
            let indexes = |list: &Value| list.as_array()?.iter().map(whole).collect::<Option<Vec<_>>>();
            let sam = SamConfig {
                heads,
                window: vision.read("window_size", whole)?.unwrap_or(14),
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
                notes
                    .push(format!("drop_path_rate = {rate} is for all layers alike: training here leaves out nothing"));
            }
            let position_antialias = kind.antialias;
            vit = VitConfig { drop_path, heads, activation, norm_eps, final_norm, position_antialias, ..vit };
            (ArchitectureConfig::Vit(vit), final_norm)
        };
        let before = kind.tap == Last::Before && !outer;
        let tap = Tap { layer: if before { -2 } else { -1 }, norm: final_norm && !before, ..Tap::default() };
        let (family, place) = (self.model_type.into(), place.clone());
        Ok(Found { family, dialect, place, architecture, preprocess, tap, notes })
    }
}

fn kind(model_type: &str) -> Result<&'static Kind> {
    let known = || KINDS.iter().flat_map(|k| k.types).copied().collect::<Vec<_>>().join(", ");
    KINDS.iter().find(|k| k.types.contains(&model_type)).ok_or_else(|| {
        Error::failed(format!("config.json is of a `{model_type}` model")).hint(format!("known kinds: {}", known()))
    })
}

/// The part of `config.json` that describes the encoder.
fn section(table: &Value) -> Section<'_> {
    Section {
        table,
        before: "config.json: ",
        hint: "models of this kind with other values can be read; for anything else write a card",
    }
}

/// Checks that the configuration agrees with the shapes of the weights.
///
/// # Errors
/// A value of the configuration differs from that of the weights.
fn agrees(config: &Section, width: usize, depth: usize, mlp_hidden: usize, patch: usize) -> Result<()> {
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
            return Err(Error::failed(format!("config.json says {key} = {said}, but the weights have {found}"))
                .hint("config.json and the weights belong to different models"));
        }
    }
    Ok(())
}
