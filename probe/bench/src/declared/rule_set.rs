//! A set of rules of a benchmark file: prompt, reader, aggregation, and their description.

use super::format::{AnswerTable, BenchmarkFile, LmmsEvalTable, PromptTable, RuleTable, ScoreTable};
use super::readers::{self, AnswerReader};
use super::score::{Aggregation, FurtherNumber, formula, variables};
use super::template::Formula;
use crate::card::AnswerForm;
use crate::explain::RulesDescription;
use crate::question::Question;
use crate::score::{AnswerScore, ScoredItem};
use burgess_base::toml_error::WrongValue;
use burgess_base::{Error, Result};
use minijinja::value::{Serde, Value};
use regex::Regex;

/// The group of a pattern that holds the answer.
const GROUP: &str = "answer";

/// A set of rules.
#[derive(Debug)]
pub(super) struct RuleSet {
    pub(super) metric: String,
    prompt: Formula,
    prompt_text: String,
    reading: Reading,
    /// How questions with choices are read, if others have none.
    choice: Option<Reading>,
    guess: Option<Formula>,
    aggregation: Aggregation,
    numbers: Vec<FurtherNumber>,
    scoring_text: String,
    source: String,
    difference: String,
}

/// A reader with its parameters.
struct Reading {
    reader: &'static dyn AnswerReader,
    table: AnswerTable,
    pattern: Option<Regex>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("reader", &self.reader.name()).field("table", &self.table).finish()
    }
}

impl Reading {
    fn parse(path: &[&str], table: &AnswerTable) -> Result<Self, WrongValue> {
        let at = |key: &str, e: Error| WrongValue::new(&[path, &[key]].concat(), e);
        let reader = readers::find(table).map_err(|(key, e)| at(key, e))?;
        let pattern = match &table.pattern {
            None => None,
            Some(text) => {
                let pattern = Regex::new(text).map_err(|e| {
                    at("pattern", Error::failed(format!("not a regular expression: {}", one_line(&e.to_string()))))
                })?;
                if !pattern.capture_names().flatten().any(|name| name == GROUP) {
                    let what = Error::failed("the pattern has no group `answer`")
                        .hint("mark what the reader gets, as in 'answer is (?P<answer>.+)'");
                    return Err(at("pattern", what));
                }
                Some(pattern)
            }
        };
        Ok(Self { reader, table: table.clone(), pattern })
    }

    /// Judges an answer; one without a match of the pattern is unparsed.
    fn verdict(&self, q: &Question, answer: &str) -> AnswerScore {
        match &self.pattern {
            None => self.reader.verdict(&self.table, q, answer),
            Some(pattern) => match pattern.captures_iter(answer).filter_map(|c| c.name(GROUP)).last() {
                Some(found) => self.reader.verdict(&self.table, q, found.as_str()),
                None => AnswerScore::unparsed(),
            },
        }
    }

    fn measure(&self, q: &Question, judged: &AnswerScore, name: &str) -> Option<f64> {
        self.reader.measure(&self.table, q, judged, name)
    }

    /// Checks that the reader has this measure.
    fn check_measure(&self, name: &str) -> Result<()> {
        let (kind, least) = name.split_once(' ').map_or((name, None), |(kind, least)| (kind, Some(least)));
        let threshold = least.is_none_or(|t| t.parse::<f64>().is_ok_and(|t| (0.0..=1.0).contains(&t)));
        if threshold && self.reader.measures().contains(&kind) {
            return Ok(());
        }
        let error = Error::usage(format!("the reader `{}` has no measure `{name}`", self.reader.name()));
        Err(error.hint(match self.reader.measures() {
            [] => "remove the key: the reader measures only the score".to_string(),
            known => format!("its measures are {}; a threshold may follow, as in `iou 0.5`", known.join(", ")),
        }))
    }

