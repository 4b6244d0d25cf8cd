//! Scoring answers that came from elsewhere: our own lines `{"id": …, "answer": …}`, and the files that lmms-eval and
//! VLMEvalKit write ([`files`]).

mod files;
mod sheet;

use super::{Benchmark, Category, Judged, LeftOut, Outcome, Question, Rules, reasoning, score};
use crate::table::python_list;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

pub use files::read_predictions;

/// Who wrote a file of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Harness {
    /// `{"id": …, "answer": …}` a line.
    #[default]
    #[serde(rename = "burgess")]
    Burgess,
    /// `…_samples_TASK.jsonl`.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
    /// A table with `index` and `prediction`: `.xlsx`, `.tsv` or `.json`.
    #[serde(rename = "VLMEvalKit")]
    VlmEvalKit,
    /// `{"question_id": …, "text": …}` a line.
    #[serde(rename = "LLaVA")]
    Llava,
}

impl Harness {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Burgess => "burgess",
            Self::LmmsEval => "lmms-eval",
            Self::VlmEvalKit => "VLMEvalKit",
            Self::Llava => "LLaVA",
        }
    }
}

/// An answer, and what its file says of the question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The raw answer.
    pub text: String,
    /// The question's text, if the file repeats it.
    pub question: Option<String>,
    /// The right answer, if the file repeats it.
    pub target: Option<String>,
}

/// Answers by the names that their file gives to the questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// Who wrote them: what the names mean.
    pub harness: Harness,
    /// One answer for each name that has one.
    pub answers: HashMap<String, Answer>,
    /// Names given more than once. If the answers differ, none of them is used: which one counts would be a guess.
    pub duplicates: BTreeSet<String>,
    /// Entries without an answer (null, empty, absent), by reason; examples are names. They are answers of no text.
    pub unanswered: Vec<LeftOut>,
    /// Entries that are no predictions, by reason: they name no question.
    pub unusable: Vec<LeftOut>,
}

impl From<HashMap<String, String>> for Predictions {
    fn from(answers: HashMap<String, String>) -> Self {
        let answers = answers.into_iter().map(|(id, text)| (id, Answer { text, ..Answer::default() })).collect();
        Self { answers, ..Self::default() }
    }
}

/// Ids that something is wrong with: how many, and the first few.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ids {
    /// How many.
    pub count: usize,
    /// The first five, in order.
    pub first: Vec<String>,
}

impl Ids {
    fn new(mut ids: Vec<&str>) -> Self {
        ids.sort_unstable();
        Self { count: ids.len(), first: ids.iter().take(5).map(|id| excerpt(id, 80)).collect() }
    }
}

/// A benchmark's metric on somebody's predictions, with everything needed to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// Id of the benchmark.
    pub benchmark: String,
    /// Its group.
    pub category: Category,
    /// Whose rules judged.
    pub scoring: Rules,
    /// What the score measures.
    pub metric: String,
    /// Version of the benchmark's code.
    pub version: String,
    /// The publication behind it.
    pub citation: String,
    /// Who wrote the predictions.
    pub harness: Harness,
    /// Score, error, counts, subtasks and units. Questions without prediction count as unparsed.
    pub outcome: Outcome,
    /// Answers with reasoning (`<think>…</think>` and its like), which official and strict rules remove.
    #[serde(default)]
    pub n_reasoning: usize,
    /// Those of them that end inside their reasoning: without an answer.
    #[serde(default)]
    pub n_unfinished: usize,
    /// What is done otherwise than in the source of the rules, in words; empty if nothing is.
    #[serde(default)]
    pub unlike: String,
    /// Expected score of guessing, 0 to 100.
    pub chance: f64,
    /// Score of the best constant answer, 0 to 100.
    pub majority: f64,
    /// Questions without a usable prediction: scored as wrong.
    pub missing: Ids,
    /// Predictions for questions that the benchmark does not have: not used.
    pub unknown: Ids,
    /// Ids predicted more than once; with differing answers they are among the missing.
    pub duplicates: Ids,
    /// Predictions whose file repeats another question or right answer than the benchmark has: not used.
    pub mismatched: Ids,
    /// Predictions that say nothing (null, empty, absent), by reason: scored as unparsed.
    #[serde(default)]
    pub unanswered: Vec<LeftOut>,
    /// Entries of the predictions' file that name no question, by reason.
    #[serde(default)]
    pub unusable: Vec<LeftOut>,
    /// Rows of the benchmark's data that cannot be asked, by reason: not scored.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// What became of the answer to one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// The question's id.
    pub id: String,
    /// Number of its row in the data, from 0.
    pub row: u64,
    /// What is scored and resampled together.
    pub unit: String,
    /// Its subtask.
    pub subtask: String,
    /// `answered`, `missing`, `duplicate` (several answers that differ) or `mismatched` (made for another question).
    pub state: &'static str,
    /// The raw answer, if one was used.
    pub answer: Option<String>,
    /// What it was taken to say; null where nothing could be parsed.
    pub parsed: Option<String>,
    /// The right answer; of several accepted ones the first.
    pub target: String,
    /// Score of the answer alone, before pairs or rotations are put together.
    pub score: f64,
}

