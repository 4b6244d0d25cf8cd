//! The languages of a sample of texts.

use super::ranked;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Number of letters below which a language is not told.
const LETTERS: usize = 20;

/// The name of texts that are too short or mixed.
pub(super) const UNCERTAIN: &str = "not certain";

/// Counts the languages of texts, most frequent first. Texts that are too short to tell, and those between two
/// languages, are counted as `not certain`.
pub(super) fn count(texts: &[String]) -> Vec<(String, u64)> {
    let recognised: Vec<&'static str> = texts
        .par_iter()
        .map(|text| {
            if text.chars().filter(|c| c.is_alphabetic()).take(LETTERS).count() < LETTERS {
                return UNCERTAIN;
            }
            whatlang::detect(text).filter(whatlang::Info::is_reliable).map_or(UNCERTAIN, |info| info.lang().eng_name())
        })
        .collect();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for name in recognised {
        *counts.entry(name.to_string()).or_default() += 1;
    }
    ranked(counts)
}
