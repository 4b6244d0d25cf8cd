//! The filters of a mix as its TOML file states them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Smallest and largest value that is kept; both count as kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub min: Option<u64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max: Option<u64>,
}

impl Bounds {
    /// Returns whether a value is kept.
    pub fn keeps(&self, value: u64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }

    /// Returns whether neither bound is set.
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

/// What happens to entries without an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextOnly {
    /// They are kept.
    #[default]
    Keep,
    /// They are left out.
    Drop,
    /// All others are left out.
    Only,
}

/// What happens to entries of which something is unknown or missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeepOrDrop {
    /// They are kept.
    #[default]
    Keep,
    /// They are left out.
    Drop,
}

/// Rules that leave out entries one by one, before any balance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Number of questions with an answer.
    pub turns: Bounds,
    /// Number of words of all questions and answers together, divided by white space.
    pub words: Bounds,
    /// Number of characters of all questions and answers together.
    pub chars: Bounds,
    /// Number of words of each question: an entry with a question outside is left out. Image marks do not count.
    pub question_words: Bounds,
    /// Number of words of each answer: an entry with an answer outside is left out.
    pub answer_words: Bounds,
    /// Regular expressions: an entry with a turn that one of them matches is left out.
    pub drop_matching: Vec<String>,
    /// Whether entries without an image stay: `keep`, `drop`, or `only` these.
    pub text_only: TextOnly,
    /// Languages that are kept, as codes of ISO 639-3 (`eng`, `deu`, `cmn`), recognised from all texts of an entry; all
    /// if empty.
    pub languages: Vec<String>,
    /// Whether entries stay whose language is not recognised with certainty, because they are short: `keep` or `drop`.
    pub unknown_language: KeepOrDrop,
    /// Smallest rating of each quality: `relevance`, `image_correspondence`, `visual_dependency`, `formatting`.
    pub ratings: BTreeMap<String, f64>,
    /// Whether entries without one of these ratings stay: `keep` or `drop`.
    pub unrated: KeepOrDrop,
    /// Whether entries stay of whose images a file is missing: `keep` or `drop`. With `keep` files are not looked for.
    pub missing_images: KeepOrDrop,
    /// Leaves out conversations that equal an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub duplicates: Option<Duplicates>,
    /// Leaves out entries whose image equals that of an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub duplicate_images: Option<DuplicateImages>,
    /// Leaves out entries with an image of a benchmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub leaks: Option<Leaks>,
}

/// How conversations are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// By a 64-bit hash of their texts, without regard to case, punctuation and spacing.
    #[default]
    Exact,
    /// By the Jaccard similarity of their shingles, estimated by MinHash.
    Minhash,
}

/// Whether conversations about different images can be duplicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageIdentity {
    /// Only conversations about the same images, by their paths, are duplicates.
    #[default]
    Same,
    /// Conversations with the same text are duplicates, whatever their images.
    Any,
}

/// The rule that leaves out conversations that equal an earlier one; the first in the order of the pools stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// `exact`: equal texts apart from case, punctuation and spacing; `minhash`: similar ones.
    pub how: Comparison,
    /// Jaccard similarity of the sets of shingles from which on conversations are duplicates, for `minhash`; above 0,
    /// at most 1.
    pub similarity: f64,
    /// Number of successive words in a shingle, for `minhash`.
    pub shingle: u64,
    /// Whether duplicates must be about the `same` images, or `any`.
    pub images: ImageIdentity,
    /// Whether only conversations of one source are compared.
    pub within_source: bool,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { how: Comparison::Exact, similarity: 0.8, shingle: 3, images: ImageIdentity::Same, within_source: false }
    }
}

/// The rule that leaves out entries one of whose images equals that of an earlier one, by difference hashes of 64 bits.
/// Blank images, whose hash is 0, are not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DuplicateImages {
    /// Largest number of bits in which the hashes of equal images differ, from 0 to 7.
    pub distance: u32,
    /// Whether entries that name the same file are left out too. By default they stay: many sources ask several
    /// questions about one image.
    pub same_file: bool,
    /// Whether only images of one source are compared.
    pub within_source: bool,
}

/// The rule that leaves out entries with an image of a benchmark, by difference hashes of 64 bits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leaks {
    /// Path of each benchmark's images by name; under the id of a benchmark its published data are read, under any
    /// other name a directory of images.
    pub benchmarks: BTreeMap<String, PathBuf>,
    /// Largest number of bits in which the hashes of equal images differ.
    #[serde(default)]
    pub distance: u32,
}
