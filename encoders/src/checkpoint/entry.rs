//! The entry of one tensor in a checkpoint of any format: its number format, its shape and the position of its bytes.

use super::blocks::GgmlBlock;
use std::ops::Range;

/// The maximum length of a tensor's name in bytes, so that an error can show it whole.
pub(super) const MAX_NAME: usize = 1024;
/// The maximum number of dimensions of a tensor (PyTorch's own limit).
pub(super) const MAX_DIMENSIONS: usize = 64;

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

/// The shape, number format and position of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// Number format of the elements.
    pub stored: NumberFormat,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Strides in elements, one per dimension; `None` if the tensor is contiguous and row-major.
    pub strides: Option<Vec<usize>>,
    /// Byte range in the file (not in the data section).
    pub bytes: Range<usize>,
}

impl CheckpointEntry {
    /// Returns the bytes of memory that an entry with this name and number of dimensions takes in all tables.
    pub fn cost(name: &str, dimensions: usize) -> usize {
        // Names are in two tables and once beside the entry.
        const TABLES: usize = 6 * size_of::<(String, String, CheckpointEntry)>();
        TABLES + 4 * name.len() + 4 * dimensions * size_of::<usize>()
    }
}
