//! Decoder families: LLaMA, and networks with other norms, activations, biases or block layouts.
//!
//! A family is one row of [`FAMILIES`]. The row states how the family's network differs from LLaMA's, which keys of
//! `config.json` it reads with which defaults, and how its tensors are named. Nothing else in this crate distinguishes
//! families: a new one is one new row. Sizes and switches of a single model are in [`super::LlmConfig`].

mod table;
mod unsupported;

pub use table::FAMILIES;
pub(crate) use unsupported::missing_feature;

use crate::llm::activation::Activation;
use burgess_encoders::checkpoint::Dialect;

/// The properties of a decoder family, and the defaults of its configuration class in `transformers`.
#[derive(Debug, Clone, Copy)]
pub struct DecoderFamily {
    /// The `model_type` in `config.json`.
    pub name: &'static str,
    /// The class name in `transformers`.
    pub class: &'static str,
    /// The tensor names in Hugging Face's layout.
    pub dialect: &'static Dialect,
    /// The type of all its norms.
    pub norm: DecoderNorm,
    /// Where a block applies its norms.
    pub block: BlockLayout,
    /// How queries and keys are normalised.
    pub qk_norm: QkNorm,
    /// Whether the MLP has a gate (SwiGLU, GeGLU).
    pub gated: bool,
    /// Whether the rotary layout is interleaved (neighbouring channels are rotated in pairs) instead of `rotate_half`.
    pub interleaved: bool,
    /// Whether embeddings are multiplied by √`hidden_size`.
    pub scaled_embeddings: bool,
    /// Whether queries, keys and values have biases regardless of the key `attention_bias_key`.
    pub qkv_bias: bool,
    /// Whether the key `attention_bias_key` includes the output projection.
    pub output_bias: bool,
    /// The key that switches the biases of attention; `None` if there is none.
    pub attention_bias_key: Option<&'static str>,
    /// Default of the key `attention_bias_key`.
    pub attention_bias: bool,
    /// Whether `attention_out_bias` switches the bias of the output projection.
    pub attention_out_bias: bool,
    /// Which setting switches the biases of the MLP.
    pub mlp_bias: MlpBias,
    /// Boolean keys that must have this value if they are present; others describe an unsupported network.
    pub required_flags: &'static [(&'static str, bool)],
    /// The keys of the mixture of experts; `None` for families without experts.
    pub experts: Option<MoeKeys>,
    /// The key of the norms' epsilon; `None` if it is fixed.
    pub eps_key: Option<&'static str>,
    /// Default epsilon of the norms.
    pub eps: f64,
    /// The key of the activation; `hidden_act` is read too if it is absent.
    pub activation_key: &'static str,
    /// Default activation function of the MLP.
    pub activation: Activation,
    /// Which layers use the sliding window if `config.json` has no `layer_types`.
    pub sliding: SlidingLayers,
    /// Default window in positions; an explicit null means that no layer slides.
    pub window: Option<usize>,
    /// Default base of the rotary angles.
    pub theta: f64,
    /// Base of the rotary angles in sliding layers.
    pub local_theta: LocalTheta,
    /// Which layers have a rotary embedding.
    pub rope_layers: RopeLayers,
    /// Default fraction of a head's channels that are rotated, in (0, 1].
    pub rotary_fraction: f64,
    /// Default head width; `None` for `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Whether the output head is tied to the embedding table by default.
    pub tied: bool,
    /// Soft caps on attention scores and on logits.
    pub softcaps: Softcaps,
    /// Default of `query_pre_attn_scalar`; `None` for the head width.
    pub query_pre_attn_scalar: Option<f64>,
    /// Whether the multipliers of Granite are read (`embedding_multiplier`, `attention_multiplier`,
    /// `residual_multiplier`, `logits_scaling`).
    pub multipliers: bool,
    /// Default of `logit_scale`; `None` if logits have no such factor.
    pub logit_scale: Option<f64>,
    /// Whether `clip_qkv` is read.
    pub clip_qkv: bool,
}

/// The type of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderNorm {
    /// Whether the mean is subtracted: true for LayerNorm (arXiv 1607.06450), false for RMSNorm (arXiv 1910.07467).
    pub centred: bool,
    /// How the weight scales the normalised values.
    pub scale: NormScale,
    /// Whether a bias is added.
    pub bias: bool,
}

