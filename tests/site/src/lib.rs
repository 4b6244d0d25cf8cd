//! Servers for tests: a wiki with its pages and images, and a language model behind the OpenAI API.
//!
//! [`WikiSite`] answers like a small MediaWiki: pages that were written for these tests, images that are drawn in code,
//! `api.php`, `robots.txt`. [`ChatSite`] answers `/v1/chat/completions`, and derives its answers from the request.
//! Both listen on the loopback interface alone, write a log of what they were asked, and fail on demand: for a path a
//! number of times, or by a seeded plan.
//!
//! ```
//! use burgess_site::{Fault, WikiOptions, WikiSite};
//!
//! let wiki = WikiSite::start(WikiOptions::default());
//! wiki.fail("/wiki/Lighthouse", 1, Fault::status(503));
//! assert!(wiki.url("/w/api.php").starts_with("http://127.0.0.1:"));
//! assert!(wiki.requests().is_empty());
//! ```
//!
//! To use them by hand: `cargo run -p burgess-site --example wiki`, and `--example chat`.
//!
//! These servers belong to tests: what goes wrong inside them ends the test with a panic.

mod chat;
mod fault;
mod http;
mod random;
mod wiki;

pub use chat::{ChatFault, ChatOptions, ChatRequest, ChatSite};
pub use fault::{Fault, FaultPlan};
pub use http::RequestRecord;
pub use wiki::{Hostile, Robots, WikiOptions, WikiSection, WikiSite};
