//! OCRBench: read what is written; right if the answer contains the expected text.
//!
//! The official rule: both lower-cased and trimmed, line breaks as spaces, then containment. It forgives any
//! words around the text, and digits around a number (`12` is contained in `3120`).

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};

/// A benchmark of the OCRBench family.
pub struct OcrBench {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: text rendered into pictures of the nano world.
pub static NANO: OcrBench = OcrBench {
    card: Card {
        id: "nano-ocrbench",
        category: Category::OcrChart,
        metric: "containment",
        version: "1",
        citation: "Liu et al. 2023, OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models, arXiv:2305.07895",
        form: Form::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl Benchmark for OcrBench {
    fn card(&self) -> &Card {
        &self.card
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        score::short_answer_prompt(&q.question)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        match answer.trim() {
            "" => Judged::unparsed(),
            said => Judged::new(said, score::contains(said, &q.answer)),
        }
    }
}
