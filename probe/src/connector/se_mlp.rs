//! Cambrian-1's `se_mlp`: a gate over the channels from the image's mean, then linear, GELU, linear.

use super::standardise::Standardise;
use super::sva::{Projector, project, projector};
use burn::module::{Module, Param};
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// The `se_mlp` connector, with upstream's names within its `mm_projector`.
#[derive(Module, Debug)]
pub struct SeMlp {
    /// The gate and the MLP.
    pub mm_projector: Gated,
    /// The newline token's embedding, `[llm width]`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Standardises the features first, if the configuration says so.
    pub standardise: Option<Standardise>,
}

/// Squeeze-and-excitation followed by an MLP.
#[derive(Module, Debug)]
pub struct Gated {
    /// Two linear layers without biases and a GELU; a sigmoid follows.
    pub se: (Linear, Gelu, Linear),
    /// Maps features to image tokens of the language model's width.
    pub proj: Projector,
}

impl SeMlp {
    pub(super) fn new(from: usize, to: usize, image_newline: Option<Param<Tensor<1>>>, device: &Device) -> Self {
        let plain = || LinearConfig::new(from, from).with_bias(false).init(device);
        let mm_projector = Gated { se: (plain(), Gelu::new(), plain()), proj: projector(from, to, device) };
        Self { mm_projector, image_newline, standardise: None }
    }

    /// Maps features `[images, tokens, width]` to image tokens `[images, tokens, llm width]`.
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (first, gelu, second) = &self.mm_projector.se;
        let means: Tensor<2> = x.clone().mean_dim(1).squeeze_dim(1);
        let gate = sigmoid(second.forward(gelu.forward(first.forward(means))));
        let x = x.clone() * gate.unsqueeze_dim::<3>(1) + x;
        project(x, &self.mm_projector.proj)
    }
}
