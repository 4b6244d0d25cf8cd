//! The configuration of a single run outside a study (`burgess train`).

use crate::study::arm::{Arm, Freeze};
use crate::study::encoder::ArmEncoder;
use crate::study::evaluator::EvaluatorConfig;
use crate::study::toml_file::read_toml;
use crate::study::{names, paths};
use burgess_base::{Context, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A run, as its TOML file describes it: like a study with one arm.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run and of its output directory.
    pub name: String,
    /// The encoders; the features of several are concatenated along the channels.
    pub encoders: Vec<ArmEncoder>,
    /// Whether the encoders are trained in the tune stage.
    #[serde(default)]
    pub freeze: Freeze,
    /// Random seed of the run.
    #[serde(default)]
    pub seed: u64,
    /// Language model, connector, data and recipe, as in a study.
    pub evaluator: EvaluatorConfig,
}

impl RunConfig {
    /// Reads and checks a TOML file. Errors name line, column and key.
    ///
    /// # Errors
    /// The file cannot be read, or a value is invalid.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("reading the run {}", path.display());
        let mut run: Self = read_toml(path, "`burgess train --help` shows a complete file").with_context(step)?;
        let folder = paths::folder(path);
        run.evaluator.resolve_paths(folder.as_deref()).with_context(step)?;
        run.encoders.iter_mut().try_for_each(|e| e.resolve_path(folder.as_deref())).with_context(step)?;
        run.check().with_context(step)?;
        Ok(run)
    }

    fn check(&self) -> Result<()> {
        names::check(&self.name)?;
        if self.encoders.is_empty() {
            return Err(Error::usage("the run has no encoders").hint("encoders = [\"…\"]"));
        }
        self.arm().check()?;
        if !self.evaluator.benchmarks.is_empty() || self.evaluator.limit.is_some() {
            return Err(Error::usage(
                "`benchmarks` and `limit` belong to studies: a single training has no evaluation",
            )
            .hint("leave them out, or write a study: `burgess rank nano --dry-run` shows one"));
        }
        self.evaluator.check()
    }

    /// Returns the run as an arm of a study.
    pub fn arm(&self) -> Arm {
        Arm::new(self.encoders.clone(), self.freeze)
    }
}
