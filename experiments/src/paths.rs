//! Where things lie on this machine.

use burgess_base::{Error, Result};
use std::path::PathBuf;

/// Burgess's own cache (worlds, features): `BURGESS_CACHE`, else `XDG_CACHE_HOME/burgess`, else
/// `~/.cache/burgess`.
pub fn cache() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = from("BURGESS_CACHE") {
        return Ok(dir);
    }
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|h| h.join(".cache")))
        .or_else(|| from("LOCALAPPDATA"))
        .map(|d| d.join("burgess"))
        .ok_or_else(|| {
            Error::failed("no cache directory is known: HOME is not set").hint("set BURGESS_CACHE to a directory")
        })
}

/// The largest size of the feature cache in bytes: `BURGESS_CACHE_GB`, default 20.
pub fn cache_limit() -> Result<u64> {
    match std::env::var("BURGESS_CACHE_GB") {
        Err(_) => Ok(20 << 30),
        Ok(text) => match text.parse::<f64>() {
            Ok(gb) if gb > 0.0 => Ok((gb * (1u64 << 30) as f64) as u64),
            _ => Err(Error::usage(format!("BURGESS_CACHE_GB is `{text}`, not a positive number of GiB"))),
        },
    }
}

/// The Hugging Face cache, where published weights lie: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
/// `~/.cache/huggingface/hub`.
pub fn hub_cache() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("HF_HUB_CACHE")
        .or_else(|| from("HF_HOME").map(|d| d.join("hub")))
        .or_else(|| from("HOME").map(|d| d.join(".cache/huggingface/hub")))
}
