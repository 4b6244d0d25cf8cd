//! Stochastic depth (Huang et al. 2016, arXiv:1603.09382) as in timm's `DropPath`: in training, a residual branch is
//! dropped for some images of the batch and divided by its keep probability for the others. The drop rate grows
//! linearly from 0 at the first block to the configuration's rate at the last.
//!
//! The caller draws the drop-path mask before the forward pass; without a mask no branch is dropped.

use crate::kernel::{self, Operand};
use crate::transfer;
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

/// The drop-path mask of one forward pass; by default no branch is dropped.
#[derive(Debug, Clone, Default)]
pub struct DropPathMask {
    /// Factor per image, `[batch]`, for each branch, block by block; `None` where the branch is never dropped.
    factors: Vec<Option<Tensor<1>>>,
    branches: usize,
}

/// The drop path of a network in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropPathSpec {
    /// Drop rate of the last block, at least 0 and below 1.
    pub rate: f64,
    /// Number of blocks.
    pub blocks: usize,
    /// Number of residual branches per block.
    pub branches: usize,
}

impl DropPathSpec {
    /// Draws a mask for `batch` images; a rate of 0 draws no random numbers.
    pub fn draw(self, batch: usize, stream: &mut Stream, device: &Device) -> DropPathMask {
        let mut keep = |rate: f64| (0..batch).map(|_| burgess_base::stream::uniform(stream) >= rate).collect();
        let kept: Vec<Vec<bool>> = rates(self.rate, self.blocks)
            .into_iter()
            .flat_map(|rate| (0..self.branches).map(move |_| rate))
            .map(|rate| if rate > 0.0 { keep(rate) } else { Vec::new() })
            .collect();
        DropPathMask::of(self, &kept, device)
    }
}

/// The drop rate of each of `blocks` blocks, growing linearly from 0 to `last`.
pub fn rates(last: f64, blocks: usize) -> Vec<f64> {
    let steps = blocks.saturating_sub(1).max(1) as f64;
    (0..blocks).map(|block| last * block as f64 / steps).collect()
}

/// Checks that `rate` is at least 0 and below 1.
pub(super) fn check(rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(Error::usage(format!("drop_path = {rate} is not a drop rate")).hint("it must be at least 0 and below 1"))
}

impl DropPathMask {
    /// A mask that drops no branch.
    pub fn none() -> Self {
        Self::default()
    }

    /// Builds a mask from given draws: `kept` says for each branch, block by block, whether it is kept for each image.
    /// A branch with an empty list is never dropped.
    pub fn of(spec: DropPathSpec, kept: &[Vec<bool>], device: &Device) -> Self {
        let DropPathSpec { rate, blocks, branches } = spec;
        let rates = rates(rate, blocks).into_iter().flat_map(|rate| (0..branches).map(move |_| rate));
        let factors = rates.zip(kept).map(|(rate, kept)| {
            let factor = (1.0 / (1.0 - rate)) as f32;
            let values: Vec<f32> = kept.iter().map(|kept| if *kept { factor } else { 0.0 }).collect();
            let images = values.len();
            (rate > 0.0 && images > 0).then(|| transfer::to_device(TensorData::new(values, [images]), device))
        });
        Self { factors: factors.collect(), branches }
    }

    /// The factors of a branch of a block, `[batch]`; `None` if that branch is never dropped.
    pub(super) fn factors(&self, block: usize, branch: usize) -> Option<&Tensor<1>> {
        self.factors.get(block * self.branches + branch).and_then(Option::as_ref)
    }
}

/// Computes `x + factors · scale · layer(branch)`, without `factors` if `None`; shapes as in [`kernel::residual`].
pub(super) fn residual(
    x: Tensor<2>,
    branch: impl Into<Operand>,
    layer: &Linear,
    scale: Option<Tensor<1>>,
    factors: Option<&Tensor<1>>,
) -> Tensor<2> {
    let Some(factors) = factors else {
        return kernel::residual(x, branch, layer, scale);
    };
    x + self::branch(kernel::scaled(kernel::linear(branch, layer), scale), Some(factors))
}

/// Multiplies the rows of a branch, `[batch * positions, width]`, by their image's factor, if there are factors.
pub(super) fn branch(rows: Tensor<2>, factors: Option<&Tensor<1>>) -> Tensor<2> {
    let Some(factors) = factors else {
        return rows;
    };
    let ([count, width], [batch]) = (rows.dims(), factors.dims());
    let images: Tensor<2> = rows.reshape([batch, count / batch.max(1) * width]);
    (images * factors.clone().unsqueeze_dim(1)).reshape([count, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    fn factors(mask: &DropPathMask, block: usize, branch: usize) -> Option<Vec<f32>> {
        mask.factors(block, branch).map(|f| f.to_data().iter::<f32>().collect())
    }

    #[test]
    fn rates_grow_linearly_to_the_last() {
        assert_eq!(rates(0.4, 5), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]);
        assert_eq!(rates(0.4, 1), [0.0]);
    }

    #[test]
    fn kept_branches_are_divided_by_their_probability_and_drawn_by_the_stream_alone() {
        let draw = |seed: u64| {
            DropPathSpec { rate: 0.5, blocks: 3, branches: 2 }.draw(
                2000,
                &mut stream("drop-path", seed),
                &Device::flex(),
            )
        };
        let mask = draw(1);
        assert!(factors(&mask, 0, 0).is_none() && factors(&mask, 0, 1).is_none());
        for (block, rate) in [(1, 0.25), (2, 0.5)] {
            for branch in 0..2 {
                let found = factors(&mask, block, branch).unwrap();
                let kept = found.iter().filter(|f| **f > 0.0).count() as f64 / 2000.0;
                assert!((kept - (1.0 - rate)).abs() < 0.04, "{kept} at {rate}");
                assert!(found.iter().all(|f| *f == 0.0 || *f == (1.0 / (1.0 - rate)) as f32));
            }
        }
        assert_ne!(factors(&mask, 2, 0), factors(&mask, 2, 1));
        assert_eq!(factors(&mask, 2, 1), factors(&draw(1), 2, 1));
        assert_ne!(factors(&mask, 2, 1), factors(&draw(2), 2, 1));
    }

    #[test]
    fn no_rate_draws_nothing() {
        let (mut one, mut other) = (stream("s", 0), stream("s", 0));
        let mask = DropPathSpec { rate: 0.0, blocks: 3, branches: 2 }.draw(4, &mut one, &Device::flex());
        assert!(factors(&mask, 2, 1).is_none());
        assert_eq!(burgess_base::stream::uniform(&mut one), burgess_base::stream::uniform(&mut other));
    }
}
