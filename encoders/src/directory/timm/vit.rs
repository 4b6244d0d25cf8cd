//! Reads the arguments of timm's `VisionTransformer` and `VisionTransformerDistilled`.

use super::eva;
use crate::arch::{Activation, NormKind, QkNorm, RelativeMlp, VitConfig};
use crate::json_values::SupportedValues;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::Result;
use serde_json::Value;

const FIXED: &SupportedValues =
    &[("dynamic_img_pad", "false"), ("embed_layer", "\"PatchEmbed\""), ("in_chans", "3"), ("use_naflex", "false")];

impl TimmModel for VitConfig {
    const CLASSES: &'static [&'static str] =
        &["VisionTransformer", "VisionTransformerDistilled", "VisionTransformerRelPos", "Eva", "Beit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let (dialect, config, note) = match arguments.class {
            "Eva" => {
                let (dialect, config) = eva::eva(arguments, image_size)?;
                (dialect, config, None)
            }
            "Beit" => {
                let (dialect, config) = eva::beit(arguments, image_size)?;
                (dialect, config, None)
            }
            "VisionTransformerRelPos" => ("timm", relpos(arguments, image_size)?, None),
            "VisionTransformerDistilled" => {
                let (dialect, config) = config(arguments, image_size, true)?;
                (dialect, config, None)
            }
            _ => {
                let (dialect, config) = config(arguments, image_size, false)?;
                let (config, unplaced) = without_positions(config);
                let note = unplaced.then(|| {
                    "pos_embed is none: class token and registers are omitted, as in timm 1.0.20 (later versions add \
                     them)"
                        .into()
                });
                (if unplaced { "timm-without-positions" } else { dialect }, config, note)
            }
        };
        Ok(TimmNetwork { config, dialect, note })
    }
}

/// Returns the network for images of `image_size`, and the dialect of its weights.
fn config(arguments: &mut TimmArguments, image_size: usize, distilled: bool) -> Result<(&'static str, VitConfig)> {
    arguments.only(FIXED)?;
    arguments.without(IGNORED);
    let common = common(arguments, image_size)?;
    let class_token = arguments.flag("class_token", true)?;
    let registers = arguments.number("reg_tokens", 0)?;
    let placed = !arguments.flag("no_embed_class", false)? || distilled;
    let pre_norm = arguments.flag("pre_norm", false)?;
    let (post_norm, parallel) = match arguments.text("block_fn", "Block")?.as_str() {
        "Block" => (false, false),
        "ResPostBlock" => (true, false),
        "ParallelScalingBlock" if common.qkv_bias => (false, true),
        "ParallelScalingBlock" => {
            return Err(arguments.invalid("a ParallelScalingBlock with qkv_bias = false is not supported"));
        }
        other => return Err(arguments.unsupported("block_fn", &other.into())),
    };
    let (attention_norm, mlp_norm) =
        (arguments.flag("scale_attn_norm", false)?, arguments.flag("scale_mlp_norm", false)?);
    if attention_norm && !mlp_norm {
        return Err(arguments.invalid("an inner norm of the attention requires an inner norm of the MLP"));
    }
    let hidden = common.mlp_hidden;
    let mut dialect = if parallel { "timm-parallel" } else { "timm" };
    let (activation, mlp_hidden) = match (arguments.take("mlp_layer"), arguments.text("act_layer", "gelu")?.as_str()) {
        (None, "gelu" | "GELU") => (Activation::Gelu, hidden),
        (None, "gelu_tanh") => (Activation::GeluTanh, hidden),
        (None, "quick_gelu") => (Activation::QuickGelu, hidden),
        // Both halves are in one layer, and `hidden` counts both.
        (Some(layer), _) if parallel => return Err(arguments.unsupported("mlp_layer", &layer)),
        (Some(layer), "SiLU" | "silu") if packed(&layer) => (Activation::Swiglu, hidden / 2),
        (Some(layer), "SiLU" | "silu") if layer == "SwiGLU" => {
            dialect = "timm-gated";
            (Activation::Swiglu, hidden)
        }
        (None, other) => return Err(arguments.unsupported("act_layer", &other.into())),
        (Some(layer), _) => return Err(arguments.unsupported("mlp_layer", &layer)),
    };
    let pooled = arguments.text("global_pool", "token")?;
    let pools = matches!(pooled.as_str(), "avg" | "avgmax" | "max");
    // A norm after pooling replaces the final norm.
    let fc_norm = arguments.choice("fc_norm")?.unwrap_or(pools);
    let layer_scale = arguments.real("init_values")?;
    let norms = (common.norm, common.norm_eps);
    let patch_norm = arguments.has("embed_norm_layer");
    if arguments.norm("embed_norm_layer", norms)? != norms {
        return Err(arguments.invalid("the norm after the patch embedding is of another kind than the others"));
    }
    let config = VitConfig {
        class_token,
        distillation_token: distilled,
        registers,
        pre_norm,
        patch_bias: !pre_norm,
        patch_norm,
        proj_bias: arguments.flag("proj_bias", true)?,
        qk_norm: if arguments.flag("qk_norm", false)? { QkNorm::Head } else { QkNorm::None },
        // In post-norm blocks, `init_values` initialises the norms.
        layer_scale: layer_scale.filter(|_| !post_norm),
        activation,
        final_norm: arguments.flag("final_norm", true)? && !fc_norm,
        pos_embed_class: placed || !class_token,
        pos_embed_registers: placed && registers > 0,
        absolute_positions: match arguments.text("pos_embed", "learn")?.as_str() {
            "learn" => true,
            "" | "none" => false,
            other => return Err(arguments.unsupported("pos_embed", &other.into())),
        },
        inner_norms: attention_norm,
        mlp_norm: mlp_norm && !attention_norm,
        post_norm,
        parallel,
        mlp_hidden,
        ..common
    };
    Ok((dialect, config))
}

