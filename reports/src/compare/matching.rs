//! Matches the questions of two arms in one benchmark, and keeps the units whose questions all agree.

use super::content::{BinaryCounts, OutcomeCounts, QuestionMatch};
use super::questions::{AnswersOfSide, DifferingQuestion, MostDiffering};
use super::side::{ComparedArm, ComparedRun};
use crate::schema::{BenchmarkResult, RunResults, Sample, UnitScore};
use crate::stats;
use burgess_base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Largest difference of two scores that counts as none.
const SAME_SCORE: f64 = 1e-9;

/// Number of ids of left-out questions that are named.
const EXAMPLES: usize = 3;

/// One benchmark, restricted to the units that both arms answered.
pub(super) struct MatchedBenchmark {
    pub name: String,
    pub questions: QuestionMatch,
    pub outcomes: OutcomeCounts,
    /// Results of the first arm's first run, for category, metric and chance.
    template: BenchmarkResult,
    /// Units of every run of both arms, sorted by id, with the weights of the first run.
    units: [Vec<Vec<UnitScore>>; 2],
    /// Whether the weights of units differ between the arms.
    pub other_weights: bool,
    /// Lines of answers that could not be read.
    pub unreadable: Vec<String>,
    /// The questions that differ most.
    pub most_differing: MostDiffering,
}

/// The answers of one run to one benchmark.
struct RunAnswers<'a> {
    result: &'a BenchmarkResult,
    units: BTreeMap<&'a str, &'a UnitScore>,
    questions: BTreeMap<String, Sample>,
}

/// Matches a benchmark that all runs of both arms have, keeping up to `most` differing questions for each arm.
///
/// # Errors
/// Answers cannot be read, or an id occurs twice in the answers of a run.
pub(super) fn match_benchmark(
    name: &str,
    a: &ComparedArm,
    b: &ComparedArm,
    labels: &[String; 2],
    most: usize,
) -> Result<MatchedBenchmark> {
    let mut unreadable = Vec::new();
    let mut sides: [Vec<RunAnswers>; 2] = Default::default();
    for ((side, arm), label) in sides.iter_mut().zip([a, b]).zip(labels) {
        for run in &arm.runs {
            side.push(answers(name, run, label, &mut unreadable)?);
        }
    }
    let by_units = sides.iter().flatten().any(|run| run.questions.is_empty());
    let mut found = QuestionMatch { by_units, ..QuestionMatch::default() };
    let kept = if by_units { common_units(&sides, &mut found) } else { agreeing_units(&sides, &mut found) };
    let [first, ..] = sides[0].as_slice() else {
        return Err(Error::failed(format!("{} has no run", labels[0])));
    };
    let weights: Vec<(&str, f64)> = kept.iter().filter_map(|id| Some((*id, first.units.get(id)?.weight))).collect();
    let mut other_weights = false;
    let mut restricted = |run: &RunAnswers| -> Vec<UnitScore> {
        let unit = |(id, weight): &(&str, f64)| {
            let unit = run.units.get(id)?;
            // The weight of a unit depends on the sample of questions if a benchmark averages subtasks; shares do not.
            let same = (unit.weight - weight).abs() <= SAME_SCORE * weight.abs().max(1.0);
            let scale = if same || unit.weight == 0.0 { 1.0 } else { weight / unit.weight };
            other_weights |= !same;
            Some(UnitScore { id: (*id).to_string(), sum: unit.sum * scale, weight: *weight, blind: unit.blind * scale })
        };
        weights.iter().filter_map(unit).collect()
    };
    let units = sides.each_ref().map(|runs| runs.iter().map(&mut restricted).collect::<Vec<_>>());
    found.units = weights.len();
    let mut most_differing = MostDiffering::new(most);
    let outcomes = match by_units {
        true => unit_outcomes(&units),
        false => question_outcomes(name, &sides, &kept, &mut found, &mut most_differing),
    };
    if by_units {
        // The number of questions is only known if all units of the benchmark are compared.
        let all = first.units.len() == weights.len();
        found.compared = if all { first.result.n } else { weights.len() };
    }
    Ok(MatchedBenchmark {
        name: name.to_string(),
        template: first.result.clone(),
        questions: found,
        outcomes,
        units,
        other_weights,
        unreadable,
        most_differing,
    })
}

