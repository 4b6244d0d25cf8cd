//! Window attention: partition of a feature map into windows or dilated grids, cyclic shifts with their masks, and
//! relative position biases, as the Swin, MaxViT, GC ViT and similar families share them.
//!
//! Feature maps are channels-last, `[batch, rows, columns, width]`; windows are `[batch * windows, tokens, width]` with
//! the tokens of a window in row-major order.

use crate::operands::Bias;
use crate::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Added to the score of two tokens that are neighbours only through the cyclic shift.
const MASKED: f32 = -100.0;

/// Partitions a feature map into windows of `[rows, columns]` tokens, zero-padded at the bottom and on the right.
pub(crate) fn partition(x: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [batch, height, width, channels] = x.dims();
    let [down, across] = [height.div_ceil(rows), width.div_ceil(columns)];
    let x = pad(x, [down * rows, across * columns]);
    if [down, across] == [1, 1] {
        return x.reshape([batch, rows * columns, channels]);
    }
    let x: Tensor<6> = x.reshape([batch, down, rows, across, columns, channels]);
    x.swap_dims(2, 3).reshape([batch * down * across, rows * columns, channels])
}

/// Reverses [`partition`] and removes the padding; returns `[batch, height, width, channels]`.
pub(crate) fn reverse(windows: Tensor<3>, [rows, columns]: [usize; 2], [height, width]: [usize; 2]) -> Tensor<4> {
    let [count, _, channels] = windows.dims();
    let [down, across] = [height.div_ceil(rows), width.div_ceil(columns)];
    let batch = count / (down * across);
    let x: Tensor<6> = windows.reshape([batch, down, across, rows, columns, channels]);
    let x: Tensor<4> = x.swap_dims(2, 3).reshape([batch, down * rows, across * columns, channels]);
    crop(x, [height, width])
}

/// Partitions a feature map into grids (MaxViT): a grid has `[rows, columns]` tokens at equal distances over the whole
/// map. The sides of the map must be multiples of the grid's.
pub(crate) fn grid_partition(x: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [batch, height, width, channels] = x.dims();
    let [down, across] = [height / rows, width / columns];
    let x: Tensor<6> = x.reshape([batch, rows, down, columns, across, channels]);
    x.permute([0, 2, 4, 1, 3, 5]).reshape([batch * down * across, rows * columns, channels])
}

/// Reverses [`grid_partition`]; returns `[batch, height, width, channels]`.
pub(crate) fn grid_reverse(grids: Tensor<3>, [rows, columns]: [usize; 2], [height, width]: [usize; 2]) -> Tensor<4> {
    let [count, _, channels] = grids.dims();
    let [down, across] = [height / rows, width / columns];
    let batch = count / (down * across);
    let x: Tensor<6> = grids.reshape([batch, down, across, rows, columns, channels]);
    x.permute([0, 3, 1, 4, 2, 5]).reshape([batch, height, width, channels])
}

/// Zero-pads a feature map at the bottom and on the right to `[height, width]`.
pub(crate) fn pad(x: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, rows, columns, channels] = x.dims();
    let device = x.device();
    let x = if columns == width {
        x
    } else {
        Tensor::cat(vec![x, Tensor::zeros([batch, rows, width - columns, channels], &device)], 2)
    };
    if rows == height {
        return x;
    }
    Tensor::cat(vec![x, Tensor::zeros([batch, height - rows, width, channels], &device)], 1)
}

/// The upper left `[height, width]` positions of a feature map.
pub(crate) fn crop(x: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, rows, columns, channels] = x.dims();
    if [rows, columns] == [height, width] {
        return x;
    }
    x.slice([0..batch, 0..height, 0..width, 0..channels])
}

/// Moves every position up by `rows` and to the left by `columns`, cyclically.
fn roll(x: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let along = |x: Tensor<4>, axis: usize, by: usize| {
        let side = x.dims()[axis];
        let by = by % side;
        if by == 0 {
            return x;
        }
        Tensor::cat(vec![x.clone().narrow(axis, by, side - by), x.narrow(axis, 0, by)], axis)
    };
    along(along(x, 1, rows), 2, columns)
}

/// The windows of a block, with the cyclic shift of every second block (Liu et al. 2021, arXiv:2103.14030).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShiftedWindow {
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// Rows and columns by which the map is shifted; 0 for no shift.
    pub shift: [usize; 2],
}

impl ShiftedWindow {
    /// Windows of side `window` on a map of side `side`, shifted by half a window if `shifted`. A window is not larger
    /// than the map, and a map of one window is not shifted, unless `always` says so (timm's `always_partition`).
    pub fn new(side: usize, window: usize, shifted: bool, always: bool) -> Self {
        let shift = if shifted { window / 2 } else { 0 };
        if always || side > window {
            return Self { window: [window; 2], shift: [shift; 2] };
        }
        Self { window: [side; 2], shift: [0; 2] }
    }

