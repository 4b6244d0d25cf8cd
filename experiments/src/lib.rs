//! The `burgess` command: which visual representation is best for a multimodal language model, at what,
//! and how sure are we?
//!
//! The tour, in the order in which `burgess rank` walks it:
//!
//! - [`cli`]: one file per verb; parses, calls, prints.
//! - [`study`]: arms × seeds × benchmarks under one evaluator, read from TOML.
//! - [`arm`]: what is compared: encoders with their taps and weights; [`arm_card`]: what is known of one without its weights.
//! - [`oracle`]: the baseline that emits the ground truth of the data.
//! - [`data`]: the pictures and questions of a study; a world is rendered when first needed, those of the [`field`] study are
//!   prepared from packages.
//! - [`cache`]: features of frozen encoders, computed once per picture and encoder.
//! - [`frozen`]: the same from the cache or computed each time.
//! - [`features`]: picture files to features to a file, for the cache and `burgess encode`.
//! - [`store`]: `OUT/<study>/<arm>/seed-<n>/`, where finished work is kept and found again.
//! - [`examples`]: the training conversations as tokens, and the pictures they name.
//! - [`run`]: one arm × one seed: align, tune, answer, score.
//! - [`training`]: the first half of that, and where it goes on after an interruption.
//! - [`rank`]: all runs of a study, then the ranking and its report; [`evidence`]: what is known of its parts beside.
//! - [`train`]: one model outside of a study.
//! - [`pretrain`]: how the nano encoders and the nano language model were made.
//! - [`probes`]: what classifiers read directly from an encoder's features.
//! - [`fetch`]: published weights onto this machine.
//! - [`bench`]: throughput and memory of encoders on this machine.
//! - [`checks`]: what can be known before any of this starts; [`names`], [`beside`]: names and paths of studies.
//! - [`inputs`]: what of the data is used, by content; [`notes`]: what had to be assumed; [`results`]: `results.json`.
//! - [`device`], [`paths`], [`progress`], [`stop`], [`terminal`], [`workers`], [`columns`]: this machine.

pub mod arm;
pub mod arm_card;
pub mod ask;
pub mod asking;
pub mod bench;
pub mod benchmarks;
pub mod beside;
pub mod cache;
pub mod cards;
pub mod checks;
pub mod cli;
pub mod columns;
pub mod data;
pub mod device;
pub mod estimate;
pub mod eval;
pub mod evidence;
pub mod examples;
pub mod features;
pub mod fetch;
pub mod field;
pub mod frozen;
pub mod inputs;
pub mod made;
pub mod memory;
pub mod names;
pub mod notes;
pub mod oracle;
pub mod paths;
pub mod pictures;
pub mod plan;
pub mod pretrain;
pub mod probes;
pub mod progress;
pub mod published;
pub mod rank;
pub mod results;
pub mod run;
pub mod source;
pub mod stop;
pub mod store;
pub mod study;
pub mod terminal;
pub mod train;
pub mod training;
pub mod workers;
