//! Cambrian-1's `se_mlp`: a gate over the channels from the image's mean, then linear, GELU, linear.

use super::grid::{GridConnector, TokenProjection};
use super::sva::{Projector, project, projector};
use burgess_base::Result;
use burn::module::Module;
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// The `se_mlp` connector.
pub type SeMlp = GridConnector<Gated>;

/// Squeeze-and-excitation followed by an MLP, with upstream's names within its `mm_projector`.
#[derive(Module, Debug)]
pub struct Gated {
    /// Two linear layers without biases and a GELU; a sigmoid follows.
    pub se: (Linear, Gelu, Linear),
    /// Maps features to image tokens of the language model's width.
    pub proj: Projector,
}

impl TokenProjection for Gated {
    fn init(from: usize, to: usize, device: &Device) -> Self {
        let plain = || LinearConfig::new(from, from).with_bias(false).init(device);
        Self { se: (plain(), Gelu::new(), plain()), proj: projector(from, to, device) }
    }

    fn parameters(from: f64, to: f64) -> f64 {
        2.0 * from * from + from * to + to * to
    }

    fn input_width(&self) -> usize {
        self.proj.0.weight.dims()[0]
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>> {
        let (first, gelu, second) = &self.se;
        let means: Tensor<2> = x.clone().mean_dim(1).squeeze_dim(1);
        let gate = sigmoid(second.forward(gelu.forward(first.forward(means))));
        let x = x.clone() * gate.unsqueeze_dim::<3>(1) + x;
        Ok(project(x, &self.proj))
    }
}
