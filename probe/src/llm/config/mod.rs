//! Hyper-parameters of a decoder, with the names of Hugging Face's `config.json`; [`LlmConfig`] is the entry.

mod file;
mod options;
#[cfg(feature = "schema")]
mod schema;
#[cfg(test)]
mod tests;

pub use super::activation::Activation;
pub use super::family::DecoderFamily;
pub use options::{LayerType, MoeConfig};

use super::family::RopeLayers;
use super::rope::{RopeConfig, RopeScaling};
use burgess_base::{Error, Result};
use serde::Deserialize;

/// Configuration of a decoder with the keys of its `config.json`; missing keys have the defaults of the family's class,
/// and keys that do not affect the forward pass (dtype, token ids, dropout …) are ignored.
///
/// It is read from a `config.json` of `transformers` 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`) and
/// written with the names of 4, which both read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(!try_from, transform = schema::complete))]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct LlmConfig {
    /// The decoder family.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub model_type: &'static DecoderFamily,
    /// Width of the residual stream, in channels.
    pub hidden_size: usize,
    /// Inner width of the MLP, in channels.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key/value heads; absent = as many as query heads (no grouping).
    pub num_key_value_heads: Option<usize>,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Epsilon of the norms, added to the mean square (or variance) before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles; in Gemma 3 and OLMo 3 that of full-attention layers.
    pub rope_theta: f64,
    /// Scaling of these angles beyond the length of pretraining.
    pub rope_scaling: Option<RopeScaling>,
    /// Base of the rotary angles of the sliding layers of Gemma 3 and OLMo 3, which are not scaled.
    pub rope_local_base_freq: Option<f64>,
    /// For each layer, 1 if it has a rotary embedding and 0 if not; absent = all have.
    pub no_rope_layers: Option<Vec<usize>>,
    /// Fraction of a head's channels that are rotated, in (0, 1].
    pub partial_rotary_factor: f64,
    /// Whether the output head is the transposed embedding table.
    pub tie_word_embeddings: bool,
    /// Longest sequence that the model accepts; longer ones are an error.
    pub max_position_embeddings: usize,
    /// Width of one head; absent = `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Standard deviation of randomly initialised weights.
    pub initializer_range: f64,
    /// The activation of the MLP.
    #[cfg_attr(feature = "schema", schemars(rename = "hidden_act", with = "String"))]
    pub activation: Activation,
    /// Whether queries, keys and values have biases (always in Qwen 2); in most families the output projection too.
    pub attention_bias: bool,
    /// Whether the output projection has a bias, where `attention_bias` does not include it (Seed-OSS).
    pub attention_out_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Number of positions that a sliding layer attends to, itself included; absent = no layer slides.
    pub sliding_window: Option<usize>,
    /// Whether the window is in use (Qwen writes one either way).
    pub use_sliding_window: bool,
    /// Attention range of each layer; absent = all layers slide if there is a window.
    pub layer_types: Option<Vec<LayerType>>,
    /// Scores are divided by the square root of this; absent = `head_dim`.
    pub query_pre_attn_scalar: Option<f64>,
    /// Factor on scores, used instead of that root (Granite).
    pub attention_multiplier: Option<f64>,
    /// Soft cap on scores: s becomes cap · tanh(s / cap).
    pub attn_logit_softcapping: Option<f64>,
    /// Soft cap on logits, as `attn_logit_softcapping`.
    pub final_logit_softcapping: Option<f64>,
    /// Factor on logits; absent = 1 (Cohere).
    pub logit_scale: Option<f64>,
    /// Divisor of logits; absent = 1 (Granite).
    pub logits_scaling: Option<f64>,
    /// Factor on embeddings; absent = 1 (Granite).
    pub embedding_multiplier: Option<f64>,
    /// Factor on the outputs of attention and MLP before they are added to the residual stream (Granite).
    pub residual_multiplier: Option<f64>,
    /// Queries, keys and values are clamped to ± this value (OLMo).
    pub clip_qkv: Option<f64>,
    /// The mixture of experts, if there is one.
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub experts: Option<MoeConfig>,
}

impl LlmConfig {
    /// A small LLaMA for the nano study: SwiGLU of 8/3 of the width rounded up to a multiple of 32, two key/value
    /// heads, tied head.
    pub fn nano(hidden_size: usize, num_hidden_layers: usize, vocab_size: usize) -> Self {
        Self {
            model_type: DecoderFamily::llama(),
            hidden_size,
            intermediate_size: (hidden_size * 8 / 3).div_ceil(32) * 32,
            num_hidden_layers,
            num_attention_heads: 4,
            num_key_value_heads: Some(2),
            vocab_size,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rope_local_base_freq: None,
            no_rope_layers: None,
            partial_rotary_factor: 1.0,
            tie_word_embeddings: true,
            max_position_embeddings: 512,
            head_dim: None,
            initializer_range: 0.02,
            activation: Activation::Silu,
            attention_bias: false,
            attention_out_bias: false,
            mlp_bias: false,
            sliding_window: None,
            use_sliding_window: false,
            layer_types: None,
            query_pre_attn_scalar: None,
            attention_multiplier: None,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
            logit_scale: None,
            logits_scaling: None,
            embedding_multiplier: None,
            residual_multiplier: None,
            clip_qkv: None,
            experts: None,
        }
    }

