//! The nano world: images with exact ground truth, and questions about them.
//!
//! ```text
//! Scene::draw ──► render()   96×96 image
//!            ├──► caption()  what it shows, in words
//!            ├──► classes()  what it shows, as labels
//!            ├──► truth()    what each of its 6×6 cells shows
//!            └──► turns()    questions and right answers
//! corpus ─────► text without images, for the language model
//! dataset::write ──► captions, conversations and the nine nano benchmarks on disk
//! ```
//!
//! Six kinds of images: flat ones of pictograms and plain shapes (`flat`, `icons`), perspective ones of solids (`solids`,
//! `raycast`), writing and tables (`page`, `text`), charts (`chart`) and diagrams (`diagram`). `map` writes images as rows of words, a word a cell. `facts` holds what is true
//! of the things, `questions` one file per benchmark. Everything follows from seeds; nothing depends on the number of threads.

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
mod facts;
mod flat;
mod grid;
mod icons;
mod lessons;
mod map;
mod page;
mod palette;
pub mod probing;
mod questions;
mod raycast;
mod scene;
mod solids;
pub mod text;
mod truth;

pub use classes::class_names;
pub use corpus::{LessonCounts, ReadingQuestion, corpus, reading};
pub use document::Document;
pub use flat::Relation;
pub use grid::{CELLS, SIZE};
pub use questions::QaPair;
pub use scene::{Scene, SceneSplit};

/// Changes whenever any pixel or any text of the world changes; part of every cache key.
pub const VERSION: u32 = 4;
