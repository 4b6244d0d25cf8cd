//! Gradient checkpointing: only the input of each decoder block is stored, and the block is recomputed in the
//! backward pass (arXiv 1604.06174). This costs one more forward pass, about a third more computation.
//!
//! Burn's own `gradient_checkpointing()` recomputes cheap operations and stores the inputs of expensive ones, which
//! are most of the memory here; it also does not support fused steps that are one graph node, like ours on `flex`.

use super::loss::TrainingBatch;
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

/// Computes the loss of a batch and returns it, `[1]` in nats; passes the gradients of all trained parameters to
/// `take`, block by block. `below` tells whether parameters before the decoder are trained.
///
/// # Errors
/// When the sequences exceed the model's maximum length, or the connector has samplers inside the decoder.
pub fn backward(
    batch: &TrainingBatch,
    model: &Mllm,
    below: bool,
    take: &mut dyn FnMut(Gradients),
) -> Result<Tensor<1>> {
    if batch.spliced.has_samplers() {
        return Err(Error::usage(
            "`checkpointing` is not supported for a connector with samplers between the blocks of the decoder",
        )
        .hint("leave `checkpointing` out; to save memory, raise `accumulate` instead"));
    }
    let (layout, embeddings) = (batch.spliced.layout(), &batch.spliced.embeddings);
    let plain = model.llm.clone().valid();
    let mut inputs = vec![embeddings.clone().inner()];
    let mut keep = |_, x: Tensor<3>| {
        inputs.push(x.clone());
        Ok(x)
    };
    plain.hidden_with(embeddings.clone().inner(), layout, Some(&mut keep))?;
    drop(plain);
    let top = leaf(inputs.pop().ok_or_else(lost)?);
    let loss = batch.loss_of(model, model.llm.final_norm(top.clone()));
    let gradients = loss.backward();
    let value = loss.inner();
    let mut grad = top.grad(&gradients).ok_or_else(lost)?;
    take(gradients);
    let shared = model.llm.sequence_tensors(layout, embeddings.dims()[1], &embeddings.device())?;
    for i in (0..model.llm.blocks()).rev() {
        let x = leaf(inputs.pop().ok_or_else(lost)?);
        let gradients = vector_jacobian_product(model.llm.block(i, x.clone(), &shared)?, grad);
        grad = x.grad(&gradients).ok_or_else(lost)?;
        take(gradients);
    }
    if below {
        take(vector_jacobian_product(embeddings.clone(), grad));
    }
    Ok(value)
}

/// Makes `x` a leaf of a new autodiff graph.
fn leaf(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_inner(x).require_grad()
}

/// Computes the gradients of the inputs of `output` from the gradient of `output`.
fn vector_jacobian_product(output: Tensor<3>, grad: Tensor<3>) -> Gradients {
    (output * Tensor::from_inner(grad)).sum().backward()
}

fn lost() -> Error {
    Error::failed("the backward pass: a decoder block returned no gradient of its input")
}
