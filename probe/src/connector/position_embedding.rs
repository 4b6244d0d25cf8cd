//! Fixed two-dimensional position embeddings for image tokens.
//!
//! Patch features contain little information about the position of a patch, and a language model with one-dimensional
//! positions has to infer rows and columns from the order of tokens. Therefore fixed sines and cosines of row and
//! column are added to each image token (as in MAE, arXiv:2111.06377; the adapter of Qwen-VL has a two-dimensional
//! position embedding too, arXiv:2308.12966).
//!
//! Image tokens are first scaled to the root mean square of word embeddings: the output of a connector may be ten times
//! as large, and the norm of the first layer would then make the position embedding negligible.

use crate::llm::Llm;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Root mean square of a position embedding, as a fraction of that of the language model's token embeddings.
const STRENGTH: f64 = 0.5;

/// Returns the position embedding of each cell of a `grid`, row by row, `[rows * columns, width]`, for token embeddings
/// of the root mean square `size`, `[1]`.
fn scaled_sines(grid: [usize; 2], width: usize, size: Tensor<1>, device: &Device) -> Tensor<2> {
    // The root mean square of sines and cosines is √½.
    sines(grid, width, device) * size.mul_scalar(STRENGTH * 2f64.sqrt()).reshape([1, 1])
}

/// Returns the root mean square of the token embeddings, `[1]`, without gradient.
fn word_embedding_rms(llm: &Llm, device: &Device) -> Tensor<1> {
    llm.model.embed_tokens.rms(device)
}

/// Scales `tokens` `[images, rows * columns, width]` of a `grid` to the root mean square of word embeddings and adds
/// the position embedding of each.
///
/// # Errors
/// When there are other tokens than those of the grid.
pub(crate) fn add(tokens: Tensor<3>, grid: [usize; 2], llm: &Llm) -> Result<Tensor<3>> {
    let [_, count, width] = tokens.dims();
    if count != grid[0] * grid[1] {
        return Err(Error::failed(format!(
            "a connector with `positions` was given {count} tokens for a grid of {}x{}",
            grid[0], grid[1]
        ))
        .hint("choose a feature tap without the class token"));
    }
    // The mean is over the whole vocabulary, so it is computed once.
    let size = word_embedding_rms(llm, &tokens.device());
    let table = scaled_sines(grid, width, size.clone(), &tokens.device());
    Ok(rescale(size, tokens) + table.unsqueeze::<3>())
}

/// As [`add`], for single tokens `[n, width]` in the given cells `[n]` of the grid, which are counted row by row.
pub(crate) fn add_at(tokens: Tensor<2>, cells: Tensor<1, Int>, grid: [usize; 2], llm: &Llm) -> Tensor<2> {
    let size = word_embedding_rms(llm, &tokens.device());
    let table = scaled_sines(grid, tokens.dims()[1], size.clone(), &tokens.device());
    rescale(size, tokens) + table.select(0, cells)
}

/// Scales each vector along the last dimension to the root mean square `size`, `[1]`.
fn rescale<const D: usize>(size: Tensor<1>, vectors: Tensor<D>) -> Tensor<D> {
    let length = vectors.clone().square().mean_dim(D - 1).add_scalar(1e-12).sqrt();
    vectors / length * size.reshape([1; D])
}

/// Returns sines and cosines of the row in the first half of the channels and of the column in the second,
/// `[rows * columns, width]`. Channels beyond a multiple of four are zero.
fn sines([rows, columns]: [usize; 2], width: usize, device: &Device) -> Tensor<2> {
    let quarter = width / 4;
    let mut values = Vec::with_capacity(rows * columns * width);
    for row in 0..rows {
        for column in 0..columns {
            for coordinate in [row, column] {
                let angle = |i: usize| coordinate as f64 / 10_000f64.powf(i as f64 / quarter as f64);
                values.extend((0..quarter).map(|i| angle(i).sin() as f32));
                values.extend((0..quarter).map(|i| angle(i).cos() as f32));
            }
            values.extend(std::iter::repeat_n(0.0, width - 4 * quarter));
        }
    }
    transfer::to_device(TensorData::new(values, [rows * columns, width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_have_halves_of_their_own() {
        let table: Vec<f32> = sines([2, 3], 8, &Device::flex()).into_data().iter().collect();
        let at = |row: usize, column: usize| &table[(row * 3 + column) * 8..][..8];
        assert_eq!((&at(0, 0)[..4], &at(0, 2)[..4]), (&[0.0, 0.0, 1.0, 1.0][..], &at(0, 0)[..4]));
        assert_eq!(at(0, 2)[4..], at(1, 2)[4..]);
        assert!((at(1, 0)[0] - 1f32.sin()).abs() < 1e-6 && (at(0, 2)[6] - 2f32.cos()).abs() < 1e-6);
    }
}
