//! The families of transformers models that can be read without a card: a table, and what only one family has.

use super::Model;
use crate::arch::{NormKind, PositionKernel, QkNorm, Rotary, SwinVersion, VitConfig};
use crate::directory::config_values::{ChannelStats, HALF, IMAGENET, OPENAI, SupportedValues, integer};
use crate::directory::native;
use crate::directory::processor::DefaultProcessor;
use crate::directory::shapes::TensorShapes;
use crate::preprocess::Interpolation::{self, Bicubic, Bilinear};
use burgess_base::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;

/// A family of transformers models: its `model_type`s, the dialects of its weights, and its defaults.
pub(super) struct ModelFamily {
    /// Values of `model_type`, of whole models and of their image encoders.
    pub types: &'static [&'static str],
    /// The network that its models are.
    pub network: NetworkKind,
    /// Dialects of the weights; the first one whose names the weights have is used.
    pub dialects: &'static [&'static str],
    /// Dialects of the weights if the configuration asks for gated MLPs (`use_swiglu_ffn` or `use_gated_mlp`).
    pub gated: &'static [&'static str],
    /// Default activation.
    pub act: &'static str,
    /// Default epsilon of the norms.
    pub eps: f64,
    /// Default number of attention heads.
    pub heads: usize,
    /// Default side of the images, in pixels.
    pub image_size: usize,
    /// The features that are tapped by default.
    pub tap: DefaultTap,
    /// Default drop-path rate; only in BEiT it increases linearly with depth.
    pub drop_path: f64,
    /// Keys for which only one value is supported.
    pub fixed: &'static SupportedValues,
    /// Preprocessing of the published models of this family.
    pub default_processor: DefaultProcessor,
    /// Whether the network normalises pixels itself.
    pub normalises: bool,
    /// Completes the hyper-parameters of a vision transformer by what only this family has.
    pub complete: fn(&Model, &TensorShapes, VitConfig) -> Result<VitConfig>,
}

/// The networks of transformers models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkKind {
    Vit,
    Sam,
    ConvNext,
    ResNet,
    Swin(SwinVersion),
    Sam2,
}

impl NetworkKind {
    /// A parameter that every network of this kind has.
    pub fn first_parameter(self) -> &'static str {
        match self {
            Self::Vit | Self::Sam | Self::Swin(_) | Self::Sam2 => "patch_embed.proj.weight",
            Self::ConvNext => "stem.0.weight",
            Self::ResNet => "conv1.weight",
        }
    }
}

/// The features that are tapped by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultTap {
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
    network: NetworkKind::Vit,
    dialects: &["transformers-vit"],
    gated: &[],
    act: "gelu",
    eps: 1e-12,
    heads: 12,
    image_size: 224,
    tap: DefaultTap::AfterNorm,
    drop_path: 0.0,
    fixed: &[("num_channels", "3")],
    default_processor: default_processor(Bilinear, HALF, "ViTImageProcessor"),
    normalises: false,
    complete: |_, _, vit| Ok(vit),
};

const CLIP: ModelFamily = ModelFamily {
    types: &["clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model", "altclip", "altclip_vision_model"],
    dialects: &["transformers-clip"],
    act: "quick_gelu",
    eps: 1e-5,
    tap: DefaultTap::BlockBeforeLast,
    default_processor: default_processor(Bicubic, OPENAI, "CLIPImageProcessor"),
    ..PLAIN
};

const DINOV2: ModelFamily = ModelFamily {
    types: &["dinov2", "depth_anything"],
    dialects: &["transformers-dinov2"],
    gated: &["transformers-dinov2-swiglu"],
    eps: 1e-6,
    default_processor: default_processor(Bicubic, IMAGENET, "BitImageProcessor"),
    ..PLAIN
};

const BEIT: ModelFamily = ModelFamily {
    types: &["beit"],
    dialects: &["transformers-beit"],
    drop_path: 0.1,
    fixed: &[("num_channels", "3"), ("use_shared_relative_position_bias", "false")],
    default_processor: default_processor(Bicubic, HALF, "BeitImageProcessor"),
    ..PLAIN
};

const BLIP: ModelFamily = ModelFamily {
    types: &["blip", "blip_vision_model"],
    dialects: &["transformers-blip"],
    eps: 1e-5,
    image_size: 384,
    default_processor: default_processor(Bicubic, OPENAI, "BlipImageProcessor"),
    ..PLAIN
};

const CONVNEXT: ModelFamily = ModelFamily {
    types: &["convnext", "convnextv2"],
    network: NetworkKind::ConvNext,
    dialects: &["transformers-convnext"],
    tap: DefaultTap::BeforeNorm,
    fixed: &[("num_channels", "3"), ("patch_size", "4")],
    default_processor: default_processor(Bicubic, IMAGENET, "ConvNextImageProcessor"),
    ..PLAIN
};

