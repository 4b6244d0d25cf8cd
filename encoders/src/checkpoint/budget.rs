//! How much memory the description of tensors in a file may take: no more than the file has bytes, and some to spare.
//!
//! Headers, indexes and pickles can ask for far more memory than they take on disk: a byte makes a value of forty, a
//! name that is written once is used a million times. Whoever reads one pays for what it allocates before it does so,
//! at the most it can come to. A file of weights holds mostly numbers, so honest ones never notice.

use burgess_base::{Error, Result};

/// Bytes beyond the file's own. Pays for the description of some thousand tensors of a single number each.
const SPARE: usize = 16 << 20;

/// Bytes that may still be allocated on behalf of one file.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// For a file of `length` bytes.
    pub fn of(length: usize) -> Self {
        Self { left: length.saturating_add(SPARE) }
    }

    /// Pays for `bytes`.
    ///
    /// # Errors
    /// The file describes more than it can hold.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::failed("describing its tensors takes more memory than the whole file, as in no checkpoint")
                .hint("the file is damaged or made to do harm: get the weights from another place")
        })?;
        Ok(())
    }

    /// Pays for `n` more elements of a growing vector of `T`: while it grows, the old one lies beside the new one of
    /// twice the size.
    pub fn grow<T>(&mut self, n: usize) -> Result<()> {
        self.spend(n.saturating_mul(3 * size_of::<T>()))
    }
}