/// How the weight of a norm scales the normalised values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormScale {
    /// There is no weight.
    None,
    /// The scale is the weight, initially one.
    Weight,
    /// The scale is one plus the weight, which is initially zero.
    OnePlusWeight,
}

impl DecoderNorm {
    /// RMSNorm with a scale.
    pub const RMS: Self = Self { centred: false, scale: NormScale::Weight, bias: false };
    /// RMSNorm whose scale is one plus the weight.
    pub const RMS_PLUS_ONE: Self = Self { centred: false, scale: NormScale::OnePlusWeight, bias: false };
    /// LayerNorm with scale and bias.
    pub const LAYER: Self = Self { centred: true, scale: NormScale::Weight, bias: true };
    /// LayerNorm with bias, whose scale is one plus the weight.
    pub const LAYER_PLUS_ONE: Self = Self { centred: true, scale: NormScale::OnePlusWeight, bias: true };
    /// LayerNorm with a scale and no bias.
    pub const LAYER_NO_BIAS: Self = Self { centred: true, scale: NormScale::Weight, bias: false };
    /// LayerNorm without parameters.
    pub const LAYER_NO_PARAMETERS: Self = Self { centred: true, scale: NormScale::None, bias: false };

    /// Number of parameters of a norm over `width` channels.
    pub fn parameters(self, width: usize) -> usize {
        width * (usize::from(self.scale != NormScale::None) + usize::from(self.bias))
    }
}

/// Where a block applies its norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockLayout {
    /// Before attention and before the MLP (LLaMA).
    PreNorm,
    /// Before and after both attention and MLP (Gemma 2).
    SandwichNorm,
    /// After attention and after the MLP (OLMo 2).
    PostNorm,
    /// One norm whose output both attention and MLP read; their outputs are added (Command R).
    Parallel,
}

/// The norms that a block has, named as in `transformers`' Gemma 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockNorms {
    /// Norm before attention.
    pub input: bool,
    /// Norm after attention; in [`BlockLayout::PreNorm`] it comes after the residual connection, before the MLP.
    pub post_attention: bool,
    /// Norm before the MLP.
    pub pre_feedforward: bool,
    /// Norm after the MLP.
    pub post_feedforward: bool,
}

impl BlockLayout {
    /// The norms of a block with this layout.
    pub fn norms(self) -> BlockNorms {
        let [input, post_attention, pre_feedforward, post_feedforward] = match self {
            Self::PreNorm => [true, true, false, false],
            Self::SandwichNorm => [true; 4],
            Self::PostNorm => [false, true, false, true],
            Self::Parallel => [true, false, false, false],
        };
        BlockNorms { input, post_attention, pre_feedforward, post_feedforward }
    }
}

impl BlockNorms {
    /// Number of norms, 1 to 4.
    pub fn count(self) -> usize {
        let all = [self.input, self.post_attention, self.pre_feedforward, self.post_feedforward];
        all.into_iter().map(usize::from).sum()
    }
}

/// How queries and keys are normalised before the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Queries and keys are not normalised.
    None,
    /// Each head is normalised separately, with one scale of the head's width for all heads.
    PerHead,
    /// All heads are normalised together, over the whole width.
    AllHeads,
}

impl QkNorm {
    /// Widths of the query norm and the key norm, for a head width and the whole widths of queries and keys; `None`
    /// without norms.
    pub fn widths(self, head: usize, queries: usize, keys: usize) -> Option<[usize; 2]> {
        match self {
            Self::None => None,
            Self::PerHead => Some([head, head]),
            Self::AllHeads => Some([queries, keys]),
        }
    }
}

/// Which setting switches the biases of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpBias {
    /// The MLP has no biases.
    Never,
    /// The key `mlp_bias`, default false.
    Key,
    /// The key that also switches the biases of attention.
    WithAttention,
}

