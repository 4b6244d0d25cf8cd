//! timm's `ConvNeXt`.

use super::arguments::Arguments;
use super::vit::NO_MATTER;
use crate::arch::ConvNextConfig;
use crate::directory::Fixed;
use burgess_base::Result;

const FIXED: &Fixed = &[
    ("act_layer", "\"gelu\""),
    ("conv_bias", "true"),
    ("conv_mlp", "false"),
    ("head_norm_first", "false"),
    ("in_chans", "3"),
    ("kernel_sizes", "7"),
    ("norm_layer", "null"),
    ("output_stride", "32"),
    ("stem_type", "\"patch\""),
    ("use_grn", "false"),
];

/// The network for pictures of `image_size`.
pub(super) fn config(arguments: &mut Arguments, image_size: usize) -> Result<ConvNextConfig> {
    arguments.only(FIXED)?;
    arguments.without(NO_MATTER);
    arguments.without(&["global_pool", "head_hidden_size"]);
    let mut four = |key: &str, default: [usize; 4]| -> Result<[usize; 4]> {
        let found = arguments.numbers(key)?.unwrap_or(default.to_vec());
        found.as_slice().try_into().map_err(|_| arguments.refused(key, &found.clone().into()))
    };
    Ok(ConvNextConfig {
        image_size,
        depths: four("depths", [3, 3, 9, 3])?,
        dims: four("dims", [96, 192, 384, 768])?,
        stem: arguments.number("patch_size", 4)?,
        layer_scale: arguments.real("ls_init_value")?.unwrap_or(1e-6),
        norm_eps: arguments.real("norm_eps")?.unwrap_or(1e-6),
        final_norm: true,
    })
}
