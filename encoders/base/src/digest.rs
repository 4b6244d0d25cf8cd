//! BLAKE3 digests of files, configurations and all other inputs of a result.

use crate::{Context, Result};
use std::path::Path;

/// Returns the hexadecimal BLAKE3 digest of bytes, truncated to 32 digits (128 bits).
pub fn of_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().as_str()[..32].to_string()
}

/// Returns the digest of a value's JSON form, which is stable because the type defines the order of fields.
pub fn of_value<T: serde::Serialize>(value: &T) -> Result<String> {
    Ok(of_bytes(&serde_json::to_vec(value)?))
}

/// A digest of data that arrive in pieces.
#[derive(Debug, Clone, Default)]
pub struct Digest(blake3::Hasher);

impl Digest {
    /// Appends bytes to the data.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes so far, equal to [`of_bytes`] of their concatenation.
    pub fn finish(&self) -> String {
        self.0.finalize().to_hex().as_str()[..32].to_string()
    }
}

/// Returns the digest of a file's contents, which are read in pieces.
pub fn of_file(path: &Path) -> Result<String> {
    let step = || format!("reading {}", path.display());
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).with_context(step)?).with_context(step)?;
    Ok(hasher.finalize().to_hex().as_str()[..32].to_string())
}