/// Which layers use the sliding window if `config.json` has no `layer_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlidingLayers {
    /// All layers, if there is a window.
    All,
    /// All layers, if `use_sliding_window` is true.
    AllIfUsed,
    /// Layers from `max_window_layers` on, if `use_sliding_window` is true.
    FromMaxWindowLayers,
    /// Layers without rotary embedding, if `use_sliding_window` is true.
    WithoutRope,
    /// Versions of `transformers` disagree on the layers, so a file with `use_sliding_window` needs `layer_types`.
    Ambiguous,
    /// All layers except every n-th.
    AllBut(usize),
}

impl SlidingLayers {
    /// Whether a window is used only if `use_sliding_window` is true.
    pub fn is_optional(self) -> bool {
        match self {
            Self::All | Self::AllBut(_) => false,
            Self::AllIfUsed | Self::FromMaxWindowLayers | Self::WithoutRope | Self::Ambiguous => true,
        }
    }
}

/// Base of the rotary angles in sliding layers (`rope_local_base_freq`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LocalTheta {
    /// Sliding layers have the same angles as the others.
    Same,
    /// Sliding layers have unscaled angles, with this base by default.
    Unscaled(f64),
    /// Sliding layers have unscaled angles, with `rope_theta` as the default base.
    UnscaledGlobal,
}

/// Which layers have a rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayers {
    /// All layers have one.
    All,
    /// Those that `no_rope_layers` marks with 1; by default all except every `no_rope_layer_interval`-th.
    Listed,
    /// Those with a sliding window.
    Sliding,
}

/// Soft caps on attention scores and on logits (`attn_logit_softcapping`, `final_logit_softcapping`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Softcaps {
    /// The decoder has no soft caps; a file that sets one is rejected.
    Unsupported,
    /// Soft caps are read and absent by default.
    Optional,
    /// Default soft caps on attention scores and on logits; an explicit null removes one.
    Default([f64; 2]),
}

/// The keys of a mixture of experts that differ between families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeKeys {
    /// The key of the number of experts as written; `num_experts` and `num_local_experts` are both read.
    pub count: &'static str,
    /// The key of the experts' inner width.
    pub width: &'static str,
    /// Whether there is a shared expert (`shared_expert_intermediate_size`).
    pub shared: bool,
    /// Whether top-k weights are always renormalised; otherwise `norm_topk_prob` decides, default false.
    pub always_normalised: bool,
    /// Whether some layers may be dense (`mlp_only_layers`, `decoder_sparse_step`).
    pub dense_layers: bool,
}

impl PartialEq for DecoderFamily {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl DecoderFamily {
    /// The LLaMA family, which files without `model_type` have.
    pub fn llama() -> &'static Self {
        &FAMILIES[0]
    }

    /// The family with this `model_type`.
    ///
    /// # Errors
    /// When it is not supported; the error names the feature that our decoder lacks, and the supported families.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        if let Some(family) = FAMILIES.iter().find(|family| family.name == name) {
            return Ok(family);
        }
        let supported: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        let name = burgess_base::text::excerpt(name, 60);
        let missing = missing_feature(&name);
        Err(format!("`model_type` = `{name}` is not supported: {missing}; supported are {}", supported.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::unsupported::UNSUPPORTED;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_family_is_found_by_its_name() {
        for family in &FAMILIES {
            assert_eq!(DecoderFamily::named(family.name).map(|f| f.class), Ok(family.class));
        }
        assert_eq!(FAMILIES.iter().map(|f| f.name).collect::<BTreeSet<_>>().len(), FAMILIES.len());
        assert_eq!(DecoderFamily::llama().name, "llama");
    }

    #[test]
    fn unsupported_families_are_named_with_the_missing_feature_and_never_offered() {
        let supported: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        for (feature, names) in UNSUPPORTED {
            for name in names.split_whitespace() {
                assert!(!supported.contains(name), "{name}");
                let error = DecoderFamily::named(name).unwrap_err();
                let (_, offered) = error.split_once("; supported are ").unwrap_or_default();
                assert!(error.contains(name) && error.contains(feature), "{error}");
                assert!(!offered.split(", ").any(|offered| offered == name), "{error}");
            }
        }
        assert!(DecoderFamily::named("\u{1b}[31mx").unwrap_err().contains("unknown"));
        assert!(!DecoderFamily::named("\u{1b}[31mx").unwrap_err().contains('\u{1b}'));
    }
}
