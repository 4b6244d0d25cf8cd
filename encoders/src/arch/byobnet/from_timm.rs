//! Reads the arguments of timm's `ByobNet`.

use super::super::parts::{AntiAlias, ChannelAttentionKind, NormActKind, ShortcutKind, divisible, rounded};
use super::config::{
    ByobBlockConfig, ByobBlockKind, ByobNetConfig, ByobStemConfig, ByobStemKind, ByobStemPool, ByobTransformerConfig,
    SelfAttentionKind,
};
use crate::arch::parts::ActivationKind;
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::Result;
use serde_json::{Map, Value};

const KINDS: [(&str, ByobBlockKind); 9] = [
    ("basic", ByobBlockKind::Basic),
    ("bottle", ByobBlockKind::Bottleneck),
    ("dark", ByobBlockKind::Dark),
    ("edge", ByobBlockKind::Edge),
    ("rep", ByobBlockKind::Rep),
    ("one", ByobBlockKind::One),
    ("self_attn", ByobBlockKind::SelfAttention),
    ("mobilevit", ByobBlockKind::MobileVit),
    ("mobilevit2", ByobBlockKind::MobileVitV2),
];

const POOLS: [(&str, Option<ByobStemPool>); 7] = [
    ("", None),
    ("max", Some(ByobStemPool::Max)),
    ("maxpool", Some(ByobStemPool::Max)),
    ("avg", Some(ByobStemPool::Average)),
    ("avgpool", Some(ByobStemPool::Average)),
    ("max2", Some(ByobStemPool::Max2)),
    ("avg2", Some(ByobStemPool::Average2)),
];

const FILTERS: [(&str, Option<AntiAlias>); 4] = [
    ("", None),
    ("avg", Some(AntiAlias::Average)),
    ("blur", Some(AntiAlias::Blur)),
    ("blurpc", Some(AntiAlias::BlurZeros)),
];