    /// Number of tokens of a window.
    pub fn area(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Applies `attention` to the windows of `x`, `[batch, rows, columns, width]`. It is given the windows,
    /// `[batch * windows, tokens, width]`, and the mask of the shift, `[windows, tokens, tokens]`.
    pub fn apply(&self, x: Tensor<4>, attention: impl FnOnce(Tensor<3>, Option<Tensor<3>>) -> Tensor<3>) -> Tensor<4> {
        let [_, rows, columns, _] = x.dims();
        let shifted = self.shift != [0, 0];
        let x = if shifted { roll(x, self.shift) } else { x };
        let mask = shifted.then(|| self.mask([rows, columns], &x.device()));
        let x = reverse(attention(partition(x, self.window), mask), self.window, [rows, columns]);
        let back = |side: usize, by: usize| side - by % side;
        if shifted { roll(x, [back(rows, self.shift[0]), back(columns, self.shift[1])]) } else { x }
    }

    /// The mask of the shift for a map of `[rows, columns]` positions, `[windows, tokens, tokens]`: 0 for tokens of the
    /// same region of the unshifted map, else [`MASKED`].
    fn mask(&self, map: [usize; 2], device: &Device) -> Tensor<3> {
        // The region of each position of the padded map along one axis: before the last window, or in its first or
        // second part.
        let regions = |axis: usize| -> Vec<usize> {
            let (window, shift) = (self.window[axis], self.shift[axis]);
            let padded = map[axis].next_multiple_of(window);
            // A shift of 0 leaves one region of the last window, as Python's slice `-0:` covers everything.
            let region = |at: usize| match (at + window >= padded, at + shift >= padded) {
                _ if shift == 0 => 2,
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            };
            (0..padded).map(region).collect()
        };
        let (down, across) = (regions(0), regions(1));
        let ([rows, columns], area) = (self.window, self.area());
        let mut values = Vec::with_capacity(down.len() * across.len() * area);
        for down in down.chunks(rows) {
            for across in across.chunks(columns) {
                let tokens: Vec<usize> = down.iter().flat_map(|d| across.iter().map(move |a| 3 * d + a)).collect();
                let row = |query: usize| tokens.iter().map(move |key| if *key == query { 0.0 } else { MASKED });
                tokens.iter().for_each(|query| values.extend(row(*query)));
            }
        }
        let windows = values.len() / (area * area);
        transfer::to_device(TensorData::new(values, [windows, area, area]), device)
    }
}

/// Adds the mask of a shift, `[windows, tokens, tokens]`, to a bias `[1, heads, tokens, tokens]` for the windows of
/// `batch` images.
pub(crate) fn masked(bias: Option<Tensor<4>>, mask: Option<Tensor<3>>, batch: usize) -> Bias {
    let mask: Option<Tensor<4>> = mask.map(|mask| mask.unsqueeze_dim(1));
    let per_image = match (bias, mask) {
        (None, None) => return Bias::None,
        (Some(bias), None) => return Bias::Full(bias),
        (None, Some(mask)) => mask,
        (Some(bias), Some(mask)) => bias + mask,
    };
    Bias::Full(if batch == 1 { per_image } else { per_image.repeat_dim(0, batch) })
}

/// Relative position index of the tokens of a window: for each query and key, query-major, the row of a table with one
/// row per offset, `(2 * rows - 1) * (2 * columns - 1)` rows.
pub(crate) fn relative_index([rows, columns]: [usize; 2]) -> Vec<i64> {
    let area = rows * columns;
    let pair = |i: usize| {
        let (query, key) = (i / area, i % area);
        let down = query / columns + rows - 1 - key / columns;
        let across = query % columns + columns - 1 - key % columns;
        (down * (2 * columns - 1) + across) as i64
    };
    (0..area * area).map(pair).collect()
}

/// The relative position bias `[1, heads, tokens, tokens]` of a window from a table `[offsets, heads]`.
pub(crate) fn relative_bias(table: Tensor<2>, window: [usize; 2]) -> Tensor<4> {
    let ([_, heads], area) = (table.dims(), window[0] * window[1]);
    let index = relative_index(window);
    let index = transfer::to_device::<1, Int>(TensorData::new(index, [area * area]), &table.device());
    table.select(0, index).reshape([area, area, heads]).permute([2, 0, 1]).unsqueeze()
}

/// The scale of the coordinates of a continuous relative position bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogScale {
    /// Swin V2: offsets are divided by the largest offset of a window of this side and multiplied by 8; then
    /// `sign(x) log2(1 + |x|) / log2(8)`.
    Normalised(usize),
    /// timm's `cr`: `sign(x) ln(1 + |x|)`.
    Plain,
}

