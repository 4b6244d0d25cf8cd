//! Cambrian-1's `se_mlp`: a gate over the channels from the image's mean, then linear, GELU, linear.

use super::grid::{GridConnector, LayerWidths, TokenProjection};
use super::sva::{Projector, project, projector};
use burgess_base::Result;
use burgess_encoders::operands::gelu;
use burn::module::Module;
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// The connector `se_mlp`: squeeze-and-excitation over the channels, then an MLP.
pub type SeMlp = GridConnector<Gated>;

/// Squeeze-and-excitation followed by an MLP, with the names of upstream's `mm_projector`.
#[derive(Module, Debug)]
pub struct Gated {
    /// Gate: two linear layers `[feature width, feature width]` without biases, with a GELU between them; a sigmoid
    /// follows.
    pub se: (Linear, Gelu, Linear),
    /// MLP from features to image tokens, `[feature width, hidden width]` and `[hidden width, llm width]`.
    pub proj: Projector,
}

impl TokenProjection for Gated {
    const HAS_HIDDEN: bool = true;

    fn init(widths: LayerWidths, device: &Device) -> Self {
        let plain = || LinearConfig::new(widths.input, widths.input).with_bias(false).init(device);
        Self {
            se: (plain(), Gelu::new(), plain()),
            proj: projector(widths.input, widths.hidden, widths.output, device),
        }
    }

    fn parameters(widths: LayerWidths) -> f64 {
        let (input, hidden, output) = (widths.input as f64, widths.hidden as f64, widths.output as f64);
        2.0 * input * input + hidden * (input + output)
    }

    fn input_width(&self) -> usize {
        self.proj.0.weight.dims()[0]
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>> {
        let (first, _, second) = &self.se;
        let means: Tensor<2> = x.clone().mean_dim(1).squeeze_dim(1);
        let gate = sigmoid(second.forward(gelu(first.forward(means))));
        let x = x.clone() * gate.unsqueeze_dim::<3>(1) + x;
        Ok(project(x, &self.proj))
    }
}
