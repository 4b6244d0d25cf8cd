//! Builds CV-Bench from annotations: counting and spatial relations from 2D boxes (COCO, ADE20K), depth order and
//! relative distance from 3D boxes (Omni3D).
//!
//! The rules are those of Cambrian-1 (arXiv:2406.16860, section 3.2 and appendix B), whose scripts were not released.
//! Where the paper gives no number, the documentation of the option states the chosen value. Ambiguous questions are
//! not asked; every refused candidate is counted with its reason. The paper's last step, manual review of each
//! question, is left to the user, with `manifest.json` and the images in `img/`.
//!
//! [`annotations`] reads scenes, [`tasks`] finds candidate questions, [`balance`] chooses among them so that no answer
//! and no letter is right more often than another, [`draw`] marks objects, and the questions are written in the
//! published schema.

#![warn(missing_docs)]
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

/// One set of annotations with its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Format of the annotations.
    pub format: Format,
    /// The JSON file; for ADE20K's full edition the directory with a JSON file beside each image.
    pub annotations: PathBuf,
    /// The directory to which image paths are relative.
    pub images: PathBuf,
}

/// Limits and thresholds for the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Seed of all random draws. Default 0.
    pub seed: u64,
    /// Maximum number of questions per task. Defaults as in the published benchmark: 788, 650, 600, 600.
    pub limits: BTreeMap<Task, usize>,
    /// Maximum number of questions of a task about one image. Default 1.
    pub per_image: usize,
    /// Minimum shorter side of an object's box, in pixels, for the object to be asked about or counted. A class with a
    /// smaller object is not counted in that image. Default 12.
    pub min_side: f64,
    /// The largest number that is asked for. Default 9, because larger numbers are hard to count for people too.
    pub max_count: usize,
    /// Fraction of counting questions whose answer is 0. Default 0.1.
    pub absent: f64,
    /// Minimum distance of two boxes along the questioned axis, as a fraction of the image's side. Default 0.02; 0
    /// allows touching boxes.
    pub gap: f64,
    /// Maximum intersection over union of two objects that are distinguished by drawn boxes. Default 0.5.
    pub overlap: f64,
    /// Minimum difference of distance between the nearer and the farther object, in the unit of the annotations
    /// (metres). Default 0.5; the paper's value was not published.
    pub offset: f64,
    /// Minimum visible fraction of an object, where annotations give it (`visibility`). Default 0.5.
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

/// A summary of the built benchmark, which is also `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The options that were used.
    pub options: Options,
    /// The inputs, each with the digest of its annotations.
    pub inputs: Vec<(Input, String)>,
    /// Number of annotated images.
    pub scenes: usize,
    /// Number of questions by task and right answer (a number, "left", the nearer object being named first, …).
    pub questions: BTreeMap<Task, BTreeMap<String, usize>>,
    /// Number of questions by task and letter of the right choice.
    pub letters: BTreeMap<Task, BTreeMap<char, usize>>,
    /// Number of refused candidates by task (or `annotations`) and reason.
    pub refused: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Builds a benchmark in the new directory `out`, which is created completely or not at all.
///
/// # Errors
/// An error is returned for annotations that cannot be read (with their place), options out of range, no question that
/// can be asked, or a full disk. Missing or damaged images are counted in `refused`, and another image is used.
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
