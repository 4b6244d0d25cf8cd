//! Rotary position embedding (RoPE) in the `rotate_half` layout of Hugging Face's weights, and its scalings.
//!
//! Channel `i` of the first half of a head is rotated together with channel `i` of the second half by the angle
//! `position · theta^(−2i / width)` (RoFormer, arXiv 2104.09864; layout as in `modeling_llama.py`). Burn's
//! `RotaryEncoding` rotates neighbouring channels instead, which is the layout of the original checkpoints. In
//! partial rotary embedding, the first channels of a head are rotated. The scalings follow `modeling_rope_utils.py`,
//! in f32 as there.

use super::precision::cast;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Scaling of the rotary angles for sequences longer than those of pretraining (`rope_scaling`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Position interpolation: all angles are divided by a factor (arXiv 2306.15595).
    Linear {
        /// The divisor of all angles.
        factor: f64,
    },
    /// Dynamic NTK: the base grows with the sequence length beyond the original length.
    Dynamic {
        /// The factor by which the context is extended.
        factor: f64,
        /// The maximum length of pretraining, in tokens; `transformers` uses `max_position_embeddings`.
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
    },
    /// Llama 3.1: low frequencies are divided by a factor, high ones kept, others interpolated (arXiv 2407.21783).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Frequencies with fewer turns over the original length are low.
        low_freq_factor: f64,
        /// Frequencies with more turns over the original length are high.
        high_freq_factor: f64,
        /// The maximum length of pretraining, in tokens; absent = as the model states it.
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
    },
    /// YaRN: interpolation by channel, with an attention temperature (arXiv 2309.00071).
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// The maximum length of pretraining, in tokens.
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
        /// Factor on cosines and sines; absent = derived from `factor`.
        #[serde(skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Coefficient of the logarithm in the numerator of the attention factor.
        #[serde(skip_serializing_if = "Option::is_none")]
        mscale: Option<f64>,
        /// Coefficient of the logarithm in the denominator of the attention factor.
        #[serde(skip_serializing_if = "Option::is_none")]
        mscale_all_dim: Option<f64>,
        /// Frequencies with more turns over the original length are kept; default 32.
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Frequencies with fewer turns are divided by `factor`; default 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
        /// Whether the bounds of the interpolated channels are rounded to whole channels; default true.
        #[serde(skip_serializing_if = "Option::is_none")]
        truncate: Option<bool>,
    },
    /// LongRoPE: one divisor per frequency, with separate sets for short and long sequences (arXiv 2402.13753).
    LongRope {
        /// Divisors for sequences up to the original length.
        short_factor: Vec<f64>,
        /// Divisors for longer sequences.
        long_factor: Vec<f64>,
        /// Ratio of the extended to the original length; absent = derived from these.
        #[serde(skip_serializing_if = "Option::is_none")]
        factor: Option<f64>,
        /// Factor on cosines and sines; absent = derived from `factor`.
        #[serde(skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// The maximum length of pretraining, in tokens.
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
    },
    /// One divisor per frequency for all lengths: the tensor `rope_freqs.weight` of a GGUF file.
    Factors {
        /// The divisors, one per frequency.
        factors: Vec<f64>,
    },
}

impl RopeScaling {
    /// Reads the table of a `config.json`; `None` if it says `default`.
    pub(super) fn read(table: &serde_json::Value) -> std::result::Result<Option<Self>, String> {
        let Some(fields) = table.as_object() else {
            return if table.is_null() {
                Ok(None)
            } else {
                Err(format!("`rope_scaling` is {table}, expected a table"))
            };
        };
        let kind = fields.get("rope_type").or_else(|| fields.get("type")).and_then(serde_json::Value::as_str);
        let Some(kind) = kind.filter(|k| *k != "default") else { return Ok(None) };
        // Phi-3's first files call LongRoPE `su`.
        let kind = if kind == "su" { "longrope" } else { kind };
        const READ: [&str; 6] = ["linear", "dynamic", "llama3", "yarn", "longrope", "factors"];
        if !READ.contains(&kind) {
            let kind = burgess_base::text::excerpt(kind, 40);
            return Err(format!(
                "`rope_scaling`: `rope_type` = `{kind}` is not supported; supported are default, {}",
                READ[..5].join(", ")
            ));
        }
        let mut fields = fields.clone();
        fields.insert("rope_type".into(), kind.into());
        serde_json::from_value(fields.into()).map(Some).map_err(|e| format!("`rope_scaling`: {e}"))
    }

