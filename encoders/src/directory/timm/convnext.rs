//! Reads the arguments of timm's `ConvNeXt`, both versions.

use crate::arch::{Activation, ConvNextConfig, NormKind, StemKind};
use crate::json_values::SupportedValues;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;

/// Other strides of the stem would change those of the stages, too.
const FIXED: &SupportedValues =
    &[("conv_bias", "true"), ("in_chans", "3"), ("output_stride", "32"), ("patch_size", "4")];

const STEMS: [(&str, StemKind); 4] = [
    ("patch", StemKind::Patch),
    ("overlap", StemKind::Overlap),
    ("overlap_tiered", StemKind::OverlapTiered),
    ("overlap_act", StemKind::OverlapAct),
];

const NORMS: [(&str, NormKind); 6] = [
    ("layernorm", NormKind::Layer),
    ("layernorm2d", NormKind::Layer),
    ("rmsnorm", NormKind::Rms),
    ("rmsnorm2d", NormKind::Rms),
    ("simplenorm", NormKind::Simple),
    ("simplenorm2d", NormKind::Simple),
];

const ACTIVATIONS: [(&str, Activation); 3] =
    [("gelu", Activation::Gelu), ("gelu_tanh", Activation::GeluTanh), ("silu", Activation::Silu)];

impl TimmModel for ConvNextConfig {
    const CLASSES: &'static [&'static str] = &["ConvNeXt"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(FIXED)?;
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "head_hidden_size"]);
        let dialect = if arguments.flag("conv_mlp", false)? { "timm-conv-mlp" } else { "timm" };
        // An explicit `None` means no layer scale; it is not the default.
        let layer_scale = if arguments.is_none("ls_init_value") { 0.0 } else { 1e-6 };
        let config = Self {
            image_size,
            stem: 4,
            stem_kind: arguments.one_of("stem_type", "patch", &STEMS)?,
            depths: arguments.four("depths", [3, 3, 9, 3])?,
            dims: arguments.four("dims", [96, 192, 384, 768])?,
            kernels: arguments.four("kernel_sizes", [7; 4])?,
            layer_scale: arguments.real("ls_init_value")?.unwrap_or(layer_scale),
            response_norm: arguments.flag("use_grn", false)?,
            activation: arguments.one_of("act_layer", "gelu", &ACTIVATIONS)?,
            norm: arguments.one_of("norm_layer", "layernorm", &NORMS)?,
            norm_eps: arguments.real("norm_eps")?.unwrap_or(1e-6),
            final_norm: true,
            norm_first: arguments.flag("head_norm_first", false)?,
            drop_path,
        };
        Ok(TimmNetwork::new(config).with_dialect(dialect))
    }
}
