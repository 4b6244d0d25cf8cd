//! Standardises features per channel before a connector, with the mean and deviation over training images.
//!
//! Features of different encoders have different scales: the standard deviations of the nano encoders' channels range
//! from 0.03 to 2.6. With one learning rate for all encoders, a connector would learn at a speed that depends on this
//! scale, which a comparison of encoders should not measure. Linear probes standardise for the same reason (He et al.,
//! arXiv:2111.06377, appendix A: a batch norm without affine parameters before the classifier).

use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

/// Minimum standard deviation by which a channel is divided, as a fraction of the mean over all channels, so that an
/// almost constant channel is not amplified to the scale of the others.
const FLOOR: f64 = 1e-2;

/// Mean and standard deviation of each channel, saved with the connector and never trained.
#[derive(Module, Debug)]
pub struct Standardise {
    /// Mean of each channel, `[feature width]`.
    pub mean: Param<Tensor<1>>,
    /// Standard deviation of each channel, `[feature width]`.
    pub deviation: Param<Tensor<1>>,
}

impl Standardise {
    /// Builds the identity (mean 0, deviation 1), to be replaced by statistics.
    pub(super) fn new(width: usize, device: &Device) -> Self {
        Self { mean: Initializer::Zeros.init([width], device), deviation: Initializer::Ones.init([width], device) }
    }

    /// Standardises features `[images, tokens, width]`: each channel gets mean 0 and standard deviation 1 over the
    /// images of the statistics.
    pub(super) fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let row = |p: &Param<Tensor<1>>| p.val().detach().unsqueeze::<3>();
        (features - row(&self.mean)) / row(&self.deviation)
    }
}

/// Mean and standard deviation of each channel, computed batch by batch.
#[derive(Debug, Default)]
pub struct ChannelStatistics {
    count: f64,
    mean: Vec<f64>,
    /// Sum of the squared differences from the mean, per channel.
    squares: Vec<f64>,
}

impl ChannelStatistics {
    /// Adds a batch of features `[images, tokens, width]`, merged with the earlier ones as in Chan et al. 1979.
    ///
    /// # Errors
    /// When their width differs from that of earlier features, or they cannot be read from the device.
    pub fn add(&mut self, features: Tensor<3>) -> Result<()> {
        let [images, tokens, width] = features.dims();
        let rows = features.reshape([images * tokens, width]);
        let mean = rows.clone().mean_dim(0);
        let squares = numbers((rows - mean.clone()).square().sum_dim(0))?;
        let mean = numbers(mean)?;
        if self.mean.is_empty() {
            (self.mean, self.squares) = (vec![0.0; width], vec![0.0; width]);
        }
        if self.mean.len() != width {
            return Err(Error::failed(format!(
                "feature statistics: got features of width {width}, earlier ones have width {}",
                self.mean.len()
            )));
        }
        let new = (images * tokens) as f64;
        let all = self.count + new;
        for (((own, spread), m), s) in self.mean.iter_mut().zip(&mut self.squares).zip(mean).zip(squares) {
            let step = m - *own;
            *own += step * new / all;
            *spread += s + step * step * self.count * new / all;
        }
        self.count = all;
        Ok(())
    }

    /// Returns the means, and the standard deviations by which channels are divided.
    pub(super) fn finish(self) -> (Vec<f32>, Vec<f32>) {
        let deviations: Vec<f64> = self.squares.iter().map(|s| (s / self.count.max(1.0)).sqrt()).collect();
        let typical = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
        let floor = if typical > 0.0 { FLOOR * typical } else { 1.0 };
        (
            self.mean.into_iter().map(|m| m as f32).collect(),
            deviations.into_iter().map(|d| d.max(floor) as f32).collect(),
        )
    }
}

/// Returns `param` with other values, `[feature width]`.
pub(super) fn with_values(param: Param<Tensor<1>>, values: Vec<f32>) -> Param<Tensor<1>> {
    let device = param.val().device();
    let count = values.len();
    Param::initialized(param.id, Tensor::from_data(TensorData::new(values, [count]), &device))
}

fn numbers(row: Tensor<2>) -> Result<Vec<f64>> {
    let data = row.into_data().convert::<f64>();
    data.try_to_vec().map_err(|e| Error::failed(format!("reading feature statistics: {e:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_give_the_statistics_of_all_rows() {
        let device = Device::flex();
        let rows: Vec<f32> = (0..60).map(|i| ((i * 7 % 11) as f32) * if i % 3 == 0 { 100.0 } else { 0.1 }).collect();
        let all = Tensor::<3>::from_data(TensorData::new(rows.clone(), [5, 4, 3]), &device);
        let mut statistics = ChannelStatistics::default();
        for part in [all.clone().slice([0..1, 0..4, 0..3]), all.clone().slice([1..5, 0..4, 0..3])] {
            statistics.add(part).unwrap();
        }
        let (mean, deviation) = statistics.finish();
        for c in 0..3 {
            let own: Vec<f64> = rows.iter().skip(c).step_by(3).map(|v| f64::from(*v)).collect();
            let m = own.iter().sum::<f64>() / 20.0;
            let d = (own.iter().map(|v| (v - m).powi(2)).sum::<f64>() / 20.0).sqrt();
            assert!((f64::from(mean[c]) - m).abs() < 1e-4 * m.abs().max(1.0), "{mean:?} {m}");
            let expected = if c == 0 { d } else { FLOOR * f64::from(deviation[0]) / 3.0 };
            assert!((f64::from(deviation[c]) - expected).abs() < 0.02 * expected, "{deviation:?} {expected}");
        }
        let mut standardise = Standardise::new(3, &device);
        standardise.mean = with_values(standardise.mean, mean);
        standardise.deviation = with_values(standardise.deviation, deviation);
        let out: Vec<f32> = standardise.forward(all).into_data().iter().collect();
        let first: Vec<f32> = out.iter().step_by(3).copied().collect();
        assert!(
            first.iter().sum::<f32>().abs() < 1e-3
                && (first.iter().map(|v| v * v).sum::<f32>() / 20.0 - 1.0).abs() < 1e-3
        );
    }
}
