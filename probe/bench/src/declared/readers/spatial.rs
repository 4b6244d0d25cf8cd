//! Reads the answers of VSI-Bench: a letter, or a number that is scored by mean relative accuracy.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::labels::choice_index;
use crate::lmms::trimmed;
use crate::question::Question;
use crate::score::{AnswerScore, plain_number};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use regex::Regex;
use std::sync::LazyLock;

/// The reader `spatial`.
pub(super) struct Spatial;

/// Number of thresholds of relative accuracy: 0.5, 0.55, …, 0.95.
const THRESHOLDS: usize = 10;

/// The numbers that lmms-eval reads as words.
const WORDS: [(&str, f64); 30] = [
    ("zero", 0.0),
    ("one", 1.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("thirteen", 13.0),
    ("fourteen", 14.0),
    ("fifteen", 15.0),
    ("sixteen", 16.0),
    ("seventeen", 17.0),
    ("eighteen", 18.0),
    ("nineteen", 19.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
    ("hundred", 100.0),
    ("thousand", 1000.0),
];

static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?\d+(?:\.\d+)?").ok());

/// Returns the first word, up to a space, without full stops at its end.
fn first_word(answer: &str) -> &str {
    trimmed(answer.split(' ').next().unwrap_or_default().trim_end_matches('.'))
}

/// Returns the first number in an answer, in digits or English words, as `extract_number` of lmms-eval finds it.
fn first_number(answer: &str) -> Option<f64> {
    let text = trimmed(answer).to_lowercase();
    let digits = NUMBER.as_ref()?.find(&text);
    let mut words: Vec<f64> = Vec::new();
    let mut start = None;
    for (at, word) in letters(&text) {
        match (WORDS.iter().find(|(name, _)| *name == word), start) {
            (Some((_, value)), _) => {
                start.get_or_insert(at);
                words.push(*value);
            }
            (None, Some(_)) if word == "and" => {}
            (None, Some(_)) => break,
            (None, None) => {}
        }
    }
    match (digits, start) {
        (Some(digits), start) if start.is_none_or(|start| digits.start() < start) => plain_number(digits.as_str()),
        (_, None) => None,
        _ => {
            let (mut total, mut current) = (0.0, 0.0_f64);
            for value in words {
                match value {
                    100.0 => current = current.max(1.0) * 100.0,
                    1000.0 => {
                        total += current.max(1.0) * 1000.0;
                        current = 0.0;
                    }
                    value => current += value,
                }
            }
            Some(total + current)
        }
    }
}

/// Returns the runs of the letters a to z, with their positions.
fn letters(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    text.split(|c: char| !c.is_ascii_lowercase()).filter_map(move |word| {
        let at = from;
        // The separator is one character, of one or more bytes.
        let after = at + word.len();
        from = after + text.get(after..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        (!word.is_empty()).then_some((at, word))
    })
}

/// Computes mean relative accuracy: the share of the thresholds θ = 0.5, 0.55, …, 0.95 for which the relative error
/// is at most 1 − θ. The thresholds have the bits of NumPy's `linspace`.
fn relative_accuracy(said: f64, right: f64) -> f64 {
    let error = (said - right).abs() / right;
    let step = (0.95 - 0.5) / (THRESHOLDS - 1) as f64;
    let threshold = |i| if i + 1 == THRESHOLDS { 0.95 } else { i as f64 * step + 0.5 };
    (0..THRESHOLDS).filter(|i| error <= 1.0 - threshold(*i)).count() as f64 / THRESHOLDS as f64
}

impl AnswerReader for Spatial {
    fn name(&self) -> &'static str {
        "spatial"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["official", "lmms-eval"]
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        let (right, what) = match q.options.len() {
            0 => (plain_number(&q.answer).is_some_and(|n| n.is_finite() && n > 0.0), "a positive number"),
            n => (choice_index(&q.answer).is_some_and(|at| at < n), "the letter of an option"),
        };
        match right {
            true => Ok(()),
            false => Err(Error::failed(format!("the right answer {:?} is not {what}", excerpt(&q.answer, 60)))),
        }
    }

    fn describe(&self, table: &AnswerTable) -> String {
        let number = match table.by.as_deref() {
            Some("lmms-eval") => "the first number in the answer, in digits or English words",
            _ => "the first word of the answer, without full stops at its end, which must be a number",
        };
        format!(
            "Questions with options: the first word of the answer, without full stops at its end, must be the letter. \
                Others: {number}, is scored by mean relative accuracy: the share of θ = 0.5, 0.55, …, 0.95 for \
                which \
                |answer − right| / right ≤ 1 − θ."
        )
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let word = first_word(answer);
        if !q.options.is_empty() {
            let right = word.to_lowercase() == q.answer.to_lowercase();
            return if word.is_empty() { AnswerScore::unparsed() } else { AnswerScore::new(word, right) };
        }
        let said = match table.by.as_deref() {
            Some("lmms-eval") => first_number(answer),
            _ => plain_number(word),
        };
        match (said.filter(|n| !n.is_nan()), plain_number(&q.answer)) {
            (Some(said), Some(right)) => {
                AnswerScore { parsed: Some(said.to_string()), score: relative_accuracy(said, right) }
            }
            _ => AnswerScore::unparsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_digits_and_words() {
        for (answer, said) in [
            ("There are 3 boxes", Some(3.0)),
            ("three hundred and twenty-one", Some(321.0)),
            ("one apple, room 2", Some(1.0)),
            ("room 2, one apple", Some(2.0)),
            ("none", None),
            ("two thousand and four", Some(2004.0)),
            ("-4.5 m", Some(-4.5)),
        ] {
            assert_eq!(first_number(answer), said, "{answer}");
        }
    }

    #[test]
    fn relative_accuracy_is_a_share_of_thresholds() {
        for (said, share) in [(4.0, 1.0), (4.2, 1.0), (5.0, 0.6), (6.0, 0.1), (6.1, 0.0), (f64::INFINITY, 0.0)] {
            assert_eq!(relative_accuracy(said, 4.0), share, "{said}");
        }
    }
}
