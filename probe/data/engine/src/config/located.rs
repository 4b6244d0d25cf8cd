//! Errors of the engine's TOML files with file, line and key.

pub use burgess_base::toml_error::at;

use burgess_base::Result;
use burgess_base::toml_error::{KeyHints, parse_error};
use serde::de::DeserializeOwned;

/// What errors of the parser advise.
const KEY_HINTS: KeyHints = KeyHints {
    unknown: "remove the key: a new engine.toml shows all keys",
    value: "correct the line: a new engine.toml shows all keys with their values",
};

/// Parses a TOML file; an error names the file, the line and the key, and an unknown key gets the nearest known one.
pub fn parse<T: DeserializeOwned>(toml: &str, file: &str) -> Result<T> {
    toml::from_str(toml).map_err(|e| parse_error(&e, toml, file, KEY_HINTS))
}
