//! Reads the arguments of timm's `MaxxVit`: three nested dataclasses, whose fields `transformer_…` and `conv_…`
//! arguments override.

use super::super::parts::{ActivationKind, MapNormKind};
use super::config::{
    MaxxVitAttentionConfig, MaxxVitBlockKind, MaxxVitConfig, MaxxVitConvConfig, MaxxVitConvKind, MaxxVitPool,
    MaxxVitPositions, MaxxVitStride,
};
use crate::json_values::{integer, side};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use serde_json::{Map, Value};

const BLOCKS: &[(&str, MaxxVitBlockKind)] =
    &[("C", MaxxVitBlockKind::Conv), ("T", MaxxVitBlockKind::Transformer), ("M", MaxxVitBlockKind::MultiAxis)];

const KINDS: &[(&str, MaxxVitConvKind)] =
    &[("mbconv", MaxxVitConvKind::Mbconv), ("convnext", MaxxVitConvKind::Convnext)];

const STRIDES: &[(&str, MaxxVitStride)] =
    &[("pool", MaxxVitStride::Pool), ("1x1", MaxxVitStride::Pointwise), ("dw", MaxxVitStride::Depthwise)];

const POOLS: &[(&str, MaxxVitPool)] =
    &[("avg", MaxxVitPool::Avg), ("avg2", MaxxVitPool::Avg2), ("max", MaxxVitPool::Max), ("max2", MaxxVitPool::Max2)];

const POSITIONS: &[(&str, MaxxVitPositions)] = &[
    ("bias", MaxxVitPositions::Table),
    ("bias_tf", MaxxVitPositions::HeadTable),
    ("mlp", MaxxVitPositions::Mlp),
    ("", MaxxVitPositions::None),
];

const NORMS: &[(&str, MapNormKind)] =
    &[("batchnorm2d", MapNormKind::Batch), ("layernorm2d", MapNormKind::Layer), ("layernorm", MapNormKind::Layer)];

const MLP_ACTIVATIONS: &[(&str, Activation)] =
    &[("gelu", Activation::Gelu), ("gelu_tanh", Activation::GeluTanh), ("silu", Activation::Silu)];

/// Reads values from the fields of one dataclass, which `arguments` with a prefix override.
struct Fields<'a> {
    fields: Map<String, Value>,
    arguments: &'a TimmArguments,
    name: &'static str,
}

impl Fields<'_> {
    fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    fn unsupported(&self, key: &str, value: &Value) -> Error {
        self.arguments.unsupported(&format!("{}.{key}", self.name), value)
    }

    /// Reads a value that must be there.
    fn read<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let value = self.take(key).unwrap_or_default();
        read(&value).ok_or_else(|| self.unsupported(key, &value))
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        self.read(key, Value::as_bool)
    }

    fn real(&mut self, key: &str) -> Result<f64> {
        self.read(key, Value::as_f64)
    }

    fn number(&mut self, key: &str) -> Result<usize> {
        self.read(key, integer)
    }

    fn one_of<T: Copy>(&mut self, key: &str, known: &[(&str, T)]) -> Result<T> {
        let find = |value: &Value| known.iter().find(|(name, _)| Some(*name) == value.as_str()).map(|(_, kind)| *kind);
        self.read(key, find)
    }

    /// Reads a layer scale, which is `None` for none.
    fn scale(&mut self, key: &str) -> Result<f64> {
        match self.take(key) {
            None => Ok(0.0),
            Some(value) => value.as_f64().ok_or_else(|| self.unsupported(key, &value)),
        }
    }

    fn only(&mut self, key: &str, supported: &Value) -> Result<()> {
        match self.take(key) {
            Some(value) if value != *supported => Err(self.unsupported(key, &value)),
            _ => Ok(()),
        }
    }

    fn done(&self) -> Result<()> {
        match self.fields.iter().next() {
            None => Ok(()),
            Some((key, value)) => Err(self.unsupported(key, value)),
        }
    }
}

impl TimmModel for MaxxVitConfig {
    const CLASSES: &'static [&'static str] = &["MaxxVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        let Some(Value::Object(mut model)) = arguments.take("model_cfg") else {
            return Err(arguments.invalid("there is no model_cfg"));
        };
        let mut part = |model: &mut Map<String, Value>, key: &str, prefix: &str| -> Result<Map<String, Value>> {
            let Some(Value::Object(mut part)) = model.remove(key) else {
                return Err(arguments.invalid(&format!("model_cfg has no {key}")));
            };
            overlay(arguments, &mut part, prefix);
            Ok(part)
        };
        let conv = part(&mut model, "conv_cfg", "conv_")?;
        let transformer = part(&mut model, "transformer_cfg", "transformer_")?;
        overlay(arguments, &mut model, "");
        let conv = self::conv(Fields { fields: conv, arguments, name: "conv_cfg" })?;
        let attention = attention(Fields { fields: transformer, arguments, name: "transformer_cfg" }, image_size)?;
        let mut fields = Fields { fields: model, arguments, name: "model_cfg" };
        let numbers = |value: &Value| value.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
        let widths = fields.read("embed_dim", numbers)?;
        let depths = fields.read("depths", numbers)?;
        let stem_widths = fields.read("stem_width", |value| match value.as_array() {
            None => integer(value).map(|n| [n; 2]),
            Some(list) => list.iter().map(integer).collect::<Option<Vec<_>>>()?.try_into().ok(),
        })?;
        let blocks = fields.read("block_type", |value| {
            value.as_array()?.iter().zip(&depths).map(|(kinds, depth)| stage(kinds, *depth)).collect::<Option<Vec<_>>>()
        })?;
        let stem_bias = fields.flag("stem_bias")?;
        // A head with a hidden layer has its norm behind the pooling.
        let final_norm = !fields.take("head_hidden_size").is_some_and(|size| size != 0);
        fields.take("weight_init");
        fields.done()?;
        let config =
            Self { image_size, widths, blocks, stem_widths, stem_bias, conv, attention, final_norm, drop_path };
        Ok(TimmNetwork::new(config).with_dialect("timm-maxxvit"))
    }
}

