//! Limits and thresholds of the benchmark.

use crate::task::CvBenchTask;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits and thresholds for the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CvBenchOptions {
    /// Seed of all random draws. Default 0.
    pub seed: u64,
    /// Maximum number of questions per task. Defaults as in the published benchmark: 788, 650, 600, 600.
    pub limits: BTreeMap<CvBenchTask, usize>,
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

impl Default for CvBenchOptions {
    fn default() -> Self {
        let limits = [
            (CvBenchTask::Count, 788),
            (CvBenchTask::Relation, 650),
            (CvBenchTask::Depth, 600),
            (CvBenchTask::Distance, 600),
        ];
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

impl CvBenchOptions {
    pub(crate) fn check(&self) -> Result<()> {
        let fractions =
            [("absent", self.absent), ("gap", self.gap), ("overlap", self.overlap), ("visible", self.visible)];
        if let Some((name, value)) = fractions.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::usage(format!("`{name}` must be a fraction between 0 and 1, found {value}")));
        }
        for (name, value) in [("offset", self.offset), ("min_side", self.min_side)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::usage(format!("`{name}` must be 0 or more, found {value}")));
            }
        }
        for (name, value) in [("per_image", self.per_image), ("max_count", self.max_count)] {
            if value == 0 {
                return Err(Error::usage(format!("`{name}` must be at least 1, found 0")));
            }
        }
        Ok(())
    }
}
