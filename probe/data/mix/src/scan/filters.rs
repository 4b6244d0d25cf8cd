//! The filters that look at one entry alone.

use crate::mix::{Filters, KeepOrDrop, TextOnly};
use crate::pool::{Entry, Speaker};
use crate::rule::Rule;
use burgess_base::{Error, Result};
use regex::RegexSet;
use whatlang::Lang;

/// Number of bytes of an entry by which its language is recognised.
const LANGUAGE_BYTES: usize = 4000;
/// The mark of an image in a question, which is not a word.
const IMAGE_MARK: &str = "<image>";

/// The filters of a mix, ready to be applied on several threads.
pub struct EntryFilters {
    filters: Filters,
    patterns: Option<RegexSet>,
    languages: Vec<Lang>,
    counts_text: bool,
}

impl EntryFilters {
    /// Prepares the filters of a mix.
    ///
    /// # Errors
    /// A regular expression is wrong or too large.
    pub fn new(filters: &Filters) -> Result<Self> {
        let patterns = match filters.drop_matching.as_slice() {
            [] => None,
            some => Some(RegexSet::new(some).map_err(|e| {
                Error::usage(format!("`drop_matching`: {e}")).hint("simplify the patterns, or leave some out")
            })?),
        };
        let languages = filters.languages.iter().filter_map(Lang::from_code).collect();
        let bounds = [filters.words, filters.chars, filters.question_words, filters.answer_words];
        let counts_text = bounds.iter().any(|bounds| !bounds.is_open());
        Ok(Self { filters: filters.clone(), patterns, languages, counts_text })
    }

    /// Returns the first rule that leaves the entry out.
    pub fn verdict(&self, entry: &Entry<'_>) -> Option<Rule> {
        let filters = &self.filters;
        if !filters.turns.is_open() && !filters.turns.keeps(entry.pairs().count() as u64) {
            return Some(Rule::Turns);
        }
        if self.counts_text
            && let Some(rule) = self.by_length(entry)
        {
            return Some(rule);
        }
        if let Some(patterns) = &self.patterns
            && entry.turns.iter().any(|turn| patterns.is_match(turn.text))
        {
            return Some(Rule::DropMatching);
        }
        match (filters.text_only, entry.images.is_empty()) {
            (TextOnly::Drop, true) | (TextOnly::Only, false) => return Some(Rule::TextOnly),
            _ => {}
        }
        if !self.languages.is_empty() && !self.speaks(entry) {
            return Some(Rule::Languages);
        }
        self.badly_rated(entry).then_some(Rule::Ratings)
    }

    fn by_length(&self, entry: &Entry<'_>) -> Option<Rule> {
        let filters = &self.filters;
        let (mut words, mut chars) = (0u64, 0u64);
        let (mut question_outside, mut answer_outside) = (false, false);
        for turn in entry.turns {
            let count = turn.text.split_whitespace().filter(|word| *word != IMAGE_MARK).count() as u64;
            match turn.from {
                Speaker::System => continue,
                Speaker::Human => question_outside |= !filters.question_words.keeps(count),
                Speaker::Gpt => answer_outside |= !filters.answer_words.keeps(count),
            }
            words += count;
            if !filters.chars.is_open() {
                chars += turn.text.chars().count() as u64;
            }
        }
        match () {
            () if !filters.words.keeps(words) => Some(Rule::Words),
            () if !filters.chars.keeps(chars) => Some(Rule::Chars),
            () if question_outside => Some(Rule::QuestionWords),
            () if answer_outside => Some(Rule::AnswerWords),
            () => None,
        }
    }

    /// Whether the entry's language is one of the wanted.
    fn speaks(&self, entry: &Entry<'_>) -> bool {
        let mut text = String::new();
        for turn in entry.turns {
            let room = LANGUAGE_BYTES.saturating_sub(text.len());
            let end = (0..=room.min(turn.text.len())).rev().find(|end| turn.text.is_char_boundary(*end)).unwrap_or(0);
            text.push_str(turn.text.get(..end).unwrap_or_default());
            text.push('\n');
            if end < turn.text.len() {
                break;
            }
        }
        match whatlang::detect(&text.replace(IMAGE_MARK, " ")).filter(whatlang::Info::is_reliable) {
            Some(info) => self.languages.contains(&info.lang()),
            None => self.filters.unknown_language == KeepOrDrop::Keep,
        }
    }

    /// Whether a rating is below its smallest value, or absent where that is not allowed.
    fn badly_rated(&self, entry: &Entry<'_>) -> bool {
        self.filters.ratings.iter().any(|(name, least)| match entry.ratings.get(name).and_then(|rating| rating.least) {
            Some(rating) => f64::from(rating) < *least,
            None => self.filters.unrated == KeepOrDrop::Drop,
        })
    }
}
