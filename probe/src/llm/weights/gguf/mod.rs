//! Language models in GGUF: converts the metadata to a `config.json` and undoes llama.cpp's changes to the weights.
//!
//! Source: `convert_hf_to_gguf.py` (what is written) and `llama-model.cpp` (what is assumed otherwise).

mod architectures;

use crate::llm::config::{DecoderFamily, LlmConfig};
use crate::llm::family::{MlpBias, missing_feature};
use architectures::{ARCHITECTURES, Architecture, ONLY_SAFETENSORS, Sizes, WeightTransform};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Checkpoint, Parameter};
use burgess_encoders::kernel::stored::RowOrder;
use serde_json::{Map, Value, json};

/// The architecture of an opened GGUF file; `None` for other formats.
///
/// # Errors
/// When the decoder does not support the architecture.
pub(super) fn architecture(file: &Checkpoint) -> Result<Option<&'static Architecture>> {
    let Some(name) = file.metadata().text("general.architecture")? else { return Ok(None) };
    match ARCHITECTURES.iter().find(|a| a.name == name) {
        Some(found) => Ok(Some(found)),
        None => {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
            if ONLY_SAFETENSORS.contains(&name) {
                return Err(Error::failed(format!(
                    "{}: the architecture `{name}` is not supported in GGUF",
                    file.path().display()
                ))
                .hint("use the model's safetensors"));
            }
            let name = burgess_base::text::excerpt(name, 60);
            Err(Error::failed(format!(
                "{}: the architecture `{name}` is not supported: {}",
                file.path().display(),
                missing_feature(&name)
            ))
            .hint(format!("supported are {}", known.join(", "))))
        }
    }
}

impl Architecture {
    /// Converts the metadata to the keys of `config.json`.
    ///
    /// # Errors
    /// When metadata are missing or of the wrong type, or describe a network that the decoder does not support.
    pub fn config(&self, file: &Checkpoint) -> Result<Value> {
        let keys = MetadataKeys { file, architecture: self.name };
        let experts = keys.size("expert_count")?.unwrap_or(0);
        if experts > 0 {
            return Err(Error::failed(format!(
                "`{}` is {experts}: mixtures of experts are not supported in GGUF",
                keys.key("expert_count")
            ))
            .hint("use the model's safetensors, or a model of the family without experts"));
        }
        let (width, heads) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
        let layers = keys.needed("block_count")?;
        let Some(&[vocabulary, _]) = file.shape("token_embd.weight") else {
            return Err(Error::failed(
                "the tensor `token_embd.weight` (token embeddings) is missing or is not a matrix",
            ));
        };
        let own_head_width = keys.size("attention.key_length")?;
        let head_width = own_head_width.unwrap_or(width / heads.max(1));
        if let Some(values) = keys.size("attention.value_length")?.filter(|n| *n != head_width) {
            return Err(Error::failed(format!(
                "`{}` is {values}, must equal the width of keys ({head_width})",
                keys.key("attention.value_length")
            )));
        }
        let family = DecoderFamily::named(self.model_type).map_err(Error::failed)?;
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| config.insert(key.into(), value);
        set("model_type", json!(family.name));
        set("hidden_size", json!(width));
        set("intermediate_size", json!(keys.needed("feed_forward_length")?));
        set("num_hidden_layers", json!(layers));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(keys.size("attention.head_count_kv")?.unwrap_or(heads)));
        set("vocab_size", json!(vocabulary));
        set("max_position_embeddings", json!(keys.needed("context_length")?));
        let eps = match family.norm.centred {
            false => "attention.layer_norm_rms_epsilon",
            true => "attention.layer_norm_epsilon",
        };
        set(family.eps_key.unwrap_or("rms_norm_eps"), json!(shortest_decimal(keys.needed_number(eps)?)));
        set("rope_theta", json!(shortest_decimal(keys.number("rope.freq_base")?.unwrap_or(self.theta))));
        set("tie_word_embeddings", json!(file.shape("output.weight").is_none()));
        if own_head_width.is_some() || family.head_dim.is_some() {
            set("head_dim", json!(head_width));
        }
        let rotated = keys.size("rope.dimension_count")?;
        if family.rotary_fraction != 1.0 && rotated.is_none_or(|n| n == head_width) {
            set("partial_rotary_factor", json!(1.0));
        }
        if let Some(rotated) = rotated.filter(|n| *n != head_width) {
            // The smallest fraction whose product with the head width truncates to `rotated`.
            let fraction = rotated as f64 / head_width.max(1) as f64;
            let short = (fraction * head_width as f64) < rotated as f64;
            set("partial_rotary_factor", json!(if short { fraction.next_up() } else { fraction }));
        }
        let biased = |part: &str| file.shape(&format!("blk.0.{part}.bias")).is_some();
        let bias = biased(self.bias_tensor);
        if let Some(key) = family.attention_bias_key
            && (bias || family.attention_bias || key != "attention_bias")
        {
            set(key, json!(bias));
        }
        if biased("ffn_down") && family.mlp_bias != MlpBias::WithAttention {
            set("mlp_bias", json!(true));
        }
        if let Some(scaling) = keys.scaling()? {
            set("rope_scaling", scaling);
        }
        for (name, key) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            if let Some(id) = file.metadata().size(&format!("tokenizer.ggml.{key}_token_id"))? {
                set(name, json!(id));
            }
        }
        for (key, value) in (self.own_keys)(&keys, &Sizes { layers, width, heads, head_width })? {
            set(key, value);
        }
        Ok(Value::Object(config))
    }

    /// Returns the order of the rows of a matrix in the file: what [`Architecture::restore`] does to it.
    pub fn row_order(&self, config: &LlmConfig, parameter: &Parameter) -> RowOrder {
        match self.transform {
            WeightTransform::InterleavedRope if is_rotated(parameter) => {
                RowOrder::InterleavedHeads(config.head_width())
            }
            _ => RowOrder::Outputs,
        }
    }

    /// Undoes the converter's changes to a parameter's values.
    pub fn restore(&self, config: &LlmConfig, parameter: &Parameter, values: Vec<f32>) -> Vec<f32> {
        match self.transform {
            WeightTransform::InterleavedRope if is_rotated(parameter) => {
                let row = parameter.shape.get(1).copied().unwrap_or(1);
                to_rotate_half(&values, config.head_width(), row)
            }
            WeightTransform::NormPlusOne if parameter.path.ends_with("norm.weight") => {
                values.into_iter().map(|scale| scale - 1.0).collect()
            }
            WeightTransform::None | WeightTransform::InterleavedRope | WeightTransform::NormPlusOne => values,
        }
    }
}

