//! Operations on tokens that transformers of all shapes share: layers row by row, projections to heads, and dropped
//! residual branches.

use burgess_base::{Error, Result};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Tensor, module::linear};

/// Applies `layer` to the last axis of `x`. All other axes are the rows of one matrix, because one product per image is
/// up to twice as slow on the CPU backend.
pub(crate) fn by_row<const D: usize>(x: Tensor<D>, layer: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<D> {
    let mut shape = x.dims();
    let width = shape[D - 1];
    let rows: usize = shape[..D - 1].iter().product();
    let out = layer(x.reshape([rows, width]));
    shape[D - 1] = out.dims()[1];
    out.reshape(shape)
}

/// Projects tokens `[batch, tokens, width]` by one layer to `N` parts (queries, keys, values) of `heads` heads, each
/// `[batch, heads, tokens, head_dim]`.
pub(crate) fn project<const N: usize>(layer: &Linear, x: Tensor<3>, heads: usize) -> [Tensor<4>; N] {
    let bias = layer.bias.as_ref().map(Param::val);
    project_with(layer.weight.val(), bias, x, heads)
}

/// As [`project`], with the weight `[width, N * heads * head_dim]` and the bias of the layer.
pub(crate) fn project_with<const N: usize>(
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    x: Tensor<3>,
    heads: usize,
) -> [Tensor<4>; N] {
    let [batch, tokens, width] = x.dims();
    let part = weight.dims()[1] / N;
    let head_dim = part / heads;
    let x = x.reshape([batch * tokens, width]);
    if x.is_autodiff() {
        // The gradient of a slice is a zero-padded tensor of full size: slice the small weights, not the tokens.
        return std::array::from_fn(|i| {
            let weight = weight.clone().narrow(1, i * part, part);
            let out = linear(x.clone(), weight, bias.clone().map(|bias| bias.narrow(0, i * part, part)));
            out.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2)
        });
    }
    // `narrow` makes views of one tensor: nothing is copied.
    let all = linear(x, weight, bias).reshape([batch, tokens, N * heads, head_dim]);
    std::array::from_fn(|i| all.clone().narrow(2, i * heads, heads).swap_dims(1, 2))
}

/// Multiplies a residual branch, `[batch, ...]`, by its image's drop-path factor, if there are factors.
pub(crate) fn dropped<const D: usize>(branch: Tensor<D>, factors: Option<&Tensor<1>>) -> Tensor<D> {
    let Some(factors) = factors else {
        return branch;
    };
    let shape = branch.dims();
    let batch = shape[0];
    let rest = shape.iter().product::<usize>() / batch.max(1);
    (branch.reshape([batch, rest]) * factors.clone().unsqueeze_dim(1)).reshape(shape)
}

/// Checks that images `[batch, 3, height, width]` have the size that the network is built for.
///
/// # Errors
/// The images have other sides or another number of channels.
pub(crate) fn check_size(pixels: &Tensor<4>, side: usize) -> Result<()> {
    let [_, channels, height, width] = pixels.dims();
    if [channels, height, width] == [3, side, side] {
        return Ok(());
    }
    Err(Error::failed(format!(
        "this encoder processes images of 3 channels and {side}x{side} pixels, got {channels} and {height}x{width}"
    ))
    .hint("resize the images to the size on the encoder's card"))
}
