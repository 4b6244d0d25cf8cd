//! Training data: conversations about pictures, and batches of them.

pub mod collate;
pub mod conversation;

pub use collate::{Example, Order};
pub use conversation::{Conversation, Problems};
