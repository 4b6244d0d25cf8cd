//! Swin Transformers and the Hiera of SAM 2 of transformers.

use super::{Model, no_drop_path};
use crate::arch::{Activation, HieraConfig, HieraPositions, SwinConfig, SwinVersion};
use crate::directory::config_values::{integer, side};
use burgess_base::Result;
use serde_json::Value;

/// Reads a list of integers.
fn list(model: &Model, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    let read = |list: &Value| list.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
    Ok(model.vision.read(key, read)?.unwrap_or_else(|| default.to_vec()))
}

fn real(model: &Model, key: &str, default: f64) -> Result<f64> {
    Ok(model.vision.read(key, Value::as_f64)?.unwrap_or(default))
}

/// Describes a Swin Transformer.
pub(super) fn swin(model: &Model, version: SwinVersion, notes: &mut Vec<String>) -> Result<SwinConfig> {
    let vision = &model.vision;
    if model.activation()? != Activation::Gelu {
        return Err(vision.unsupported("hidden_act"));
    }
    let rate = model.drop_path()?;
    if rate > 0.0 {
        notes.push(no_drop_path(rate));
    }
    let depths = list(model, "depths", &[2, 2, 6, 2])?;
    let window = vision.read("window_size", side)?.unwrap_or(7);
    Ok(SwinConfig {
        image_size: model.preprocess.size,
        patch: vision.read("patch_size", side)?.unwrap_or(4),
        version,
        width: vision.read("embed_dim", integer)?.unwrap_or(96),
        heads: list(model, "num_heads", &[3, 6, 12, 24])?,
        windows: vec![window; depths.len()],
        depths,
        pretrained_windows: match version {
            SwinVersion::V2 => list(model, "pretrained_window_sizes", &[])?,
            SwinVersion::V1 | SwinVersion::V2Cr => Vec::new(),
        },
        mlp_ratio: real(model, "mlp_ratio", 4.0)?,
        position_hidden: 512,
        qkv_bias: vision.read("qkv_bias", Value::as_bool)?.unwrap_or(true),
        always_partition: false,
        extra_norm_period: 0,
        extra_norm_stage: false,
        norm_eps: model.norm_eps()?,
        drop_path: 0.0,
    })
}

/// Describes the Hiera of SAM 2.
pub(super) fn sam2(model: &Model) -> Result<HieraConfig> {
    let vision = &model.vision;
    if model.activation()? != Activation::Gelu {
        return Err(vision.unsupported("hidden_act"));
    }
    let width = vision.read("hidden_size", integer)?.unwrap_or(96);
    let heads = vision.read("num_attention_heads", integer)?.unwrap_or(1);
    let depths = list(model, "blocks_per_stage", &[1, 2, 7, 2])?;
    // Channels and heads must double from stage to stage.
    for (key, first) in [("embed_dim_per_stage", width), ("num_attention_heads_per_stage", heads)] {
        let doubled: Vec<usize> = (0..depths.len()).map(|stage| first << stage.min(16)).collect();
        if list(model, key, &doubled)? != doubled {
            return Err(vision.unsupported(key));
        }
    }
    if vision.read("num_query_pool_stages", integer)?.unwrap_or(3) + 1 != depths.len() {
        return Err(vision.unsupported("num_query_pool_stages"));
    }
    let patch_kernel = vision.read("patch_kernel_size", side)?.unwrap_or(7);
    if vision.read("patch_padding", side)?.unwrap_or(3) != patch_kernel / 2 {
        return Err(vision.unsupported("patch_padding"));
    }
    Ok(HieraConfig {
        image_size: model.preprocess.size,
        patch_kernel,
        patch_stride: vision.read("patch_stride", side)?.unwrap_or(4),
        width,
        heads,
        depths,
        windows: list(model, "window_size_per_stage", &[8, 4, 14, 7])?,
        global_blocks: list(model, "global_attention_blocks", &[5, 7, 9])?,
        positions: HieraPositions::PlainWindows,
        position_grid: vision.read("window_positional_embedding_background_size", side)?.unwrap_or(7),
        expand_projection: true,
        mlp_ratio: real(model, "mlp_ratio", 4.0)?,
        layer_scale: 0.0,
        norm_eps: model.norm_eps()?,
        drop_path: 0.0,
    })
}
