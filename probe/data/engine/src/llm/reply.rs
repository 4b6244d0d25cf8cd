//! Replies, and how many tokens they took.

use super::error::{ChatError, ChatErrorKind};
use super::request::ChatRequest;
use burgess_base::text::excerpt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Numbers of tokens that requests took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the requests.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Whether at least one of the numbers is an estimate, because the server did not give it.
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// Returns the number of all tokens.
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// Adds another usage.
    pub fn add(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.estimated |= other.estimated;
    }
}

/// Why a reply ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// The limit of tokens was reached: the reply is cut off.
    Length,
    /// A filter of the server removed the rest.
    ContentFilter,
    /// Another reason, by the server's name.
    Other(String),
}

impl FinishReason {
    fn parse(text: &str) -> Self {
        match text {
            "stop" | "" | "eos" | "end_turn" => Self::Stop,
            "length" | "max_tokens" => Self::Length,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(excerpt(other, 40)),
        }
    }
}

/// The reply of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatReply {
    /// The text, without reasoning; empty if the model refused.
    pub text: String,
    /// Why it ends.
    pub finish: FinishReason,
    /// The model's refusal, where the server marks it.
    pub refusal: Option<String>,
    /// Name of the model as the server gives it, else as it was asked for.
    pub model: String,
    /// Tokens of this reply.
    pub usage: Usage,
    /// Estimated tokens of attempts whose reply was lost on the way: the server may charge for them.
    pub lost: Usage,
    /// Number of attempts.
    pub attempts: u32,
    /// Duration of the last attempt in seconds.
    pub seconds: f64,
}

/// The longest name of a model that is kept, in characters.
const LONGEST_NAME: usize = 200;

/// Reads the body of a successful response.
pub(super) fn parse(body: &[u8], request: &ChatRequest, model: &str) -> Result<ChatReply, ChatError> {
    let shown = || excerpt(&String::from_utf8_lossy(body), 200);
    let value: Value = burgess_base::json::from_slice(body).map_err(|e| {
        let message = format!("the reply is not valid JSON, or cut off ({e}): {}", shown());
        ChatError::new(ChatErrorKind::Malformed, message)
    })?;
    if let Some(error) = value.get("error").filter(|e| !e.is_null()) {
        let message = error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_string);
        let message = format!("the server reports an error in a successful response: {}", excerpt(&message, 300));
        return Err(ChatError::new(ChatErrorKind::Server, message));
    }
    let choice = value.get("choices").and_then(|c| c.get(0)).ok_or_else(|| {
        ChatError::new(ChatErrorKind::Malformed, format!("the reply has no `choices`, expected one: {}", shown()))
    })?;
    let message = choice.get("message").unwrap_or(&Value::Null);
    let refusal = message.get("refusal").and_then(Value::as_str).filter(|r| !r.is_empty()).map(str::to_string);
    let finish = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
    let finish = FinishReason::parse(finish);
    let text = content(message.get("content").unwrap_or(&Value::Null));
    let text = match text {
        Some(text) => text,
        // A refusal, a filter or a spent limit (of a model that reasons) leaves no text: the caller sees why.
        None if refusal.is_some() || finish != FinishReason::Stop => String::new(),
        None => {
            let message = format!("the reply has no text in `choices[0].message.content`: {}", shown());
            return Err(ChatError::new(ChatErrorKind::Malformed, message));
        }
    };
    let name = value.get("model").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or(model);
    let usage = usage(&value, request, &text);
    let model = name.chars().take(LONGEST_NAME).collect();
    Ok(ChatReply { text, finish, refusal, model, usage, lost: Usage::default(), attempts: 1, seconds: 0.0 })
}

/// Returns the text of a message: a string, or the texts of its parts.
fn content(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            (!texts.is_empty()).then(|| texts.concat())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Returns the numbers of tokens that the server gives, or estimates what it does not give.
fn usage(value: &Value, request: &ChatRequest, text: &str) -> Usage {
    let given = |key: &str| value.get("usage").and_then(|u| u.get(key)).and_then(Value::as_u64);
    let (prompt, completion) = (given("prompt_tokens"), given("completion_tokens"));
    Usage {
        prompt_tokens: prompt.unwrap_or_else(|| request.estimated_prompt_tokens()),
        completion_tokens: completion.unwrap_or_else(|| Usage::estimated_tokens(text)),
        estimated: prompt.is_none() || completion.is_none(),
    }
}
