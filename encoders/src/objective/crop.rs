//! Random resized crops (Szegedy et al. 2015, arXiv:1409.4842), the augmentation that all objectives share. There are
//! no flips and no colour changes here, because the images contain text, and captions and questions mention left, right
//! and colours.

use burgess_base::stream::{Stream, uniform};
use burn::tensor::{Device, Tensor, TensorData};

/// Crops every image of `[batch, 3, height, width]` at random and resizes to `[batch, 3, size, size]`; see
/// [`RandomCrops`].
pub(super) fn random_crops(pixels: Tensor<4>, size: usize, scale: [f64; 2], stream: &mut Stream) -> Tensor<4> {
    RandomCrops::draw(pixels.dims()[0], scale, stream).resize(pixels, size)
}

/// One random crop window per image of a batch, so that an image and its dense targets can be cropped alike.
///
/// Each window covers an area uniform in `scale` (fractions of the image), with an aspect ratio log-uniform in
/// 3/4..4/3.
pub(super) struct RandomCrops {
    windows: Vec<Window>,
}

/// A crop window, in fractions of the image's sides.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    /// Height and width, each at most 1.
    extent: [f64; 2],
    /// Vertical and horizontal position: 0 is at the top or left edge, 1 at the bottom or right edge.
    position: [f64; 2],
}

const WHOLE: Window = Window { extent: [1.0; 2], position: [0.0; 2] };

impl RandomCrops {
    /// Draws `batch` windows. With `scale = [1, 1]` nothing is drawn, and the windows are whole images.
    pub fn draw(batch: usize, scale: [f64; 2], stream: &mut Stream) -> Self {
        if scale == [1.0, 1.0] {
            return Self { windows: vec![WHOLE; batch] };
        }
        let windows = (0..batch).map(|_| {
            let area = scale[0] + (scale[1] - scale[0]) * uniform(stream);
            let ratio = (4f64 / 3.0).powf(2.0 * uniform(stream) - 1.0).sqrt();
            let side = area.sqrt();
            let extent = [(side / ratio).min(1.0), (side * ratio).min(1.0)];
            Window { extent, position: [uniform(stream), uniform(stream)] }
        });
        Self { windows: windows.collect() }
    }

    /// Crops `[batch, channels, height, width]` to the windows and resizes to `[batch, channels, size, size]`.
    ///
    /// Resizing is bilinear with antialiasing (the triangle kernel is widened when shrinking, as in Pillow), computed
    /// as two matrix products per image.
    pub fn resize(&self, images: Tensor<4>, size: usize) -> Tensor<4> {
        let [batch, _, height, width] = images.dims();
        if [height, width] == [size; 2] && self.windows.iter().all(|w| *w == WHOLE) {
            return images;
        }
        let device = images.device();
        let (mut down, mut across) = (Axis::new(batch, height, size), Axis::new(batch, width, size));
        for (i, window) in self.windows.iter().enumerate() {
            down.set_window(i, window.extent[0], window.position[0]);
            across.set_window(i, window.extent[1], window.position[1]);
        }
        down.tensor(&device).matmul(images).matmul(across.tensor(&device).swap_dims(2, 3))
    }

    /// Crops the row-major label map (`side * side`) of image number `image` and resizes it to `size * size` by nearest
    /// neighbour: each new pixel takes the label at its centre.
    pub fn labels<T: Copy>(&self, image: usize, map: &[T], side: usize, size: usize) -> Vec<T> {
        let Some(window) = self.windows.get(image) else { return Vec::new() };
        let from = |axis: usize, i: usize| {
            let length = window.extent[axis] * side as f64;
            let start = window.position[axis] * (side as f64 - length);
            ((start + (i as f64 + 0.5) * length / size as f64) as usize).min(side.saturating_sub(1))
        };
        (0..size * size).filter_map(|i| map.get(from(0, i / size) * side + from(1, i % size)).copied()).collect()
    }
}

/// Resampling matrices along one axis, one per image: the weight of each input row (or column) in each output row.
struct Axis {
    old: usize,
    new: usize,
    weights: Vec<f32>,
}

impl Axis {
    fn new(batch: usize, old: usize, new: usize) -> Self {
        Self { old, new, weights: vec![0.0; batch * old * new] }
    }

    /// Sets the weights of one image for a window of `extent` (fraction of the axis) at `position` (0 leftmost, 1
    /// rightmost).
    fn set_window(&mut self, image: usize, extent: f64, position: f64) {
        let length = extent * self.old as f64;
        let start = position * (self.old as f64 - length);
        let step = length / self.new as f64;
        let support = step.max(1.0);
        let rows = self.weights.chunks_exact_mut(self.old).skip(image * self.new).take(self.new);
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

    /// Returns the matrices as a tensor, `[batch, 1, new, old]`.
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

    /// An image whose value is its column.
    fn ramp(batch: usize, side: usize) -> Tensor<4> {
        let values: Vec<f32> = (0..batch * 3 * side * side).map(|i| (i % side) as f32).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), &Device::flex())
    }

    #[test]
    fn the_whole_image_is_left_alone() {
        let x = ramp(2, 8);
        let y = random_crops(x.clone(), 8, [1.0, 1.0], &mut stream("crop", 0));
        assert_eq!(x.into_data(), y.into_data());
    }

    #[test]
    fn halving_averages_and_constant_images_stay_constant() {
        let mut axis = Axis::new(1, 8, 4);
        axis.set_window(0, 1.0, 0.0);
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
    fn labels_are_cropped_where_the_pixels_are() {
        let crops = RandomCrops::draw(4, [0.3, 0.6], &mut stream("crop", 3));
        let columns: Vec<usize> = (0..32 * 32).map(|i| i % 32).collect();
        let pixels = crops.resize(ramp(4, 32), 16);
        for i in 0..4 {
            let row: Vec<f32> = pixels.clone().slice([i..i + 1, 0..1, 8..9]).into_data().iter().collect();
            let labels = crops.labels(i, &columns, 32, 16);
            // A pixel's value is its column, counted from the centre of the first.
            assert!(row.iter().zip(&labels[8 * 16..]).all(|(p, l)| (p - *l as f32).abs() < 1.0), "{row:?} {labels:?}");
        }
        let whole = RandomCrops::draw(1, [1.0, 1.0], &mut stream("crop", 4));
        assert_eq!(whole.labels(0, &columns[..16], 4, 4), columns[..16]);
    }

    #[test]
    fn a_crop_is_a_window_and_each_image_has_its_own() {
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
