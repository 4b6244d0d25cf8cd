//! Training data: conversations about images, training examples made from them, and their order in batches.

pub mod collate;
pub mod conversation;
pub mod example;
pub mod packed;

pub use collate::ExampleOrder;
pub use conversation::{Conversation, SkippedEntries, SkippedReport};
pub use example::{Example, Examples};
pub use packed::{ExamplePacker, PackedExamples};
