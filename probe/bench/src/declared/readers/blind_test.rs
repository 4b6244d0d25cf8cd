//! Reads the answers to the tasks of "VLMs are blind": a number, yes or no, a letter, or rows and columns.

use super::AnswerReader;
use super::count::{WORDS, of_word};
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::AnswerScore;
use burgess_base::{Error, Result};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The reader `blind-test`: the form of the answer follows from the subtask.
pub(super) struct BlindTest;

/// The form of the answers to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskForm {
    Number,
    YesNo,
    Letter,
    RowsAndColumns,
}

fn form_of(task: &str) -> Option<TaskForm> {
    match task.to_lowercase().as_str() {
        "line plot intersections"
        | "subway connections"
        | "nested squares"
        | "olympic counting - circles"
        | "olympic counting - pentagons" => Some(TaskForm::Number),
        "touching circles" => Some(TaskForm::YesNo),
        "circled letter" => Some(TaskForm::Letter),
        task if task.starts_with("counting grid") => Some(TaskForm::RowsAndColumns),
        _ => None,
    }
}

/// Returns the only distinct value; `None` if there is none, or several.
fn only<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut distinct: BTreeSet<T> = values.collect();
    distinct.pop_first().filter(|_| distinct.is_empty())
}

/// Returns the contents of the curly brackets in a text.
fn in_brackets(text: &str) -> Vec<&str> {
    let inside = |part: &&str| part.contains('}');
    text.split('{').skip(1).filter(inside).filter_map(|part| part.split('}').next()).map(str::trim).collect()
}

/// Returns the words of a text in lower case: letters and digits, with apostrophes inside.
fn words(low: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’'));
    low.split(between).map(|word| word.trim_matches(['\'', '’'])).filter(|word| !word.is_empty())
}

/// Returns the whole number that a text in lower case is: digits, a word up to twenty, or "none".
fn whole_number(low: &str) -> Option<u64> {
    let bare = low.trim_matches(|c: char| !c.is_alphanumeric());
    match bare {
        "none" => Some(0),
        _ if low.starts_with('-') => None,
        _ if bare.bytes().all(|b| b.is_ascii_digit()) => bare.parse().ok(),
        _ => of_word(bare).map(|n| n as u64),
    }
}

/// Returns the number that an answer gives: that in curly brackets; else the whole answer; else the only number in it,
/// as digits or, if it has none, as a word other than "one".
fn number(answer: &str) -> Option<u64> {
    let low = answer.to_lowercase();
    let brackets = in_brackets(&low);
    let bracketed: Vec<u64> = brackets.iter().filter_map(|text| whole_number(text)).collect();
    if !bracketed.is_empty() {
        return only(bracketed.into_iter());
    }
    if let Some(number) = whole_number(low.trim()) {
        return Some(number);
    }
    let digits: Vec<&str> = low
        .split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '(' | ')' | '<' | '>' | '$' | '=' | ':' | '*'))
        .map(|token| token.trim_end_matches(['.', ',', ';', '!', '?']))
        .filter(|token| token.chars().any(char::is_numeric))
        .collect();
    if digits.is_empty() {
        return only(words(&low).filter(|w| *w != "one").filter_map(|w| of_word(w).map(|n| n as u64)));
    }
    // A token such as 3.5 or -3 is a number that is no count.
    let counts: Option<Vec<u64>> = digits.iter().map(|token| token.parse().ok()).collect();
    only(counts?.into_iter())
}

/// Returns yes or no if exactly one of them is a word of the answer.
fn yes_no(answer: &str) -> Option<&'static str> {
    let low = answer.to_lowercase();
    let has = |word: &str| words(&low).any(|w| w == word);
    match (has("yes"), has("no")) {
        (true, false) => Some("yes"),
        (false, true) => Some("no"),
        _ => None,
    }
}

/// Returns the letter in curly brackets; else the only word of one letter.
fn letter(answer: &str) -> Option<char> {
    let single = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|c| c.is_ascii_alphabetic() && chars.next().is_none())
    };
    let low = answer.to_lowercase();
    let brackets = in_brackets(&low);
    match brackets.is_empty() {
        false => only(brackets.into_iter().map(single))?,
        true => only(words(&low).filter_map(single)),
    }
}

/// Patterns of rows and columns, in the order in which they are tried; each has two groups, or two patterns.
struct GridPatterns {
    labelled: [[Regex; 2]; 2],
    pairs: Vec<Regex>,
}

