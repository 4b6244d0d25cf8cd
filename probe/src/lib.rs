//! The multimodal model and its evaluation: connectors, language models, recipes, training, generation, benchmarks.
//!
//! The modules in the order in which a run uses them:
//!
//! 1. [`data`] reads conversations about images; [`llm::chat`] and [`llm::tokenizer`] turn them into token ids with a
//!    loss mask.
//! 2. [`mllm`] is the model: patch features → [`connector`] → image tokens, which replace the image placeholder →
//!    [`llm::decoder`]. Its language model comes from a directory in Hugging Face's layout, or from
//!    [`llm::pretrain`].
//! 3. [`recipe`] defines which parameter groups are trained at which learning rates, [`train`] runs the training, and
//!    [`optimiser`] updates the parameters.
//! 4. [`released`] opens the released Cambrian-1 models.
//! 5. [`generate`] answers prompts, [`bench`] asks the questions of benchmarks and scores the answers; [`text`] runs a
//!    language model without images.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub use burgess_bench as bench;

pub mod connector;
pub mod data;
pub mod generate;
pub mod llm;
pub mod mllm;
pub mod optimiser;
pub mod recipe;
pub mod released;
pub mod text;
pub mod train;
