//! Reads `config.json` of Hugging Face transformers.
//!
//! Hyper-parameters that follow from the shapes of the tensors (width, depth, class token, layer scale ...) are derived
//! from these, and the configuration must agree where it states them. All others are read from the configuration.

mod convnets;
mod families;
mod windows;

use super::config_values::{ConfigSection, OPENAI, first_unsupported, integer, plain, side, three};
use super::derived::{DerivedEncoder, locate};
use super::processor;
use super::shapes::TensorShapes;
use crate::arch::{Activation, ArchitectureConfig, SamConfig, Tap, VitConfig};
use crate::checkpoint::{Checkpoint, CheckpointPart, Dialect};
use crate::preprocess::Preprocess;
use burgess_base::{Error, Result};
use families::{DefaultTap, ModelFamily, NetworkKind};
use serde_json::Value;
use std::path::Path;

/// Derives the encoder from its configuration and the shapes of its tensors.
pub(super) fn derive(model_type: &str, config: &Value, dir: &Path, weights: &Checkpoint) -> Result<DerivedEncoder> {
    let mut family = families::find(model_type)?;
    let mut vision = section(config.get("vision_config").unwrap_or(config));
    let outer = family.tap == DefaultTap::BeforeNorm;
    // A depth model whose encoder belongs to another family.
    if let Some(backbone) = vision.get("backbone_config") {
        let inner = backbone.get("model_type").and_then(Value::as_str).unwrap_or_default();
        family = families::find(inner).map_err(|e| e.context("reading backbone_config"))?;
        vision = section(backbone);
    }
    if let Some(key) = first_unsupported(family.fixed, |key| vision.get(key))? {
        return Err(vision.unsupported(key));
    }
    let mut gate = None;
    for key in ["use_swiglu_ffn", "use_gated_mlp"] {
        if vision.read(key, Value::as_bool)?.unwrap_or(false) {
            gate = Some(key);
        }
    }
    let dialects = match gate {
        Some(key) if family.gated.is_empty() => return Err(vision.unsupported(key)),
        Some(_) => family.gated,
        None => family.dialects,
    };
    let own_size = match vision.read("image_size", side)? {
        Some(size) => size,
        // C-RADIO's own configurations.
        None => vision.read("preferred_resolution", side)?.unwrap_or(family.image_size),
    };
    let version = config.get("transformers_version").and_then(Value::as_str);
    let (preprocess, notes) = processor::preprocess(dir, model_type, family.default_processor, own_size, version)?;
    let preprocess = if family.normalises { normalised_inside(&vision, preprocess)? } else { preprocess };
    let mut wanted = Vec::new();
    for dialect in dialects.iter().map(|name| Dialect::find(name)) {
        let dialect = dialect?;
        let name = dialect.names(family.network.first_parameter()).into_iter().flatten().next().unwrap_or_default();
        let parts = CheckpointPart::all(weights, dialect, &name);
        if !parts.is_empty() {
            let dialect = dialect.name;
            let free_gate = gate == Some("use_swiglu_ffn") || vision.get("args").is_some();
            let model = Model { family, model_type, vision, outer, free_gate, dialect, preprocess, notes };
            return locate(weights, parts, |part| model.at(weights, part));
        }
        wanted.push(format!("`{name}`"));
    }
    Err(Error::failed(format!("the weights have no {}", wanted.join(" or ")))
        .hint("download config.json and the weights again: they belong to different models"))
}

/// Adds the normalisation that the network itself applies to its pixels (`norm_mean` and `norm_std`, by default CLIP's)
/// to that of the preprocessing.
fn normalised_inside(vision: &ConfigSection, before: Preprocess) -> Result<Preprocess> {
    let read = |key: &str, default: [f32; 3]| match vision.get(key) {
        Some(_) => three(vision.table, key),
        None => Ok(default),
    };
    let (mean, std) = (read("norm_mean", OPENAI.0)?, read("norm_std", OPENAI.1)?);
    // ((x - m) / s - mean) / std = (x - (m + s mean)) / (s std).
    let whole = |i: usize| (before.mean[i] + before.std[i] * mean[i], before.std[i] * std[i]);
    let both: [(f32, f32); 3] = std::array::from_fn(whole);
    let (mean, std) = (both.map(|(mean, _)| mean), both.map(|(_, std)| std));
    let Preprocess { pad, .. } = plain(before.size, before.interpolation, mean, std);
    Ok(Preprocess { mean, std, pad, ..before })
}

/// A model before its weights are located.
struct Model<'a> {
    family: &'static ModelFamily,
    model_type: &'a str,
    vision: ConfigSection<'a>,
    /// Whether features are tapped before the final norm.
    outer: bool,
    /// Whether the gate of the MLPs is SiLU, whatever `hidden_act` says.
    free_gate: bool,
    dialect: &'static str,
    preprocess: Preprocess,
    notes: Vec<String>,
}

