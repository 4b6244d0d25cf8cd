//! What is exported: the model of a run, with its records if it has any.

use crate::features::model_cards::{self, ModelEncoder};
use burgess_base::{Context, Error, Result, atomic, checksums};
use burgess_encoders::checkpoint::{self, Checkpoint};
use burgess_probe::connector::Connector;
use burgess_probe::llm::Tokenizer;
use burgess_probe::mllm::MllmConfig;
use burgess_reports::load::{directories, seed_of};
use burgess_reports::schema::RunResults;
use burn::tensor::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A trained model on disk; its weights are not in memory.
pub struct ExportSource {
    /// The model's directory.
    pub model: PathBuf,
    /// The directory of its run; `None` if the model lies alone.
    pub run: Option<PathBuf>,
    /// The model's configuration.
    pub config: MllmConfig,
    /// Its encoders.
    pub encoders: Vec<ModelEncoder>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

impl ExportSource {
    /// Opens the model in `dir`: a `model` directory, the directory of a run, or that of an arm, of which the run with
    /// the lowest seed that has a model is taken, or the one with the given seed.
    ///
    /// # Errors
    /// There is no model, or it is damaged.
    pub fn open(dir: &Path, seed: Option<u64>) -> Result<Self> {
        let model = locate(dir, seed)?;
        checksums::check_all(&model)
            .map_err(|e| e.hint(format!("the model is damaged: remove {} and train it again", model.display())))?;
        let config: MllmConfig = atomic::read_json(&model.join("config.json"))?;
        config.check().with_context(|| format!("reading {}", model.display()))?;
        let whole = model.canonicalize().with_context(|| format!("opening {}", model.display()))?;
        let run = whole.parent().filter(|run| run.join("config.json").is_file()).map(Path::to_path_buf);
        let encoders = model_cards::read(&model)?;
        let tokenizer = Tokenizer::from_file(&model.join("tokenizer.json"))?;
        Ok(Self { run, config, encoders, tokenizer, model })
    }

    /// Loads the connector.
    ///
    /// # Errors
    /// Its file is damaged.
    pub fn connector(&self) -> Result<Connector> {
        let connector = self.config.connector.init(&Device::flex())?;
        let names = connector.dialect();
        let file = Checkpoint::open(&self.model.join("connector.safetensors"))?;
        Ok(checkpoint::load(connector, &file, names)?.0)
    }

    /// Reads the results of the run; `None` if it was not evaluated.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn results(&self) -> Result<Option<RunResults>> {
        let Some(path) = self.run.as_ref().map(|run| run.join("results.json")).filter(|path| path.is_file()) else {
            return Ok(None);
        };
        atomic::read_json(&path).map(Some)
    }

    /// Reads the resolved configuration of the run; `None` if the model lies alone.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn run_config(&self) -> Result<Option<Value>> {
        self.run.as_ref().map(|run| atomic::read_json(&run.join("config.json"))).transpose()
    }

    /// The directory of the study to which the run belongs; `None` for a run outside a study.
    pub fn study(&self) -> Option<&Path> {
        let study = self.run.as_deref()?.parent()?.parent()?;
        study.join("study.json").is_file().then_some(study)
    }

    /// Reads the results of all runs of the study, of this arm and of others; damaged ones are left out.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn results_of_study(&self) -> Result<Vec<RunResults>> {
        let Some(study) = self.study() else { return Ok(self.results()?.into_iter().collect()) };
        let mut found = Vec::new();
        for (_, arm) in directories(study)? {
            for (_, run) in directories(&arm)? {
                let path = run.join("results.json");
                if path.is_file()
                    && let Ok(results) = atomic::read_json::<RunResults>(&path)
                {
                    found.push(results);
                }
            }
        }
        Ok(found)
    }
}

/// Whether a directory holds a model.
fn is_model(dir: &Path) -> bool {
    dir.join("connector.safetensors").is_file() && dir.join("config.json").is_file()
}

/// Finds the model's directory.
fn locate(dir: &Path, seed: Option<u64>) -> Result<PathBuf> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("there is no directory {}", dir.display())).hint(
            "give the `model` directory of a run, a run (OUT/<study>/<arm>/seed-<n>) or an arm (OUT/<study>/<arm>)",
        ));
    }
    let run = |run: &Path| Some(run.join("model")).filter(|model| is_model(model));
    let direct = if is_model(dir) { Some(dir.to_path_buf()) } else { run(dir) };
    if let Some(model) = direct {
        return match seed {
            None => Ok(model),
            Some(_) => Err(Error::usage(format!("{} is one model, so no seed can be chosen", dir.display()))
                .hint("leave the seed out, or give the directory of the arm")),
        };
    }
    let mut seeds: Vec<(u64, PathBuf)> =
        directories(dir)?.into_iter().filter_map(|(name, path)| Some((seed_of(&name)?, run(&path)?))).collect();
    seeds.sort();
    let known: Vec<String> = seeds.iter().map(|(n, _)| n.to_string()).collect();
    let chosen = seeds.into_iter().find(|(n, _)| seed.is_none_or(|seed| seed == *n));
    chosen.map(|(_, model)| model).ok_or_else(|| match (seed, known.is_empty()) {
        (Some(seed), false) => Error::usage(format!("{} has no trained model of seed {seed}", dir.display()))
            .hint(format!("there are the seeds {}", known.join(", "))),
        _ => Error::usage(format!("{} holds no trained model", dir.display())).hint(
            "give the `model` directory of a run, a run (OUT/<study>/<arm>/seed-<n>) or an arm (OUT/<study>/<arm>)",
        ),
    })
}
