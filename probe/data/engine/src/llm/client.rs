//! The client: attempts, waits, and what is remembered about the server.

use super::attempt::{host_of, post};
use super::backoff::{Pacing, wait_until};
use super::endpoint::{Endpoint, JsonMode};
use super::error::{ChatError, ChatErrorKind};
use super::reply::{self, ChatReply, Usage};
use super::request::{ChatRequest, ChatRole, Dialect};
use burgess_base::{Error, Result};
use burgess_hub::download::root_certificates;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{HeaderName, HeaderValue};
use ureq::tls::TlsConfig;

/// Says whether a signal asked to stop.
pub type StopCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// A client of one endpoint, which many threads may use at the same time.
#[derive(Clone)]
pub struct ChatClient(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    address: String,
    agent: Agent,
    /// Header with the key.
    key: Option<(HeaderName, HeaderValue)>,
    /// The key itself, to remove it from what servers repeat.
    secret: Option<String>,
    pacing: Pacing,
    stopped: StopCheck,
    learned: Mutex<Learned>,
}

/// What the server's answers have shown.
struct Learned {
    /// How requests are made now.
    dialect: Dialect,
    /// What was changed, for the user.
    notes: Vec<String>,
}

impl fmt::Debug for ChatClient {
    /// Formats the endpoint; the key is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatClient").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl ChatClient {
    /// Makes a client without connecting; reads the key from the environment.
    ///
    /// # Errors
    /// The configuration is wrong, or the key is not there.
    pub fn new(endpoint: &Endpoint) -> Result<Self> {
        Self::stoppable(endpoint, Arc::new(|| false))
    }

