//! Rules of the released `cambrian-1` code that several benchmarks share (`eval/eval/*/*_test.py`).
//!
//! The rules reproduce the quirks of the original: the first character of any text is a letter, so `Dog` is D. A letter
//! that is none of the choices cannot be right and counts as unparsed. White space around an answer is removed first,
//! as that code does when it writes answers.

use crate::labels::choice_letter;
use crate::question::Question;
use crate::score::{AnswerScore, judge_choice_letter, plain_number};

/// The line with which some benchmarks of `cambrian-1` ask for a letter.
pub(crate) const ONLY_LETTER_LINE: &str =
    "Please answer directly with only the letter of the correct option and nothing else.";

/// Characters that `cambrian-1` strips from the end of an answer before it compares letters.
pub(crate) const STOPS: [char; 3] = ['.', ':', ','];

/// Maximum error of a number, relative to the predicted one.
const TOLERANCE: f64 = 0.05;

/// Builds a prompt of the question, " Options:", a line per choice (`A. dog`), and the line that says how to answer.
pub(crate) fn options_prompt(q: &Question, line: &str) -> String {
    format!("{} Options:{}\n{line}", q.question, choices(&q.options))
}

/// Formats the choices, each after a line break: `\nA. dog\nB. cup`.
pub(crate) fn choices(options: &[String]) -> String {
    ('A'..='Z').zip(options).map(|(l, o)| format!("\n{l}. {o}")).collect()
}

/// Returns the text after the last announcement ("answer is", "answer:"), in lower case; the whole answer if there is
/// none.
pub(crate) fn announced(answer: &str) -> String {
    let mut text = answer.trim().to_lowercase();
    for phrase in ["answer is", "answer is:", "answer:"] {
        if let Some((_, after)) = text.rsplit_once(phrase) {
            text = after.to_string();
        }
    }
    text.trim().to_string()
}

/// Returns the announced text without `stops` at its end and without parentheses around it.
pub(crate) fn choice(answer: &str, stops: &[char]) -> String {
    announced(answer).trim_end_matches(stops).trim_start_matches('(').trim_end_matches(')').to_string()
}

/// Returns the first character of [`choice`].
pub(crate) fn first_character(answer: &str, stops: &[char]) -> Option<char> {
    choice(answer, stops).chars().next()
}

/// Returns the first word in lower case, without [`STOPS`] at its end.
pub(crate) fn first_word(answer: &str) -> Option<String> {
    let word = answer.split_whitespace().next()?.to_lowercase();
    Some(word.trim_end_matches(STOPS).to_string())
}

/// Returns the letter of the choice, in upper case, if the text is exactly that letter.
pub(crate) fn offered(text: &str, q: &Question) -> Option<char> {
    let said = Some(text).filter(|t| t.len() == 1).and_then(choice_letter)?;
    ('A'..='Z').take(q.options.len()).find(|l| *l == said)
}

/// Judges the letter that is the [`first_character`] of the announced text.
pub(crate) fn judge_first_character(q: &Question, answer: &str, stops: &[char]) -> AnswerScore {
    judge_choice_letter(q, first_character(answer, stops).and_then(|c| offered(&c.to_string(), q)))
}

/// Judges the letter that is the [`first_word`].
pub(crate) fn judge_first_word(q: &Question, answer: &str) -> AnswerScore {
    judge_choice_letter(q, first_word(answer).and_then(|word| offered(&word, q)))
}

/// Returns whether both texts are numbers that differ by at most 5 % of the *predicted* one, because the `cambrian-1`
/// code calls its comparison with swapped arguments.
pub(crate) fn near(expected: &str, said: &str) -> bool {
    match (plain_number(expected), plain_number(said)) {
        (Some(expected), Some(said)) => (expected - said).abs() <= said.abs() * TOLERANCE,
        _ => false,
    }
}
