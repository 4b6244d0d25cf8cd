//! Reads counts as the authors of counting benchmarks do.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::lmms::{self, on_text};
use crate::question::Question;
use crate::score::{AnswerScore, decimal_digit};
use burgess_base::{Error, Result};

/// The reader `count`: a number of things. The right answer is the first number in the column's text.
pub(super) struct Count;

/// The numbers that are also read as words.
pub(super) const WORDS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Returns the first run of decimal digits, of any script.
fn first_digits(text: &str) -> Option<&str> {
    let digit = |c: char| c.is_ascii_digit() || decimal_digit(c).is_some();
    let rest = text.get(text.find(digit)?..)?;
    rest.get(..rest.find(|c| !digit(c)).unwrap_or(rest.len()))
}

/// Returns the right count as the column gives it: the first number in its text.
fn right(q: &Question) -> &str {
    first_digits(&q.answer).unwrap_or(&q.answer)
}

/// Returns the number that a word means.
pub(super) fn of_word(word: &str) -> Option<usize> {
    WORDS.iter().position(|known| *known == word)
}

/// Returns the number that Molmo's evaluator finds: the last word, as digits or as a word; else the digits after the
/// last "a total of" in the first line.
fn last_word(answer: &str) -> Option<f64> {
    let low = lmms::trimmed(&answer.to_lowercase()).trim_end_matches('.').to_string();
    let low = lmms::trimmed(&low);
    let word = low.split_whitespace().next_back()?;
    lmms::integer(word).or_else(|| of_word(word).map(|n| n as f64)).or_else(|| {
        let line = low.lines().next()?;
        line.rmatch_indices("a total of ").find_map(|(at, phrase)| {
            let rest = line.get(at + phrase.len()..)?;
            let digits = rest.get(..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()))?;
            digits.parse().ok()
        })
    })
}

impl AnswerReader for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["whole", "last-word", "first-digits"]
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        match first_digits(&q.answer) {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!("the right answer {:?} holds no number", q.answer))),
        }
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("last-word") => {
                "The last word of the answer, without full stops, must be the number, as digits or as a word up to \
                    twenty; else the digits after \"a total of\" in its first line must be."
            }
            Some("first-digits") => "The first digits in the answer must be the number.",
            _ => "The whole answer must be the number, as digits or as a word up to twenty (\"none\" is 0).",
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let right = right(q);
        match table.by.as_deref() {
            Some("last-word") => match last_word(answer) {
                Some(said) => AnswerScore::new(said.to_string(), lmms::integer(right) == Some(said)),
                None => AnswerScore::unparsed(),
            },
            Some("first-digits") => {
                let said = first_digits(answer).unwrap_or(answer);
                on_text(said, said == right)
            }
            _ => {
                let answer = lmms::trimmed(answer);
                let low = answer.to_lowercase();
                let number = if low == "none" { Some(0) } else { of_word(&low) };
                let said = number.map_or_else(|| answer.to_string(), |n| n.to_string());
                on_text(&said, said == right)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_count_may_stand_in_a_sentence() {
        let q = Question { answer: "There are 12 oars, or 13.".into(), ..Question::default() };
        assert!(Count.check_question(&AnswerTable::default(), &q).is_ok());
        assert_eq!(Count.verdict(&AnswerTable::default(), &q, "Twelve").score, 1.0);
        assert!(Count.check_question(&AnswerTable::default(), &Question::default()).is_err());
    }
}
