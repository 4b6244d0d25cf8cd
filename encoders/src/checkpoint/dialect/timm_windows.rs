//! timm's windowed transformers whose files differ from our modules.

use super::timm_convnets::LAYERS;
use super::{Dialect, Rule};

/// Swin Transformer V2: the scale of cosine attention has two more dimensions of length one.
pub(super) const SWIN_V2: Dialect = Dialect {
    name: "timm-swin-v2",
    rules: &[
        Rule::pointwise("layers.{i}.blocks.{j}.attn.logit_scale", &["layers.{i}.blocks.{j}.attn.logit_scale"], 2),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: LAYERS.ignored,
};

/// timm's Swin Transformer V2 `cr`: other names of the stages and of the MLP of position biases.
pub(super) const SWIN_V2_CR: Dialect = Dialect {
    name: "timm-swin-v2-cr",
    rules: &[
        Rule::same("layers.{i}.blocks.{j}.attn.cpb_mlp.0.{p}", &["stages.{i}.blocks.{j}.attn.meta_mlp.fc1.{p}"]),
        Rule::same("layers.{i}.blocks.{j}.attn.cpb_mlp.2.{p}", &["stages.{i}.blocks.{j}.attn.meta_mlp.fc2.{p}"]),
        Rule::same("layers.{rest}", &["stages.{rest}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: LAYERS.ignored,
};

/// CoAtNet and MaxViT: linear layers of transformer blocks and of ConvNeXt blocks are stored as 1×1 convolutions.
pub(super) const MAXXVIT: Dialect = Dialect {
    name: "timm-maxxvit",
    rules: &[
        Rule::pointwise("stages.{i}.blocks.{j}.attn.qkv.weight", &["stages.{i}.blocks.{j}.attn.qkv.weight"], 2),
        Rule::pointwise("stages.{i}.blocks.{j}.attn.proj.weight", &["stages.{i}.blocks.{j}.attn.proj.weight"], 2),
        Rule::pointwise("stages.{i}.blocks.{j}.mlp.fc{k}.weight", &["stages.{i}.blocks.{j}.mlp.fc{k}.weight"], 2),
        Rule::pointwise(
            "stages.{i}.blocks.{j}.conv.mlp.fc{k}.weight",
            &["stages.{i}.blocks.{j}.conv.mlp.fc{k}.weight"],
            2,
        ),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: LAYERS.ignored,
};

/// VOLO, without the blocks that change the class token only, and without its heads.
pub(super) const VOLO: Dialect = Dialect {
    name: "timm-volo",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &["{rest}.num_batches_tracked", "head.{rest}", "aux_head.{rest}", "cls_token", "post_network.{rest}"],
};

/// Hybrid vision transformers on a ResNetV2 or its stem.
pub(super) const HYBRID_VIT: Dialect = Dialect {
    name: "timm-hybrid-vit",
    rules: &[Rule::same("backbone.{rest}", &["patch_embed.backbone.{rest}"]), Rule::same("vit.{rest}", &["{rest}"])],
    ignored: LAYERS.ignored,
};

/// Hybrid vision transformers on convolutions, of which the last one embeds patches.
pub(super) const HYBRID_VIT_CONV: Dialect = Dialect {
    name: "timm-hybrid-vit-conv",
    rules: &[
        Rule::same("backbone.{rest}", &["patch_embed.backbone.{rest}"]),
        Rule::same("vit.patch_embed.proj.{p}", &["patch_embed.backbone.2.conv.{p}"]),
        Rule::same("vit.{rest}", &["{rest}"]),
    ],
    ignored: LAYERS.ignored,
};
