//! The format of a benchmark file: the tables and keys of its TOML. `benchmarks/README.md` is the guide.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A benchmark that is declared in a TOML file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BenchmarkFile {
    /// Id of the benchmark in files and on the command line [default: the name of the file].
    pub id: Option<String>,
    /// Category: General, Knowledge, OCR & Chart, Vision-centric, or one of your own.
    pub category: String,
    /// What the score measures, in a few words [default: from the score].
    pub metric: Option<String>,
    /// Version, to be incremented whenever the same answers could score differently.
    #[serde(default = "first_version")]
    pub version: String,
    /// The publication that defines the questions.
    #[serde(default)]
    pub citation: String,
    /// Maximum number of generated tokens per answer.
    #[serde(default = "answer_tokens")]
    pub max_new_tokens: usize,
    /// Whose rules `prompt`, `answer` and `score` are.
    #[serde(default)]
    pub rules: RuleOwner,
    /// Where the questions are.
    pub data: DataTable,
    /// Which columns hold the parts of a question.
    pub columns: Option<ColumnTable>,
    /// The columns of VLMEvalKit's edition, if `data.tsv` names one [default: those that all its files have].
    pub vlmevalkit: Option<ColumnTable>,
    /// How a question is asked.
    pub prompt: PromptTable,
    /// How an answer is read and compared.
    pub answer: AnswerTable,
    /// How verdicts become the score.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("x-default" = "see its table")))]
    pub score: ScoreTable,
    /// The rules of the task of lmms-eval 0.7.3 that asks the same questions.
    #[serde(rename = "lmms-eval")]
    pub lmms_eval: Option<LmmsEvalTable>,
    /// The rules of the cambrian-1 code.
    #[serde(rename = "cambrian-1")]
    pub cambrian: Option<RuleTable>,
}

/// Whose rules a benchmark file states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RuleOwner {
    /// The authors of the benchmark publish these rules.
    Official,
    /// The rules are the file's own, because the authors publish none for generated answers.
    #[default]
    Strict,
}

/// Where the questions are: a dataset of the hub, or files of your own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    /// A table (.jsonl, .json, .csv, .tsv or .parquet) or a folder, relative to this file; a folder holds
    /// metadata.jsonl, .csv, .tsv or .parquet beside its images, or is read as one row per image with the columns
    /// `file`, `name` (without extension) and `folder`.
    pub path: Option<String>,
    /// A dataset of the hub, such as `BaiqiL/NaturalBench-lmms-eval`.
    pub repository: Option<String>,
    /// Another name under which the hub has, or had, the same dataset.
    pub alias: Option<String>,
    /// The folder of the dataset that holds the files (its configuration).
    #[serde(default)]
    pub folder: String,
    /// The split: names of its files begin with it [default: test].
    pub split: Option<String>,
    /// Number of questions of the published edition; another number is noted in reports.
    #[serde(default)]
    pub questions: usize,
    /// The terms of use that its authors state.
    #[serde(default)]
    pub licence: String,
    /// Name of VLMEvalKit's edition of the same questions, such as `HallusionBench.tsv`.
    pub tsv: Option<String>,
    /// The folder to which paths of images are relative, itself relative to the table's folder [default: that folder].
    pub images: Option<String>,
    /// An expression over columns that is true for the rows that belong to the benchmark, such as `type == 'image'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Whether the questions are generated on this machine: DATA/bench/ID.jsonl in the form that Burgess writes.
    #[serde(default)]
    pub generated: bool,
}

/// The columns of a table that hold the parts of a question: the name of a column, with `?` at its end if it may be
/// missing; or, if it contains `{{`, a template over the columns of the row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ColumnTable {
    /// Unique id of the question [default: the number of the row, from 0].
    pub id: Option<String>,
    /// The image, or a list of columns with one image each; a column may hold a list of images, and a template the path
    /// of a folder, whose images are taken in the order of their names.
    pub image: Option<OneOrMore>,
    /// Whether rows without an image are asked, without one.
    #[serde(default)]
    pub image_optional: bool,
    /// Id of the image, by which questions about the same image are found [default: from the image].
    pub image_id: Option<String>,
    /// The text of the question.
    pub question: Option<String>,
    /// Further text for the prompt, such as a hint.
    pub context: Option<String>,
    /// One column for each choice, or a column that holds a list of them.
    pub options: Option<OneOrMore>,
    /// The right answer.
    pub answer: Option<String>,
    /// How the right answer is given.
    #[serde(default)]
    pub answer_is: AnswerIs,
    /// A column that holds a list of all accepted answers, or of the answers of annotators.
    pub answers: Option<String>,
    /// The subtask, for the scores by subtask [default: all].
    pub subtask: Option<String>,
    /// Id of the unit that is resampled as a whole for standard errors [default: the image].
    pub unit: Option<String>,
    /// A list: the row is one question for each of its items, which templates of this table see as `item`, and its
    /// number, from 0, as `item_index`; ids get the number [default: one question per row].
    pub each: Option<String>,
    /// Whether the facts `width` and `height` of the first image, in pixels, are read from the images.
    #[serde(default)]
    pub image_size: bool,
    /// Further columns that templates use as `row['…']`, because their names are not identifiers.
    #[serde(default)]
    pub extra: Vec<String>,
    /// Further values of a question by name, for prompts, scores and readers: `facts.NAME`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// How a column gives the right answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AnswerIs {
    /// As it must be answered: a letter, yes or no, or text.
    #[default]
    Answer,
    /// The number of an option, from 0.
    Index,
    /// The text of an option.
    Text,
    /// 1 or 0, true or false, yes or no, in any case, for yes and no.
    Boolean,
}

