//! Reads the arguments of timm's `Eva` (EVA, EVA-02, and models with rotary position embeddings) and `Beit`.

use super::vit::common;
use crate::arch::{Activation, Rotary, VitConfig};
use crate::json_values::SupportedValues;
use crate::timm::{IGNORED, TimmArguments};
use burgess_base::Result;

const FIXED: &SupportedValues = &[("dynamic_img_pad", "false"), ("in_chans", "3"), ("use_naflex", "false")];

const BEIT: &SupportedValues = &[("in_chans", "3"), ("use_shared_rel_pos_bias", "false")];

/// Returns the network for images of `image_size`, and the dialect of its weights.
pub(super) fn eva(arguments: &mut TimmArguments, image_size: usize) -> Result<(&'static str, VitConfig)> {
    arguments.only(FIXED)?;
    arguments.without(IGNORED);
    let common = common(arguments, image_size)?;
    let class_token = arguments.flag("class_token", true)?;
    let registers = arguments.number("num_reg_tokens", 0)?;
    let placed = !arguments.flag("no_embed_class", false)?;
    let (attention_norm, mlp_norm) = (arguments.flag("scale_attn_inner", false)?, arguments.flag("scale_mlp", false)?);
    if attention_norm && !mlp_norm {
        return Err(arguments.invalid("an inner norm of the attention requires an inner norm of the MLP"));
    }
    let align = arguments.number("swiglu_align_to", 0)?;
    let gated = arguments.flag("swiglu_mlp", false)?;
    // The gate is a separate layer if there is a norm or an alignment.
    let apart = gated && (mlp_norm || align > 0);
    let hidden = common.mlp_hidden;
    let mlp_hidden = if apart && align > 0 { hidden.next_multiple_of(align) } else { hidden };
    let fused = arguments.flag("qkv_fused", true)?;
    let dialect = match (arguments.text("attn_type", "eva")?.as_str(), fused, apart) {
        ("eva", true, false) => "timm-eva",
        ("eva", true, true) => "timm-eva-gated",
        ("eva", false, true) => "timm-eva-split",
        ("rope", true, false) => "timm-rope",
        (kind, ..) => {
            let what = format!("attn_type \"{kind}\" with qkv_fused = {fused} and this MLP is not supported");
            return Err(arguments.invalid(&what));
        }
    };
    let pooled = arguments.text("global_pool", "avg")?;
    let fc_norm = arguments.choice("use_fc_norm")?.unwrap_or(pooled == "avg");
    let pre_norm = arguments.flag("use_pre_transformer_norm", false)?;
    let post_norm = arguments.flag("use_post_norm", false)?;
    let layer_scale = arguments.real("init_values")?;
    let config = VitConfig {
        class_token,
        registers,
        pre_norm,
        patch_bias: !pre_norm,
        layer_scale: layer_scale.filter(|_| !post_norm),
        activation: if gated { Activation::Swiglu } else { Activation::Gelu },
        final_norm: arguments.choice("use_post_transformer_norm")?.unwrap_or(!fc_norm),
        pos_embed_class: placed || !class_token,
        pos_embed_registers: placed && registers > 0,
        absolute_positions: arguments.flag("use_abs_pos_emb", true)?,
        inner_norms: attention_norm,
        mlp_norm: mlp_norm && !attention_norm,
        post_norm,
        rotary: rotary(arguments)?,
        mlp_hidden,
        ..common
    };
    Ok((dialect, config))
}

/// Returns the rotary position embedding if it is used; its arguments may be present even if it is not.
fn rotary(arguments: &mut TimmArguments) -> Result<Option<Rotary>> {
    let used = arguments.flag("use_rot_pos_emb", false)?;
    let kind = arguments.text("rope_type", "cat")?;
    let rotate_half = arguments.flag("rope_rotate_half", false)?;
    let columns_first = match arguments.text("rope_grid_indexing", "ij")?.as_str() {
        "ij" => false,
        "xy" => true,
        other => return Err(arguments.unsupported("rope_grid_indexing", &other.into())),
    };
    let (grid, offset) = (arguments.side("ref_feat_shape")?, arguments.real("rope_grid_offset")?.unwrap_or(0.0));
    let temperature = arguments.real("rope_temperature")?.unwrap_or(Rotary::default().temperature);
    if !used {
        return Ok(None);
    }
    match (kind.as_str(), rotate_half) {
        ("" | "cat", false) => Ok(Some(Rotary { grid, offset, temperature, columns_first, ..Rotary::default() })),
        // DINOv3's order of rows and columns is the same for both indexings, and it has neither grid nor offset.
        ("dinov3", true) => Ok(Some(Rotary { temperature, centred: true, rotate_half, ..Rotary::default() })),
        ("mixed", false) => Ok(Some(Rotary { temperature, columns_first, mixed: true, ..Rotary::default() })),
        ("" | "cat" | "dinov3" | "mixed", _) => Err(arguments.unsupported("rope_rotate_half", &rotate_half.into())),
        _ => Err(arguments.unsupported("rope_type", &kind.into())),
    }
}

/// Returns the network of `Beit` for images of `image_size`, and the dialect of its weights.
pub(super) fn beit(arguments: &mut TimmArguments, image_size: usize) -> Result<(&'static str, VitConfig)> {
    arguments.only(BEIT)?;
    arguments.without(IGNORED);
    let common = common(arguments, image_size)?;
    let gated = arguments.flag("swiglu_mlp", false)?;
    let pooled = arguments.text("global_pool", "avg")?;
    let config = VitConfig {
        layer_scale: arguments.real("init_values")?.filter(|value| *value != 0.0),
        activation: if gated { Activation::Swiglu } else { Activation::Gelu },
        final_norm: pooled != "avg",
        absolute_positions: arguments.flag("use_abs_pos_emb", true)?,
        relative_positions: arguments.flag("use_rel_pos_bias", false)?,
        mlp_norm: arguments.flag("scale_mlp", false)?,
        ..common
    };
    Ok((if gated { "timm-eva-gated" } else { "timm-eva" }, config))
}
