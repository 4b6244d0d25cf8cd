//! GQA: open questions with a one-word or one-phrase answer, scored by exact match.
//!
//! The official script compares strings; answers are lower-cased and lose trailing full stops before, as every
//! published number for generating models does it.

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};

/// A benchmark of the GQA family.
pub struct Gqa {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: pictures of the nano world.
pub static NANO: Gqa = Gqa {
    card: Card {
        id: "nano-gqa",
        category: Category::General,
        metric: "exact match",
        version: "1",
        citation: "Hudson and Manning 2019, GQA: A New Dataset for Real-World Visual Reasoning, arXiv:1902.09506",
        form: Form::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl Benchmark for Gqa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        score::short_answer_prompt(&q.question)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        score::judge_exact(q, answer)
    }
}
