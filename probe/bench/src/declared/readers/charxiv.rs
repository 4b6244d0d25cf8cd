//! Reads the answers of CharXiv by rules that approximate its judge.
//!
//! The authors have GPT-4o extract and grade the final answer, by a rubric per kind of question. The rules here follow
//! the rubrics where they are mechanical: equal numbers, equal terms up to notation, equal lists, yes or no, layouts,
//! "not applicable". They know no synonyms, so they are stricter than the judge for trends and free phrases.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore, plain_number};
use burgess_base::{Error, Result};
use regex::Regex;
use std::sync::LazyLock;

/// The reader `charxiv`. Its questions have the fact `kind`: `d1` to `d19` for the authors' templates of descriptive
/// questions, `r1` to `r4` for the types of reasoning answers.
pub(super) struct CharXiv;

/// A rubric of the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rubric {
    /// The title; the letter of a subplot before it may be missing.
    Title,
    /// A text or number that is written in the chart.
    Term,
    /// A number.
    Number,
    YesNo,
    /// A list, in the order of the right one.
    List,
    /// A phrase.
    Phrase,
    /// `n by m`.
    Layout,
}

const NOT_APPLICABLE: &str = "not applicable";

/// Greek letters and their names.
const GREEK: [(char, &str); 24] = [
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('δ', "delta"),
    ('ε', "epsilon"),
    ('ζ', "zeta"),
    ('η', "eta"),
    ('θ', "theta"),
    ('ι', "iota"),
    ('κ', "kappa"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('ν', "nu"),
    ('ξ', "xi"),
    ('ο', "omicron"),
    ('π', "pi"),
    ('ρ', "rho"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('υ', "upsilon"),
    ('φ', "phi"),
    ('χ', "chi"),
    ('ψ', "psi"),
    ('ω', "omega"),
];

static QUOTED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let quote = r#"["“”`]"#;
    Regex::new(&format!(r#"{quote}([^"“”`]+){quote}|'([^']{{2,}})'"#)).ok()
});
static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\(?[a-z]\)\s*").ok());
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let whole = r"[-−]?(?:\d+(?:,\d{3})+|\d+)?\.?\d+";
    let power = r"\^\{?[-−]?\d+\}?";
    Regex::new(&format!(r"{whole}(?:\s*[x×]\s*10\s*\^?\s*\{{?[-−]?\d+\}}?|[eE][-+]?\d+|{power})?")).ok()
});
static LAYOUT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\d+)\s*(?:by|x|×|\*)\s*(\d+)").ok());
static ROWS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\w+) rows? and (\w+) columns?").ok());
static YES_NO: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(yes|no)\b").ok());

fn rubric(kind: &str) -> Option<Rubric> {
    Some(match kind {
        "d1" => Rubric::Title,
        "d2" | "d3" | "d4" | "d5" | "d6" | "d7" | "r1" => Rubric::Term,
        "d8" | "d9" | "d10" | "d12" | "d14" | "d15" | "d17" | "d19" | "r3" | "r4" => Rubric::Number,
        "d11" => Rubric::YesNo,
        "d13" => Rubric::List,
        "d16" | "r2" => Rubric::Phrase,
        "d18" => Rubric::Layout,
        _ => return None,
    })
}

