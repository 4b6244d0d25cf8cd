//! The connector of the first LLaVA (arXiv 2304.08485): one linear layer.

use super::grid::{GridConnector, LayerWidths, TokenProjection, by_row};
use burgess_base::Result;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// The connector `linear`: one linear layer `[feature width, llm width]` with bias, which checkpoints name
/// `mm_projector`.
pub type LinearConnector = GridConnector<Linear>;

impl TokenProjection for Linear {
    const HAS_HIDDEN: bool = false;

    fn init(widths: LayerWidths, device: &Device) -> Self {
        LinearConfig::new(widths.input, widths.output).init(device)
    }

    fn parameters(widths: LayerWidths) -> f64 {
        widths.input as f64 * widths.output as f64
    }

    fn input_width(&self) -> usize {
        self.weight.dims()[0]
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>> {
        by_row(x, |x| Ok(self.forward(x)))
    }
}
