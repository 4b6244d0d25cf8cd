//! Embeddings of the cells of a document, which stand in for image tokens.

use super::{CellBlock, PretrainRow};
use crate::connector::position_embedding;
use crate::llm::Llm;
use burgess_base::stream::{Stream, normal_pair, uniform};
use burgess_base::{Error, Result};
use burgess_encoders::{reduce, transfer};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Maximum standard deviation of the noise on a cell, relative to the root mean square of the cells' embeddings.
const NOISE: f64 = 1.0;

/// Replaces the embeddings at the positions of cells in `embeddings` `[b, t, d]`.
///
/// A cell's embedding is the sum of the embeddings of its words over the square root of their number, scaled to the
/// length of a word embedding, plus the cell's position embedding: the form of image tokens behind a connector with
/// position embeddings.
///
/// With `noise`, cells get Gaussian noise of a strength that is drawn per row and mostly weak. A connector never emits
/// exact word embeddings, and a model trained on exact ones is overconfident about the nearest word, which gives a
/// connector in training small gradients.
///
/// # Errors
/// When the grids of the rows differ.
pub(super) fn replace(
    model: &Llm,
    embeddings: Tensor<3>,
    rows: &[PretrainRow],
    noise: Option<&mut Stream>,
    device: &Device,
) -> Result<Tensor<3>> {
    let [b, t, d] = embeddings.dims();
    let blocks: Vec<(usize, &PretrainRow, &CellBlock)> =
        rows.iter().enumerate().filter_map(|(r, row)| Some((r, row, row.cells.as_ref()?))).collect();
    let Some(grid) = blocks.first().map(|(_, _, block)| block.grid) else { return Ok(embeddings) };
    if let Some((_, _, other)) = blocks.iter().find(|(_, _, block)| block.grid != grid) {
        return Err(Error::failed(format!(
            "documents with grids of {}x{} and {}x{} cells in one batch; all must have the same grid",
            grid[0], grid[1], other.grid[0], other.grid[1]
        )));
    }
    // Flat position in the batch, index in the grid, and word ids of each cell that truncation left.
    let cells: Vec<(usize, usize, &[u32])> = blocks
        .into_iter()
        .flat_map(|(r, row, block)| {
            let words = block.words.iter().enumerate().take(row.ids.len().saturating_sub(block.start));
            words.map(move |(i, words)| (r * t + block.start + i, i, words.as_slice()))
        })
        .collect();
    let n = cells.len();
    let most = cells.iter().map(|(_, _, words)| words.len()).max().unwrap_or(0).max(1);
    let (mut ids, mut weights) = (vec![0_u32; n * most], vec![0.0_f32; n * most]);
    for (c, (_, _, words)) in cells.iter().enumerate() {
        for (w, id) in words.iter().enumerate() {
            ids[c * most + w] = *id;
            weights[c * most + w] = 1.0 / (words.len() as f32).sqrt();
        }
    }
    let words: Vec<&[u32]> = ids.chunks(most).collect();
    let weights = transfer::to_device::<3, _>(TensorData::new(weights, [n, most, 1]), device);
    let mut bags = (model.embed_rows(&words, device)? * weights).sum_dim(1).reshape([n, d]);
    if let Some(stream) = noise {
        let length = reduce::mean(bags.clone().detach().square()).sqrt();
        let mut values = Vec::with_capacity(n * d);
        let (mut row, mut strength) = (usize::MAX, 0.0);
        for (place, _, _) in &cells {
            if place / t != row {
                (row, strength) = (place / t, NOISE * uniform(stream).powi(2));
            }
            values.extend((0..d).map(|_| (strength * normal_pair(stream)[0]) as f32));
        }
        bags = bags + transfer::to_device::<2, _>(TensorData::new(values, [n, d]), device) * length.unsqueeze::<2>();
    }
    let within: Vec<i32> = cells.iter().map(|(_, i, _)| *i as i32).collect();
    let within = transfer::to_device(TensorData::new(within, [n]), device);
    let bags = position_embedding::add_at(bags, within, grid, model);
    let places: Vec<i32> = cells.iter().map(|(place, _, _)| *place as i32).collect();
    let places = transfer::to_device::<1, Int>(TensorData::new(places, [n]), device);
    let flat = embeddings.reshape([b * t, d]);
    // `select_assign` can only add, so the placeholder's embedding is subtracted first.
    let bags = bags - flat.clone().select(0, places.clone());
    Ok(flat.select_assign(0, places, bags, IndexingUpdateOp::Add).reshape([b, t, d]))
}
