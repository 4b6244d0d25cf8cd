//! Option types of an [`LlmConfig`](super::LlmConfig): attention ranges and experts.

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
