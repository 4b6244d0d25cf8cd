//! Parts of a [`super::LlmConfig`]: windows, activations, experts.

use serde::{Deserialize, Serialize};

/// How far back a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// Everything.
    #[serde(rename = "full_attention")]
    Full,
    /// The last [`sliding_window`](super::LlmConfig::sliding_window) positions, itself included.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

/// The activation of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Gate {
    /// x · sigmoid(x).
    #[default]
    #[serde(rename = "silu")]
    Silu,
    /// GELU by its tanh approximation.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
    /// GELU by the error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// max(x, 0).
    #[serde(rename = "relu")]
    Relu,
    /// max(x, 0)².
    #[serde(rename = "relu2")]
    ReluSquared,
}

impl Gate {
    /// The activation of this name in `transformers`.
    ///
    /// # Errors
    /// It is none that is read; those that are, are listed.
    pub fn named(name: &str) -> std::result::Result<Self, String> {
        match name {
            "silu" | "swish" => Ok(Self::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Self::GeluTanh),
            "gelu" | "gelu_python" => Ok(Self::Gelu),
            "relu" => Ok(Self::Relu),
            "relu2" => Ok(Self::ReluSquared),
            _ => Err(format!(
                "the activation `{}` is not read; read are silu, gelu, gelu_pytorch_tanh, gelu_new, relu, relu2",
                burgess_base::text::excerpt(name, 40)
            )),
        }
    }

    /// Its name in `transformers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
            Self::Gelu => "gelu",
            Self::Relu => "relu",
            Self::ReluSquared => "relu2",
        }
    }
}

/// MLPs of which each token goes through some (arXiv 1701.06538).
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// How many there are in a layer.
    pub count: usize,
    /// How many a token goes through.
    pub active: usize,
    /// Width of each one's inner layer.
    pub width: usize,
    /// Inner width of the one that all tokens go through, behind a gate of its own.
    pub shared: Option<usize>,
    /// Whether the weights of the chosen ones add up to one.
    pub normalised: bool,
    /// Layers that have an ordinary MLP instead.
    pub dense: Vec<usize>,
    /// Of so many layers the last has experts.
    pub step: usize,
}

impl Experts {
    /// Whether layer `i` has experts.
    pub fn at(&self, i: usize) -> bool {
        !self.dense.contains(&i) && (i + 1).is_multiple_of(self.step.max(1))
    }
}
