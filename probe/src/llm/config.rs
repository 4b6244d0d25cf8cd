//! The numbers that define a decoder, under the names of Hugging Face's `config.json`.

use super::rope::{Rotation, Scaling};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which published decoder a configuration is of; the `model_type` of `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Family {
    /// LLaMA 1 to 3, Vicuna, Yi, TinyLlama, SmolLM2 (arXiv 2302.13971, 2407.21783).
    #[default]
    #[serde(rename = "llama")]
    Llama,
    /// Mistral: LLaMA with a sliding window (arXiv 2310.06825).
    #[serde(rename = "mistral")]
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values (arXiv 2407.10671).
    #[serde(rename = "qwen2")]
    Qwen2,
    /// Qwen 3: normed queries and keys (arXiv 2505.09388).
    #[serde(rename = "qwen3")]
    Qwen3,
    /// Phi-3: partly rotated heads, long context by two sets of factors (arXiv 2404.14219).
    #[serde(rename = "phi3")]
    Phi3,
    /// Gemma 3, its text part: norms around both halves of a block, five sliding layers to one that sees all
    /// (arXiv 2503.19786).
    #[serde(rename = "gemma3_text")]
    Gemma3,
}

impl Family {
    /// Its class in `transformers`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }
}

/// How far back a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// Everything.
    #[serde(rename = "full_attention")]
    Full,
    /// The last [`LlmConfig::sliding_window`] positions, itself included.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

/// The activation of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Gate {
    /// x · sigmoid(x).
    #[default]
    #[serde(rename = "silu")]
    Silu,
    /// GELU by its tanh approximation.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
}

/// Configuration of a [`super::Llm`].
///
/// It is read from a `config.json` of `transformers` 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`) and
/// written in the names of 4, which both read; fields that do not change the forward pass (dtype, token ids, dropout
/// …) are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct LlmConfig {
    /// Which decoder.
    pub model_type: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated layer.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key/value heads; absent = as many as query heads (no grouping).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles, in Gemma 3 of the layers that see everything.
    pub rope_theta: f64,
    /// Stretching of these angles beyond the length of pretraining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Scaling>,
    /// Base of the rotary angles of Gemma 3's sliding layers, which are not stretched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_local_base_freq: Option<f64>,
    /// Share of a head that is rotated.
    #[serde(skip_serializing_if = "is_one")]
    pub partial_rotary_factor: f64,
    /// Whether the output head is the transposed embedding table.
    pub tie_word_embeddings: bool,
    /// Longest sequence that the model reads; positions beyond it are an error, not an extrapolation.
    pub max_position_embeddings: usize,
    /// Width of one head; absent = `hidden_size / num_attention_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
    /// The activation of the gate.
    #[serde(rename(serialize = "hidden_act"))]
    pub gate: Gate,
    /// Biases on queries, keys, values and output (Qwen 2 has those of the first three without this).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attention_bias: bool,
    /// Positions that a sliding layer sees, itself included; absent = no layer slides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Qwen says by this whether its window is in use.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_sliding_window: bool,
    /// Which layers slide, one entry for each; absent = all of them, if there is a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<Layer>>,
    /// Scores are divided by its root; absent = `head_dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_pre_attn_scalar: Option<f64>,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(x: &f64) -> bool {
    *x == 1.0
}

/// The file as it may be written; [`LlmConfig`] is what it amounts to.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    model_type: Family,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    vocab_size: usize,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    rope_parameters: Option<serde_json::Value>,
    rope_local_base_freq: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: Option<usize>,
    head_dim: Option<usize>,
    initializer_range: Option<f64>,
    #[serde(alias = "hidden_activation")]
    hidden_act: Option<Gate>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    #[serde(default)]
    use_sliding_window: bool,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<Layer>>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<usize>,
    query_pre_attn_scalar: Option<f64>,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    #[serde(default)]
    use_bidirectional_attention: bool,
}

impl TryFrom<Written> for LlmConfig {
    type Error = String;

