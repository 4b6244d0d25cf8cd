//! Features to answers to scores: connectors, language models, recipes, training, generation, benchmarks.
//!
//! The tour, in the order a run goes through it:
//!
//! 1. [`data`] reads conversations about pictures; [`llm::chat`] and [`llm::tokenizer`] turn them into token ids with
//!    a mark on what is learned.
//! 2. [`mllm`] is the model: patch features → [`connector`] → embeddings in the place of the picture's token →
//!    [`llm::decoder`]. Its language model comes from a directory in Hugging Face's layout, or from
//!    [`llm::pretrain`].
//! 3. [`recipe`] says what is trained and how fast, [`train`] does it, [`optimiser`] moves the weights.
//! 4. [`released`] opens Cambrian-1's own models.
//! 5. [`generate`] answers questions, [`bench`] asks and scores them; [`text`] is a language model by itself.

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
