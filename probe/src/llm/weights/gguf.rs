//! Language models in GGUF: converts the metadata to a `config.json` and undoes llama.cpp's changes to the weights.
//!
//! Source: `convert_hf_to_gguf.py` (what is written) and `llama-model.cpp` (what is assumed otherwise).

use super::names;
use crate::llm::config::{Family, LlmConfig};
use crate::llm::family::{NormKind, missing};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Checkpoint, Dialect, Parameter};
use serde_json::{Map, Value, json};

/// How the files of one architecture differ from `transformers`.
pub(super) struct Architecture {
    /// The value of `general.architecture`.
    name: &'static str,
    pub family: Family,
    pub dialect: &'static Dialect,
    change: Change,
    /// Base of the rotary angles if the metadata have none.
    base: f64,
}

/// How llama.cpp's converter changes the values of some parameters.
#[derive(Clone, Copy)]
enum Change {
    None,
    /// Query and key rows are permuted from the half-split to the interleaved rotary layout.
    Alternating,
    /// One is added to the scales of norms.
    PlusOne,
}

const PLAIN: Architecture =
    Architecture { name: "llama", family: Family::Llama, dialect: &names::GGUF, change: Change::None, base: 1e4 };

static ARCHITECTURES: [Architecture; 17] = [
    Architecture { change: Change::Alternating, ..PLAIN },
    Architecture { name: "qwen2", family: Family::Qwen2, ..PLAIN },
    Architecture { name: "qwen3", family: Family::Qwen3, ..PLAIN },
    Architecture { name: "phi3", family: Family::Phi3, dialect: &names::GGUF_PHI3, ..PLAIN },
    Architecture { name: "gemma", family: Family::Gemma, change: Change::PlusOne, ..PLAIN },
    Architecture {
        name: "gemma2",
        family: Family::Gemma2,
        dialect: &names::GGUF_AROUND,
        change: Change::PlusOne,
        ..PLAIN
    },
    Architecture {
        name: "gemma3",
        family: Family::Gemma3,
        dialect: &names::GGUF_AROUND,
        change: Change::PlusOne,
        base: 1e6,
    },
    Architecture { name: "smollm3", family: Family::SmolLm3, change: Change::Alternating, ..PLAIN },
    Architecture { name: "olmo", family: Family::Olmo, change: Change::Alternating, ..PLAIN },
    Architecture { name: "olmo2", family: Family::Olmo2, dialect: &names::GGUF_AROUND, ..PLAIN },
    Architecture { name: "granite", family: Family::Granite, change: Change::Alternating, ..PLAIN },
    Architecture { name: "starcoder2", family: Family::Starcoder2, ..PLAIN },
    Architecture { name: "glm4", family: Family::Glm4, dialect: &names::GGUF_GLM4, ..PLAIN },
    Architecture { name: "command-r", family: Family::Cohere, ..PLAIN },
    Architecture { name: "cohere2", family: Family::Cohere2, ..PLAIN },
    Architecture { name: "stablelm", family: Family::StableLm, ..PLAIN },
    Architecture { name: "nemotron", family: Family::Nemotron, change: Change::PlusOne, ..PLAIN },
];

/// Families that are only read from safetensors: in GGUF their experts are one tensor, or their tensor names differ.
const ELSEWHERE: [&str; 6] = ["qwen2moe", "qwen3moe", "olmoe", "arcee", "seed_oss", "chatglm"];

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
            if ELSEWHERE.contains(&name) {
                return Err(Error::failed(format!(
                    "{} is of the architecture `{name}`, which is not read from GGUF",
                    file.path().display()
                ))
                .hint("take the model's safetensors"));
            }
            let name = burgess_base::text::excerpt(name, 60);
            Err(Error::failed(format!(
                "{} is of the architecture `{name}`, which is not read: {}",
                file.path().display(),
                missing(&name)
            ))
            .hint(format!("read are {}", known.join(", "))))
        }
    }
}

