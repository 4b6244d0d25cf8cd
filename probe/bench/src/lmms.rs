//! Rules of lmms-eval 0.7.3 that several of its tasks share, for numbers that can be laid beside its own.
//!
//! They are kept with their quirks. Every answer loses its reasoning as that harness' default does it ([`cleaned`]).
//! Where it draws a letter at random or asks a language model, nothing is drawn or asked here: the answer is unparsed.
//! Of 37,500 random answers 31 were judged otherwise, all of them with one of the control characters U+001C to U+001F inside,
//! which Python counts as white space.
//! Goldens with its verdicts are made by `tests/reference/scorers_lmms_eval.py`.

use super::{Judged, Question};
use crate::score::{label, plain_number};

/// The line by which some of its tasks ask for a letter, without a full stop.
pub(crate) const MMSTAR_LINE: &str = "Answer with the option's letter from the given choices directly";

/// The tags of `--reasoning_tags` by default.
const REASONING: [(&str, &str); 2] = [("<think>", "</think>"), ("<analysis>", "</analysis>")];

/// White space as Python's `str.strip` removes it.
fn blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The text without white space around it.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(blank)
}

/// What its scorers get of an answer: pairs of tags and what they enclose are removed, of a closing tag alone all in front
/// of it; an opening tag alone stays. Only these tags, in lower case. Then white space around it goes.
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

/// A verdict on a text; an empty one that is not right says nothing.
pub(crate) fn on_text(said: &str, right: bool) -> Judged {
    if said.is_empty() && !right { Judged::unparsed() } else { Judged::new(said, right) }
}

/// A verdict on a letter, which need not be that of a choice.
pub(crate) fn on_letter(q: &Question, said: Option<char>) -> Judged {
    match said {
        Some(said) => Judged::new(said, label(&q.answer) == Some(said)),
        None => Judged::unparsed(),
    }
}

/// The labels of `n` choices.
pub(crate) fn labels(n: usize) -> impl Iterator<Item = char> + Clone {
    ('A'..='\u{10ffff}').take(n)
}

/// The choices, a line each: `A. dog`.
pub(crate) fn lines(options: &[String]) -> String {
    let lines: Vec<String> = labels(options.len()).zip(options).map(|(l, o)| format!("{l}. {o}")).collect();
    lines.join("\n")
}

/// Python's `str.capitalize`: the first character in upper case, all others in lower case.
pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut upper = first.to_uppercase();
    let head: String = upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect();
    // Lower-casing depends on the neighbours (Σ).
    let whole = text.to_lowercase();
    head + whole.get(first.to_lowercase().map(char::len_utf8).sum()..).unwrap_or_default()
}

/// Whether two texts are the same to its `exact_match`, up to case and ASCII punctuation. It compares in arrays of fixed
/// width, so that a text that grows in lower case is cut to its length.
pub(crate) fn exact(said: &str, expected: &str) -> bool {
    let plain = |text: &str| -> String {
        let text = text.trim_end_matches('\0');
        let low = text.to_lowercase();
        low.chars().take(text.chars().count()).filter(|c| !c.is_ascii_punctuation()).collect()
    };
    plain(said) == plain(expected)
}

/// The number that Python's `int` makes of a text.
pub(crate) fn integer(text: &str) -> Option<f64> {
    let digits = trimmed(text).trim_start_matches(['+', '-']);
    let integral = digits.chars().all(|c| c == '_' || c.is_ascii_digit() || crate::score::decimal_digit(c).is_some());
    plain_number(text).filter(|_| integral && !digits.is_empty())
}

/// Takes each of these signs from both ends, one sign after the other.
fn without_signs(text: &str, signs: &[char]) -> String {
    format!(" {} ", signs.iter().fold(text, |text, sign| text.trim_matches(*sign)))
}

/// The letter that MMMU's and Q-Bench's tasks find: of those as `(B)` the last; if there are none, of those with a space
/// behind, then of those with a full stop behind, the last one that stands alone, or the first in their order; then, in
/// more than five words, by the text of a choice.
pub(crate) fn last_named(answer: &str, options: &[String]) -> Option<char> {
    let text = without_signs(answer, &[',', '.', '!', '?', ';', ':', '\'']);
    let named = |form: &dyn Fn(char) -> String| -> Vec<char> {
        labels(options.len()).filter(|l| text.contains(&form(*l))).collect()
    };
    // The first of the greatest places; a letter without one comes before all.
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

/// Phrases behind which its shared parser looks for a letter.
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

/// Where a text stands in another, behind `from`; both as characters.
fn find(text: &[char], what: &[char], from: usize) -> Option<usize> {
    (from..(text.len() + 1).saturating_sub(what.len())).find(|at| text.get(*at..at + what.len()) == Some(what))
}

fn rfind(text: &[char], what: &[char]) -> Option<usize> {
    (0..(text.len() + 1).saturating_sub(what.len())).rev().find(|at| text.get(*at..at + what.len()) == Some(what))
}

/// The letter that its shared parser (`mcq_extract.py`) finds: of all that have one of its forms the one in the most
/// trusted form, of several in that form the last. Any capital among the letters is taken if no form fits.
pub(crate) fn extracted(answer: &str, letters: &[char]) -> Option<char> {
    if trimmed(answer).is_empty() {
        return None;
    }
    let text: Vec<char> = without_signs(trimmed(answer), &[',', '.', '!', '?', ';', ':', '\'', '"']).chars().collect();
    let low: Vec<char> = text.iter().collect::<String>().to_lowercase().chars().collect();
    // Trust, place, letter.
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
    // The first of equal ones.
    found.into_iter().reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best }).map(|f| f.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_goes_as_by_default() {
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