/// Whether a parameter belongs to the projection of queries or keys.
fn is_rotated(parameter: &Parameter) -> bool {
    [".q_proj.", ".k_proj."].iter().any(|name| parameter.path.contains(name))
}

/// Permutes rows from the interleaved rotary layout to the `rotate_half` layout: within each head of `width` rows of
/// `row` numbers, even rows move to the front and odd rows behind them. Inverse of `permute` in
/// `convert_hf_to_gguf.py`.
fn to_rotate_half(values: &[f32], width: usize, row: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks((width * row).max(1)) {
        for first in 0..2 {
            for rows in head.chunks(row.max(1)).skip(first).step_by(2) {
                out.extend_from_slice(rows);
            }
        }
    }
    out
}

/// The shortest decimal that rounds to the same f32 as the stored value: 1e-6, not 9.999999974752427e-7.
fn shortest_decimal(number: f64) -> f64 {
    let single = number as f32;
    if f64::from(single) == number { format!("{single:e}").parse().unwrap_or(number) } else { number }
}

/// The metadata under an architecture's prefix.
pub(super) struct MetadataKeys<'a> {
    file: &'a Checkpoint,
    architecture: &'static str,
}

impl MetadataKeys<'_> {
    /// The full key of a name.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A non-negative integer; `None` if it is absent.
    fn size(&self, name: &str) -> Result<Option<usize>> {
        self.file.metadata().size(&self.key(name))
    }

    /// A finite number; `None` if it is absent.
    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.file.metadata().number(&self.key(name))? {
            Some(number) if !number.is_finite() => {
                Err(Error::failed(format!("metadata `{}` is {number}, expected a finite number", self.key(name)))
                    .hint("the file was damaged or made by a broken converter: get it again"))
            }
            number => Ok(number),
        }
    }

    fn absent(&self, name: &str) -> Error {
        Error::failed(format!("the metadata lack `{}`", self.key(name)))
            .hint("use a file made by llama.cpp's converter: this one is incomplete or was made by another program")
    }

    /// A non-negative integer that must be present.
    fn needed(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.absent(name))
    }

    /// A finite number that must be present.
    fn needed_number(&self, name: &str) -> Result<f64> {
        self.number(name)?.ok_or_else(|| self.absent(name))
    }

    /// Reads divisors of the rotary angles, which are stored like weights.
    fn factors(&self, tensor: &str) -> Result<Option<Vec<f64>>> {
        match self.file.shape(tensor) {
            Some(_) => Ok(Some(self.file.read(tensor)?.into_iter().map(|f| shortest_decimal(f.into())).collect())),
            None => Ok(None),
        }
    }

    /// The `rope_scaling` table of a `config.json`.
    fn scaling(&self) -> Result<Option<Value>> {
        if let Some(factors) = self.factors("rope_freqs.weight")? {
            let base = self.number("rope.freq_base")?.unwrap_or(1e4);
            return Ok(Some(llama_3(&factors, base).unwrap_or(json!({"rope_type": "factors", "factors": factors}))));
        }
        if let (Some(long), Some(short)) =
            (self.factors("rope_factors_long.weight")?, self.factors("rope_factors_short.weight")?)
        {
            let mut scaling = json!({"rope_type": "longrope", "long_factor": long, "short_factor": short});
            if let Some(factor) = self.number("rope.scaling.attn_factor")? {
                scaling["attention_factor"] = json!(shortest_decimal(factor));
            }
            return Ok(Some(scaling));
        }
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // The key before November 2023.
            None => self.number("rope.scale_linear")?,
        };
        let kind = self.file.metadata().text(&self.key("rope.scaling.type"))?;
        match (kind, factor) {
            (None | Some("none"), None) => Ok(None),
            (None, Some(factor)) => Ok((factor != 1.0).then(|| json!({"rope_type": "linear", "factor": factor}))),
            (Some("none"), Some(_)) => Ok(None),
            (Some("linear"), Some(factor)) => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
            (Some("yarn"), Some(factor)) => {
                let mut scaling = json!({"rope_type": "yarn", "factor": factor});
                let original = self.size("rope.scaling.original_context_length")?;
                if let Some(original) = original {
                    scaling["original_max_position_embeddings"] = json!(original);
                }
                // llama.cpp multiplies its factor by the one that YaRN derives from `factor`.
                if let Some(own) = self.number("rope.scaling.attn_factor")?.filter(|own| *own != 1.0) {
                    scaling["attention_factor"] = json!(own * (0.1 * factor.max(1.0).ln() + 1.0));
                }
                for (name, key) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                    if let Some(beta) = self.number(&format!("rope.scaling.{key}"))? {
                        scaling[name] = json!(shortest_decimal(beta));
                    }
                }
                Ok(Some(scaling))
            }
            (Some(kind), _) => {
                Err(Error::failed(format!("`{}` = `{kind}` is not supported", self.key("rope.scaling.type")))
                    .hint("supported are none, linear, yarn, and factors stored as tensors"))
            }
        }
    }
}

