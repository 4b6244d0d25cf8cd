//! ChartQA: read values and labels from charts, scored by relaxed accuracy (5 % for numbers).

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};
use std::collections::BTreeSet;

/// A benchmark of the ChartQA family.
pub struct ChartQa {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO];

/// The small sibling: charts of the nano world.
pub static NANO: ChartQa = ChartQa {
    card: Card {
        id: "nano-chartqa",
        category: Category::OcrChart,
        metric: "relaxed accuracy (5 %)",
        version: "1",
        citation: "Masry et al. 2022, ChartQA: Question Answering about Charts, arXiv:2203.10244",
        form: Form::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl Benchmark for ChartQa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        score::short_answer_prompt(&q.question)
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        match answer.trim() {
            "" => Judged::unparsed(),
            said => Judged::new(said, score::relaxed_equal(said, &q.answer)),
        }
    }

    /// A number is right for every expected value within 5 %, so the best constant may lie between two of them;
    /// if so, some end of a tolerance interval is as good. These ends are candidates too (drawn in by one part in
    /// 10⁹, for rounding).
    fn constants(&self, qs: &[Question]) -> BTreeSet<String> {
        let mut set: BTreeSet<String> = qs.iter().map(|q| q.answer.clone()).collect();
        let edge = score::RELAXED_TOLERANCE * (1.0 - 1e-9);
        for value in qs.iter().filter_map(|q| score::number(&q.answer)).filter(|v| v.is_finite()) {
            set.extend([value * (1.0 - edge), value * (1.0 + edge)].map(|v| v.to_string()));
        }
        set
    }
}
