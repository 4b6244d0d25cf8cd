//! Scores predictions that were made elsewhere: JSON lines `{"id": …, "answer": …}`, and the files that lmms-eval,
//! VLMEvalKit and LLaVA write ([`files`]).

mod entries;
mod files;
mod recorded;
mod report;
mod sheet;

pub use entries::{Harness, PredictedAnswer, Predictions};
pub use files::read_predictions;
pub use recorded::{RecordedEntry, RecordedScores, read_recorded_scores};
pub use report::{IdExamples, PredictionVerdict, ScoreReport, judge_predictions};
