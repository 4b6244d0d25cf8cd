//! The precision of activations in products with stored matrices.

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The precision of activations in products with quantised weights. Matrices of 16-bit floats have no integer codes:
/// for them, activations are always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// 32-bit floats: products equal those with the unpacked weights up to rounding.
    #[default]
    F32,
    /// 15-bit integers with a scale per 32 values: prompts are read faster, with an error of about 5e-5 of each
    /// product. Only for weights in quantised blocks.
    Int16,
    /// 8-bit integers with a scale per 32 values, as in llama.cpp: prompts are read fastest, with an error of about
    /// 5e-3 of each product. Only for weights in quantised blocks.
    Int8,
}

// serde and clap pass or need references.
#[allow(clippy::trivially_copy_pass_by_ref)]
impl Activations {
    /// Whether activations are f32, the default.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl FromStr for Activations {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "int16" => Ok(Self::Int16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::usage(format!("`{text}` is no precision of activations")).hint("give f32, int16 or int8")),
        }
    }
}
