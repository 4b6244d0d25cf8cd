//! The letters that single tasks of lmms-eval 0.7.3 read, with the quirks of the originals.
//!
//! The filters of AI2D, MuirBench and CRPE get the answer before lmms-eval removes reasoning from it.

use crate::lmms;
use crate::question::Question;
use crate::score::{self, AnswerScore};
use regex::Regex;
use std::sync::LazyLock;

/// Returns a capital with a full stop at the very beginning, or else the answer without its reasoning.
fn labelled(answer: &str) -> String {
    let raw = lmms::trimmed(answer);
    let label = raw.chars().next().filter(|c| c.is_ascii_uppercase() && raw.get(1..2) == Some("."));
    label.map_or_else(|| lmms::cleaned(answer), String::from)
}

/// Judges as the tasks of AI2D: the label at the beginning, or the whole answer up to case and ASCII punctuation.
pub(super) fn ai2d(q: &Question, answer: &str) -> AnswerScore {
    let said = labelled(answer);
    lmms::on_text(&said, lmms::exact(&said, &q.answer))
}

/// Judges as the task of MuirBench: the label at the beginning, or the whole answer up to case.
pub(super) fn muirbench(q: &Question, answer: &str) -> AnswerScore {
    let said = labelled(answer);
    lmms::on_text(&said, lmms::trimmed(&said).to_lowercase() == lmms::trimmed(&q.answer).to_lowercase())
}

/// A label and the rest of its line in the text of a question.
static CHOICE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b([A-Z])\.\s+([^\n]*)").ok());

/// Removes every `<tag>…</tag>`, and white space from both ends.
fn without(text: &str, tag: &str) -> String {
    let (opening, closing) = (format!("<{tag}>"), format!("</{tag}>"));
    let (mut left, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(&opening) {
        let Some((_, behind)) = after.split_once(&closing) else { break };
        left += before;
        rest = behind;
    }
    lmms::trimmed(&(left + rest)).to_string()
}

/// Judges as the task of CRPE: the choice whose text comes first in the answer without its punctuation, or else the
/// whole answer. The choices are read from the text of the question (`facts.text`); a text with punctuation is never
/// found, and of choices with the same text the last counts.
pub(super) fn crpe(q: &Question, answer: &str) -> AnswerScore {
    let answer = without(&without(answer, "think"), "thought");
    let inner = answer.split_once("<answer>").and_then(|(_, after)| Some(after.split_once("</answer>")?.0));
    let kept = |c: &char| c.is_alphanumeric() || *c == '_' || lmms::blank(*c);
    let plain: String = lmms::trimmed(inner.unwrap_or(&answer)).chars().filter(kept).collect();
    let said = lmms::trimmed(&plain);
    let text = q.fact("text");
    let choices: Vec<(&str, &str)> = CHOICE.as_ref().map_or_else(Vec::new, |choice| {
        let parts = choice.captures_iter(text).filter_map(|found| Some((found.get(1)?, found.get(2)?)));
        parts.map(|(label, text)| (label.as_str(), lmms::trimmed(text.as_str()))).collect()
    });
    let places = choices.iter().filter_map(|(_, text)| Some((said.find(text)?, *text)));
    let first = places.reduce(|best, found| if found.0 < best.0 { found } else { best });
    let label = first.and_then(|(_, text)| choices.iter().rev().find(|(_, t)| *t == text)).map(|(label, _)| *label);
    let said = label.unwrap_or(said);
    lmms::on_text(said, lmms::exact(said, &q.answer))
}

/// The forms in which the tasks of 3DSRBench look for a letter, one after the other.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let forms = [
        r"^([A-D])[\.\s\)]",
        r"^([A-D])$",
        r"[Aa]nswer[:\s]+([A-D])",
        r"[Tt]he answer is[:\s]+([A-D])",
        r"[Mm]y answer is[:\s]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\.",
        r"\b([A-D])\b",
    ];
    forms.iter().filter_map(|form| Regex::new(form).ok()).collect()
});

/// Judges as the tasks of 3DSRBench: the letter in the first form that the answer contains.
pub(super) fn spatial(q: &Question, answer: &str) -> AnswerScore {
    let found = FORMS.iter().find_map(|form| form.captures(answer)?.get(1));
    score::judge_choice_letter(q, found.and_then(|letter| letter.as_str().chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_valid() {
        assert!(CHOICE.is_some());
        assert_eq!(FORMS.len(), 8);
    }
}
