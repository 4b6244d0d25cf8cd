//! Reads the letter that VLMEvalKit inferred in 2024, before it took the place of a letter into account; the task of
//! HR-Bench in lmms-eval still does.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore};

/// The reader `inferred-letter`.
pub(super) struct InferredLetter;

/// What refusals contain.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];

/// The letter that stands for "none of them".
const NONE: char = 'Z';

/// Returns the only letter that is a word by itself; else the only choice whose text occurs in the answer.
fn inferred(answer: &str, options: &[String]) -> Option<char> {
    let letters = || ('A'..='Z').zip(options);
    if !answer.contains("Failed to obtain answer via API") {
        if REFUSALS.iter().any(|refusal| answer.contains(refusal)) {
            return Some(NONE);
        }
        let plain = answer.replace(['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'], " ");
        let words: Vec<&str> = plain.split_whitespace().collect();
        let named: Vec<char> = letters().map(|(l, _)| l).filter(|l| words.iter().any(|w| w.chars().eq([*l]))).collect();
        match named.as_slice() {
            [letter] => return Some(*letter),
            [] if words.contains(&"Z") => return Some(NONE),
            _ => {}
        }
    }
    let low = answer.to_lowercase();
    let mut contained = letters().filter(|(_, option)| low.contains(&option.to_lowercase()));
    match (contained.next(), contained.next()) {
        (Some((letter, _)), None) => Some(letter),
        _ => None,
    }
}

impl AnswerReader for InferredLetter {
    fn name(&self) -> &'static str {
        "inferred-letter"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Choice
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "The only letter of a choice that is a word by itself; else the only choice whose text occurs in the answer, in \
            any case."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        score::judge_choice_letter(q, inferred(answer, &q.options))
    }
}
