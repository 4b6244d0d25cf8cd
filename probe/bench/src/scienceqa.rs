//! ScienceQA: a question that needs a fact about what the picture shows, with lettered choices; accuracy of the letter.

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};

/// A benchmark of the ScienceQA family.
pub struct ScienceQa {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: pictures and facts of the nano world.
pub static NANO: ScienceQa = ScienceQa {
    card: Card {
        id: "nano-scienceqa",
        category: Category::Knowledge,
        metric: "accuracy",
        version: "1",
        citation: "Lu et al. 2022, Learn to Explain: Multimodal Reasoning via Thought Chains for Science QA, arXiv:2209.09513",
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

impl Benchmark for ScienceQa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        score::letter_prompt(q)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        score::judge_letter(q, answer)
    }
}
