//! Scores of models on benchmarks as a matrix.

use crate::formatting;
use crate::ranking::{ComparedBenchmark, RankedArm, Ranking};
use crate::schema::ArmRole;
use burgess_base::{Category, Error, Result};
use serde::Serialize;

/// Minimum number of models over which a correlation is computed.
pub const MIN_MODELS: usize = 3;

/// Minimum number of benchmarks that can be compared with each other.
pub const MIN_BENCHMARKS: usize = 2;

/// A benchmark and its category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BenchmarkLabel {
    /// Name of the benchmark.
    pub name: String,
    /// Category of the benchmark.
    pub category: Category,
}

/// Scores of models (rows) on benchmarks (columns); `None` where a score is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMatrix {
    pub(super) models: Vec<String>,
    pub(super) benchmarks: Vec<BenchmarkLabel>,
    pub(super) scores: Vec<Vec<Option<f64>>>,
}

impl ScoreMatrix {
    /// Checks the scores and creates the matrix.
    ///
    /// # Errors
    /// An error is returned if a row has the wrong number of scores, if a score is not finite, or if two models or
    /// benchmarks have the same name.
    pub fn new(models: Vec<String>, benchmarks: Vec<BenchmarkLabel>, scores: Vec<Vec<Option<f64>>>) -> Result<Self> {
        if models.len() != scores.len() {
            return Err(Error::failed(format!("{} models, but {} rows of scores", models.len(), scores.len())));
        }
        for (i, (model, row)) in models.iter().zip(&scores).enumerate() {
            if row.len() != benchmarks.len() {
                return Err(Error::failed(format!(
                    "{model} has {}, but there are {}",
                    formatting::count(row.len(), "score"),
                    formatting::count(benchmarks.len(), "benchmark")
                )));
            }
            if models.iter().take(i).any(|m| m == model) {
                return Err(Error::failed(format!("two models are called {model}")));
            }
            for (score, benchmark) in row.iter().zip(&benchmarks) {
                if score.is_some_and(|s| !s.is_finite()) {
                    return Err(Error::failed(format!("the score of {model} on {} is not finite", benchmark.name)));
                }
            }
        }
        if let Some((_, twice)) =
            benchmarks.iter().enumerate().find(|(i, b)| benchmarks.iter().take(*i).any(|other| other.name == b.name))
        {
            return Err(Error::failed(format!("two benchmarks are called {}", twice.name)));
        }
        Ok(Self { models, benchmarks, scores })
    }

    /// Creates the matrix of the arms of a ranking and the benchmarks that all of them answered. The oracle baseline is
    /// left out: it is not an encoder, and its scores are so far from all others that every benchmark would correlate
    /// with every other.
    ///
    /// # Errors
    /// The errors are those of [`ScoreMatrix::new`].
    pub fn of_ranking(r: &Ranking) -> Result<Self> {
        let arms: Vec<_> = r.arms.iter().filter(|a| a.role != ArmRole::Oracle).collect();
        let row = |a: &&RankedArm| r.benchmarks.iter().map(|b| a.benchmarks.get(&b.name).map(|s| s.score)).collect();
        let benchmark = |b: &ComparedBenchmark| BenchmarkLabel { name: b.name.clone(), category: b.category.clone() };
        Self::new(
            arms.iter().map(|a| a.label.clone()).collect(),
            r.benchmarks.iter().map(benchmark).collect(),
            arms.iter().map(row).collect(),
        )
    }

    /// Returns the names of the models, in the order of the rows.
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// Returns the benchmarks, in the order of the columns.
    pub fn benchmarks(&self) -> &[BenchmarkLabel] {
        &self.benchmarks
    }

    /// Returns a benchmark's scores, by model.
    pub fn column(&self, benchmark: usize) -> Vec<Option<f64>> {
        self.scores.iter().map(|row| row.get(benchmark).copied().flatten()).collect()
    }

    /// Merges the benchmarks `parts` into one at the position of the first part. A model's score is the mean of its
    /// parts, and missing if a part is missing.
    ///
    /// # Errors
    /// The errors are those of [`ScoreMatrix::new`].
    pub fn merge(&self, name: &str, parts: &[&str]) -> Result<Self> {
        let is_part = |b: &BenchmarkLabel| parts.contains(&b.name.as_str());
        let first = self.benchmarks.iter().position(is_part);
        let keep = |i: usize| Some(i) == first || !self.benchmarks.get(i).is_some_and(is_part);
        let columns: Vec<usize> = (0..self.benchmarks.len()).filter(|i| keep(*i)).collect();
        let mean = |row: &[Option<f64>]| {
            let of = row.iter().zip(&self.benchmarks).filter(|(_, b)| is_part(b)).map(|(s, _)| *s);
            of.collect::<Option<Vec<f64>>>().and_then(|v| crate::stats::mean(&v))
        };
        let scores = self.scores.iter().map(|row| {
            columns.iter().map(|i| if Some(*i) == first { mean(row) } else { row.get(*i).copied().flatten() }).collect()
        });
        let benchmarks = columns.iter().filter_map(|i| {
            let mut benchmark = self.benchmarks.get(*i)?.clone();
            if Some(*i) == first {
                benchmark.name = name.to_string();
            }
            Some(benchmark)
        });
        Self::new(self.models.clone(), benchmarks.collect(), scores.collect())
    }

    /// Returns the matrix without the benchmarks that have no variance (or only one score), and these benchmarks.
    pub(super) fn varying(&self) -> (Self, Vec<BenchmarkLabel>) {
        let varies = |i: usize| {
            let mut values = self.column(i).into_iter().flatten();
            values.next().is_some_and(|first| values.any(|v| v != first))
        };
        let (kept, flat): (Vec<usize>, Vec<usize>) = (0..self.benchmarks.len()).partition(|i| varies(*i));
        let named = |of: &[usize]| of.iter().filter_map(|i| self.benchmarks.get(*i).cloned()).collect::<Vec<_>>();
        let scores = self.scores.iter().map(|row| kept.iter().map(|i| row.get(*i).copied().flatten()).collect());
        let matrix = Self { models: self.models.clone(), benchmarks: named(&kept), scores: scores.collect() };
        (matrix, named(&flat))
    }
}
