//! The noise and the time embedding, which depend on the time step but not on the image.

use burgess_base::stream::{normals, stream};

/// Draws `count` values from the standard normal distribution, the same for every image, so that features depend
/// neither on the order of images nor on how they are batched.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    normals(&mut stream("stable-diffusion/noise", seed), count)
}

/// Sinusoidal time embedding, `[channels]`: cosines, then sines, of `step` at `channels / 2` frequencies from 1 down to
/// nearly 1/10000 (Vaswani et al. 2017, used for time steps by Ho et al. 2020).
pub(super) fn time_features(step: usize, channels: usize) -> Vec<f32> {
    let half = channels / 2;
    let angle = |i: usize| step as f64 * (-(10000f64.ln()) * i as f64 / half as f64).exp();
    let cosines = (0..half).map(|i| angle(i).cos() as f32);
    cosines.chain((0..half).map(|i| angle(i).sin() as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_standard_normal_and_repeats() {
        let values = noise(0, 20_001);
        assert_eq!(values[..100], noise(0, 100));
        assert_ne!(values[..100], noise(1, 100));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn time_is_cosines_and_sines() {
        let at_zero = time_features(0, 6);
        assert_eq!(at_zero, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert!((time_features(250, 4)[3] - (2.5f32).sin()).abs() < 1e-6);
    }
}
