//! Training data: conversations about images, and batches of them.

pub mod collate;
pub mod conversation;
pub mod example;
pub mod packed;

pub use collate::Order;
pub use conversation::{Conversation, LeftOut, Problems};
pub use example::{Example, Examples};
pub use packed::{Packed, Packing};
