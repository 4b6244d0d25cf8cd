//! The gradient of a batch with less memory: of each decoder block only the input is kept; when the gradient comes back to
//! it, the block is computed again (arXiv 1604.06174). That is one more forward pass, about a third more work.
//!
//! Burn's own `gradient_checkpointing()` computes cheap operations again and keeps what expensive ones read, which here is
//! most of the memory, and it cannot follow steps that are one node of the graph, as ours on `flex` are.

use super::loss::Batch;
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

/// Hands the gradients of all trained parameters to `take`, a part at a time, and returns the loss. `below`: whether
/// anything before the decoder is trained.
///
/// # Errors
/// When the sequences are longer than the model reads.
pub fn backward(batch: &Batch, model: &Mllm, below: bool, take: &mut dyn FnMut(Gradients)) -> Result<f32> {
    if batch.spliced.sampled() {
        return Err(Error::usage(
            "`checkpointing` cannot follow a connector with samplers between the decoder's blocks",
        )
        .hint("leave `checkpointing` out, and raise `accumulate` where memory is short"));
    }
    let (reading, embeddings) = (batch.spliced.reading(), &batch.spliced.embeddings);
    let plain = model.llm.clone().valid();
    let mut inputs = vec![embeddings.clone().inner()];
    let mut keep = |_, x: Tensor<3>| {
        inputs.push(x.clone());
        Ok(x)
    };
    plain.hidden_with(embeddings.clone().inner(), reading, Some(&mut keep))?;
    drop(plain);
    let top = leaf(inputs.pop().ok_or_else(lost)?);
    let loss = batch.loss_of(model, model.llm.close(top.clone()));
    let gradients = loss.backward();
    let mut grad = top.grad(&gradients).ok_or_else(lost)?;
    take(gradients);
    let value = loss.inner().try_into_scalar::<f32>().map_err(|e| Error::failed(e.to_string()))?;
    for i in (0..model.llm.blocks()).rev() {
        let x = leaf(inputs.pop().ok_or_else(lost)?);
        let gradients = pulled(model.llm.block(i, x.clone(), reading)?, grad);
        grad = x.grad(&gradients).ok_or_else(lost)?;
        take(gradients);
    }
    if below {
        take(pulled(embeddings.clone(), grad));
    }
    Ok(value)
}

/// The beginning of a new graph.
fn leaf(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_inner(x).require_grad()
}

/// Gradients of what `output` was made from, given that of `output`.
fn pulled(output: Tensor<3>, grad: Tensor<3>) -> Gradients {
    (output * Tensor::from_inner(grad)).sum().backward()
}

fn lost() -> Error {
    Error::failed("a decoder block hands no gradient back")
}
