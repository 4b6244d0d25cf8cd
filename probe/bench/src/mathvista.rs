//! MathVista (testmini): mathematics in pictures, with choices or with a number or list as the answer; accuracy.
//!
//! The authors extract an answer in two steps: rules first (the whole answer is a choice, an integer, a number; `The
//! answer is "…".`), then a language model. What was extracted becomes a choice (by its letter in parentheses, its letter,
//! or else the choice with the least edit distance) or a rounded number, and has to be equal to the expected one.
//!
//! Here no language model extracts. Official are the authors' rules, `quick_extract` among them, and their comparison; in
//! place of the language model, only what an answer announces without doubt is extracted: a letter or the text of one
//! choice as the strict parser of all families reads it, a number or list that is the whole answer or all that follows
//! the last "answer is" or "answer:". What cannot be extracted so is unparsed, and no choice is guessed for it.
//!
//! The study compares the whole answer with the letter, so that `B. 12` or a text with reasons is wrong, and numbers within
//! 5 % of the predicted one. Its prompt asks for reasons nevertheless.

use super::score::{self, edit_distance, plain_number};
use super::table::{Columns, Row, Table};
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, read, study, vlmevalkit};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MathVista family.
pub struct MathVista {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&MATHVISTA];

/// The testmini split, as published.
pub static MATHVISTA: MathVista = MathVista {
    card: Card {
        id: "mathvista",
        category: Category::Knowledge,
        metric: "accuracy, extraction without a language model",
        version: "1",
        citation: "Lu et al. 2023, MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts, arXiv:2310.02255",
        form: Form::Open,
        max_new_tokens: 512,
        source: Some(Source {
            repository: "AI4Math/MathVista",
            folder: "",
            split: "testmini",
            questions: 1000,
            licence: "CC BY-SA 4.0 (the pictures belong to the makers of their datasets); as a test set only",
        }),
    },
};

/// The facts: the prompt as published (hint, question, choices); the kind of answer, `text`, `integer`, `float` or `list`;
/// to how many decimals a number is compared.
const QUERY: &str = "query";
const KIND: &str = "answer_type";
const PRECISION: &str = "precision";

/// The line by which the study asks for a choice.
const REASONS_LINE: &str = "First show your reasoning process and then give the final answer.";

const VALUES: [&str; 10] = [
    "pid",
    "question",
    "query",
    "choices",
    "answer",
    "question_type",
    "answer_type",
    "precision?",
    "unit?",
    "metadata",
];

fn question(row: &Row) -> Result<Option<Question>> {
    let image = row.picture("decoded_image")?;
    let subtask = row.value("metadata").and_then(|m| m.get("task")).and_then(|task| task.as_str());
    let q = Question {
        id: row.text("pid")?,
        question: row.text("question")?,
        subtask: subtask.unwrap_or("all").into(),
        image_id: row.maybe("image").unwrap_or_else(|| image.to_string()),
        unit: image.to_string(),
        images: vec![image],
        facts: [(QUERY.to_string(), row.text("query")?)].into(),
        ..Question::default()
    };
    with_answer(q, row).map(Some)
}

/// VLMEvalKit's edition, whose `question` is the prompt.
fn of_vlmevalkit(row: &Row) -> Result<Option<Question>> {
    let image = row.picture("image")?;
    let query = row.text("question")?;
    let q = Question {
        id: row.text("index")?,
        question: query.clone(),
        subtask: row.maybe("task").unwrap_or_else(|| "all".into()),
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        facts: [(QUERY.to_string(), query)].into(),
        ..Question::default()
    };
    with_answer(q, row).map(Some)
}

/// Adds choices and answer. The answer to a question with choices is written as text; here it is the letter, of two choices
/// with that text the last, as in the study's code.
fn with_answer(mut q: Question, row: &Row) -> Result<Question> {
    q.row = row.number;
    q.answer = row.text("answer")?;
    q.facts.insert(KIND.into(), row.text("answer_type")?);
    if let Some(precision) = row.maybe("precision") {
        q.facts.insert(PRECISION.into(), precision);
    }
    if row.text("question_type")? == "multi_choice" {
        q.options = row.choices("choices")?;
        if q.options.is_empty() {
            return Err(Error::failed("it is a question with choices, but has none"));
        }
        let same = ('A'..='Z').zip(&q.options).filter(|(_, option)| **option == q.answer);
        let letter = same.map(|(letter, _)| letter).last();
        let wrong = || {
            let answer = excerpt(&q.answer, 60);
            Error::failed(format!("the column `answer` holds {answer:?}, none of the choices"))
        };
        q.answer = letter.ok_or_else(wrong)?.to_string();
    }
    Ok(q)
}

/// The choice whose letter this is.
fn choice(q: &Question, letter: char) -> Option<&String> {
    ('A'..='Z').zip(&q.options).find(|(l, _)| *l == letter).map(|(_, option)| option)
}