    fn describe(&self) -> String {
        let rule = match &self.table.description {
            Some(text) => return text.clone(),
            None => self.reader.describe(&self.table),
        };
        match &self.pattern {
            Some(pattern) => {
                format!("What the group `answer` of the last match of {} holds is read: {rule}", pattern.as_str())
            }
            None => rule,
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The tables of a set of rules, and where they stand in the file.
struct RuleTables<'a> {
    /// The table that holds the three, or nothing at the top of the file.
    prefix: &'static [&'static str],
    prompt: (&'a PromptTable, bool),
    answer: (&'a AnswerTable, bool),
    score: (&'a ScoreTable, bool),
    metric: Option<&'a String>,
    source: String,
    /// A question that has the facts of the file, for a first look at the template.
    sample: Question,
}

impl RuleSet {
    /// Builds the file's own rules.
    pub(super) fn own(file: &BenchmarkFile) -> Result<Self, WrongValue> {
        Self::build(&RuleTables {
            prefix: &[],
            prompt: (&file.prompt, true),
            answer: (&file.answer, true),
            score: (&file.score, true),
            metric: file.metric.as_ref(),
            source: "the benchmark file".into(),
            sample: sample(file),
        })
    }

    /// Builds the rules of a task of lmms-eval.
    pub(super) fn lmms_eval(file: &BenchmarkFile, table: &LmmsEvalTable) -> Result<Self, WrongValue> {
        let source = format!("lmms-eval 0.7.3, task {}", table.task);
        Self::further(
            file,
            &["lmms-eval"],
            (table.prompt.as_ref(), table.answer.as_ref(), table.score.as_ref()),
            None,
            source,
        )
    }

    /// Builds the rules of the `cambrian-1` code.
    pub(super) fn cambrian(file: &BenchmarkFile, table: &RuleTable) -> Result<Self, WrongValue> {
        let tables = (table.prompt.as_ref(), table.answer.as_ref(), table.score.as_ref());
        Self::further(file, &["cambrian-1"], tables, table.metric.as_ref(), "cambrian-mllm/cambrian, eval/eval".into())
    }

    fn further<'a>(
        file: &'a BenchmarkFile,
        prefix: &'static [&'static str],
        (prompt, answer, score): (Option<&'a PromptTable>, Option<&'a AnswerTable>, Option<&'a ScoreTable>),
        metric: Option<&'a String>,
        source: String,
    ) -> Result<Self, WrongValue> {
        Self::build(&RuleTables {
            prefix,
            prompt: (prompt.unwrap_or(&file.prompt), prompt.is_some()),
            answer: (answer.unwrap_or(&file.answer), answer.is_some()),
            score: (score.unwrap_or(&file.score), score.is_some()),
            metric: metric.or(file.metric.as_ref().filter(|_| score.is_none())),
            source,
            sample: sample(file),
        })
    }

    fn build(tables: &RuleTables<'_>) -> Result<Self, WrongValue> {
        // A table that is taken over from the file's own rules is located there.
        let path = |name: &'static str, given: bool| -> Vec<&'static str> {
            if given { [tables.prefix, &[name]].concat() } else { vec![name] }
        };
        let (prompt, answer, score) = (tables.prompt.0, tables.answer.0, tables.score.0);
        let template = Formula::text(&prompt.template);
        let template = template
            .map_err(|e| WrongValue::new(&[&path("prompt", tables.prompt.1)[..], &["template"]].concat(), e))?;
        let known = ["question", "options", "context", "subtask", "facts", "n_images"];
        if let Some(unknown) = template.variables().iter().find(|name| !known.contains(&name.as_str())) {
            let what = Error::failed(format!("the template uses `{unknown}`, which is not known"))
                .hint(format!("the variables are {}; other values are `facts` of [columns.facts]", known.join(", ")));
            return Err(WrongValue::new(&[&path("prompt", tables.prompt.1)[..], &["template"]].concat(), what));
        }
        template
            .check_names(&prompt_variables(&tables.sample))
            .map_err(|e| WrongValue::new(&[&path("prompt", tables.prompt.1)[..], &["template"]].concat(), e))?;
        let answer_path = path("answer", tables.answer.1);
        let reading = Reading::parse(&answer_path, answer)?;
        let choice = match &answer.choice {
            None => None,
            Some(table) => {
                let at = [&answer_path[..], &["choice"]].concat();
                let choice = Reading::parse(&at, table)?;
                if choice.reader.form() != AnswerForm::Choice || reading.reader.form() != AnswerForm::Open {
                    let what = "questions with choices are read by `letter`, the others by a reader of open answers";
                    return Err(WrongValue::new(&[&at[..], &["read"]].concat(), Error::failed(what)));
                }
                Some(choice)
            }
        };
        let guess_path = [&answer_path[..], &["guess"]].concat();
        let guess = answer.guess.as_deref().map(|text| formula(&guess_path, text)).transpose()?;
        let score_path = path("score", tables.score.1);
        let aggregation = Aggregation::of_score(&score_path, score)?;
        let numbers = score
            .numbers
            .iter()
            .enumerate()
            .map(|(i, number)| FurtherNumber::parse(&score_path, i, number))
            .collect::<Result<Vec<_>, _>>()?;
        for (i, name) in numbers.iter().enumerate().filter_map(|(i, number)| Some((i, number.measure()?))) {
            let i = i.to_string();
            let path = [&score_path[..], &["numbers", &i, "measure"]].concat();
            reading.check_measure(name).map_err(|e| WrongValue::new(&path, e))?;
        }
        let what = match reading.reader.form() {
            AnswerForm::Open => reading.reader.name(),
            AnswerForm::Choice | AnswerForm::YesNo => "accuracy",
        };
        let scoring_text = match &choice {
            Some(choice) => format!("{} Questions with choices: {}", reading.describe(), choice.describe()),
            None => reading.describe(),
        };
        Ok(Self {
            metric: tables.metric.cloned().unwrap_or_else(|| aggregation.describe(what)),
            prompt: template,
            prompt_text: prompt.description.clone().unwrap_or_else(|| one_line(&prompt.template)),
            reading,
            choice,
            guess,
            aggregation,
            numbers,
            scoring_text,
            source: answer.source.clone().unwrap_or_else(|| tables.source.clone()),
            difference: answer.difference.clone().unwrap_or_default(),
        })
    }

    /// Returns the names of the further numbers.
    pub(super) fn number_names(&self) -> impl Iterator<Item = &str> {
        self.numbers.iter().map(FurtherNumber::name)
    }

    /// Returns the form of the answers.
    pub(super) fn form(&self) -> AnswerForm {
        self.reading.reader.form()
    }

    pub(super) fn explain(&self) -> RulesDescription<'_> {
        RulesDescription {
            prompt: &self.prompt_text,
            scoring: &self.scoring_text,
            source: &self.source,
            difference: &self.difference,
        }
    }

    /// Builds the prompt. [`RuleSet::check_question`] has rendered it once, so it does not fail for a question that was
    /// read; otherwise the text of the question is asked.
    pub(super) fn prompt(&self, q: &Question) -> String {
        self.render(q).unwrap_or_else(|_| q.question.clone())
    }

    fn render(&self, q: &Question) -> Result<String> {
        self.prompt.render(&prompt_variables(q))
    }

    /// Returns the reading that applies to a question.
    fn reading(&self, q: &Question) -> &Reading {
        self.choice.as_ref().filter(|_| !q.options.is_empty()).unwrap_or(&self.reading)
    }

    /// Returns whether the reader of a question gets the answer with its reasoning also under lmms-eval's rules.
    pub(super) fn filters_first(&self, q: &Question) -> bool {
        let reading = self.reading(q);
        reading.reader.filters_first(&reading.table)
    }

    pub(super) fn verdict(&self, q: &Question, answer: &str) -> AnswerScore {
        self.reading(q).verdict(q, answer)
    }

    /// Checks that the prompt of a question can be built, and that its right answer can be read.
    pub(super) fn check_question(&self, q: &Question) -> Result<()> {
        self.render(q).map_err(|e| e.context("prompt.template"))?;
        let reading = self.reading(q);
        reading.reader.check_question(&reading.table, q)?;
        if let Some(guess) = &self.guess {
            let p = number(guess, q).map_err(|e| e.context("answer.guess"))?;
            if !(0.0..=1.0).contains(&p) {
                return Err(Error::failed(format!("answer.guess is {p}, expected a probability between 0 and 1")));
            }
        }
        Ok(())
    }

    /// Completes a question that was checked.
    pub(super) fn complete(&self, q: &mut Question) {
        let reading = self.reading(q);
        reading.reader.complete(&reading.table, q);
    }

    pub(super) fn guess_probability(&self, q: &Question) -> f64 {
        match (&self.guess, self.reading(q).reader.form()) {
            (Some(guess), _) => number(guess, q).unwrap_or(0.0),
            (None, AnswerForm::YesNo) => 0.5,
            (None, AnswerForm::Open) => 0.0,
            (None, AnswerForm::Choice) if q.options.is_empty() => 0.0,
            (None, AnswerForm::Choice) => 1.0 / q.options.len() as f64,
        }
    }

    /// Returns whether questions form groups that must be all right.
    pub(super) fn scores_groups(&self) -> bool {
        self.aggregation.scores_groups()
    }

    pub(super) fn items(&self, qs: &[Question], p: &[f64]) -> Result<Vec<ScoredItem>> {
        self.aggregation.items(qs, p)
    }

    /// Computes the further numbers.
    pub(super) fn numbers(&self, qs: &[Question], judged: &[AnswerScore], scale: f64) -> Vec<(String, f64)> {
        let measured = |number: &FurtherNumber| -> Vec<f64> {
            let each = qs.iter().zip(judged);
            match number.measure() {
                None => each.map(|(_, judged)| judged.score).collect(),
                Some(name) => each.map(|(q, judged)| self.reading(q).measure(q, judged, name).unwrap_or(0.0)).collect(),
            }
        };
        self.numbers.iter().filter_map(|number| number.value(qs, &measured(number), scale)).collect()
    }
}

/// Returns a question with two options and a text for every fact of the file.
fn sample(file: &BenchmarkFile) -> Question {
    let facts = file.columns.iter().flat_map(|columns| columns.facts.keys());
    Question {
        options: ["a", "b"].map(String::from).into(),
        facts: facts.map(|name| (name.clone(), "x".to_string())).collect(),
        ..Question::default()
    }
}

/// Returns the variables of a prompt's template.
fn prompt_variables(q: &Question) -> Value {
    minijinja::context! {
        question => q.question.as_str(), options => Value::from(Serde(&q.options)),
        context => q.context.as_deref().unwrap_or_default(), subtask => q.subtask.as_str(),
        facts => Value::from(Serde(&q.facts)), n_images => q.images.len(),
    }
}

/// Evaluates an expression over a question to a number.
fn number(expression: &Formula, q: &Question) -> Result<f64> {
    let value: Value = expression.value(&variables(q))?;
    f64::try_from(value.clone()).map_err(|_| Error::failed(format!("{value} is not a number")))
}
