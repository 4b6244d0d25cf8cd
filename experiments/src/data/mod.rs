//! The data of a study on this machine: images, training conversations and questions of benchmarks.

pub mod benchmarks;
pub mod digests;
mod directory;
pub mod engine;
pub mod examples;
pub mod field;
pub mod image_files;
mod image_index;
pub mod mix_page;
pub mod mix_reference;
pub mod mixes;
mod open;
pub mod published;
mod response_prompts;
pub mod show;
mod subset;
mod table_cells;

pub use directory::{DataDirectory, check_checksums};
pub use image_index::ImageIndex;
pub use open::{image_directory, is_rendered, open, world_digest};
pub use table_cells::TableCells;