impl Architecture {
    /// Converts the metadata to the keys of `config.json`.
    ///
    /// # Errors
    /// When metadata are missing or of the wrong type, or describe a network that the decoder does not support.
    pub fn config(&self, file: &Checkpoint) -> Result<Value> {
        let keys = Keys { file, architecture: self.name };
        let experts = keys.size("expert_count")?.unwrap_or(0);
        if experts > 0 {
            return Err(Error::failed(format!(
                "the model chooses between {experts} experts, which are not read from GGUF"
            ))
            .hint("take the model's safetensors, or a model of the family without experts"));
        }
        let (width, heads) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
        let layers = keys.needed("block_count")?;
        let Some(&[vocabulary, _]) = file.shape("token_embd.weight") else {
            return Err(Error::failed("there is no table `token_embd.weight` of token embeddings"));
        };
        let own_head_width = keys.size("attention.key_length")?;
        let head_width = own_head_width.unwrap_or(width / heads.max(1));
        if let Some(values) = keys.size("attention.value_length")?.filter(|n| *n != head_width) {
            return Err(Error::failed(format!("values are {values} wide, keys {head_width}, which is not supported")));
        }
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| config.insert(key.into(), value);
        set("model_type", json!(self.family));
        set("hidden_size", json!(width));
        set("intermediate_size", json!(keys.needed("feed_forward_length")?));
        set("num_hidden_layers", json!(layers));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(keys.size("attention.head_count_kv")?.unwrap_or(heads)));
        set("vocab_size", json!(vocabulary));
        set("max_position_embeddings", json!(keys.needed("context_length")?));
        let design = self.family.design();
        let eps = match design.norm {
            NormKind::Rms | NormKind::RmsPlusOne => "attention.layer_norm_rms_epsilon",
            _ => "attention.layer_norm_epsilon",
        };
        set(design.eps_key.unwrap_or("rms_norm_eps"), json!(single(keys.needed_number(eps)?)));
        set("rope_theta", json!(single(keys.number("rope.freq_base")?.unwrap_or(self.base))));
        set("tie_word_embeddings", json!(file.shape("output.weight").is_none()));
        if own_head_width.is_some() || design.head_dim.is_some() {
            set("head_dim", json!(head_width));
        }
        let rotated = keys.size("rope.dimension_count")?;
        if design.share != 1.0 && rotated.is_none_or(|n| n == head_width) {
            set("partial_rotary_factor", json!(1.0));
        }
        if let Some(rotated) = rotated.filter(|n| *n != head_width) {
            // The smallest fraction whose product with the head width truncates to `rotated`.
            let share = rotated as f64 / head_width.max(1) as f64;
            let short = (share * head_width as f64) < rotated as f64;
            set("partial_rotary_factor", json!(if short { share.next_up() } else { share }));
        }
        let biased = |part: &str| file.shape(&format!("blk.0.{part}.bias")).is_some();
        match self.family {
            Family::Starcoder2 => set("use_bias", json!(biased("attn_output"))),
            Family::StableLm => set("use_qkv_bias", json!(biased("attn_q"))),
            Family::Glm4 => set("attention_bias", json!(biased("attn_q"))),
            _ if biased("attn_output") => set("attention_bias", json!(true)),
            _ => None,
        };
        if biased("ffn_down") && self.family != Family::Starcoder2 {
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
        match self.family {
            Family::Phi3 => {
                if let Some(window) = keys.size("attention.sliding_window")?.filter(|n| *n > 0) {
                    set("sliding_window", json!(window));
                }
                if let Some(original) = keys.size("rope.scaling.original_context_length")? {
                    set("original_max_position_embeddings", json!(original));
                }
            }
            Family::Gemma2 | Family::Gemma3 => {
                set("sliding_window", json!(keys.needed("attention.sliding_window")?));
                // Only the largest model divides by another number, which the metadata do not have.
                let largest = if self.family == Family::Gemma2 { 46 } else { 62 };
                let divisor = if layers == largest { width / heads.max(1) } else { head_width };
                set("query_pre_attn_scalar", json!(divisor));
                for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
                    if let Some(cap) = keys.number(key)? {
                        set(key, json!(single(cap)));
                    }
                }
                if self.family == Family::Gemma3 {
                    set("sliding_window_pattern", json!(keys.size("attention.sliding_window_pattern")?.unwrap_or(6)));
                    set("rope_local_base_freq", json!(single(keys.number("rope.freq_base_swa")?.unwrap_or(1e4))));
                }
            }
            Family::Olmo => {
                if let Some(most) = keys.number("attention.clamp_kqv")?.filter(|most| *most > 0.0) {
                    set("clip_qkv", json!(single(most)));
                }
            }
            Family::Olmo2 if keys.size("attention.sliding_window")?.is_some_and(|n| n > 0) => {
                return Err(Error::failed("OLMo 3 is not read from GGUF: which of its layers slide is not known here")
                    .hint("take its safetensors"));
            }
            Family::Granite => {
                let scales = [
                    ("attention_multiplier", "attention.scale"),
                    ("embedding_multiplier", "embedding_scale"),
                    ("residual_multiplier", "residual_scale"),
                    ("logits_scaling", "logit_scale"),
                ];
                for (name, key) in scales {
                    // The value 0 means that there is no scale.
                    if let Some(scale) = keys.number(key)?.filter(|scale| *scale != 0.0) {
                        set(name, json!(single(scale)));
                    }
                }
            }
            Family::Cohere | Family::Cohere2 => {
                set("logit_scale", json!(single(keys.needed_number("logit_scale")?)));
                if self.family == Family::Cohere2 {
                    set("sliding_window", json!(keys.needed("attention.sliding_window")?));
                }
            }
            Family::StableLm => {
                set("use_parallel_residual", json!(file.shape("blk.0.ffn_norm.weight").is_none()));
            }
            _ => {}
        }
        Ok(Value::Object(config))
    }

    /// Converts a parameter's values to those of `transformers`.
    pub fn change(&self, config: &LlmConfig, parameter: &Parameter, values: Vec<f32>) -> Vec<f32> {
        let ends = |names: &[&str]| names.iter().any(|name| parameter.path.contains(name));
        match self.change {
            Change::Alternating if ends(&[".q_proj.", ".k_proj."]) => {
                let row = parameter.shape.get(1).copied().unwrap_or(1);
                halves(&values, config.head_width(), row)
            }
            Change::PlusOne if parameter.path.ends_with("norm.weight") => {
                values.into_iter().map(|scale| scale - 1.0).collect()
            }
            _ => values,
        }
    }
}

