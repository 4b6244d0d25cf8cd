//! Connectors: patch features → embeddings of the language model. One file per connector.

mod linear;
mod mlp2x_gelu;

pub use linear::LinearConnector;
pub use mlp2x_gelu::Mlp2xGelu;

use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Which connector, under the names LLaVA's `mm_projector_type` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum ConnectorKind {
    /// One linear map.
    #[serde(rename = "linear")]
    Linear,
    /// Linear, GELU, linear.
    #[default]
    #[serde(rename = "mlp2x_gelu")]
    Mlp2xGelu,
}

/// Everything that defines a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorConfig {
    /// Which connector.
    #[serde(default)]
    pub kind: ConnectorKind,
    /// Width of the features it reads (of all encoders together).
    pub feature_width: usize,
    /// Width of the language model.
    pub llm_width: usize,
}

impl ConnectorConfig {
    /// A connector with freshly drawn weights (PyTorch's default for linear layers), from Burn's own generator;
    /// callers that need reproducible weights follow with `burgess_encoders::init::initialise`.
    pub fn init(&self, device: &Device) -> Connector {
        let (from, to) = (self.feature_width, self.llm_width);
        match self.kind {
            ConnectorKind::Linear => Connector::Linear(LinearConnector::new(from, to, device)),
            ConnectorKind::Mlp2xGelu => Connector::Mlp2xGelu(Mlp2xGelu::new(from, to, device)),
        }
    }
}

/// A connector of any kind.
#[derive(Module, Debug)]
pub enum Connector {
    /// One linear map.
    Linear(LinearConnector),
    /// Linear, GELU, linear.
    Mlp2xGelu(Mlp2xGelu),
}

impl Connector {
    /// `features` `[b, n, feature_width]` → `[b, n, llm_width]`.
    ///
    /// # Errors
    /// When the features are not as wide as the connector expects.
    pub fn forward(&self, features: Tensor<3>) -> Result<Tensor<3>> {
        let [b, n, width] = features.dims();
        let expected = self.feature_width();
        if width != expected {
            return Err(Error::failed(format!(
                "the connector reads features of width {expected}, the encoder gave {width}"
            ))
            .hint("the model was trained with another encoder"));
        }
        let x = features.reshape([b * n, width]);
        let y = match self {
            Self::Linear(c) => c.forward(x),
            Self::Mlp2xGelu(c) => c.forward(x)?,
        };
        let to = y.dims()[1];
        Ok(y.reshape([b, n, to]))
    }

    /// Width of the features it reads.
    pub fn feature_width(&self) -> usize {
        let first = match self {
            Self::Linear(c) => Some(&c.mm_projector),
            Self::Mlp2xGelu(c) => c.mm_projector.first().and_then(Option::as_ref),
        };
        first.map_or(0, |l| l.weight.dims()[0])
    }
}
