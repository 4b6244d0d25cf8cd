//! The tasks of the benchmark.

use serde::{Deserialize, Serialize};

/// The four tasks of CV-Bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CvBenchTask {
    /// Counting: how many objects of a class are in the image?
    Count,
    /// Spatial relation: on which side of an object is another?
    Relation,
    /// Depth order: which of two objects is nearer to the camera?
    Depth,
    /// Relative distance: which of two objects is nearer to a third?
    Distance,
}

impl CvBenchTask {
    /// Returns the half of the benchmark, `2D` or `3D`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Count | Self::Relation => "2D",
            Self::Depth | Self::Distance => "3D",
        }
    }
}
