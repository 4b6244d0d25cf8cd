//! The entry of one tensor in a checkpoint of any format: its number format, its shape and the position of its bytes.

use crate::number_format::NumberFormat;
use std::ops::Range;

/// The maximum length of a tensor's name in bytes, so that an error can show it whole.
pub(super) const MAX_NAME: usize = 1024;
/// The maximum number of dimensions of a tensor (PyTorch's own limit).
pub(super) const MAX_DIMENSIONS: usize = 64;

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
