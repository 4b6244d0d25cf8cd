//! A memory budget for the description of a file's tensors: the file's own size and a fixed reserve.
//!
//! Headers, indexes and pickles can demand far more memory than their size on disk: one byte can make a value of forty,
//! and a name that is written once can be used a million times. Every reader therefore charges an allocation to the
//! budget before it is made, at its largest possible size. Weights are mostly numbers, so valid files stay far below.

use burgess_base::{Error, Result};

/// Bytes beyond the file's own size; enough to describe some thousand tensors of a single element each.
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
    /// The budget is exhausted: the file describes more than it can hold.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::failed("describing its tensors takes more memory than the whole file, as in no checkpoint")
                .hint("the file is damaged or made to do harm: get the weights from another place")
        })?;
        Ok(())
    }

    /// Charges `n` more elements of a growing vector of `T`, counted three times: while a vector grows, the old buffer
    /// and the new one of twice the size coexist.
    pub fn grow<T>(&mut self, n: usize) -> Result<()> {
        self.spend(n.saturating_mul(3 * size_of::<T>()))
    }
}
