//! The authors' parser for open answers: the texts and numbers in an answer that may be meant, and their comparison.

use crate::score::plain_number;
use std::fmt;

/// A text or number in an answer that may be meant as the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Candidate {
    /// A number, rounded to two decimals.
    Number(f64),
    /// A text in lower case; a single character has a space beside it, so that it does not match inside words.
    Text(String),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Phrases that announce an answer; in the last line an equals sign does too.
const SIGNPOSTS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];

/// Texts that are no answer.
const SIGNS: [&str; 7] = [":", ",", ".", "!", "?", ";", "'"];

/// Returns the ends of lines after announcing phrases, or the whole answer, and the numbers in them.
pub(super) fn candidates(answer: &str) -> Vec<Candidate> {
    let whole = answer.trim().trim_matches('.').to_lowercase();
    // The authors also split after full stops before capitals, but the text is already in lower case.
    let lines: Vec<&str> = whole.split('\n').collect();
    let mut texts: Vec<String> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let equals = (i + 1 == lines.len()).then_some("=");
        let behind = SIGNPOSTS.into_iter().chain(equals).filter_map(|post| Some(line.rsplit_once(post)?.1.trim()));
        // An empty end is replaced by any later one.
        let shorter = |a: &str, b: &str| a.is_empty() || b.chars().count() < a.chars().count();
        let shortest = behind.reduce(|best, next| if shorter(best, next) { next } else { best });
        texts.extend(shortest.filter(|text| !text.is_empty() && !SIGNS.contains(text)).map(String::from));
    }
    if texts.is_empty() {
        texts.push(whole);
    }
    let numbers: Vec<String> = texts.iter().flat_map(|text| numbers(text)).collect();
    texts.iter().chain(&numbers).flat_map(|text| normalised(text)).collect()
}

/// Returns whether a candidate matches an accepted answer: the same number, or a text that contains it.
pub(super) fn fits(candidates: &[Candidate], accepted: &[String]) -> bool {
    let accepted: Vec<Candidate> = accepted.iter().flat_map(|text| normalised(text)).collect();
    candidates.iter().any(|candidate| {
        accepted.iter().any(|expected| match (candidate, expected) {
            (Candidate::Text(text), Candidate::Text(expected)) => text.contains(expected),
            (Candidate::Number(a), Candidate::Number(b)) => a == b,
            _ => false,
        })
    })
}

fn normalised(text: &str) -> Vec<Candidate> {
    let text = text.trim();
    if let Some(number) = plain_number(&text.replace(',', "")) {
        let rounded = format!("{number:.2}").parse().unwrap_or(number);
        return vec![Candidate::Number(rounded)];
    }
    let low = text.to_lowercase();
    match low.chars().count() {
        1 => vec![Candidate::Text(format!(" {low}")), Candidate::Text(format!("{low} "))],
        _ => vec![Candidate::Text(low)],
    }
}

/// Returns the numbers in a text: all with commas (`1,234`), then all with an exponent (`1e5`), then all plain ones.
fn numbers(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    for form in [with_commas, with_exponent, plain] {
        let mut at = 0;
        while at < chars.len() {
            // A minus sign is part of the number if one follows.
            let start = at + usize::from(chars.get(at) == Some(&'-'));
            match form(&chars, start) {
                Some(end) => {
                    found.push(chars.get(at..end).unwrap_or_default().iter().collect());
                    at = end;
                }
                None => at += 1,
            }
        }
    }
    found
}

fn digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

/// Returns whether the character at `at` is a word character (as `\w` in regular expressions).
fn word(chars: &[char], at: Option<usize>) -> bool {
    at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// Returns the end of the run of digits that begins at `at`, which may be empty.
fn digits(chars: &[char], mut at: usize) -> usize {
    while digit(chars, at) {
        at += 1;
    }
    at
}

/// Matches one to three digits that begin a word, then groups of a comma and three digits that end a word.
fn with_commas(chars: &[char], start: usize) -> Option<usize> {
    let first = digits(chars, start);
    if word(chars, start.checked_sub(1)) || !(1..=3).contains(&(first - start)) {
        return None;
    }
    let mut end = first;
    let mut last_whole = None;
    while chars.get(end) == Some(&',') && (1..=3).all(|i| digit(chars, end + i)) {
        end += 4;
        if !word(chars, Some(end)) {
            last_whole = Some(end);
        }
    }
    last_whole
}

/// Matches digits, an optional fraction, and an exponent.
fn with_exponent(chars: &[char], start: usize) -> Option<usize> {
    let whole = digits(chars, start);
    let fraction = if chars.get(whole) == Some(&'.') { digits(chars, whole + 1) } else { whole };
    let mantissa = if fraction > whole + 1 { fraction } else { whole };
    (whole > start).then(|| exponent(chars, mantissa)).flatten()
}

/// Returns the end of the exponent that begins at `at`.
fn exponent(chars: &[char], at: usize) -> Option<usize> {
    matches!(chars.get(at), Some('e' | 'E')).then_some(())?;
    let from = at + 1 + usize::from(matches!(chars.get(at + 1), Some('+' | '-')));
    Some(digits(chars, from)).filter(|end| *end > from)
}

/// Matches digits with or without a fraction, or a fraction alone, not followed by an exponent, comma or digit.
fn plain(chars: &[char], start: usize) -> Option<usize> {
    let alone = |end: usize| exponent(chars, end).is_none() && chars.get(end) != Some(&',') && !digit(chars, end);
    let whole = digits(chars, start);
    let fraction = if chars.get(whole) == Some(&'.') { digits(chars, whole + 1) } else { whole };
    if fraction > whole + 1 && alone(fraction) {
        return Some(fraction);
    }
    (whole > start && !word(chars, Some(whole)) && alone(whole)).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_forms() {
        // Expected values are what Python's `re` finds with the authors' three patterns.
        let of = |text: &str| numbers(text).join(" ");
        assert_eq!(of("1,234,567 and -1.5e-3, x12 3.5"), "1,234,567 -1.5e-3 567 -1 12 3.5");
        assert_eq!(of("1,234,5678"), "1,234 5678");
        assert_eq!(of("12,34"), "34");
        assert_eq!(of("12.5, .75 -3"), "12 .75 -3");
    }

    #[test]
    fn rounding_is_half_to_even_of_the_exact_value() {
        let rounded = |text: &str| normalised(text).first().map(ToString::to_string).unwrap_or_default();
        for (text, expected) in [("0.125", "0.12"), ("2.675", "2.67"), ("1.005", "1"), ("0.375", "0.38")] {
            assert_eq!(rounded(text), expected);
        }
    }
}
