//! timm's convolutional and hierarchical networks.

use super::{Dialect, Rule};

/// ConvNeXts whose MLPs are stored as 1×1 convolutions (timm's `conv_mlp`).
pub(super) const CONV_MLP: Dialect = Dialect {
    name: "timm-conv-mlp",
    rules: &[
        Rule::pointwise("stages.{i}.blocks.{j}.mlp.fc{k}.weight", &["stages.{i}.blocks.{j}.mlp.fc{k}.weight"], 2),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &["head.{rest}", "norm_pre.{p}"],
};

/// ResNets, also torchvision's. `num_batches_tracked` is ignored, because only training uses it.
pub(super) const RESNET: Dialect = Dialect {
    name: "timm-resnet",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &[
        "fc.{p}",
        "bn1.num_batches_tracked",
        "conv1.{i}.num_batches_tracked",
        "maxpool.{i}.num_batches_tracked",
        "layer{i}.{j}.bn{k}.num_batches_tracked",
        "layer{i}.{j}.downsample.{k}.num_batches_tracked",
    ],
};

/// Networks whose modules mirror timm's names. Counters of batch norms, and indices and masks that follow from the grid,
/// are ignored.
pub(super) const LAYERS: Dialect = Dialect {
    name: "timm-layers",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &[
        "{rest}.num_batches_tracked",
        "{rest}.relative_position_index",
        "{rest}.relative_coords_table",
        "{rest}.attn_mask",
        "head.{rest}",
        "head_dist.{rest}",
        "classifier.{rest}",
        "fc.{rest}",
    ],
};
