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
    ignored: &["fc.{p}", "{rest}.num_batches_tracked"],
};

/// Networks whose modules mirror timm's names. Counters of batch norms, and indices and masks that follow from the
/// grid, are ignored.
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

/// DLA, whose trees our module keeps in lists of one.
pub(super) const DLA: Dialect = Dialect {
    name: "timm-dla",
    rules: &[
        Rule::same(
            "level{i}.tree{a}.0.tree{b}.0.tree{c}.0.tree{d}.0.tree{e}.0.tree{f}.0.{rest}",
            &["level{i}.tree{a}.tree{b}.tree{c}.tree{d}.tree{e}.tree{f}.{rest}"],
        ),
        Rule::same(
            "level{i}.tree{a}.0.tree{b}.0.tree{c}.0.tree{d}.0.tree{e}.0.{rest}",
            &["level{i}.tree{a}.tree{b}.tree{c}.tree{d}.tree{e}.{rest}"],
        ),
        Rule::same(
            "level{i}.tree{a}.0.tree{b}.0.tree{c}.0.tree{d}.0.{rest}",
            &["level{i}.tree{a}.tree{b}.tree{c}.tree{d}.{rest}"],
        ),
        Rule::same("level{i}.tree{a}.0.tree{b}.0.tree{c}.0.{rest}", &["level{i}.tree{a}.tree{b}.tree{c}.{rest}"]),
        Rule::same("level{i}.tree{a}.0.tree{b}.0.{rest}", &["level{i}.tree{a}.tree{b}.{rest}"]),
        Rule::same("level{i}.tree{a}.0.{rest}", &["level{i}.tree{a}.{rest}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: LAYERS.ignored,
};

/// VGG, whose first classifier layers are not called a head.
pub(super) const VGG: Dialect = Dialect {
    name: "timm-vgg",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &["{rest}.num_batches_tracked", "pre_logits.{rest}", "head.{rest}"],
};

/// Normaliser-free networks: the factor of each branch is a number without dimensions.
pub(super) const NFNET: Dialect = Dialect {
    name: "timm-nfnet",
    rules: &[
        Rule::squeezed("stages.{i}.{j}.skipinit_gain", &["stages.{i}.{j}.skipinit_gain"], 1),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &["head.{rest}"],
};

/// ConvMixer, whose residual branches timm calls `fn`.
pub(super) const CONV_MIXER: Dialect = Dialect {
    name: "timm-convmixer",
    rules: &[Rule::same("blocks.{i}.0.branch.{rest}", &["blocks.{i}.0.fn.{rest}"]), Rule::same("{rest}", &["{rest}"])],
    ignored: &["{rest}.num_batches_tracked", "head.{rest}"],
};

/// CoaT, whose files may hold the encodings and MLPs that blocks share once more for each block.
pub(super) const COAT: Dialect = Dialect {
    name: "timm-coat",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &[
        "serial_blocks{i}.{j}.cpe.{rest}",
        "serial_blocks{i}.{j}.factoratt_crpe.crpe.{rest}",
        "parallel_blocks.{j}.factoratt_crpe{i}.crpe.{rest}",
        "parallel_blocks.{j}.mlp3.{rest}",
        "parallel_blocks.{j}.mlp4.{rest}",
        "aggregate.{p}",
        "head.{rest}",
        "norm1.{p}",
        "norm2.{p}",
        "norm3.{p}",
    ],
};
