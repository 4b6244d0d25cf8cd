//! Reads `config.json` of transformers for towers that accept images of any size: SigLIP 2 NaFlex, the towers of
//! Qwen2.5-VL and Qwen3-VL, MoonViT, and V-JEPA 2. The tower may be part of a multimodal model.

use super::config_values::{ConfigSection, HALF, IMAGENET, OPENAI, SupportedValues, first_unsupported, integer, side};
use super::derived::{DerivedEncoder, locate};
use super::native_processor::{self as processor, NativeDefaults};
use crate::arch::{
    Activation, ArchitectureConfig, NativeRotary, NativeVitConfig, NormKind, PatchWeight, PositionResampling, Tap,
};
use crate::checkpoint::{Checkpoint, CheckpointPart, Dialect};
use crate::preprocess::{Interpolation, NativeResize};
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// A family of towers: its `model_type`s, the dialect of its weights, and how its configuration is read.
struct NativeFamily {
    types: &'static [&'static str],
    dialect: &'static str,
    /// Keys for which only one value is supported.
    fixed: &'static SupportedValues,
    /// Activation of the published models.
    act: &'static str,
    /// Reads the architecture; image size and activation are set afterwards.
    read: fn(&ConfigSection) -> Result<NativeVitConfig>,
    /// Preprocessing of the published models.
    defaults: NativeDefaults,
}

static FAMILIES: [NativeFamily; 5] = [
    NativeFamily {
        types: &["siglip2", "siglip2_vision_model"],
        dialect: "transformers-siglip2",
        fixed: &[("num_channels", "3")],
        act: "gelu_pytorch_tanh",
        read: siglip2,
        defaults: NativeDefaults {
            rule: NativeResize::Fill { patch: 16, max_patches: 256 },
            interpolation: Interpolation::Bilinear,
            colours: HALF,
            classes: &["Siglip2"],
        },
    },
    NativeFamily {
        types: &["qwen2_5_vl", "qwen2_5_vl_vision"],
        dialect: "transformers-qwen2.5-vl",
        fixed: &[("in_channels", "3"), ("in_chans", "3"), ("rope_parameters", AXIAL)],
        act: "silu",
        read: qwen2_5_vl,
        defaults: NativeDefaults {
            rule: NativeResize::Range { patch: 14, merge: 2, min_pixels: 3136, max_pixels: 12_845_056 },
            interpolation: Interpolation::Bicubic,
            colours: OPENAI,
            classes: &["Qwen2VL", "Qwen2_5_VL"],
        },
    },
    NativeFamily {
        types: &["qwen3_vl", "qwen3_vl_vision", "qwen3_vl_moe", "qwen3_vl_moe_vision"],
        dialect: "transformers-qwen3-vl",
        fixed: &[("in_channels", "3"), ("rope_parameters", AXIAL)],
        act: "gelu_pytorch_tanh",
        read: qwen3_vl,
        defaults: NativeDefaults {
            rule: NativeResize::Range { patch: 16, merge: 2, min_pixels: 65_536, max_pixels: 16_777_216 },
            interpolation: Interpolation::Bicubic,
            colours: HALF,
            classes: &["Qwen2VL", "Qwen3VL"],
        },
    },
    NativeFamily {
        types: &["moonvit", "kimi_vl", "kimi_k25", "kimi_k25_vision"],
        dialect: "moonvit",
        fixed: &[("in_channels", "3"), ("rope_parameters", AXIAL), ("pos_emb_type", "\"divided_fixed\"")],
        act: "gelu_pytorch_tanh",
        read: moonvit,
        defaults: NativeDefaults {
            rule: NativeResize::ShrinkAndPad { patch: 14, merge: 2, max_patches: 4096, max_side: 512 },
            interpolation: Interpolation::Bicubic,
            colours: HALF,
            classes: &["Kimi_K25", "KimiVL", "MoonViT"],
        },
    },
    NativeFamily {
        types: &["vjepa2"],
        dialect: "transformers-vjepa2",
        fixed: &[("in_chans", "3"), ("qkv_bias", "true")],
        act: "gelu",
        read: vjepa2,
        defaults: NativeDefaults {
            rule: NativeResize::Fill { patch: 16, max_patches: 256 },
            interpolation: Interpolation::Bilinear,
            colours: IMAGENET,
            classes: &["VJEPA2"],
        },
    },
];