/// Scores predictions on all questions of a benchmark. It is an error if no prediction fits any question, or if many are
/// of other questions: then the file belongs to something else.
pub fn score_predictions(
    bench: &dyn Benchmark,
    questions: &[Question],
    predictions: impl Into<Predictions>,
    rules: Rules,
) -> Result<ScoreReport> {
    judge_predictions(bench, questions, predictions, rules).map(|(report, _)| report)
}

/// As [`score_predictions`], with the verdict on every question, in their order.
///
/// # Errors
/// As for [`score_predictions`].
pub fn judge_predictions(
    bench: &dyn Benchmark,
    questions: &[Question],
    predictions: impl Into<Predictions>,
    rules: Rules,
) -> Result<(ScoreReport, Vec<Verdict>)> {
    let rules = bench.rules(rules)?;
    let predictions: Predictions = predictions.into();
    let names = names(questions, &predictions);
    let given: HashSet<&str> = predictions
        .answers
        .keys()
        .map(String::as_str)
        .chain(predictions.duplicates.iter().map(String::as_str))
        .collect();
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    if !given.iter().any(|id| known.contains(id)) {
        let message = format!("none of the {} predictions has the id of a question of {}", given.len(), bench.id());
        let example = names.first().map_or_else(|| "(no questions)".into(), |name| excerpt(name, 80));
        return Err(Error::failed(message).hint(format!("ids look like `{example}`; is it the right benchmark?")));
    }
    let mismatched = mismatched(bench, questions, &names, &predictions)?;
    let usable = |name: &String| predictions.answers.get(name).filter(|_| !mismatched.contains(name.as_str()));
    let judge = |(q, name): (&Question, &String)| match usable(name) {
        Some(answer) => bench.judge(q, &answer.text, rules),
        None => Judged::unparsed(),
    };
    let judged: Vec<Judged> = questions.iter().zip(&names).map(judge).collect();
    let thoughts: Vec<reasoning::Split<'_>> =
        names.iter().filter_map(usable).map(|a| reasoning::split(&a.text)).filter(|s| s.reasoning).collect();
    let verdict = |((q, name), judged): ((&Question, &String), &Judged)| Verdict {
        id: q.id.clone(),
        row: q.row,
        unit: q.unit.clone(),
        subtask: q.subtask.clone(),
        state: match usable(name) {
            Some(_) => "answered",
            None if mismatched.contains(name.as_str()) => "mismatched",
            None if predictions.duplicates.contains(name) => "duplicate",
            None => "missing",
        },
        answer: usable(name).map(|a| a.text.clone()),
        parsed: judged.parsed.clone(),
        target: q.answer.clone(),
        score: judged.score,
    };
    let verdicts = questions.iter().zip(&names).zip(&judged).map(verdict).collect();
    let missing = questions.iter().zip(&names).filter(|(_, name)| usable(name).is_none()).map(|(q, _)| q.id.as_str());
    let report = ScoreReport {
        benchmark: bench.id().to_string(),
        category: bench.category(),
        scoring: rules,
        metric: bench.metric(rules).to_string(),
        version: bench.version().to_string(),
        citation: bench.citation().to_string(),
        harness: predictions.harness,
        outcome: bench.aggregate(questions, &judged, rules)?,
        n_reasoning: thoughts.len(),
        n_unfinished: thoughts.iter().filter(|s| s.unfinished).count(),
        unlike: bench.explain(rules).unlike.to_string(),
        chance: bench.chance(questions, rules),
        majority: bench.majority(questions, rules),
        missing: Ids::new(missing.collect()),
        unknown: Ids::new(given.iter().copied().filter(|id| !known.contains(id)).collect()),
        duplicates: Ids::new(predictions.duplicates.iter().map(String::as_str).collect()),
        mismatched: Ids::new(mismatched.into_iter().collect()),
        unanswered: predictions.unanswered.clone(),
        unusable: predictions.unusable.clone(),
        left_out: Vec::new(),
    };
    Ok((report, verdicts))
}