/// Within each head of `width` rows of `row` numbers, moves even rows to the front and odd rows behind them.
fn halves(values: &[f32], width: usize, row: usize) -> Vec<f32> {
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
fn single(number: f64) -> f64 {
    let single = number as f32;
    if f64::from(single) == number { format!("{single:e}").parse().unwrap_or(number) } else { number }
}

/// The metadata under an architecture's prefix.
struct Keys<'a> {
    file: &'a Checkpoint,
    architecture: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        self.file.metadata().size(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.file.metadata().number(&self.key(name))? {
            Some(number) if !number.is_finite() => {
                Err(Error::failed(format!("metadata `{}` is {number}", self.key(name)))
                    .hint("the file was damaged or made by a broken converter: get it again"))
            }
            number => Ok(number),
        }
    }

    fn absent(&self, name: &str) -> Error {
        Error::failed(format!("the metadata lack `{}`", self.key(name)))
            .hint("the file is no whole language model, or was made by another program than llama.cpp's converter")
    }

    fn needed(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.absent(name))
    }

    fn needed_number(&self, name: &str) -> Result<f64> {
        self.number(name)?.ok_or_else(|| self.absent(name))
    }

    /// Reads divisors of the rotary angles, which are stored like weights.
    fn factors(&self, tensor: &str) -> Result<Option<Vec<f64>>> {
        match self.file.shape(tensor) {
            Some(_) => Ok(Some(self.file.read(tensor)?.into_iter().map(|f| single(f.into())).collect())),
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
                scaling["attention_factor"] = json!(single(factor));
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
                        scaling[name] = json!(single(beta));
                    }
                }
                Ok(Some(scaling))
            }
            (Some(kind), _) => {
                Err(Error::failed(format!("`{}` = {kind}, which is not known here", self.key("rope.scaling.type")))
                    .hint("known are none, linear, yarn, and factors stored as tensors"))
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
    fn alternating_rows_become_halves() {
        // Two heads of four rows of two numbers.
        let rows: Vec<f32> = [0, 2, 1, 3, 10, 12, 11, 13].iter().flat_map(|n| [*n as f32; 2]).collect();
        let wanted: Vec<f32> = [0, 1, 2, 3, 10, 11, 12, 13].iter().flat_map(|n| [*n as f32; 2]).collect();
        assert_eq!(halves(&rows, 4, 2), wanted);
    }

    #[test]
    fn numbers_of_32_bits_are_written_as_they_were() {
        assert_eq!(single(f64::from(1e-6f32)), 1e-6);
        assert_eq!(single(f64::from(1e-5f32)), 1e-5);
        assert_eq!(single(500_000.0), 500_000.0);
        assert_eq!(single(0.1), 0.1);
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
