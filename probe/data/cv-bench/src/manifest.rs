//! The summary of a built benchmark.

use crate::annotations::AnnotationSet;
use crate::options::CvBenchOptions;
use crate::task::CvBenchTask;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A summary of the built benchmark, which is also `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CvBenchManifest {
    /// The options that were used.
    pub options: CvBenchOptions,
    /// The inputs, each with the digest of its annotations.
    pub inputs: Vec<(AnnotationSet, String)>,
    /// Number of annotated images.
    pub scenes: usize,
    /// Number of questions by task and right answer (a number, "left", the nearer object being named first, …).
    pub questions: BTreeMap<CvBenchTask, BTreeMap<String, usize>>,
    /// Number of questions by task and letter of the right choice.
    pub letters: BTreeMap<CvBenchTask, BTreeMap<char, usize>>,
    /// Number of refused candidates by task (or `annotations`) and reason.
    pub refused: BTreeMap<String, BTreeMap<String, usize>>,
}
