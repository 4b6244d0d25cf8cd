//! A blocking client of any server with OpenAI's `/chat/completions`: OpenAI itself, vLLM, llama.cpp, Ollama, or
//! Burgess's own server.
//!
//! - [`Endpoint`] is the configuration: address, model, limits. The key comes from an environment variable only; it is
//!   never part of the configuration, of an error or of a file.
//! - [`ChatClient`] sends a [`ChatRequest`] and returns a [`ChatReply`], with retries where a retry can help.
//! - [`ChatError`] says whether the same request may succeed later, whether this request is at fault, or whether every
//!   request would fail.
//!
//! ```no_run
//! use burgess_engine::llm::{ChatClient, ChatMessage, ChatRequest, Endpoint};
//! let endpoint = Endpoint { key_variable: Some("OPENAI_API_KEY".into()), ..Endpoint::new("http://127.0.0.1:8000/v1", "m") };
//! let client = ChatClient::new(&endpoint)?;
//! let reply = client.chat(&ChatRequest::new(vec![ChatMessage::user("What is a tardigrade?")]))?;
//! println!("{} ({} tokens)", reply.text, reply.usage.total());
//! # Ok::<(), burgess_base::Error>(())
//! ```

mod attempt;
mod backoff;
mod client;
mod endpoint;
mod error;
mod reply;
mod request;

pub use client::ChatClient;
pub use endpoint::{Endpoint, JsonMode};
pub use error::{ChatError, ChatErrorKind};
pub use reply::{ChatReply, FinishReason, Usage};
pub use request::{ChatMessage, ChatRequest, ChatRole, JsonShape};

#[cfg(test)]
mod tests;
