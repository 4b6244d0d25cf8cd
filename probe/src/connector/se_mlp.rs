//! Cambrian-1's `se_mlp`: a gate over the channels from the picture's mean, then linear, GELU, linear.

use super::sva::{Projector, project, projector};
use burn::module::{Module, Param};
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// The gate and the layers, under upstream's names within its `mm_projector`.
#[derive(Module, Debug)]
pub struct SeMlp {
    /// Both.
    pub mm_projector: Gated,
    /// `[llm width]`.
    pub image_newline: Option<Param<Tensor<1>>>,
}

/// The two parts.
#[derive(Module, Debug)]
pub struct Gated {
    /// Two linear maps without biases; a sigmoid follows.
    pub se: (Linear, Gelu, Linear),
    /// Features → embeddings.
    pub proj: Projector,
}

impl SeMlp {
    pub(super) fn new(from: usize, to: usize, image_newline: Option<Param<Tensor<1>>>, device: &Device) -> Self {
        let plain = || LinearConfig::new(from, from).with_bias(false).init(device);
        let mm_projector = Gated { se: (plain(), Gelu::new(), plain()), proj: projector(from, to, device) };
        Self { mm_projector, image_newline }
    }

    /// `[pictures, tokens, width]`.
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (first, gelu, second) = &self.mm_projector.se;
        let means: Tensor<2> = x.clone().mean_dim(1).squeeze_dim(1);
        let gate = sigmoid(second.forward(gelu.forward(first.forward(means))));
        let x = x.clone() * gate.unsqueeze_dim::<3>(1) + x;
        project(x, &self.mm_projector.proj)
    }
}
