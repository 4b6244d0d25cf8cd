//! The connector of LLaVA-1.5 (arXiv 2310.03744) and of Cambrian-1's encoder study: linear, GELU, linear.

use super::grid::{GridConnector, LayerWidths, TokenProjection, by_row};
use burgess_base::{Error, Result};
use burgess_encoders::operands::gelu;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// The connector `mlp2x_gelu`: two linear layers with an exact GELU between them, which checkpoints name
/// `mm_projector.0` and `mm_projector.2`.
pub type Mlp2xGelu = GridConnector<Vec<Option<Linear>>>;

// Upstream's `nn.Sequential`; index 1 is the GELU, which has no parameters.
impl TokenProjection for Vec<Option<Linear>> {
    const HAS_HIDDEN: bool = true;

    fn init(widths: LayerWidths, device: &Device) -> Self {
        let linear = |from, to| Some(LinearConfig::new(from, to).init(device));
        vec![linear(widths.input, widths.hidden), None, linear(widths.hidden, widths.output)]
    }

    fn parameters(widths: LayerWidths) -> f64 {
        widths.hidden as f64 * (widths.input as f64 + widths.output as f64)
    }

    fn input_width(&self) -> usize {
        self.first().and_then(Option::as_ref).map_or(0, |l| l.weight.dims()[0])
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>> {
        match self.as_slice() {
            [Some(first), None, Some(second)] => by_row(x, |x| Ok(second.forward(gelu(first.forward(x))))),
            _ => Err(Error::failed(format!(
                "connector mlp2x_gelu: `mm_projector` has {} elements, expected linear layers at 0 and 2",
                self.len()
            ))),
        }
    }
}
