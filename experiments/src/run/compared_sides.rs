//! Opens the sides of a comparison: runs from their directories, and files of answers, which are scored by a
//! benchmark's rules or taken with the scores that another program recorded.

use crate::data::benchmarks;
use burgess_base::text::excerpt;
use burgess_base::{Category, Error, Result};
use burgess_probe::bench::{
    self, Benchmark, IdExamples, PredictionVerdict, Question, RecordedScores, Rules, ScoreReport, SkippedRows,
};
use burgess_reports::compare::{ComparedSide, GivenAnswers};
use burgess_reports::schema::{BenchmarkResult, RunCost, RunId, RunResults, SCHEMA, Sample, UnitScore};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How files of answers are scored.
#[derive(Debug, Clone, Default)]
pub struct AnswerScoring {
    /// Id of the benchmark by whose rules answers are scored; without it the scores in the files are used.
    pub benchmark: Option<String>,
    /// Directory or file of the published data of the benchmark.
    pub data: Option<PathBuf>,
    /// Scoring rules.
    pub rules: Rules,
    /// The recorded metric, for files with several.
    pub metric: Option<String>,
}

/// Opens both sides of a comparison.
///
/// # Errors
/// A path is neither results nor a file of answers, the benchmark is not on this machine, or answers cannot be scored.
pub fn open_sides(a: &Path, b: &Path, scoring: &AnswerScoring) -> Result<[ComparedSide; 2]> {
    let benchmark = scoring.benchmark.as_deref().map(bench::find).transpose()?;
    let questions = match benchmark {
        Some(benchmark) if is_answer_file(a) || is_answer_file(b) => {
            benchmark.rules(scoring.rules)?;
            let place = match &scoring.data {
                Some(data) => data.clone(),
                None => benchmarks::path_or_default(benchmark, None)?,
            };
            Some((benchmark, benchmark.read(&place)?))
        }
        _ => None,
    };
    // Two files with recorded scores are compared under the name of the first one's benchmark.
    let first_name = (is_answer_file(a) && is_answer_file(b)).then(|| task_of(a));
    let open = |path: &Path| -> Result<ComparedSide> {
        if !is_answer_file(path) {
            return ComparedSide::open(path);
        }
        let answers = match &questions {
            Some((benchmark, questions)) => scored(*benchmark, questions, path, scoring.rules)?,
            None => recorded(path, scoring.metric.as_deref(), first_name.as_deref())?,
        };
        Ok(ComparedSide::of_answers(&name_of(path), path, vec![answers]))
    };
    Ok([open(a)?, open(b)?])
}

/// Returns whether a path is a file of answers and not the results of a run.
fn is_answer_file(path: &Path) -> bool {
    path.is_file() && path.file_name().is_none_or(|name| name != "results.json")
}

