//! Compares texts: exactly, normalised, by containment, by edit similarity, or with annotators.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::rules::Rules;
use crate::score::{self, AnswerScore};
use crate::vqa::{self, VqaEvaluator};
use burgess_base::Result;

/// The reader `exact`: the whole answer is one of the accepted ones.
pub(super) struct Exact;

/// The reader `normalised`: the same after the normalisation of VQA.
pub(super) struct Normalised;

/// The reader `contains`: the answer contains an accepted one.
pub(super) struct Contains;

/// The reader `anls`: edit similarity, as for DocVQA.
pub(super) struct Anls;

/// The reader `vqa`: agreement with ten annotators.
pub(super) struct Vqa;

/// Returns the verdict on a text; an empty text that is not right is unparsed.
fn on_text(said: String, right: bool) -> AnswerScore {
    if said.is_empty() && !right { AnswerScore::unparsed() } else { AnswerScore::new(said, right) }
}

impl AnswerReader for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["any-case", "same-case"]
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("same-case") => "The whole answer must be an accepted text, without white space around it.",
            _ => "The whole answer must be an accepted text, in lower case and without full stops at its end.",
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        match table.by.as_deref() {
            Some("same-case") => {
                let said = answer.trim();
                on_text(said.to_string(), q.accepted_answers().iter().any(|right| right.trim() == said))
            }
            _ => {
                let said = score::normalise(answer);
                let right = q.accepted_answers().iter().any(|right| score::normalise(right) == said);
                on_text(said, right)
            }
        }
    }
}

impl AnswerReader for Normalised {
    fn name(&self) -> &'static str {
        "normalised"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "The whole answer must be an accepted text after the normalisation of VQA: lower case; no articles, punctuation \
            or commas; counts as digits; apostrophes of contractions restored."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = vqa::normalise(answer);
        let right = q.accepted_answers().iter().any(|right| vqa::normalise(right) == said);
        on_text(said, right)
    }
}

impl AnswerReader for Contains {
    fn name(&self) -> &'static str {
        "contains"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["text", "words"]
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("words") => {
                "An accepted text must stand in the answer as whole words, after the normalisation of VQA (lower case, \
                    no articles and punctuation, counts as digits)."
            }
            _ => "An accepted text must occur in the answer, in lower case and with line breaks as spaces.",
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let right = match table.by.as_deref() {
            Some("words") => {
                let said = format!(" {} ", vqa::normalise(answer));
                q.accepted_answers().iter().any(|right| said.contains(&format!(" {} ", vqa::normalise(right))))
            }
            _ => q.accepted_answers().iter().any(|right| score::contains(answer, right)),
        };
        on_text(answer.trim().to_string(), right && !answer.trim().is_empty())
    }
}

impl AnswerReader for Anls {
    fn name(&self) -> &'static str {
        "anls"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn keys(&self) -> &'static [&'static str] {
        &["threshold"]
    }

    fn describe(&self, table: &AnswerTable) -> String {
        let score = "1 − edit distance / longer length for the best of the accepted texts, or 0 if that is below one \
            half (ANLS, as for DocVQA)";
        match table.threshold {
            None => format!("{score}."),
            Some(least) => format!("Right if this is at least {least}: {score}."),
        }
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let similarity = score::anls(answer, q.accepted_answers());
        let score = match table.threshold {
            Some(least) => f64::from(u8::from(similarity >= least)),
            None => similarity,
        };
        match answer.trim().is_empty() && score == 0.0 {
            true => AnswerScore::unparsed(),
            false => AnswerScore { parsed: Some(answer.trim().to_string()), score },
        }
    }
}

impl AnswerReader for Vqa {
    fn name(&self) -> &'static str {
        "vqa"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        vqa::ten_answers(q.accepted.clone()).map(drop)
    }

    fn variants(&self) -> &'static [&'static str] {
        &["mmf", "vqa-eval", "lmms-eval-vqav2"]
    }

    fn describe(&self, table: &AnswerTable) -> String {
        evaluator(table).map_or(vqa::JUDGED, VqaEvaluator::describe).to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        match evaluator(table) {
            Some(evaluator) => evaluator.judge(q, answer),
            // The reasoning was removed where the rules ask for it.
            None => vqa::judge(q, answer, Rules::Official),
        }
    }
}

/// Returns the evaluator that the table names, if it is not that of TextVQA.
fn evaluator(table: &AnswerTable) -> Option<VqaEvaluator> {
    match table.by.as_deref() {
        Some("vqa-eval") => Some(VqaEvaluator::Authors),
        Some("lmms-eval-vqav2") => Some(VqaEvaluator::LmmsEval),
        _ => None,
    }
}
