//! Requests in OpenAI's form, read into a [`ChatRequest`]. A field that would change the answer and is not supported is
//! an error; only fields without an influence on the answer are ignored.

mod messages;
#[cfg(test)]
mod tests;

use super::ApiError;
use super::fields::{Fields, wrong};
use crate::{ChatRequest, ImageBytes, Limits, Message, Role};
use messages::{long_text, messages};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Maximum number of stop texts; OpenAI allows 4.
const STOPS: usize = 16;
/// Maximum number of alternatives per token, as OpenAI's.
const TOP_LOGPROBS: f64 = 20.0;

/// Fields that do not change the answer.
const IGNORED: [&str; 9] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    // VLMEvalKit sends the name of the benchmark with each question.
    "dataset",
];

/// Names of the fields, for "did you mean".
const KNOWN: [&str; 13] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
];

/// A chat request whose images are not yet downloaded.
#[derive(Debug)]
pub(super) struct Asked {
    /// Name of the model, if one is given.
    pub model: Option<String>,
    /// The conversation in order.
    pub messages: Vec<AskedMessage>,
    /// How the answer is generated.
    pub sampling: Sampling,
    /// How the answer is sent.
    pub stream: Option<StreamOptions>,
}

/// How an answer is generated; the fields are those of [`ChatRequest`].
#[derive(Debug)]
pub(super) struct Sampling {
    pub max_tokens: Option<usize>,
    pub temperature: f64,
    pub top_p: f64,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub logprobs: Option<usize>,
}

/// How an answer is streamed.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOptions {
    /// Whether a chunk with the number of tokens follows the answer.
    pub include_usage: bool,
}

/// A message whose images are not yet downloaded.
#[derive(Debug)]
pub(super) struct AskedMessage {
    pub role: Role,
    pub parts: Vec<AskedPart>,
}

/// A part of a message.
#[derive(Debug)]
pub(super) enum AskedPart {
    Text(String),
    /// An image that was in the request.
    Image(Arc<ImageBytes>),
    /// The address of an image, and where it is in the request.
    Remote {
        url: String,
        at: String,
    },
}

impl Asked {
    /// Reads a request for a chat completion.
    pub fn completion(object: Map<String, Value>, limits: &Limits) -> Result<Self, ApiError> {
        let mut fields = Fields::new("", object);
        let model = fields.text("model")?;
        let messages = messages(fields.take("messages"), limits)?;
        let stream = stream(&mut fields)?;
        let sampling = sampling(&mut fields)?;
        unsupported(&mut fields)?;
        fields.ignore(&IGNORED);
        fields.finish(&KNOWN)?;
        Ok(Self { model, messages, sampling, stream })
    }

    /// Reads a request for the scores of given answers.
    pub fn score(object: Map<String, Value>, limits: &Limits) -> Result<(Self, Vec<String>), ApiError> {
        let mut fields = Fields::new("", object);
        let model = fields.text("model")?;
        let messages = messages(fields.take("messages"), limits)?;
        let options = options(fields.take("options"), limits)?;
        fields.ignore(&["user", "metadata"]);
        fields.finish(&["model", "messages", "options"])?;
        let (temperature, top_p) = (0.0, 1.0);
        let sampling =
            Sampling { max_tokens: None, temperature, top_p, seed: Some(0), stop: Vec::new(), logprobs: None };
        Ok((Self { model, messages, sampling, stream: None }, options))
    }
}

/// Reads how the answer is sent.
fn stream(fields: &mut Fields) -> Result<Option<StreamOptions>, ApiError> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let Some(value) = fields.take("stream_options") else {
        return Ok(streams.then_some(StreamOptions { include_usage: false }));
    };
    if !streams {
        return Err(ApiError::invalid("`stream_options` is given without `stream`")
            .with_hint("set `stream` to true, or leave it out")
            .at("stream_options"));
    }
    let mut options = Fields::of("stream_options", value)?;
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    // Random padding against eavesdroppers; there is none.
    options.ignore(&["include_obfuscation"]);
    options.finish(&["include_usage"])?;
    Ok(Some(StreamOptions { include_usage }))
}

