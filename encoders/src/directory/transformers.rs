//! `config.json` of Hugging Face transformers, and its `preprocessor_config.json`.

use super::shapes::Shapes;
use super::{Found, json, plain, three};
use crate::arch::{Activation, ArchitectureConfig, Tap};
use crate::checkpoint::Checkpoint;
use crate::preprocess::{Interpolation, Preprocess};
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// transformers' defaults for all these models, which `config.json` may leave out.
const HEADS: u64 = 12;
const IMAGE_SIZE: u64 = 224;

/// A kind of transformers model: its `model_type`s, the dialect of its weights, and its own defaults.
struct Kind {
    types: &'static [&'static str],
    dialect: &'static str,
    act: &'static str,
    eps: f64,
    /// LLaVA's tap of CLIP: the layer before the last, whose final norm is for the class token alone.
    before_last: bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        types: &["clip", "clip_vision_model"],
        dialect: "transformers-clip",
        act: "quick_gelu",
        eps: 1e-5,
        before_last: true,
    },
    Kind {
        types: &["siglip", "siglip_vision_model"],
        dialect: "transformers-siglip",
        act: "gelu_pytorch_tanh",
        eps: 1e-6,
        before_last: false,
    },
    Kind {
        types: &["dinov2", "dinov2_with_registers"],
        dialect: "transformers-dinov2",
        act: "gelu",
        eps: 1e-6,
        before_last: false,
    },
    Kind {
        types: &["vit", "vit_mae", "deit", "ijepa"],
        dialect: "transformers-vit",
        act: "gelu",
        eps: 1e-12,
        before_last: false,
    },
    Kind {
        types: &["beit", "data2vec-vision"],
        dialect: "transformers-beit",
        act: "gelu",
        eps: 1e-12,
        before_last: false,
    },
];

/// Everything about the model in `dir` but its weights.
pub(super) fn found(kind: &str, config: &Value, dir: &Path, weights: &Checkpoint) -> Result<Found> {
    let known = || KINDS.iter().flat_map(|k| k.types).copied().collect::<Vec<_>>().join(", ");
    let family = KINDS.iter().find(|k| k.types.contains(&kind)).ok_or_else(|| {
        Error::failed(format!("config.json is of a `{kind}` model")).hint(format!("known kinds: {}", known()))
    })?;
    let vision = config.get("vision_config").unwrap_or(config);
    let number = |key: &str, default: u64| vision.get(key).and_then(Value::as_u64).unwrap_or(default);
    let gated = vision.get("use_swiglu_ffn").and_then(Value::as_bool).unwrap_or(false);
    let dialect = if gated { "transformers-dinov2-swiglu" } else { family.dialect };
    let activation = match vision.get("hidden_act").and_then(Value::as_str).unwrap_or(family.act) {
        _ if gated => Activation::Swiglu,
        "gelu" => Activation::Gelu,
        "quick_gelu" => Activation::QuickGelu,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
        other => return Err(Error::failed(format!("hidden_act = \"{other}\" is not known"))),
    };
    let own_size = number("image_size", IMAGE_SIZE) as usize;
    let preprocess = match json(&dir.join("preprocessor_config.json")) {
        Ok(steps) => processor(&steps, own_size)?,
        // A directory of weights alone: the size it was trained for, and the constants most models share.
        Err(_) => plain(own_size, [0.5; 3], [0.5; 3]),
    };
    let shapes = Shapes::new(weights, dialect)?.under_its_prefix()?;
    let mut vit = shapes.vit(preprocess.size)?;
    vit.heads = number("num_attention_heads", HEADS) as usize;
    vit.activation = activation;
    vit.norm_eps = vision.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(family.eps);
    let tap = Tap {
        layer: if family.before_last { -2 } else { -1 },
        norm: vit.final_norm && !family.before_last,
        ..Tap::default()
    };
    let prefix = Some(shapes.prefix).filter(|p| !p.is_empty());
    Ok(Found { family: kind.into(), dialect, prefix, architecture: ArchitectureConfig::Vit(vit), preprocess, tap })
}

/// `preprocessor_config.json` of transformers.
fn processor(steps: &Value, own_size: usize) -> Result<Preprocess> {
    let side = |value: Option<&Value>| {
        let value = value?;
        let of = |key: &str| value.get(key).and_then(Value::as_u64);
        value.as_u64().or_else(|| of("height")).or_else(|| of("shortest_edge")).map(|n| n as usize)
    };
    let resize = side(steps.get("size")).unwrap_or(own_size);
    let crops = steps.get("do_center_crop").and_then(Value::as_bool).unwrap_or(false);
    let size = if crops { side(steps.get("crop_size")).unwrap_or(resize) } else { resize };
    let three = |key: &str| three(steps, key).map_err(|e| e.context("reading preprocessor_config.json"));
    let (mean, std) = (three("image_mean")?, three("image_std")?);
    Ok(Preprocess {
        // Pillow's numbers for its filters.
        interpolation: match steps.get("resample").and_then(Value::as_u64) {
            Some(2) => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        crop_pct: share(size, resize.max(size)),
        ..plain(size, mean, std)
    })
}

/// `part / whole`, so that `part` divided by it is not rounded to less than `whole`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    if ((part as f64 / share) as usize) < whole { share.next_down() } else { share }
}
