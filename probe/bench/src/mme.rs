//! MME: two yes/no questions about each picture, one to be affirmed and one to be denied.
//!
//! The published score of a subtask is acc% + acc⁺% (0–200): acc counts questions, acc⁺ pictures with both
//! questions right; the total adds up subtasks. Here every score lies between 0 and 100, so a subtask scores
//! (acc + acc⁺) / 2 and the total is the mean over subtasks, which is the published total divided by
//! 2 · number of subtasks. (The study divides the perception total of 2000 by 20: the same number.)
//!
//! Guessing gives (50 + 25) / 2 = 37.5; always the same word gives 25.

use super::score::{self, Item};
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};
use burgess_base::Result;

/// A benchmark of the MME family.
pub struct Mme {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: pictures of the nano world.
pub static NANO: Mme = Mme {
    card: Card {
        id: "nano-mme",
        category: Category::General,
        metric: "(acc + acc+) / 2, mean of subtasks",
        version: "1",
        citation: "Fu et al. 2023, MME: A Comprehensive Evaluation Benchmark for Multimodal LLMs, arXiv:2306.13394",
        form: Form::YesNo,
        max_new_tokens: 4,
        source: None,
    },
};

impl Benchmark for Mme {
    fn card(&self) -> &Card {
        &self.card
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        format!("{} Please answer yes or no.", q.question)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        match score::yes_no(answer) {
            Some(said) => Judged::new(if said { "yes" } else { "no" }, score::yes_no(&q.answer) == Some(said)),
            None => Judged::unparsed(),
        }
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<Item>> {
        let mut items: Vec<Item> = score::pairs(qs, p, |q| (&q.subtask, &q.image_id))?
            .into_iter()
            .map(|(q, [a, b])| Item::new(q, ((a + b) / 2.0 + a * b) / 2.0))
            .collect();
        score::equal_subtasks(&mut items);
        Ok(items)
    }
}