impl TimmModel for ByobNetConfig {
    const CLASSES: &'static [&'static str] = &["ByobNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.overlay("model_cfg")?;
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["fixed_input_size", "global_pool", "head_hidden_size", "head_type", "zero_init_last"]);
        let factor = arguments.real("width_factor")?.unwrap_or(1.0);
        let shortcut = arguments.one_of("downsample", "conv1x1", &ShortcutKind::TIMM)?;
        let defaults = Defaults {
            factor,
            attention: layer(arguments, "attn_layer", "attn_kwargs")?,
            self_attention: layer(arguments, "self_attn_layer", "self_attn_kwargs")?,
            options: options(arguments, "block_kwargs")?,
        };
        let blocks = arguments.take("blocks").unwrap_or_default();
        let mut stages = Vec::new();
        for stage in blocks.as_array().map(Vec::as_slice).unwrap_or_default() {
            let groups = match stage {
                Value::Array(groups) => groups.iter().collect(),
                one => vec![one],
            };
            let mut blocks = Vec::new();
            for group in groups {
                defaults.blocks(arguments, group, &mut blocks)?;
            }
            stages.push(blocks);
        }
        let attention = defaults.attention(arguments)?;
        Ok(TimmNetwork::new(Self {
            image_size,
            stem: stem(arguments, factor, attention, &stages)?,
            stages,
            final_width: rounded(factor * arguments.number("num_features", 0)? as f64),
            shortcut,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            norm: NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())?,
            anti_alias: arguments.one_of("aa_layer", "", &FILTERS)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A layer by name, with its settings; an empty name is no layer.
type Layer = (Option<String>, Map<String, Value>);

/// Reads a name and the settings that belong to it.
fn layer(arguments: &mut TimmArguments, name: &str, settings: &str) -> Result<Layer> {
    let text = arguments.text(name, "")?;
    Ok((Some(text).filter(|text| !text.is_empty()), options(arguments, settings)?))
}

fn options(arguments: &mut TimmArguments, key: &str) -> Result<Map<String, Value>> {
    Ok(arguments.read(key, |value| value.as_object().cloned())?.unwrap_or_default())
}

fn stem(
    arguments: &mut TimmArguments,
    factor: f64,
    attention: Option<ChannelAttentionKind>,
    stages: &[Vec<ByobBlockConfig>],
) -> Result<ByobStemConfig> {
    let kind = arguments.text("stem_type", "3x3")?;
    let pool = if arguments.is_none("stem_pool") { "" } else { "maxpool" };
    let pool = arguments.one_of("stem_pool", pool, &POOLS)?;
    let scaled = |n: usize| rounded(n as f64 * factor);
    let list = |value: &Value| match value {
        Value::Array(list) => list.iter().map(integer).collect::<Option<Vec<_>>>(),
        one => Some(vec![integer(one)?]),
    };
    let first = stages.iter().flatten().next().map_or(0, |block| block.width);
    let channels = match arguments.read("stem_chs", list)?.unwrap_or_else(|| vec![32]).as_slice() {
        [0] => vec![first],
        channels => channels.iter().map(|n| scaled(*n)).collect(),
    };
    let last = channels.last().copied().unwrap_or_default();
    // `count` convolutions, each with `decay` times the channels of the next.
    let tower = |count: i32, decay: f64| (0..count).rev().map(|i| rounded(last as f64 * decay.powi(i))).collect();
    let plain = |channels: Vec<usize>| ByobStemConfig {
        kind: ByobStemKind::Convolutions,
        channels,
        kernel: 3,
        bare: 0,
        pool,
        attention: None,
    };
    let parallel = |kind| ByobStemConfig { kind, pool: None, attention, ..plain(vec![last]) };
    Ok(match kind.as_str() {
        "quad" => plain(tower(4, 0.5)),
        "quad2" => ByobStemConfig { bare: 2, ..plain(tower(4, 0.5)) },
        "tiered" => plain(vec![3 * last / 8, last / 2, last]),
        "deep" => plain(tower(3, 1.0)),
        "rep" => parallel(ByobStemKind::Rep),
        "one" => parallel(ByobStemKind::One),
        "7x7" => ByobStemConfig { kernel: 7, ..plain(vec![last]) },
        "" | "3x3" => plain(channels),
        other => return Err(arguments.unsupported("stem_type", &other.into())),
    })
}

/// Settings of the model that its blocks may override.
struct Defaults {
    factor: f64,
    attention: Layer,
    self_attention: Layer,
    options: Map<String, Value>,
}

impl Defaults {
    /// Channel attention of blocks that state none.
    fn attention(&self, arguments: &TimmArguments) -> Result<Option<ChannelAttentionKind>> {
        let (name, settings) = &self.attention;
        name.as_ref().map(|name| ChannelAttentionKind::from_timm(arguments, name, settings)).transpose()
    }

    /// Reads equal blocks of a stage.
    fn blocks(&self, arguments: &TimmArguments, group: &Value, blocks: &mut Vec<ByobBlockConfig>) -> Result<()> {
        let get = |key: &str| group.get(key).filter(|value| !value.is_null());
        let bad = |key: &str| arguments.unsupported(&format!("blocks.{key}"), group.get(key).unwrap_or(&Value::Null));
        let real = |key: &str, default: f64| get(key).map_or(Some(default), Value::as_f64).ok_or_else(|| bad(key));
        let number = |key: &str, default: usize| get(key).map_or(Some(default), integer).ok_or_else(|| bad(key));
        let kind = get("type").and_then(Value::as_str).and_then(|name| KINDS.iter().find(|(known, _)| *known == name));
        let (_, kind) = *kind.ok_or_else(|| bad("type"))?;
        let width = divisible(real("c", 0.0)? * self.factor, 8);
        let depth = number("d", 1)?;
        let options = get("block_kwargs").map_or(Some(&self.options), Value::as_object);
        let options = options.ok_or_else(|| bad("block_kwargs"))?;
        let mut block = ByobBlockConfig {
            depth,
            stride: number("s", 2)?,
            ratio: real("br", 1.0)?,
            attention: self.layer_of(group, "attn", &self.attention, |name, settings| {
                ChannelAttentionKind::from_timm(arguments, name, settings)
            })?,
            self_attention: self.layer_of(group, "self_attn", &self.self_attention, |name, settings| {
                SelfAttentionKind::from_timm(arguments, name, settings)
            })?,
            ..ByobBlockConfig::plain(kind, width)
        };
        if kind != ByobBlockKind::SelfAttention {
            block.self_attention = None;
        }
        let mobile = matches!(kind, ByobBlockKind::MobileVit | ByobBlockKind::MobileVitV2);
        if mobile {
            let number = |key: &str, default: usize| {
                options.get(key).filter(|value| !value.is_null()).map_or(Some(default), integer).ok_or_else(|| bad(key))
            };
            let inner = number("transformer_dim", divisible(block.ratio * width as f64, 8))?;
            let ratio = options.get("mlp_ratio").map_or(Some(2.0), Value::as_f64).ok_or_else(|| bad("mlp_ratio"))?;
            block.transformer = Some(ByobTransformerConfig {
                width: inner,
                depth: number("transformer_depth", 2)?,
                patch: number("patch_size", 8)?,
                heads: number("num_heads", 4)?,
                mlp_hidden: times(inner, ratio),
            });
            // These blocks have no channel attention, whatever the network has.
            block.attention = None;
        }
        let transformer = ["transformer_dim", "transformer_depth", "patch_size", "num_heads", "mlp_ratio"];
        for (key, value) in options.iter().filter(|(key, _)| !(mobile && transformer.contains(&key.as_str()))) {
            let unsupported = || arguments.unsupported(&format!("block_kwargs.{key}"), value);
            let (flag, count) = (value.as_bool(), integer(value));
            match (key.as_str(), flag, count) {
                ("extra_conv", Some(flag), _) => block.extra_convolution = flag,
                ("linear_out", Some(flag), _) => block.linear_output = flag,
                ("bottle_in", Some(flag), _) => block.ratio_of_input = flag,
                ("kernel_size", _, Some(count)) => block.kernel = count,
                ("num_conv_branches", _, Some(count)) => block.branches = count,
                _ => return Err(unsupported()),
            }
        }
        match get("gs") {
            // RepVGG: every second block of a stage has this number of groups.
            Some(Value::Object(alternating)) => {
                let groups = alternating.get("<lambda>").and_then(|l| l.get("groups")).and_then(integer);
                let groups = groups.filter(|n| *n > 0).ok_or_else(|| bad("gs"))?;
                for index in 0..depth {
                    let group_size = if index % 2 == 1 { width / groups } else { 0 };
                    blocks.push(ByobBlockConfig { depth: 1, group_size, ..block.clone() });
                }
            }
            _ => blocks.push(ByobBlockConfig { group_size: number("gs", 0)?, ..block }),
        }
        Ok(())
    }

    /// Reads a layer of a block: its own name and settings, where it has them, or those of the model.
    fn layer_of<T>(
        &self,
        group: &Value,
        key: &str,
        default: &Layer,
        read: impl Fn(&str, &Map<String, Value>) -> Result<T>,
    ) -> Result<Option<T>> {
        let own = group.get(format!("{key}_layer")).and_then(Value::as_str);
        let settings = group.get(format!("{key}_kwargs")).and_then(Value::as_object).unwrap_or(&default.1);
        match own.or(default.0.as_deref()) {
            None | Some("") => Ok(None),
            Some(name) => read(name, settings).map(Some),
        }
    }
}

impl SelfAttentionKind {
    /// Reads the name of timm's self-attention and its arguments.
    fn from_timm(arguments: &TimmArguments, name: &str, settings: &Map<String, Value>) -> Result<Self> {
        let bad = |key: &str| {
            arguments.unsupported(&format!("self_attn_kwargs.{key}"), settings.get(key).unwrap_or(&Value::Null))
        };
        let get = |key: &str| settings.get(key).filter(|value| !value.is_null());
        let number = |key: &str, default: usize| get(key).map_or(Some(default), integer).ok_or_else(|| bad(key));
        let known: &[&str] = match name {
            "bottleneck" => &["num_heads", "dim_head", "qk_ratio"],
            "halo" => &["num_heads", "dim_head", "qk_ratio", "block_size", "halo_size"],
            "lambda" => &["num_heads", "dim_head", "r"],
            other => return Err(arguments.unsupported("self_attn_layer", &other.into())),
        };
        if let Some(key) = settings.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(bad(key));
        }
        let key_width = get("dim_head").map(|value| integer(value).ok_or_else(|| bad("dim_head"))).transpose()?;
        let key_ratio = get("qk_ratio").map_or(Some(1.0), Value::as_f64).ok_or_else(|| bad("qk_ratio"))?;
        Ok(match name {
            "bottleneck" => Self::Bottleneck { heads: number("num_heads", 4)?, key_width, key_ratio },
            "halo" => Self::Halo {
                heads: number("num_heads", 8)?,
                key_width,
                key_ratio,
                block_size: number("block_size", 8)?,
                halo_size: number("halo_size", 3)?,
            },
            _ => Self::Lambda {
                heads: number("num_heads", 4)?,
                key_width: key_width.unwrap_or(16),
                kernel: match settings.get("r") {
                    Some(Value::Null) => None,
                    _ => Some(number("r", 9)?),
                },
            },
        })
    }
}