/// Reads how the answer is generated.
fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let old = fields.integer("max_tokens", 1)?;
    let new = fields.integer("max_completion_tokens", 1)?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        return Err(ApiError::invalid(format!("`max_tokens` is {old} and `max_completion_tokens` is {new}"))
            .with_hint("give only one of them")
            .at("max_tokens"));
    }
    let mut temperature = fields.number("temperature", 0.0, 2.0)?.unwrap_or(1.0);
    let mut top_p = fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0);
    // Nothing but the most probable token remains.
    if top_p == 0.0 {
        (temperature, top_p) = (0.0, 1.0);
    }
    let seed = match fields.take("seed") {
        None => None,
        Some(value) => match value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)) {
            Some(seed) => Some(seed),
            None => return Err(wrong("seed", "an integer of 64 bits", &value)),
        },
    };
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.number("top_logprobs", 0.0, TOP_LOGPROBS)?;
    let logprobs = match top {
        Some(top) if top > 0.0 && !wanted => {
            return Err(ApiError::invalid("`top_logprobs` is given without `logprobs`")
                .with_hint("set `logprobs` to true")
                .at("top_logprobs"));
        }
        Some(top) if top.fract() != 0.0 => return Err(wrong("top_logprobs", "an integer from 0 to 20", &top.into())),
        top => wanted.then_some(top.unwrap_or(0.0) as usize),
    };
    // A number that is too large for this machine is no limit at all.
    let max_tokens = new.or(old).map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Sampling { max_tokens, temperature, top_p, seed, stop: stop(fields.take("stop"))?, logprobs })
}

/// Reads the texts that end an answer: one or several.
fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(text) => vec![text],
    };
    if items.len() > STOPS {
        return Err(ApiError::invalid(format!("`stop` has {} texts, the limit is {STOPS}", items.len())).at("stop"));
    }
    let text = |item| match item {
        Value::String(text) if !text.is_empty() && text.len() <= 256 => Ok(text),
        other => Err(wrong("stop", "one or several strings of 1 to 256 bytes", &other)),
    };
    items.into_iter().map(text).collect()
}

/// Accepts fields that are not supported only where they change nothing.
fn unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let is = |number: f64| move |value: &Value| value.as_f64() == Some(number);
    let is_empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    let is_one_of = |names: &'static [&'static str]| move |value: &Value| names.iter().any(|name| value == name);
    const DROP: &str = "leave it out";
    fields.neutral("n", is(1.0), "send the request several times with different seeds")?;
    fields.neutral("best_of", is(1.0), DROP)?;
    for name in ["frequency_penalty", "presence_penalty", "min_p"] {
        fields.neutral(name, is(0.0), "leave it out or set it to 0")?;
    }
    for name in ["repetition_penalty", "length_penalty"] {
        fields.neutral(name, is(1.0), "leave it out or set it to 1")?;
    }
    fields.neutral("top_k", |value| [-1.0, 0.0].map(Some).contains(&value.as_f64()), "use `top_p`")?;
    fields.neutral("tools", is_empty, "this model calls no tools")?;
    fields.neutral("functions", is_empty, "this model calls no functions")?;
    fields.neutral("tool_choice", is_one_of(&["none", "auto"]), DROP)?;
    fields.neutral("function_call", is_one_of(&["none", "auto"]), DROP)?;
    fields.neutral("logit_bias", is_empty, DROP)?;
    fields.neutral("response_format", |value| value.get("type") == Some(&"text".into()), "ask for it in the text")?;
    fields.neutral("modalities", |value| *value == serde_json::json!(["text"]), "the answer is text")?;
    fields.neutral("reasoning_effort", is_one_of(&["none"]), "this model does not reason")?;
    fields.neutral("verbosity", is_one_of(&["medium"]), "ask for it in the text")?;
    for name in ["audio", "prediction", "web_search_options"] {
        fields.neutral(name, |_| false, DROP)?;
    }
    Ok(())
}

/// Reads the answers to score.
fn options(value: Option<Value>, limits: &Limits) -> Result<Vec<String>, ApiError> {
    const EXPECTED: &str = "an array of strings: the answers to compare";
    let items = match value {
        Some(Value::Array(items)) if !items.is_empty() => items,
        other => return Err(wrong("options", EXPECTED, &other.unwrap_or(Value::Null))),
    };
    if items.len() > limits.options {
        let message = format!("there are {} options, the limit is {}", items.len(), limits.options);
        return Err(ApiError::invalid(message).at("options"));
    }
    let text = |(n, item)| match item {
        Value::String(text) if !text.is_empty() => Ok(text),
        other => Err(wrong(&format!("options[{n}]"), "a string that is not empty", &other)),
    };
    let options: Vec<String> = items.into_iter().enumerate().map(text).collect::<Result<_, _>>()?;
    let bytes: usize = options.iter().map(String::len).sum();
    match bytes > limits.text_bytes {
        true => Err(long_text(bytes, limits).at("options")),
        false => Ok(options),
    }
}

impl Asked {
    /// Builds the request for a model from messages whose images are all there.
    pub fn into_request(self, messages: Vec<Message>, limits: &Limits, random: impl Fn() -> u64) -> ChatRequest {
        let Sampling { max_tokens, temperature, top_p, seed, stop, logprobs } = self.sampling;
        ChatRequest {
            messages,
            max_tokens: Some(max_tokens.map_or(limits.answer_tokens, |most| most.min(limits.answer_tokens))),
            temperature,
            top_p,
            seed: seed.unwrap_or_else(random),
            stop,
            logprobs,
        }
    }
}
