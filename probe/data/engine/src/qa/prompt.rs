//! What a language model is asked for questions and answers.

use super::item::{QaItem, one_line};
use crate::config::{QaConfig, QaPrompt, QuestionKind};
use crate::llm::{ChatMessage, ChatRequest};
use serde_json::{Value, json};

/// The paper's instruction.
const PAPER: &str = "Generate a question and answer pair based on the image's caption, its contextual text, and \
associated metadata. The question should be insightful, engaging, and directly related to the image's content as \
described by the caption. The answer should be concise and informative, drawing upon the text and contextual details \
provided.";

const STRUCTURED: &str = "You write questions and answers that train a model which sees an image and is asked about it. \
You are given the caption of an image and the text of the section in which it stands; the reader of your questions sees \
only the image.

Rules:
1. Ask what someone who looks at the image would want to know. Each question must need the image: it says \"this\" for \
what is shown, and does not name what the answer has to name.
2. Never mention the caption, the text, the article, the passage or their author, neither in a question nor in an answer.
3. Answer in one to four full sentences, and explain. Use only what the caption and the text say: every name, number and \
date of the answer must stand there. Add nothing from your own knowledge.
4. `evidence` is a sentence, or a part of one, that is copied letter by letter from the caption or the text and supports \
the answer.
5. Each question has the kind that is asked for. If caption and text do not suffice, write fewer questions, or none: \
{\"pairs\": []}.

Reply with JSON only: {\"pairs\": [{\"kind\": \"...\", \"question\": \"...\", \"answer\": \"...\", \"evidence\": \"...\"}]}";

/// Returns the kinds of questions of an image, in turn over the images.
pub(super) fn kinds(config: &QaConfig, index: usize) -> Vec<QuestionKind> {
    let first = index * config.per_image;
    (first..first + config.per_image).filter_map(|n| config.kinds.get(n % config.kinds.len().max(1)).copied()).collect()
}

/// The schema of a reply to the structured prompt.
fn schema(kinds: &[QuestionKind]) -> Value {
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "properties": {"pairs": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": names},
                "question": text, "answer": text, "evidence": text,
            },
            "required": ["kind", "question", "answer", "evidence"],
            "additionalProperties": false,
        }}},
        "required": ["pairs"],
        "additionalProperties": false,
    })
}

/// Returns the instruction of the prompt.
pub(crate) fn instruction(config: &QaConfig) -> String {
    let system = match config.prompt {
        QaPrompt::Paper => PAPER,
        QaPrompt::Structured => STRUCTURED,
    };
    match &config.language {
        Some(language) => {
            format!("{system}\n\nWrite questions and answers in {language}; `evidence` stays as it is.")
        }
        None => system.to_string(),
    }
}

/// Makes the first request for an image; `bytes` is the image's file, if it is sent.
pub(super) fn request(config: &QaConfig, item: &QaItem, bytes: Option<(&str, &[u8])>) -> ChatRequest {
    let user = match config.prompt {
        QaPrompt::Paper => {
            let record = json!({
                "section": item.heading,
                "text": item.text,
                "link": item.page.url,
                "field": item.page.field,
                "subfield": item.page.subfield,
                "topic": item.page.topic,
                "image_url": item.figure.image,
                "caption": item.caption,
            });
            record.to_string()
        }
        QaPrompt::Structured => structured(config, item),
    };
    let mut user = ChatMessage::user(user);
    if let Some((media_type, bytes)) = bytes {
        user = user.with_image(media_type, bytes);
    }
    let request = ChatRequest {
        temperature: Some(config.temperature),
        seed: Some(config.seed),
        max_tokens: Some(config.max_tokens),
        ..ChatRequest::new(vec![ChatMessage::system(instruction(config)), user])
    };
    match config.prompt {
        QaPrompt::Paper => request,
        QaPrompt::Structured => request.with_shape("questions", schema(&kinds(config, item.index))),
    }
}

fn structured(config: &QaConfig, item: &QaItem) -> String {
    let kinds = kinds(config, item.index);
    let mut text = format!("Number of questions: {}\nKinds, in this order:\n", kinds.len());
    for kind in kinds {
        text += &format!("- {}: {}\n", kind.as_str(), kind.about());
    }
    let context = [("Field", &item.page.field), ("Subject", &item.page.subfield), ("Page", &item.page.title)];
    for (name, value) in context.into_iter().chain([("Section", &item.heading)]).filter(|(_, value)| !value.is_empty())
    {
        text += &format!("{name}: {}\n", one_line(value));
    }
    let caption = if item.caption.is_empty() { "(none)" } else { &item.caption };
    text + &format!("Caption: {caption}\nSection text: {}", item.text)
}

/// Largest part of a malformed reply that is sent back, in characters.
const SENT_BACK: usize = 2000;

/// Makes the request after a reply that could not be read.
pub(super) fn again(config: &QaConfig, first: &ChatRequest, reply: &str, why: &str, ask: usize) -> ChatRequest {
    let mut next = first.clone();
    if !reply.trim().is_empty() {
        next.messages.push(ChatMessage::assistant(reply.chars().take(SENT_BACK).collect::<String>()));
    }
    let form = match config.prompt {
        QaPrompt::Structured => {
            "Reply with JSON only: {\"pairs\": [{\"kind\": \"...\", \"question\": \"...\", \"answer\": \"...\", \
             \"evidence\": \"...\"}]}"
        }
        QaPrompt::Paper => "Reply with two lines: `Question: ...` and `Answer: ...`",
    };
    next.messages.push(ChatMessage::user(format!("That could not be used: {why}. {form}")));
    // The same sampling would give the same reply where a server ignores what was added.
    next.seed = next.seed.map(|seed| seed + ask as u64);
    next
}