/// Reads the answers of a run, by id.
fn answers<'a>(name: &str, run: &'a ComparedRun, label: &str, unreadable: &mut Vec<String>) -> Result<RunAnswers<'a>> {
    let id = &run.results.run.id;
    let missing = || Error::failed(format!("{id} has no results of {name}"));
    let result = run.results.results.get(name).ok_or_else(missing)?;
    let (samples, problems) = run.answers(name)?;
    unreadable.extend(problems.iter().map(ToString::to_string));
    let mut questions = BTreeMap::new();
    for sample in samples {
        if let Some(twice) = questions.insert(sample.id.clone(), sample) {
            return Err(Error::failed(format!("{name}: the answers of {label} contain the id `{}` twice", twice.id))
                .hint("keep one answer per question: the file may hold several runs or filters"));
        }
    }
    let mut units = BTreeMap::new();
    for unit in &result.units {
        if units.insert(unit.id.as_str(), unit).is_some() {
            return Err(Error::failed(format!("{name}: the results of {label} contain the unit `{}` twice", unit.id)));
        }
    }
    Ok(RunAnswers { result, units, questions })
}

/// Returns the units that all runs have, without looking at questions.
fn common_units<'a>(sides: &[Vec<RunAnswers<'a>>; 2], found: &mut QuestionMatch) -> Vec<&'a str> {
    let has = |side: &Vec<RunAnswers>, id: &str| side.iter().all(|run| run.units.contains_key(id));
    let all: BTreeSet<&'a str> = sides.iter().flatten().flat_map(|run| run.units.keys().copied()).collect();
    let mut kept = Vec::new();
    for id in all {
        match (has(&sides[0], id), has(&sides[1], id)) {
            (true, true) => kept.push(id),
            (true, false) => note(id, &mut found.only_a, &mut found.examples),
            (false, true) => note(id, &mut found.only_b, &mut found.examples),
            (false, false) => note(id, &mut found.not_all_seeds, &mut found.examples),
        }
    }
    kept
}

fn note(id: &str, count: &mut usize, examples: &mut Vec<String>) {
    *count += 1;
    if examples.len() < EXAMPLES {
        examples.push(burgess_base::text::excerpt(id, 60));
    }
}

/// Returns the units whose questions were all answered by all runs and agree.
fn agreeing_units<'a>(sides: &[Vec<RunAnswers<'a>>; 2], found: &mut QuestionMatch) -> Vec<&'a str> {
    let runs = || sides.iter().flatten();
    let ids: BTreeSet<&str> = runs().flat_map(|run| run.questions.keys().map(String::as_str)).collect();
    let has = |side: &Vec<RunAnswers>, id: &str| side.iter().filter(|run| run.questions.contains_key(id)).count();
    let mut spoiled: BTreeSet<&str> = BTreeSet::new();
    let mut agreeing: Vec<&Sample> = Vec::new();
    for id in ids {
        let (in_a, in_b) = (has(&sides[0], id), has(&sides[1], id));
        let samples: Vec<&Sample> = runs().filter_map(|run| run.questions.get(id)).collect();
        let complete = in_a == sides[0].len() && in_b == sides[1].len();
        let [first, rest @ ..] = samples.as_slice() else { continue };
        if complete && rest.iter().all(|other| same_question(first, other)) {
            agreeing.push(first);
            continue;
        }
        spoiled.extend(samples.iter().map(|s| s.unit.as_str()));
        let count = match (complete, in_a, in_b) {
            (true, ..) => &mut found.differing,
            (false, _, 0) => &mut found.only_a,
            (false, 0, _) => &mut found.only_b,
            _ => &mut found.not_all_seeds,
        };
        note(id, count, &mut found.examples);
    }
    let mut kept: BTreeSet<&'a str> = BTreeSet::new();
    for sample in agreeing {
        // The key of the results is taken, because it outlives the answers.
        let unit = sides[0].first().and_then(|run| run.units.get_key_value(sample.unit.as_str()));
        let everywhere = runs().all(|run| run.units.contains_key(sample.unit.as_str()));
        match unit {
            Some((unit, _)) if everywhere && !spoiled.contains(unit) => drop(kept.insert(*unit)),
            _ => note(&sample.id, &mut found.left_with_unit, &mut found.examples),
        }
    }
    let asked: BTreeSet<&str> = runs().flat_map(|run| run.questions.values().map(|s| s.unit.as_str())).collect();
    let all: BTreeSet<&str> = runs().flat_map(|run| run.units.keys().copied()).collect();
    found.without_answers = all.difference(&asked).count();
    kept.into_iter().collect()
}

/// Whether two answers belong to the same question: unit, text and right answer agree as far as both files state them.
fn same_question(a: &Sample, b: &Sample) -> bool {
    let same = |x: &str, y: &str| {
        let (x, y) = (x.trim(), y.trim());
        x.is_empty() || y.is_empty() || x == y
    };
    a.unit == b.unit && same(&a.question, &b.question) && same(&a.target, &b.target)
}