const SWIN: ModelFamily = ModelFamily {
    types: &["swin"],
    network: NetworkKind::Swin(SwinVersion::V1),
    dialects: &["transformers-swin"],
    eps: 1e-5,
    drop_path: 0.1,
    fixed: &[("num_channels", "3"), ("use_absolute_embeddings", "false")],
    default_processor: default_processor(Bicubic, IMAGENET, "ViTImageProcessor"),
    ..PLAIN
};

const FAMILIES: &[ModelFamily] = &[
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
    CLIP,
    ModelFamily {
        types: &["chinese_clip", "chinese_clip_vision_model"],
        default_processor: default_processor(Bicubic, OPENAI, "ChineseCLIPImageProcessor"),
        ..CLIP
    },
    ModelFamily {
        types: &["clipseg", "clipseg_vision_model"],
        default_processor: default_processor(Bicubic, IMAGENET, "ViTImageProcessor"),
        ..CLIP
    },
    ModelFamily {
        types: &["owlvit", "owlvit_vision_model", "owlv2", "owlv2_vision_model"],
        dialects: &["transformers-owlvit"],
        image_size: 768,
        default_processor: default_processor(Bicubic, OPENAI, "OwlViTImageProcessor"),
        ..CLIP
    },
    ModelFamily {
        types: &["mlcd", "mlcd_vision", "mlcd_vision_model"],
        act: "gelu",
        heads: 16,
        image_size: 336,
        fixed: &[("num_channels", "3"), ("num_key_value_groups", "1")],
        complete: mlcd,
        ..CLIP
    },
    ModelFamily {
        types: &["siglip", "siglip_vision_model"],
        dialects: &["transformers-siglip"],
        act: "gelu_pytorch_tanh",
        eps: 1e-6,
        default_processor: default_processor(Bicubic, HALF, "SiglipImageProcessor"),
        ..PLAIN
    },
    DINOV2,
    ModelFamily {
        types: &["dinov2_with_registers"],
        complete: |_, _, vit| Ok(VitConfig { position_antialias: true, ..vit }),
        ..DINOV2
    },
    ModelFamily {
        types: &["dinov3_vit"],
        dialects: &["transformers-dinov3"],
        gated: &["transformers-dinov3-gated"],
        eps: 1e-5,
        heads: 6,
        fixed: &[
            ("num_channels", "3"),
            ("query_bias", "true"),
            ("key_bias", "false"),
            ("value_bias", "true"),
            ("proj_bias", "true"),
            ("mlp_bias", "true"),
        ],
        default_processor: default_processor(Bilinear, IMAGENET, "ViTImageProcessor"),
        complete: dinov3,
        ..PLAIN
    },
    BEIT,
    ModelFamily {
        types: &["data2vec-vision"],
        default_processor: default_processor(Bicubic, IMAGENET, "BeitImageProcessor"),
        ..BEIT
    },
    ModelFamily {
        types: &["dpt"],
        image_size: 384,
        tap: DefaultTap::BeforeNorm,
        fixed: &[("num_channels", "3"), ("is_hybrid", "false")],
        default_processor: default_processor(Bicubic, HALF, "DPTImageProcessor"),
        ..PLAIN
    },
    BLIP,
    ModelFamily {
        types: &["blip-2", "blip_2_vision_model", "instructblip", "instructblip_vision_model"],
        eps: 1e-6,
        heads: 16,
        image_size: 224,
        ..BLIP
    },
    ModelFamily {
        types: &["internvl", "internvl_vision", "internvl_chat", "intern_vit_6b"],
        dialects: &["transformers-internvl", "intern-vit"],
        eps: 1e-6,
        heads: 16,
        image_size: 448,
        default_processor: default_processor(Bicubic, IMAGENET, "CLIPImageProcessor"),
        complete: internvl,
        ..PLAIN
    },
    ModelFamily {
        types: &["aimv2", "aimv2_vision_model"],
        dialects: &["transformers-aimv2", "aimv2"],
        act: "silu",
        heads: 8,
        default_processor: default_processor(Bicubic, OPENAI, "CLIPImageProcessor"),
        complete: aimv2,
        ..PLAIN
    },
    ModelFamily {
        types: &["radio"],
        dialects: &["radio"],
        gated: &["radio-swiglu"],
        eps: 1e-6,
        heads: 16,
        default_processor: default_processor(Bicubic, ([0.0; 3], [1.0; 3]), "CLIPImageProcessor"),
        normalises: true,
        complete: radio,
        ..PLAIN
    },
    ModelFamily {
        types: &["pixio"],
        dialects: &["transformers-pixio"],
        eps: 1e-6,
        heads: 16,
        image_size: 256,
        default_processor: default_processor(Bicubic, IMAGENET, "BitImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["tipsv2", "tipsv2_vision_model"],
        dialects: &["tipsv2"],
        gated: &["tipsv2-swiglu"],
        eps: 1e-6,
        image_size: 448,
        default_processor: default_processor(Bilinear, ([0.0; 3], [1.0; 3]), "SiglipImageProcessor"),
        complete: |_, _, vit| {
            Ok(VitConfig { position_kernel: PositionKernel::Bilinear, position_antialias: true, ..vit })
        },
        ..PLAIN
    },
    ModelFamily {
        types: &["sam", "sam_vision_model"],
        network: NetworkKind::Sam,
        dialects: &["transformers-sam"],
        eps: 1e-6,
        image_size: 1024,
        tap: DefaultTap::BeforeNorm,
        fixed: &[("num_channels", "3"), ("qkv_bias", "true"), ("use_rel_pos", "true")],
        default_processor: default_processor(Bilinear, IMAGENET, "SamImageProcessor"),
        ..PLAIN
    },
    ModelFamily {
        types: &["sam2", "sam2_video", "sam2_vision_model", "sam2_hiera_det_model"],
        network: NetworkKind::Sam2,
        dialects: &["transformers-sam2"],
        eps: 1e-6,
        image_size: 1024,
        tap: DefaultTap::BeforeNorm,
        fixed: &[("num_channels", "3"), ("query_stride", "[2, 2]")],
        default_processor: default_processor(Bilinear, IMAGENET, "Sam2ImageProcessor"),
        ..PLAIN
    },
    SWIN,
    ModelFamily {
        types: &["swinv2"],
        network: NetworkKind::Swin(SwinVersion::V2),
        dialects: &["transformers-swinv2"],
        ..SWIN
    },
    CONVNEXT,
    ModelFamily {
        types: &["dinov3_convnext"],
        dialects: &["transformers-dinov3-convnext"],
        tap: DefaultTap::AfterNorm,
        fixed: &[("num_channels", "3")],
        default_processor: default_processor(Bilinear, IMAGENET, "ViTImageProcessor"),
        ..CONVNEXT
    },
    ModelFamily {
        types: &["resnet"],
        network: NetworkKind::ResNet,
        dialects: &["transformers-resnet"],
        act: "relu",
        tap: DefaultTap::BeforeNorm,
        fixed: &[
            ("num_channels", "3"),
            ("embedding_size", "64"),
            ("downsample_in_first_stage", "false"),
            ("downsample_in_bottleneck", "false"),
        ],
        default_processor: default_processor(Bicubic, IMAGENET, "ConvNextImageProcessor"),
        ..PLAIN
    },
];

/// Finds the family of `model_type`.
///
/// # Errors
/// No family has this type.
pub(super) fn find(model_type: &str) -> Result<&'static ModelFamily> {
    let known = || FAMILIES.iter().flat_map(|k| k.types).copied().chain(native::types()).collect::<Vec<_>>().join(", ");
    FAMILIES.iter().find(|k| k.types.contains(&model_type)).ok_or_else(|| {
        Error::failed(format!("config.json is that of a `{model_type}` model, which is not supported"))
            .hint(format!("use a model of one of these types: {}", known()))
    })
}

