//! MathVista (testmini): mathematics in images, with choices or with a number or list as the answer; accuracy.
//!
//! The authors extract an answer in two steps: first rules (the whole answer is a choice, an integer or a number; `The
//! answer is "…".`), then a language model. The extracted text becomes a choice (by its letter in parentheses, its
//! letter, or else the choice with the least edit distance) or a rounded number, and must equal the expected one.
//!
//! No language model is used here. Strict rules are the authors' rules, including `quick_extract`, and their
//! comparison. Instead of the language model, they extract only an unambiguous answer: a letter or the text of one
//! choice, as the strict parser of all benchmarks reads it, or a number or list that is the whole answer or follows the
//! last "answer is" or "answer:". Every other answer is unparsed, and no choice is guessed for it.
//!
//! `cambrian-1` compares the whole answer with the letter, so `B. 12` or a text with reasoning is wrong, and accepts
//! numbers within 5 % of the predicted one. Its prompt asks for reasoning nevertheless.
//!
//! lmms-eval asks GPT about every answer that is not exactly a choice's text, an integer or a number; only the part
//! without GPT is implemented here. It rounds numbers to `precision`, which is a float in the published table. In
//! Python this raises an error, which lmms-eval treats as no answer, so no question that expects a float is ever right.

use crate::benchmark::read;
use crate::score::{edit_distance, plain_number};
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, cambrian, labels, lmms, score, vlmevalkit,
};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MathVista family.
pub struct MathVista {
    card: BenchmarkCard<'static>,
}

/// The published testmini split.
pub static MATHVISTA: MathVista = MathVista {
    card: BenchmarkCard {
        id: "mathvista",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "mathvista_testmini_format", metric: "llm_as_judge_eval" }),
        category: &Category::KNOWLEDGE,
        metric: "accuracy, extraction without a language model",
        version: "2",
        citation: "Lu et al. 2023, MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual \
            Contexts, arXiv:2310.02255",
        form: AnswerForm::Open,
        max_new_tokens: 512,
        source: Some(DatasetSource {
            repository: "AI4Math/MathVista",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "testmini",
            questions: 1000,
            licence: "CC BY-SA 4.0 (the images belong to the makers of their datasets); as a test set only",
        }),
    },
};

/// Names of facts: the prompt as published (hint, question, choices); the kind of answer (`text`, `integer`, `float` or
/// `list`); the number of decimals to which numbers are compared.
const QUERY: &str = "query";
const KIND: &str = "answer_type";
const PRECISION: &str = "precision";
/// Name of the fact that holds the unit of the answer, for lmms-eval's prompt.
const UNIT: &str = "unit";
/// Name of the fact that holds the question alone.
const BARE: &str = "bare";

/// The line with which `cambrian-1` asks for a choice.
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

fn question(row: &TableRow) -> Result<Option<Question>> {
    let image = row.image("decoded_image")?;
    let subtask = row.value("metadata").and_then(|m| m.get("task")).and_then(|task| task.as_str());
    let q = Question {
        id: row.text("pid")?,
        question: row.text("question")?,
        subtask: subtask.unwrap_or("all").into(),
        image_id: row.maybe("image").unwrap_or_else(|| image.to_string()),
        unit: image.to_string(),
        images: vec![image],
        facts: [(QUERY.to_string(), row.text("query")?), (BARE.to_string(), row.text("question")?)].into(),
        ..Question::default()
    };
    with_answer(q, row).map(Some)
}

/// Reads a row of VLMEvalKit's edition, whose column `question` holds the whole prompt.
fn of_vlmevalkit(row: &TableRow) -> Result<Option<Question>> {
    let image = row.image("image")?;
    let query = row.text("question")?;
    let q = Question {
        id: row.text("index")?,
        question: query.clone(),
        subtask: row.maybe("task").unwrap_or_else(|| "all".into()),
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        facts: [(BARE.to_string(), bare(&query)), (QUERY.to_string(), query)].into(),
        ..Question::default()
    };
    with_answer(q, row).map(Some)
}

/// Returns the question within a published prompt: the text between "Question: " and the choices.
fn bare(query: &str) -> String {
    let (_, question) = query.rsplit_once("Question: ").unwrap_or(("", query));
    let question = question.split("\nChoices:").next().unwrap_or_default();
    question.split(" (Unit: ").next().unwrap_or_default().trim().to_string()
}

