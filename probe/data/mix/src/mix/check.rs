//! Checks of the values of a mix that types alone do not make.

use super::{Bounds, Mix};
use crate::names::source_key;
use crate::pool::RATINGS;
use crate::system_prompts::SystemPrompts;
use burgess_base::toml_error::WrongValue;
use burgess_base::{Error, nearest};
use std::collections::BTreeMap;

/// Largest number of words in a shingle.
const LONGEST_SHINGLE: u64 = 20;
/// Largest distance between difference hashes of duplicate images.
const LARGEST_DISTANCE: u32 = 7;
/// Number of bits of a difference hash.
const HASH_BITS: u32 = 64;

fn expected(key: &str, found: impl std::fmt::Display, wanted: &str) -> Error {
    Error::usage(format!("`{key}` is {found}, expected {wanted}"))
}

impl Mix {
    /// Checks the values.
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        self.check_sources()?;
        self.check_filters()?;
        if let Some(threshold) = &self.threshold {
            threshold.check().map_err(|e| WrongValue::new(&["threshold", "t"], e))?;
        }
        if let Some(ratios) = &self.ratios {
            let key = if ratios.total == Some(0) { "total" } else { "shares" };
            ratios.check().map_err(|e| WrongValue::new(&["ratios", key], e))?;
        }
        if let Some(rule) = &self.system_prompts {
            rule.prompts().map_err(|e| WrongValue::new(&["system_prompts", "sources"], e))?;
        }
        if self.reported == Some(0) {
            return Err(WrongValue::new(&["reported"], expected("reported", 0, "at least 1")));
        }
        Ok(())
    }

    fn check_sources(&self) -> Result<(), WrongValue> {
        let listed = self.listed_sources().map_err(|e| WrongValue::new(&["catalogue"], e))?;
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for (at, source) in self.sources.iter().enumerate() {
            let place = |key: &str| vec!["sources".to_string(), at.to_string(), key.to_string()];
            let wrong = |key: &str, what: Error| WrongValue { path: place(key), what };
            if source.name.trim().is_empty() {
                let e = Error::usage(format!("source {} has no name", at + 1)).hint("write `name = \"…\"`");
                return Err(wrong("name", e));
            }
            if let Some(first) = names.insert(source_key(&source.name), at) {
                let e = Error::usage(format!(
                    "the source `{}` is listed as number {} and {}",
                    source.name,
                    first + 1,
                    at + 1
                ));
                return Err(wrong("name", e.hint("remove one of the two")));
            }
            if source.kind.as_ref().is_some_and(|kind| kind.trim().is_empty()) {
                return Err(wrong("kind", expected("kind", "empty", "a word such as ocr or language")));
            }
            if let Some(empty) = source.from.iter().find(|from| from.trim().is_empty()) {
                return Err(wrong("from", expected("from", format!("`{empty}`"), "names of sources")));
            }
            // Images are told apart by their first two folders.
            let deep = |from: &&String| super::split_name(from).1.is_some_and(|folder| folder.split('/').count() > 2);
            if let Some(deep) = source.from.iter().find(deep) {
                return Err(wrong(
                    "from",
                    expected("from", format!("`{deep}`"), "at most two folders after the colon"),
                ));
            }
        }
        // A name of a pool must mean one source.
        let mut meant: BTreeMap<(String, Option<String>), String> = BTreeMap::new();
        for source in &listed {
            for name in std::iter::once(&source.name).chain(&source.from) {
                let (of, folder) = super::split_name(name);
                let other = meant.insert((of, folder), source.name.clone());
                if let Some(other) = other.filter(|other| *other != source.name) {
                    let at = self.sources.iter().position(|own| own.name == source.name || own.name == other);
                    let path = match at {
                        Some(at) => vec!["sources".into(), at.to_string()],
                        None => vec!["catalogue".into()],
                    };
                    let e = Error::usage(format!("`{name}` stands for both `{other}` and `{}`", source.name));
                    return Err(WrongValue { path, what: e.hint("leave it with one of the two") });
                }
            }
        }
        for (name, kind) in &self.kinds {
            if name.trim().is_empty() || kind.trim().is_empty() {
                let e = expected(&format!("kinds.{name}"), format!("`{kind}`"), "a source with its kind");
                return Err(WrongValue::new(&["kinds", name], e));
            }
        }
        Ok(())
    }

    fn check_filters(&self) -> Result<(), WrongValue> {
        let filters = &self.filters;
        let bounds: [(&str, &Bounds); 5] = [
            ("turns", &filters.turns),
            ("words", &filters.words),
            ("chars", &filters.chars),
            ("question_words", &filters.question_words),
            ("answer_words", &filters.answer_words),
        ];
        for (key, bounds) in bounds {
            if let (Some(min), Some(max)) = (bounds.min, bounds.max)
                && min > max
            {
                let e = Error::usage(format!("`filters.{key}` keeps nothing: min is {min}, max is {max}"))
                    .hint("exchange the two");
                return Err(WrongValue::new(&["filters", key], e));
            }
        }
        for pattern in &filters.drop_matching {
            if let Err(e) = regex::Regex::new(pattern) {
                let text = e.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let e = Error::usage(format!("`{pattern}` is not a regular expression: {reason}"))
                    .hint("escape special characters with \\\\, or write the pattern in single quotes");
                return Err(WrongValue::new(&["filters", "drop_matching"], e));
            }
        }
        for code in &filters.languages {
            if whatlang::Lang::from_code(code).is_none() {
                let codes: Vec<&str> = whatlang::Lang::all().iter().map(|lang| lang.code()).collect();
                let e = expected("languages", format!("`{code}`"), "a code of ISO 639-3 such as eng or deu").hint(
                    match whatlang::Lang::all().iter().find(|l| l.eng_name().eq_ignore_ascii_case(code)) {
                        Some(lang) => format!("write `{}`", lang.code()),
                        None => format!("known: {}", codes.join(", ")),
                    },
                );
                return Err(WrongValue::new(&["filters", "languages"], e));
            }
        }
        for (name, least) in &filters.ratings {
            let path = ["filters", "ratings", name.as_str()];
            if !RATINGS.contains(&name.as_str()) {
                let hint = match nearest(name, RATINGS).first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", RATINGS.join(", ")),
                };
                let e = Error::usage(format!("there is no rating called `{name}`")).hint(hint);
                return Err(WrongValue::new(&path, e));
            }
            if !least.is_finite() {
                return Err(WrongValue::new(&path, expected(name, least, "a number")));
            }
        }
        if let Some(rule) = &filters.duplicates {
            if !(rule.similarity > 0.0 && rule.similarity <= 1.0) {
                let e = expected("similarity", rule.similarity, "a number above 0 and at most 1");
                return Err(WrongValue::new(&["filters", "duplicates", "similarity"], e));
            }
            if !(1..=LONGEST_SHINGLE).contains(&rule.shingle) {
                let e = expected("shingle", rule.shingle, "a number of words from 1 to 20");
                return Err(WrongValue::new(&["filters", "duplicates", "shingle"], e));
            }
        }
        if let Some(rule) = filters.duplicate_images.as_ref().filter(|rule| rule.distance > LARGEST_DISTANCE) {
            let e = expected("distance", rule.distance, "a number of bits from 0 to 7");
            return Err(WrongValue::new(&["filters", "duplicate_images", "distance"], e));
        }
        if let Some(rule) = &filters.leaks {
            if rule.benchmarks.is_empty() {
                let e = Error::usage("`leaks` names no benchmark").hint("write a path per name: `mmvp = \"MMVP/\"`");
                return Err(WrongValue::new(&["filters", "leaks", "benchmarks"], e));
            }
            if rule.distance >= HASH_BITS {
                let e = expected("distance", rule.distance, "a number of bits from 0 to 63");
                return Err(WrongValue::new(&["filters", "leaks", "distance"], e));
            }
        }
        Ok(())
    }
}

impl super::SystemPromptRule {
    /// Returns the texts by source.
    ///
    /// # Errors
    /// A source has no name.
    pub fn prompts(&self) -> burgess_base::Result<SystemPrompts> {
        let mut prompts = match self.texts {
            super::PromptSet::Cambrian1 => SystemPrompts::paper(),
            super::PromptSet::None => SystemPrompts::default(),
        };
        for (source, text) in &self.sources {
            if text.trim().is_empty() && !source.trim().is_empty() {
                prompts.remove(source);
                continue;
            }
            prompts.set(source, crate::system_prompts::ResponseFormat::Texts(vec![text.clone()]))?;
        }
        Ok(prompts)
    }
}