/// Reads the base of the rotary frequencies, `rope_theta` in transformers 4 and `rope_parameters.rope_theta` in 5.
fn rope_theta(model: &Model, default: f64) -> Result<f64> {
    let nested = model.vision.get("rope_parameters").and_then(|table| table.get("rope_theta")).and_then(Value::as_f64);
    Ok(nested.or(model.vision.read("rope_theta", Value::as_f64)?).unwrap_or(default))
}

fn mlcd(model: &Model, _: &TensorShapes, vit: VitConfig) -> Result<VitConfig> {
    let temperature = rope_theta(model, 10000.0)?;
    let rotary = Rotary { temperature, rotate_half: true, learned_class: true, ..Rotary::default() };
    Ok(VitConfig { rotary: Some(rotary), ..vit })
}

fn dinov3(model: &Model, _: &TensorShapes, vit: VitConfig) -> Result<VitConfig> {
    let rotary =
        Rotary { temperature: rope_theta(model, 100.0)?, centred: true, rotate_half: true, ..Rotary::default() };
    Ok(VitConfig { rotary: Some(rotary), ..vit })
}

/// The norms of queries and keys of InternViT-6B have the default epsilon of their class.
const INTERNVL_QK_EPS: f64 = 1e-6;

fn internvl(model: &Model, _: &TensorShapes, vit: VitConfig) -> Result<VitConfig> {
    // OpenGVLab's own code has another default, and one epsilon for all norms.
    let original = model.dialect == "intern-vit";
    let default = if original { "rms_norm" } else { "layer_norm" };
    let norm = match model.vision.read("norm_type", Value::as_str)?.unwrap_or(default) {
        "layer_norm" => NormKind::Layer,
        "rms_norm" => NormKind::Rms,
        _ => return Err(model.vision.unsupported("norm_type")),
    };
    let same_eps = original || vit.norm_eps == INTERNVL_QK_EPS;
    if vit.qk_norm != QkNorm::None && (norm != NormKind::Rms || !same_eps) {
        return Err(Error::failed(format!(
            "config.json has norms of queries and keys with norm_type {norm:?} and layer_norm_eps {}",
            vit.norm_eps
        ))
        .hint("write a card: such norms are supported only with rms_norm and an epsilon of 1e-6"));
    }
    if norm != NormKind::Layer && vit.final_norm {
        return Err(Error::failed("config.json has norm_type rms_norm and use_mean_pooling false")
            .hint("write a card: with RMS norms in the blocks, a final layer norm is not supported"));
    }
    Ok(VitConfig { norm, ..vit })
}

