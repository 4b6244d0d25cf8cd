//! Key information: pairs of keys and values in an answer, and their F1 score.

use super::literal::{self, Literal};
use crate::lmms::trimmed;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

static FENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?is)```(?:python|json)?\n(.*?)\n```").ok());

static PAIR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"["']?([\w\s\x1c-\x1f]+)["']?[\s\x1c-\x1f]*[:=][\s\x1c-\x1f]*["']?([^\n,"'{}]+)["']?"#;
    Regex::new(pattern).ok()
});

/// Returns the pairs in an answer: JSON or a Python dictionary, inside the first code fence if there is one, else every
/// `key: value` or `key = value`. Values are texts.
pub(super) fn pairs(answer: &str) -> BTreeMap<String, String> {
    let fenced = FENCE.as_ref().and_then(|p| p.captures(answer)).and_then(|groups| groups.get(1));
    let content = fenced.map_or_else(|| trimmed(answer), |group| group.as_str());
    let parsed = literal::json(content).or_else(|| match literal::python(content) {
        Some(dict @ Literal::Dict(_)) => Some(dict),
        _ => None,
    });
    let strip = |text: &str| trimmed(text).to_string();
    match parsed {
        Some(Literal::Dict(found)) => {
            let text_of = |(key, value): &(Literal, Literal)| match key {
                Literal::Text(key) => Some((strip(key), strip(&value.text()))),
                _ => None,
            };
            // A key that is no text makes the whole answer unusable.
            found.iter().map(text_of).collect::<Option<_>>().unwrap_or_default()
        }
        Some(_) => BTreeMap::new(),
        None => {
            let Some(pattern) = PAIR.as_ref() else { return BTreeMap::new() };
            let found = pattern.captures_iter(content);
            found.filter_map(|g| Some((strip(g.get(1)?.as_str()), strip(g.get(2)?.as_str())))).collect()
        }
    }
}

/// Parses the annotation: a dictionary of keys and their accepted values.
pub(super) fn accepted(annotation: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let text = annotation.trim_matches('"');
    let parsed = literal::json(text).or_else(|| literal::python(text))?;
    // Some annotations are a dictionary within a text.
    let parsed = match parsed {
        Literal::Text(inner) => literal::python(&inner)?,
        other => other,
    };
    let Literal::Dict(found) = parsed else { return None };
    let texts = |value: Literal| match value {
        Literal::Text(text) => Some(vec![text]),
        Literal::List(items) => items
            .into_iter()
            .map(|item| match item {
                Literal::Text(text) => Some(text),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    let pair = |(key, value): (Literal, Literal)| match key {
        Literal::Text(key) => Some((key, texts(value)?)),
        _ => None,
    };
    found.into_iter().map(pair).collect()
}

/// Computes the mean over all keys, of the answer and of the annotation, of whether the value is one of the accepted
/// ones, up to case and spaces.
pub(super) fn f1(said: &BTreeMap<String, String>, accepted: &BTreeMap<String, Vec<String>>) -> f64 {
    let plain = |text: &str| trimmed(&text.to_lowercase()).replace(['\n', ' '], "");
    let keys: BTreeSet<&String> = said.keys().chain(accepted.keys()).collect();
    if keys.is_empty() {
        return 0.0;
    }
    let right = |key: &&&String| match (said.get(**key), accepted.get(**key)) {
        (Some(said), Some(values)) => values.iter().any(|value| plain(value) == plain(said)),
        _ => false,
    };
    keys.iter().filter(right).count() as f64 / keys.len() as f64
}
