//! The runs of a study as a grid, after checking that they can be compared.

use super::content::{AVERAGE, AnswerStats, ComparedBenchmark};
use super::early_stopped::on_common_units;
use super::options::RankOptions;
use crate::formatting;
use crate::schema::{self, ArmRole, BenchmarkResult, RunCost, RunResults, SCHEMA, UnitScore};
use burgess_base::{Category, Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The points of all arms × seeds × benchmarks × units. Units, weights, metrics and chance were checked to be the
/// same for all arms.
pub(super) struct RunGrid {
    pub benchmarks: Vec<GridBenchmark>,
    /// Categories in display order.
    pub categories: Vec<Category>,
    /// Arms by name.
    pub arms: Vec<GridArm>,
    /// The scopes: the average, then the categories, then the benchmarks.
    pub scopes: Vec<Scope>,
    /// Why some benchmarks are not compared, or not on all units, as sentences.
    pub left_out: Vec<String>,
}

/// A benchmark that all runs have, with its units.
pub(super) struct GridBenchmark {
    pub name: String,
    pub category: Category,
    pub metric: String,
    /// Expected score of uniform guessing, in percent; NaN if unknown.
    pub chance: f64,
    /// Number of questions.
    pub n: usize,
    /// Ids of the units, sorted; the points of every run are in this order.
    pub ids: Vec<String>,
    /// Maximum number of points of each unit.
    pub weights: Vec<f64>,
}

/// An arm with its runs.
pub(super) struct GridArm {
    /// Name of the arm.
    pub arm: String,
    pub encoders: Vec<String>,
    pub freeze: String,
    /// Digest of the tune conversations that the arm's mix chose, if it has one.
    pub mix: Option<String>,
    /// Average that was published for the arm, if the study states one.
    pub published: Option<f64>,
    /// Role that its runs state, if any.
    pub role: Option<ArmRole>,
    /// Properties of the answers, by benchmark.
    pub answers: BTreeMap<String, AnswerStats>,
    /// Means of times and throughput over the runs, and their largest memory.
    pub cost: RunCost,
    /// Runs by seed.
    pub runs: Vec<GridRun>,
}

/// The points of one run.
pub(super) struct GridRun {
    pub seed: u64,
    /// Points of each unit with the image, per benchmark.
    pub sums: Vec<Vec<f64>>,
    /// Points of each unit without the image, per benchmark.
    pub blinds: Vec<Vec<f64>>,
}

/// A scope of the ranking (the average, a category or a benchmark): its score is a weighted sum of benchmark scores.
pub(super) struct Scope {
    pub name: String,
    /// Weight of each benchmark; the weights sum to 1.
    pub weights: Vec<f64>,
}

impl Scope {
    /// Returns the weighted sum of values by benchmark; values of weight 0 are ignored and may be NaN.
    pub fn of(&self, values: &[f64]) -> f64 {
        self.weights.iter().zip(values).filter(|(w, _)| **w > 0.0).map(|(w, v)| w * v).sum()
    }
}

impl RunGrid {
    /// Arranges the runs of a study.
    ///
    /// # Errors
    /// There is no run, two runs have the same arm and seed, or the runs cannot be compared.
    pub fn new(runs: &[RunResults], options: &RankOptions) -> Result<Self> {
        let (runs, restricted) = on_common_units(runs);
        let runs = runs.as_ref();
        for run in runs {
            check_run(run)?;
        }
        let mut by_arm: BTreeMap<&str, BTreeMap<u64, &RunResults>> = BTreeMap::new();
        for run in runs {
            let (arm, seed) = (run.run.arm.as_str(), run.run.seed);
            if by_arm.entry(arm).or_default().insert(seed, run).is_some() {
                return Err(Error::usage(format!("arm {arm} has two runs with seed {seed}"))
                    .hint("rank the runs of one study directory at a time"));
            }
        }
        let first = runs.first().ok_or_else(|| {
            Error::failed(format!("study {} has no finished run", options.study)).hint("run burgess rank to finish it")
        })?;
        let (common, mut left_out) = common_benchmarks(runs)?;
        left_out.extend(restricted);
        let mut benchmarks = Vec::new();
        for name in &common {
            if let Some(result) = first.results.get(name) {
                // Only where asking stops early do runs differ in it.
                let n = runs.iter().filter_map(|run| run.results.get(name)).map(|r| r.n).min();
                benchmarks.push(GridBenchmark { n: n.unwrap_or(result.n), ..bench(name, result) });
            }
        }
        let categories = schema::in_display_order(benchmarks.iter().map(|b| &b.category));
        // Benchmarks are sorted in display order: by category, then by name.
        benchmarks.sort_by_key(|b| (categories.iter().position(|c| *c == b.category), b.name.clone()));

        let mut arms = Vec::new();
        for (arm, seeds) in by_arm {
            arms.push(arm_columns(arm, &seeds, &benchmarks, &first.run.arm)?);
        }
        let scopes = scopes(&benchmarks, &categories);
        Ok(Self { benchmarks, categories, arms, scopes, left_out })
    }
}

impl ComparedBenchmark {
    /// Returns the description of a benchmark of a grid.
    pub(super) fn of(b: &GridBenchmark) -> Self {
        Self {
            name: b.name.clone(),
            category: b.category.clone(),
            metric: b.metric.clone(),
            chance: b.chance,
            n: b.n,
            units: b.ids.len(),
        }
    }
}

impl GridBenchmark {
    /// Returns the maximum number of points of all units.
    pub fn total_weight(&self) -> f64 {
        self.weights.iter().sum()
    }
}

/// Checks the conditions that a single run must satisfy.
fn check_run(run: &RunResults) -> Result<()> {
    let who = || format!("arm {} seed {}", run.run.arm, run.run.seed);
    if run.schema != SCHEMA {
        return Err(Error::failed(format!(
            "{} has schema {}, but this version of burgess reads schema {SCHEMA}",
            who(),
            run.schema
        )));
    }
    for (name, r) in &run.results {
        let fail = |what: &str| Err(Error::failed(format!("{}, {name}: {what}", who())));
        if !r.higher_is_better {
            return fail("lower scores are better, so this benchmark cannot be averaged with the others");
        }
        if r.units.is_empty() {
            return fail("it has no units, which are needed for resampling");
        }
        if r.units
            .iter()
            .any(|u| !(u.sum.is_finite() && u.blind.is_finite() && u.weight.is_finite() && u.weight >= 0.0))
        {
            return fail("a unit has points or a weight that are not finite, or a negative weight");
        }
        let total: f64 = r.units.iter().map(|u| u.weight).sum();
        if total <= 0.0 {
            return fail("all units have weight 0");
        }
        for (what, stated, points) in [
            ("score", r.score, r.units.iter().map(|u| u.sum).sum::<f64>()),
            ("blind score", r.blind, r.units.iter().map(|u| u.blind).sum::<f64>()),
        ] {
            let derived = 100.0 * points / total;
            if (stated - derived).abs() > 1e-6 {
                return fail(&format!("the {what} {stated} does not follow from its units, which give {derived}"));
            }
        }
    }
    Ok(())
}

/// Returns the benchmarks that every run has, and a sentence for each that some runs lack.
fn common_benchmarks(runs: &[RunResults]) -> Result<(Vec<String>, Vec<String>)> {
    let all: BTreeSet<&String> = runs.iter().flat_map(|r| r.results.keys()).collect();
    let (mut common, mut left_out) = (Vec::new(), Vec::new());
    for name in all {
        let lacking: BTreeSet<String> =
            runs.iter().filter(|r| !r.results.contains_key(name)).map(|r| r.run.arm.clone()).collect();
        if lacking.is_empty() {
            common.push(name.clone());
        } else {
            let lacking: Vec<String> = lacking.into_iter().collect();
            let verb = if lacking.len() == 1 { "lacks" } else { "lack" };
            left_out.push(format!("{name} is not compared: {} {verb} it", formatting::short_list(&lacking, 3)));
        }
    }
    if common.is_empty() {
        return Err(Error::failed(format!("no benchmark was answered by all runs ({})", left_out.join("; ")))
            .hint("evaluate all arms on the same benchmarks"));
    }
    Ok((common, left_out))
}

/// Returns the benchmark of a result, without its points.
fn bench(name: &str, r: &BenchmarkResult) -> GridBenchmark {
    let units = sorted(&r.units);
    GridBenchmark {
        name: name.to_string(),
        category: r.category.clone(),
        metric: r.metric.clone(),
        chance: r.chance,
        n: r.n,
        ids: units.iter().map(|u| u.id.clone()).collect(),
        weights: units.iter().map(|u| u.weight).collect(),
    }
}

/// Returns the units in the order of their ids.
fn sorted(units: &[UnitScore]) -> Vec<&UnitScore> {
    let mut units: Vec<&UnitScore> = units.iter().collect();
    units.sort_by(|a, b| a.id.cmp(&b.id));
    units
}

/// Collects the runs of one arm, by seed, and checks that they can be compared with each other and with those of the
/// arm `reference`.
fn arm_columns(
    arm: &str,
    seeds: &BTreeMap<u64, &RunResults>,
    benchmarks: &[GridBenchmark],
    reference: &str,
) -> Result<GridArm> {
    let mut columns = Vec::new();
    for (seed, run) in seeds {
        let (mut sums, mut blinds) = (Vec::new(), Vec::new());
        for bench in benchmarks {
            let Some(result) = run.results.get(&bench.name) else { continue };
            let units = sorted(&result.units);
            same_questions(bench, result, &units, &format!("{arm} (seed {seed})"), reference)?;
            sums.push(units.iter().map(|u| u.sum).collect());
            blinds.push(units.iter().map(|u| u.blind).collect());
        }
        columns.push(GridRun { seed: *seed, sums, blinds });
    }
    let Some(first) = seeds.values().next() else {
        return Err(Error::failed(format!("arm {arm} has no run")));
    };
    let made_of = |r: &RunResults| (r.run.encoders.clone(), r.run.freeze.clone(), mix_digest(r));
    if let Some(other) = seeds.values().find(|r| made_of(r) != made_of(first)) {
        return Err(Error::failed(format!(
            "arm {arm} has other encoders, another freeze setting or other data under seed {} than under seed {}",
            other.run.seed, first.run.seed
        )));
    }
    let n = seeds.len() as f64;
    let mean = |f: fn(&RunCost) -> f64| seeds.values().map(|r| f(&r.cost)).sum::<f64>() / n;
    let cost = RunCost {
        train_seconds: mean(|c| c.train_seconds),
        images_per_second: mean(|c| c.images_per_second),
        peak_memory_bytes: seeds.values().map(|r| r.cost.peak_memory_bytes).max().unwrap_or(0),
        ..first.cost.clone()
    };
    Ok(GridArm {
        arm: arm.to_string(),
        encoders: first.run.encoders.clone(),
        freeze: first.run.freeze.clone(),
        mix: mix_digest(first),
        // A run that was finished before the study stated a published average has none.
        published: seeds.values().find_map(|r| r.run.published),
        role: seeds.values().find_map(|r| r.run.role),
        answers: benchmarks.iter().map(|b| (b.name.clone(), answers(seeds, &b.name))).collect(),
        cost,
        runs: columns,
    })
}

/// The digest of the tune conversations that the mix of a run's arm chose, if it has one.
fn mix_digest(run: &RunResults) -> Option<String> {
    run.config.pointer("/mix/digest").and_then(Value::as_str).map(String::from)
}

/// Returns properties of an arm's answers to a benchmark, over its seeds.
fn answers(seeds: &BTreeMap<u64, &RunResults>, benchmark: &str) -> AnswerStats {
    let results = || seeds.values().filter_map(|run| run.results.get(benchmark));
    let most_frequent = results().filter_map(|r| r.most_frequent_answer.as_ref());
    AnswerStats {
        n: results().map(|r| r.n).sum(),
        unparsed: results().map(|r| r.n_unparsed).sum(),
        most_frequent: most_frequent.max_by(|a, b| a.share.total_cmp(&b.share)).cloned(),
    }
}

/// Checks that the result has the same questions, images and scoring as the reference arm's.
fn same_questions(
    bench: &GridBenchmark,
    result: &BenchmarkResult,
    units: &[&UnitScore],
    who: &str,
    reference: &str,
) -> Result<()> {
    let fail = |what: String| {
        Err(Error::failed(format!("{}: {who} and {reference} cannot be compared: {what}", bench.name))
            .hint("evaluate all arms on the same data with the same limit of questions"))
    };
    for pair in units.windows(2) {
        if let [a, b] = pair
            && a.id == b.id
        {
            return fail(format!("unit {} occurs twice", a.id));
        }
    }
    if units.len() != bench.ids.len() || units.iter().zip(&bench.ids).any(|(u, id)| u.id != *id) {
        let (mine, theirs): (BTreeSet<&str>, BTreeSet<&str>) =
            (units.iter().map(|u| u.id.as_str()).collect(), bench.ids.iter().map(String::as_str).collect());
        let example = mine.symmetric_difference(&theirs).next().unwrap_or(&"");
        return fail(format!(
            "they answered {} and {} units; only one of them answered {example}",
            units.len(),
            bench.ids.len()
        ));
    }
    if let Some((u, w)) = units.iter().zip(&bench.weights).find(|(u, w)| u.weight != **w) {
        return fail(format!("unit {} has weight {} and {w}", u.id, u.weight));
    }
    let same_chance = result.chance == bench.chance || (result.chance.is_nan() && bench.chance.is_nan());
    if !same_chance || result.metric != bench.metric || result.category != bench.category {
        return fail("chance, metric or category differ".to_string());
    }
    Ok(())
}

/// Returns the average, the categories and the benchmarks as scopes. The average weights all categories that count
/// equally, and a category its benchmarks.
fn scopes(benchmarks: &[GridBenchmark], categories: &[Category]) -> Vec<Scope> {
    let size = |c: &Category| benchmarks.iter().filter(|b| b.category == *c).count() as f64;
    let counted = schema::averaged(categories);
    let share = |b: &GridBenchmark| match counted.contains(&&b.category) {
        true => 1.0 / (size(&b.category) * counted.len() as f64),
        false => 0.0,
    };
    let mut scopes = vec![Scope { name: AVERAGE.to_string(), weights: benchmarks.iter().map(share).collect() }];
    for c in categories {
        let weights = benchmarks.iter().map(|b| if b.category == *c { 1.0 / size(c) } else { 0.0 }).collect();
        scopes.push(Scope { name: c.to_string(), weights });
    }
    for b in benchmarks {
        let weights = benchmarks.iter().map(|o| if o.name == b.name { 1.0 } else { 0.0 }).collect();
        scopes.push(Scope { name: b.name.clone(), weights });
    }
    scopes
}
