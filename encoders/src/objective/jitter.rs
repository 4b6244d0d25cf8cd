//! Colour jitter: random changes of brightness, contrast, saturation and hue of each image, after SimCLR (Chen et al.
//! 2020, arXiv:2002.05709). Contrastive objectives need it: without it, colours alone identify the crops of one image.

use burgess_base::stream::{Stream, uniform};
use burn::tensor::{Device, Tensor, TensorData};

/// Weights of red, green and blue in the grey value (ITU-R BT.601).
const GREY: [f64; 3] = [0.299, 0.587, 0.114];

/// Changes the colours of normalised images, `[batch, 3, height, width]`, by one random affine map of the three
/// channels per image.
///
/// Contrast and saturation are multiplied by factors uniform in `1 ± 0.8 strength` (contrast at least 0.1, saturation
/// at least 0), a brightness uniform in `± 0.8 strength` is added, in units of the normalised pixels, and the hue is
/// rotated by up to `± 0.2 strength` of a full turn. With probability 0.2 an image becomes grey. Unlike in SimCLR,
/// every image is changed, contrast scales about 0 (not about the image's mean), and values are not clipped.
/// `strength` is at least 0; with 0 nothing is drawn or changed.
pub(super) fn colour_jitter(pixels: Tensor<4>, strength: f64, stream: &mut Stream) -> Tensor<4> {
    if strength == 0.0 {
        return pixels;
    }
    let [batch, channels, height, width] = pixels.dims();
    let device = pixels.device();
    let (mut factors, mut shifts) = (Vec::with_capacity(batch * 9), Vec::with_capacity(batch));
    for _ in 0..batch {
        let mut around = |spread: f64| 1.0 + spread * (2.0 * uniform(stream) - 1.0);
        let (bright, contrast) = (around(0.8 * strength), around(0.8 * strength).max(0.1));
        let (saturation, hue) = (around(0.8 * strength).max(0.0), around(0.2 * strength) - 1.0);
        let saturation = if uniform(stream) < 0.2 { 0.0 } else { saturation };
        let matrix = colour_matrix(saturation, hue);
        factors.extend(matrix.iter().flatten().map(|v| (v * contrast) as f32));
        // In pixels normalised about zero, multiplying brightness is approximated by adding to it.
        shifts.push((bright - 1.0) as f32);
    }
    let matrix = Tensor::<3>::from_data(TensorData::new(factors, [batch, 3, 3]), &device);
    let mixed = matrix.matmul(pixels.reshape([batch, channels, height * width]));
    let shifted = mixed + column(shifts, &device);
    shifted.reshape([batch, channels, height, width])
}

/// Returns `[batch]` values as a tensor `[batch, 1, 1]`.
fn column(values: Vec<f32>, device: &Device) -> Tensor<3> {
    let batch = values.len();
    Tensor::from_data(TensorData::new(values, [batch, 1, 1]), device)
}

/// Returns the `[3, 3]` matrix that multiplies the saturation and rotates the hue (in full turns) about the grey axis.
/// Grey stays grey.
fn colour_matrix(saturation: f64, hue: f64) -> [[f64; 3]; 3] {
    let (sin, cos) = (hue * std::f64::consts::TAU).sin_cos();
    let third = (1.0 - cos) / 3.0;
    let root = sin / 3f64.sqrt();
    // Rodrigues' rotation about (1, 1, 1).
    let turn = [
        [cos + third, third - root, third + root],
        [third + root, cos + third, third - root],
        [third - root, third + root, cos + third],
    ];
    turn.map(|row| std::array::from_fn(|i| saturation * row[i] + (1.0 - saturation) * GREY[i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;
    use burn::tensor::Tolerance;

    #[test]
    fn grey_stays_grey_and_a_third_of_a_turn_swaps_channels() {
        for (saturation, hue) in [(1.0, 0.1), (0.0, 0.3), (1.7, -0.2)] {
            assert!(colour_matrix(saturation, hue).iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-9));
        }
        let swap = colour_matrix(1.0, 1.0 / 3.0);
        // Red becomes green, green blue, blue red.
        let expected = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        assert!(swap.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-9), "{swap:?}");
        let grey = colour_matrix(0.0, 0.2);
        assert!(grey[0] == grey[1] && grey[1] == grey[2]);
    }

    #[test]
    fn every_image_has_its_own_colours_and_zero_strength_changes_nothing() {
        let x = Tensor::<4>::ones([3, 3, 4, 4], &Device::flex());
        let same = colour_jitter(x.clone(), 0.0, &mut stream("jitter", 0));
        same.into_data().assert_approx_eq::<f32>(&x.clone().into_data(), Tolerance::absolute(0.0));
        let values: Vec<f32> = colour_jitter(x, 0.5, &mut stream("jitter", 0)).into_data().iter().collect();
        let firsts = [values[0], values[48], values[96]];
        assert!(firsts[0] != firsts[1] && firsts[1] != firsts[2], "{firsts:?}");
        // A constant image stays constant.
        assert!(values[..16].iter().all(|v| *v == values[0]));
    }
}
