//! Predicts the supervised tokens of a batch.

use super::{PretrainRow, cells};
use crate::llm::{Llm, kernel};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A model's predictions for the supervised tokens of a batch.
pub(super) struct Predictions {
    /// Logits, `[supervised tokens, vocabulary]`.
    logits: Tensor<2>,
    /// The supervised token ids.
    targets: Vec<i32>,
    /// Index of the row of each supervised token.
    rows: Vec<usize>,
}

impl Predictions {
    /// Returns the mean cross-entropy over the supervised tokens, `[1]`.
    pub fn cross_entropy(self) -> Tensor<1> {
        let device = self.logits.device();
        let count = self.targets.len();
        kernel::cross_entropy(self.logits, transfer::to_device(TensorData::new(self.targets, [count]), &device))
    }

    /// Returns for each of `count` rows whether every supervised token has the highest logit, in which case greedy
    /// decoding gives exactly the expected answer.
    pub fn correct(self, count: usize) -> Result<Vec<bool>> {
        let predicted: Vec<i64> = self
            .logits
            .argmax(1)
            .into_data()
            .convert::<i64>()
            .try_to_vec()
            .map_err(|e| Error::failed(format!("reading predictions: {e:?}")))?;
        let mut correct = vec![true; count];
        for ((row, target), predicted) in self.rows.iter().zip(&self.targets).zip(predicted) {
            correct[*row] &= i64::from(*target) == predicted;
        }
        Ok(correct)
    }
}

/// Predicts the supervised tokens of `rows`. In training, `noise` draws the noise on cells; in evaluation there is
/// none.
///
/// # Errors
/// When a token id is outside the vocabulary, a row is longer than the model's context, or grids of cells differ.
pub(super) fn supervised(
    model: &Llm,
    rows: &[PretrainRow],
    noise: Option<&mut Stream>,
    device: &Device,
) -> Result<Predictions> {
    let t = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    // Padding is on the right, where no real token attends to it, so its id does not matter.
    let padded: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| {
            let mut ids = row.ids.clone();
            ids.resize(t, 0);
            ids
        })
        .collect();
    let (mut positions, mut targets, mut row_of) = (Vec::new(), Vec::new(), Vec::new());
    for (r, row) in rows.iter().enumerate() {
        for i in 1..row.ids.len() {
            if row.loss_mask[i] {
                positions.push((r * t + i - 1) as i32);
                targets.push(row.ids[i] as i32);
                row_of.push(r);
            }
        }
    }
    let inputs: Vec<&[u32]> = padded.iter().map(Vec::as_slice).collect();
    let embeddings = model.embed_rows(&inputs, device)?;
    let embeddings = match rows.iter().any(|row| row.cells.is_some()) {
        true => cells::replace(model, embeddings, rows, noise, device)?,
        false => embeddings,
    };
    let hidden = model.hidden(embeddings)?;
    let [b, t, d] = hidden.dims();
    let count = positions.len();
    let positions = transfer::to_device::<1, Int>(TensorData::new(positions, [count]), device);
    Ok(Predictions { logits: model.logits(hidden.reshape([b * t, d]).select(0, positions)), targets, rows: row_of })
}
