//! Training sets of conversations: pools, mixes, filters, balance, and what is in them.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod pool;