/// Returns a term without notation: lower case, Greek letters by name, no LaTeX signs, quotes and spaces; indices in
/// the order of their characters, so that `A_v^t` is `A^t_v`.
fn plain(text: &str) -> String {
    let low = text.trim().trim_end_matches('.').to_lowercase();
    let mut words = low.replace("\\text", "").replace("\\mathrm", "").replace("\\mathcal", "").replace('−', "-");
    for (letter, name) in GREEK {
        words = words.replace(letter, name);
    }
    let mut out = String::new();
    let mut marks: Vec<String> = Vec::new();
    let mut chars = words.chars().filter(|c| !matches!(c, '$' | '\\' | '"' | '“' | '”' | '`' | '\'')).peekable();
    while let Some(c) = chars.next() {
        if !matches!(c, '^' | '_') {
            flush(&mut marks, &mut out);
            if !matches!(c, '{' | '}') && !c.is_whitespace() {
                out.push(c);
            }
            continue;
        }
        let mut mark = String::from(c);
        if chars.next_if_eq(&'{').is_some() {
            while let Some(inner) = chars.next_if(|c| *c != '}') {
                mark.extend(Some(inner).filter(|c| !c.is_whitespace()));
            }
            chars.next();
        } else {
            while let Some(inner) = chars.next_if(|c| c.is_alphanumeric() || *c == ',') {
                mark.push(inner);
            }
        }
        marks.push(mark);
    }
    flush(&mut marks, &mut out);
    out
}

/// Appends the indices in the order of their characters.
fn flush(marks: &mut Vec<String>, out: &mut String) {
    marks.sort();
    out.extend(marks.drain(..));
}

/// Returns the parts of a response that may be its final answer: all of it, what is quoted, and what follows the last
/// colon or the last "is", "are" or "as" of its last line.
fn candidates(response: &str) -> Vec<String> {
    let mut found = vec![response.trim().to_string()];
    let last = response.trim().lines().last().unwrap_or_default();
    found.push(last.trim_start_matches(['*', '-', ' ']).to_string());
    for mark in [": ", " is ", " are ", " as ", " be "] {
        found.extend(last.rsplit_once(mark).map(|(_, after)| after.trim_matches(['*', ' ']).to_string()));
    }
    if let Some(pattern) = QUOTED.as_ref() {
        let quoted = pattern.captures_iter(response).filter_map(|g| g.get(1).or_else(|| g.get(2)));
        let quoted: Vec<String> = quoted.map(|g| g.as_str().to_string()).collect();
        // Several quoted parts name no single answer.
        if let [only] = quoted.as_slice() {
            found.push(only.clone());
        }
    }
    found
}

/// Parses a number in one of its notations: `1,500`, `1.5e3`, `10^-2`, `2 x 10^3`, `5%`.
fn value(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches(['%', '.']).replace('−', "-").replace([',', '{', '}', '$'], "");
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    let power = |text: &str| -> Option<f64> {
        let (base, exponent) = text.split_once('^')?;
        Some(plain_number(base)?.powf(plain_number(exponent)?))
    };
    match text.split_once(['x', '×']) {
        Some((factor, rest)) => Some(plain_number(factor)? * power(rest)?),
        None => plain_number(&text).or_else(|| power(&text)).filter(|n| n.is_finite()),
    }
}

/// Returns the number that a response gives: its only number, or the last number of its last line.
fn number(response: &str) -> Option<f64> {
    if let Some(whole) = value(response) {
        return Some(whole);
    }
    let of = |text: &str| -> Vec<f64> {
        let found = NUMBER.as_ref().map(|p| p.find_iter(text).filter_map(|m| value(m.as_str())).collect());
        found.unwrap_or_default()
    };
    let last = of(response.trim().lines().last().unwrap_or_default());
    last.last().copied().or_else(|| of(response).last().copied())
}

fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn list(text: &str) -> Vec<String> {
    text.split([',', ';', '\n']).map(plain).filter(|term| !term.is_empty()).collect()
}

/// Returns whether two lists have the same terms; the order counts only for `ordered`.
fn same_terms(a: &str, b: &str, ordered: bool) -> bool {
    let (mut a, mut b) = (list(a), list(b));
    if !ordered {
        a.sort();
        b.sort();
    }
    a == b
}

/// Returns the numbers of rows and columns: `2 by 3`, `2x3`, or "two rows and three columns".
fn layout(text: &str) -> Option<(f64, f64)> {
    const WORDS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let number = |text: &str| match WORDS.iter().position(|word| *word == text) {
        Some(at) => Some(at as f64 + 1.0),
        None => plain_number(text),
    };
    let found = |pattern: &LazyLock<Option<Regex>>| {
        let groups = pattern.as_ref()?.captures(text)?;
        Some((number(groups.get(1)?.as_str())?, number(groups.get(2)?.as_str())?))
    };
    found(&LAYOUT).or_else(|| found(&ROWS))
}

