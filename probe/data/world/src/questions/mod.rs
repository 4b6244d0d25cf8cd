//! Questions with right answers, one file per benchmark: `ask` draws a training question about a given image, and
//! `unit` draws a unit of the benchmark itself.

use burgess_base::stream::Stream;

use crate::dice;
use crate::scene::Scene;

mod ai2d;
mod chartqa;
mod cvbench_2d;
mod cvbench_3d;
mod docvqa;
mod family;
mod gqa;
mod mme;
mod mmvp;
mod question;
mod scienceqa;
mod unit;

pub use family::QuestionFamily;
pub use question::{AnswerForm, QaPair, Question, explained};
pub use scienceqa::about;
pub use unit::BenchmarkUnit;

/// A benchmark of the nano world.
pub struct NanoBenchmark {
    /// Id of the benchmark.
    pub name: &'static str,
    /// Draws unit `index`, whose images are all test scenes. The index alone determines subtask and position of the
    /// right option.
    pub unit: fn(&mut Stream, usize) -> BenchmarkUnit,
    /// Draws a question in the form of this benchmark about a given image, if there is one.
    pub ask: fn(&Scene, &mut Stream) -> Option<Question>,
}

/// The nine benchmarks of the nano world.
pub const BENCHMARKS: [NanoBenchmark; 9] = [
    NanoBenchmark { name: "nano-mme", unit: mme::unit, ask: mme::ask },
    NanoBenchmark { name: "nano-gqa", unit: gqa::unit, ask: gqa::ask },
    NanoBenchmark { name: "nano-scienceqa", unit: scienceqa::unit, ask: scienceqa::ask },
    NanoBenchmark { name: "nano-ai2d", unit: ai2d::unit, ask: ai2d::ask },
    NanoBenchmark { name: "nano-docvqa", unit: docvqa::unit, ask: docvqa::ask },
    NanoBenchmark { name: "nano-chartqa", unit: chartqa::unit, ask: chartqa::ask },
    NanoBenchmark { name: "nano-cvbench-2d", unit: cvbench_2d::unit, ask: cvbench_2d::ask },
    NanoBenchmark { name: "nano-cvbench-3d", unit: cvbench_3d::unit, ask: cvbench_3d::ask },
    NanoBenchmark { name: "nano-mmvp", unit: mmvp::unit, ask: mmvp::ask },
];

impl Scene {
    /// Returns up to `n` different training questions in the forms of the benchmarks; fewer if the image has fewer.
    /// The first question of each form ends with the line that says how to answer.
    pub fn turns(&self, n: usize, s: &mut Stream) -> Vec<QaPair> {
        let mut questions: Vec<Question> = Vec::new();
        // The loop ends because every kind of image has at least one question (whether something is present).
        for attempt in 0.. {
            if questions.len() == n || (attempt >= n * 12 && !questions.is_empty()) {
                break;
            }
            let asked = match dice::chance(s, 6) {
                true => cvbench_3d::ask_level(self, s),
                false => (dice::pick(s, &BENCHMARKS).ask)(self, s),
            };
            if let Some(q) = asked
                && questions.iter().all(|old| old.text != q.text)
            {
                let open =
                    matches!(q.form, AnswerForm::Choice | AnswerForm::Pair | AnswerForm::Named) && dice::chance(s, 40);
                questions.push(if open { q.opened() } else { q });
            }
        }
        explained(&questions)
    }
}

#[cfg(test)]
mod checker;
#[cfg(test)]
mod tests;
