//! Reads the arguments of timm's `ResNet`: ResNet, wide ResNet, ResNeXt, SENet, ECA-ResNet, ResNet-RS, Res2Net,
//! ResNeSt and SKNet.

use crate::arch::parts::{ActivationKind, AntiAlias, ChannelAttentionKind, ChannelGroups, NormActKind};
use crate::arch::{PrunedChannels, ResBlockKind, ResBlockVariant, ResNetConfig, ResStemKind};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;
use serde_json::{Map, Value};

const BLOCKS: [(&str, ResBlockKind); 6] = [
    ("BasicBlock", ResBlockKind::Basic),
    ("Bottleneck", ResBlockKind::Bottleneck),
    ("Bottle2neck", ResBlockKind::Bottleneck),
    ("ResNestBottleneck", ResBlockKind::Bottleneck),
    ("SelectiveKernelBasic", ResBlockKind::Basic),
    ("SelectiveKernelBottleneck", ResBlockKind::Bottleneck),
];

/// Output channels of pruned networks, one per line: the name in timm, then the channels of all convolutions of the
/// blocks in the order of the layers, without the shortcuts.
const PRUNED: &str = include_str!("pruned_resnets.tsv");

const STEMS: [(&str, ResStemKind); 3] =
    [("", ResStemKind::Plain), ("deep", ResStemKind::Deep), ("deep_tiered", ResStemKind::DeepTiered)];

const FILTERS: [(&str, Option<AntiAlias>); 3] =
    [("", None), ("AvgPool2d", Some(AntiAlias::Average)), ("BlurPool2d", Some(AntiAlias::Blur))];

impl TimmModel for ResNetConfig {
    const CLASSES: &'static [&'static str] = &["ResNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["drop_block_rate", "global_pool", "zero_init_last"]);
        let block_class = arguments.read("block", |value| Some(value.clone()))?;
        let block_class = block_class.ok_or_else(|| arguments.invalid("it has no `block`"))?;
        let (block, stage_blocks) = blocks(&block_class).ok_or_else(|| arguments.unsupported("block", &block_class))?;
        let mut options = arguments.read("block_args", |value| value.as_object().cloned())?.unwrap_or_default();
        let attention = attention(arguments, options.remove("attn_layer"))?;
        let variant = variant(arguments, block_class.as_str().unwrap_or_default(), &mut options)?;
        if let Some((key, value)) = options.iter().next() {
            return Err(arguments.unsupported(&format!("block_args.{key}"), value));
        }
        let depths = arguments.four("layers", [0; 4])?;
        let pruned = if arguments.flag("pruned", false)? { Some(pruned(arguments, depths)?) } else { None };
        let (norm_groups, norm_eps) = match NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())? {
            NormActKind::Batch { eps } => (None, eps),
            NormActKind::Group { groups: ChannelGroups::Count(count), eps } => (Some(count), eps),
            other => return Err(arguments.invalid(&format!("its norm {other:?} is not supported"))),
        };
        Ok(TimmNetwork::new(Self {
            channels: arguments.four("channels", [64, 128, 256, 512])?,
            stem: arguments.one_of("stem_type", "", &STEMS)?,
            stem_width: arguments.number("stem_width", 64)?,
            groups: arguments.number("cardinality", 1)?,
            base_width: arguments.number("base_width", 64)?,
            average_down: arguments.flag("avg_down", false)?,
            stage_blocks,
            reduce_first: arguments.number("block_reduce_first", 1)?,
            shortcut_kernel: arguments.number("down_kernel_size", 1)?,
            convolved_pool: arguments.flag("replace_stem_pool", false)?,
            attention,
            variant,
            pruned,
            anti_alias: arguments.one_of("aa_layer", "", &FILTERS)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            norm_groups,
            norm_eps,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
            ..Self::plain(image_size, block, depths)
        })
        .with_dialect("timm-resnet"))
    }
}

/// Reads the kind of all blocks, or a list of one kind per stage, `BasicBlock` or `Bottleneck`.
fn blocks(value: &Value) -> Option<(ResBlockKind, Option<[ResBlockKind; 4]>)> {
    let known = |value: &Value, known: &[(&str, ResBlockKind)]| {
        let name = value.as_str()?;
        known.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    };
    match value {
        Value::Array(list) => {
            let kinds: Option<Vec<_>> = list.iter().map(|one| known(one, &BLOCKS[..2])).collect();
            let kinds: [ResBlockKind; 4] = kinds?.try_into().ok()?;
            Some((kinds[0], Some(kinds)))
        }
        one => Some((known(one, &BLOCKS)?, None)),
    }
}

