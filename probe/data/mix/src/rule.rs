//! The rules of a mix in the order in which they are applied.

use crate::mix::{Filters, KeepOrDrop, Mix, TextOnly};

/// A rule that leaves out entries. The order of the variants is that in which the rules are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rule {
    /// The source is not listed.
    Unlisted,
    /// The number of questions.
    Turns,
    /// The number of words.
    Words,
    /// The number of characters.
    Chars,
    /// The number of words of a question.
    QuestionWords,
    /// The number of words of an answer.
    AnswerWords,
    /// A regular expression matches.
    DropMatching,
    /// With or without an image.
    TextOnly,
    /// The language.
    Languages,
    /// A quality rating.
    Ratings,
    /// An image file is missing.
    MissingImages,
    /// The conversation equals an earlier one.
    Duplicates,
    /// An image equals that of an earlier entry.
    DuplicateImages,
    /// An image is one of a benchmark.
    Leaks,
    /// The largest number of the source.
    Take,
    /// The threshold.
    Threshold,
    /// The ratios of kinds.
    Ratios,
}

impl Rule {
    /// All rules in their order.
    pub const ALL: [Self; 17] = [
        Self::Unlisted,
        Self::Turns,
        Self::Words,
        Self::Chars,
        Self::QuestionWords,
        Self::AnswerWords,
        Self::DropMatching,
        Self::TextOnly,
        Self::Languages,
        Self::Ratings,
        Self::MissingImages,
        Self::Duplicates,
        Self::DuplicateImages,
        Self::Leaks,
        Self::Take,
        Self::Threshold,
        Self::Ratios,
    ];

    /// Returns the name, which is the key in the TOML file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Turns => "turns",
            Self::Words => "words",
            Self::Chars => "chars",
            Self::QuestionWords => "question_words",
            Self::AnswerWords => "answer_words",
            Self::DropMatching => "drop_matching",
            Self::TextOnly => "text_only",
            Self::Languages => "languages",
            Self::Ratings => "ratings (quality)",
            Self::MissingImages => "missing_images",
            Self::Duplicates => "duplicates",
            Self::DuplicateImages => "duplicate_images",
            Self::Leaks => "leaks",
            Self::Take => "take",
            Self::Threshold => "threshold",
            Self::Ratios => "ratios",
        }
    }

    /// Returns the rules that a mix has; `take` is whether a source has a largest number.
    pub fn of(mix: &Mix, take: bool) -> Vec<Self> {
        let Filters { turns, words, chars, question_words, answer_words, .. } = &mix.filters;
        let filters = &mix.filters;
        let has = |rule: &Self| match rule {
            Self::Unlisted => mix.unlisted == KeepOrDrop::Drop,
            Self::Turns => !turns.is_open(),
            Self::Words => !words.is_open(),
            Self::Chars => !chars.is_open(),
            Self::QuestionWords => !question_words.is_open(),
            Self::AnswerWords => !answer_words.is_open(),
            Self::DropMatching => !filters.drop_matching.is_empty(),
            Self::TextOnly => filters.text_only != TextOnly::Keep,
            Self::Languages => !filters.languages.is_empty(),
            Self::Ratings => !filters.ratings.is_empty(),
            Self::MissingImages => filters.missing_images == KeepOrDrop::Drop,
            Self::Duplicates => filters.duplicates.is_some(),
            Self::DuplicateImages => filters.duplicate_images.is_some(),
            Self::Leaks => filters.leaks.is_some(),
            Self::Take => take,
            Self::Threshold => mix.threshold.is_some(),
            Self::Ratios => mix.ratios.is_some(),
        };
        Self::ALL.into_iter().filter(has).collect()
    }
}