    fn try_from(w: Written) -> std::result::Result<Self, String> {
        let unsupported = [
            ("mlp_bias", w.mlp_bias),
            ("final_logit_softcapping", w.final_logit_softcapping.is_some()),
            ("attn_logit_softcapping", w.attn_logit_softcapping.is_some()),
            ("use_bidirectional_attention", w.use_bidirectional_attention),
        ];
        if let Some((name, _)) = unsupported.iter().find(|(_, used)| *used) {
            return Err(format!("`{name}` is not supported"));
        }
        let gemma = w.model_type == Family::Gemma3;
        let mut rope = Rotary::of(&w)?;
        let defaults = if gemma { [1e6, 1e4] } else { [1e4, 1e4] };
        let layer_types = match w.layer_types {
            Some(types) => Some(types),
            None if gemma => {
                let pattern = w.sliding_window_pattern.filter(|p| *p > 0).unwrap_or(6);
                let kind = |i: usize| if (i + 1).is_multiple_of(pattern) { Layer::Full } else { Layer::Sliding };
                Some((0..w.num_hidden_layers).map(kind).collect())
            }
            None => match (w.use_sliding_window, w.max_window_layers) {
                (true, Some(first)) => {
                    let kind = |i: usize| if i >= first { Layer::Sliding } else { Layer::Full };
                    Some((0..w.num_hidden_layers).map(kind).collect())
                }
                _ => None,
            },
        };
        // Qwen writes a window whether it is used or not.
        let unused = matches!(w.model_type, Family::Qwen2 | Family::Qwen3) && !w.use_sliding_window;
        let slides = layer_types.as_ref().is_none_or(|types| types.contains(&Layer::Sliding));
        if let Some(scaling) = &mut rope.scaling {
            scaling.complete(w.original_max_position_embeddings, w.max_position_embeddings)?;
        }
        Ok(Self {
            model_type: w.model_type,
            hidden_size: w.hidden_size,
            intermediate_size: w.intermediate_size,
            num_hidden_layers: w.num_hidden_layers,
            num_attention_heads: w.num_attention_heads,
            num_key_value_heads: w.num_key_value_heads,
            vocab_size: w.vocab_size,
            rms_norm_eps: w.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: rope.theta.unwrap_or(defaults[0]),
            rope_scaling: rope.scaling,
            rope_local_base_freq: gemma.then(|| rope.local.unwrap_or(defaults[1])),
            partial_rotary_factor: rope.share.unwrap_or(1.0),
            tie_word_embeddings: w.tie_word_embeddings.unwrap_or(gemma),
            max_position_embeddings: w.max_position_embeddings.unwrap_or(2048),
            head_dim: w.head_dim.or(gemma.then_some(256)),
            initializer_range: w.initializer_range.unwrap_or(0.02),
            gate: w.hidden_act.unwrap_or(if gemma { Gate::GeluTanh } else { Gate::Silu }),
            attention_bias: w.attention_bias,
            sliding_window: w.sliding_window.filter(|_| !unused && slides),
            use_sliding_window: w.use_sliding_window,
            layer_types: layer_types.filter(|_| !unused),
            query_pre_attn_scalar: w.query_pre_attn_scalar.or(gemma.then_some(256.0)),
        })
    }
}

/// What a file says of the rotary angles, in whichever of its two forms.
struct Rotary {
    theta: Option<f64>,
    local: Option<f64>,
    share: Option<f64>,
    scaling: Option<Scaling>,
}

impl Rotary {
    fn of(w: &Written) -> std::result::Result<Self, String> {
        let mut found = Self {
            theta: w.rope_theta,
            local: w.rope_local_base_freq,
            share: w.partial_rotary_factor,
            scaling: w.rope_scaling.as_ref().map(Scaling::read).transpose()?.flatten(),
        };
        let Some(parameters) = &w.rope_parameters else { return Ok(found) };
        // One table, or one for each kind of layer.
        let full = parameters.get("full_attention").unwrap_or(parameters);
        let number = |table: &serde_json::Value, key: &str| table.get(key).and_then(serde_json::Value::as_f64);
        found.theta = number(full, "rope_theta").or(found.theta);
        found.share = number(full, "partial_rotary_factor").or(found.share);
        found.scaling = Scaling::read(full)?.or(found.scaling);
        if let Some(sliding) = parameters.get("sliding_attention") {
            if Scaling::read(sliding)?.is_some() {
                return Err("`rope_parameters`: stretched angles in sliding layers are not supported".into());
            }
            found.local = number(sliding, "rope_theta").or(found.local);
        }
        Ok(found)
    }
}

