//! Directories of Burgess on this machine.

use burgess_base::{Error, Result};
pub use burgess_encoders::hub::own_cache as cache;

/// Size limit of the feature cache in bytes, from `BURGESS_CACHE_GB` (in GiB), default 20 GiB.
pub fn cache_limit() -> Result<u64> {
    match std::env::var("BURGESS_CACHE_GB") {
        Err(_) => Ok(20 << 30),
        Ok(text) => match text.parse::<f64>() {
            Ok(gb) if gb > 0.0 => Ok((gb * (1u64 << 30) as f64) as u64),
            _ => Err(Error::usage(format!("BURGESS_CACHE_GB is `{text}`, not a positive number of GiB"))
                .hint("as in BURGESS_CACHE_GB=50")),
        },
    }
}