/// Returns the verdict of a rubric; `None` if the response has no answer of the kind.
fn judged(rubric: Rubric, response: &str, right: &str) -> Option<bool> {
    let low = response.to_lowercase();
    let refuses = low.contains(NOT_APPLICABLE) || matches!(low.trim().trim_end_matches('.'), "n/a" | "none" | "na");
    if right.trim().to_lowercase() == NOT_APPLICABLE {
        return Some(refuses);
    }
    if refuses {
        return Some(false);
    }
    let right_term = plain(right);
    match rubric {
        Rubric::Number => number(response).map(|said| value(right).is_some_and(|right| equal(said, right))),
        Rubric::YesNo => {
            let said = YES_NO.as_ref()?.find(&low)?;
            Some(said.as_str() == right_term)
        }
        Rubric::Layout => layout(&low).map(|said| layout(&right.to_lowercase()) == Some(said)),
        Rubric::Term if value(right).is_some() => {
            let same = |said: f64| value(right).is_some_and(|right| equal(said, right));
            number(response).map(same)
        }
        Rubric::Title | Rubric::Term | Rubric::List | Rubric::Phrase => {
            let without_letter = |term: String| match LETTER.as_ref().filter(|_| rubric == Rubric::Title) {
                Some(pattern) => pattern.replace(&term, "").into_owned(),
                None => term,
            };
            // The letter of a subplot may be given with or without parentheses.
            let bare = |term: String| match term.trim_matches(['(', ')']) {
                letter if letter.chars().count() == 1 => letter.to_string(),
                _ => term,
            };
            let form = |text: &str| bare(without_letter(plain(text)));
            let fits = |said: &String| {
                form(said) == form(right) || (right.contains(',') && same_terms(said, right, rubric == Rubric::List))
            };
            Some(candidates(response).iter().any(fits))
        }
    }
}

impl AnswerReader for CharXiv {
    fn name(&self) -> &'static str {
        "charxiv"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        match rubric(q.fact("kind")) {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!("the kind of question `{}` is not known", q.fact("kind")))),
        }
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "An approximation by rules of the authors' rubrics, which GPT-4o applies: numbers must be equal in value (only \
            number, or last number of the last line); terms and titles up to case, LaTeX signs, Greek letters and the \
            order of indices; lists, for legends in their order; yes or no; layouts as n by m; \"Not Applicable\" \
            must be said. The \
            answer is the whole response, what it quotes, or what follows the last colon or \"is\". Synonyms are not \
            known, so scores are lower than the judge's where phrases are asked for."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = score::normalise(answer);
        match rubric(q.fact("kind")).and_then(|rubric| judged(rubric, answer, &q.answer)) {
            Some(right) if !said.is_empty() => AnswerScore::new(answer.trim(), right),
            _ => AnswerScore::unparsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_of_the_same_term_are_equal() {
        for (a, b) in
            [("α", "alpha"), ("$R^2_{t,h,v,m}$", "R^2_t,h,v,m"), ("A_v^t", "A^t_v"), ("Time (s).", "time (s)")]
        {
            assert_eq!(plain(a), plain(b), "{a} {b}");
        }
        assert_ne!(plain("ACC+"), plain("ACC"));
        assert!(same_terms("b, a", "a,b", false) && !same_terms("b, a", "a,b", true));
        assert_eq!((layout("2 by 3"), layout("two rows and three columns")), (Some((2.0, 3.0)), Some((2.0, 3.0))));
        for (text, number) in [("10^-2", 0.01), ("1.5e3", 1500.0), ("1,500", 1500.0), ("2 x 10^3", 2000.0), ("5%", 5.0)]
        {
            assert!(value(text).is_some_and(|v| equal(v, number)), "{text}");
        }
    }
}
