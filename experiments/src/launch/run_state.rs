//! The state of one run, read from its directory while other processes may work there.

use crate::machine::lease::{self, Owner};
use crate::run::store::RunStore;
use crate::run::training;
use burgess_base::{Result, atomic};
use burgess_reports::schema::{MissingRun, TrainStep};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Number of bytes at the end of `train.jsonl` that are read: about 400 steps.
const TAIL: u64 = 64 * 1024;
/// Number of last steps over which the time of a step is averaged.
const RECENT: usize = 50;

/// What a run is doing, or what it has done last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunPhase {
    /// Nothing is stored yet.
    ToDo,
    /// A process owns the run and has not trained a step yet.
    Starting,
    /// A process trains the run.
    Training,
    /// The model is saved, and no process evaluates it.
    Trained,
    /// A process asks the model the questions of the benchmarks.
    Answering,
    /// A part of the work is stored, and no process continues it.
    Stopped,
    /// The owner has not given a sign of life for so long that another process may take over.
    StaleOwner,
    /// The last attempt failed.
    Failed,
    /// The results are stored.
    Done,
}

impl RunPhase {
    /// The phase in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToDo => "to do",
            Self::Starting => "starting",
            Self::Training => "training",
            Self::Trained => "trained",
            Self::Answering => "answering",
            Self::Stopped => "stopped",
            Self::StaleOwner => "stale owner",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// How far the training of a run has come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingProgress {
    /// Stage: `align` or `tune`.
    pub stage: String,
    /// Last step of the stage, from 1.
    pub step: usize,
    /// Number of steps of the stage, once it is known.
    pub steps: Option<usize>,
    /// Loss of the last step, in nats.
    pub loss: f64,
    /// Estimated seconds to the end of the training: the steps left times the mean time of the last steps. In the align
    /// stage, whose steps are faster than those of the tune stage, this is too little.
    pub seconds_left: Option<f64>,
}

/// The process that works on a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOwner {
    /// Host and process ID, `host:123`.
    pub process: String,
    /// Its Slurm job, as Slurm writes it.
    pub job: Option<String>,
    /// Seconds since its last sign of life.
    pub seconds_silent: f64,
}

/// State of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunState {
    /// What the run is doing.
    pub phase: RunPhase,
    /// How far the training has come; `None` before the first step.
    pub training: Option<TrainingProgress>,
    /// Number of benchmarks whose questions are all answered.
    pub benchmarks: usize,
    /// Average score of a finished run, in percent.
    pub average: Option<f64>,
    /// Why the last attempt failed.
    pub failure: Option<MissingRun>,
    /// The process that works on the run, or worked when it was last heard of.
    pub owner: Option<RunOwner>,
}

impl RunState {
    /// Reads the state of the run in a directory; `benchmarks` are the ids of the study's benchmarks. Checksums are not
    /// compared: a damaged file is found by the process that uses it.
    ///
    /// # Errors
    /// The lease on the run cannot be read.
    pub fn read(dir: &Path, benchmarks: &[String]) -> Result<Self> {
        let store = RunStore::at(dir);
        let owner = store.owner()?;
        let training = training_progress(dir);
        let answered = benchmarks.iter().filter(|id| store.samples(id).is_file()).count();
        let average = average(&dir.join("results.json"));
        let failure = store.failure().filter(|_| average.is_none());
        let phase = match &owner {
            _ if average.is_some() => RunPhase::Done,
            Some(owner) if is_stale(owner) => RunPhase::StaleOwner,
            Some(_) if store.model().is_dir() => RunPhase::Answering,
            Some(_) if training.is_some() => RunPhase::Training,
            Some(_) => RunPhase::Starting,
            None if failure.is_some() => RunPhase::Failed,
            None if store.model().is_dir() => RunPhase::Trained,
            None if training.is_some() => RunPhase::Stopped,
            None => RunPhase::ToDo,
        };
        let owner = owner.filter(|_| phase != RunPhase::Done).map(|owner| RunOwner {
            process: format!("{}:{}", owner.host, owner.process),
            seconds_silent: owner.age.as_secs_f64(),
            job: owner.job,
        });
        Ok(Self { phase, training, benchmarks: answered, average, failure, owner })
    }
}