/// What stands in the first `The answer is "…".` of a line, up to the last quote.
fn quoted(answer: &str) -> Option<&str> {
    const START: &str = "The answer is \"";
    let (_, after) = answer.split_once(START)?;
    let line = after.split('\n').next().unwrap_or_default();
    line.rsplit_once("\".").map(|(text, _)| text).or_else(|| quoted(after))
}

/// The choice that an answer is taken to mean.
fn extracted_choice<'a>(q: &'a Question, answer: &str) -> Option<&'a String> {
    if let Some(option) = q.options.iter().find(|option| *option == answer) {
        return Some(option);
    }
    let Some(text) = quoted(answer) else {
        return score::letter(answer, &q.options).and_then(|letter| choice(q, letter));
    };
    // What was extracted: by its letter, or else the choice that is most alike.
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let letter = in_parentheses(text).map(String::from).unwrap_or_else(|| text.to_string());
    if let Some(option) = ('A'..='Z').zip(&q.options).find(|(l, _)| letter == l.to_string()).map(|(_, o)| o) {
        return Some(option);
    }
    let said: Vec<char> = letter.chars().collect();
    q.options.iter().min_by_key(|option| edit_distance(&said, &option.chars().collect::<Vec<_>>()))
}

/// The first letter in parentheses, in upper case.
fn in_parentheses(text: &str) -> Option<char> {
    text.match_indices('(').find_map(|(at, _)| {
        let mut chars = text.get(at + 1..)?.chars();
        let letter = chars.next().filter(char::is_ascii_alphabetic)?;
        (chars.next()? == ')').then_some(letter.to_ascii_uppercase())
    })
}

/// The number or list that an answer is taken to give: the whole, or what follows the last announcement.
fn extracted_value(answer: &str) -> Vec<&str> {
    let mut texts = vec![answer];
    if let Some(text) = quoted(answer) {
        texts.push(text);
    }
    let low = answer.to_ascii_lowercase();
    let ends = ["answer is", "answer:"].iter().filter_map(|phrase| low.rfind(phrase).map(|at| at + phrase.len()));
    if let Some(after) = ends.max().and_then(|end| answer.get(end..)) {
        let around = |c: char| c.is_whitespace() || matches!(c, ':' | '*' | '"' | '\'' | '`' | '$');
        texts.push(after.trim_matches(around).trim_end_matches('.').trim_matches(around));
    }
    texts
}

/// The value in the form in which the authors compare it.
fn normalised(q: &Question, text: &str) -> Option<String> {
    match q.fact(KIND) {
        "integer" => plain_number(text).filter(|v| v.is_finite()).map(|v| format!("{:.0}", v.trunc() + 0.0)),
        "float" => {
            let decimals = plain_number(q.fact(PRECISION))?.clamp(0.0, 17.0) as usize;
            let value = plain_number(text)?;
            Some(printed(format!("{value:.decimals$}").parse().unwrap_or(value)))
        }
        _ => Some(text.trim().to_string()).filter(|t| t.starts_with('[') && t.ends_with(']')),
    }
}

/// A number as Python prints it.
fn printed(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if !value.is_finite() || value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

impl Benchmark for MathVista {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        if let Some(table) = vlmevalkit::table(data, "MathVista_MINI.tsv") {
            let columns = Columns {
                values: &[
                    "index",
                    "question",
                    "choices?",
                    "answer",
                    "question_type",
                    "answer_type",
                    "precision?",
                    "task?",
                ],
                pictures: &["image"],
            };
            return read::published(self, &table, columns, of_vlmevalkit);
        }
        let columns = Columns { values: &[&VALUES[..], &["image?"]].concat(), pictures: &["decoded_image"] };
        read::published(self, &Table::open(data, source)?, columns, question)
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        let query = q.fact(QUERY);
        match rules {
            Rules::Official => query.to_string(),
            Rules::Cambrian1 if q.options.is_empty() => score::short_answer_prompt(query),
            Rules::Cambrian1 => format!("{query}\n{REASONS_LINE}"),
        }
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        let answer = answer.trim();
        match (rules, q.options.is_empty()) {
            _ if answer.is_empty() => Judged::unparsed(),
            (Rules::Official, false) => match extracted_choice(q, answer) {
                Some(option) => {
                    let right = score::label(&q.answer).and_then(|letter| choice(q, letter)) == Some(option);
                    Judged::new(option.as_str(), right)
                }
                None => Judged::unparsed(),
            },
            (Rules::Official, true) => match extracted_value(answer).iter().find_map(|text| normalised(q, text)) {
                Some(said) => {
                    let right = said == q.answer;
                    Judged::new(said, right)
                }
                None => Judged::unparsed(),
            },
            (Rules::Cambrian1, _) => {
                let (said, expected) = (answer.to_lowercase(), q.answer.to_lowercase());
                let right = said == expected || study::near(&expected, &said);
                Judged::new(said, right)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_in_python() {
        for (value, text) in
            [(1.0, "1.0"), (0.25, "0.25"), (-0.0, "-0.0"), (1e16, "1e+16"), (1.5e-5, "1.5e-05"), (123456.5, "123456.5")]
        {
            assert_eq!(printed(value), text);
        }
    }
}
