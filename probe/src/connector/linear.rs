//! The connector of the first LLaVA (arXiv 2304.08485): one linear layer.

use super::grid::{GridConnector, TokenProjection, by_row};
use burgess_base::Result;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// The connector `linear`: one linear layer `[feature width, llm width]` with bias, which checkpoints name
/// `mm_projector`.
pub type LinearConnector = GridConnector<Linear>;

impl TokenProjection for Linear {
    fn init(from: usize, to: usize, device: &Device) -> Self {
        LinearConfig::new(from, to).init(device)
    }

    fn parameters(from: f64, to: f64) -> f64 {
        from * to
    }

    fn input_width(&self) -> usize {
        self.weight.dims()[0]
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>> {
        by_row(x, |x| Ok(self.forward(x)))
    }
}
