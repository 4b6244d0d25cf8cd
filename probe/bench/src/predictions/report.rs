//! The score of a benchmark on predictions, and the verdict on every question.

use super::entries::{Harness, Predictions};
use crate::benchmark::Benchmark;
use crate::labels::choice_letter;
use crate::question::Question;
use crate::reasoning;
use crate::rules::Rules;
use crate::score::{AnswerScore, BenchmarkOutcome};
use crate::skipped::SkippedRows;
use crate::table::python_list;
use burgess_base::text::excerpt;
use burgess_base::{Category, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};

/// The number of ids that have a problem, and the first few of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IdExamples {
    /// Number of ids.
    pub count: usize,
    /// The first five ids, in order.
    pub first: Vec<String>,
}

impl IdExamples {
    fn new(mut ids: Vec<&str>) -> Self {
        ids.sort_unstable();
        Self { count: ids.len(), first: ids.iter().take(5).map(|id| excerpt(id, 80)).collect() }
    }
}

/// A benchmark's score on external predictions, with everything needed to interpret it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// Id of the benchmark.
    pub benchmark: String,
    /// Category of the benchmark.
    pub category: Category,
    /// The rules that judged the answers.
    pub scoring: Rules,
    /// Name of the metric: what the score measures, in a few words.
    pub metric: String,
    /// Version of the benchmark ([`Benchmark::version`]).
    pub version: String,
    /// The publication that defines the benchmark.
    pub citation: String,
    /// The harness that wrote the predictions.
    pub harness: Harness,
    /// Score, standard error, counts, subtasks and units. Questions without a prediction count as unparsed.
    pub outcome: BenchmarkOutcome,
    /// Number of answers with reasoning (`<think>…</think>` and similar), which official and strict rules remove.
    #[serde(default)]
    pub n_reasoning: usize,
    /// Number of answers that end inside their reasoning and therefore have no answer.
    #[serde(default)]
    pub n_unfinished: usize,
    /// How this implementation differs from the source of the rules, in words; empty if it does not.
    #[serde(default, rename = "unlike")]
    pub difference: String,
    /// Expected score of uniform guessing, 0 to 100.
    pub chance: f64,
    /// Score of the constant-answer baseline, 0 to 100.
    #[serde(rename = "majority")]
    pub constant_baseline: f64,
    /// Questions without a usable prediction; they are scored as wrong.
    pub missing: IdExamples,
    /// Predictions for questions that the benchmark does not have; they are ignored.
    pub unknown: IdExamples,
    /// Ids that are predicted more than once; those with differing answers are also in `missing`.
    pub duplicates: IdExamples,
    /// Predictions whose file repeats a question or right answer that differs from the benchmark's; they are ignored.
    pub mismatched: IdExamples,
    /// Predictions without an answer (null, empty, absent), per reason; they are scored as unparsed.
    #[serde(default)]
    pub unanswered: Vec<SkippedRows>,
    /// Entries of the prediction file that identify no question, per reason.
    #[serde(default)]
    pub unusable: Vec<SkippedRows>,
    /// Rows of the benchmark's data that cannot be asked, per reason; they are not scored.
    #[serde(default, rename = "left_out")]
    pub skipped: Vec<SkippedRows>,
}

/// The result on one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PredictionVerdict {
    /// Id of the question.
    pub id: String,
    /// Row number of the question in the data, from 0.
    pub row: u64,
    /// Id of the unit that is scored and resampled as a whole.
    pub unit: String,
    /// Subtask of the question.
    pub subtask: String,
    /// One of `answered`, `missing`, `duplicate` (several differing answers) and `mismatched` (made for another
    /// question).
    pub state: &'static str,
    /// The raw answer, if one was used.
    pub answer: Option<String>,
    /// The parsed answer; null if it could not be parsed.
    pub parsed: Option<String>,
    /// The right answer; the first of several accepted ones.
    pub target: String,
    /// Score of this answer alone, 0 to 1, before pairs or rotations are combined.
    pub score: f64,
}