impl Model<'_> {
    /// Describes the model with its weights in `part`.
    fn at(&self, weights: &Checkpoint, part: &CheckpointPart) -> Result<DerivedEncoder> {
        let Self { family, outer, dialect, .. } = self;
        let mut notes = self.notes.clone();
        let shapes = TensorShapes::new(weights, dialect, part)?;
        let (architecture, final_norm) = match family.network {
            NetworkKind::Vit => {
                let vit = self.vit(&shapes, &mut notes)?;
                let final_norm = vit.final_norm;
                (ArchitectureConfig::Vit(vit), final_norm)
            }
            NetworkKind::Sam => (ArchitectureConfig::Sam(self.sam(&shapes)?), false),
            NetworkKind::ConvNext => {
                let convnext = convnets::convnext(self, &shapes, &mut notes)?;
                let final_norm = convnext.final_norm;
                (ArchitectureConfig::ConvNext(convnext), final_norm)
            }
            NetworkKind::Swin(version) => {
                (ArchitectureConfig::Swin(windows::swin(self, version, &mut notes)?), !self.outer)
            }
            NetworkKind::Sam2 => (ArchitectureConfig::Hiera(windows::sam2(self)?), false),
            NetworkKind::ResNet => (ArchitectureConfig::ResNet(convnets::resnet(self)?), false),
        };
        let before = family.tap == DefaultTap::BlockBeforeLast && !outer;
        let tap = Tap { layer: if before { -2 } else { -1 }, norm: final_norm && !before, ..Tap::default() };
        let (family, part, preprocess) = (self.model_type.into(), part.clone(), self.preprocess.clone());
        Ok(DerivedEncoder { family, dialect, part, architecture, preprocess, tap, notes })
    }

    /// Describes a vision transformer.
    fn vit(&self, shapes: &TensorShapes, notes: &mut Vec<String>) -> Result<VitConfig> {
        let Self { family, vision, .. } = self;
        let vit = shapes.vit(self.preprocess.size)?;
        agrees(vision, vit.width, vit.depth, vit.mlp_hidden, vit.patch)?;
        let rate = self.drop_path()?;
        let grows = ["transformers-beit", "intern-vit"].contains(&self.dialect);
        let drop_path = if grows { rate } else { 0.0 };
        if rate > drop_path {
            notes.push(no_drop_path(rate));
        }
        let gated = vit.activation == Activation::Swiglu;
        let activation = match self.activation()? {
            _ if gated && self.free_gate => Activation::Swiglu,
            Activation::Silu if gated => Activation::Swiglu,
            activation if !gated => activation,
            _ => return Err(vision.unsupported("hidden_act")),
        };
        let vit = VitConfig {
            drop_path,
            heads: vision.read("num_attention_heads", integer)?.unwrap_or(family.heads),
            activation,
            norm_eps: self.norm_eps()?,
            final_norm: vit.final_norm && !self.outer,
            ..vit
        };
        (family.complete)(self, shapes, vit)
    }

    /// Describes the image encoder of SAM.
    fn sam(&self, shapes: &TensorShapes) -> Result<SamConfig> {
        let Self { family, vision, .. } = self;
        if self.activation()? != Activation::Gelu {
            return Err(vision.unsupported("hidden_act"));
        }
        let indexes = |list: &Value| list.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
        let sam = SamConfig {
            heads: vision.read("num_attention_heads", integer)?.unwrap_or(family.heads),
            window: vision.read("window_size", integer)?.unwrap_or(14),
            global_blocks: vision.read("global_attn_indexes", indexes)?.unwrap_or_else(|| vec![2, 5, 8, 11]),
            norm_eps: self.norm_eps()?,
            ..shapes.sam(self.preprocess.size)?
        };
        agrees(vision, sam.width, sam.depth, sam.mlp_hidden, sam.patch)?;
        Ok(sam)
    }

    fn activation(&self) -> Result<Activation> {
        Ok(match self.vision.read("hidden_act", Value::as_str)?.unwrap_or(self.family.act) {
            "gelu" => Activation::Gelu,
            "silu" | "swish" => Activation::Silu,
            "quick_gelu" => Activation::QuickGelu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
            _ => return Err(self.vision.unsupported("hidden_act")),
        })
    }

    fn norm_eps(&self) -> Result<f64> {
        Ok(self.vision.read("layer_norm_eps", Value::as_f64)?.unwrap_or(self.family.eps))
    }

    fn drop_path(&self) -> Result<f64> {
        Ok(self.vision.read("drop_path_rate", Value::as_f64)?.unwrap_or(self.family.drop_path))
    }
}

/// Note on the drop-path rate of a family whose drop path differs from ours.
fn no_drop_path(rate: f64) -> String {
    format!("drop_path_rate = {rate} is not supported: no drop path is used")
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
