//! The benchmarks of the field study: stamps on photographs, composed so that the right answer is known.
//!
//! Choices are listed as words and answered in words ("Which is in front: animal or fruit?"), because small language
//! models cannot map letters to options reliably. An answer is right if, without its article and full stops, it is one
//! of the options; counts may also be written out.
//!
//! - `field-presence` (General): is there an object of a given kind? Every image has one question with the answer yes
//!   and one with the answer no, as in POPE.
//! - `field-kind` (General): which kind is it? Held-out objects; the nine kinds were learned from other objects and are
//!   not listed in the prompt.
//! - `field-names` (Knowledge): what is it called? Objects from the training data in new compositions: other position,
//!   size, rotation and background photograph.
//! - `field-stamps` (Knowledge): what is it called? Objects and names that are not in the training data: everyday
//!   objects, but also rheas, wapitis and bassoons, which need knowledge beyond the kind.
//! - `field-text` (OCR & Chart): which word or number is written on a photograph?
//! - `field-count`, `field-relation`, `field-occlusion` (Vision-centric): how many of a kind, where, what is in front?
//!   Held-out objects, called by their kind.

use crate::{AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, Question, Rules, RulesDescription, score};

/// A benchmark of the field study.
pub struct Field {
    card: BenchmarkCard<'static>,
    /// Whether the prompt lists the options.
    listed: bool,
}

const THIS: &str = "this project, burgess data field";
const POPE: &str =
    "after Li et al. 2023, Evaluating Object Hallucination in Large Vision-Language Models, arXiv:2305.10355";
const CV_BENCH: &str =
    "after Tong et al. 2024, Cambrian-1: A Fully Open, Vision-Centric Exploration of Multimodal LLMs, arXiv:2406.16860";

/// Benchmark that asks whether an object of a given kind is present (yes/no).
pub static FIELD_PRESENCE: Field = Field {
    card: BenchmarkCard { form: AnswerForm::YesNo, ..card("field-presence", &Category::GENERAL, POPE) },
    listed: false,
};

/// Benchmark that asks for the kind of a held-out object.
pub static FIELD_KIND: Field =
    Field { card: BenchmarkCard { version: "4", ..card("field-kind", &Category::GENERAL, THIS) }, listed: false };

/// Benchmark that asks for the name of an object that is in the training data.
pub static FIELD_NAMES: Field = Field { card: card("field-names", &Category::KNOWLEDGE, THIS), listed: true };

/// Benchmark that asks for the name of an object that is not in the training data.
pub static FIELD_STAMPS: Field = Field { card: card("field-stamps", &Category::KNOWLEDGE, THIS), listed: true };

/// Benchmark that asks for the word or number that is written on the photograph.
pub static FIELD_TEXT: Field = Field { card: card("field-text", &Category::OCR_CHART, THIS), listed: true };

/// Benchmark that asks for the number of objects of a kind.
pub static FIELD_COUNT: Field = Field { card: card("field-count", &Category::VISION_CENTRIC, CV_BENCH), listed: false };

/// Benchmark that asks for the spatial relation of two objects.
pub static FIELD_RELATION: Field =
    Field { card: card("field-relation", &Category::VISION_CENTRIC, CV_BENCH), listed: true };

/// Benchmark that asks which of two overlapping objects is in front.
pub static FIELD_OCCLUSION: Field =
    Field { card: card("field-occlusion", &Category::VISION_CENTRIC, THIS), listed: true };

const fn card(id: &'static str, category: &'static Category, citation: &'static str) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: false,
        lmms_eval: None,
        category,
        metric: "accuracy",
        version: "3",
        citation,
        form: AnswerForm::Choice,
        max_new_tokens: 12,
        source: None,
    }
}

/// The counts from 1 to 10 as words.
const NUMBERS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Returns the form in which answers and options are compared: lower case, no article, no full stop, counts as digits.
fn plain(answer: &str) -> String {
    let text = score::normalise(answer);
    let bare = ["a ", "an ", "the ", "some "].iter().find_map(|article| text.strip_prefix(article)).unwrap_or(&text);
    let digits = NUMBERS.iter().position(|n| *n == bare).map(|n| (n + 1).to_string());
    digits.unwrap_or_else(|| bare.to_string())
}

impl Benchmark for Field {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn explain(&self, _: Rules) -> RulesDescription<'_> {
        RulesDescription {
            prompt: match self.listed {
                true => "The question, then its choices in words: \"Which is in front: animal or fruit?\"",
                false => "The question alone.",
            },
            scoring: match self.card.form {
                AnswerForm::YesNo => {
                    "\"yes\" or else \"no\" among the first four characters of the answer, in lower case."
                }
                _ => {
                    "The answer must be one of the choices, in lower case, without an article and full stops; counts \
                        up to ten may be written out."
                }
            },
            source: "this project: probe/bench/src/benchmarks/field.rs; questions by `burgess data field`",
            difference: "",
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        match q.options.as_slice() {
            [before @ .., last] if self.listed => {
                format!("{}: {} or {last}?", q.question.trim_end_matches('?'), before.join(", "))
            }
            _ => q.question.clone(),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, _: Rules) -> AnswerScore {
        if self.card.form == AnswerForm::YesNo {
            return score::judge_yes_no(q, score::yes_no(answer));
        }
        let said = plain(answer);
        let letter = ('A'..='Z').zip(&q.options).find(|(_, option)| plain(option) == said).map(|(letter, _)| letter);
        score::judge_choice_letter(q, letter)
    }
}
