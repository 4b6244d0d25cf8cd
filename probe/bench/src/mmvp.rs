//! MMVP: the same question about two pictures that differ in one visual detail, so that the right answers differ.
//!
//! A pair counts only if both answers are right: guessing gives 25, always the same letter 0.

use super::score::{self, Item};
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};
use burgess_base::Result;

/// A benchmark of the MMVP family.
pub struct Mmvp {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: pairs of nano-world pictures.
pub static NANO: Mmvp = Mmvp {
    card: Card {
        id: "nano-mmvp",
        category: Category::VisionCentric,
        metric: "pair accuracy",
        version: "1",
        citation: "Tong et al. 2024, Eyes Wide Shut? Exploring the Visual Shortcomings of Multimodal LLMs, arXiv:2401.06209",
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

impl Benchmark for Mmvp {
    fn card(&self) -> &Card {
        &self.card
    }

    /// The choices stand in one line, `(a) … (b) …`, as the published file gives them.
    fn prompt(&self, q: &Question, _: Rules) -> String {
        let options: Vec<String> = ('a'..='z').zip(&q.options).map(|(l, o)| format!("({l}) {o}")).collect();
        format!("{}\n{}\n{}", q.question, options.join(" "), score::LETTER_LINE)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        let judged = score::judge_letter(q, answer);
        Judged { parsed: judged.parsed.map(|l| format!("({})", l.to_lowercase())), ..judged }
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<Item>> {
        Ok(score::pairs(qs, p, |q| &q.unit)?.into_iter().map(|(q, [a, b])| Item::new(q, a * b)).collect())
    }
}
