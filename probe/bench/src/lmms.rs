//! Rules of lmms-eval 0.7.3 that several of its tasks share, so that scores can be compared with those of lmms-eval.
//!
//! The rules reproduce the quirks of the original. Reasoning is removed as lmms-eval does by default ([`cleaned`]).
//! Where lmms-eval draws a random letter or asks a language model, the answer is unparsed here. Of 37,500 random
//! answers 31 were judged differently; all of them contain one of the control characters U+001C to U+001F, which Python
//! counts as white space. `tests/reference/scorers_lmms_eval.py` generates the golden verdicts.

use crate::score::{AnswerScore, plain_number};

/// The line, without a full stop, with which the task of MMStar asks for a letter.
pub(crate) const MMSTAR_LINE: &str = "Answer with the option's letter from the given choices directly";

/// The default tags around reasoning in lmms-eval.
const REASONING: [(&str, &str); 2] = [("<think>", "</think>"), ("<analysis>", "</analysis>")];

/// Returns whether Python's `str.strip` removes the character.
pub(crate) fn blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Removes white space from both ends, as Python's `str.strip` does.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(blank)
}

/// Returns the part of an answer that the scorers of lmms-eval get. Pairs of tags are removed with their content; a
/// closing tag alone is removed with all text before it; an opening tag alone stays. Only the lower-case tags of
/// [`REASONING`] count. Then white space is removed from both ends.
pub(crate) fn cleaned(answer: &str) -> String {
    let mut text = answer.to_string();
    for (opening, closing) in REASONING {
        while let Some(start) = text.find(opening) {
            let Some(end) = text.get(start..).and_then(|rest| rest.find(closing)).map(|at| start + at) else { break };
            text.replace_range(start..end + closing.len(), "");
        }
        if !text.contains(opening)
            && let Some((_, after)) = text.rsplit_once(closing)
        {
            text = after.to_string();
        }
    }
    trimmed(&text).to_string()
}

/// Returns the verdict on a text; an empty text that is not right is unparsed.
pub(crate) fn on_text(said: &str, right: bool) -> AnswerScore {
    if said.is_empty() && !right { AnswerScore::unparsed() } else { AnswerScore::new(said, right) }
}

/// Returns the line with which the prompts of BLINK and CV-Bench begin.
pub(crate) fn note_line(letters: &str) -> String {
    format!("Note: You only need to respond with {letters} without providing any additional information.")
}

/// Returns the labels of `n` choices: A, B, C and so on.
pub(crate) fn labels(n: usize) -> impl Iterator<Item = char> + Clone {
    ('A'..='\u{10ffff}').take(n)
}

/// Formats the choices, one per line: `A. dog`.
pub(crate) fn lines(options: &[String]) -> String {
    let lines: Vec<String> = labels(options.len()).zip(options).map(|(l, o)| format!("{l}. {o}")).collect();
    lines.join("\n")
}

/// Capitalises as Python's `str.capitalize` does: the first character in upper case, all others in lower case.
pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut upper = first.to_uppercase();
    let head: String = upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect();
    // The whole text is lower-cased because lower case can depend on neighbouring characters (Σ).
    let whole = text.to_lowercase();
    head + whole.get(first.to_lowercase().map(char::len_utf8).sum()..).unwrap_or_default()
}

/// Returns whether lmms-eval's `exact_match` finds the texts equal, up to case and ASCII punctuation. It compares
/// arrays of fixed width, so a text that grows when lower-cased is cut to its original length.
pub(crate) fn exact(said: &str, expected: &str) -> bool {
    let plain = |text: &str| -> String {
        let text = text.trim_end_matches('\0');
        let low = text.to_lowercase();
        low.chars().take(text.chars().count()).filter(|c| !c.is_ascii_punctuation()).collect()
    };
    plain(said) == plain(expected)
}

/// Returns the number that Python's `int` parses from a text.
pub(crate) fn integer(text: &str) -> Option<f64> {
    let digits = trimmed(text).trim_start_matches(['+', '-']);
    let integral = digits.chars().all(|c| c == '_' || c.is_ascii_digit() || crate::score::decimal_digit(c).is_some());
    plain_number(text).filter(|_| integral && !digits.is_empty())
}

/// Strips each of these characters from both ends, one character after the other, and adds a space at both ends.
fn without_signs(text: &str, signs: &[char]) -> String {
    format!(" {} ", signs.iter().fold(text, |text, sign| text.trim_matches(*sign)))
}