/// Reads the channel attention of the blocks.
fn attention(arguments: &TimmArguments, layer: Option<Value>) -> Result<Option<ChannelAttentionKind>> {
    let none = Map::new();
    match layer {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => ChannelAttentionKind::from_timm(arguments, &name, &none).map(Some),
        Some(other) => {
            let entry = other.as_object().filter(|layer| layer.len() == 1).and_then(|layer| layer.iter().next());
            let entry = entry.and_then(|(name, settings)| Some((name, settings.as_object()?)));
            let (name, settings) = entry.ok_or_else(|| arguments.unsupported("block_args.attn_layer", &other))?;
            ChannelAttentionKind::from_timm(arguments, name, settings).map(Some)
        }
    }
}

/// Takes the options of the blocks of Res2Net, ResNeSt and SKNet.
fn variant(
    arguments: &TimmArguments,
    block: &str,
    options: &mut Map<String, Value>,
) -> Result<Option<ResBlockVariant>> {
    let mut number = |key: &str, default: usize| match options.remove(key) {
        None => Ok(default),
        Some(value) => integer(&value).ok_or_else(|| arguments.unsupported(&format!("block_args.{key}"), &value)),
    };
    match block {
        "Bottle2neck" => Ok(Some(ResBlockVariant::MultiScale { scale: number("scale", 4)? })),
        "ResNestBottleneck" => {
            let radix = number("radix", 1)?;
            let flag = |value: Option<Value>| value.and_then(|value| value.as_bool()).unwrap_or(false);
            let (pooled, pool_first) = (flag(options.remove("avd")), flag(options.remove("avd_first")));
            if !pooled {
                return Err(arguments.unsupported("block_args.avd", &false.into()));
            }
            Ok(Some(ResBlockVariant::Split { radix, pool_first }))
        }
        "SelectiveKernelBasic" | "SelectiveKernelBottleneck" => {
            let settings = options.remove("sk_kwargs").unwrap_or_else(|| Map::new().into());
            let bad = || arguments.unsupported("block_args.sk_kwargs", &settings);
            let settings = settings.as_object().ok_or_else(bad)?;
            let known = |key: &String| matches!(key.as_str(), "rd_ratio" | "rd_divisor" | "split_input");
            let get = |key: &str| settings.get(key);
            let ratio = get("rd_ratio").map_or(Some(1.0 / 16.0), Value::as_f64);
            let divisor = get("rd_divisor").map_or(Some(8), integer);
            let split = get("split_input").map_or(Some(true), Value::as_bool);
            match (ratio, divisor, split, settings.keys().all(known)) {
                (Some(ratio), Some(divisor), Some(split_input), true) => {
                    Ok(Some(ResBlockVariant::Selective { ratio, divisor, split_input }))
                }
                _ => Err(bad()),
            }
        }
        _ => Ok(None),
    }
}

/// The channels that are left of a pruned network of bottlenecks.
fn pruned(arguments: &TimmArguments, depths: [usize; 4]) -> Result<PrunedChannels> {
    let unknown = || arguments.invalid("its pruned channels are not known");
    let line = PRUNED.lines().find(|line| line.split('\t').next() == Some(arguments.name())).ok_or_else(unknown)?;
    let numbers: Option<Vec<usize>> = line.split(['\t', ' ']).skip(1).map(|number| number.parse().ok()).collect();
    let numbers = numbers.ok_or_else(unknown)?;
    let blocks: Vec<&[usize]> = numbers.chunks(3).collect();
    let inner: Vec<[usize; 2]> = blocks.iter().filter_map(|block| Some([*block.first()?, *block.get(1)?])).collect();
    let mut widths = [0; 4];
    let mut end = 0;
    for (width, depth) in widths.iter_mut().zip(depths) {
        end += depth;
        let last = end.checked_sub(1).and_then(|last| blocks.get(last)).and_then(|block| block.get(2));
        *width = *last.ok_or_else(unknown)?;
    }
    if inner.len() != end {
        return Err(unknown());
    }
    Ok(PrunedChannels { widths, inner })
}
