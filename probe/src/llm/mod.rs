//! Language models: the decoder, its weights, tokenizer and chat template, and pretraining on text.

mod activation;
pub mod card;
pub mod chat;
pub mod config;
pub mod decoder;
pub mod experts;
pub mod family;
pub mod kernel;
pub mod kv_cache;
pub mod linear;
pub mod lora;
pub mod mlp;
pub mod parts;
mod precision;
pub mod pretrain;
pub mod rope;
pub mod stored;
pub mod tokenizer;
pub mod weights;

pub use chat::ChatTemplate;
pub use config::LlmConfig;
pub use decoder::{BlockHook, Llm, SequenceLayout};
pub use kv_cache::KvCache;
pub use lora::PROJECTIONS;
pub use precision::Compute;
pub use stored::{Activations, WeightStorage};
pub use tokenizer::Tokenizer;
pub use weights::{TokenizerSource, Weights};
