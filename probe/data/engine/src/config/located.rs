//! Errors of a TOML file with file, line and key.

use burgess_base::{Error, Result, nearest, text};
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Parses a TOML file; an error names the file, the line and the key, and an unknown key gets the nearest known one.
pub fn parse<T: DeserializeOwned>(toml: &str, file: &str) -> Result<T> {
    toml::from_str(toml).map_err(|e| {
        let message = e.message().trim_end();
        let hint =
            message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')).map(|(wrong, rest)| {
                let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
                match nearest(wrong, known.iter().copied()).first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "remove the key: a new engine.toml shows all keys".to_string(),
                }
            });
        let hint =
            hint.unwrap_or_else(|| "correct the line: a new engine.toml shows all keys with their values".into());
        Error::usage(format!("{}: {message}", place(toml, file, e.span()))).hint(hint)
    })
}

/// Adds file and line of the key to an error about a value. `path` leads to the key from the top of the file.
pub fn at(error: Error, toml: &str, file: &str, path: &[&str]) -> Error {
    let span = DeTable::parse(toml).ok().and_then(|table| span_of(table.get_ref(), path));
    error.context(place(toml, file, span))
}

/// Finds the last key of the path that exists.
fn span_of(table: &DeTable<'_>, path: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == *first)?;
    let below = match value.get_ref() {
        DeValue::Table(below) if !rest.is_empty() => span_of(below, rest),
        _ => None,
    };
    Some(below.unwrap_or_else(|| key.span()))
}

fn place(toml: &str, file: &str, span: Option<Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| toml.get(..span.start)) else { return file.to_string() };
    let line = before.matches('\n').count();
    let content = toml.lines().nth(line).unwrap_or_default().trim();
    format!("{file}:{}: `{}`", line + 1, text::excerpt(content, 120))
}
