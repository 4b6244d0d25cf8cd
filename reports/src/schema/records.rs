//! The JSON records beside `results.json`: samples, training steps, and failed runs.

use serde::{Deserialize, Serialize};

/// One question with its answers: a line of `samples/<benchmark>.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Id of the question, unique within the benchmark.
    pub id: String,
    /// Id of the `UnitScore` to which it belongs.
    pub unit: String,
    /// The benchmark's own subtask, such as `count`; empty in files that predate this field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subtask: String,
    /// The question as the benchmark states it.
    pub question: String,
    /// The choices in the order of their letters; empty for other questions and in files that predate this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The text given to the model, as formatted by the benchmark.
    pub prompt: String,
    /// Path of the image, absolute or relative to the study's directory; several are separated by line breaks.
    pub image: String,
    /// The right answer.
    pub target: String,
    /// The answer that the model generated from the image.
    pub answer: String,
    /// The answer as the scorer parsed it.
    pub parsed: Option<String>,
    /// Score of the answer, 0 to 1.
    pub score: f64,
    /// The answer that the model generated without the image.
    pub blind_answer: String,
    /// Score of the blind answer, 0 to 1.
    pub blind_score: f64,
    /// Log-likelihoods of the possible answers, if requested and if the answers can be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihoods: Option<Likelihoods>,
    /// Number of generated tokens of `answer`; `None` in files that predate this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Whether the answer was ended by the benchmark's limit of tokens and not by the model. It is unknown, and then
    /// false, if `tokens` is `None`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_limit: bool,
    /// The marks of a judge, if one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeVerdict>,
}

/// What a language model as judge said about an answer beside the reference answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeVerdict {
    /// Name of the judge.
    pub model: String,
    /// Marks of the reference and of the answer, 1 to 10; `None` if they could not be read from `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<[f64; 2]>,
    /// The judge's reply.
    pub text: String,
    /// Tokens that the judge read.
    pub prompt_tokens: u64,
    /// Tokens that the judge wrote.
    pub completion_tokens: u64,
    /// Whether the numbers of tokens are estimated, because the server did not give them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// The possible answers to a question, scored by log-likelihood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Likelihoods {
    /// Each possible answer with the log-probability of its whole text and end token, in nats.
    pub options: Vec<(String, f64)>,
    /// The answer with the highest log-likelihood.
    pub answer: String,
    /// Score of that answer, 0 to 1.
    pub score: f64,
}

/// One optimiser step: a line of `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainStep {
    /// Training stage: `align` or `tune`.
    pub stage: String,
    /// Number of the step within its stage, from 1.
    pub step: usize,
    /// Mean cross-entropy over the supervised tokens, in nats.
    pub loss: f64,
    /// Largest learning rate of any parameter group.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Number of tokens of the batch.
    pub tokens: usize,
    /// Wall-clock seconds of the step.
    pub seconds: f64,
}

/// A run without results, and the cause: the content of `failed.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MissingRun {
    /// Name of the arm.
    pub arm: String,
    /// Seed of the run.
    pub seed: u64,
    /// What prevented the results.
    pub cause: String,
    /// What to do next.
    pub hint: Option<String>,
}
