//! Number formats in which weight files store their values, and their conversion to f32.

mod blocks;
mod decode;

pub(crate) use blocks::Codes;
pub use blocks::GgmlBlock;
pub(crate) use decode::{convert, decode, is_finite};

/// The number format of a tensor. Only floating-point formats can become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// 64-bit float of IEEE 754 (f64).
    F64,
    /// 32-bit float of IEEE 754 (f32).
    F32,
    /// 16-bit float of IEEE 754 (f16, half precision).
    F16,
    /// 16-bit float with the exponent range of f32 (bfloat16).
    Bf16,
    /// Quantised blocks of ggml (GGUF only).
    Block(GgmlBlock),
    /// Any other format (integers, Booleans, 8-bit floats). A file may contain it, but it cannot be loaded as weights.
    Other {
        /// Bytes per element.
        size: usize,
    },
}

impl NumberFormat {
    /// Returns the number of elements that are stored together (1 except for blocks), and their size in bytes.
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Self::F64 => (1, 8),
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Block(block) => block.unit(),
            Self::Other { size } => (1, size),
        }
    }

    /// Returns the size in bytes of an element, or of a block of elements.
    pub const fn size(self) -> usize {
        self.unit().1
    }

    /// Whether tensors of this format can be loaded as weights.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::Other { .. })
    }
}
