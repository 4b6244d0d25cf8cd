//! Reads the first capital from A to E, as MME-RealWorld's authors do.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::lmms;
use crate::question::Question;
use crate::score::{self, AnswerScore};

/// The reader `first-capital`.
pub(super) struct FirstCapital;

/// The phrases that the authors' script removes first. Two commas are missing in its list, so that two pairs of phrases
/// are removed only together.
const PHRASES: [&str; 6] = [
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
];

/// The phrases that lmms-eval removes.
const LMMS_PHRASES: [&str; 8] = [
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
];

/// The texts among which lmms-eval looks for an answer without a capital.
const LMMS_CHOICES: [&str; 5] = ["(A)", "(B)", "(C)", "(D)", "(E)"];

/// Returns the first capital from A to E; if there is none, the letter of the first choice `(A) …` that contains the
/// answer, in any case.
fn found<S: AsRef<str>>(answer: &str, phrases: &[&str], choices: &[S]) -> Option<char> {
    let rest = phrases.iter().fold(lmms::trimmed(answer).to_string(), |text, phrase| text.replace(phrase, ""));
    if let Some(capital) = rest.chars().find(|c| matches!(c, 'A'..='E')) {
        return Some(capital);
    }
    if rest.split_whitespace().count() > 10 {
        return None;
    }
    let low = rest.to_lowercase();
    let choice = choices.iter().find(|choice| choice.as_ref().to_lowercase().contains(&low))?;
    choice.as_ref().chars().nth(1)
}

impl AnswerReader for FirstCapital {
    fn name(&self) -> &'static str {
        "first-capital"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Choice
    }

    fn variants(&self) -> &'static [&'static str] {
        &["authors", "lmms-eval"]
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("lmms-eval") => {
                "The first capital from A to E, also in a word, after phrases such as \"The best answer is\" and \
                    \"Best option:\" are removed; if there is none, a small letter from a to e as the whole answer. \
                    An empty answer is an A."
            }
            _ => {
                "The first capital from A to E, also in a word, after phrases such as \"The best answer is\" are \
                    removed; if there is none, the first choice that contains the answer."
            }
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = match table.by.as_deref() {
            Some("lmms-eval") => found(answer, &LMMS_PHRASES, &LMMS_CHOICES),
            _ if answer.trim().is_empty() => None,
            _ => found(answer, &PHRASES, &q.options),
        };
        score::judge_choice_letter(q, said)
    }
}
