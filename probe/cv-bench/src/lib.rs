//! CV-Bench from anyone's annotations: counting and spatial relations from boxes (COCO, ADE20K), depth order and relative
//! distance from boxes in space (Omni3D).
//!
//! The rules are those of Cambrian-1 (arXiv:2406.16860, section 3.2 and appendix B), whose scripts were not released; where
//! the paper gives no number the option's documentation says what was chosen. What is not clear in a picture is not asked:
//! every candidate that is refused is counted with its reason. The paper's last step, people who accept or reject each
//! question, is left to the user: `manifest.json` and the pictures in `img/` are for that.
//!
//! [`annotations`] reads scenes, [`tasks`] finds what can be asked, [`balance`] chooses, so that neither an answer nor a
//! letter is right more often than another, [`draw`] marks objects, and the questions are written in the published schema.

mod ade20k;
pub mod annotations;
pub mod balance;
pub mod draw;
mod fields;
pub mod tasks;
pub mod words;
mod write;

use annotations::{Format, Scene};
use burgess_base::{Error, Result, atomic, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tasks::Task;

/// One set of annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// How they are written.
    pub format: Format,
    /// The JSON file; for ADE20K's full edition the directory with a JSON file beside each picture.
    pub annotations: PathBuf,
    /// The directory below which the pictures lie.
    pub pictures: PathBuf,
}

/// What is asked, and when it is clear enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Seed of all draws. Default 0.
    pub seed: u64,
    /// Questions of each task at most. Defaults: those of the published benchmark, 788, 650, 600, 600.
    pub limits: BTreeMap<Task, usize>,
    /// Questions of a task about one picture at most. Default 1.
    pub per_image: usize,
    /// The shorter side that an object's box must have, in pixels, to be asked for or counted. A smaller object of a class
    /// makes the class's number unclear. Default 12.
    pub min_side: f64,
    /// The largest number that is asked for. Default 9: more are hard to count for people, too.
    pub max_count: usize,
    /// Of how many counting questions the answer is 0. Default 0.1.
    pub absent: f64,
    /// How far apart two boxes must be along the axis that is asked for, as a share of the picture's side. Default 0.02; 0
    /// lets boxes touch.
    pub gap: f64,
    /// The largest intersection over union of two boxes that are told apart by drawn boxes. Default 0.5.
    pub overlap: f64,
    /// By how much one object must be nearer than the other, in the unit of the annotations (metres). Default 0.5; the paper's
    /// offset was not published.
    pub offset: f64,
    /// The share of an object that must be seen, where annotations say it (`visibility`). Default 0.5.
    pub visible: f64,
}

impl Default for Options {
    fn default() -> Self {
        let limits = [(Task::Count, 788), (Task::Relation, 650), (Task::Depth, 600), (Task::Distance, 600)];
        Self {
            seed: 0,
            limits: limits.into(),
            per_image: 1,
            min_side: 12.0,
            max_count: 9,
            absent: 0.1,
            gap: 0.02,
            overlap: 0.5,
            offset: 0.5,
            visible: 0.5,
        }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let shares = [("absent", self.absent), ("gap", self.gap), ("overlap", self.overlap), ("visible", self.visible)];
        if let Some((name, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::usage(format!("{name} = {value} is no share")).hint("it lies between 0 and 1"));
        }
        if !(self.offset >= 0.0 && self.offset.is_finite() && self.min_side >= 0.0 && self.min_side.is_finite()) {
            return Err(Error::usage("offset and min_side cannot be negative"));
        }
        match self.per_image > 0 && self.max_count > 0 {
            true => Ok(()),
            false => Err(Error::usage("per_image and max_count must be positive")),
        }
    }
}

/// What was made: also `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The options.
    pub options: Options,
    /// The inputs, each with the digest of its annotations.
    pub inputs: Vec<(Input, String)>,
    /// Pictures with annotations.
    pub scenes: usize,
    /// By task and right answer (a number, left, nearer object first in the question, ...): questions.
    pub questions: BTreeMap<Task, BTreeMap<String, usize>>,
    /// By task and letter: how often it is right.
    pub letters: BTreeMap<Task, BTreeMap<char, usize>>,
    /// By task (or `annotations`) and reason: what was not asked.
    pub refused: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Makes a benchmark in the directory `out`, which appears whole or not at all.
///
/// # Errors
/// Annotations that cannot be read (with their place), options out of range, no question that could be asked, a full disk.
/// Pictures that are missing or damaged are counted under `refused`, with the question taken from another one.
pub fn build(inputs: &[Input], options: &Options, out: &Path, tell: &dyn Fn(&str)) -> Result<Manifest> {
    options.check()?;
    if out.exists() {
        return Err(
            Error::usage(format!("{} is there already", out.display())).hint("remove it, or choose another name")
        );
    }
    let mut scenes: Vec<Scene> = Vec::new();
    let mut refused: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut read = Vec::new();
    for input in inputs {
        tell(&format!("reading {}", input.annotations.display()));
        let found = annotations::read(input)?;
        for (reason, count) in found.refused {
            *refused.entry("annotations".into()).or_default().entry(reason.into()).or_default() += count;
        }
        scenes.extend(found.scenes);
        let what = if input.annotations.is_file() { digest::of_file(&input.annotations)? } else { String::new() };
        read.push((input.clone(), what));
    }
    let candidates = tasks::candidates(&scenes, options, &mut refused);
    let mut manifest = Manifest {
        options: options.clone(),
        inputs: read,
        scenes: scenes.len(),
        questions: BTreeMap::new(),
        letters: BTreeMap::new(),
        refused,
    };
    atomic::create_dir_with(out, |dir| {
        write::write(dir, &scenes, &candidates, options, &mut manifest, tell)?;
        atomic::write_json(&dir.join("manifest.json"), &manifest)
    })?;
    Ok(manifest)
}
