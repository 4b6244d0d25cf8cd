//! Reads the arguments of timm's `VisionTransformerSAM`.

use crate::arch::SamConfig;
use crate::json_values::SupportedValues;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::Result;

const FIXED: &SupportedValues = &[
    ("act_layer", "\"gelu\""),
    ("in_chans", "3"),
    ("init_values", "null"),
    ("mlp_layer", "\"Mlp\""),
    ("pre_norm", "false"),
    ("qk_norm", "false"),
    ("qkv_bias", "true"),
    ("ref_feat_shape", "null"),
    ("use_rope", "false"),
];

impl TimmModel for SamConfig {
    const CLASSES: &'static [&'static str] = &["VisionTransformerSAM"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(FIXED)?;
        arguments.without(IGNORED);
        arguments.without(&["drop_path_rate"]);
        // The neck belongs to the mask decoder or the classifier.
        arguments.without(&["global_pool", "head_hidden_size", "neck_chans"]);
        if !arguments.flag("use_rel_pos", false)? {
            return Err(arguments.unsupported("use_rel_pos", &false.into()));
        }
        let width = arguments.number("embed_dim", 768)?;
        let depth = arguments.number("depth", 12)?;
        let patch = arguments.side("patch_size")?.unwrap_or(16);
        let window = arguments.number("window_size", 14)?;
        // A window of 0 means global attention.
        let global_blocks = match (window, arguments.numbers("global_attn_indexes")?) {
            (0, _) => (0..depth).collect(),
            (_, listed) => listed.unwrap_or_default(),
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            patch,
            width,
            depth,
            heads: arguments.number("num_heads", 12)?,
            mlp_hidden: times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0)),
            window: window.max(1),
            global_blocks,
            // The default norm is PyTorch's own class.
            norm_eps: arguments.norm_eps(1e-5)?,
            absolute_positions: arguments.flag("use_abs_pos", true)?,
        })
        .with_dialect("timm"))
    }
}