/// Logarithmic coordinates of the offsets of a window (Liu et al. 2022, arXiv:2111.09883), `[offsets, 2]`, in the order
/// of the rows of a bias table.
pub(crate) fn log_coordinates([rows, columns]: [usize; 2], scale: LogScale, device: &Device) -> Tensor<2> {
    let offset = |i: usize, side: usize| i as f32 - (side as f32 - 1.0);
    let log = |x: f32| match scale {
        LogScale::Normalised(side) => {
            let x = 8.0 * x / (side as f32 - 1.0);
            x.signum() * (x.abs() + 1.0).log2() / 3.0
        }
        LogScale::Plain => x.signum() * (x.abs() + 1.0).ln(),
    };
    let [down, across] = [2 * rows - 1, 2 * columns - 1];
    let values: Vec<f32> =
        (0..down * across).flat_map(|i| [log(offset(i / across, rows)), log(offset(i % across, columns))]).collect();
    transfer::to_device(TensorData::new(values, [down * across, 2]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn windows_and_grids_are_put_together_again() {
        let x = ramp([2, 4, 6, 3]);
        let windows = partition(x.clone(), [2, 3]);
        assert_eq!(windows.dims(), [8, 6, 3]);
        assert_eq!(values(reverse(windows, [2, 3], [4, 6])), values(x.clone()));
        let grids = grid_partition(x.clone(), [2, 3]);
        let first: Vec<f32> = values(grids.clone().narrow(0, 0, 1).narrow(2, 0, 1));
        // Rows 0 and 2, columns 0, 2 and 4.
        assert_eq!(first, [0.0, 6.0, 12.0, 36.0, 42.0, 48.0]);
        assert_eq!(values(grid_reverse(grids, [2, 3], [4, 6])), values(x));
    }

    #[test]
    fn padding_is_removed() {
        let x = ramp([1, 3, 5, 2]);
        let windows = partition(x.clone(), [2, 2]);
        assert_eq!(windows.dims(), [6, 4, 2]);
        assert_eq!(values(reverse(windows, [2, 2], [3, 5])), values(x));
    }

    #[test]
    fn a_shift_hides_tokens_from_the_other_side_of_the_map() {
        let shifted = ShiftedWindow::new(4, 2, true, false);
        assert_eq!(shifted, ShiftedWindow { window: [2, 2], shift: [1, 1] });
        let x = ramp([1, 4, 4, 1]);
        let mut seen = None;
        let out = shifted.apply(x.clone(), |windows, mask| {
            seen = mask;
            windows
        });
        assert_eq!(values(out), values(x));
        let mask = values(seen.unwrap());
        // The first window lies inside the map; each token of the last one comes from another corner.
        assert!(mask[..16].iter().all(|v| *v == 0.0));
        let last = &mask[48..];
        assert!((0..16).all(|i| (last[i] == 0.0) == (i / 4 == i % 4)));
    }

    #[test]
    fn windows_are_not_larger_than_the_map() {
        assert_eq!(ShiftedWindow::new(7, 7, true, false).shift, [0, 0]);
        assert_eq!(ShiftedWindow::new(4, 7, true, false).window, [4, 4]);
        assert_eq!(ShiftedWindow::new(4, 7, true, true), ShiftedWindow { window: [7, 7], shift: [3, 3] });
    }

    #[test]
    fn offsets_select_rows_of_the_table() {
        assert_eq!(relative_index([1, 2]), [1, 0, 2, 1]);
        assert_eq!(relative_index([2, 2]), [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
        let bias = relative_bias(ramp([9, 2]), [2, 2]);
        assert_eq!(bias.dims(), [1, 2, 4, 4]);
        assert_eq!(values(bias)[..4], [8.0, 6.0, 2.0, 0.0]);
    }

    #[test]
    fn log_coordinates_reach_from_one_corner_to_the_other() {
        let found = values(log_coordinates([2, 3], LogScale::Plain, &Device::flex()));
        assert_eq!(found.len(), 3 * 5 * 2);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(close(found[0], -(2f32.ln())) && close(found[1], -(3f32.ln())));
        let scaled = values(log_coordinates([3, 3], LogScale::Normalised(3), &Device::flex()));
        assert!(close(scaled[0], -(9f32.log2()) / 3.0) && close(scaled[49], 9f32.log2() / 3.0));
    }
}
