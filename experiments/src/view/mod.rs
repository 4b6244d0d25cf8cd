//! The studies below a directory, for `burgess view`: which there are, the state of their runs, and their pages.

mod images;

use crate::data::TableCells;
use crate::launch::run_state::RunPhase;
use crate::launch::status::{self, RunStatus, StudyStatus};
use crate::run::ranking;
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_reports::answers::{AnswerOptions, ImageMode};
use burgess_reports::load::{directories, seed_of};
use burgess_reports::page::studies_page::{ArmAverage, StudyEntry, studies_page};
use burgess_serve::view::{StudyImages, StudyPages};
use images::ServedImages;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Number of directory levels below the given one in which studies are looked for.
const LEVELS: usize = 3;
/// Maximum number of studies.
const MOST_STUDIES: usize = 1000;
/// Maximum number of notes per study in the list.
const MOST_NOTES: usize = 12;
/// Maximum length of a note in characters.
const NOTE: usize = 240;

/// The studies below a directory. Nothing is written there.
#[derive(Debug)]
pub struct StudyFolder {
    /// The directory, with links resolved.
    root: PathBuf,
}

impl StudyFolder {
    /// Opens a directory of studies, or the directory of one study.
    ///
    /// # Errors
    /// It is not a directory, or there is no study in it.
    pub fn open(dir: &Path) -> Result<Self> {
        const HINT: &str = "give the directory of one or many studies, such as runs; `burgess rank` makes one";
        if !dir.is_dir() {
            return Err(Error::usage(format!("{} is not a directory", dir.display())).hint(HINT));
        }
        let root = fs::canonicalize(dir).with_context(|| format!("opening {}", dir.display()))?;
        let folder = Self { root };
        if folder.studies()?.is_empty() {
            let message = format!("there is no study in {} or {LEVELS} levels below it", dir.display());
            return Err(Error::usage(message).hint(HINT));
        }
        Ok(folder)
    }

    /// Returns the studies by name. A name is the path below the root, with `~` between its parts.
    ///
    /// # Errors
    /// The root cannot be read.
    pub fn studies(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        if is_study(&self.root) {
            let name = self.root.file_name().map_or("study".into(), |name| name.to_string_lossy().into_owned());
            found.insert(name, self.root.clone());
            return Ok(found);
        }
        fs::read_dir(&self.root).with_context(|| format!("reading {}", self.root.display()))?;
        self.search(&self.root, "", LEVELS, &mut found);
        Ok(found)
    }

    fn search(&self, dir: &Path, prefix: &str, levels: usize, found: &mut BTreeMap<String, PathBuf>) {
        for (name, path) in folders(dir) {
            // A link that leaves the root would show what the user did not name.
            let inside = fs::canonicalize(&path).is_ok_and(|real| real.starts_with(&self.root));
            if !inside || found.len() >= MOST_STUDIES {
                continue;
            }
            if is_study(&path) {
                let mut unique = format!("{prefix}{name}");
                while found.contains_key(&unique) {
                    unique.push('~');
                }
                found.insert(unique, path);
            } else if levels > 1 {
                self.search(&path, &format!("{prefix}{name}~"), levels - 1, found);
            }
        }
    }

    fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        Ok(self.studies()?.remove(name))
    }

    /// Returns the studies with the states of their runs.
    ///
    /// # Errors
    /// The root cannot be read. A study that cannot be read is listed with the reason.
    pub fn entries(&self) -> Result<Vec<StudyEntry>> {
        Ok(self.studies()?.iter().map(|(name, dir)| entry(name, dir)).collect())
    }
}

impl StudyPages for StudyFolder {
    fn index(&self) -> Result<String> {
        studies_page(&self.root.display().to_string(), &self.entries()?)
    }

    fn version(&self, study: Option<&str>) -> Result<Option<String>> {
        let Some(name) = study else { return Ok(Some(digest::of_bytes(self.index()?.as_bytes()))) };
        self.find(name)?.map(|dir| fingerprint(&dir)).transpose()
    }

    fn write(&self, study: &str, out: &Path) -> Result<Box<dyn StudyImages>> {
        let dir = self.find(study)?.ok_or_else(|| Error::failed(format!("there is no study {study} any more")))?;
        let browser = AnswerOptions { images: ImageMode::Served, cells: Some(&TableCells), home: "../../" };
        let written = ranking::report_with(&dir, Some(out), None, &browser)?.written;
        Ok(Box::new(ServedImages { generation: written.answers.generation, images: written.answers.served }))
    }
}

/// Returns the directories in a directory, without hidden and temporary ones; empty if it cannot be read.
fn folders(dir: &Path) -> Vec<(String, PathBuf)> {
    directories(dir).unwrap_or_default()
}

