//! timm's own names, which the modules of this crate mirror.

use super::{Dialect, Rule};

pub(super) const TIMM: Dialect = Dialect {
    name: "timm",
    rules: &[Rule::same("{rest}", &["{rest}"])],
    // Classification heads and what pools for them; the final norm where the tap lies before it.
    ignored: &["head.{rest}", "fc_norm.{p}", "norm.{p}", "attn_pool.{rest}"],
};