    /// Fills in lengths that are stored in other keys of the file: `original_max_position_embeddings` and
    /// `max_position_embeddings`, in tokens.
    pub(super) fn complete(
        &mut self,
        original: Option<usize>,
        longest: Option<usize>,
    ) -> std::result::Result<(), String> {
        match self {
            Self::Llama3 { original_max_position_embeddings: own, .. }
            | Self::Yarn { original_max_position_embeddings: own, .. } => *own = own.or(original).or(longest),
            Self::LongRope { original_max_position_embeddings: own, factor, .. } => {
                *own = own.or(original).or(longest);
                if let (None, Some(own), Some(longest)) = (*factor, *own, longest)
                    && own > 0
                {
                    *factor = Some(longest as f64 / own as f64);
                }
            }
            // `transformers` reads no other key here.
            Self::Dynamic { original_max_position_embeddings: own, .. } => *own = longest.or(*own).or(original),
            Self::Linear { .. } | Self::Factors { .. } => return Ok(()),
        }
        Ok(())
    }

    /// Returns the sequence length in tokens beyond which all angles change, if there is one (LongRoPE).
    pub(super) fn length_switch(&self) -> Option<usize> {
        match self {
            Self::LongRope { original_max_position_embeddings, .. } => *original_max_position_embeddings,
            Self::Linear { .. }
            | Self::Dynamic { .. }
            | Self::Llama3 { .. }
            | Self::Yarn { .. }
            | Self::Factors { .. } => None,
        }
    }

    /// Checks the values for heads with `width` rotated channels.
    pub(super) fn check(&self, width: usize) -> Result<()> {
        let positive = |name: &str, x: f64| match x > 0.0 && x.is_finite() {
            true => Ok(()),
            false => Err(Error::usage(format!("`{name}` is {x}, must be a finite number above 0"))),
        };
        let list =
            |name: &str, all: &[f64]| match all.len() == width / 2 && all.iter().all(|x| *x > 0.0 && x.is_finite()) {
                true => Ok(()),
                false => Err(Error::usage(format!(
                    "`{name}` must have {} divisors above 0, has {} values",
                    width / 2,
                    all.len()
                ))),
            };
        match self {
            Self::Dynamic { .. } if width <= 2 => Err(Error::usage(format!(
                "`rope_type` = `dynamic` needs more than 2 rotated channels per head, found {width}"
            ))),
            Self::Linear { factor } | Self::Dynamic { factor, .. } | Self::Llama3 { factor, .. } => {
                positive("factor", *factor)
            }
            Self::Yarn { factor, attention_factor, mscale, mscale_all_dim, beta_fast, beta_slow, .. } => {
                for (name, x) in [("mscale", mscale), ("mscale_all_dim", mscale_all_dim)] {
                    if x.is_some_and(|x| !x.is_finite() || x < 0.0) {
                        return Err(Error::usage(format!("`{name}` is {x:?}, must be at least 0 and finite")));
                    }
                }
                positive("beta_fast", beta_fast.filter(|x| *x != 0.0).unwrap_or(1.0))?;
                positive("beta_slow", beta_slow.filter(|x| *x != 0.0).unwrap_or(1.0))?;
                positive("attention_factor", attention_factor.unwrap_or(1.0))?;
                positive("factor", *factor)
            }
            Self::LongRope { short_factor, long_factor, factor, attention_factor, .. } => {
                list("short_factor", short_factor)?;
                list("long_factor", long_factor)?;
                positive("attention_factor", attention_factor.unwrap_or(1.0))?;
                positive("factor", factor.unwrap_or(1.0))
            }
            Self::Factors { factors } => list("factors", factors),
        }?;
        if let Self::Llama3 { low_freq_factor, high_freq_factor, .. } = self
            && !(*low_freq_factor > 0.0 && high_freq_factor > low_freq_factor)
        {
            return Err(Error::usage(
                "`low_freq_factor` must be above 0, and `high_freq_factor` above `low_freq_factor`",
            ));
        }
        Ok(())
    }
}