/// Replaces fields by the arguments of the same name behind `prefix`.
fn overlay(arguments: &mut TimmArguments, fields: &mut Map<String, Value>, prefix: &str) {
    for (key, value) in fields {
        if let Some(own) = arguments.take(&format!("{prefix}{key}")) {
            *value = own;
        }
    }
}

/// The kinds of the blocks of a stage: one for all, or a list whose last one is repeated.
fn stage(kinds: &Value, depth: usize) -> Option<Vec<MaxxVitBlockKind>> {
    let find = |kind: &Value| BLOCKS.iter().find(|(name, _)| Some(*name) == kind.as_str()).map(|(_, kind)| *kind);
    let mut kinds = match kinds.as_array() {
        None => vec![find(kinds)?],
        Some(list) => list.iter().map(find).collect::<Option<Vec<_>>>()?,
    };
    let last = *kinds.last()?;
    kinds.resize(depth, last);
    Some(kinds)
}

fn conv(mut fields: Fields) -> Result<MaxxVitConvConfig> {
    let activation = |value: &Value| {
        ActivationKind::TIMM.iter().find(|(name, _)| Some(*name) == value.as_str()).map(|(_, kind)| *kind)
    };
    let config = MaxxVitConvConfig {
        kind: fields.one_of("block_type", KINDS)?,
        expand_ratio: fields.real("expand_ratio")?,
        expand_output: fields.flag("expand_output")?,
        kernel: fields.number("kernel_size")?,
        group_size: fields.number("group_size")?,
        pre_norm_act: fields.flag("pre_norm_act")?,
        output_bias: fields.flag("output_bias")?,
        stride: fields.one_of("stride_mode", STRIDES)?,
        pool: fields.one_of("pool_type", POOLS)?,
        downsample_pool: fields.one_of("downsample_pool_type", POOLS)?,
        same_padding: fields.one_of("padding", &[("", false), ("same", true)])?,
        early_attention: fields.flag("attn_early")?,
        attention_ratio: fields.real("attn_ratio")?,
        attention_activation: fields.read("attn_act_layer", activation)?,
        layer_scale: fields.scale("init_values")?,
        activation: fields.read("act_layer", activation)?,
        norm: fields.one_of("norm_layer", NORMS)?,
        norm_eps: fields.real("norm_eps")?,
    };
    fields.only("attn_layer", &"se".into())?;
    fields.take("norm_layer_cl");
    fields.done()?;
    // The layer scale of an inverted bottleneck is not used.
    let layer_scale = if config.kind == MaxxVitConvKind::Mbconv { 0.0 } else { config.layer_scale };
    Ok(MaxxVitConvConfig { layer_scale, ..config })
}

fn attention(mut fields: Fields, image_size: usize) -> Result<MaxxVitAttentionConfig> {
    let ratio = fields.number("partition_ratio")?;
    let given = |fields: &mut Fields, key: &str| match fields.take(key) {
        None => Ok(None),
        Some(value) => side(&value).map(Some).ok_or_else(|| fields.unsupported(key, &value)),
    };
    let (window, grid) = (given(&mut fields, "window_size")?, given(&mut fields, "grid_size")?);
    let partition = image_size.checked_div(ratio).unwrap_or(0);
    // Without windows, timm sets both from the size of the images.
    let (window, grid) = window.map_or((partition, partition), |window| (window, grid.unwrap_or(window)));
    let config = MaxxVitAttentionConfig {
        head_dim: fields.number("dim_head")?,
        head_first: fields.flag("head_first")?,
        expand_ratio: fields.real("expand_ratio")?,
        expand_first: fields.flag("expand_first")?,
        shortcut_bias: fields.flag("shortcut_bias")?,
        bias: fields.flag("attn_bias")?,
        pool: fields.one_of("pool_type", POOLS)?,
        positions: fields.one_of("rel_pos_type", POSITIONS)?,
        position_hidden: fields.number("rel_pos_dim")?,
        window,
        grid,
        window_attention: !fields.flag("no_block_attn")?,
        layer_scale: fields.scale("init_values")?,
        activation: fields.one_of("act_layer", MLP_ACTIVATIONS)?,
        norm: fields.one_of("norm_layer", NORMS)?,
        norm_eps: fields.real("norm_eps")?,
    };
    fields.only("norm_layer_cl", &"layernorm".into())?;
    fields.only("use_nchw_attn", &false.into())?;
    for rate in ["attn_drop", "proj_drop"] {
        fields.take(rate);
    }
    fields.done()?;
    Ok(config)
}
