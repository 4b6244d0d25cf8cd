//! CV-Bench: counting and spatial relations (2D), depth order and relative distance (3D), with lettered choices.
//!
//! The published 2D number is the mean of the accuracies on its two picture sources, all tasks pooled within a
//! source; 3D has one source and is plain accuracy. The nano world is one source, so both are accuracy over all
//! questions; the tasks (`count`, `relation`; `depth`, `distance`) appear as subtasks.

use super::score;
use super::{Benchmark, Card, Category, Form, Judged, Question, Rules};

/// A benchmark of the CV-Bench family.
pub struct CvBench {
    card: Card,
}

const CITATION: &str =
    "Tong et al. 2024, Cambrian-1: A Fully Open, Vision-Centric Exploration of Multimodal LLMs, arXiv:2406.16860";

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&NANO_2D, &NANO_3D];

/// The small sibling of the 2D half: count, spatial relation.
pub static NANO_2D: CvBench = CvBench { card: card("nano-cvbench-2d") };

/// The small sibling of the 3D half: depth order, relative distance.
pub static NANO_3D: CvBench = CvBench { card: card("nano-cvbench-3d") };

const fn card(id: &'static str) -> Card {
    Card {
        id,
        category: Category::VisionCentric,
        metric: "accuracy",
        version: "1",
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    }
}

impl Benchmark for CvBench {
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