fn aimv2(model: &Model, shapes: &TensorShapes, vit: VitConfig) -> Result<VitConfig> {
    if shapes.has("blocks.0.attn.proj.bias") != shapes.has("blocks.0.mlp.fc2.bias") {
        return Err(Error::failed("the output projection of attention or the MLP has biases, and the other has none")
            .hint("write a card: biases are supported in both or in none"));
    }
    Ok(VitConfig {
        norm: NormKind::Rms,
        norm_eps: model.vision.read("rms_norm_eps", Value::as_f64)?.unwrap_or(1e-5),
        sine_positions: !vit.absolute_positions,
        ..vit
    })
}

/// Attention heads of the timm models that C-RADIO is made from, by the beginning of their names.
const RADIO_HEADS: [(&str, usize); 8] = [
    ("vit_tiny_", 3),
    ("vit_small_", 6),
    ("vit_base_", 12),
    ("vit_large_", 16),
    ("vit_so400m_", 16),
    ("vit_huge_", 16),
    ("vit_giant_", 24),
    ("dinov2_vitg14_reg", 24),
];

/// Completes a model of C-RADIO's own code, whose configuration has the arguments of its training.
fn radio_of_args(model: &Model, shapes: &TensorShapes, args: &Value, vit: VitConfig) -> Result<VitConfig> {
    let name = args.get("model").and_then(Value::as_str).unwrap_or_default();
    let (_, heads) = RADIO_HEADS.iter().find(|(start, _)| name.starts_with(start)).ok_or_else(|| {
        Error::failed(format!("config.json: args.model = \"{name}\" is not supported")).hint("write a card")
    })?;
    for (key, only) in [("model_norm", false), ("spectral_reparam", false)] {
        if args.get(key).and_then(Value::as_bool).is_some_and(|found| found != only) {
            return Err(
                Error::failed(format!("config.json: args.{key} = {} is not supported", !only)).hint("write a card")
            );
        }
    }
    let teachers = args.get("teachers").and_then(Value::as_array).into_iter().flatten();
    let names: BTreeSet<&str> = teachers.filter_map(|teacher| teacher.get("name")?.as_str()).collect();
    let each = args.get("cls_token_per_teacher").and_then(Value::as_bool).unwrap_or(false);
    let class_tokens = if each { names.len().max(1) } else { 1 };
    let found = shapes.rows("cls_token").unwrap_or(0);
    let registers = found.checked_sub(class_tokens).ok_or_else(|| {
        Error::failed(format!("config.json has {class_tokens} teachers, but the weights have {found} class tokens"))
            .hint("download config.json and the weights again: they belong to different models")
    })?;
    let norm_eps = model.norm_eps()?;
    Ok(VitConfig { heads: *heads, class_tokens, registers, norm_eps, position_kernel: PositionKernel::Bilinear, ..vit })
}

fn radio(model: &Model, shapes: &TensorShapes, vit: VitConfig) -> Result<VitConfig> {
    if let Some(args) = model.vision.get("args") {
        return radio_of_args(model, shapes, args, vit);
    }
    let class_tokens = model.vision.read("num_cls_tokens", integer)?.unwrap_or(3);
    let registers = model.vision.read("num_registers", integer)?.unwrap_or(7);
    let found = shapes.rows("cls_token").unwrap_or(0);
    if class_tokens.checked_add(registers) != Some(found) || class_tokens == 0 {
        return Err(Error::failed(format!(
            "config.json has {class_tokens} class tokens and {registers} registers, but the weights have {found} in all"
        ))
        .hint("set num_cls_tokens (at least 1) and num_registers to those of the weights"));
    }
    Ok(VitConfig { class_tokens, registers, position_kernel: PositionKernel::Bilinear, ..vit })
}
