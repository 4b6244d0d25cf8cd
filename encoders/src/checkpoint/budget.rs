//! A memory budget for the description of a file's tensors: the file's own size and a fixed reserve.
//!
//! Headers, indexes and pickles can demand far more memory than their size on disk: one byte can describe a value of
//! forty bytes, and a name that is stored once can be referenced a million times. Every reader therefore charges each
//! allocation to the budget beforehand, at its largest possible size. Files of weights consist mostly of values, so
//! valid files stay far below the budget.

use burgess_base::{Error, Result};

/// Bytes of the budget beyond the file's own size; enough to describe some thousand tensors of one element each.
const SPARE: usize = 16 << 20;

/// The number of bytes that may still be allocated while one file is read.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    left: usize,
}

impl MemoryBudget {
    /// Builds the budget for a file of `length` bytes.
    pub fn of(length: usize) -> Self {
        Self { left: length.saturating_add(SPARE) }
    }

    /// Charges `bytes` to the budget.
    ///
    /// # Errors
    /// The budget is exhausted: describing the tensors takes more memory than the whole file.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::failed("the description of the tensors takes more memory than the whole file")
                .hint("download the weights from another source: the file is damaged or malicious")
        })?;
        Ok(())
    }

    /// Charges `n` more elements of a growing vector of `T`, counted three times: while a vector grows, the old buffer
    /// and the new one of twice the size coexist.
    pub fn grow<T>(&mut self, n: usize) -> Result<()> {
        self.spend(n.saturating_mul(3 * size_of::<T>()))
    }
}
