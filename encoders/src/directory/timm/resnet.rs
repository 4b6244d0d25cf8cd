//! Reads the arguments of timm's `ResNet`: ResNet, wide ResNet and ResNeXt, with batch norms and without attention.

use crate::arch::parts::ActivationKind;
use crate::arch::{ResBlockKind, ResNetConfig, ResStemKind};
use crate::json_values::SupportedValues;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;

const FIXED: &SupportedValues = &[
    ("aa_layer", "null"),
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

impl TimmModel for ResNetConfig {
    const CLASSES: &'static [&'static str] = &["ResNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(FIXED)?;
        let activation = arguments.activation("act_layer", ActivationKind::Relu)?;
        if activation != ActivationKind::Relu {
            return Err(arguments.contradiction(&format!("its activation {activation:?} is not supported")));
        }
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        arguments.without(IGNORED);
        arguments.without(&["drop_block_rate", "global_pool", "zero_init_last"]);
        Ok(TimmNetwork::new(Self {
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
        .with_dialect("timm-resnet"))
    }
}
