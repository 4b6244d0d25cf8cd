//! The `burgess` command: which visual representation is best for a multimodal language model, at what,
//! and how sure are we?
//!
//! The modules, in the order in which `burgess rank` uses them:
//!
//! - [`cli`]: one file per subcommand, which parses the arguments, calls the library and prints.
//! - [`study`]: a study (arms × seeds × benchmarks under one evaluator), read from TOML.
//! - [`arm`]: what a study compares: encoders with their taps and weights; [`arm_card`]: what is known of an encoder
//!   without its weights.
//! - [`oracle`]: the oracle baseline, whose features are the ground truth of the data.
//! - [`data`]: the images and questions of a study. A nano world is rendered when it is first needed; the data of the
//!   [`field`] study are prepared from packages.
//! - [`cache`]: the feature cache, which encodes each image once per frozen encoder.
//! - [`frozen`]: features of a frozen encoder, read from the cache or computed on demand.
//! - [`features`]: encoding of image files into a safetensors file, for the cache and `burgess encode`.
//! - [`store`]: the run store `OUT/<study>/<arm>/seed-<n>/`, which holds all finished work.
//! - [`examples`]: the tokenised training conversations, and the images they name.
//! - [`run`]: one run (one arm × one seed): align, tune, answer, score.
//! - [`training`]: the align and tune stages of a run, and how they resume after an interruption.
//! - [`rank`]: all runs of a study, then the ranking and its report; [`evidence`]: records of the encoders and the
//!   language model that the report shows beside the runs.
//! - [`learning`]: the learning curve: a study trained on fractions of its training data.
//! - [`train`]: the training of a single model outside a study.
//! - [`pretrain`]: the pretraining of the nano encoders and the nano language model.
//! - [`probes`]: direct probes: classifiers on an encoder's frozen features.
//! - [`fetch`]: the download of published weights.
//! - [`bench`]: throughput and memory of encoders on this machine.
//! - [`checks`]: checks before any training starts; [`names`], [`beside`]: names and paths in study files.
//! - [`inputs`]: digests of the data that a run uses; [`notes`]: assumptions that are reported; [`results`]:
//!   `results.json`.
//! - [`device`], [`paths`], [`progress`], [`stop`], [`terminal`], [`workers`], [`columns`]: devices, directories,
//!   progress, signals, terminal output, thread pools and text tables.

#![warn(missing_docs)]

pub mod cli;
pub mod data;
pub mod features;
pub mod fetch;
pub mod machine;
pub mod run;
pub mod study;
pub mod throughput;

// The crate's fetching of weights still names it so.
use machine::progress;
