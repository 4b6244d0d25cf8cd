//! A zoo: many encoders as arms of one evaluator, scored in full or by a race.

mod glob;
mod list;
mod models;
mod race;
mod score;
mod tags;

pub use list::{ZooFailure, ZooList, expand, open_all};
pub use race::{RaceProgress, RaceRun};
pub use score::{ZooOptions, ZooOutcome, names, next_tasks, plan_text, score, study_file};
pub use tags::TagSource;
