//! The stages of a study, each of which can be done by a process of its own, for some of the arms and seeds.
//!
//! A stage does only its own part of the work and is idempotent: work with a stored result is not repeated, and a stage
//! with nothing left to do succeeds. A scheduler runs the stages of a study as separate tasks.

use crate::data;
use crate::features::{FrozenFeatures, PreparedEncoder, prepare_all};
use crate::machine::device_set::DeviceSet;
use crate::machine::progress::Progress;
use crate::machine::terminal;
use crate::run::evaluator::Evaluator;
use crate::run::store::{RunStore, run_dir};
use crate::run::study_runs::{self, StudyOptions};
use crate::run::{checks, notes};
use crate::study::{Arm, ArmEncoder, FeatureSourceKind, Freeze, StudyConfig};
use burgess_base::{Error, ErrorKind, Result};
use burgess_reports::schema::MissingRun;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A part of the work on a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudyStage {
    /// The features of the encoders are computed into the cache.
    Encode,
    /// Runs are aligned and tuned, up to the saved model. Missing features are computed first.
    Train,
    /// Trained models answer the questions of the benchmarks; the answers are scored into `results.json`.
    Eval,
    /// The ranking and the report are written from the results that exist.
    Report,
}

impl StudyStage {
    /// All stages in the order in which they depend on one another.
    pub const ALL: [Self; 4] = [Self::Encode, Self::Train, Self::Eval, Self::Report];

    /// Name on the command line and in files: `encode`, `train`, `eval` or `report`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for StudyStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StudyStage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::as_str);
        Self::ALL.into_iter().find(|stage| stage.as_str() == text).ok_or_else(|| {
            Error::usage(format!("`{text}` is no stage of a study")).hint(format!("the stages: {}", names.join(", ")))
        })
    }
}

/// What a stage has done, for the encoders (`encode`) or the runs (`train`, `eval`) that the call names.
#[derive(Debug, Serialize)]
pub struct StageOutcome {
    /// The stage.
    pub stage: StudyStage,
    /// Number of encoders or runs.
    pub total: usize,
    /// Encoders or runs that failed, with their causes.
    pub failed: Vec<StageFailure>,
}

/// An encoder or a run that failed in a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageFailure {
    /// The encoder, or the arm with its seed.
    pub name: String,
    /// What prevented the result.
    pub cause: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Chooses the arms of a study with these names; the order stays that of the study. An empty list chooses all.
///
/// # Errors
/// The study has no arm with a given name; the hint lists its arms.
pub fn choose_arms(study: &mut StudyConfig, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = study.arms.iter().map(Arm::name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(Error::usage(format!("the study {} has no arm called `{unknown}`", study.name))
            .hint(format!("its arms: {}", known.join(", "))));
    }
    study.arms.retain(|arm| names.contains(&arm.name()));
    Ok(())
}

/// Returns the encoders of a study, each once, that `names` chooses: an encoder as the study writes it (`nano-sup`,
/// `vit@7`), or an arm, which stands for all its encoders. An empty list chooses all.
///
/// # Errors
/// The study has neither an encoder nor an arm with a given name; the hint lists both.
pub fn choose_encoders(study: &StudyConfig, names: &[String]) -> Result<Vec<ArmEncoder>> {
    let mut all: Vec<(ArmEncoder, Vec<String>)> = Vec::new();
    for (arm, encoder) in study.arms.iter().flat_map(|arm| arm.encoders.iter().map(move |e| (arm, e))) {
        match all.iter_mut().find(|(known, _)| known == encoder) {
            Some((_, arms)) => arms.push(arm.name()),
            None => all.push((encoder.clone(), vec![arm.name()])),
        }
    }
    let written: Vec<String> = all.iter().map(|(encoder, _)| encoder.to_string()).collect();
    let is_known = |name: &String| written.contains(name) || study.arms.iter().any(|arm| arm.name() == *name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let arms = study.arms.iter().map(Arm::name).filter(|name| !written.contains(name));
        return Err(Error::usage(format!("the study {} has no encoder and no arm called `{unknown}`", study.name))
            .hint(format!("it has: {}", written.iter().cloned().chain(arms).collect::<Vec<_>>().join(", "))));
    }
    let chosen = |(encoder, arms): &(ArmEncoder, Vec<String>)| {
        let text = encoder.to_string();
        // A name that an encoder and an arm have in common is the encoder's.
        names.is_empty() || names.iter().any(|n| *n == text || (!written.contains(n) && arms.contains(n)))
    };
    Ok(all.into_iter().filter(chosen).map(|(encoder, _)| encoder).collect())
}

/// Does one of the stages `encode`, `train` and `eval` for the runs of a study. `names` limits them to these arms and,
/// in the stage `encode`, to these encoders; an empty list means all.
///
/// # Errors
/// The evaluator, its data or the study's directory cannot be used. Failures of single encoders and runs are no errors
/// but listed in the outcome, and those of runs also recorded in their directories.
pub fn run_stage(
    study: &StudyConfig,
    stage: StudyStage,
    names: &[String],
    options: &StudyOptions,
    progress: &Progress,
) -> Result<StageOutcome> {
    if stage == StudyStage::Encode {
        return encode(study, &choose_encoders(study, names)?, options, progress);
    }
    let mut study = study.clone();
    choose_arms(&mut study, names)?;
    let dir = options.out.join(&study.name);
    let options = StudyOptions { stage: Some(stage), ..options.clone() };
    let counts = study_runs::run_study(&dir, &study, &options, progress)?;
    let failed = counts.failures.into_iter().map(|m| StageFailure {
        name: format!("{} (seed {})", m.arm, m.seed),
        cause: m.cause,
        hint: m.hint,
    });
    Ok(StageOutcome { stage, total: counts.runs, failed: failed.collect() })
}