/// Recognises divisors of Llama 3.1's rule, so that `transformers` can read a model that we write; `None` if they
/// follow another rule.
fn llama_3(factors: &[f64], base: f64) -> Option<Value> {
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL: f64 = 8192.0;
    let factor = factors.last().copied()?;
    let same = factors.iter().enumerate().all(|(i, found)| {
        let wave = std::f64::consts::TAU * base.powf(2.0 * i as f64 / (2 * factors.len()) as f64);
        let smooth = ((ORIGINAL / wave - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        let wanted = 1.0 / ((1.0 - smooth) / factor + smooth);
        (found - wanted).abs() <= 1e-5 * wanted
    });
    (same && factor > 1.0).then(|| {
        json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LOW,
            "high_freq_factor": HIGH,
            "original_max_position_embeddings": ORIGINAL as usize,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_become_rotate_half() {
        // Two heads of four rows of two numbers.
        let rows: Vec<f32> = [0, 2, 1, 3, 10, 12, 11, 13].iter().flat_map(|n| [*n as f32; 2]).collect();
        let wanted: Vec<f32> = [0, 1, 2, 3, 10, 11, 12, 13].iter().flat_map(|n| [*n as f32; 2]).collect();
        assert_eq!(to_rotate_half(&rows, 4, 2), wanted);
    }

    #[test]
    fn numbers_of_32_bits_are_written_as_they_were() {
        assert_eq!(shortest_decimal(f64::from(1e-6f32)), 1e-6);
        assert_eq!(shortest_decimal(f64::from(1e-5f32)), 1e-5);
        assert_eq!(shortest_decimal(500_000.0), 500_000.0);
        assert_eq!(shortest_decimal(0.1), 0.1);
    }

    #[test]
    fn the_rule_of_llama_3_is_recognised_by_its_factors() {
        // What the converter writes for heads of width 8 at base 10: wavelengths of 6.3, 11, 20, 35 are all short.
        assert_eq!(llama_3(&[1.0; 4], 10.0), None);
        // Llama 3.2 has heads of width 64 at base 500,000.
        let factors: Vec<f64> = (0..32)
            .map(|i| {
                let wave = std::f64::consts::TAU * 5e5f64.powf(f64::from(i) / 32.0);
                let smooth = (8192.0 / wave - 1.0) / 3.0;
                if wave < 2048.0 {
                    1.0
                } else if wave > 8192.0 {
                    32.0
                } else {
                    1.0 / ((1.0 - smooth) / 32.0 + smooth)
                }
            })
            .collect();
        assert_eq!(llama_3(&factors, 5e5).and_then(|s| s["factor"].as_f64()), Some(32.0));
        assert_eq!(llama_3(&factors, 1e4), None);
    }
}