/// The only rotary position embedding of these towers.
const AXIAL: &str = r#"{"rope_theta": 10000.0, "rope_type": "axial"}"#;

/// All `model_type`s that are read here.
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.types).copied()
}

/// Derives the encoder from its configuration; `None` if `model_type` is not one of [`types`].
pub(super) fn derive(
    model_type: &str,
    config: &Value,
    dir: &Path,
    weights: &Checkpoint,
) -> Option<Result<DerivedEncoder>> {
    let family = FAMILIES.iter().find(|family| family.types.contains(&model_type))?;
    Some(read(family, model_type, config, dir, weights))
}

fn read(
    family: &NativeFamily,
    model_type: &str,
    config: &Value,
    dir: &Path,
    weights: &Checkpoint,
) -> Result<DerivedEncoder> {
    let table = config.get("vision_config").unwrap_or(config);
    let vision = ConfigSection { table, before: "config.json: ", hint: "write a card: this value is not supported" };
    if let Some(key) = first_unsupported(family.fixed, |key| vision.get(key))? {
        return Err(vision.unsupported(key));
    }
    let mut tower = (family.read)(&vision)?;
    tower.activation = match vision.read("hidden_act", Value::as_str)?.unwrap_or(family.act) {
        "silu" if family.act == "silu" => Activation::Swiglu,
        "gelu" => Activation::Gelu,
        "gelu_pytorch_tanh" => Activation::GeluTanh,
        _ => return Err(vision.unsupported("hidden_act")),
    };
    let square = (model_type == "vjepa2").then_some(tower.image_size);
    let (preprocess, notes) =
        processor::preprocess(dir, model_type, &family.defaults, [tower.patch, tower.merge], square)?;
    tower.image_size = preprocess.size;
    let dialect = Dialect::find(family.dialect)?;
    let wanted = dialect.names("patch_embed.proj.weight").into_iter().flatten().next().unwrap_or_default();
    let parts = CheckpointPart::all(weights, dialect, &wanted);
    if parts.is_empty() {
        return Err(Error::failed(format!("the weights have no `{wanted}`"))
            .hint("download config.json and the weights again: they belong to different models"));
    }
    let tap = Tap { norm: tower.final_norm, ..Tap::default() };
    locate(weights, parts, |part| {
        Ok(DerivedEncoder {
            family: model_type.into(),
            dialect: family.dialect,
            part: part.clone(),
            architecture: ArchitectureConfig::NativeVit(tower.clone()),
            preprocess: preprocess.clone(),
            tap: tap.clone(),
            notes: notes.clone(),
        })
    })
}

/// Reads the first of several keys that is there; `default` if none is.
fn number(vision: &ConfigSection, keys: &[&str], default: usize) -> Result<usize> {
    for key in keys {
        if let Some(value) = vision.read(key, side)? {
            return Ok(value);
        }
    }
    Ok(default)
}

/// Reads the indices of blocks at `key`.
fn indices(vision: &ConfigSection, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    let read = |value: &Value| value.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
    Ok(vision.read(key, read)?.unwrap_or_else(|| default.to_vec()))
}

/// The side of a square table of `count` positions at `key`.
fn square(vision: &ConfigSection, key: &str, count: usize) -> Result<usize> {
    let side = count.isqrt();
    if side == 0 || side * side != count { Err(vision.unsupported(key)) } else { Ok(side) }
}

fn siglip2(vision: &ConfigSection) -> Result<NativeVitConfig> {
    let positions = number(vision, &["num_patches"], 256)?;
    let [width, depth] = [("hidden_size", 768), ("num_hidden_layers", 12)].map(|(key, n)| number(vision, &[key], n));
    let heads = number(vision, &["num_attention_heads"], 12)?;
    let hidden = number(vision, &["intermediate_size"], 3072)?;
    let patch = number(vision, &["patch_size"], 16)?;
    Ok(NativeVitConfig {
        patch_weight: PatchWeight::Linear,
        position_grid: Some(square(vision, "num_patches", positions)?),
        position_resampling: PositionResampling::BilinearAntialias,
        norm_eps: vision.read("layer_norm_eps", Value::as_f64)?.unwrap_or(1e-6),
        ..NativeVitConfig::plain(patch, patch, width?, depth?, heads, hidden)
    })
}

