//! The numbers that define a LLaMA-architecture decoder, under the names of Hugging Face's `config.json`.

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Configuration of a [`super::Llama`].
///
/// The field names are those of `transformers`' `LlamaConfig`, so that a `config.json` from the hub can be
/// read as it is; fields it has besides these (dtype, dropout of zero, token ids …) do not change the forward pass
/// and are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key/value heads; absent = as many as query heads (no grouping).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Added to the mean square before the root.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Whether the output head is the transposed embedding table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was trained for; positions beyond it are an error, not an extrapolation.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Width of one head; absent = `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Standard deviation of freshly drawn weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// The activation of the gate; only `silu` exists in this family.
    #[serde(default = "default_act")]
    pub hidden_act: String,
    /// Stretching of the rotary angles beyond the trained length; not supported unless null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<serde_json::Value>,
    /// Biases on the attention projections; not supported unless false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attention_bias: bool,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_theta() -> f64 {
    10_000.0
}

fn default_positions() -> usize {
    2048
}

fn default_range() -> f64 {
    0.02
}

fn default_act() -> String {
    "silu".into()
}

impl LlamaConfig {
    /// A decoder of the nano study's proportions: SwiGLU 8/3 of the width rounded up to a multiple of 32,
    /// two key/value heads, tied head.
    pub fn nano(hidden_size: usize, num_hidden_layers: usize, vocab_size: usize) -> Self {
        Self {
            hidden_size,
            intermediate_size: (hidden_size * 8 / 3).div_ceil(32) * 32,
            num_hidden_layers,
            num_attention_heads: 4,
            num_key_value_heads: Some(2),
            vocab_size,
            rms_norm_eps: 1e-5,
            rope_theta: default_theta(),
            tie_word_embeddings: true,
            max_position_embeddings: 512,
            head_dim: None,
            initializer_range: default_range(),
            hidden_act: default_act(),
            rope_scaling: None,
            attention_bias: false,
        }
    }

    /// Number of key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Checks that the numbers fit together and ask for nothing this decoder does not do.
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
        ];
        if let Some((name, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return bad(format!("`{name}` is 0"));
        }
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            return bad(format!(
                "{} query heads cannot share {} key/value heads evenly",
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
        if !self.head_width().is_multiple_of(2) {
            return bad(format!("a head of odd width {} cannot be rotated in halves", self.head_width()));
        }
        if self.hidden_act != "silu" {
            return bad(format!("`hidden_act` \"{}\" is not supported, only \"silu\"", self.hidden_act));
        }
        if self.attention_bias {
            return bad("`attention_bias` is not supported".into());
        }
        if self.rope_scaling.as_ref().is_some_and(|v| !v.is_null()) {
            return bad("`rope_scaling` is not supported".into());
        }
        Ok(())
    }

    /// Floating-point operations of one forward pass over `tokens` positions of one sequence, without the head
    /// (a multiply-add counts as two); `tokens` also bounds the keys each query sees.
    pub fn forward_flops(&self, tokens: usize) -> f64 {
        let (d, f) = (self.hidden_size as f64, self.intermediate_size as f64);
        let (q, kv) =
            ((self.num_attention_heads * self.head_width()) as f64, (self.kv_heads() * self.head_width()) as f64);
        let t = tokens as f64;
        let projections = d * (q + 2.0 * kv) + q * d + 3.0 * d * f;
        // Queries see half of the square on average; scores and values are one product each.
        let attention = q * t;
        self.num_hidden_layers as f64 * 2.0 * t * (projections + attention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_configuration_reads_with_defaults_and_extra_fields() -> Result<()> {
        let text = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,
            "num_attention_heads":4,"vocab_size":50,"torch_dtype":"float32","bos_token_id":1,"hidden_act":"silu"}"#;
        let config: LlamaConfig = serde_json::from_str(text)?;
        config.check()?;
        assert_eq!((config.kv_heads(), config.head_width(), config.rope_theta), (4, 16, 10_000.0));
        Ok(())
    }

    #[test]
    fn impossible_numbers_are_usage_errors() {
        let mut config = LlamaConfig::nano(96, 4, 768);
        config.num_key_value_heads = Some(3);
        assert!(config.check().unwrap_err().to_string().contains("3 key/value heads"));
        config.num_key_value_heads = Some(2);
        config.rope_scaling = Some(serde_json::json!({"type": "linear", "factor": 2.0}));
        assert!(config.check().is_err());
    }
}
