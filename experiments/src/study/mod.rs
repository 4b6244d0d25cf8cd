//! The configuration of studies and of single runs, read from TOML, and its checks.

mod arm;
pub mod benchmark_files;
mod claims;
mod config;
mod data;
mod encoder;
mod evaluator;
mod input;
mod mix;
pub mod names;
pub mod paths;
mod run_config;
mod tap;
mod toml_file;
mod world;

pub use arm::{Arm, Freeze, PublishedScore};
pub use config::{BUILT_IN, StudyConfig};
pub use data::{ConversationFiles, DataSource, PublishedCorpus, PublishedData};
pub use encoder::{ArmEncoder, EncoderWeights, ORACLE};
pub use evaluator::{
    BlindInput, EvalOptions, EvaluatorConfig, FeatureSourceKind, ResponsePromptUse, SeveralImagesInput,
    check_benchmarks, check_until_ci,
};
pub use input::{InputOverrides, Resolution, parse_tiling};
pub use mix::ArmMix;
pub use run_config::RunConfig;
pub use tap::TapOverrides;
