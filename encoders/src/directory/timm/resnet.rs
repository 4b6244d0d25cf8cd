//! Reads the arguments of timm's `ResNet`: ResNet, wide ResNet, ResNeXt, SENet, ECA-ResNet and ResNet-RS.

use crate::arch::parts::{ActivationKind, AntiAlias, ChannelAttentionKind, ChannelGroups, NormActKind};
use crate::arch::{ResBlockKind, ResNetConfig, ResStemKind};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;
use serde_json::{Map, Value};

const BLOCKS: [(&str, ResBlockKind); 2] =
    [("BasicBlock", ResBlockKind::Basic), ("Bottleneck", ResBlockKind::Bottleneck)];

const STEMS: [(&str, ResStemKind); 3] =
    [("", ResStemKind::Plain), ("deep", ResStemKind::Deep), ("deep_tiered", ResStemKind::DeepTiered)];

const FILTERS: [(&str, Option<AntiAlias>); 3] =
    [("", None), ("AvgPool2d", Some(AntiAlias::Average)), ("BlurPool2d", Some(AntiAlias::Blur))];

impl TimmModel for ResNetConfig {
    const CLASSES: &'static [&'static str] = &["ResNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32"), ("pruned", "false")])?;
        arguments.without(IGNORED);
        arguments.without(&["drop_block_rate", "global_pool", "zero_init_last"]);
        let (block, stage_blocks) = blocks(arguments)?;
        let (norm_groups, norm_eps) = match NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())? {
            NormActKind::Batch { eps } => (None, eps),
            NormActKind::Group { groups: ChannelGroups::Count(count), eps } => (Some(count), eps),
            other => return Err(arguments.contradiction(&format!("its norm {other:?} is not supported"))),
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
            attention: attention(arguments)?,
            anti_alias: arguments.one_of("aa_layer", "", &FILTERS)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            norm_groups,
            norm_eps,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
            ..Self::plain(image_size, block, arguments.four("layers", [0; 4])?)
        })
        .with_dialect("timm-resnet"))
    }
}

/// Reads the kind of all blocks, or one kind per stage.
fn blocks(arguments: &mut TimmArguments) -> Result<(ResBlockKind, Option<[ResBlockKind; 4]>)> {
    let known = |value: &Value| {
        let name = value.as_str()?;
        BLOCKS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    };
    let read = arguments.read("block", |value| match value {
        Value::Array(list) => {
            let kinds: [ResBlockKind; 4] = list.iter().map(known).collect::<Option<Vec<_>>>()?.try_into().ok()?;
            Some((kinds[0], Some(kinds)))
        }
        one => Some((known(one)?, None)),
    })?;
    read.ok_or_else(|| arguments.contradiction("it has no `block`"))
}

/// Reads the channel attention among the arguments of the blocks.
fn attention(arguments: &mut TimmArguments) -> Result<Option<ChannelAttentionKind>> {
    let Some(options) = arguments.take("block_args") else { return Ok(None) };
    let layer = match options.as_object() {
        Some(options) if options.keys().all(|key| key == "attn_layer") => options.get("attn_layer"),
        _ => return Err(arguments.unsupported("block_args", &options)),
    };
    let none = Map::new();
    match layer {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => ChannelAttentionKind::from_timm(arguments, name, &none).map(Some),
        Some(Value::Object(layer)) if layer.len() == 1 => {
            let entry = layer.iter().next().and_then(|(name, settings)| Some((name, settings.as_object()?)));
            let (name, settings) = entry.ok_or_else(|| arguments.unsupported("block_args", &options))?;
            ChannelAttentionKind::from_timm(arguments, name, settings).map(Some)
        }
        Some(_) => Err(arguments.unsupported("block_args", &options)),
    }
}
