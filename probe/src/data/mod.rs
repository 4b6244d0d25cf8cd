//! Training data: conversations about images, and batches of them.

pub mod collate;
pub mod conversation;
pub mod example;
pub mod packed;

pub use collate::ExampleOrder;
pub use conversation::{Conversation, SkippedEntries, SkippedReport};
pub use example::{Example, Examples};
pub use packed::{ExamplePacker, PackedExamples};