fn qwen2_5_vl(vision: &ConfigSection) -> Result<NativeVitConfig> {
    // Published configurations state nothing that equals the defaults of the library at their time.
    let patch = number(vision, &["patch_size", "spatial_patch_size"], 14)?;
    let merge = number(vision, &["spatial_merge_size"], 2)?;
    let window = number(vision, &["window_size"], 112)?;
    let plain = NativeVitConfig::plain(
        patch,
        patch,
        number(vision, &["hidden_size"], 1280)?,
        number(vision, &["depth", "num_hidden_layers"], 32)?,
        number(vision, &["num_heads", "num_attention_heads"], 16)?,
        number(vision, &["intermediate_size"], 3420)?,
    );
    Ok(NativeVitConfig {
        patch_weight: PatchWeight::Video,
        frames: number(vision, &["temporal_patch_size"], 2)?,
        patch_bias: false,
        norm: NormKind::Rms,
        final_norm: false,
        rotary: Some(NativeRotary::Halves),
        window: Some(window / merge.max(1) / patch.max(1) * merge),
        full_blocks: indices(vision, "fullatt_block_indexes", &[7, 15, 23, 31])?,
        merge,
        merged_width: Some(number(vision, &["out_hidden_size"], 3584)?),
        ..plain
    })
}

fn qwen3_vl(vision: &ConfigSection) -> Result<NativeVitConfig> {
    let patch = number(vision, &["patch_size"], 16)?;
    let positions = number(vision, &["num_position_embeddings"], 2304)?;
    let plain = NativeVitConfig::plain(
        patch,
        patch,
        number(vision, &["hidden_size"], 1152)?,
        number(vision, &["depth", "num_hidden_layers"], 27)?,
        number(vision, &["num_heads", "num_attention_heads"], 16)?,
        number(vision, &["intermediate_size"], 4304)?,
    );
    Ok(NativeVitConfig {
        patch_weight: PatchWeight::Video,
        frames: number(vision, &["temporal_patch_size"], 2)?,
        final_norm: false,
        position_grid: Some(square(vision, "num_position_embeddings", positions)?),
        position_resampling: PositionResampling::BilinearCorners,
        rotary: Some(NativeRotary::Halves),
        merge: number(vision, &["spatial_merge_size"], 2)?,
        merged_width: Some(number(vision, &["out_hidden_size"], 3584)?),
        deepstack: indices(vision, "deepstack_visual_indexes", &[8, 16, 24])?,
        ..plain
    })
}

fn moonvit(vision: &ConfigSection) -> Result<NativeVitConfig> {
    let rows = number(vision, &["pos_emb_height", "init_pos_emb_height"], 64)?;
    if number(vision, &["pos_emb_width", "init_pos_emb_width"], 64)? != rows {
        return Err(vision.unsupported("pos_emb_width"));
    }
    let patch = number(vision, &["patch_size"], 14)?;
    let plain = NativeVitConfig::plain(
        patch,
        patch,
        number(vision, &["hidden_size", "vt_hidden_size"], 1152)?,
        number(vision, &["num_hidden_layers", "vt_num_hidden_layers"], 27)?,
        number(vision, &["num_attention_heads", "vt_num_attention_heads"], 16)?,
        number(vision, &["intermediate_size", "vt_intermediate_size"], 4304)?,
    );
    Ok(NativeVitConfig {
        norm_eps: 1e-5,
        position_grid: Some(rows),
        position_resampling: PositionResampling::Bicubic,
        rotary: Some(NativeRotary::Alternating),
        ..plain
    })
}

fn vjepa2(vision: &ConfigSection) -> Result<NativeVitConfig> {
    let width = number(vision, &["hidden_size"], 1024)?;
    let ratio = vision.read("mlp_ratio", Value::as_f64)?.unwrap_or(4.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let plain = NativeVitConfig::plain(
        number(vision, &["crop_size"], 256)?,
        number(vision, &["patch_size"], 16)?,
        width,
        number(vision, &["num_hidden_layers"], 24)?,
        number(vision, &["num_attention_heads"], 16)?,
        (width as f64 * ratio) as usize,
    );
    Ok(NativeVitConfig {
        patch_weight: PatchWeight::Video,
        frames: number(vision, &["tubelet_size"], 2)?,
        norm_eps: vision.read("layer_norm_eps", Value::as_f64)?.unwrap_or(1e-6),
        rotary: Some(NativeRotary::Thirds),
        ..plain
    })
}
