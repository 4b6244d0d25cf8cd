//! The configuration of studies and runs, read from TOML, with its checks.

pub mod arm;
pub mod config;
pub mod names;
pub mod paths;

pub use config::*;