/// Returns the name of a file without its extension.
fn name_of(path: &Path) -> String {
    path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the task that the name of a file of samples states: `gqa` for `20260101_samples_gqa.jsonl`, and for
/// `samples_gsm8k_2026-01-01T12-00-00.000000.jsonl` `gsm8k`; else the name itself.
fn task_of(path: &Path) -> String {
    let name = name_of(path);
    let Some((_, task)) = name.split_once("samples_") else { return name };
    let is_time = |part: &str| part.len() > 10 && part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('T');
    match task.rsplit_once('_') {
        Some((task, time)) if is_time(time) => task.to_string(),
        _ => task.to_string(),
    }
}

/// Scores the answers of a file by the rules of a benchmark.
fn scored(benchmark: &dyn Benchmark, questions: &[Question], path: &Path, rules: Rules) -> Result<GivenAnswers> {
    let predictions = bench::read_predictions(path)?;
    let (report, verdicts) = bench::judge_predictions(benchmark, questions, predictions, rules)
        .map_err(|e| e.context(format!("scoring {}", path.display())))?;
    let mut missing: BTreeSet<&str> = BTreeSet::new();
    let mut samples = Vec::new();
    for (question, verdict) in questions.iter().zip(&verdicts) {
        match verdict.state {
            "answered" => samples.push(sample(question, verdict)),
            // A question without a usable answer is not compared; it would count as wrong.
            _ => drop(missing.insert(verdict.unit.as_str())),
        }
    }
    let units = report.outcome.units.iter().filter(|u| !missing.contains(u.id.as_str()));
    let units: Vec<UnitScore> =
        units.map(|u| UnitScore { id: u.id.clone(), sum: u.sum, weight: u.weight, blind: 0.0 }).collect();
    let result = BenchmarkResult {
        category: report.category.clone(),
        metric: report.metric.clone(),
        scoring: report.scoring.as_str().to_string(),
        chance: report.chance,
        n: samples.len(),
        n_unparsed: report.outcome.n_unparsed.saturating_sub(questions.len() - samples.len()),
        n_reasoning: report.n_reasoning,
        several_images: None,
        n_without_image: 0,
        ..empty_result(units)
    };
    let mut results = results(path, benchmark.id(), result);
    results.versions.insert(benchmark.id().to_string(), report.version.clone());
    let notes = scoring_notes(path, &report);
    let samples = BTreeMap::from([(benchmark.id().to_string(), samples)]);
    Ok(GivenAnswers { results, samples, has_blind: false, notes })
}

fn sample(question: &Question, verdict: &PredictionVerdict) -> Sample {
    Sample {
        id: question.id.clone(),
        unit: question.unit.clone(),
        subtask: question.subtask.clone(),
        question: question.question.clone(),
        options: question.options.clone(),
        prompt: String::new(),
        image: question.image_id.clone(),
        target: question.answer.clone(),
        answer: verdict.answer.clone().unwrap_or_default(),
        parsed: verdict.parsed.clone(),
        score: verdict.score,
        blind_answer: String::new(),
        blind_score: 0.0,
        likelihoods: None,
        tokens: None,
        at_limit: false,
        judge: None,
    }
}

/// Describes what was left out when the answers of a file were scored.
fn scoring_notes(path: &Path, report: &ScoreReport) -> Vec<String> {
    let file = path.display();
    let ids = |what: &str, ids: &IdExamples| {
        (ids.count > 0).then(|| format!("{file}: {} {what} (such as {}).", ids.count, ids.first.join(", ")))
    };
    let rows = |what: &str, rows: &[SkippedRows]| -> Vec<String> {
        rows.iter().map(|r| format!("{file}: {}.", r.text(what))).collect()
    };
    let mut notes: Vec<String> = [
        ids("questions without a usable prediction are not compared", &report.missing),
        ids("predictions have an unknown id", &report.unknown),
        ids("ids are predicted more than once", &report.duplicates),
        ids("predictions are for another question or right answer than the benchmark's", &report.mismatched),
    ]
    .into_iter()
    .flatten()
    .collect();
    notes.extend(rows("answers are missing and count as wrong", &report.unanswered));
    notes.extend(rows("entries name no question", &report.unusable));
    notes
}

/// Takes the scores that a file records.
fn recorded(path: &Path, metric: Option<&str>, name: Option<&str>) -> Result<GivenAnswers> {
    let task = task_of(path);
    let Some(found) = bench::read_recorded_scores(path, metric)? else {
        let empty = std::fs::metadata(path).is_ok_and(|m| m.len() == 0);
        let what = if empty { "is empty" } else { "records no scores" };
        return Err(Error::usage(format!("{} {what}, and no benchmark is named to score its answers", path.display()))
            .hint("name the benchmark, as in --benchmark mme --data PATH; `burgess prompts` lists them"));
    };
    if found.entries.is_empty() {
        return Err(Error::failed(format!("{} has no question with a score `{}`", path.display(), found.metric)));
    }
    let name = name.unwrap_or(&task).to_string();
    let mut units: BTreeMap<&str, UnitScore> = BTreeMap::new();
    for entry in &found.entries {
        let unit = units.entry(&entry.unit).or_insert_with(|| UnitScore {
            id: entry.unit.clone(),
            sum: 0.0,
            weight: 0.0,
            blind: 0.0,
        });
        unit.sum += entry.score;
        unit.blind += entry.blind_score;
        unit.weight += 1.0;
    }
    let category = bench::find(&name).map_or(Category::new("Other"), |b| b.category().clone());
    let result = BenchmarkResult {
        category,
        metric: found.metric.clone(),
        scoring: format!("as recorded by {}", found.writer),
        n: found.entries.len(),
        ..empty_result(units.into_values().collect())
    };
    let notes = recorded_notes(path, &found, &task, &name);
    let samples = found.entries.iter().map(|e| Sample {
        id: e.id.clone(),
        unit: e.unit.clone(),
        subtask: e.subtask.clone(),
        question: e.question.clone(),
        options: Vec::new(),
        prompt: e.prompt.clone(),
        image: e.image.clone(),
        target: e.target.clone(),
        answer: e.answer.clone(),
        parsed: None,
        score: e.score,
        blind_answer: e.blind_answer.clone(),
        blind_score: e.blind_score,
        likelihoods: None,
        tokens: None,
        at_limit: false,
        judge: None,
    });
    let samples = BTreeMap::from([(name.clone(), samples.collect())]);
    Ok(GivenAnswers { results: results(path, &name, result), samples, has_blind: found.has_blind, notes })
}

fn recorded_notes(path: &Path, found: &RecordedScores, task: &str, name: &str) -> Vec<String> {
    let file = path.display();
    let mut notes = Vec::new();
    if !found.other_metrics.is_empty() {
        let others = excerpt(&found.other_metrics.join(", "), 200);
        notes.push(format!("{file}: `{}` is compared; the file also has {others}.", found.metric));
    }
    if found.without_score > 0 {
        notes.push(format!("{file}: {} entries have no score `{}`.", found.without_score, found.metric));
    }
    if !found.names_units {
        notes.push(format!(
            "{file}: the images of the questions are not named, so that every question counts as independent."
        ));
    }
    if task != name {
        notes.push(format!("{file}: the name of the file is that of `{task}`, not of `{name}`."));
    }
    notes
}

/// Returns a result with these units; its scores follow from them.
fn empty_result(units: Vec<UnitScore>) -> BenchmarkResult {
    BenchmarkResult {
        category: Category::new("Other"),
        metric: String::new(),
        scoring: String::new(),
        prompts: "unknown".into(),
        sample_of: None,
        score: 0.0,
        stderr: 0.0,
        chance: f64::NAN,
        blind: 0.0,
        n: 0,
        n_unparsed: 0,
        most_frequent_answer: None,
        n_reasoning: 0,
        several_images: None,
        n_without_image: 0,
        higher_is_better: true,
        seconds: 0.0,
        likelihood: None,
        judge: None,
        units,
    }
}

/// Returns results with one benchmark.
fn results(path: &Path, benchmark: &str, result: BenchmarkResult) -> RunResults {
    let name = name_of(path);
    let mut results = RunResults {
        schema: SCHEMA,
        run: RunId {
            id: name.clone(),
            study: "answers".into(),
            arm: name,
            encoders: Vec::new(),
            freeze: String::new(),
            connector: String::new(),
            llm: String::new(),
            seed: 0,
            blind: String::new(),
            published: None,
            role: None,
        },
        results: BTreeMap::from([(benchmark.to_string(), result)]),
        categories: BTreeMap::new(),
        average: 0.0,
        until_ci: BTreeMap::new(),
        cost: RunCost::default(),
        config: Value::Null,
        versions: BTreeMap::new(),
        digests: BTreeMap::new(),
        date: String::new(),
        device: String::new(),
        notes: Vec::new(),
    };
    results.summarise();
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_follow_from_the_names_of_files() {
        for (file, task) in [
            ("out/20260101_samples_gqa.jsonl", "gqa"),
            ("samples_gsm8k_2026-01-01T12-00-00.000000.jsonl", "gsm8k"),
            ("samples_mmlu_pro.jsonl", "mmlu_pro"),
            ("samples/nano-gqa.jsonl", "nano-gqa"),
            ("model_MME.xlsx", "model_MME"),
        ] {
            assert_eq!(task_of(Path::new(file)), task, "{file}");
        }
    }

    #[test]
    fn files_without_scores_need_a_benchmark() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
        std::fs::write(&a, "{\"id\":\"1\",\"answer\":\"x\"}\n").unwrap();
        std::fs::write(&b, "").unwrap();
        let error = open_sides(&a, &b, &AnswerScoring::default()).unwrap_err();
        assert!(error.to_string().contains("a.jsonl records no scores"), "{error}");
        assert!(error.hint_text().unwrap().contains("--benchmark"));
        let error = open_sides(&b, &a, &AnswerScoring::default()).unwrap_err();
        assert!(error.to_string().contains("b.jsonl is empty"), "{error}");
    }
}
