//! What a language model is asked for topics.

use super::input::Subfield;
use crate::config::{TopicPrompt, TopicsConfig};
use crate::llm::{ChatMessage, ChatRequest};
use serde_json::{Value, json};

/// The paper's instruction, with the number of topics in place of its 20.
fn paper_instruction(count: usize) -> String {
    format!(
        "You will be given a list of fields and subfields. For each subfield, generate a detailed list of {count} \
         sub-topics in JSON format."
    )
}

const INSTRUCTION: &str = "You plan an illustrated encyclopaedia. For a subfield of a field of knowledge you list topics \
that are each the title of one article, in which photographs, drawings or diagrams show what the text explains. Prefer \
concrete things, phenomena, methods, places and works over general terms. Leave out lists, histories, biographies, \
timelines and topics that differ from another one only in words. Reply with JSON only: {\"topics\": [\"...\", \"...\"]}.";

/// Returns the instruction of the prompt.
pub(crate) fn instruction(config: &TopicsConfig) -> String {
    match config.prompt {
        TopicPrompt::Paper => paper_instruction(config.per_subfield),
        TopicPrompt::Structured => INSTRUCTION.to_string(),
    }
}

/// A group of subfields for which the model is asked at once.
pub(super) fn groups<'a>(config: &TopicsConfig, subfields: &'a [Subfield]) -> Vec<&'a [Subfield]> {
    match config.prompt {
        TopicPrompt::Structured => subfields.chunks(1).collect(),
        TopicPrompt::Paper => subfields.chunk_by(|a, b| a.field == b.field).collect(),
    }
}

/// The schema of a reply to the structured prompt.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"topics": {"type": "array", "items": {"type": "string"}}},
        "required": ["topics"],
        "additionalProperties": false,
    })
}

/// Makes the first request for a group.
pub(super) fn request(config: &TopicsConfig, group: &[Subfield]) -> ChatRequest {
    let field = group.first().map(|s| s.field.as_str()).unwrap_or_default();
    let names: Vec<&str> = group.iter().map(|s| s.subfield.as_str()).collect();
    let names = names.join(", ");
    let (messages, shape) = match config.prompt {
        TopicPrompt::Paper => {
            (vec![ChatMessage::system(instruction(config)), ChatMessage::user(format!("{field}: {names}"))], None)
        }
        TopicPrompt::Structured => {
            let user = format!("Field: {field}\nSubfield: {names}\nNumber of topics: {}", config.per_subfield);
            (vec![ChatMessage::system(instruction(config)), ChatMessage::user(user)], Some(schema()))
        }
    };
    let request = ChatRequest {
        temperature: Some(config.temperature),
        seed: Some(config.seed),
        max_tokens: Some(config.max_tokens),
        ..ChatRequest::new(messages)
    };
    match shape {
        Some(schema) => request.with_shape("topics", schema),
        None => request,
    }
}

/// Largest part of a malformed reply that is sent back, in characters.
const SENT_BACK: usize = 2000;

/// Makes the request after a reply from which topics are missing.
pub(super) fn again(request: &ChatRequest, reply: &str, missing: &[(&str, usize)], ask: usize) -> ChatRequest {
    let wanted: Vec<String> = missing.iter().map(|(name, count)| format!("{count} for `{name}`")).collect();
    let keys = match request.shape {
        Some(_) => "Reply with JSON only: {\"topics\": [\"...\"]}.",
        None => "Reply with JSON only: an object whose keys are these subfields and whose values are lists of topics.",
    };
    let mut next = request.clone();
    // A model that does not say anything does not need to see it.
    if !reply.trim().is_empty() {
        next.messages.push(ChatMessage::assistant(reply.chars().take(SENT_BACK).collect::<String>()));
    }
    next.messages.push(ChatMessage::user(format!(
        "Topics are missing that are valid and differ from the others: {}. {keys}",
        wanted.join(", ")
    )));
    // The same sampling would give the same reply where a server ignores what was added.
    next.seed = next.seed.map(|seed| seed + ask as u64);
    next
}
