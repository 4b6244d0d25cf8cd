//! The nano world: synthetic images with exact ground truth, and questions about them.
//!
//! ```text
//! Scene::draw ──► render()   96×96 pixels
//!            ├──► caption()  one or two sentences
//!            ├──► classes()  class labels
//!            ├──► cells()    the words of each of the 4×4 cells
//!            └──► turns()    questions with right answers
//! corpus ─────► text without images, for the language model
//! dataset::write ──► captions, conversations and the nine nano benchmarks on disk
//! ```
//!
//! There are six kinds of images: flat ones of pictograms and plain shapes (`flat`, `icons`), perspective ones of
//! solids (`solids`, `raycast`), writing and tables (`page`, `text`), charts (`chart`) and diagrams (`diagram`).
//! `truth` holds the words of each cell, `map` writes them as dense captions, `facts` holds the facts about things, and
//! `questions` has one file per benchmark; `probing` and `keypoints` make data for probes of encoders. Everything
//! follows from seeds, independently of the number of threads.
//!
//! ```
//! use burgess_base::stream::stream;
//! use burgess_world::{CELLS, SIZE, Scene, SceneSplit};
//!
//! let scene = Scene::draw(SceneSplit::Tune, 0, 17);
//! assert_eq!(scene.render().dimensions(), (SIZE, SIZE));
//! assert_eq!(scene.cells().len(), CELLS * CELLS);
//! assert!(!scene.turns(4, &mut stream("example", 0)).is_empty());
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod canvas;
mod caption;
mod chart;
mod classes;
#[cfg(test)]
mod contact_sheets;
mod corpus;
pub mod dataset;
mod dense;
mod diagram;
pub mod dice;
mod document;
mod examples;
mod facts;
mod flat;
mod grid;
mod icons;
mod keypoints;
mod lessons;
mod map;
mod page;
mod palette;
mod pool;
pub mod probing;
mod questions;
mod raycast;
mod scene;
mod solids;
pub mod text;
mod truth;

pub use classes::class_names;
pub use corpus::{LessonCounts, ReadingExercise, corpus, reading};
pub use document::Document;
pub use examples::{ExampleQuestion, examples};
pub use flat::Relation;
pub use grid::{CELLS, SIZE};
pub use keypoints::{KeypointPair, keypoint_pairs};
pub use pool::PoolSource;
pub use questions::{QaPair, QuestionFamily};
pub use scene::{Scene, SceneSplit};

/// Version that is incremented whenever a pixel of the world or a text for training changes; it is part of every cache key.
pub const VERSION: u32 = 4;

/// Version that is incremented whenever a benchmark changes its name or draws other images or questions; it is part of the
/// key of rendered worlds. Pretrained weights and their records do not depend on it.
pub const BENCHMARK_VERSION: u32 = 2;
