//! The multimodal model and its evaluation: connectors, language models, recipes, training, generation, benchmarks.
//!
//! The modules in the order in which a run uses them:
//!
//! 1. [`data`] reads conversations about images; [`llm::chat`] and [`llm::tokenizer`] turn them into token ids with a
//!    loss mask.
//! 2. [`mllm`] is the model: patch features → [`connector`] → image tokens, which replace the image placeholder →
//!    [`llm::decoder`]. Its language model comes from a directory in Hugging Face's layout, or from
//!    [`llm::pretrain`].
//! 3. [`recipe`] defines which parameter groups are trained at which learning rates (and which [`response_prompts`] are
//!    appended to questions), [`train`] runs the training, and [`optimiser`] updates the parameters.
//! 4. [`released`] opens the released Cambrian-1 models, [`exported`] the models that Burgess exports in LLaVA's layout.
//! 5. [`generate`] answers prompts, [`mod@bench`] asks the questions of benchmarks and scores the answers; [`text`]
//!    runs a language model without images.
//!
//! This example maps the features of one image, a grid of 4×4 tokens of width 64, to image tokens for a language model
//! of width 32:
//!
//! ```
//! use burgess_encoders::features::FeatureMap;
//! use burgess_probe::{ConnectorConfig, ConnectorKind};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! // One encoder: feature width and grid, [rows, columns].
//! let config = ConnectorConfig::new(ConnectorKind::default(), &[(64, [4, 4])], 32)?;
//! // Random weights from the seed 0.
//! let connector = config.draw(0, &device)?;
//! let features = FeatureMap { tokens: Tensor::ones([1, 16, 64], &device), grid: [4, 4] };
//! let image_tokens = connector.forward(&[features], None)?;
//! assert_eq!(image_tokens.tokens.dims(), [1, 16, 32]);
//! # Ok::<(), burgess_base::Error>(())
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub use burgess_bench as bench;

pub mod connector;
pub mod data;
pub mod exported;
pub mod generate;
pub mod llm;
pub mod mllm;
pub mod optimiser;
pub mod recipe;
pub mod released;
pub mod response_prompts;
pub mod text;
pub mod train;

pub use connector::{Connector, ConnectorConfig, ConnectorKind, ImageTokens};
pub use generate::{Decoding, Prompt, Sampling, answer, score_options};
pub use mllm::{ImageBatch, Mllm, MllmConfig};
pub use recipe::{ParameterGroup, Recipe, Stage};
pub use train::{FeatureSource, StageOutcome, StageRun, train_stage};
