//! Predictions as they are read from a file.

use crate::skipped::SkippedRows;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// The program or format that a prediction file is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Harness {
    /// JSON lines of the form `{"id": …, "answer": …}`.
    #[default]
    #[serde(rename = "burgess")]
    Burgess,
    /// The sample files of lmms-eval, `…_samples_TASK.jsonl`.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
    /// A table of VLMEvalKit with `index` and `prediction`: `.xlsx`, `.tsv` or `.json`.
    #[serde(rename = "VLMEvalKit")]
    VlmEvalKit,
    /// JSON lines of the form `{"question_id": …, "text": …}`.
    #[serde(rename = "LLaVA")]
    Llava,
}

impl Harness {
    /// Returns the name as it appears in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Burgess => "burgess",
            Self::LmmsEval => "lmms-eval",
            Self::VlmEvalKit => "VLMEvalKit",
            Self::Llava => "LLaVA",
        }
    }
}

/// An answer, and what its file says about the question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PredictedAnswer {
    /// The raw answer.
    pub text: String,
    /// The question's text, if the file repeats it.
    pub question: Option<String>,
    /// The right answer, if the file repeats it.
    pub target: Option<String>,
}

/// Answers, keyed by the ids that their file gives to the questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// The harness that wrote the file, which defines what the ids mean.
    pub harness: Harness,
    /// One answer per id.
    pub answers: HashMap<String, PredictedAnswer>,
    /// Ids that occur more than once. If their answers differ, none of them is used, because choosing one would be a
    /// guess.
    pub duplicates: BTreeSet<String>,
    /// Entries without an answer (null, empty, absent), per reason, with ids as examples. They count as empty answers.
    pub unanswered: Vec<SkippedRows>,
    /// Entries that identify no question, per reason.
    pub unusable: Vec<SkippedRows>,
}

impl From<HashMap<String, String>> for Predictions {
    fn from(answers: HashMap<String, String>) -> Self {
        let answers = answers
            .into_iter()
            .map(|(id, text)| (id, PredictedAnswer { text, ..PredictedAnswer::default() }))
            .collect();
        Self { answers, ..Self::default() }
    }
}
