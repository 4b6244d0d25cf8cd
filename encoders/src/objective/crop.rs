//! Random resized crops (Szegedy et al. 2015, arXiv:1409.4842), the one augmentation that the objectives share.
//! No flips and no colour changes: the pictures hold text, and captions and questions speak of left, right and
//! colours.

use burgess_base::stream::{Stream, uniform};
use burn::tensor::{Device, Tensor, TensorData};

/// A crop of every picture in `[batch, 3, height, width]`, resized to `[batch, 3, size, size]`.
///
/// Each crop covers an area uniform in `scale` (fractions of the picture), with an aspect ratio log-uniform in
/// 3/4..4/3. Resizing is bilinear with anti-aliasing (a triangle as wide as the reduction, as Pillow's), done as
/// two matrix products per picture. With `scale = [1, 1]` and the picture's own size nothing is drawn or changed.
pub fn random_crops(pixels: Tensor<4>, size: usize, scale: [f64; 2], stream: &mut Stream) -> Tensor<4> {
    let [batch, _, height, width] = pixels.dims();
    if scale == [1.0, 1.0] && height == size && width == size {
        return pixels;
    }
    let device = pixels.device();
    let (mut down, mut across) = (Axis::new(batch, height, size), Axis::new(batch, width, size));
    for picture in 0..batch {
        let area = scale[0] + (scale[1] - scale[0]) * uniform(stream);
        let ratio = (4f64 / 3.0).powf(2.0 * uniform(stream) - 1.0).sqrt();
        let side = area.sqrt();
        down.place(picture, (side / ratio).min(1.0), uniform(stream));
        across.place(picture, (side * ratio).min(1.0), uniform(stream));
    }
    down.tensor(&device).matmul(pixels).matmul(across.tensor(&device).swap_dims(2, 3))
}

/// For every picture, how much each old row (or column) counts for each new one.
struct Axis {
    old: usize,
    new: usize,
    weights: Vec<f32>,
}

impl Axis {
    fn new(batch: usize, old: usize, new: usize) -> Self {
        Self { old, new, weights: vec![0.0; batch * old * new] }
    }

    /// Puts a window of `extent` (fraction of the axis) at `position` (0 leftmost, 1 rightmost).
    fn place(&mut self, picture: usize, extent: f64, position: f64) {
        let length = extent * self.old as f64;
        let start = position * (self.old as f64 - length);
        let step = length / self.new as f64;
        let support = step.max(1.0);
        let rows = self.weights.chunks_exact_mut(self.old).skip(picture * self.new).take(self.new);
        for (i, row) in rows.enumerate() {
            let centre = start + (i as f64 + 0.5) * step;
            let first = (centre - support).floor().max(0.0) as usize;
            let last = ((centre + support).ceil() as usize).min(self.old);
            let Some(taps) = row.get_mut(first..last) else { continue };
            for (j, tap) in taps.iter_mut().enumerate() {
                let distance = ((first + j) as f64 + 0.5 - centre).abs() / support;
                *tap = (1.0 - distance).max(0.0) as f32;
            }
            let total: f32 = taps.iter().sum();
            taps.iter_mut().for_each(|tap| *tap /= total);
        }
    }

    /// `[batch, 1, new, old]`.
    fn tensor(self, device: &Device) -> Tensor<4> {
        let batch = self.weights.len() / (self.old * self.new);
        Tensor::from_data(TensorData::new(self.weights, [batch, 1, self.new, self.old]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;
    use burn::tensor::Tolerance;

    /// A picture whose value is its column.
    fn ramp(batch: usize, side: usize) -> Tensor<4> {
        let values: Vec<f32> = (0..batch * 3 * side * side).map(|i| (i % side) as f32).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), &Device::flex())
    }

    #[test]
    fn the_whole_picture_is_left_alone() {
        let x = ramp(2, 8);
        let y = random_crops(x.clone(), 8, [1.0, 1.0], &mut stream("crop", 0));
        assert_eq!(x.into_data(), y.into_data());
    }

    #[test]
    fn halving_averages_and_constant_pictures_stay_constant() {
        let mut axis = Axis::new(1, 8, 4);
        axis.place(0, 1.0, 0.0);
        // Row 1 is centred between columns 2 and 3: distances 0.5 and 1.5 of a support of 2.
        assert_eq!(&axis.weights[8..16], &[0.0, 0.125, 0.375, 0.375, 0.125, 0.0, 0.0, 0.0]);
        let ones = Tensor::<4>::ones([3, 3, 12, 12], &Device::flex());
        let out = random_crops(ones, 6, [0.1, 0.9], &mut stream("crop", 1)).into_data();
        out.assert_approx_eq::<f32>(
            &Tensor::<4>::ones([3, 3, 6, 6], &Device::flex()).into_data(),
            Tolerance::absolute(1e-5),
        );
    }

    #[test]
    fn a_crop_is_a_window_and_each_picture_has_its_own() {
        let out = random_crops(ramp(4, 32), 32, [0.25, 0.25], &mut stream("crop", 2));
        let widths: Vec<f32> = (0..4)
            .map(|i| {
                let row: Vec<f32> = out.clone().slice([i..i + 1, 0..1, 16..17]).into_data().iter().collect();
                assert!(row.windows(2).all(|w| w[0] <= w[1] + 1e-4) && row[0] >= 0.0 && row[31] <= 31.0);
                row[31] - row[0]
            })
            .collect();
        assert!(widths.iter().all(|w| (12.0..20.0).contains(w)), "{widths:?}");
        assert!(widths.windows(2).any(|w| w[0] != w[1]));
    }
}