/// Parameters of the rotary embedding of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig<'a> {
    /// Number of rotated channels per head; even.
    pub width: usize,
    /// Base of the angles (`rope_theta`).
    pub theta: f64,
    /// Scaling of the angles.
    pub scaling: Option<&'a RopeScaling>,
    /// Whether the layer has no rotary embedding; its angles are zero.
    pub disabled: bool,
}

impl RopeConfig<'_> {
    /// Returns inverse frequencies (angles per position), `width / 2` of them, for a sequence of `length` tokens, and
    /// the factor on their cosines and sines.
    fn inverse_frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let half = self.width / 2;
        if self.disabled {
            return (vec![0.0; half], 1.0);
        }
        // In f32, as in the reference.
        let turns: Vec<f32> = (0..half).map(|i| (self.theta as f32).powf((2 * i) as f32 / self.width as f32)).collect();
        let plain: Vec<f32> = turns.iter().map(|t| 1.0 / t).collect();
        let Some(scaling) = self.scaling else { return (plain, 1.0) };
        match scaling {
            RopeScaling::Linear { factor } => (plain.into_iter().map(|f| f / *factor as f32).collect(), 1.0),
            RopeScaling::Dynamic { factor, original_max_position_embeddings } => {
                let original = original_max_position_embeddings.unwrap_or(2048) as f64;
                let (length, width) = ((length as f64).max(original), self.width as f64);
                let grown = factor * length / original - (factor - 1.0);
                let base = (self.theta * grown.powf(width / (width - 2.0))) as f32;
                let turn = |i: usize| base.powf((2 * i) as f32 / self.width as f32);
                ((0..half).map(|i| 1.0 / turn(i)).collect(), 1.0)
            }
            RopeScaling::Factors { factors } => {
                (turns.iter().zip(factors).map(|(t, f)| 1.0 / (*f as f32 * t)).collect(), 1.0)
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let original = original_max_position_embeddings.unwrap_or(8192) as f32;
                let (low, high, factor) = (*low_freq_factor as f32, *high_freq_factor as f32, *factor as f32);
                let stretched = plain.into_iter().map(|f| {
                    let wave = TAU as f32 / f;
                    if wave > original / low {
                        f / factor
                    } else if wave < original / high {
                        f
                    } else {
                        let smooth = (original / wave - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                });
                (stretched.collect(), 1.0)
            }
            RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } => {
                let temperature = |m: f64| if *factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                let attention = attention_factor.unwrap_or_else(|| match (mscale, mscale_all_dim) {
                    (Some(m), Some(all)) if *m != 0.0 && *all != 0.0 => temperature(*m) / temperature(*all),
                    _ => temperature(1.0),
                });
                let [low, high] = self.yarn_range(scaling);
                let stretched = turns.iter().enumerate().map(|(i, t)| {
                    let kept = 1.0 - ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                    1.0 / (*factor as f32 * t) * (1.0 - kept) + 1.0 / t * kept
                });
                (stretched.collect(), attention as f32)
            }
            RopeScaling::LongRope {
                short_factor,
                long_factor,
                factor,
                attention_factor,
                original_max_position_embeddings,
            } => {
                let original = original_max_position_embeddings.unwrap_or(usize::MAX);
                let factors = if length > original { long_factor } else { short_factor };
                let factor = factor.unwrap_or(1.0);
                let attention = attention_factor.unwrap_or_else(|| {
                    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() }
                });
                (turns.iter().zip(factors).map(|(t, f)| 1.0 / (*f as f32 * t)).collect(), attention as f32)
            }
        }
    }

    /// Returns the channels between which YaRN interpolates from kept to divided angles.
    fn yarn_range(&self, scaling: &RopeScaling) -> [f32; 2] {
        let RopeScaling::Yarn { beta_fast, beta_slow, original_max_position_embeddings, truncate, .. } = scaling else {
            return [0.0, 1.0];
        };
        let original = original_max_position_embeddings.unwrap_or(2048) as f64;
        let channel = |turns: f64| (self.width as f64 * (original / (turns * TAU)).ln()) / (2.0 * self.theta.ln());
        let set = |beta: &Option<f64>, default: f64| beta.filter(|b| *b != 0.0).unwrap_or(default);
        let (mut low, mut high) = (channel(set(beta_fast, 32.0)), channel(set(beta_slow, 1.0)));
        if truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(self.width as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        [low as f32, high as f32]
    }

    /// Computes cosines and sines for positions `0..t`, shared by all rows: `[1, t, width / 2]`.
    pub fn for_length(&self, t: usize, device: &Device) -> Rope {
        let positions: Vec<usize> = (0..t).collect();
        self.for_positions(&[&positions], device)
    }

    /// Computes cosines and sines for given positions, `[rows][t]`, where all rows have the same length:
    /// `[rows, t, width / 2]`.
    pub fn for_positions(&self, rows: &[&[usize]], device: &Device) -> Rope {
        let t = rows.first().map_or(0, |r| r.len());
        let half = self.width / 2;
        let count = rows.len() * t * half;
        let (mut cos, mut sin) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for row in rows {
            let (inverse_frequencies, factor) = self.inverse_frequencies(row.iter().max().map_or(0, |p| p + 1));
            for &p in *row {
                for f in &inverse_frequencies {
                    let angle = p as f32 * f;
                    cos.push(angle.cos() * factor);
                    sin.push(angle.sin() * factor);
                }
            }
        }
        let make = |values| transfer::to_device(TensorData::new(values, [rows.len(), t, half]), device);
        Rope { cos: make(cos), sin: make(sin) }
    }
}

