//! Reads the arguments of timm's `ResNet`: ResNet, wide ResNet and ResNeXt, with batch norms and without attention.

use super::arguments::TimmArguments;
use super::vit::IGNORED;
use crate::arch::{ResBlockKind, ResNetConfig, ResStemKind};
use crate::directory::config_values::SupportedValues;
use burgess_base::Result;

const FIXED: &SupportedValues = &[
    ("aa_layer", "null"),
    ("act_layer", "\"relu\""),
    ("block_args", "null"),
    ("block_reduce_first", "1"),
    ("down_kernel_size", "1"),
    ("in_chans", "3"),
    ("norm_layer", "\"batchnorm2d\""),
    ("output_stride", "32"),
    ("replace_stem_pool", "false"),
];

const BLOCKS: [(&str, ResBlockKind); 2] =
    [("BasicBlock", ResBlockKind::Basic), ("Bottleneck", ResBlockKind::Bottleneck)];

const STEMS: [(&str, ResStemKind); 3] =
    [("", ResStemKind::Plain), ("deep", ResStemKind::Deep), ("deep_tiered", ResStemKind::DeepTiered)];

/// Returns the network for images of `image_size`.
pub(super) fn config(arguments: &mut TimmArguments, image_size: usize) -> Result<ResNetConfig> {
    arguments.only(FIXED)?;
    let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
    arguments.without(IGNORED);
    arguments.without(&["drop_block_rate", "global_pool", "zero_init_last"]);
    Ok(ResNetConfig {
        image_size,
        block: arguments.one_of("block", "", &BLOCKS)?,
        depths: arguments.four("layers", [0; 4])?,
        channels: arguments.four("channels", [64, 128, 256, 512])?,
        stem: arguments.one_of("stem_type", "", &STEMS)?,
        stem_width: arguments.number("stem_width", 64)?,
        groups: arguments.number("cardinality", 1)?,
        base_width: arguments.number("base_width", 64)?,
        average_down: arguments.flag("avg_down", false)?,
        norm_eps: 1e-5,
        drop_path,
    })
}
