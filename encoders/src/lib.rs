//! Vision encoders: cards, preprocessing, checkpoints, architectures, pretraining, and probes of their features.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arch;
pub mod attention;
pub mod card;
pub mod checkpoint;
pub mod directory;
pub mod encoder;
pub mod features;
pub mod hub;
pub mod init;
pub mod kernel;
pub mod objective;
pub mod operands;
pub mod preprocess;
pub mod pretrain;
pub mod probe;
pub mod resolve;
pub mod shipped;
