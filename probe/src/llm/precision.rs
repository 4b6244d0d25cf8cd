//! The precision in which a language model computes, and casts between the types in which weights are kept and in which
//! it computes.

use burgess_base::{Error, Result};
use burgess_encoders::{kernel, transfer};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The precision of the decoder's matrix products; its weights, residual stream and loss are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// All in 32-bit floating point.
    #[default]
    F32,
    /// Products in bfloat16, as under PyTorch's `autocast`. On a GPU attention and gates are bfloat16 too: activations
    /// need less memory, and devices with bfloat16 units are several times faster. On the device `flex`, on processors with
    /// AVX-512 BF16, the operands of linear layers are rounded and sums are f32, in the backward pass too.
    Bf16,
}

impl Compute {
    /// The name in studies and on the command line: `f32` or `bf16`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Whether this is f32, the default.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's `skip_serializing_if` passes a reference")]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// The data type of a product's inputs and output, other than on the CPU backend.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// The data type of the tensors that go through products on `device`: f32 on the CPU backend, whose kernels round
    /// operands themselves.
    pub(super) fn dtype_on(self, device: &Device) -> DType {
        match self {
            Self::Bf16 if transfer::is_host(&device.clone().inner()) => DType::F32,
            _ => self.dtype(),
        }
    }

    /// Checks that language models can compute in this precision on `device` of this machine.
    ///
    /// # Errors
    /// They cannot: bf16 needs a GPU that has it or, on the device `flex`, a processor with AVX-512 BF16.
    pub fn check_device(self, device: &Device) -> Result<()> {
        const HINT: &str = "leave `precision` out: f32 is the default";
        if self == Self::F32 {
            return Ok(());
        }
        let device = device.clone().inner();
        match transfer::is_host(&device) {
            true if kernel::bf16::is_supported() => Ok(()),
            true => Err(Error::usage("this processor has no bf16 arithmetic (AVX-512 BF16)").hint(HINT)),
            false if device.supports_dtype(self.dtype()) => Ok(()),
            false => Err(Error::usage("the device does not compute in bf16").hint(HINT)),
        }
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compute {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(Error::usage(format!("unknown precision `{other}`")).hint("known: f32, bf16")),
        }
    }
}

/// Casts `tensor` to `dtype` if it has another type; the gradient comes back in the tensor's own type.
///
/// Weights are kept in f32 and cast to the compute type where they are used.
pub fn cast<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        _ if tensor.dtype() == dtype => tensor,
        DType::BF16 => tensor.cast(FloatDType::BF16),
        DType::F16 => tensor.cast(FloatDType::F16),
        _ => tensor.cast(FloatDType::F32),
    }
}
