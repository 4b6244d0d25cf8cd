//! How the study's code reads answers, for the benchmarks that share it (`eval/eval/*/*_test.py` of its repository).
//!
//! Quirks that are kept: "the answer is: b" leaves ": b", which is no letter; any word that begins with the letter of a
//! choice counts as that choice; a label is looked for behind the last keyword only.

use crate::{Judged, Question, score};

const KEYWORDS: [&str; 3] = ["answer is", "answer is:", "answer:"];

/// What follows the keywords, in lower case, trimmed.
pub fn after_keywords(answer: &str) -> String {
    let mut text = answer.to_lowercase().trim().to_string();
    for keyword in KEYWORDS {
        if let Some((_, after)) = text.rsplit_once(keyword) {
            text = after.to_string();
        }
    }
    text.trim().to_string()
}

/// The same without these signs at the end, and without parentheses around.
pub fn choice(answer: &str, ends: &[char]) -> String {
    after_keywords(answer).trim_end_matches(ends).trim_start_matches('(').trim_end_matches(')').to_string()
}

/// Judges by the first character of [`choice`].
pub fn judge_first_letter(q: &Question, answer: &str, ends: &[char]) -> Judged {
    let first = choice(answer, ends).chars().next();
    let offered = ('a'..='z').take(q.options.len()).find(|l| Some(*l) == first);
    match offered.map(|l| l.to_ascii_uppercase()) {
        Some(said) => Judged::new(said, score::label(&q.answer) == Some(said)),
        None => Judged::unparsed(),
    }
}