/// Adds choices and answer. The column `answer` holds the text of the right choice, which is converted to its letter;
/// of two choices with the same text the last one counts, as in the `cambrian-1` code.
fn with_answer(mut q: Question, row: &TableRow) -> Result<Question> {
    q.row = row.number;
    q.answer = row.text("answer")?;
    q.facts.insert(KIND.into(), row.text("answer_type")?);
    if let Some(precision) = row.maybe("precision") {
        q.facts.insert(PRECISION.into(), precision);
    }
    if let Some(unit) = row.maybe("unit").filter(|unit| !unit.is_empty()) {
        q.facts.insert(UNIT.into(), unit);
    }
    if row.text("question_type")? == "multi_choice" {
        q.options = row.choices("choices")?;
        if q.options.is_empty() {
            return Err(Error::failed("the question must have choices, but has none"));
        }
        let same = ('A'..='Z').zip(&q.options).filter(|(_, option)| **option == q.answer);
        let letter = same.map(|(letter, _)| letter).last();
        let wrong = || {
            let answer = excerpt(&q.answer, 60);
            Error::failed(format!("the column `answer` holds {answer:?}, which is not one of the choices"))
        };
        q.answer = letter.ok_or_else(wrong)?.to_string();
    }
    Ok(q)
}

/// Returns the choice with this letter.
fn choice(q: &Question, letter: char) -> Option<&String> {
    ('A'..='Z').zip(&q.options).find(|(l, _)| *l == letter).map(|(_, option)| option)
}

/// Returns the text within the first `The answer is "…".` on a line, up to the last quote.
fn quoted(answer: &str) -> Option<&str> {
    const START: &str = "The answer is \"";
    let (_, after) = answer.split_once(START)?;
    let line = after.split('\n').next().unwrap_or_default();
    line.rsplit_once("\".").map(|(text, _)| text).or_else(|| quoted(after))
}

/// Returns the choice that an answer is taken to mean.
fn extracted_choice<'a>(q: &'a Question, answer: &str) -> Option<&'a String> {
    if let Some(option) = q.options.iter().find(|option| *option == answer) {
        return Some(option);
    }
    let Some(text) = quoted(answer) else {
        return score::letter(answer, &q.options).and_then(|number| q.options.get(number));
    };
    // The quoted text is matched by its letter, or else by the least edit distance.
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let letter = in_parentheses(text).map(String::from).unwrap_or_else(|| text.to_string());
    if let Some(option) = ('A'..='Z').zip(&q.options).find(|(l, _)| letter == l.to_string()).map(|(_, o)| o) {
        return Some(option);
    }
    nearest_choice(q, &letter)
}

/// Returns the first letter in parentheses, in upper case.
fn in_parentheses(text: &str) -> Option<char> {
    text.match_indices('(').find_map(|(at, _)| {
        let mut chars = text.get(at + 1..)?.chars();
        let letter = chars.next().filter(char::is_ascii_alphabetic)?;
        (chars.next()? == ')').then_some(letter.to_ascii_uppercase())
    })
}

/// Returns the texts that may be the number or list: the whole answer, the quoted text, and the text after the last
/// announcement.
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

/// Returns the value in the form in which the authors compare it.
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

/// Formats a number as Python prints it.
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

/// Builds the prompt of lmms-eval's task `mathvista_testmini_format`.
fn lmms_prompt(q: &Question) -> String {
    let precision = plain_number(q.fact(PRECISION));
    let hint = match (q.options.is_empty(), q.fact(KIND)) {
        (false, _) => score::LETTER_LINE,
        (true, "integer") => "Answer the question using a single integer number.",
        (true, "float") if precision == Some(1.0) => {
            "Answer the question using a single floating-point number with one decimal place."
        }
        (true, "float") if precision == Some(2.0) => {
            "Answer the question using a single floating-point number with two decimal places."
        }
        (true, "list") => "Answer the question using a Python list.",
        // lmms-eval's code fails here; no published question is of this kind.
        (true, _) => score::SHORT_LINE,
    };
    let unit = if q.fact(UNIT).is_empty() { String::new() } else { format!(" (Unit: {})", q.fact(UNIT)) };
    let choices = if q.options.is_empty() { String::new() } else { format!("{}\n", lmms::lines(&q.options)) };
    lmms::trimmed(&format!("{}{unit}\n{choices}{hint}", q.fact(BARE))).to_string()
}

/// Judges an answer by those of lmms-eval's rules that need no language model.
fn lmms_verdict(q: &Question, answer: &str) -> AnswerScore {
    if !q.options.is_empty() {
        let extraction = match answer.is_empty() {
            true => "",
            false => match q.options.iter().find(|option| *option == answer) {
                Some(option) => lmms::trimmed(option),
                None => return AnswerScore::unparsed(),
            },
        };
        let letter = in_parentheses(extraction).map(String::from).unwrap_or_else(|| extraction.to_string());
        let lettered = lmms::labels(q.options.len()).zip(&q.options).find(|(l, _)| letter == l.to_string());
        // An empty extraction matches the choice with the shortest text.
        let alike = || nearest_choice(q, &letter);
        let right = labels::choice_letter(&q.answer).and_then(|letter| choice(q, letter)).map(|o| lmms::trimmed(o));
        return match lettered.map(|(_, option)| option).or_else(alike) {
            Some(option) => AnswerScore::new(option.as_str(), Some(lmms::trimmed(option)) == right),
            None => AnswerScore::unparsed(),
        };
    }
    let said = match q.fact(KIND) {
        "integer" => lmms::integer(answer).filter(|v| v.is_finite()).map(|v| format!("{:.0}", v.trunc() + 0.0)),
        // lmms-eval rounds to a number of decimals that is a float, which is an error in Python: never right.
        "float" if !q.fact(PRECISION).is_empty() => {
            return plain_number(answer)
                .map_or_else(AnswerScore::unparsed, |value| AnswerScore::new(printed(value), false));
        }
        "float" => plain_number(answer).filter(|v| v.is_finite()).map(|v| format!("{:.0}", v.round_ties_even() + 0.0)),
        _ => None,
    };
    said.map_or_else(AnswerScore::unparsed, |said| AnswerScore::new(&*said, said == lmms::trimmed(&q.answer)))
}

