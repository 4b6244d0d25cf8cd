//! The MLP of a decoder block.

use super::activation::Activation;
use super::kernel;
use super::linear::{Linear, concat_linear};
use burn::module::Module;
use burn::tensor::Tensor;

/// Projections of the MLP.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Gate projection, `[hidden, intermediate]`; `None` in an MLP without a gate.
    pub gate_proj: Option<Linear>,
    /// Up projection, `[hidden, intermediate]`.
    pub up_proj: Linear,
    /// Down projection, `[intermediate, hidden]`.
    pub down_proj: Linear,
}

impl Mlp {
    /// Applies the MLP to each row, `[rows, d]` → `[rows, d]`.
    pub(super) fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let inner = match &self.gate_proj {
            Some(gate) => kernel::gated(concat_linear([gate, &self.up_proj], x), activation),
            None => kernel::activate(self.up_proj.forward(x), activation),
        };
        self.down_proj.forward(inner)
    }
}
