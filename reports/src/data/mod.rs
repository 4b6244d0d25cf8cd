//! What is in a file of training conversations, as terminal text and as one self-contained HTML page.
//!
//! [`DataSummary`] has the form that `burgess data show --json` prints.

mod page;
mod tables;
mod terminal;

pub use page::{DataImage, data_page};
pub use terminal::data_text;

use burgess_base::skipped::SkippedEntries;
use serde::Deserialize;

/// Counts of a pool of conversations.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct DataSummary {
    /// Number of files.
    pub files: u64,
    /// Number of data files beside these that are not read, because they have another format.
    pub other_files: u64,
    /// Size of the files in bytes.
    pub stored: u64,
    /// All conversations.
    pub all: DataGroup,
    /// The sources, largest first.
    pub sources: Vec<DataGroup>,
    /// The kinds of data, largest first; empty if none is known.
    pub kinds: Vec<DataGroup>,
    /// Numbers of conversations by their number of questions; the last counts 20 and more.
    pub turns: Vec<(u64, u64)>,
    /// Number of conversations with a system turn.
    pub system: u64,
    /// Quality ratings, if there are any.
    pub ratings: Vec<DataRating>,
    /// Languages of a sample, most frequent first.
    pub languages: Vec<(String, u64)>,
    /// Number of conversations in that sample.
    pub languages_of: u64,
    /// Whether the images were looked for.
    pub images_checked: bool,
    /// Names of the first images that do not exist.
    pub missing: Vec<String>,
    /// Number of image paths that lead out of the directory of images.
    pub outside: u64,
    /// Number of texts that the tokenizer could not encode.
    pub not_encoded: u64,
    /// Entries that cannot be used, by reason and source.
    pub skipped: Vec<SkippedEntries>,
    /// Entries that are used but odd, by reason and source.
    pub odd: Vec<SkippedEntries>,
    /// Files that could not be read to their end, with what is wrong.
    pub damaged: Vec<(String, String)>,
    /// A random sample of conversations.
    pub samples: Vec<DataSample>,
}

/// Counts of one source or kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct DataGroup {
    /// Name; may be empty.
    pub name: String,
    /// Number of conversations.
    pub conversations: u64,
    /// Share of all conversations, from 0 to 1.
    pub share: f64,
    /// Number of conversations without an image.
    pub text_only: u64,
    /// Number of conversations with more than one image.
    pub several_images: u64,
    /// Number of images.
    pub images: u64,
    /// Number of images that do not exist.
    pub missing: u64,
    /// Number of answers of at most three words.
    pub short_answers: u64,
    /// Number of answers of one word.
    pub one_word_answers: u64,
    /// Lengths of questions in words.
    pub question_words: Option<DataLengths>,
    /// Lengths of answers in words.
    pub answer_words: Option<DataLengths>,
    /// Lengths of questions in tokens, if they were counted.
    pub question_tokens: Option<DataLengths>,
    /// Lengths of answers in tokens, if they were counted.
    pub answer_tokens: Option<DataLengths>,
}

/// Mean and quantiles of lengths.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct DataLengths {
    /// Number of texts.
    pub count: u64,
    /// Sum of the lengths.
    pub total: u64,
    /// Mean length.
    pub mean: f64,
    /// 5 % are at most as long.
    pub p5: f64,
    /// 25 % are at most as long.
    pub p25: f64,
    /// Half are at most as long.
    pub median: f64,
    /// 75 % are at most as long.
    pub p75: f64,
    /// 95 % are at most as long.
    pub p95: f64,
    /// 99 % are at most as long.
    pub p99: f64,
    /// The largest length.
    pub largest: u32,
    /// Counts by powers of two.
    pub bars: Vec<DataBar>,
}

/// The number of texts whose length lies in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct DataBar {
    /// Smallest length.
    pub from: u64,
    /// Largest length.
    pub to: u64,
    /// Number of texts.
    pub count: u64,
}

/// The lowest ratings of one quality.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct DataRating {
    /// Name of the quality.
    pub name: String,
    /// Number of conversations that are rated.
    pub rated: u64,
    /// Mean of the lowest ratings.
    pub mean: f64,
    /// Number of conversations whose lowest rating is 1, 2, …, 5.
    pub counts: [u64; 5],
}

/// A conversation of the sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct DataSample {
    /// Where it is: file and line.
    pub place: String,
    /// Id; may be empty.
    pub id: String,
    /// The data source; may be empty.
    pub source: String,
    /// Kind of data, if it is known.
    pub kind: Option<String>,
    /// Paths or names of the images.
    pub images: Vec<String>,
    /// Speakers (`system`, `human`, `gpt`) and texts.
    pub turns: Vec<(String, String)>,
    /// Number of turns and of images that are left out.
    pub left_out: (usize, usize),
}

impl DataGroup {
    /// Returns the number of answers.
    fn answers(&self) -> u64 {
        self.answer_words.as_ref().map_or(0, |words| words.count)
    }

    /// Returns the number of questions.
    fn questions(&self) -> u64 {
        self.question_words.as_ref().map_or(0, |words| words.count)
    }
}

#[cfg(test)]
mod tests;
