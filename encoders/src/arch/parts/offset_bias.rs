//! Attention biases by distance: one number per head for every distance in rows and columns (Graham et al. 2021,
//! arXiv:2104.01136), and windows of a feature map.

use burn::module::Param;
use burn::tensor::ops::PadMode;
use burn::tensor::{Int, Tensor};

/// The attention bias `[1, heads, queries, keys]` for keys at all positions of a grid of `side` × `side`, and queries
/// at every `stride`-th row and column of it. `biases`, `[heads, side · side]`, holds those of a distance of `rows`
/// and `columns` at `rows · side + columns`.
pub(in crate::arch) fn offset_bias(biases: &Param<Tensor<2>>, side: usize, stride: usize) -> Tensor<4> {
    let [heads, _] = biases.dims();
    let places: Vec<i64> = (0..side).step_by(stride.max(1)).map(|place| place as i64).collect();
    let mut index = Vec::with_capacity((places.len() * side).pow(2));
    for row in &places {
        for column in &places {
            for key_row in 0..side as i64 {
                index.extend((0..side as i64).map(|key| (row - key_row).abs() * side as i64 + (column - key).abs()));
            }
        }
    }
    let queries = places.len() * places.len();
    let index = Tensor::<1, Int>::from_ints(index.as_slice(), &biases.device());
    biases.val().select(1, index).reshape([1, heads, queries, side * side])
}

/// Divides `[batch, rows, columns, channels]` into windows of `side` × `side`, `[windows, side · side, channels]`,
/// after padding with zeros at the bottom and on the right.
pub(in crate::arch) fn to_windows(x: Tensor<4>, side: usize) -> Tensor<3> {
    let [batch, rows, columns, channels] = x.dims();
    let (down, across) = (rows.div_ceil(side), columns.div_ceil(side));
    let mut x = x;
    if (down * side, across * side) != (rows, columns) {
        // Padding is given for the last two axes.
        let (bottom, right) = (down * side - rows, across * side - columns);
        x = x.permute([0, 3, 1, 2]).pad((0, right, 0, bottom), PadMode::Constant(0.0)).permute([0, 2, 3, 1]);
    }
    x.reshape([batch, down, side, across, side, channels]).permute([0, 1, 3, 2, 4, 5]).reshape([
        batch * down * across,
        side * side,
        channels,
    ])
}

/// Joins windows of `side` × `side` to a map of the given shape, `[batch, rows, columns, channels]`, without padding.
pub(in crate::arch) fn from_windows(windows: Tensor<3>, side: usize, shape: [usize; 4]) -> Tensor<4> {
    let [batch, rows, columns, channels] = shape;
    let (down, across) = (rows.div_ceil(side), columns.div_ceil(side));
    let x: Tensor<4> = windows
        .reshape([batch, down, across, side, side, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch, down * side, across * side, channels]);
    x.narrow(1, 0, rows).narrow(2, 0, columns)
}