/// What the predictions' file calls each question: its id; lmms-eval its row; VLMEvalKit its `index` and LLaVA its
/// `question_id`, which are the id where it is the same table, and the row of the tables that number their rows.
fn names(questions: &[Question], predictions: &Predictions) -> Vec<String> {
    let by_id = || questions.iter().map(|q| q.id.clone()).collect();
    let by_row = || questions.iter().map(|q| q.row.to_string()).collect();
    match predictions.harness {
        Harness::Burgess => by_id(),
        Harness::LmmsEval => by_row(),
        Harness::VlmEvalKit | Harness::Llava => {
            let ids: HashSet<&str> = questions.iter().map(|q| q.id.as_str()).collect();
            let known = predictions.answers.keys().filter(|name| ids.contains(name.as_str())).count();
            if 2 * known >= predictions.answers.len() { by_id() } else { by_row() }
        }
    }
}

/// The names of the predictions that were made for another question, as far as their file says for which.
///
/// Rows are a weak name: another edition of a benchmark has them in another order. So the text of the question, or else
/// the right answer, is compared with ours. Right answers are written in many forms; if hardly any fits, the form is
/// one that we do not know, and nothing can be said.
fn mismatched<'a>(
    bench: &dyn Benchmark,
    questions: &[Question],
    names: &'a [String],
    predictions: &Predictions,
) -> Result<BTreeSet<&'a str>> {
    let mut wrong = BTreeSet::new();
    let mut first = None;
    let (mut compared, mut targets) = (0, 0);
    for (q, name) in questions.iter().zip(names) {
        let Some(answer) = predictions.answers.get(name) else { continue };
        let fits = match (&answer.question, &answer.target) {
            (Some(text), _) => same_question(text, &q.question),
            (None, Some(target)) => {
                targets += 1;
                same_target(q, target)
            }
            (None, None) => continue,
        };
        compared += 1;
        if !fits {
            wrong.insert(name.as_str());
            first.get_or_insert((q, answer));
        }
    }
    // All targets in a form that we do not know.
    if targets == compared && 10 * wrong.len() > 9 * compared {
        return Ok(BTreeSet::new());
    }
    match first {
        Some((q, answer)) if 10 * wrong.len() > compared => {
            let theirs = answer.question.as_deref().or(answer.target.as_deref()).unwrap_or_default();
            let ours = if answer.question.is_some() { &q.question } else { &q.answer };
            let message = format!(
                "{} of {compared} predictions are for other questions than {} has in their places (question `{}`: {:?} instead of {:?})",
                wrong.len(),
                bench.id(),
                excerpt(&q.id, 60),
                excerpt(theirs, 120),
                excerpt(ours, 120)
            );
            Err(Error::failed(message).hint("--data must be the edition that was asked, e.g. VLMEvalKit's own .tsv"))
        }
        _ => Ok(wrong),
    }
}

/// Whether a text that was asked is that of the question: it contains it, whatever stands around it and wherever pictures
/// are named in it.
fn same_question(asked: &str, question: &str) -> bool {
    let plain = |text: &str| squeezed(&without_names(text));
    squeezed(asked).contains(&squeezed(question)) || plain(asked).contains(&plain(question))
}

/// The text without `<image>`, `<image 1>` and the like.
fn without_names(text: &str) -> String {
    let mut parts = text.split("<image");
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.split_once('>') {
            Some((number, after)) if number.chars().all(|c| c.is_ascii_digit() || c == ' ') => plain += after,
            _ => plain = plain + "<image" + part,
        }
    }
    plain
}

/// Text without what editions differ in.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a right answer as another harness writes it is ours: the text, one of the accepted ones or a list of them, the
/// letter, number or text of the choice.
fn same_target(q: &Question, target: &str) -> bool {
    // A list in Python's or JSON's form: what is escaped in its texts (a line feed is `\\n`) is none of their letters.
    let listed = python_list(target).filter(|list| !list.is_empty());
    let of_list = |list: &Vec<String>| {
        let same = |text: &str| {
            squeezed(&q.answer) == squeezed(text) || q.accepted.iter().any(|a| squeezed(a) == squeezed(text))
        };
        list.iter().all(|text| same(text))
    };
    let target = squeezed(target);
    let letter = score::label(&q.answer).map(|l| usize::from(l as u8 - b'A')).filter(|i| *i < q.options.len());
    let of_choice = |i: usize| q.options.get(i).is_some_and(|o| squeezed(o) == target) || i.to_string() == target;
    squeezed(&q.answer) == target
        || letter.is_some_and(of_choice)
        || q.accepted.iter().any(|a| squeezed(a) == target)
        || (!q.accepted.is_empty() && squeezed(&q.accepted.concat()) == target)
        || listed.as_ref().is_some_and(of_list)
}
