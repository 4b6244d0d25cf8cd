//! Finds conversations that equal or resemble an earlier one.
//!
//! Memory: 16 bytes per conversation for equal ones. For similar ones 24 bytes in memory, and on disk 512 bytes for the
//! signature and 12 for each band (21 at a similarity of 0.8).

mod minhash;
mod similar;

pub use minhash::{MinHash, Signature, hash_bytes, mix, words};
pub use similar::SimilarTexts;

use crate::mix::{Comparison, Duplicates};
use burgess_base::Result;
use std::path::Path;

/// What of a conversation is compared.
#[derive(Debug, Clone)]
pub struct TextKey {
    /// Hash of all its words with their speakers.
    pub hash: u64,
    /// Its signature, if texts are compared by similarity.
    pub signature: Option<Box<Signature>>,
}

/// Collects conversations in their order, and finds the duplicates among them.
pub enum DuplicateFinder {
    /// Equal texts: hashes with the numbers of the entries.
    Exact(Vec<(u64, u32)>),
    /// Similar texts.
    Similar(Box<SimilarTexts>),
}

impl DuplicateFinder {
    /// Prepares the search; `scratch` is a directory for temporary files.
    ///
    /// # Errors
    /// The temporary files cannot be created.
    pub fn new(rule: &Duplicates, scratch: &Path) -> Result<Self> {
        Ok(match rule.how {
            Comparison::Exact => Self::Exact(Vec::new()),
            Comparison::Minhash => Self::Similar(Box::new(SimilarTexts::create(rule.similarity, scratch)?)),
        })
    }

    /// Adds a conversation. Only those with the same `scope` are compared.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub fn add(&mut self, entry: u32, scope: u64, text: &TextKey) -> Result<()> {
        match (self, &text.signature) {
            (Self::Exact(hashes), _) => hashes.push((mix(text.hash ^ mix(scope)), entry)),
            (Self::Similar(texts), Some(signature)) => texts.add(entry, scope, signature)?,
            (Self::Similar(_), None) => {}
        }
        Ok(())
    }

    /// Returns the entries that equal an earlier one, ascending; only those for which `alive` is true are compared.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub fn finish(self, alive: impl Fn(u32) -> bool) -> Result<Vec<u32>> {
        match self {
            Self::Exact(mut hashes) => {
                hashes.retain(|(_, entry)| alive(*entry));
                hashes.sort_unstable();
                let later = |pair: &[(u64, u32)]| match pair {
                    [(a, _), (b, later)] if a == b => Some(*later),
                    _ => None,
                };
                let mut removed: Vec<u32> = hashes.windows(2).filter_map(later).collect();
                removed.sort_unstable();
                Ok(removed)
            }
            Self::Similar(texts) => texts.finish(alive),
        }
    }
}