impl LlmConfig {
    /// A decoder of the nano study's proportions: SwiGLU 8/3 of the width rounded up to a multiple of 32,
    /// two key/value heads, tied head.
    pub fn nano(hidden_size: usize, num_hidden_layers: usize, vocab_size: usize) -> Self {
        Self {
            model_type: Family::Llama,
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
            partial_rotary_factor: 1.0,
            tie_word_embeddings: true,
            max_position_embeddings: 512,
            head_dim: None,
            initializer_range: 0.02,
            gate: Gate::Silu,
            attention_bias: false,
            sliding_window: None,
            use_sliding_window: false,
            layer_types: None,
            query_pre_attn_scalar: None,
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

    /// Channels of a head that are rotated: the first ones.
    pub fn rotated_width(&self) -> usize {
        (self.head_width() as f64 * self.partial_rotary_factor) as usize
    }

    /// How many positions layer `i` sees, itself included; all if there is no window.
    pub fn window(&self, i: usize) -> Option<usize> {
        let slides = self.layer_types.as_ref().is_none_or(|types| types.get(i) == Some(&Layer::Sliding));
        self.sliding_window.filter(|_| slides)
    }

    /// The rotation of layer `i`'s positions.
    pub fn rotation(&self, i: usize) -> Rotation<'_> {
        let slides = self.layer_types.as_ref().is_some_and(|types| types.get(i) == Some(&Layer::Sliding));
        match self.rope_local_base_freq.filter(|_| slides) {
            Some(theta) => Rotation { width: self.rotated_width(), theta, scaling: None },
            None => {
                Rotation { width: self.rotated_width(), theta: self.rope_theta, scaling: self.rope_scaling.as_ref() }
            }
        }
    }

    /// The factor on attention scores.
    pub fn attention_scale(&self) -> f64 {
        1.0 / self.query_pre_attn_scalar.unwrap_or(self.head_width() as f64).sqrt()
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the field.
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
        let rotated = self.rotated_width();
        if rotated == 0 || rotated > self.head_width() || !rotated.is_multiple_of(2) {
            return bad(format!(
                "{rotated} of a head's {} channels cannot be rotated in halves (`partial_rotary_factor` {})",
                self.head_width(),
                self.partial_rotary_factor
            ));
        }
        if let Some(types) = self.layer_types.as_ref().filter(|t| t.len() != self.num_hidden_layers) {
            return bad(format!("`layer_types` has {} entries for {} layers", types.len(), self.num_hidden_layers));
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.check(rotated).map_err(|e| e.context("language model configuration: `rope_scaling`"))?;
        }
        Ok(())
    }

    /// Parameters of the decoder, the head included unless it is tied.
    pub fn parameters(&self) -> usize {
        let (d, w) = (self.hidden_size, self.head_width());
        let (q, kv) = (self.num_attention_heads * w, self.kv_heads() * w);
        let gemma = self.model_type == Family::Gemma3;
        let normed = matches!(self.model_type, Family::Qwen3 | Family::Gemma3);
        let biases = match (self.attention_bias, self.model_type) {
            (true, _) => q + 2 * kv + d,
            (false, Family::Qwen2) => q + 2 * kv,
            (false, _) => 0,
        };
        let norms = d * if gemma { 4 } else { 2 } + if normed { 2 * w } else { 0 };
        let layer = d * (q + 2 * kv) + q * d + biases + 3 * d * self.intermediate_size + norms;
        let tables = self.vocab_size * d * if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * layer + tables + d
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

    fn read(extra: &str) -> serde_json::Result<LlmConfig> {
        serde_json::from_str(&format!(
            r#"{{"hidden_size":64,"intermediate_size":96,"num_hidden_layers":7,"num_attention_heads":4,"vocab_size":50{extra}}}"#
        ))
    }

    #[test]
    fn a_hub_configuration_reads_with_defaults_and_extra_fields() -> Result<()> {
        let config = read(r#","architectures":["LlamaForCausalLM"],"torch_dtype":"float32","bos_token_id":1"#)?;
        config.check()?;
        assert_eq!((config.kv_heads(), config.head_width(), config.rope_theta), (4, 16, 10_000.0));
        assert_eq!(config.window(3), None);
        Ok(())
    }

    #[test]
    fn both_ways_to_write_angles_mean_the_same() -> Result<()> {
        let scaling = r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192"#;
        let four = read(&format!(r#","rope_theta":5e5,"rope_scaling":{{{scaling}}}"#))?;
        let five = read(&format!(r#","rope_parameters":{{"rope_theta":5e5,{scaling}}}"#))?;
        assert_eq!(four, five);
        assert!(four.rope_scaling.is_some());
        let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&four)?)?;
        assert_eq!(again, four);
        let old = read(r#","rope_scaling":{"type":"linear","factor":2.0}"#)?;
        assert_eq!(old.rope_scaling, Some(Scaling::Linear { factor: 2.0 }));
        assert!(read(r#","rope_scaling":{"rope_type":"dynamic","factor":2.0}"#).is_err());
        Ok(())
    }

    #[test]
    fn windows_are_those_in_use() -> Result<()> {
        let windows = |extra: &str| -> Result<Vec<Option<usize>>> {
            let config = read(extra)?;
            let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&config)?)?;
            assert_eq!(again, config);
            Ok((0..7).map(|i| config.window(i)).collect())
        };
        assert_eq!(windows(r#","model_type":"mistral","sliding_window":5"#)?, [Some(5); 7]);
        assert_eq!(windows(r#","model_type":"mistral","sliding_window":null"#)?, [None; 7]);
        assert_eq!(windows(r#","model_type":"qwen2","sliding_window":5,"max_window_layers":5"#)?, [None; 7]);
        let qwen =
            windows(r#","model_type":"qwen2","sliding_window":5,"use_sliding_window":true,"max_window_layers":5"#)?;
        assert_eq!(qwen, [None, None, None, None, None, Some(5), Some(5)]);
        let gemma = windows(r#","model_type":"gemma3_text","sliding_window":9"#)?;
        assert_eq!(gemma, [Some(9), Some(9), Some(9), Some(9), Some(9), None, Some(9)]);
        Ok(())
    }

    #[test]
    fn impossible_numbers_are_usage_errors() -> Result<()> {
        let mut config = LlmConfig::nano(96, 4, 768);
        config.num_key_value_heads = Some(3);
        assert!(config.check().unwrap_err().to_string().contains("3 key/value heads"));
        assert!(read(r#","model_type":"falcon""#).is_err_and(|e| e.to_string().contains("falcon")));
        assert!(read(r#","hidden_act":"relu""#).is_err());
        let half = read(r#","partial_rotary_factor":0.2"#)?;
        assert!(half.check().unwrap_err().to_string().contains("partial_rotary_factor"));
        Ok(())
    }
}
