//! The messages of a request, with their texts and images.

use super::super::ApiError;
use super::super::fields::{Fields, shown, wrong};
use super::super::images;
use super::{AskedMessage, AskedPart};
use crate::{Limits, Role};
use serde_json::Value;

/// Reads the conversation.
pub(super) fn messages(value: Option<Value>, limits: &Limits) -> Result<Vec<AskedMessage>, ApiError> {
    let items = match value {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong("messages", "an array of messages", &other)),
        None => {
            return Err(ApiError::invalid("`messages` is missing")
                .with_hint("send [{\"role\": \"user\", \"content\": \"…\"}]")
                .at("messages")
                .coded("missing_required_parameter"));
        }
    };
    if items.len() > limits.messages {
        let message = format!("there are {} messages, the limit is {}", items.len(), limits.messages);
        return Err(ApiError::invalid(message).at("messages"));
    }
    let mut reader = Reader { limits, images: 0, text_bytes: 0 };
    let read = |(n, item)| reader.message(n, item);
    let messages = items.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        Some(_) => Err(ApiError::invalid("the last message is not of the user")
            .with_hint("end with a message whose role is `user`")
            .at(format!("messages[{}].role", messages.len() - 1))),
        None => Err(ApiError::invalid("there is no message").with_hint("send one of the user").at("messages")),
    }
}

pub(super) fn long_text(bytes: usize, limits: &Limits) -> ApiError {
    ApiError::invalid(format!("the texts have {bytes} bytes or more, the limit is {}", limits.text_bytes))
}

/// Reads messages and counts what is limited over all of them.
struct Reader<'a> {
    limits: &'a Limits,
    images: usize,
    text_bytes: usize,
}

impl Reader<'_> {
    fn message(&mut self, n: usize, value: Value) -> Result<AskedMessage, ApiError> {
        let mut fields = Fields::of(format!("messages[{n}]"), value)?;
        let at = fields.at("role");
        let role = match fields.text("role")?.as_deref() {
            Some("system" | "developer") if n == 0 => Role::System,
            Some("system" | "developer") => {
                return Err(ApiError::invalid("a system message must be the first message").at(at));
            }
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some(other @ ("tool" | "function")) => {
                return Err(ApiError::unsupported(format!("messages of the role `{other}` are not supported"))
                    .with_hint("this model calls no tools")
                    .at(at));
            }
            other => {
                let found = other.map_or(Value::Null, Value::from);
                return Err(wrong(&at, "`system`, `user` or `assistant`", &found));
            }
        };
        let at = fields.at("content");
        let parts = match fields.take("content") {
            Some(Value::String(text)) => vec![self.text(text, &at)?],
            Some(Value::Array(items)) if !items.is_empty() => {
                let read = |(i, item)| self.part(format!("{at}[{i}]"), role, item);
                items.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
            }
            other => {
                let found = other.unwrap_or(Value::Null);
                return Err(wrong(&at, "a string or an array of at least one part", &found));
            }
        };
        // Clients send the message of an answer back as it came.
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        for name in ["tool_calls", "annotations"] {
            fields.neutral(name, is_empty, "leave it out")?;
        }
        for name in ["function_call", "audio", "refusal", "name", "tool_call_id"] {
            fields.neutral(name, |_| false, "leave it out")?;
        }
        fields.finish(&["role", "content"])?;
        Ok(AskedMessage { role, parts })
    }

    fn text(&mut self, text: String, at: &str) -> Result<AskedPart, ApiError> {
        self.text_bytes += text.len();
        match self.text_bytes > self.limits.text_bytes {
            true => Err(long_text(self.text_bytes, self.limits).with_hint("shorten them").at(at)),
            false => Ok(AskedPart::Text(text)),
        }
    }

    fn part(&mut self, at: String, role: Role, value: Value) -> Result<AskedPart, ApiError> {
        let mut fields = Fields::of(at.as_str(), value)?;
        let kind = fields.text("type")?;
        let part = match kind.as_deref() {
            Some("text") => {
                let at = fields.at("text");
                let text = fields.text("text")?;
                self.text(text.ok_or_else(|| wrong(&at, "a string", &Value::Null))?, &at)?
            }
            Some("image_url") if role == Role::User => self.image(&mut fields)?,
            Some("image_url") => {
                return Err(ApiError::invalid("an image is only allowed in a message of the user").at(at));
            }
            other => return Err(wrong_part(other, &fields)),
        };
        fields.ignore(&["cache_control"]);
        fields.finish(&["type", "text", "image_url"])?;
        Ok(part)
    }

    fn image(&mut self, fields: &mut Fields) -> Result<AskedPart, ApiError> {
        const EXPECTED: &str = "an object {\"url\": \"data:image/png;base64,…\"}";
        let at = fields.at("image_url");
        self.images += 1;
        if self.images > self.limits.images {
            let message = format!("there are more than {} images, which is the limit", self.limits.images);
            return Err(ApiError::invalid(message).with_hint("send fewer images").at(at));
        }
        let mut image = match fields.take("image_url") {
            Some(Value::Object(object)) => Fields::new(at.as_str(), object),
            Some(Value::String(_)) => {
                return Err(ApiError::invalid(format!("`{at}` is a string, must be {EXPECTED}"))
                    .with_hint("put the address into `url`")
                    .at(at)
                    .coded("invalid_value"));
            }
            other => return Err(wrong(&at, EXPECTED, &other.unwrap_or(Value::Null))),
        };
        let at = image.at("url");
        let url = image.text("url")?.ok_or_else(|| wrong(&at, "an address", &Value::Null))?;
        // Each model has one way of looking at an image.
        image.text("detail")?;
        image.finish(&["url", "detail"])?;
        images::read(url, at, self.limits)
    }
}

/// The error of a part of an unknown type; the types of OpenAI's other APIs are often mistaken for those of this one.
fn wrong_part(kind: Option<&str>, fields: &Fields) -> ApiError {
    let at = fields.at("type");
    let hint = match kind {
        Some("input_image" | "image") => "write {\"type\": \"image_url\", \"image_url\": {\"url\": \"data:…\"}}",
        Some("input_text" | "output_text") => "write {\"type\": \"text\", \"text\": \"…\"}",
        Some("input_audio" | "audio_url" | "video_url" | "video" | "file" | "input_file") => {
            "only texts and images are supported: send frames of a video as images"
        }
        _ => "use parts of the types `text` and `image_url`",
    };
    let found = kind.map_or(Value::Null, Value::from);
    ApiError::invalid(format!("`{at}` is {}, must be `text` or `image_url`", shown(&found)))
        .with_hint(hint)
        .at(at)
        .coded("invalid_value")
}