    /// Whether queries, keys and values have biases.
    pub fn qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type.qkv_bias
    }

    /// Whether the output projection has a bias.
    pub fn output_bias(&self) -> bool {
        self.attention_out_bias || self.attention_bias && self.model_type.output_bias
    }

    /// Number of key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Number of rotated channels per head, which are the first ones.
    pub fn rotated_width(&self) -> usize {
        (self.head_width() as f64 * self.partial_rotary_factor) as usize
    }

    /// Sliding window of layer `i`: the number of positions it attends to, its own included; `None` for all.
    pub fn window(&self, i: usize) -> Option<usize> {
        let slides = self.layer_types.as_ref().is_none_or(|types| types.get(i) == Some(&LayerType::Sliding));
        self.sliding_window.filter(|_| slides)
    }

    /// Whether layer `i` has a rotary embedding.
    pub fn rotates(&self, i: usize) -> bool {
        match (&self.no_rope_layers, self.model_type.rope_layers) {
            (Some(layers), _) => layers.get(i).is_none_or(|rotates| *rotates != 0),
            (None, RopeLayers::Sliding) => self.window(i).is_some(),
            (None, RopeLayers::All | RopeLayers::Listed) => true,
        }
    }

    /// The rotary embedding of layer `i`.
    pub fn rotation(&self, i: usize) -> RopeConfig<'_> {
        let slides = self.layer_types.as_ref().is_some_and(|types| types.get(i) == Some(&LayerType::Sliding));
        let (width, disabled) = (self.rotated_width(), !self.rotates(i));
        match self.rope_local_base_freq.filter(|_| slides) {
            Some(theta) => RopeConfig { width, theta, scaling: None, disabled },
            None => RopeConfig { width, theta: self.rope_theta, scaling: self.rope_scaling.as_ref(), disabled },
        }
    }

    /// The factor on attention scores before the softmax.
    pub fn attention_scale(&self) -> f64 {
        match self.attention_multiplier {
            Some(factor) => factor,
            None => 1.0 / self.query_pre_attn_scalar.unwrap_or(self.head_width() as f64).sqrt(),
        }
    }

    /// The factor on embeddings; `None` if it is one.
    pub fn embedding_scale(&self) -> Option<f64> {
        match self.model_type.scaled_embeddings {
            true => Some((self.hidden_size as f64).sqrt()),
            false => self.embedding_multiplier.filter(|factor| *factor != 1.0),
        }
    }

    /// The longest sequence that the model accepts; `None` if its angles are computed for any length.
    pub fn longest(&self) -> Option<usize> {
        match self.rope_scaling {
            Some(RopeScaling::Dynamic { .. }) => None,
            _ => Some(self.max_position_embeddings),
        }
    }

    /// The sequence length in tokens beyond which all rotary angles change, so that earlier keys must be computed again
    /// (LongRoPE); `None` for other models.
    pub fn length_switch(&self) -> Option<usize> {
        self.rope_scaling.as_ref().and_then(RopeScaling::length_switch)
    }

    /// Checks that sizes and factors are in range and consistent.
    ///
    /// # Errors
    /// When one is not; the error names the key.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::usage(format!("language model configuration: {what}")));
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("head_dim", self.head_width()),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        // Beyond these, products of sizes and parameter counts would overflow or be meaningless.
        const MOST: usize = 1 << 28;
        const MOST_LAYERS: usize = 10_000;
        let sizes = positive.iter().filter(|(name, _)| !["max_position_embeddings", "sliding_window"].contains(name));
        for (name, n) in sizes {
            let most = if *name == "num_hidden_layers" { MOST_LAYERS } else { MOST };
            if *n > most {
                return bad(format!("`{name}` is {n}, must be at most {most}"));
            }
        }
        if let Some((name, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return bad(format!("`{name}` is 0, must be at least 1"));
        }
        self.check_numbers()?;
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            return bad(format!(
                "`num_attention_heads` = {} is not a multiple of `num_key_value_heads` = {}",
                self.num_attention_heads,
                self.kv_heads()
            ));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return bad(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        let rotated = self.rotated_width();
        if rotated == 0 || rotated > self.head_width() || !rotated.is_multiple_of(2) {
            return bad(format!(
                "{rotated} rotated channels of a head's {} channels must be an even number from 2 to `head_dim` \
                 (`head_dim` = {}, \
                 `partial_rotary_factor` = {})",
                self.head_width(),
                self.head_width(),
                self.partial_rotary_factor
            ));
        }
        if let Some(types) = self.layer_types.as_ref().filter(|t| t.len() != self.num_hidden_layers) {
            return bad(format!(
                "`layer_types` has {} entries, expected one for each of {} layers",
                types.len(),
                self.num_hidden_layers
            ));
        }
        if let Some(layers) = self.no_rope_layers.as_ref().filter(|l| l.len() != self.num_hidden_layers) {
            return bad(format!(
                "`no_rope_layers` has {} entries, expected one for each of {} layers",
                layers.len(),
                self.num_hidden_layers
            ));
        }
        if let Some(experts) = &self.experts {
            if experts.active == 0 || experts.active > experts.count || experts.count > MOST_LAYERS {
                return bad(format!(
                    "`num_experts_per_tok` is {}, must be from 1 to `num_experts` = {}, which must be at most \
                     {MOST_LAYERS}",
                    experts.active, experts.count
                ));
            }
            if experts.width == 0 || experts.width > MOST || experts.shared.is_some_and(|n| n == 0 || n > MOST) {
                return bad(format!(
                    "`moe_intermediate_size` is {} and `shared_expert_intermediate_size` {:?}, must be from 1 to \
                     {MOST}",
                    experts.width, experts.shared
                ));
            }
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.check(rotated).map_err(|e| e.context("language model configuration: `rope_scaling`"))?;
        }
        Ok(())
    }

    /// Checks that every floating-point value is finite and has the right sign.
    fn check_numbers(&self) -> Result<()> {
        let eps_key = self.model_type.eps_key.unwrap_or("rms_norm_eps");
        let above = [
            ("rope_theta", Some(self.rope_theta)),
            ("rope_local_base_freq", self.rope_local_base_freq),
            ("partial_rotary_factor", Some(self.partial_rotary_factor)),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar),
            ("attention_multiplier", self.attention_multiplier),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("logit_scale", self.logit_scale),
            ("logits_scaling", self.logits_scaling),
            ("embedding_multiplier", self.embedding_multiplier),
            ("residual_multiplier", self.residual_multiplier),
            ("clip_qkv", self.clip_qkv),
        ];
        // The decoder computes in f32, where larger values become infinite and smaller ones zero.
        let fits = |x: f64| (x as f32).is_finite() && x as f32 > 0.0;
        for (name, number) in above {
            if let Some(x) = number.filter(|x| !fits(*x)) {
                return Err(Error::usage(format!("language model configuration: `{name}` is {x}, must be above 0")));
            }
        }
        for (name, x) in [(eps_key, self.rms_norm_eps), ("initializer_range", self.initializer_range)] {
            if !((x as f32).is_finite() && x >= 0.0) {
                return Err(Error::usage(format!("language model configuration: `{name}` is {x}, must be at least 0")));
            }
        }
        Ok(())
    }

    /// Number of parameters of the decoder, with the head unless it is tied.
    pub fn parameters(&self) -> usize {
        let (d, w, f) = (self.hidden_size, self.head_width(), self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * w, self.kv_heads() * w);
        let family = self.model_type;
        let norm = family.norm.parameters(d);
        let norms = family.block.norms().count() * norm;
        let qk_norms = family.qk_norm.widths(w, q, kv).map_or(0, |[query, key]| query + key);
        let biases = if self.qkv_bias() { q + 2 * kv } else { 0 } + if self.output_bias() { d } else { 0 };
        let attention = d * (q + 2 * kv) + q * d + biases + norms + qk_norms;
        let matrices = if family.gated { 3 } else { 2 };
        let mlp = |f: usize| matrices * d * f + if self.mlp_bias { (matrices - 1) * f + d } else { 0 };
        let of = |i: usize| match self.experts.as_ref().filter(|experts| experts.has_experts(i)) {
            Some(e) => e.count * (d + mlp(e.width)) + e.shared.map_or(0, |shared| mlp(shared) + d),
            None => mlp(f),
        };
        let layers: usize = (0..self.num_hidden_layers).map(|i| attention + of(i)).sum();
        let tables = self.vocab_size * d * if self.tie_word_embeddings { 1 } else { 2 };
        layers + tables + norm
    }

    /// Floating-point operations of one forward pass over one sequence of `tokens` positions, without the head (a
    /// multiply-add counts as two); every query is assumed to attend to half of them on average.
    pub fn forward_flops(&self, tokens: usize) -> f64 {
        let d = self.hidden_size as f64;
        let (q, kv) =
            ((self.num_attention_heads * self.head_width()) as f64, (self.kv_heads() * self.head_width()) as f64);
        let t = tokens as f64;
        let layers = self.num_hidden_layers as f64;
        let matrices = if self.model_type.gated { 3.0 } else { 2.0 };
        // Queries attend to half of the square on average; scores and values are one product each.
        let attention = q * t;
        let of = |inner: f64| 2.0 * t * (d * (q + 2.0 * kv) + q * d + matrices * d * inner + attention);
        let Some(experts) = &self.experts else {
            let projections = d * (q + 2.0 * kv) + q * d + matrices * d * self.intermediate_size as f64;
            return layers * 2.0 * t * (projections + attention);
        };
        let sparse = (0..self.num_hidden_layers).filter(|i| experts.has_experts(*i)).count() as f64;
        let inner = (experts.active * experts.width + experts.shared.unwrap_or(0)) as f64;
        sparse * of(inner) + (layers - sparse) * of(self.intermediate_size as f64)
    }
}