/// Returns the letter that MMMU's and Q-Bench's tasks find: the last one as `(B)`; if there is none, among those with a
/// space after them, and then among those with a full stop after them, the last one that stands alone, or the first by
/// label; then, if the answer has more than five words, the choice whose text comes last.
pub(crate) fn last_named(answer: &str, options: &[String]) -> Option<char> {
    let text = without_signs(answer, &[',', '.', '!', '?', ';', ':', '\'']);
    let named = |form: &dyn Fn(char) -> String| -> Vec<char> {
        labels(options.len()).filter(|l| text.contains(&form(*l))).collect()
    };
    // Takes the first letter with the greatest position; a letter without a position ranks below all others.
    let last = |found: Vec<char>, place: &dyn Fn(char) -> Option<usize>| {
        found.into_iter().reduce(|best, next| if place(next) > place(best) { next } else { best })
    };
    let found = named(&|l| format!("({l})"));
    if !found.is_empty() {
        return last(found, &|l| text.rfind(&format!("({l})")));
    }
    for sign in [' ', '.'] {
        let found = named(&|l| format!("{l}{sign}"));
        if !found.is_empty() {
            return last(found, &|l| text.rfind(&format!(" {l} ")));
        }
    }
    if text.split_whitespace().count() <= 5 {
        return None;
    }
    let low = text.to_lowercase();
    let choice = |l: char| labels(options.len()).zip(options).find(|(o, _)| *o == l).map(|(_, o)| o.to_lowercase());
    let found = labels(options.len()).filter(|l| choice(*l).is_some_and(|o| low.contains(&o))).collect();
    last(found, &|l| choice(l).and_then(|o| low.rfind(&o)))
}

/// Phrases after which the shared parser of lmms-eval looks for a letter.
const PHRASES: [&str; 27] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
];

/// Returns the first position of `what` in `text` at or after `from`, in characters.
fn find(text: &[char], what: &[char], from: usize) -> Option<usize> {
    (from..(text.len() + 1).saturating_sub(what.len())).find(|at| text.get(*at..at + what.len()) == Some(what))
}

fn rfind(text: &[char], what: &[char]) -> Option<usize> {
    (0..(text.len() + 1).saturating_sub(what.len())).rev().find(|at| text.get(*at..at + what.len()) == Some(what))
}

/// Returns the letter that the shared parser of lmms-eval (`mcq_extract.py`) finds: the one in the most trusted form,
/// and the last one if several have that form. If no form fits, it takes any capital among the letters.
pub(crate) fn extracted(answer: &str, letters: &[char]) -> Option<char> {
    if trimmed(answer).is_empty() {
        return None;
    }
    let text: Vec<char> = without_signs(trimmed(answer), &[',', '.', '!', '?', ';', ':', '\'', '"']).chars().collect();
    let low: Vec<char> = text.iter().collect::<String>().to_lowercase().chars().collect();
    // Each entry is (trust, position, letter).
    let mut found: Vec<(u8, usize, char)> = Vec::new();
    for (trust, before, after) in [(6, "(", ")"), (5, "", "."), (4, "", ":"), (3, "", ")"), (2, "", " ")] {
        for l in letters {
            let form: Vec<char> = format!("{before}{l}{after}").chars().collect();
            found.extend(rfind(&text, &form).map(|at| (trust, at, *l)));
        }
    }
    for phrase in PHRASES {
        let phrase: Vec<char> = phrase.chars().collect();
        let Some(at) = find(&low, &phrase, 0) else { continue };
        found.extend(letters.iter().filter_map(|l| Some((7, find(&text, &[*l], at + phrase.len())?, *l))));
    }
    let stripped: Vec<char> = trimmed(&text.iter().collect::<String>()).chars().collect();
    for l in letters {
        if stripped.first() == Some(l) && stripped.get(1).is_none_or(|c| !c.is_alphabetic()) {
            found.push((10, 0, *l));
        }
    }
    for l in letters {
        let before = stripped.len().checked_sub(2).and_then(|at| stripped.get(at));
        if stripped.last() == Some(l) && before.is_none_or(|c| !c.is_alphabetic()) {
            found.push((9, text.len() - 1, *l));
        }
    }
    if found.is_empty() {
        found.extend(letters.iter().filter_map(|l| Some((0, rfind(&text, &[*l])?, *l))));
    }
    // Ties go to the first entry.
    found.into_iter().reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best }).map(|f| f.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_removed_as_lmms_eval_does_by_default() {
        for (text, left) in [
            ("<think>a</think> B", "B"),
            ("<think>a</think><think>b</think>C", "C"),
            ("a</think>b</think>C", "C"),
            ("<think>a", "<think>a"),
            ("<THINK>a</THINK>C", "<THINK>a</THINK>C"),
            ("<thinking>a</thinking>C", "<thinking>a</thinking>C"),
            ("<analysis>a</analysis>C ", "C"),
            ("</think>a<think>b", "</think>a<think>b"),
        ] {
            assert_eq!(cleaned(text), left, "{text}");
        }
    }

    #[test]
    fn capitals_are_those_of_python() {
        for (text, capital) in [
            ("What is NASA's?", "What is nasa's?"),
            ("ß", "Ss"),
            ("éTÉ", "Été"),
            ("", ""),
            ("ΟΔΟΣ", "Οδος"),
            ("1A", "1a"),
        ] {
            assert_eq!(capitalised(text), capital);
        }
    }
}
