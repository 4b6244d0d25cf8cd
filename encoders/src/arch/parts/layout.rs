//! Conversion between feature maps with channels first, feature maps with channels last, and tokens.

use burn::tensor::Tensor;

/// Maps `[batch, channels, rows, columns]` to `[batch, rows, columns, channels]`.
pub fn channels_last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

/// Maps `[batch, rows, columns, channels]` to `[batch, channels, rows, columns]`.
pub fn channels_first(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}

/// Maps `[batch, channels, rows, columns]` to row-major tokens `[batch, rows * columns, channels]`.
pub fn to_tokens(map: Tensor<4>) -> Tensor<3> {
    let [batch, channels, rows, columns] = map.dims();
    map.reshape([batch, channels, rows * columns]).swap_dims(1, 2)
}

/// Maps row-major tokens `[batch, rows * columns, channels]` to `[batch, channels, rows, columns]`.
pub fn to_map(tokens: Tensor<3>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = tokens.dims();
    tokens.swap_dims(1, 2).reshape([batch, channels, rows, columns])
}