/// Cosines and sines of the rotary angles for a list of positions.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Cosines, `[rows, t, width / 2]`; `rows` is 1 if all sequences of a batch share their positions.
    pub cos: Tensor<3>,
    /// Sines, `[rows, t, width / 2]`.
    pub sin: Tensor<3>,
}

impl Rope {
    /// Rotates the first channels of `x` `[batch, t, heads, head_dim]`, in the `rotate_half` or the `interleaved`
    /// layout.
    pub fn rotate(&self, x: Tensor<4>, interleaved: bool) -> Tensor<4> {
        let ([b, t, heads, d], half) = (x.dims(), self.cos.dims()[2]);
        let [cos, sin] = [&self.cos, &self.sin].map(|a| cast(a.clone(), x.dtype()).unsqueeze_dim::<4>(2));
        let (first, second) = if interleaved {
            let pairs = x.clone().narrow(3, 0, 2 * half).reshape([b, t, heads, half, 2]);
            let of = |i: usize| pairs.clone().narrow(4, i, 1).reshape([b, t, heads, half]);
            (of(0), of(1))
        } else {
            (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half))
        };
        let rotated = [first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin];
        let mut parts = if interleaved {
            let rotated = rotated.map(|part| part.unsqueeze_dim::<5>(4));
            vec![Tensor::cat(rotated.to_vec(), 4).reshape([b, t, heads, 2 * half])]
        } else {
            rotated.to_vec()
        };
        if d > 2 * half {
            parts.push(x.narrow(3, 2 * half, d - 2 * half));
        }
        Tensor::cat(parts, 3)
    }
}
