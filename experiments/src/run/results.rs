//! Assembly of `results.json` of a run or an evaluation: scores, cost, versions, digests.

use crate::features::model_cards::ModelEncoder;
use crate::features::{FrozenFeatures, scale};
use crate::machine::memory;
use crate::run::eval_task::EvalTask;
use crate::run::store::RunStore;
use burgess_base::{Category, Result};
use burgess_probe::connector::ConnectorConfig;
use burgess_reports::schema::{self, BenchmarkResult, FeatureScale, RunCost, RunId, RunResults, SequentialInterval};
use serde_json::Value;
use std::collections::BTreeMap;

/// Name and version of the compute libraries, from `Cargo.lock`, and of the compiler.
const LIBRARIES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/versions.rs"));

/// The measurements of a run, from which `results.json` is made.
pub struct Measurements<'a> {
    /// Identity of the run.
    pub run: RunId,
    /// Results by benchmark id.
    pub results: BTreeMap<String, BenchmarkResult>,
    /// Intervals of the categories in which asking stops early.
    pub until_ci: BTreeMap<Category, SequentialInterval>,
    /// The benchmarks with their questions, in the order of the study.
    pub tasks: &'a [EvalTask],
    /// Encoders of the model; `features` holds the features of frozen ones.
    pub encoders: &'a [ModelEncoder],
    /// Features of frozen encoders, whose speed is reported.
    pub features: Vec<&'a FrozenFeatures>,
    /// Configuration of the connector.
    pub connector: &'a ConnectorConfig,
    /// Store of the run that trained the model, if known.
    pub training: Option<&'a RunStore>,
    /// Configuration, as in `config.json`.
    pub config: Value,
    /// Digests of weights and data, and of the questions of published benchmarks.
    pub digests: BTreeMap<String, String>,
    /// Name of the device.
    pub device: &'a str,
    /// What determines the bits that the device computes ([`crate::machine::device::fingerprint`]).
    pub fingerprint: &'a str,
    /// Notes on assumptions.
    pub notes: Vec<String>,
}

impl Measurements<'_> {
    /// Makes the results, with category and average scores.
    ///
    /// # Errors
    /// A card's tap does not fit its architecture, or the training log cannot be read.
    pub fn results(self) -> Result<RunResults> {
        let cost = self.cost()?;
        let mut results = RunResults {
            schema: schema::SCHEMA,
            run: self.run,
            results: self.results,
            categories: BTreeMap::new(),
            average: 0.0,
            until_ci: self.until_ci,
            cost,
            config: self.config,
            versions: versions(self.tasks, self.device, self.fingerprint),
            digests: self.digests,
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            device: self.device.into(),
            notes: self.notes,
        };
        results.summarise();
        Ok(results)
    }

    fn cost(&self) -> Result<RunCost> {
        let (mut flops, mut grids) = (0.0, Vec::with_capacity(self.encoders.len()));
        for encoder in self.encoders {
            flops += encoder.card.flops()? as f64;
            grids.push(encoder.card.used_grid()?);
        }
        // The encoders run one after the other; the sum is infinite or NaN if one of them was not measured.
        let seconds: f64 = self.features.iter().map(|f| 1.0 / f.images_per_second()).sum();
        Ok(RunCost {
            encoder_params: self.encoders.iter().map(|e| e.card.parameters()).sum(),
            gflops_per_image: flops / 1e9,
            tokens: self.connector.image_tokens(&grids),
            train_seconds: self.training.map_or(Ok(0.0), RunStore::train_seconds)?,
            images_per_second: finite_or_zero(1.0 / seconds),
            peak_memory_bytes: memory::peak(),
            features: self.feature_scales()?,
        })
    }

    /// The scale of the features of each frozen encoder.
    fn feature_scales(&self) -> Result<Vec<FeatureScale>> {
        let frozen = self.encoders.iter().zip(&self.features);
        frozen.map(|(encoder, features)| scale::of_features(encoder.encoder.name(), features)).collect()
    }
}

/// Replaces values that JSON cannot hold by 0, which stands for "not measured".
fn finite_or_zero(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// Versions of Burgess, the libraries and the benchmarks, by name; and of the device with its driver, if its name does
/// not say everything that determines what it computes.
fn versions(tasks: &[EvalTask], device: &str, fingerprint: &str) -> BTreeMap<String, String> {
    let world = format!("{}.{}", burgess_world::VERSION, burgess_world::BENCHMARK_VERSION);
    let own = [("burgess", env!("CARGO_PKG_VERSION").to_string()), ("burgess-world", world)];
    let libraries = LIBRARIES.iter().map(|(name, version)| (*name, (*version).to_string()));
    let benchmarks = tasks.iter().map(|a| (a.benchmark.id(), a.benchmark.version().to_string()));
    let device = (device != fingerprint).then(|| ("device", fingerprint.to_string()));
    own.into_iter()
        .chain(libraries)
        .chain(device)
        .chain(benchmarks)
        .map(|(name, version)| (name.to_string(), version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let versions = versions(&[], "flex", "flex");
        for name in ["burn", "tokenizers", "image"] {
            let entry = format!("name = \"{name}\"\nversion = \"{}\"\n", versions[name]);
            assert!(lock.contains(&entry), "{entry}");
        }
        assert_eq!(versions["burgess"], env!("CARGO_PKG_VERSION"));
        assert!(!versions.contains_key("device"));
        assert_eq!(super::versions(&[], "wgpu", "wgpu WGSL; llvmpipe")["device"], "wgpu WGSL; llvmpipe");
        assert!(versions["rustc"].starts_with("rustc "), "{versions:?}");
        assert!(LIBRARIES.iter().all(|(_, version)| !version.is_empty()));
    }

    #[test]
    fn what_was_not_measured_can_be_written_and_read() {
        assert_eq!((finite_or_zero(1.0 / 0.0), finite_or_zero(f64::NAN), finite_or_zero(3.5)), (0.0, 0.0, 3.5));
    }
}
