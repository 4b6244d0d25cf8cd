//! HTTP server of Burgess: an OpenAI-compatible chat API, the chat page and the answer browser.
//!
//! This crate knows no tensor: models come behind [`ChatModel`], which the `burgess` binary implements.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod model;
#[allow(dead_code, reason = "the server merges its routes")]
mod page;

pub use model::{
    ChatEvent, ChatModel, ChatRequest, Finish, ImageBytes, Message, ModelInfo, ModelStats, OptionScore, Part, Role,
    SubmitError, Timings, TokenLogprob,
};