/// Whether so many heartbeats are missing that another process may take the run over.
fn is_stale(owner: &Owner) -> bool {
    owner.age > lease::INTERVAL * lease::MISSED
}

/// Average score from `results.json`; `None` if the run has no readable results.
fn average(results: &Path) -> Option<f64> {
    let results: serde_json::Value = results.is_file().then(|| atomic::read_json(results).ok()).flatten()?;
    results.get("average")?.as_f64()
}

/// Reads how far a training has come from the end of `train.jsonl`.
fn training_progress(dir: &Path) -> Option<TrainingProgress> {
    let steps = last_steps(&dir.join("train.jsonl"));
    let last = steps.last()?;
    let planned = training::planned_steps(dir);
    let steps_of = |stage: &str| planned.iter().find(|(name, _)| name == stage).map(|(_, steps)| *steps);
    let recent: Vec<f64> =
        steps.iter().rev().take_while(|s| s.stage == last.stage).take(RECENT).map(|s| s.seconds).collect();
    let mean = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
    // The stages are stored in their order: those after the present one are still to come.
    let later = planned.iter().skip_while(|(name, _)| *name != last.stage).skip(1).map(|(_, steps)| *steps);
    let left = steps_of(&last.stage).map(|all| all.saturating_sub(last.step) + later.sum::<usize>());
    Some(TrainingProgress {
        stage: last.stage.clone(),
        step: last.step,
        steps: steps_of(&last.stage),
        loss: last.loss,
        seconds_left: left.map(|left| left as f64 * mean),
    })
}

/// The steps at the end of a training log; empty if there is none. Lines that are cut off are left out.
fn last_steps(path: &Path) -> Vec<TrainStep> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn step(stage: &str, step: usize, seconds: f64) -> String {
        let line = format!(r#"{{"stage":"{stage}","step":{step},"loss":{}.5,"lr":0.1,"grad_norm":1,"#, 10 - step);
        format!("{line}\"tokens\":9,\"seconds\":{seconds}}}\n")
    }

    #[test]
    fn the_log_tells_step_loss_and_time_left() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let read = || RunState::read(dir.path(), &["a".into(), "b".into()]).expect("a state");
        assert_eq!((read().phase, read().training), (RunPhase::ToDo, None));
        fs::write(dir.path().join("train.jsonl"), step("align", 1, 9.0) + &step("align", 2, 1.0) + "{\"stage\":\"al")?;
        let unplanned = read().training;
        assert_eq!(unplanned.as_ref().map(|t| (t.step, t.steps, t.loss, t.seconds_left)), Some((2, None, 8.5, None)));
        fs::write(dir.path().join(training::STEPS), r#"[["align",4],["tune",6]]"#)?;
        let training = read().training.expect("a training");
        // Two steps of align and six of tune, five seconds each.
        assert_eq!((training.steps, training.seconds_left), (Some(4), Some(40.0)));
        let log = [step("align", 4, 9.0), step("tune", 1, 2.0), step("tune", 2, 4.0)].concat();
        fs::write(dir.path().join("train.jsonl"), log)?;
        let state = read();
        assert_eq!(state.training.map(|t| (t.stage, t.step, t.seconds_left)), Some(("tune".into(), 2, Some(12.0))));
        assert_eq!(state.phase, RunPhase::Stopped);
        Ok(())
    }

    #[test]
    fn a_run_passes_from_its_model_to_its_results() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let read = || RunState::read(dir.path(), &["a".into(), "b".into()]).expect("a state");
        let store = RunStore::at(dir.path());
        let failure = MissingRun { arm: "x".into(), seed: 0, cause: "no weights".into(), hint: None };
        store.write_failure(&failure)?;
        assert_eq!((read().phase, read().failure), (RunPhase::Failed, Some(failure)));
        store.remove_failure()?;
        fs::create_dir_all(store.model())?;
        assert_eq!(read().phase, RunPhase::Trained);
        fs::create_dir_all(dir.path().join("samples"))?;
        fs::write(store.samples("b"), "")?;
        assert_eq!(read().benchmarks, 1);
        fs::write(dir.path().join("results.json"), r#"{"average": 41.25}"#)?;
        assert_eq!((read().phase, read().average), (RunPhase::Done, Some(41.25)));
        Ok(())
    }
}
