//! Reuse of the align stage among the runs of a study that differ in their tune data only.
//!
//! The align stage does not read the tune conversations, so runs of one seed that differ only in the arm's mix have the
//! same aligned connector, to the bit. The first of them trains it, the others copy it with its lines of the training
//! log.

use crate::run::store::RunStore;
use burgess_base::{Context, Result, atomic, checksums};
use burgess_reports::schema::TrainStep;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Keys of a run's configuration that the align stage does not depend on: the arm's name and mix, and what was noted.
const INDEPENDENT: [&str; 3] = ["arm", "mix", "notes"];

/// A run whose align stage had the same inputs.
pub struct AlignedRun {
    /// Name of its arm.
    pub arm: String,
    dir: PathBuf,
    steps: Vec<TrainStep>,
}

/// Finds a run of the study with the same seed that has finished an align stage with the same inputs: `config` is the
/// configuration of the run in `store`, and `steps` the number of steps of the stage.
///
/// # Errors
/// The study's directory cannot be read.
pub fn find(store: &RunStore, config: &Value, stage: &str, steps: usize) -> Result<Option<AlignedRun>> {
    let (Some(seed), Some(arm)) = (store.dir().file_name(), store.dir().parent()) else { return Ok(None) };
    let Some(study) = arm.parent().filter(|study| study.is_dir()) else { return Ok(None) };
    let step = || format!("reading {}", study.display());
    let mut runs: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(study).with_context(step)? {
        let run = entry.with_context(step)?.path().join(seed);
        if run != store.dir() && run.join("config.json").is_file() {
            runs.push(run);
        }
    }
    runs.sort();
    let wanted = without(config);
    Ok(runs.into_iter().find_map(|dir| {
        let other = RunStore::at(&dir);
        // A run whose files are damaged or incomplete is passed over: this one can train the stage itself.
        let config: Value =
            checksums::check(&dir, "config.json").and_then(|_| atomic::read_json(&dir.join("config.json"))).ok()?;
        let same = without(&config) == wanted && other.has_aligned(&|_| ()).is_ok_and(|there| there);
        let logged: Vec<TrainStep> = other.train_steps().ok()?.into_iter().filter(|s| s.stage == stage).collect();
        let whole = logged.iter().enumerate().all(|(i, logged)| logged.step == i + 1) && logged.len() == steps;
        let arm = config.get("arm").and_then(Value::as_str).unwrap_or_default().to_string();
        (same && whole).then_some(AlignedRun { arm, dir: other.aligned(), steps: logged })
    }))
}

/// The configuration without what the align stage does not depend on.
fn without(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(fields) = config.as_object_mut() {
        INDEPENDENT.iter().for_each(|key| drop(fields.remove(*key)));
    }
    config
}

impl AlignedRun {
    /// Copies the connector and the log of its stage into the run in `store`.
    ///
    /// # Errors
    /// A file cannot be read or written, or is not what its checksum says.
    pub fn copy_to(&self, store: &RunStore) -> Result<()> {
        let mut log = store.train_log(&[])?;
        self.steps.iter().try_for_each(|step| log.write(step))?;
        store.check_owned()?;
        atomic::create_dir_with(&store.aligned(), |dir| {
            copy_files(&self.dir, dir)?;
            checksums::check_all(dir).map(drop)
        })
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let step = || format!("copying {}", from.display());
    for entry in fs::read_dir(from).with_context(step)? {
        let entry = entry.with_context(step)?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(step)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(study: &Path, arm: &str, config: &Value, steps: usize) -> Result<RunStore> {
        let store = RunStore::at(&study.join(arm).join("seed-3"));
        fs::create_dir_all(store.dir())?;
        store.write_or_compare_config(config)?;
        atomic::create_dir_with(&store.aligned(), |dir| {
            fs::write(dir.join("connector.safetensors"), arm)?;
            checksums::record_all(dir)
        })?;
        let mut log = store.train_log(&[])?;
        for step in 1..=steps {
            log.write(&TrainStep {
                stage: "align".into(),
                step,
                loss: 1.0,
                lr: 0.1,
                grad_norm: 1.0,
                tokens: 1,
                seconds: 2.0,
            })?;
        }
        Ok(store)
    }

    #[test]
    fn only_a_whole_stage_with_the_same_inputs_is_taken() -> Result<()> {
        let place = tempfile::tempdir()?;
        let study = place.path();
        let config = |arm: &str, seed: u64, mix: u64| json!({"arm": arm, "seed": seed, "mix": {"rules": mix}});
        run(study, "a-other-seed", &config("a-other-seed", 4, 1), 2)?;
        run(study, "b-too-short", &config("b-too-short", 3, 1), 1)?;
        let damaged = run(study, "c-damaged", &config("c-damaged", 3, 1), 2)?;
        fs::write(damaged.aligned().join("connector.safetensors"), "x")?;
        let mine = RunStore::at(&study.join("mine/seed-3"));
        fs::create_dir_all(mine.dir())?;
        let wanted = config("mine", 3, 7);
        assert!(find(&mine, &wanted, "align", 2)?.is_none());
        run(study, "d", &config("d", 3, 1), 2)?;
        let found = find(&mine, &wanted, "align", 2)?.expect("the run of d");
        assert_eq!(found.arm, "d");
        found.copy_to(&mine)?;
        assert_eq!(fs::read_to_string(mine.aligned().join("connector.safetensors"))?, "d");
        assert!(mine.has_aligned(&|_| ())?);
        assert_eq!((mine.train_steps()?.len(), mine.train_seconds()?), (2, 4.0));
        Ok(())
    }
}
