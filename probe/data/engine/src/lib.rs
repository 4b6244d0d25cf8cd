//! From topics to visual instruction data: pages, images, questions and answers.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod certificates;
pub mod llm;
