//! timm's mobile networks whose classifier has layers of its own after the pooling.

use super::{Dialect, Rule};

/// As `timm-layers`, but `conv_head` and `norm_head` may be parts of the classifier, which are ignored.
pub(super) const POOLED_HEAD: Dialect = Dialect {
    name: "timm-pooled-head",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    ignored: &[
        "{rest}.num_batches_tracked",
        "{rest}.attention_bias_idxs",
        "conv_head.{p}",
        "norm_head.{rest}",
        "classifier.{rest}",
        "head.{rest}",
        "head_dist.{rest}",
    ],
};

/// SwiftFormers, whose output projections are called `final`, a word that Rust reserves.
pub(super) const SWIFTFORMER: Dialect = Dialect {
    name: "timm-swiftformer",
    rules: &[
        Rule::same("stages.{i}.blocks.{j}.attn.output.{p}", &["stages.{i}.blocks.{j}.attn.final.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &["{rest}.num_batches_tracked", "head.{rest}", "head_dist.{rest}"],
};
