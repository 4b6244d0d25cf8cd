//! COCO-QA: questions generated from captions of COCO photographs, answered in one word and scored by exact match.
//!
//! Accuracy is the first of the paper's three metrics; the other two, WUPS at two thresholds, need WordNet and are not
//! computed. An answer is right if it equals the expected word after lower-casing and removal of trailing full stops.

use crate::{AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, Question, Rules, RulesDescription, score};

/// A benchmark of the COCO-QA family.
pub struct CocoQa {
    card: BenchmarkCard<'static>,
}

/// The fifty questions that are shipped with the package.
pub static FIELD_COCOQA: CocoQa = CocoQa {
    card: BenchmarkCard {
        id: "field-cocoqa",
        authors: false,
        lmms_eval: None,
        category: &Category::GENERAL,
        metric: "exact match",
        version: "2",
        citation: "Ren, Kiros and Zemel 2015, Exploring Models and Data for Image Question Answering, arXiv:1505.02074",
        form: AnswerForm::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl Benchmark for CocoQa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn explain(&self, _: Rules) -> RulesDescription<'_> {
        RulesDescription {
            prompt: "Question, then \"Answer the question using a single word or phrase.\"",
            scoring: "The whole answer must be the right word, in lower case and without full stops at its end.",
            source: "accuracy as in the paper, section 4.3",
            difference: "The paper's models choose a word from a list; here the model writes it. WUPS is not \
                computed, because it needs WordNet.",
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        score::short_answer_prompt(&q.question)
    }

    fn verdict(&self, q: &Question, answer: &str, _: Rules) -> AnswerScore {
        score::judge_exact(q, answer)
    }
}
