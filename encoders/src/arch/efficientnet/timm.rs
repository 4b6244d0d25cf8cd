//! Reads the arguments of timm's `EfficientNet` and `MobileNetV3`.

use super::config::{EfficientNetConfig, PaddingKind, SqueezeKind};
use super::definition::{ChannelRounding, Scaling, SqueezeRounding, resolve};
use super::pruned;
use crate::arch::parts::{ActivationKind, AntiAlias, NormActKind};
use crate::json_values::{SupportedValues, integer};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;
use serde_json::{Map, Value};

const FIXED: &SupportedValues = &[("in_chans", "3"), ("output_stride", "32")];

/// Reads `make` with its settings from the name of one of timm's functions or classes, alone or with settings.
fn with_settings<T>(value: &Value, make: impl Fn(&str, &Map<String, Value>) -> Option<T>) -> Option<T> {
    match value {
        Value::String(name) => make(name, &Map::new()),
        Value::Object(one) => match one.iter().collect::<Vec<_>>().as_slice() {
            [(name, Value::Object(settings))] => make(name, settings),
            _ => None,
        },
        _ => None,
    }
}

/// Whether all settings are among `known`.
fn only(settings: &Map<String, Value>, known: &[&str]) -> bool {
    settings.keys().all(|key| known.contains(&key.as_str()))
}

fn real(settings: &Map<String, Value>, key: &str, default: f64) -> Option<f64> {
    settings.get(key).filter(|v| !v.is_null()).map_or(Some(default), Value::as_f64)
}

fn number(settings: &Map<String, Value>, key: &str, default: usize) -> Option<usize> {
    settings.get(key).filter(|v| !v.is_null()).map_or(Some(default), integer)
}

fn rounding(value: &Value) -> Option<ChannelRounding> {
    with_settings(value, |name, settings| {
        if name != "round_channels" || !only(settings, &["multiplier", "divisor", "round_limit"]) {
            return None;
        }
        Some(ChannelRounding {
            multiplier: real(settings, "multiplier", 1.0)?,
            divisor: number(settings, "divisor", 8)?,
            limit: real(settings, "round_limit", 0.9)?,
        })
    })
}

/// The channel attention of all blocks.
struct Attention {
    kind: SqueezeKind,
    activation: Option<ActivationKind>,
    gate: ActivationKind,
    rounding: SqueezeRounding,
}

fn attention(value: &Value) -> Option<Attention> {
    let named = |value: &Value| {
        let name = value.as_str()?;
        ActivationKind::TIMM.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    };
    with_settings(value, |name, settings| match name {
        "SqueezeExcite" if only(settings, &["gate_layer", "force_act_layer", "rd_round_fn"]) => Some(Attention {
            kind: SqueezeKind::SqueezeExcite,
            activation: settings.get("force_act_layer").map(|v| named(v).ok_or(())).transpose().ok()?,
            gate: settings.get("gate_layer").map_or(Some(ActivationKind::Sigmoid), named)?,
            rounding: match settings.get("rd_round_fn") {
                None => SqueezeRounding::Nearest,
                Some(function) => SqueezeRounding::Channels(rounding(function)?),
            },
        }),
        "gc" if settings.is_empty() => Some(Attention {
            kind: SqueezeKind::GlobalContext,
            activation: None,
            gate: ActivationKind::Sigmoid,
            rounding: SqueezeRounding::Floor,
        }),
        _ => None,
    })
}

/// The call that decodes the blocks.
struct Definitions {
    stages: Vec<Vec<String>>,
    depth: Vec<f64>,
    round_depth: bool,
    fixed_ends: bool,
    experts: usize,
    group_size: Option<usize>,
}

