//! Repeated measurements, and random numbers in place of weights and images.

use burgess_base::Result;
use burgess_encoders::checkpoint;
use burn::module::Module;
use std::time::{Duration, Instant};

/// Minimum effort of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Least number of forward passes.
    pub runs: usize,
    /// Least total duration of the forward passes.
    pub time: Duration,
}

impl Effort {
    /// Sorted durations of the runs in seconds, after one warm-up run.
    pub(super) fn measure(&self, mut run: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
        run()?;
        let (begin, mut seconds) = (Instant::now(), Vec::new());
        while seconds.len() < self.runs.max(1) || begin.elapsed() < self.time {
            seconds.push(run()?);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }
}

/// Median of sorted durations, in seconds; the upper one of an even number.
pub(super) fn median(seconds: &[f64]) -> f64 {
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Fills a module with random numbers of about the size of trained weights.
pub(super) fn random_weights<M: Module>(module: M) -> Result<M> {
    checkpoint::fill(module, |parameter| {
        let count = parameter.shape.iter().product::<usize>();
        let inputs = parameter.shape.iter().skip(1).product::<usize>().max(1);
        let scale = if parameter.shape.len() > 1 { (inputs as f32).powf(-0.5) } else { 1.0 };
        Ok((0..count as u64).map(|i| scale * noise(i)).collect())
    })
}

/// Deterministic noise in about −1 to 1, by position.
pub(super) fn noise(at: u64) -> f32 {
    let mixed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