/// Counts the units on which either arm has more points.
fn unit_outcomes(units: &[Vec<Vec<UnitScore>>; 2]) -> OutcomeCounts {
    let mean = |side: &Vec<Vec<UnitScore>>, i: usize| {
        side.iter().filter_map(|run| run.get(i)).map(|u| u.sum).sum::<f64>() / side.len() as f64
    };
    let n = units[0].first().map_or(0, Vec::len);
    let mut counts = OutcomeCounts { of_units: true, ..OutcomeCounts::default() };
    for i in 0..n {
        let _ = count(&mut counts, mean(&units[0], i) - mean(&units[1], i));
    }
    counts
}

/// Counts a difference, and returns its sign.
fn count(counts: &mut OutcomeCounts, difference: f64) -> f64 {
    if difference > SAME_SCORE {
        counts.won += 1;
        1.0
    } else if difference < -SAME_SCORE {
        counts.lost += 1;
        -1.0
    } else {
        counts.tied += 1;
        0.0
    }
}

/// Counts the questions of the kept units on which either arm scores higher, and collects the most differing ones.
fn question_outcomes(
    name: &str,
    sides: &[Vec<RunAnswers>; 2],
    kept: &[&str],
    found: &mut QuestionMatch,
    most: &mut MostDiffering,
) -> OutcomeCounts {
    let kept: BTreeSet<&str> = kept.iter().copied().collect();
    let mut counts = OutcomeCounts::default();
    let mut binary = BinaryCounts { both_right: 0, only_a: 0, only_b: 0, both_wrong: 0, mcnemar_p: None };
    let mut is_binary = sides.iter().all(|side| side.len() == 1);
    let Some(first) = sides[0].first() else { return counts };
    for (id, sample) in first.questions.iter().filter(|(_, s)| kept.contains(s.unit.as_str())) {
        let of = |side: &Vec<RunAnswers>| -> Vec<Sample> {
            side.iter().filter_map(|run| run.questions.get(id).cloned()).collect()
        };
        let answers = sides.each_ref().map(of);
        let [a, b] = answers.each_ref().map(|s| s.iter().map(|s| s.score).sum::<f64>() / s.len().max(1) as f64);
        count(&mut counts, a - b);
        found.compared += 1;
        let other_prompt = answers.iter().flatten().any(|s| s.prompt.trim() != sample.prompt.trim());
        found.differing_prompts += usize::from(other_prompt);
        is_binary &= [a, b].iter().all(|s| *s == 0.0 || *s == 1.0);
        match (a > 0.5, b > 0.5) {
            (true, true) => binary.both_right += 1,
            (true, false) => binary.only_a += 1,
            (false, true) => binary.only_b += 1,
            (false, false) => binary.both_wrong += 1,
        }
        most.offer(a - b, || DifferingQuestion {
            benchmark: name.to_string(),
            id: id.clone(),
            subtask: sample.subtask.clone(),
            question: sample.question.clone(),
            image: sample.image.clone(),
            options: crate::choices::of(sample).into_iter().map(|c| c.text).collect(),
            target: sample.target.clone(),
            a: AnswersOfSide::of(&answers[0]),
            b: AnswersOfSide::of(&answers[1]),
            difference: a - b,
        });
    }
    // McNemar's test needs independent questions.
    if is_binary && found.compared == kept.len() {
        binary.mcnemar_p = Some(stats::mcnemar(binary.only_a, binary.only_b));
    }
    counts.binary = is_binary.then_some(binary);
    counts
}

/// Returns the runs of one arm (`side` 0 or 1), called `arm`, restricted to the matched units. Category, metric and
/// chance are those of the first arm, so that a difference in them is a warning and not an error.
pub(super) fn restricted_runs(
    arm: &ComparedArm,
    name: &str,
    side: usize,
    matched: &[MatchedBenchmark],
) -> Vec<RunResults> {
    let run = |(i, run): (usize, &ComparedRun)| {
        let mut run = run.results.clone();
        run.run.arm = name.to_string();
        run.results = matched
            .iter()
            .filter_map(|m| {
                let units = m.units.get(side)?.get(i)?.clone();
                let result = BenchmarkResult { units, n: m.questions.compared, ..m.template.clone() };
                Some((m.name.clone(), result))
            })
            .collect();
        run.summarise();
        run
    };
    arm.runs.iter().enumerate().map(run).collect()
}
