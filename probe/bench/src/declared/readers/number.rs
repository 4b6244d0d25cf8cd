//! Reads numbers.

use super::AnswerReader;
use super::count::WORDS;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore, plain_number};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};

/// The reader `number`: a number within a tolerance.
pub(super) struct Number;

/// The reader `relaxed`: ChartQA's relaxed match of numbers and texts.
pub(super) struct Relaxed;

/// Returns a word or token as a number: digits with thousands separators, a sign, a currency or percent sign around
/// them, or a number word.
fn token(text: &str) -> Option<f64> {
    let bare = text.trim_matches(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '+' | '−')));
    let bare = bare.replace('−', "-").replace(',', "");
    if let Some(number) = WORDS.iter().position(|word| bare.eq_ignore_ascii_case(word)) {
        return Some(number as f64);
    }
    // `inf` and `nan` are words here.
    plain_number(&bare).filter(|_| bare.starts_with(|c: char| c.is_numeric() || matches!(c, '-' | '+')))
}

/// Returns all numbers in a text.
fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '=' | ':' | '/' | '*'))
        .filter_map(token)
        .filter(|n| n.is_finite())
        .collect()
}

/// Returns the number that an answer gives: its only number, or else the first after its last "answer".
fn only(answer: &str) -> Option<f64> {
    let found = numbers(answer);
    match found.as_slice() {
        [] => None,
        [first, rest @ ..] if rest.iter().all(|n| n == first) => Some(*first),
        _ => {
            let low = answer.to_ascii_lowercase();
            let at = low.rfind("answer")?;
            numbers(answer.get(at..)?).first().copied()
        }
    }
}

impl AnswerReader for Number {
    fn name(&self) -> &'static str {
        "number"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["only", "first", "last", "whole"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["relative", "absolute"]
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        match q.accepted_answers().iter().find(|answer| token(answer).is_none()) {
            None => Ok(()),
            Some(answer) => Err(Error::failed(format!("the right answer {:?} is not a number", excerpt(answer, 60)))),
        }
    }

    fn describe(&self, table: &AnswerTable) -> String {
        let which = match table.by.as_deref() {
            Some("first") => "The first number in the answer",
            Some("last") => "The last number in the answer",
            Some("whole") => "The answer, which must be a number as a whole,",
            _ => "The only number in the answer, or the first after its last \"answer\",",
        };
        let error = match (table.relative, table.absolute) {
            (None, None) => "must be the right one".to_string(),
            (Some(r), None) => format!("must be within {} % of the right one", r * 100.0),
            (None, Some(a)) => format!("must differ from the right one by at most {a}"),
            (Some(r), Some(a)) => format!("must be within {} % of the right one, or differ by at most {a}", r * 100.0),
        };
        format!("{which} {error}; zero to twenty may be words, and commas between digits are ignored.")
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = match table.by.as_deref() {
            Some("first") => numbers(answer).first().copied(),
            Some("last") => numbers(answer).last().copied(),
            Some("whole") => token(answer.trim()).filter(|n| n.is_finite()),
            _ => only(answer),
        };
        let Some(said) = said else { return AnswerScore::unparsed() };
        let near = |right: f64| {
            // Decimal fractions are rounded: 0.33 is within 10 % of 0.3.
            let rounding = 1e-12 * right.abs().max(said.abs());
            let error = (said - right).abs() - rounding;
            error <= table.absolute.unwrap_or(0.0) || error <= table.relative.unwrap_or(0.0) * right.abs()
        };
        AnswerScore::new(said.to_string(), q.accepted_answers().iter().filter_map(|right| token(right)).any(near))
    }
}

impl AnswerReader for Relaxed {
    fn name(&self) -> &'static str {
        "relaxed"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "Two numbers match within 5 % of the right one (12% is 0.12); an expected 0, and any text that is not a number \
            as a whole, must be the same text up to case (ChartQA's relaxed accuracy)."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = answer.trim();
        match q.accepted_answers().iter().any(|right| score::relaxed_equal(said, right)) {
            false if said.is_empty() => AnswerScore::unparsed(),
            right => AnswerScore::new(said, right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(by: &str, answer: &str, right: &str) -> (Option<String>, f64) {
        let table = AnswerTable { read: "number".into(), by: Some(by.into()), ..AnswerTable::default() };
        let q = Question { answer: right.into(), ..Question::default() };
        let AnswerScore { parsed, score } = Number.verdict(&table, &q, answer);
        (parsed, score)
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        for (answer, said) in [
            ("3", Some("3")),
            ("Three.", Some("3")),
            ("There are 3 dogs", Some("3")),
            ("1,234", Some("1234")),
            ("$12.50", Some("12.5")),
            ("−4", Some("-4")),
            ("3 or 4", None),
            ("3 and 4. The answer is 5", Some("5")),
            ("infinity", None),
            ("", None),
        ] {
            assert_eq!(judged("only", answer, "3").0.as_deref(), said, "{answer}");
        }
        assert_eq!(judged("last", "3 or 4", "4").1, 1.0);
        assert_eq!(judged("first", "3 or 4", "4").1, 0.0);
        assert_eq!(judged("whole", "about 4", "4").0, None);
    }

    #[test]
    fn tolerances_are_inclusive() {
        let q = Question { answer: "100".into(), ..Question::default() };
        let table = AnswerTable { relative: Some(0.05), ..AnswerTable::default() };
        assert_eq!(Number.verdict(&table, &q, "105").score, 1.0);
        assert_eq!(Number.verdict(&table, &q, "105.1").score, 0.0);
        let tenth = AnswerTable { relative: Some(0.1), ..AnswerTable::default() };
        let small = Question { answer: "0.3".into(), ..Question::default() };
        assert_eq!(Number.verdict(&tenth, &small, "0.33").score, 1.0);
        assert_eq!(Number.verdict(&AnswerTable::default(), &small, "0.3000001").score, 0.0);
        let table = AnswerTable { absolute: Some(1.0), ..AnswerTable::default() };
        assert_eq!(Number.verdict(&table, &q, "99").score, 1.0);
        assert!(Number.check_question(&table, &Question { answer: "many".into(), ..q }).is_err());
    }
}
