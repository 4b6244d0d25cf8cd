//! Residual branches with drop path on tensors of any rank.

use super::super::drop_path::{DropPathMask, DropPathSpec};
use super::tokens::dropped;
use burn::tensor::Tensor;

/// Computes `x + factors · branch`; `factors` is the drop-path mask of the branch, one factor per image.
pub fn add_branch<const D: usize>(x: Tensor<D>, branch: Tensor<D>, factors: Option<&Tensor<1>>) -> Tensor<D> {
    x + dropped(branch, factors)
}

/// Drop path with the same rate for all of `branches` residual branches, as some architectures of timm have it.
///
/// A [`DropPathSpec`] lets the rate grow from 0 at the first block to `rate` at the last: the second of its two blocks
/// holds all branches.
pub fn constant_drop_path(rate: f64, branches: usize) -> DropPathSpec {
    DropPathSpec { rate, blocks: 2, branches }
}

/// The factors of branch number `branch` in a mask of [`constant_drop_path`].
pub fn constant_factors(mask: &DropPathMask, branch: usize) -> Option<&Tensor<1>> {
    mask.factors(1, branch)
}
