//! Requests: messages, images, sampling, and the shape of a JSON reply.

use super::endpoint::{Endpoint, JsonMode};
use super::reply::Usage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatRole {
    /// The instruction that precedes the conversation.
    System,
    /// The side that asks.
    User,
    /// The model.
    Assistant,
}

impl ChatRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message of a conversation: a text, and images before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: ChatRole,
    /// The text.
    pub text: String,
    /// Images as data URLs, in the order in which the model sees them.
    pub images: Vec<String>,
}

impl ChatMessage {
    fn new(role: ChatRole, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), images: Vec::new() }
    }

    /// Makes an instruction.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(ChatRole::System, text)
    }

    /// Makes a message of the side that asks.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(ChatRole::User, text)
    }

    /// Makes a message of the model, for examples and longer conversations.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(ChatRole::Assistant, text)
    }

    /// Adds an encoded image, such as a PNG file's bytes with the media type `image/png`.
    #[must_use]
    pub fn with_image(mut self, media_type: &str, bytes: &[u8]) -> Self {
        self.images.push(format!("data:{media_type};base64,{}", STANDARD.encode(bytes)));
        self
    }

    fn body(&self) -> Value {
        let content = match self.images.is_empty() {
            true => json!(self.text),
            false => {
                let images = self.images.iter().map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
                images.chain([json!({"type": "text", "text": self.text})]).collect()
            }
        };
        json!({"role": self.role.as_str(), "content": content})
    }
}

/// The shape of a reply in JSON. Endpoints that do not know it get the text of the request only, so that the text must
/// describe it too.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonShape {
    /// Name of the shape: letters, digits, `_` and `-`.
    pub name: String,
    /// JSON schema of the reply.
    pub schema: Value,
}

/// A request for one reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// Shape of the reply, if it is JSON.
    pub shape: Option<JsonShape>,
    /// Sampling temperature, 0 to 2; `None` for the endpoint's.
    pub temperature: Option<f64>,
    /// Seed of the sampling; `None` for the endpoint's.
    pub seed: Option<u64>,
    /// Largest number of generated tokens; `None` for the endpoint's.
    pub max_tokens: Option<u32>,
}

/// Characters of a token in estimates, in bytes of UTF-8.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a message costs besides its text, in estimates.
const TOKENS_PER_MESSAGE: u64 = 4;
/// Tokens of an image in estimates: a little more than most models use for a million pixels.
const TOKENS_PER_IMAGE: u64 = 1000;

impl ChatRequest {
    /// Makes a request with the endpoint's sampling, for a reply of any form.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Asks for a reply in JSON of this shape.
    #[must_use]
    pub fn with_shape(mut self, name: &str, schema: Value) -> Self {
        self.shape = Some(JsonShape { name: name.into(), schema });
        self
    }

    /// Estimates the number of tokens of the request: a token per four bytes, four per message, 1000 per image.
    pub fn estimated_prompt_tokens(&self) -> u64 {
        let message = |m: &ChatMessage| {
            Usage::estimated_tokens(&m.text) + TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE * m.images.len() as u64
        };
        self.messages.iter().map(message).sum()
    }

    /// Returns the largest number of tokens that the reply may have, if there is a limit.
    pub fn reply_limit(&self, endpoint: &Endpoint) -> Option<u32> {
        self.max_tokens.or(endpoint.max_tokens)
    }

    /// Returns the form of the request by which equal requests are told: the body as it is sent to a server that knows
    /// all fields.
    pub fn canonical(&self, endpoint: &Endpoint) -> Value {
        self.body(endpoint, Dialect { json: JsonMode::Schema, ..Dialect::default() })
    }

    /// Builds the body of the request.
    pub(super) fn body(&self, endpoint: &Endpoint, dialect: Dialect) -> Value {
        let mut body = Map::new();
        body.insert("model".into(), json!(endpoint.model));
        let messages = match dialect.without_system {
            true => self.without_system(),
            false => self.messages.iter().map(ChatMessage::body).collect(),
        };
        body.insert("messages".into(), messages);
        if let Some(temperature) = self.temperature.or(endpoint.temperature) {
            body.insert("temperature".into(), json!(temperature));
        }
        if let Some(seed) = self.seed.or(endpoint.seed) {
            body.insert("seed".into(), json!(seed));
        }
        if let Some(most) = self.reply_limit(endpoint) {
            let field = if dialect.new_limit { "max_completion_tokens" } else { "max_tokens" };
            body.insert(field.into(), json!(most));
        }
        if let Some(shape) = &self.shape {
            let format = match dialect.json {
                JsonMode::Auto | JsonMode::Schema => Some(json!({
                    "type": "json_schema",
                    "json_schema": {"name": shape.name, "strict": true, "schema": shape.schema},
                })),
                JsonMode::Object => Some(json!({"type": "json_object"})),
                JsonMode::None => None,
            };
            body.extend(format.map(|format| ("response_format".to_string(), format)));
        }
        body.extend(endpoint.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(body)
    }
}

impl ChatRequest {
    /// The messages with each instruction at the beginning of the message after it.
    fn without_system(&self) -> Value {
        let mut before = String::new();
        let mut messages = Vec::new();
        for message in &self.messages {
            if message.role == ChatRole::System {
                before = before + &message.text + "\n\n";
                continue;
            }
            let text = std::mem::take(&mut before) + &message.text;
            messages.push(ChatMessage { text, ..message.clone() }.body());
        }
        if !before.is_empty() {
            messages.push(ChatMessage::user(before.trim_end()).body());
        }
        Value::Array(messages)
    }
}

/// How an endpoint wants its requests, as far as its answers have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// How JSON is asked for.
    pub json: JsonMode,
    /// Whether the limit of tokens is called `max_completion_tokens`.
    pub new_limit: bool,
    /// Whether instructions stand in the message of the user, because there are no system messages.
    pub without_system: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { json: JsonMode::Auto, new_limit: false, without_system: false }
    }
}

impl Usage {
    /// Estimates the number of tokens of a text: one per four bytes, rounded up.
    pub fn estimated_tokens(text: &str) -> u64 {
        text.len().div_ceil(BYTES_PER_TOKEN) as u64
    }
}
