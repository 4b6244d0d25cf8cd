//! timm's own names, which the modules of this crate mirror, and those of its `Eva` and `Beit`, which store queries,
//! keys and values, their biases or the gates of the MLP as separate tensors.

use super::open_clip::TRUNK_IGNORED;
use super::{Dialect, Rule};

/// timm's names; also reads those of DINOv2's authors where they differ.
pub(super) const TIMM: Dialect = Dialect {
    name: "timm",
    rules: &[
        Rule::same("reg_token", &["reg_token"]).or(&["register_tokens"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["blocks.{i}.mlp.fc1.{p}"]).or(&["blocks.{i}.mlp.w12.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["blocks.{i}.mlp.fc2.{p}"]).or(&["blocks.{i}.mlp.w3.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// A ViT whose MLPs have a separate layer for the gate (timm's `SwiGLU`).
pub(super) const GATED: Dialect = Dialect {
    name: "timm-gated",
    rules: &[
        Rule::stacked("blocks.{i}.mlp.fc1.{p}", &["blocks.{i}.mlp.fc1_g.{p}", "blocks.{i}.mlp.fc1_x.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// A ViT with parallel branches (timm's `ParallelScalingBlock`), whose first layers are one tensor.
pub(super) const PARALLEL: Dialect = Dialect {
    name: "timm-parallel",
    rules: &[
        Rule::fused(&["blocks.{i}.mlp.fc1.{p}", "blocks.{i}.attn.qkv.{p}"], &["blocks.{i}.in_proj.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["blocks.{i}.in_norm.{p}"]),
        Rule::same("blocks.{i}.attn.q_norm.{p}", &["blocks.{i}.q_norm.{p}"]),
        Rule::same("blocks.{i}.attn.k_norm.{p}", &["blocks.{i}.k_norm.{p}"]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["blocks.{i}.attn_out_proj.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["blocks.{i}.mlp_out_proj.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["blocks.{i}.ls.gamma"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// A ViT without position embeddings, in which timm does not prepend the class and register tokens of the file.
pub(super) const UNPLACED: Dialect = Dialect {
    name: "timm-without-positions",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &{
        let [a, b, c, d, e, f, g] = IGNORED;
        ["cls_token", "reg_token", a, b, c, d, e, f, g]
    },
};

/// Names that no encoder uses: classification heads, their pooling, SAM's neck, the final norm if the tap is before
/// it, and an index that follows from the grid.
const IGNORED: [&str; 7] = [
    "head.{rest}",
    "head_dist.{p}",
    "fc_norm.{p}",
    "norm.{p}",
    "attn_pool.{rest}",
    "neck.{rest}",
    "blocks.{i}.attn.relative_position_index",
];

/// The names of `Eva` with the prefix `$prefix`. Attention is `fused` (one weight, biases of queries and values),
/// `split` (three weights, no bias of the keys) or `rope` (one weight, one bias); the MLP's first layer is `one`
/// tensor, or `two` with a separate gate.
macro_rules! eva {
    ($name:literal, $prefix:literal, $attention:ident, $mlp:ident, $ignored:expr) => {
        Dialect {
            name: $name,
            rules: &[
                eva!(@weight $attention $prefix),
                eva!(@bias $attention $prefix),
                eva!(@mlp $mlp $prefix),
                Rule::same("blocks.{i}.ls1.gamma", &[concat!($prefix, "blocks.{i}.gamma_1")]),
                Rule::same("blocks.{i}.ls2.gamma", &[concat!($prefix, "blocks.{i}.gamma_2")]),
                Rule::same("{rest}", &[concat!($prefix, "{rest}")]),
            ],
            ignored: $ignored,
        }
    };
    (@weight split $prefix:literal) => {
        Rule::stacked(
            "blocks.{i}.attn.qkv.weight",
            &[
                concat!($prefix, "blocks.{i}.attn.q_proj.weight"),
                concat!($prefix, "blocks.{i}.attn.k_proj.weight"),
                concat!($prefix, "blocks.{i}.attn.v_proj.weight"),
            ],
        )
    };
    (@weight $fused:ident $prefix:literal) => {
        Rule::same("blocks.{i}.attn.qkv.weight", &[concat!($prefix, "blocks.{i}.attn.qkv.weight")])
    };
    (@bias split $prefix:literal) => {
        Rule::stacked(
            "blocks.{i}.attn.qkv.bias",
            &[
                concat!($prefix, "blocks.{i}.attn.q_proj.bias"),
                Rule::ZEROS,
                concat!($prefix, "blocks.{i}.attn.v_proj.bias"),
            ],
        )
    };
    (@bias fused $prefix:literal) => {
        Rule::stacked(
            "blocks.{i}.attn.qkv.bias",
            &[
                concat!($prefix, "blocks.{i}.attn.q_bias"),
                Rule::ZEROS,
                concat!($prefix, "blocks.{i}.attn.v_bias"),
            ],
        )
    };
    (@bias rope $prefix:literal) => {
        Rule::same("blocks.{i}.attn.qkv.bias", &[concat!($prefix, "blocks.{i}.attn.qkv.bias")])
    };
    (@mlp two $prefix:literal) => {
        Rule::stacked(
            "blocks.{i}.mlp.fc1.{p}",
            &[concat!($prefix, "blocks.{i}.mlp.fc1_g.{p}"), concat!($prefix, "blocks.{i}.mlp.fc1_x.{p}")],
        )
    };
    (@mlp one $prefix:literal) => {
        Rule::same("blocks.{i}.mlp.fc1.{p}", &[concat!($prefix, "blocks.{i}.mlp.fc1.{p}")])
    };
}

pub(super) const EVA: Dialect = eva!("timm-eva", "", fused, one, &IGNORED);
pub(super) const EVA_GATED: Dialect = eva!("timm-eva-gated", "", fused, two, &IGNORED);
pub(super) const EVA_SPLIT: Dialect = eva!("timm-eva-split", "", split, two, &IGNORED);
pub(super) const ROPE: Dialect = eva!("timm-rope", "", rope, one, &IGNORED);

/// The names of `Eva` as an image tower of open_clip.
pub(super) const TOWER_EVA: Dialect = eva!("open-clip-eva", "visual.trunk.", fused, one, &TRUNK_IGNORED);
pub(super) const TOWER_EVA_GATED: Dialect = eva!("open-clip-eva-gated", "visual.trunk.", fused, two, &TRUNK_IGNORED);
pub(super) const TOWER_EVA02: Dialect = eva!("open-clip-eva02", "visual.trunk.", split, two, &TRUNK_IGNORED);
pub(super) const TOWER_ROPE: Dialect = eva!("open-clip-rope", "visual.trunk.", rope, one, &TRUNK_IGNORED);