/// Scores predictions on all questions of a benchmark, and returns the verdict on every question, in the order of the
/// questions.
///
/// # Errors
/// It is an error if no prediction matches any question, or if many are for other questions, because then the file
/// belongs to another benchmark or edition.
pub fn judge_predictions(
    bench: &dyn Benchmark,
    questions: &[Question],
    predictions: impl Into<Predictions>,
    rules: Rules,
) -> Result<(ScoreReport, Vec<PredictionVerdict>)> {
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
        None => AnswerScore::unparsed(),
    };
    let judged: Vec<AnswerScore> = questions.iter().zip(&names).map(judge).collect();
    let thoughts: Vec<reasoning::SplitAnswer<'_>> =
        names.iter().filter_map(usable).map(|a| reasoning::split(&a.text)).filter(|s| s.reasoning).collect();
    let verdict = |((q, name), judged): ((&Question, &String), &AnswerScore)| PredictionVerdict {
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
        category: bench.category().clone(),
        scoring: rules,
        metric: bench.metric(rules).to_string(),
        version: bench.version().to_string(),
        citation: bench.citation().to_string(),
        harness: predictions.harness,
        outcome: bench.aggregate(questions, &judged, rules)?,
        n_reasoning: thoughts.len(),
        n_unfinished: thoughts.iter().filter(|s| s.unfinished).count(),
        difference: bench.explain(rules).difference.to_string(),
        chance: bench.chance(questions, rules),
        constant_baseline: bench.constant_baseline(questions, rules),
        missing: IdExamples::new(missing.collect()),
        unknown: IdExamples::new(given.iter().copied().filter(|id| !known.contains(id)).collect()),
        duplicates: IdExamples::new(predictions.duplicates.iter().map(String::as_str).collect()),
        mismatched: IdExamples::new(mismatched.into_iter().collect()),
        unanswered: predictions.unanswered.clone(),
        unusable: predictions.unusable.clone(),
        skipped: Vec::new(),
    };
    Ok((report, verdicts))
}

/// Returns the id that the prediction file uses for each question: our id; the row number in lmms-eval's files; in
/// VLMEvalKit's `index` and LLaVA's `question_id` the id if at least half of the predictions match ids, else the row
/// number.
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

/// Returns the ids of predictions that were made for another question, as far as the file repeats the question or the
/// right answer.
///
/// Row numbers are unreliable ids, because another edition of a benchmark may have another order. So the text of the
/// question, or else the right answer, is compared with ours. Right answers are written in many forms; if nearly none
/// matches, the form is unknown and no prediction is rejected.
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
    // Nearly all targets differ, so they are written in an unknown form.
    if targets == compared && 10 * wrong.len() > 9 * compared {
        return Ok(BTreeSet::new());
    }
    match first {
        Some((q, answer)) if 10 * wrong.len() > compared => {
            let theirs = answer.question.as_deref().or(answer.target.as_deref()).unwrap_or_default();
            let ours = if answer.question.is_some() { &q.question } else { &q.answer };
            let message = format!(
                "{} of {compared} predictions are for other questions than those of {} with the same ids (question \
                    `{}`: found {:?}, expected {:?})",
                wrong.len(),
                bench.id(),
                excerpt(&q.id, 60),
                excerpt(theirs, 120),
                excerpt(ours, 120)
            );
            Err(Error::failed(message)
                .hint("use the edition of the data for which the predictions were made, e.g. VLMEvalKit's own .tsv"))
        }
        _ => Ok(wrong),
    }
}

/// Returns whether the asked text contains the question, ignoring surrounding text and image references.
fn same_question(asked: &str, question: &str) -> bool {
    let plain = |text: &str| squeezed(&without_names(text));
    squeezed(asked).contains(&squeezed(question)) || plain(asked).contains(&plain(question))
}

/// Removes `<image>`, `<image 1>` and similar references from the text.
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

/// Keeps only alphanumeric characters, in lower case, because editions differ in the rest.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns whether a right answer as written by another harness equals ours: the text, one of the accepted ones or a
/// list of them, or the letter, number or text of the choice.
fn same_target(q: &Question, target: &str) -> bool {
    // The list is parsed because its escapes (`\\n` for a line feed) must not be compared as letters.
    let listed = python_list(target).filter(|list| !list.is_empty());
    let of_list = |list: &Vec<String>| {
        let same = |text: &str| {
            squeezed(&q.answer) == squeezed(text) || q.accepted.iter().any(|a| squeezed(a) == squeezed(text))
        };
        list.iter().all(|text| same(text))
    };
    let target = squeezed(target);
    let letter = choice_letter(&q.answer).map(|l| usize::from(l as u8 - b'A')).filter(|i| *i < q.options.len());
    let of_choice = |i: usize| q.options.get(i).is_some_and(|o| squeezed(o) == target) || i.to_string() == target;
    squeezed(&q.answer) == target
        || letter.is_some_and(of_choice)
        || q.accepted.iter().any(|a| squeezed(a) == target)
        || (!q.accepted.is_empty() && squeezed(&q.accepted.concat()) == target)
        || listed.as_ref().is_some_and(of_list)
}
