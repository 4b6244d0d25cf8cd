//! The connector of the first LLaVA (arXiv 2304.08485): one linear layer.

use super::standardise::Standardise;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// One linear layer, with upstream's name `mm_projector`.
#[derive(Module, Debug)]
pub struct LinearConnector {
    /// The linear layer, `[feature width, llm width]`, with bias.
    pub mm_projector: Linear,
    /// The newline token's embedding, `[llm width]`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Standardises the features first, if the configuration says so.
    pub standardise: Option<Standardise>,
}

impl LinearConnector {
    pub(super) fn new(from: usize, to: usize, image_newline: Option<Param<Tensor<1>>>, device: &Device) -> Self {
        Self { mm_projector: LinearConfig::new(from, to).init(device), image_newline, standardise: None }
    }

    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.mm_projector.forward(x)
    }
}
