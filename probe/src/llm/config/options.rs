//! Option types of an [`LlmConfig`](super::LlmConfig): attention ranges, activations, experts.

use serde::{Deserialize, Serialize};

/// The attention range of a layer, as in `layer_types` of a `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LayerType {
    /// Full causal attention.
    #[serde(rename = "full_attention")]
    Full,
    /// Sliding window over the last [`sliding_window`](super::LlmConfig::sliding_window) positions, itself included.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

/// The activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SiLU: x · sigmoid(x).
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
    /// Exact GELU, by the error function.
    Gelu,
    /// ReLU: max(x, 0).
    Relu,
    /// Squared ReLU: max(x, 0)².
    ReluSquared,
}

/// The names of each activation in `transformers` (`ACT2FN`); the first is the one that is written.
const ACTIVATIONS: [(Activation, &[&str]); 5] = [
    (Activation::Silu, &["silu", "swish"]),
    (Activation::GeluTanh, &["gelu_pytorch_tanh", "gelu_new", "gelu_fast"]),
    (Activation::Gelu, &["gelu", "gelu_python"]),
    (Activation::Relu, &["relu"]),
    (Activation::ReluSquared, &["relu2"]),
];

impl Activation {
    /// The names of all activations in `transformers`.
    #[cfg(feature = "schema")]
    pub(super) fn names() -> Vec<&'static str> {
        ACTIVATIONS.iter().flat_map(|(_, names)| names.iter().copied()).collect()
    }

    /// The activation with this name in `transformers`.
    ///
    /// # Errors
    /// When the activation is not supported; the supported ones are listed.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = ACTIVATIONS.iter().find(|(_, names)| names.contains(&name));
        found.map(|(activation, _)| *activation).ok_or_else(|| {
            let known: Vec<&str> = ACTIVATIONS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            format!(
                "the activation `{}` is not supported; supported are {}",
                burgess_base::text::excerpt(name, 40),
                known.join(", ")
            )
        })
    }

    /// The activation's name in `transformers`.
    pub fn name(self) -> &'static str {
        let found = ACTIVATIONS.iter().find(|(activation, _)| *activation == self);
        found.and_then(|(_, names)| names.first()).copied().unwrap_or_default()
    }
}

/// Configuration of a mixture of experts (arXiv 1701.06538).
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
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
    pub dense_layers: Vec<usize>,
    /// Every `step`-th layer has experts (`decoder_sparse_step`).
    pub step: usize,
}

impl MoeConfig {
    /// Whether layer `i` has experts instead of a dense MLP.
    pub fn has_experts(&self, i: usize) -> bool {
        !self.dense_layers.contains(&i) && (i + 1).is_multiple_of(self.step.max(1))
    }
}