    /// Makes a client whose waits end when `stopped` returns true. A request that is in flight is not cut off, because
    /// its reply would be lost.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stoppable(endpoint: &Endpoint, stopped: StopCheck) -> Result<Self> {
        let step = |e: Error| e.context("setting up the endpoint");
        endpoint.check().map_err(step)?;
        let address = endpoint.address().map_err(step)?;
        let secret = endpoint.key().map_err(step)?;
        let key = secret.as_deref().map(|secret| header_of(endpoint, secret)).transpose().map_err(step)?;
        let limit = Some(Duration::from_secs_f64(endpoint.timeout_seconds));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("burgess/", env!("CARGO_PKG_VERSION")))
            .timeout_global(limit)
            .max_idle_connections_per_host(64)
            .tls_config(TlsConfig::builder().root_certs(root_certificates()?).build())
            .build();
        let learned = Learned { dialect: Dialect { json: endpoint.json, ..Dialect::default() }, notes: Vec::new() };
        Ok(Self(Arc::new(Shared {
            pacing: Pacing::new(endpoint),
            endpoint: endpoint.clone(),
            address,
            agent: config.into(),
            key,
            secret,
            stopped,
            learned: Mutex::new(learned),
        })))
    }

    /// Returns the configuration.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Returns how the endpoint is asked for JSON, as far as its answers have shown what it takes.
    pub fn json_mode(&self) -> JsonMode {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner).dialect.json
    }

    /// Takes what the user should know since the last call: requests that were changed because the server does not know
    /// a field.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.learned.lock().unwrap_or_else(PoisonError::into_inner).notes)
    }

    /// Sends a request and returns the reply, with further attempts after failures that may pass.
    ///
    /// # Errors
    /// The server refuses the request, or all attempts failed; see [`ChatError::kind`].
    pub fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let shared = &*self.0;
        let (mut attempts, mut lost) = (0u32, Usage::default());
        loop {
            shared.pacing.turn(&*shared.stopped)?;
            let dialect = shared.learned.lock().unwrap_or_else(PoisonError::into_inner).dialect;
            attempts += 1;
            let mut failure = match self.attempt(request, dialect) {
                Ok(reply) => return Ok(ChatReply { attempts, lost, ..reply }),
                Err(failure) => failure,
            };
            if self.adapt(&failure, request, dialect) {
                // Each adaptation happens once, so they do not count as attempts.
                attempts -= 1;
                continue;
            }
            if failure.kind.may_be_charged() {
                let completion_tokens = u64::from(request.reply_limit(&shared.endpoint).unwrap_or_default());
                let prompt_tokens = request.estimated_prompt_tokens();
                lost.add(Usage { prompt_tokens, completion_tokens, estimated: true });
            }
            (failure.attempts, failure.lost) = (attempts, lost);
            if !failure.may_retry() || attempts >= shared.endpoint.attempts {
                return Err(failure);
            }
            let wait = self.wait(&failure, attempts)?;
            wait_until(Instant::now() + wait, &*shared.stopped).map_err(|e| ChatError { attempts, lost, ..e })?;
        }
    }

    /// Returns the wait before the next attempt.
    fn wait(&self, failure: &ChatError, attempts: u32) -> Result<Duration, ChatError> {
        let shared = &*self.0;
        let own = shared.pacing.wait(&shared.endpoint, attempts);
        let Some(asked) = failure.retry_after else { return Ok(own) };
        if asked.as_secs_f64() > shared.endpoint.longest_wait_seconds {
            let message = format!("{}; it asks to wait for {} s", failure.message, asked.as_secs());
            return Err(ChatError { message, ..failure.clone() }
                .with_hint("start again after that time, or raise `longest_wait_seconds`"));
        }
        // All threads share the server, so all of them wait.
        shared.pacing.silence(asked);
        Ok(asked.max(own.min(asked + Duration::from_secs(1))))
    }

    fn attempt(&self, request: &ChatRequest, dialect: Dialect) -> Result<ChatReply, ChatError> {
        let shared = &*self.0;
        let body = request.body(&shared.endpoint, dialect);
        let begin = Instant::now();
        let limit = shared.endpoint.max_reply_bytes;
        let bytes = post(&shared.agent, &shared.address, shared.key.as_ref(), &body, limit);
        let reply = bytes.and_then(|bytes| reply::parse(&bytes, request, &shared.endpoint.model));
        match reply {
            Ok(mut reply) => {
                reply.seconds = begin.elapsed().as_secs_f64();
                reply.text = self.without_key(reply.text);
                Ok(reply)
            }
            Err(e) => Err(ChatError { message: self.without_key(e.message), ..e }),
        }
    }

    /// Changes how requests are made if the server does not know an optional field; returns whether to ask again.
    fn adapt(&self, failure: &ChatError, request: &ChatRequest, asked: Dialect) -> bool {
        let shared = &*self.0;
        let field = failure.field.as_deref().unwrap_or_default();
        if failure.kind != ChatErrorKind::Refused {
            return false;
        }
        let format = field.starts_with("response_format") || field.starts_with("text.format");
        let lower = failure.message.to_lowercase();
        let refuses_system =
            lower.contains("system") && ["support", "role", "allowed"].iter().any(|w| lower.contains(w));
        let has_system = request.messages.iter().any(|message| message.role == ChatRole::System);
        let mut next = asked;
        let told = if format && request.shape.is_some() && shared.endpoint.json == JsonMode::Auto {
            match asked.json {
                JsonMode::Auto | JsonMode::Schema => {
                    next.json = JsonMode::Object;
                    "does not take JSON schemas, so JSON without a schema is asked for"
                }
                JsonMode::Object => {
                    next.json = JsonMode::None;
                    "does not take `json_object`, so JSON is asked for in the text only"
                }
                JsonMode::None => return false,
            }
        } else if field == "max_tokens" && !asked.new_limit && failure.message.contains("max_completion_tokens") {
            next.new_limit = true;
            "calls the limit of tokens `max_completion_tokens`"
        } else if refuses_system && has_system && !asked.without_system {
            next.without_system = true;
            "takes no system messages, so the instruction stands in the message of the user"
        } else {
            return false;
        };
        let mut learned = shared.learned.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have found it out in the meantime.
        if learned.dialect == asked {
            learned.dialect = next;
            let said = self.without_key(failure.message.clone());
            learned.notes.push(format!("{} {told} ({said})", host_of(&shared.address)));
        }
        true
    }

    fn without_key(&self, text: String) -> String {
        match &self.0.secret {
            Some(secret) if text.contains(secret.as_str()) => text.replace(secret.as_str(), "[key]"),
            _ => text,
        }
    }
}

/// Makes the header with the key, which is marked as a secret.
fn header_of(endpoint: &Endpoint, secret: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong =
        || Error::usage("the key cannot be sent in an HTTP header").hint("check `key_header`, copy the key again");
    let name = HeaderName::from_bytes(endpoint.key_header.to_lowercase().as_bytes()).map_err(|_| wrong())?;
    let text = match name == ureq::http::header::AUTHORIZATION {
        true => format!("Bearer {secret}"),
        false => secret.to_string(),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}
