//! Builds CV-Bench from annotations: counting and spatial relations from 2D boxes (COCO, ADE20K), depth order and
//! relative distance from 3D boxes (Omni3D).
//!
//! The rules are those of Cambrian-1 (arXiv:2406.16860, section 3.2 and appendix B), whose scripts were not released.
//! Where the paper gives no number, the documentation of the option states the chosen value. Ambiguous questions are
//! not asked; every refused candidate is counted with its reason. The paper's last step, manual review of each
//! question, is left to the user, with `manifest.json` and the images in `img/`.
//!
//! [`annotations`] reads annotated images, [`tasks`] finds candidate questions, [`balance`] chooses among them so that
//! no answer and no letter is right more often than another, `draw` marks objects, and the questions are written in the
//! published schema.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ade20k;
mod annotated;
pub mod annotations;
pub mod balance;
mod coco;
mod draw;
mod fields;
mod manifest;
mod options;
mod task;
pub mod tasks;
pub mod words;
mod write;

pub use annotations::{AnnotatedImage, AnnotationFormat, AnnotationSet};
pub use manifest::CvBenchManifest;
pub use options::CvBenchOptions;
pub use task::CvBenchTask;

use burgess_base::{Error, Result, atomic, digest};
use std::collections::BTreeMap;
use std::path::Path;

/// Builds a benchmark in the new directory `out`, which is created completely or not at all.
///
/// # Errors
/// An error is returned for annotations that cannot be read (with their place), options out of range, no question that
/// can be asked, or a full disk. Missing or damaged images are counted in `refused`, and another image is used.
pub fn build(
    inputs: &[AnnotationSet],
    options: &CvBenchOptions,
    out: &Path,
    tell: &dyn Fn(&str),
) -> Result<CvBenchManifest> {
    options.check()?;
    if out.exists() {
        return Err(Error::usage(format!("{} already exists", out.display())).hint("remove it, or choose another name"));
    }
    let mut scenes: Vec<AnnotatedImage> = Vec::new();
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
    let mut manifest = CvBenchManifest {
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
