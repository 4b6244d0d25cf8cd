//! AI2D: a question about a labelled diagram, with lettered choices; accuracy of the letter.

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};

/// A benchmark of the AI2D family.
pub struct Ai2d {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: diagrams of the nano world.
pub static NANO: Ai2d = Ai2d {
    card: Card {
        id: "nano-ai2d",
        category: Category::Knowledge,
        metric: "accuracy",
        version: "1",
        citation: "Kembhavi et al. 2016, A Diagram Is Worth a Dozen Images, arXiv:1603.07396",
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

impl Benchmark for Ai2d {
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
