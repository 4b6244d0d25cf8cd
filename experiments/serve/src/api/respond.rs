//! Answers in OpenAI's form: whole, or as server-sent events.

use super::chat::until;
use super::request::StreamOptions;
use super::{Api, ApiError, body, now};
use crate::{ChatEvent, ChatModel, Finish, Timings, TokenLogprob};
use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

/// The least log-probability that is written, as in OpenAI's API: JSON has no infinity.
const LEAST_LOGPROB: f64 = -9999.0;

/// A request that a model works on.
pub(super) struct Running {
    pub api: Arc<Api>,
    pub model: Arc<dyn ChatModel>,
    pub events: UnboundedReceiver<ChatEvent>,
    pub deadline: Instant,
    pub with_logprobs: bool,
    /// The part of the memory for bodies that is given back when the request ends.
    pub _held: body::Held,
}

/// What is the same in all parts of an answer.
struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn new(running: &Running) -> Self {
        let id = format!("chatcmpl-{:016x}", running.api.random());
        Self { id, created: now(), model: running.model.info().id.clone() }
    }

    fn wrap(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": null,
            "choices": choices,
        })
    }
}

/// Number of positions of the prompt, and how many of them were cached.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Prompt {
    pub tokens: usize,
    pub cached: usize,
}

/// The `usage` of an answer.
pub(super) fn usage(prompt: Prompt, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt.tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt.tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": prompt.cached},
    })
}

/// A log-probability as it is written.
pub(super) fn finite(logprob: f64) -> f64 {
    // The order of the arguments makes NaN the least value too.
    logprob.max(LEAST_LOGPROB)
}

fn token(token: &TokenLogprob) -> Value {
    json!({"token": token.token, "logprob": finite(token.logprob), "bytes": token.bytes})
}

/// The `logprobs` of a choice.
fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let content = tokens.iter().map(|one| {
        let mut entry = token(one);
        entry["top_logprobs"] = one.top_logprobs.iter().map(token).collect();
        entry
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

impl Running {
    /// Waits for the next event; a model that stops without a last event has failed.
    pub async fn next(&mut self) -> Result<ChatEvent, ApiError> {
        match until(self.deadline, &self.api, self.events.recv()).await? {
            Some(ChatEvent::Failed(error)) => Err(ApiError::from_model(&error)),
            Some(event) => Ok(event),
            None => Err(ApiError::internal("the model stopped before the answer was complete")),
        }
    }

    pub fn finished(&self, timings: &Timings) {
        self.api.metrics.answered(&self.model.info().id, timings);
    }
}

/// Waits for the whole answer.
pub(super) async fn whole(mut running: Running) -> Result<Response, ApiError> {
    let (mut answer, mut tokens, mut prompt) = (String::new(), Vec::new(), Prompt::default());
    let (finish, completion_tokens, timings) = loop {
        match running.next().await? {
            ChatEvent::Started { prompt_tokens, cached_tokens } => {
                prompt = Prompt { tokens: prompt_tokens, cached: cached_tokens };
            }
            ChatEvent::Text { text, tokens: new } => {
                answer.push_str(&text);
                tokens.extend(new);
            }
            ChatEvent::Done { finish, completion_tokens, timings } => break (finish, completion_tokens, timings),
            ChatEvent::Scored(_) | ChatEvent::Failed(_) => return Err(unexpected()),
        }
    };
    running.finished(&timings);
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": answer, "refusal": null},
        "logprobs": running.with_logprobs.then(|| logprobs(&tokens)),
        "finish_reason": finish,
    });
    let mut body = Frame::new(&running).wrap("chat.completion", json!([choice]));
    body["usage"] = usage(prompt, completion_tokens);
    body["timings"] = json!(timings);
    Ok(Json(body).into_response())
}

/// The error of a model that sends an event of the wrong kind.
pub(super) fn unexpected() -> ApiError {
    ApiError::internal("the model sent an event that does not belong to the request")
}

/// Sends the answer as it comes. The response begins with the first event, so that a request that fails at once has the
/// status of its error; one that waits long in the queue begins earlier, so that the connection stays alive.
pub(super) async fn stream(mut running: Running, options: StreamOptions) -> Result<Response, ApiError> {
    let comment_time = running.api.limits.comment_time;
    let first = match timeout(comment_time, running.next()).await {
        Ok(event) => Some(event?),
        Err(_) => None,
    };
    let mut writer = Writer {
        frame: Frame::new(&running),
        running,
        options,
        prompt: Prompt::default(),
        ready: VecDeque::new(),
        ended: false,
    };
    writer.begin();
    if let Some(event) = first {
        writer.write(event);
    }
    let events = unfold(writer, |mut writer| async move {
        let event = writer.next().await?;
        Some((Ok::<_, Infallible>(event), writer))
    });
    let comments = KeepAlive::new().interval(comment_time).text("keep-alive");
    let mut response = Sse::new(events).keep_alive(comments).into_response();
    // Proxies must not collect the events.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// Writes the events of a model as server-sent events.
struct Writer {
    frame: Frame,
    running: Running,
    options: StreamOptions,
    prompt: Prompt,
    /// Events that were not yet sent.
    ready: VecDeque<Event>,
    ended: bool,
}

impl Writer {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.running.next().await {
                Ok(event) => self.write(event),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Queues a chunk.
    fn chunk(&mut self, choices: Value, timings: Option<&Timings>, usage: Option<Value>) {
        let mut body = self.frame.wrap("chat.completion.chunk", choices);
        if self.options.include_usage {
            body["usage"] = usage.unwrap_or(Value::Null);
        }
        if let Some(timings) = timings {
            body["timings"] = json!(timings);
        }
        self.ready.push_back(Event::default().data(body.to_string()));
    }

    fn choice(&mut self, delta: Value, tokens: &[TokenLogprob], finish: Option<Finish>, timings: Option<&Timings>) {
        let logprobs = (!tokens.is_empty()).then(|| logprobs(tokens));
        let choice = json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        self.chunk(json!([choice]), timings, None);
    }

    fn begin(&mut self) {
        self.choice(json!({"role": "assistant", "content": "", "refusal": null}), &[], None, None);
    }

    fn write(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Started { prompt_tokens, cached_tokens } => {
                self.prompt = Prompt { tokens: prompt_tokens, cached: cached_tokens };
            }
            ChatEvent::Text { text, tokens } => self.choice(json!({"content": text}), &tokens, None, None),
            ChatEvent::Done { finish, completion_tokens, timings } => {
                self.running.finished(&timings);
                self.choice(json!({}), &[], Some(finish), Some(&timings));
                if self.options.include_usage {
                    self.chunk(json!([]), Some(&timings), Some(usage(self.prompt, completion_tokens)));
                }
                self.ready.push_back(Event::default().data("[DONE]"));
                self.ended = true;
            }
            ChatEvent::Scored(_) | ChatEvent::Failed(_) => self.fail(&unexpected()),
        }
    }

    /// Ends the stream with an error, as OpenAI's clients raise it.
    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(Event::default().event("error").data(error.body().to_string()));
        self.ended = true;
    }
}