fn definitions(value: &Value) -> Option<Definitions> {
    const KNOWN: &[&str] =
        &["arch_def", "depth_multiplier", "depth_trunc", "experts_multiplier", "fix_first_last", "group_size"];
    let call = value.as_object().filter(|call| only(call, KNOWN))?;
    let text = |value: &Value| value.as_str().map(str::to_string);
    let stage = |stage: &Value| stage.as_array()?.iter().map(text).collect::<Option<Vec<_>>>();
    let stages = call.get("arch_def")?.as_array()?.iter().map(stage).collect::<Option<Vec<_>>>()?;
    let depth = match call.get("depth_multiplier") {
        None => vec![1.0; stages.len()],
        Some(Value::Array(list)) => list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()?,
        Some(one) => vec![one.as_f64()?; stages.len()],
    };
    let usable = depth.len() == stages.len() && depth.iter().all(|d| *d > 0.0 && *d < 100.0);
    let round_depth = match call.get("depth_trunc").map(Value::as_str) {
        None | Some(Some("ceil")) => false,
        Some(Some("round")) => true,
        Some(_) => return None,
    };
    usable.then_some(Definitions {
        stages,
        depth,
        round_depth,
        fixed_ends: call.get("fix_first_last").map_or(Some(false), Value::as_bool)?,
        experts: number(call, "experts_multiplier", 1)?,
        group_size: match call.get("group_size").filter(|v| !v.is_null()) {
            None => None,
            Some(size) => Some(integer(size)?),
        },
    })
}

impl TimmModel for EfficientNetConfig {
    const CLASSES: &'static [&'static str] = &["EfficientNet", "MobileNetV3"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(FIXED)?;
        arguments.without(IGNORED);
        let v3 = arguments.class == "MobileNetV3";
        if v3 {
            // The classifier's own convolution follows the pooling.
            arguments.without(&["head_bias", "head_norm"]);
        }
        let features = arguments.number("num_features", 1280)?;
        arguments.without(&["global_pool"]);
        let blocks = arguments.read("block_args", definitions)?;
        let blocks = blocks.ok_or_else(|| arguments.invalid("it has no block_args"))?;
        let channels = arguments.read("round_chs_fn", rounding)?.unwrap_or_default();
        let attention = arguments.read("se_layer", attention)?.unwrap_or(Attention {
            kind: SqueezeKind::SqueezeExcite,
            activation: None,
            gate: ActivationKind::Sigmoid,
            rounding: SqueezeRounding::Nearest,
        });
        let stem = arguments.number("stem_size", if v3 { 16 } else { 32 })?;
        let stem = if arguments.flag("fix_stem", false)? { stem } else { channels.apply(stem as f64) };
        let scaling = Scaling {
            depth: blocks.depth,
            round_depth: blocks.round_depth,
            fixed_ends: blocks.fixed_ends,
            experts: blocks.experts,
            group_size: blocks.group_size,
            channels,
            squeeze_expanded: v3 && arguments.flag("se_from_exp", true)?,
            squeeze: attention.rounding,
        };
        let anti_aliasing = arguments.read("aa_layer", |value| match value.as_str()? {
            "avg" | "avgpool" => Some(AntiAlias::Average),
            "blur" | "blurpool" => Some(AntiAlias::Blur),
            "blurpc" => Some(AntiAlias::BlurZeros),
            _ => None,
        })?;
        let padding = arguments.one_of("pad_type", "", &[("", PaddingKind::Symmetric), ("same", PaddingKind::Same)])?;
        let mut config = Self {
            image_size,
            stem_channels: stem,
            stem_kernel: if v3 { 3 } else { arguments.number("stem_kernel_size", 3)? },
            stages: resolve(&blocks.stages, stem, &scaling)?,
            head_channels: if v3 { 0 } else { features },
            padding,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            norm: NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())?,
            squeeze: attention.kind,
            squeeze_activation: attention.activation,
            squeeze_gate: attention.gate,
            anti_aliasing,
            layer_scale: v3 && arguments.real("layer_scale_init_value")?.is_some(),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        };
        if arguments.flag("pruned", false)? {
            pruned::apply(arguments, &mut config)?;
        }
        Ok(TimmNetwork::new(config).with_dialect("timm-pooled-head"))
    }
}
