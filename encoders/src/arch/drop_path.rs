//! Stochastic depth (Huang et al. 2016, arXiv:1603.09382) as timm has it (`DropPath`): in training, a residual branch is
//! left out for some pictures of the batch and divided by the probability of being kept for the others. The probability
//! of being left out grows linearly from nothing at the first block to the configuration's rate at the last.
//!
//! Which branches are left out is drawn before the pass, by whoever trains; without draws nothing is left out.

use crate::kernel;
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

/// What one pass leaves out; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Drops {
    /// For each branch of each block, one after the other, the factors of the pictures, `[batch]`.
    factors: Vec<Option<Tensor<1>>>,
    branches: usize,
}

/// The probability of being left out for the branches of each of `blocks` blocks.
pub fn rates(last: f64, blocks: usize) -> Vec<f64> {
    let steps = blocks.saturating_sub(1).max(1) as f64;
    (0..blocks).map(|block| last * block as f64 / steps).collect()
}

/// An error unless `rate` is a probability that leaves something.
pub(super) fn check(rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(Error::usage(format!("drop_path = {rate} is no probability")).hint("at least 0 and below 1"))
}

impl Drops {
    /// Nothing is left out.
    pub fn none() -> Self {
        Self::default()
    }

    /// Draws for `batch` pictures in a network of `blocks` blocks with `branches` residual branches each, where the last
    /// block's branches are left out with probability `rate`. A rate of 0 draws nothing.
    pub fn draw(rate: f64, blocks: usize, branches: usize, batch: usize, stream: &mut Stream, device: &Device) -> Self {
        let mut keep = |rate: f64| (0..batch).map(|_| burgess_base::stream::uniform(stream) >= rate).collect();
        let kept: Vec<Vec<bool>> = rates(rate, blocks)
            .into_iter()
            .flat_map(|rate| (0..branches).map(move |_| rate))
            .map(|rate| if rate > 0.0 { keep(rate) } else { Vec::new() })
            .collect();
        Self::of(rate, blocks, branches, &kept, device)
    }

    /// With given draws: for each branch of each block whether it is kept for each picture. No entries for a branch
    /// keep it as it is.
    pub fn of(rate: f64, blocks: usize, branches: usize, kept: &[Vec<bool>], device: &Device) -> Self {
        let rates = rates(rate, blocks).into_iter().flat_map(|rate| (0..branches).map(move |_| rate));
        let factors = rates.zip(kept).map(|(rate, kept)| {
            let factor = (1.0 / (1.0 - rate)) as f32;
            let values: Vec<f32> = kept.iter().map(|kept| if *kept { factor } else { 0.0 }).collect();
            let pictures = values.len();
            (rate > 0.0 && pictures > 0).then(|| Tensor::from_data(TensorData::new(values, [pictures]), device))
        });
        Self { factors: factors.collect(), branches }
    }

    /// The factors of the pictures for a branch of a block, if it is ever left out.
    pub(super) fn factors(&self, block: usize, branch: usize) -> Option<&Tensor<1>> {
        self.factors.get(block * self.branches + branch).and_then(Option::as_ref)
    }
}

/// `x + scale · layer(branch)` under the factors of the pictures, if there are any; shapes as in [`kernel::residual`].
pub(super) fn residual(
    x: Tensor<2>,
    branch: Tensor<2>,
    layer: &Linear,
    scale: Option<Tensor<1>>,
    factors: Option<&Tensor<1>>,
) -> Tensor<2> {
    let Some(factors) = factors else {
        return kernel::residual(x, branch, layer, scale);
    };
    x + self::branch(kernel::scaled(layer.forward(branch), scale), Some(factors))
}

/// The rows of a branch, `[pictures * places, width]`, under the factors of the pictures, if there are any.
pub(super) fn branch(rows: Tensor<2>, factors: Option<&Tensor<1>>) -> Tensor<2> {
    let Some(factors) = factors else {
        return rows;
    };
    let ([count, width], [batch]) = (rows.dims(), factors.dims());
    let pictures: Tensor<2> = rows.reshape([batch, count / batch.max(1) * width]);
    (pictures * factors.clone().unsqueeze_dim(1)).reshape([count, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    fn factors(drops: &Drops, block: usize, branch: usize) -> Option<Vec<f32>> {
        drops.factors(block, branch).map(|f| f.to_data().iter::<f32>().collect())
    }

    #[test]
    fn rates_grow_linearly_to_the_last() {
        assert_eq!(rates(0.4, 5), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]);
        assert_eq!(rates(0.4, 1), [0.0]);
    }

    #[test]
    fn what_is_kept_is_divided_by_its_probability_and_drawn_by_the_stream_alone() {
        let draw = |seed: u64| Drops::draw(0.5, 3, 2, 2000, &mut stream("drop-path", seed), &Device::flex());
        let drops = draw(1);
        assert!(factors(&drops, 0, 0).is_none() && factors(&drops, 0, 1).is_none());
        for (block, rate) in [(1, 0.25), (2, 0.5)] {
            for branch in 0..2 {
                let found = factors(&drops, block, branch).unwrap();
                let kept = found.iter().filter(|f| **f > 0.0).count() as f64 / 2000.0;
                assert!((kept - (1.0 - rate)).abs() < 0.04, "{kept} at {rate}");
                assert!(found.iter().all(|f| *f == 0.0 || *f == (1.0 / (1.0 - rate)) as f32));
            }
        }
        assert_ne!(factors(&drops, 2, 0), factors(&drops, 2, 1));
        assert_eq!(factors(&drops, 2, 1), factors(&draw(1), 2, 1));
        assert_ne!(factors(&drops, 2, 1), factors(&draw(2), 2, 1));
    }

    #[test]
    fn no_rate_draws_nothing() {
        let (mut one, mut other) = (stream("s", 0), stream("s", 0));
        let drops = Drops::draw(0.0, 3, 2, 4, &mut one, &Device::flex());
        assert!(factors(&drops, 2, 1).is_none());
        assert_eq!(burgess_base::stream::uniform(&mut one), burgess_base::stream::uniform(&mut other));
    }
}
