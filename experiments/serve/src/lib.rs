//! HTTP server of Burgess: an OpenAI-compatible chat API, the chat page and the answer browser.
//!
//! This crate knows no tensor: models come behind [`ChatModel`], which the `burgess` binary implements. [`Server`]
//! checks every request (its size, its time, where it comes from), reads it into a [`ChatRequest`], and writes the
//! [`ChatEvent`]s of the model as OpenAI's clients expect them. A request is cancelled by dropping the receiver of its
//! events, which happens when its client goes away or its time is over.
//!
//! `cargo run -p burgess-serve --example fake` starts a server of models without weights.
//!
//! ```no_run
//! use burgess_serve::{FakeModel, Server, ServerConfig};
//! use std::sync::Arc;
//!
//! # fn main() -> burgess_base::Result<()> {
//! let server = Server::bind(ServerConfig::default(), vec![Arc::new(FakeModel::new("echo"))])?;
//! println!("http://{}", server.address());
//! server.run_blocking(std::future::pending())
//! # }
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
mod config;
mod fake;
mod metrics;
mod model;
mod page;
mod server;
pub mod view;

pub use config::{Example, Limits, ServerConfig};
pub use fake::FakeModel;
pub use model::{
    ChatEvent, ChatModel, ChatRequest, Finish, ImageBytes, Message, ModelInfo, ModelStats, OptionScore, Part, Role,
    SubmitError, Timings, TokenLogprob,
};
pub use server::Server;
