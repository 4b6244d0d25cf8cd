//! Errors of a TOML file with file, line and key.

use crate::{Error, nearest, text};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A wrong value: the key that leads to it from the top of the file, and what is wrong.
#[derive(Debug)]
pub struct WrongValue {
    /// Keys and indices of lists from the top: `filters`, `ratings`, `relevance`.
    pub path: Vec<String>,
    /// What was found and expected.
    pub what: Error,
}

impl WrongValue {
    /// Builds one for a path of keys.
    pub fn new(path: &[&str], what: Error) -> Self {
        Self { path: path.iter().map(|key| (*key).to_string()).collect(), what }
    }
}

/// What an error of the parser advises.
#[derive(Debug, Clone, Copy)]
pub struct KeyHints {
    /// For an unknown key that resembles no known one.
    pub unknown: &'static str,
    /// For anything else.
    pub value: &'static str,
}

/// Formats an error of the parser as `file:line: the line: message`, with the nearest known key as a hint.
pub fn parse_error(error: &toml::de::Error, toml: &str, file: &str, hints: KeyHints) -> Error {
    let message = error.message().trim_end();
    let place = place(toml, file, error.span());
    let hint = match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((wrong, rest)) => {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            match nearest(wrong, known.iter().copied()).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => hints.unknown.into(),
            }
        }
        None => hints.value.into(),
    };
    Error::usage(format!("{place}: {message}")).hint(hint)
}

/// Adds file and line to a wrong value.
pub fn value_error(wrong: WrongValue, toml: &str, file: &str) -> Error {
    at(wrong.what, toml, file, &wrong.path)
}

/// Adds file and line of the key to an error about a value. `path` leads to the key from the top of the file.
pub fn at(error: Error, toml: &str, file: &str, path: &[impl AsRef<str>]) -> Error {
    let span = DeTable::parse(toml).ok().and_then(|table| span_of(table.get_ref(), path));
    error.context(place(toml, file, span))
}

/// Finds the text of the last key of the path that exists.
fn span_of(table: &DeTable<'_>, path: &[impl AsRef<str>]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == first.as_ref())?;
    let below = match (value.get_ref(), rest) {
        (DeValue::Table(below), [_, ..]) => span_of(below, rest),
        (DeValue::Array(items), [index, rest @ ..]) => {
            let item = index.as_ref().parse::<usize>().ok().and_then(|index| items.get(index));
            item.map(|item| match item.get_ref() {
                DeValue::Table(below) => span_of(below, rest).unwrap_or_else(|| item.span()),
                _ => item.span(),
            })
        }
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
