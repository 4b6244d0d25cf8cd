//! open_clip models with a timm tower as image encoder (`visual.trunk.*`), as ConvNeXt and EVA are.

use super::{Dialect, Rule};

pub(super) const OPEN_CLIP: Dialect = Dialect {
    name: "open-clip",
    rules: &[Rule::same("{rest}", &["visual.trunk.{rest}"])],
    ignored: &[
        "visual.head.{rest}",
        "visual.trunk.head.{rest}",
        "visual.trunk.fc_norm.{p}",
        "visual.trunk.norm.{p}",
        // The text tower, either in a module of its own or at the top level.
        "text.{rest}",
        "transformer.{rest}",
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.{p}",
        "text_projection",
        "attn_mask",
        "logit_scale",
        "logit_bias",
    ],
};
