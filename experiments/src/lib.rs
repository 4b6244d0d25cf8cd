//! The library behind the `burgess` command: which visual representation is best for a multimodal language model, at
//! what, and how sure are we?
//!
//! The modules form layers; each uses only those below it in this list, and [`machine`] uses none.
//!
//! - [`cli`]: the command line, one file per verb, which parses the arguments, calls the library and prints.
//! - [`keys`]: the reference of all keys in TOML files, and their JSON schemas, generated from the types.
//! - [`export`]: trained models as directories for a hub, with their model cards.
//! - [`view`]: studies and their answers in a browser (`burgess view`).
//! - [`launch`]: a study as tasks of a scheduler: the list, job arrays of Slurm, a HyperQueue job file; where it
//!   stands.
//! - [`serve`]: models behind the HTTP server (`burgess serve`).
//! - [`run`]: runs of a study: the evaluator with its data, training, evaluation, the store of results and the ranking;
//!   also single trainings and evaluations, pretraining, direct probes, plans and cost estimates.
//! - [`throughput`]: speed and memory of encoders and evaluators (`burgess bench`).
//! - [`features`]: features of encoders for the images of a study: cached on disk, computed on demand, or the ground
//!   truth of the oracle baseline.
//! - [`data`]: the data of a study on this machine: images, training conversations and questions of benchmarks.
//! - [`study`]: the configuration of studies and single runs, read from TOML, and its checks.
//! - [`machine`]: devices, memory, worker threads, directories, progress, signals and terminal output.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod data;
pub mod export;
pub mod features;
pub mod keys;
pub mod launch;
pub mod machine;
pub mod run;
pub mod serve;
pub mod study;
pub mod throughput;
pub mod view;
