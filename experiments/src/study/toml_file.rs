//! Reading of TOML files.

use burgess_base::{Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads and parses a TOML file of a study or a run.
pub fn read_toml<T: DeserializeOwned>(path: &Path, hint: &str) -> Result<T> {
    let hinted = |e: Error| e.hint("give the path of a TOML file; `burgess rank nano --dry-run` shows one");
    if path.is_dir() {
        return Err(hinted(Error::usage("it is a directory, expected a file")));
    }
    let bytes = std::fs::read(path).map_err(|e| hinted(Error::usage(e.to_string())))?;
    let text = String::from_utf8(bytes).map_err(|_| hinted(Error::usage("it is not UTF-8 text")))?;
    parse_toml(text.strip_prefix('\u{feff}').unwrap_or(&text), hint)
}

/// Parses the text of a TOML file.
pub fn parse_toml<T: DeserializeOwned>(text: &str, hint: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| Error::usage(e.to_string().trim_end().to_string()).hint(hint))
}