/// Reads the arguments of `VisionTransformerRelPos`.
fn relpos(arguments: &mut TimmArguments, image_size: usize) -> Result<VitConfig> {
    arguments.only(&[
        ("act_layer", "\"gelu\""),
        ("embed_layer", "\"PatchEmbed\""),
        ("in_chans", "3"),
        ("qk_norm", "false"),
        ("rel_pos_type", "\"mlp\""),
    ])?;
    arguments.without(IGNORED);
    arguments.without(&["global_pool"]);
    let common = common(arguments, image_size)?;
    let post_norm = match arguments.text("block_fn", "RelPosBlock")?.as_str() {
        "RelPosBlock" => false,
        "ResPostRelPosBlock" => true,
        other => return Err(arguments.unsupported("block_fn", &other.into())),
    };
    let layer_scale = if arguments.is_none("init_values") { 0.0 } else { 1e-6 };
    let layer_scale = arguments.real("init_values")?.unwrap_or(layer_scale);
    let shared = arguments.flag("shared_rel_pos", false)?;
    Ok(VitConfig {
        class_token: arguments.flag("class_token", false)?,
        layer_scale: Some(layer_scale).filter(|scale| *scale != 0.0 && !post_norm),
        final_norm: !arguments.flag("fc_norm", false)?,
        absolute_positions: false,
        relative_mlp: Some(RelativeMlp { hidden: arguments.number("rel_pos_dim", 128)?, shared }),
        post_norm,
        ..common
    })
}

/// Returns the network without class and register tokens if it has no position embeddings, and whether this applies:
/// timm (up to 1.0.20) does not prepend these tokens then, although the weights contain them.
fn without_positions(config: VitConfig) -> (VitConfig, bool) {
    if config.absolute_positions || !(config.class_token || config.registers > 0) {
        return (config, false);
    }
    let bare =
        VitConfig { class_token: false, registers: 0, pos_embed_class: true, pos_embed_registers: false, ..config };
    (bare, true)
}

/// Reads the arguments that all vision transformers of timm share; the rest is as in [`VitConfig::plain`].
pub(super) fn common(arguments: &mut TimmArguments, image_size: usize) -> Result<VitConfig> {
    let width = arguments.number("embed_dim", 768)?;
    let patch = arguments.side("patch_size")?.unwrap_or(16);
    let (depth, heads) = (arguments.number("depth", 12)?, arguments.number("num_heads", 12)?);
    let mlp_hidden = times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0));
    let (norm, norm_eps) = arguments.norm("norm_layer", (NormKind::Layer, 1e-6))?;
    Ok(VitConfig {
        qkv_bias: arguments.flag("qkv_bias", true)?,
        norm,
        norm_eps,
        position_antialias: true,
        drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        ..VitConfig::plain(image_size, patch, width, depth, heads, mlp_hidden)
    })
}

/// Whether a layer is a gated MLP whose first half is the gate.
fn packed(layer: &Value) -> bool {
    let gate_first = |layer: &Value| layer.get("gate_last").and_then(Value::as_bool) == Some(false);
    layer.as_str() == Some("SwiGLUPacked") || layer.get("GluMlp").is_some_and(gate_first)
}
