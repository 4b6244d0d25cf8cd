//! Option types of a [`super::LlmConfig`]: attention windows, activations, experts.

use serde::{Deserialize, Serialize};

/// The attention range of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// Full causal attention.
    #[serde(rename = "full_attention")]
    Full,
    /// Sliding window over the last [`sliding_window`](super::LlmConfig::sliding_window) positions, itself included.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

/// The activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Gate {
    /// SiLU: x · sigmoid(x).
    #[default]
    #[serde(rename = "silu")]
    Silu,
    /// GELU in its tanh approximation.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
    /// Exact GELU, by the error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// ReLU: max(x, 0).
    #[serde(rename = "relu")]
    Relu,
    /// Squared ReLU: max(x, 0)².
    #[serde(rename = "relu2")]
    ReluSquared,
}

impl Gate {
    /// The activation with this name in `transformers`.
    ///
    /// # Errors
    /// When the activation is not supported; the supported ones are listed.
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

    /// The activation's name in `transformers`.
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

/// Configuration of a mixture of experts (arXiv 1701.06538).
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Number of routed experts per layer.
    pub count: usize,
    /// Number of experts per token (top-k).
    pub active: usize,
    /// Inner width of each routed expert.
    pub width: usize,
    /// Inner width of the shared expert, which all tokens pass through; `None` without one.
    pub shared: Option<usize>,
    /// Whether the top-k weights are renormalised to sum to one.
    pub normalised: bool,
    /// Indices of layers that have a dense MLP instead.
    pub dense: Vec<usize>,
    /// Every `step`-th layer has experts (`decoder_sparse_step`).
    pub step: usize,
}

impl Experts {
    /// Whether layer `i` has experts instead of a dense MLP.
    pub fn at(&self, i: usize) -> bool {
        !self.dense.contains(&i) && (i + 1).is_multiple_of(self.step.max(1))
    }
}