/// Computes the cached features of encoders. The failure of an encoder is recorded in the directories of the runs of
/// the study that need it.
fn encode(
    study: &StudyConfig,
    encoders: &[ArmEncoder],
    options: &StudyOptions,
    progress: &Progress,
) -> Result<StageOutcome> {
    let (dir, total) = (options.out.join(&study.name), encoders.len());
    checks::check_writable(&dir)?;
    if study.evaluator.features == FeatureSourceKind::Computed {
        progress.line("nothing to encode: the study has features = \"computed\", so that runs compute them as needed");
        return Ok(StageOutcome { stage: StudyStage::Encode, total, failed: Vec::new() });
    }
    let devices = DeviceSet::open(&options.device, progress)?;
    let data = data::open(&study.evaluator.data, progress)?;
    let alone = encoders.iter().map(|encoder| Arm::new(vec![encoder.clone()], Freeze::Frozen));
    let alone = StudyConfig { arms: alone.collect(), ..study.clone() };
    let encoders = prepare_all(&alone, &data.dir, progress);
    let evaluator = Evaluator::open(&study.name, &study.evaluator, &[], data, &devices, progress)?;
    let prepared: Vec<&PreparedEncoder> = encoders.values().flatten().collect();
    notes::print_notes(&evaluator.notes(prepared.iter().map(|p| &p.card)), progress);
    let source = evaluator.config.features;
    let workers = devices.workers(options.jobs, total, None);
    let features = FrozenFeatures::open_all(&prepared, source, evaluator.image_set(), &workers, progress)?;
    let encoded = prepared.iter().zip(features).filter_map(|(p, f)| Some((p.encoder.to_string(), f.err()?)));
    let encoded: Vec<(String, Error)> = encoded.collect();
    let unprepared =
        encoders.iter().filter_map(|(name, p)| Some((name.clone(), study_runs::copy_error(p.as_ref().err()?))));
    let mut failed = Vec::new();
    for (name, e) in unprepared.chain(encoded).collect::<Vec<_>>() {
        if e.kind() == ErrorKind::Interrupted {
            return Err(e);
        }
        progress.line(&format!("{name} failed: {e}"));
        let failure = StageFailure { name, cause: e.to_string(), hint: terminal::hint(&e) };
        record(study, &dir, &failure, progress);
        failed.push(failure);
    }
    Ok(StageOutcome { stage: StudyStage::Encode, total, failed })
}

/// Records the failure of an encoder in the runs that need it and have neither a model nor results.
fn record(study: &StudyConfig, dir: &Path, failure: &StageFailure, progress: &Progress) {
    let needing = |arm: &Arm| arm.encoders.iter().any(|e| e.to_string() == failure.name);
    for (arm, seed) in study.runs().into_iter().filter(|(arm, _)| needing(arm)) {
        let run = RunStore::at(&run_dir(dir, &arm.name(), seed));
        if run.dir().join("results.json").exists() || run.model().exists() {
            continue;
        }
        let (cause, hint) = (failure.cause.clone(), failure.hint.clone());
        // A full disk may be the cause, so a failed write does not stop the other encoders.
        if let Err(e) = run.write_failure(&MissingRun { arm: arm.name(), seed, cause, hint }) {
            progress.line(&format!("failed.json could not be written: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(arms: &[&str]) -> Result<StudyConfig> {
        let mut study = StudyConfig::open("nano")?;
        study.arms = arms.iter().map(|arm| Arm::parse(arm)).collect::<Result<_>>()?;
        Ok(study)
    }

    #[test]
    fn stages_read_back_as_written_and_are_in_order() -> Result<()> {
        for stage in StudyStage::ALL {
            assert_eq!(stage.as_str().parse::<StudyStage>()?, stage);
        }
        assert!(StudyStage::ALL.is_sorted());
        let e = "evaluate".parse::<StudyStage>().unwrap_err();
        assert!(e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("encode, train, eval, report")));
        Ok(())
    }

    #[test]
    fn arms_are_chosen_by_name_in_the_order_of_the_study() -> Result<()> {
        let mut study = study(&["nano-sup", "nano-mae+nano-sup", "nano-sup:unfrozen"])?;
        choose_arms(&mut study, &[])?;
        assert_eq!(study.arms.len(), 3);
        choose_arms(&mut study, &["nano-sup-unfrozen".into(), "nano-sup".into()])?;
        assert_eq!(study.arms.iter().map(Arm::name).collect::<Vec<_>>(), ["nano-sup", "nano-sup-unfrozen"]);
        let e = choose_arms(&mut study, &["nano-mae".into()]).unwrap_err();
        assert!(e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("nano-sup-unfrozen")), "{e}");
        Ok(())
    }

    #[test]
    fn encoders_are_chosen_by_their_own_name_or_an_arms() -> Result<()> {
        let study = study(&["nano-sup@grid=2", "nano-mae+nano-sup", "nano-sup:unfrozen"])?;
        let chosen = |names: &[&str]| -> Result<Vec<String>> {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Ok(choose_encoders(&study, &names)?.iter().map(ToString::to_string).collect())
        };
        assert_eq!(chosen(&[])?, ["nano-sup@grid=2", "nano-mae", "nano-sup"]);
        assert_eq!(chosen(&["nano-mae+nano-sup"])?, ["nano-mae", "nano-sup"]);
        assert_eq!(chosen(&["nano-sup"])?, ["nano-sup"]);
        assert_eq!(chosen(&["nano-sup-unfrozen", "nano-mae"])?, ["nano-mae", "nano-sup"]);
        assert!(chosen(&["nano-clip"]).is_err_and(|e| e.hint_text().is_some_and(|h| h.contains("nano-sup-unfrozen"))));
        Ok(())
    }
}