/// One text or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(untagged))]
pub enum OneOrMore {
    /// One text.
    One(String),
    /// A list of texts.
    More(Vec<String>),
}

impl OneOrMore {
    /// Returns the texts.
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore::More(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// How a question is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromptTable {
    /// A minijinja template with the variables question, options, context, subtask, facts and n_images, and the filters
    /// `letter` (0 becomes A) and `lettered` (options become lines `A. …`).
    pub template: String,
    /// The prompt in words, and whose it is [default: the template].
    pub description: Option<String>,
}

/// How an answer is read and compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerTable {
    /// The reader: letter, yes-no, number, exact, normalised, vqa, anls, contains, relaxed or another that the guide
    /// lists
    pub read: String,
    /// A variant of the reader; the guide lists them.
    pub by: Option<String>,
    /// A regular expression with a group `answer`: its last match in the answer is what the reader gets; an answer
    /// without a match is unparsed.
    pub pattern: Option<String>,
    /// Maximum error of a number relative to the right one.
    pub relative: Option<f64>,
    /// Maximum error of a number.
    pub absolute: Option<f64>,
    /// Smallest similarity or overlap that counts as right; without it, the similarity or overlap is the score.
    pub threshold: Option<f64>,
    /// Coordinates of boxes and points in answers: pixels, unit (0 to 1) or thousand (0 to 1000).
    pub coordinates: Option<String>,
    /// How questions with choices are read, where others of the same benchmark have none.
    pub choice: Option<Box<AnswerTable>>,
    /// Probability, 0 to 1, that a guess is right: a number, or an expression over the question [default: 1/options].
    pub guess: Option<String>,
    /// The rule in words [default: from the reader].
    pub description: Option<String>,
    /// Where the rule is published [default: this file].
    pub source: Option<String>,
    /// How this rule differs from that source, and why.
    pub difference: Option<String>,
}

/// How verdicts become the score. Texts are expressions over a question: `unit`, `subtask`, `image_id`, `id`, `answer`,
/// `facts.NAME`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScoreTable {
    /// Questions with the same value form one item, which is right only if all of them are.
    pub all_right: Option<String>,
    /// The number of questions of every such item; another number is an error.
    pub size: Option<usize>,
    /// Items with the same value count together as much as those with any other; several values are nested means.
    pub mean_of: Option<OneOrMore>,
    /// An expression that is true for the questions that count for the score; all are reported by subtask.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Further numbers that are reported beside the score.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("x-default" = "[]")))]
    pub numbers: Vec<NumberTable>,
}

/// A further number beside the score.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NumberTable {
    /// Name of the number.
    pub name: String,
    /// As in `score`.
    pub all_right: Option<String>,
    /// As in `score`.
    pub mean_of: Option<OneOrMore>,
    /// An expression that is true for the questions that count.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// What is averaged instead of the score, if the reader measures more: for `bbox`, `iou`, `iou 0.3` or `centre`.
    pub measure: Option<String>,
    /// What a perfect result is: 100 for percent, 1 for a fraction [default: 100; 1 under lmms-eval].
    pub scale: Option<f64>,
}

/// A further set of rules; what it leaves out is as in the file's own rules.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// What the score measures.
    pub metric: Option<String>,
    /// How a question is asked.
    pub prompt: Option<PromptTable>,
    /// How an answer is read and compared.
    pub answer: Option<AnswerTable>,
    /// How verdicts become the score.
    pub score: Option<ScoreTable>,
}

/// The rules of a task of lmms-eval 0.7.3; what they leave out is as in the file's own rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LmmsEvalTable {
    /// Name of the task.
    pub task: String,
    /// Name of its main metric.
    pub metric: String,
    /// How a question is asked.
    pub prompt: Option<PromptTable>,
    /// How an answer is read and compared.
    pub answer: Option<AnswerTable>,
    /// How verdicts become the score; its `numbers` are those that lmms-eval prints.
    pub score: Option<ScoreTable>,
}

fn first_version() -> String {
    "1".into()
}

fn answer_tokens() -> usize {
    16
}