/// Returns the choice with the least edit distance to a text; ties go to the first.
fn nearest_choice<'a>(q: &'a Question, text: &str) -> Option<&'a String> {
    let said: Vec<char> = text.chars().collect();
    q.options.iter().min_by_key(|option| edit_distance(&said, &option.chars().collect::<Vec<_>>()))
}

impl Benchmark for MathVista {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(table) = vlmevalkit::table(data, "MathVista_MINI.tsv") {
            let columns = TableColumns {
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
                images: &["image"],
            };
            return read::published(self, &table, columns, of_vlmevalkit);
        }
        let columns = TableColumns { values: &[&VALUES[..], &["image?"]].concat(), images: &["decoded_image"] };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::LmmsEval => "accuracy, without what lmms-eval asks GPT for",
            Rules::Official | Rules::Strict | Rules::Cambrian1 => self.card.metric,
        }
    }

    /// Returns lmms-eval's percentage, rounded to two decimals.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("llm_as_judge_eval".into(), (outcome.score * 100.0).round_ties_even() / 100.0)]
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "The authors' `query` as published: hint, question, choices.",
                scoring: "The whole answer if it is a choice, an integer or a number, or what stands in \"The answer \
                    is \"…\".\"; a letter or the text of one choice as all strict rules read it; a number or list \
                    that follows the last \"answer is\" or \"answer:\". Integers are compared as such, floats \
                    rounded to `precision` decimals, lists as texts.",
                source: "the authors' rules: lupantech/MathVista, evaluation/extract_answer.py (--quick_extract) and \
                    calculate_score.py",
                difference: "Where their rules find no answer, the authors ask a language model to extract one; here \
                    our strict rules extract only an unambiguous answer, and all others are unparsed.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "The authors' `query`, then \"First show your reasoning process and then give the final \
                    answer.\" with choices, \"Answer the question using a single word or phrase.\" without.",
                scoring: "The whole answer must be the letter or text, up to case, or a number within 5 % of the \
                    predicted one.",
                source: "cambrian-mllm/cambrian, eval/eval/mathvista/mathvista_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, unit, a line \"A. …\" for each choice, and a line for the kind of answer \
                    (\"Answer the question using a single integer number.\").",
                scoring: "The whole answer must be the text of a choice, or an integer where one is expected. No \
                    question for a float is ever right (its code rounds to a number of decimals that is itself a \
                    float, which fails). An empty answer is taken for the choice with the shortest text.",
                source: "lmms-eval 0.7.3, tasks/mathvista/mathvista_testmini_format.yaml, utils.py and \
                    mathvista_evals.py",
                difference: "For every other answer lmms-eval asks GPT; here these answers are unparsed. Its full \
                    number needs a run of lmms-eval with an API key.",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let query = q.fact(QUERY);
        match rules {
            Rules::Official | Rules::Strict => query.to_string(),
            Rules::LmmsEval => lmms_prompt(q),
            Rules::Cambrian1 if q.options.is_empty() => score::short_answer_prompt(query),
            Rules::Cambrian1 => format!("{query}\n{REASONS_LINE}"),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        if rules == Rules::LmmsEval {
            return lmms_verdict(q, &lmms::cleaned(answer));
        }
        let answer = answer.trim();
        match (rules, q.options.is_empty()) {
            _ if answer.is_empty() => AnswerScore::unparsed(),
            (Rules::Official | Rules::Strict, false) => match extracted_choice(q, answer) {
                Some(option) => {
                    let right = labels::choice_letter(&q.answer).and_then(|letter| choice(q, letter)) == Some(option);
                    AnswerScore::new(option.as_str(), right)
                }
                None => AnswerScore::unparsed(),
            },
            (Rules::Official | Rules::Strict, true) => {
                match extracted_value(answer).iter().find_map(|text| normalised(q, text)) {
                    Some(said) => {
                        let right = said == q.answer;
                        AnswerScore::new(said, right)
                    }
                    None => AnswerScore::unparsed(),
                }
            }
            (Rules::Cambrian1 | Rules::LmmsEval, _) => {
                let (said, expected) = (answer.to_lowercase(), q.answer.to_lowercase());
                let right = said == expected || cambrian::near(&expected, &said);
                AnswerScore::new(said, right)
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
