//! Scoring answers that came from elsewhere: `{"id": …, "answer": …}` a line.

use super::read::{for_each_object, kind, text};
use super::{Benchmark, Category, Judged, Outcome, Question, Rules};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

/// Answers by question id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// One answer for each id that has one.
    pub answers: HashMap<String, String>,
    /// Ids given more than once. If the answers differ, none of them is used: which one counts would be a guess.
    pub duplicates: BTreeSet<String>,
}

impl From<HashMap<String, String>> for Predictions {
    fn from(answers: HashMap<String, String>) -> Self {
        Self { answers, duplicates: BTreeSet::new() }
    }
}

/// Reads predictions. Other fields than `id` and `answer` are left alone, so the sample files of a run can be read
/// too; an empty answer is an answer. Errors name file, line and field.
pub fn read_predictions(path: &Path) -> Result<Predictions> {
    let mut predictions = Predictions::default();
    let mut conflicting = HashSet::new();
    for_each_object(path, |_, object| {
        let id = text(object, "id")?;
        let answer = match object.get("answer") {
            Some(Value::String(s)) => s,
            Some(other) => {
                let message = format!("field `answer` must be a string, found {}", kind(other));
                return Err(Error::failed(message).hint("write every answer as text, numbers too"));
            }
            None => return Err(Error::failed("field `answer` is missing")),
        };
        if let Some(earlier) = predictions.answers.insert(id.to_string(), answer.clone()) {
            predictions.duplicates.insert(id.to_string());
            if earlier != *answer {
                conflicting.insert(id.to_string());
            }
        }
        Ok(())
    })?;
    predictions.answers.retain(|id, _| !conflicting.contains(id));
    Ok(predictions)
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
        Self { count: ids.len(), first: ids.iter().take(5).map(|id| (*id).to_string()).collect() }
    }
}

/// The official metric on somebody's predictions, with everything needed to read it.
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
    /// Score, error, counts, subtasks and units. Questions without prediction count as unparsed.
    pub outcome: Outcome,
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
}

/// Scores predictions on all questions of a benchmark. It is an error if no prediction fits any question: then the
/// file belongs to something else.
pub fn score_predictions(
    bench: &dyn Benchmark,
    questions: &[Question],
    predictions: impl Into<Predictions>,
    rules: Rules,
) -> Result<ScoreReport> {
    let predictions: Predictions = predictions.into();
    let ids: HashSet<&str> = questions.iter().map(|q| q.id.as_str()).collect();
    let given = predictions.answers.keys().map(String::as_str).chain(predictions.duplicates.iter().map(String::as_str));
    let given: HashSet<&str> = given.collect();
    if !given.iter().any(|id| ids.contains(id)) {
        let message = format!("none of the {} predictions has the id of a question of {}", given.len(), bench.id());
        let example = questions.first().map_or("(no questions)", |q| q.id.as_str());
        return Err(Error::failed(message).hint(format!("ids look like `{example}`; is it the right benchmark?")));
    }
    let judge = |q: &Question| match predictions.answers.get(&q.id) {
        Some(answer) => bench.judge(q, answer, rules),
        None => Judged::unparsed(),
    };
    let judged: Vec<Judged> = questions.iter().map(judge).collect();
    let absent = |id: &&str| !predictions.answers.contains_key(*id);
    Ok(ScoreReport {
        benchmark: bench.id().to_string(),
        category: bench.category(),
        scoring: rules,
        metric: bench.metric(rules).to_string(),
        version: bench.version().to_string(),
        citation: bench.citation().to_string(),
        outcome: bench.aggregate(questions, &judged, rules)?,
        chance: bench.chance(questions, rules),
        majority: bench.majority(questions, rules),
        missing: Ids::new(ids.iter().copied().filter(absent).collect()),
        unknown: Ids::new(given.iter().copied().filter(|id| !ids.contains(id)).collect()),
        duplicates: Ids::new(predictions.duplicates.iter().map(String::as_str).collect()),
    })
}