static GRID: LazyLock<Option<GridPatterns>> = LazyLock::new(|| {
    let number = format!("([0-9]+|{})", WORDS.join("|"));
    let pattern = |text: String| Regex::new(&text).ok();
    let after = |word: &str| pattern(format!(r"\b{word}\s*[=:]?\s*\{{?{number}\b"));
    let before = |word: &str| pattern(format!(r"\b{number}\s+{word}\b"));
    let (rows, columns) = ("rows?", "col(?:umn)?s?");
    Some(GridPatterns {
        labelled: [[after(rows)?, after(columns)?], [before(rows)?, before(columns)?]],
        pairs: vec![
            pattern(r"\{([0-9]+)\}\s*,?\s*\{([0-9]+)\}".into())?,
            pattern(r"\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)".into())?,
            pattern(r"\b([0-9]+)\s*(?:x|×|by)\s*([0-9]+)\b".into())?,
            pattern(r"^[\[{*\s]*([0-9]+)(?:\s*,\s*|\s+)([0-9]+)[\]}*.\s]*$".into())?,
        ],
    })
});

/// Returns rows and columns that an answer gives.
fn rows_and_columns(answer: &str) -> Option<(u64, u64)> {
    let grid = GRID.as_ref()?;
    let low = answer.to_lowercase();
    let value = |text: &str| text.parse().ok().or_else(|| of_word(text).map(|n| n as u64));
    for [rows, columns] in &grid.labelled {
        let find = |pattern: &Regex| {
            only(pattern.captures_iter(&low).filter_map(|c| value(c.get(1).map_or("", |m| m.as_str()))))
        };
        if let (Some(rows), Some(columns)) = (find(rows), find(columns)) {
            return Some((rows, columns));
        }
    }
    grid.pairs.iter().find(|pattern| pattern.is_match(&low)).and_then(|pattern| {
        let group = |c: &regex::Captures<'_>, i: usize| value(c.get(i).map_or("", |m| m.as_str()));
        only(pattern.captures_iter(&low).map(|c| group(&c, 1).zip(group(&c, 2))))?
    })
}

/// Returns what an answer says, in one spelling.
fn said(form: TaskForm, answer: &str) -> Option<String> {
    match form {
        TaskForm::Number => number(answer).map(|n| n.to_string()),
        TaskForm::YesNo => yes_no(answer).map(String::from),
        TaskForm::Letter => letter(answer).map(String::from),
        TaskForm::RowsAndColumns => rows_and_columns(answer).map(|(rows, columns)| format!("{rows},{columns}")),
    }
}

/// The patterns of lmms-eval: a number, a letter, and three forms of rows and columns.
static LMMS: LazyLock<Option<[Regex; 5]>> = LazyLock::new(|| {
    let pattern = |text| Regex::new(text).ok();
    Some([
        pattern(r"\{?(\d+)\}?")?,
        pattern(r"\{?([a-z])\}?")?,
        pattern(r"\{(\d+)\}\s*\{(\d+)\}")?,
        pattern(r"\((\d+)\s*,\s*(\d+)\)")?,
        pattern(r"rows=\{(\d+)\}\scolumns=\{(\d+)\}")?,
    ])
});

/// Returns what the task of lmms-eval reads.
fn lmms_said(form: TaskForm, answer: &str) -> Option<String> {
    let [number, letter, grids @ ..] = LMMS.as_ref()?;
    let low = answer.trim().to_lowercase();
    let first = |pattern: &Regex| Some(pattern.captures(&low)?.get(1)?.as_str().to_string());
    match form {
        TaskForm::YesNo => matches!(low.as_str(), "yes" | "no").then_some(low),
        TaskForm::Number => first(number),
        TaskForm::Letter => first(letter),
        TaskForm::RowsAndColumns => grids.iter().find_map(|pattern| {
            let found = pattern.captures(&low)?;
            Some(format!("{},{}", found.get(1)?.as_str(), found.get(2)?.as_str()))
        }),
    }
}

impl AnswerReader for BlindTest {
    fn name(&self) -> &'static str {
        "blind-test"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["strict", "lmms-eval"]
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        let form = form_of(&q.subtask);
        let form = form.ok_or_else(|| Error::failed(format!("the task {:?} is not known", q.subtask)))?;
        match said(form, &q.answer) {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!("the right answer {:?} does not fit the task", q.answer))),
        }
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("lmms-eval") => {
                "In lower case: counts are the first digits, the circled letter is the first letter of the answer, \
                    touching circles are yes or no as the whole answer, and a grid is {3}{4}, (3,4) or rows={3} \
                    columns={4}."
            }
            _ => {
                "Counts: the number in curly brackets, else the only number in the answer (a word other than \"one\" \
                    if it has no digits). Touching circles: the only one of the words yes and no. Circled letter: that \
                    in curly brackets, else the only word of one letter. Grids: numbers beside the words rows and \
                    columns, else the only pair such as (3,4), {3}{4} or 3 x 4."
            }
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let Some(form) = form_of(&q.subtask) else { return AnswerScore::unparsed() };
        let (found, right) = match table.by.as_deref() {
            Some("lmms-eval") => (lmms_said(form, answer), Some(q.answer.trim().to_lowercase())),
            _ => (said(form, answer), said(form, &q.answer)),
        };
        match found {
            Some(found) => {
                let right = right.as_ref() == Some(&found);
                AnswerScore::new(found, right)
            }
            None => AnswerScore::unparsed(),
        }
    }
}