/// Whether a directory is that of a study: it has `study.json`, or an arm with the directory of a run.
fn is_study(dir: &Path) -> bool {
    let has_run = |arm: &Path| folders(arm).iter().any(|(name, _)| seed_of(name).is_some());
    dir.join("study.json").is_file() || folders(dir).iter().any(|(_, arm)| has_run(arm))
}

/// Returns a digest of names, sizes and times of all files that the pages are made of.
fn fingerprint(dir: &Path) -> Result<String> {
    let mut text = String::new();
    let mut add = |path: &Path| {
        if let Ok(meta) = fs::metadata(path) {
            let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            text += &format!("{} {} {}\n", path.display(), meta.len(), time.as_nanos());
        }
    };
    for name in ["study.json", "made.json"] {
        add(&dir.join(name));
    }
    for (_, arm) in folders(dir) {
        for (_, run) in folders(&arm).into_iter().filter(|(name, _)| seed_of(name).is_some()) {
            for name in ["config.json", "results.json", "failed.json"] {
                add(&run.join(name));
            }
            // Samples count once the run has results.
            if run.join("results.json").is_file() {
                let mut samples: Vec<PathBuf> =
                    fs::read_dir(run.join("samples")).into_iter().flatten().flatten().map(|e| e.path()).collect();
                samples.sort();
                samples.iter().for_each(|path| add(path));
            }
        }
    }
    Ok(digest::of_bytes(text.as_bytes()))
}

/// Describes a study for the list.
fn entry(name: &str, dir: &Path) -> StudyEntry {
    let mut entry = StudyEntry {
        name: name.to_string(),
        address: format!("study/{}/", burgess_serve::view::encoded(name)),
        directory: dir.display().to_string(),
        ..Default::default()
    };
    let status = match read_status(dir, &mut entry.title) {
        Ok(status) => status,
        Err(e) => {
            entry.problem = excerpt(&e.to_string(), NOTE);
            return entry;
        }
    };
    let mut arms: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in &status.runs {
        match entry.states.iter_mut().find(|(state, _)| *state == run.state) {
            Some((_, count)) => *count += 1,
            None => entry.states.push((run.state.clone(), 1)),
        }
        arms.entry(&run.arm).or_default().extend(run.stored.average);
        entry.notes.extend(note(run));
    }
    if entry.notes.len() > MOST_NOTES {
        let more = entry.notes.len() - MOST_NOTES;
        entry.notes.truncate(MOST_NOTES);
        entry.notes.push(format!("{more} more runs are not finished"));
    }
    entry.finished = arms.values().map(Vec::len).sum();
    let average = |(arm, averages): (&str, Vec<f64>)| ArmAverage {
        arm: arm.to_string(),
        average: (!averages.is_empty()).then(|| averages.iter().sum::<f64>() / averages.len() as f64),
        seeds: averages.len(),
    };
    entry.arms = arms.into_iter().map(average).collect();
    let key = |arm: &ArmAverage| arm.average.unwrap_or(f64::NEG_INFINITY);
    entry.arms.sort_by(|a, b| key(b).total_cmp(&key(a)));
    entry
}

/// Reads the title of a study and the states of its runs.
fn read_status(dir: &Path, title: &mut String) -> Result<StudyStatus> {
    let path = dir.join("study.json");
    let study: Value = if path.is_file() { atomic::read_json(&path)? } else { Value::Null };
    *title = study.get("title").and_then(Value::as_str).unwrap_or_default().to_string();
    let benchmarks = if path.is_file() { status::benchmarks_in(dir)? } else { Vec::new() };
    StudyStatus::read(dir, &status::runs_in(dir)?, &benchmarks, &BTreeMap::new())
}

/// Says what a run that is not finished is doing, or why it failed.
fn note(run: &RunStatus) -> Option<String> {
    let name = format!("{}, seed {}", run.arm, run.seed);
    let training = run.stored.training.as_ref().map(|t| match t.steps {
        Some(steps) => format!(": {} step {} of {steps}, loss {:.3}", t.stage, t.step, t.loss),
        None => format!(": {} step {}, loss {:.3}", t.stage, t.step, t.loss),
    });
    match (run.stored.phase, &run.stored.failure) {
        (RunPhase::Done, _) => None,
        (RunPhase::Failed, Some(failure)) => Some(excerpt(&format!("{name}, failed: {}", failure.cause), NOTE)),
        (RunPhase::Training | RunPhase::Stopped | RunPhase::StaleOwner, _) => {
            Some(format!("{name}: {}{}", run.state, training.unwrap_or_default()))
        }
        _ => Some(format!("{name}: {}", run.state)),
    }
}

#[cfg(test)]
mod tests;
