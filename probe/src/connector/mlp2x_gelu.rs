//! The connector of LLaVA-1.5 (arXiv 2310.03744) and of Cambrian-1's encoder study: linear, GELU, linear.

use super::standardise::Standardise;
use burgess_base::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};

/// Two linear layers with an exact GELU between them, with upstream's names `mm_projector.0` and `mm_projector.2`.
#[derive(Module, Debug)]
pub struct Mlp2xGelu {
    /// Upstream's `nn.Sequential`; index 1 is the GELU, which has no parameters.
    pub mm_projector: Vec<Option<Linear>>,
    /// The newline token's embedding, `[llm width]`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Standardises the features first, if the configuration says so.
    pub standardise: Option<Standardise>,
}

impl Mlp2xGelu {
    pub(super) fn new(from: usize, to: usize, image_newline: Option<Param<Tensor<1>>>, device: &Device) -> Self {
        let linear = |i| Some(LinearConfig::new(i, to).init(device));
        Self { mm_projector: vec![linear(from), None, linear(to)], image_newline, standardise: None }
    }

    pub(super) fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        match self.mm_projector.as_slice() {
            [Some(first), None, Some(second)] => Ok(second.forward(gelu(first.forward(x)))),
            _ => Err(Error::failed("the mlp2x_gelu connector has lost a layer")),
        }
    }
}
