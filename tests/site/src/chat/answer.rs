//! Answers of the fake chat server, computed from the messages of a request.

use super::ChatOptions;
use crate::random::{self, Stream};
use serde_json::{Map, Value, json};

/// The texts of all messages.
pub fn texts(body: &Value) -> Vec<String> {
    body["messages"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|m| text_of(&m["content"])).collect()
}

/// The text of a message, whose content is a text or a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The first message of the user.
pub fn question(body: &Value) -> String {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    messages.iter().find(|m| m["role"] == "user").map(|m| text_of(&m["content"])).unwrap_or_default()
}

/// The material of a question from which answers are made.
struct Given {
    caption: String,
    /// Sentences of the text.
    sentences: Vec<String>,
    /// Number of questions, if the request says it.
    count: Option<u64>,
    seed: u64,
}

/// Returns a valid answer: it follows the request's schema and states only what the request's text says.
pub fn good(body: &Value, options: &ChatOptions) -> String {
    let given = given(&question(body), options.seed);
    let schema = &body["response_format"]["json_schema"]["schema"];
    if schema.is_object() {
        return filled(schema, "", &given, body, options).to_string();
    }
    let all = texts(body).join("\n").to_lowercase();
    if all.contains("[answer 2]") {
        return judge_scores(&all, options.seed);
    }
    if all.contains("topic") && !all.contains("caption") {
        return topics_object(body, options).to_string();
    }
    if all.contains("\"pairs\"") {
        // Without a schema, the text describes the object; each line `- kind: …` asks for one pair.
        let kinds = question(body).lines().filter_map(|line| line.strip_prefix("- ")?.split_once(':')).map(|(kind, _)| {
            json!({"kind": kind, "question": question_text(&given), "answer": answer_text(&given), "evidence": sentence(&given)})
        }).collect::<Vec<_>>();
        return json!({"pairs": kinds}).to_string();
    }
    json!({"question": question_text(&given), "answer": answer_text(&given)}).to_string()
}

/// Scores two answers, as a judge is asked to: two numbers on the first line, a reason on the next; one reply in four
/// has no numbers.
fn judge_scores(asked: &str, seed: u64) -> String {
    let drawn = random::hash(seed, asked.as_bytes());
    match drawn % 4 {
        0 => "Both answers are good.".into(),
        _ => format!("8 {}\nThe first answer is more precise.", 1 + drawn / 4 % 10),
    }
}

/// As [`good`], about people and places that no text has named.
pub fn ungrounded(body: &Value, options: &ChatOptions) -> String {
    let mut given = given(&question(body), options.seed);
    given.caption = "Empress Zenobia of Quarantania meets Captain Xavier Underhill in Ulaanbaatar in 1734".into();
    given.sentences = vec!["Empress Zenobia gave 98,765 golden pheasants to Captain Underhill of Ulaanbaatar.".into()];
    let schema = &body["response_format"]["json_schema"]["schema"];
    match schema.is_object() {
        true => filled(schema, "", &given, body, options).to_string(),
        false => json!({"question": question_text(&given), "answer": answer_text(&given)}).to_string(),
    }
}

/// Finds caption and text in a question: keys of JSON, or lines that begin with their names.
fn given(question: &str, seed: u64) -> Given {
    let (mut caption, mut text) = (String::new(), String::new());
    let value: Option<Value> = serde_json::from_str(question).ok();
    if let Some(value) = &value {
        collect(value, &mut caption, &mut text);
    }
    let (mut open, mut count) = (None, None);
    for line in question.lines() {
        let (name, rest) = line.split_once(':').unwrap_or(("", line));
        match name.trim().trim_matches('*').to_lowercase().as_str() {
            "number of questions" => count = rest.trim().parse().ok(),
            "caption" => {
                caption = rest.trim().into();
                open = None;
            }
            "text" | "context" | "section text" | "text of the section" => {
                text = rest.trim().into();
                open = Some(());
            }
            _ if open.is_some() => {
                text.push(' ');
                text.push_str(line.trim());
            }
            _ => {}
        }
    }
    if text.trim().is_empty() {
        text = question.lines().max_by_key(|line| line.len()).unwrap_or_default().into();
    }
    let sentences = text.split_inclusive(". ").map(|s| s.trim().to_string()).filter(|s| s.len() > 20).collect();
    Given { caption, sentences, count, seed: random::hash(seed, question.as_bytes()) }
}

fn collect(value: &Value, caption: &mut String, text: &mut String) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                match (name.as_str(), value) {
                    ("caption", Value::String(found)) => *caption = found.clone(),
                    ("text", Value::String(found)) => *text = found.clone(),
                    _ => collect(value, caption, text),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, caption, text)),
        _ => {}
    }
}

/// The sentence of the text that the answer uses.
fn sentence(given: &Given) -> String {
    let count = given.sentences.len().max(1) as u64;
    let chosen = Stream::new(given.seed, "sentence").below(count) as usize;
    given.sentences.get(chosen).cloned().unwrap_or_default()
}

fn question_text(given: &Given) -> String {
    let forms =
        ["What does this image show, and what is known about it?", "What can be said about what is shown here?"];
    forms[Stream::new(given.seed, "form").below(2) as usize].into()
}

fn answer_text(given: &Given) -> String {
    format!("The image shows this: {}. {}", given.caption.trim_end_matches('.'), sentence(given))
}

/// Fills a schema: texts by the names of their properties.
fn filled(schema: &Value, name: &str, given: &Given, body: &Value, options: &ChatOptions) -> Value {
    if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.is_empty()) {
        return choices[Stream::new(given.seed, name).below(choices.len() as u64) as usize].clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    let lower = name.to_lowercase();
    match schema["type"].as_str().unwrap_or("object") {
        "array" if lower.contains("topic") => {
            // All topics of the question's subfields, or of the subfield it is about.
            json!(topics(body, options).into_iter().flat_map(|(_, topics)| topics).collect::<Vec<_>>())
        }
        "array" => {
            // "Number of questions: 3"
            let wanted = given.count.unwrap_or_else(|| schema["minItems"].as_u64().unwrap_or(1));
            let count = wanted.clamp(1, 100);
            (0..count).map(|_| filled(&schema["items"], name, given, body, options)).collect()
        }
        "string" => json!(match lower.as_str() {
            l if l.contains("question") => question_text(given),
            l if ["evidence", "quote", "support", "source"].iter().any(|word| l.contains(word)) => sentence(given),
            l if l.contains("caption") => given.caption.clone(),
            _ => answer_text(given),
        }),
        "boolean" => json!(true),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        _ => {
            let Some(properties) = schema["properties"].as_object() else { return topics_object(body, options) };
            let fill = |(key, inner): (&String, &Value)| {
                let subfield = topics(body, options).into_iter().find(|(name, _)| name == key);
                let value = match subfield {
                    Some((_, topics)) => json!(topics),
                    None => filled(inner, key, given, body, options),
                };
                (key.clone(), value)
            };
            Value::Object(properties.iter().map(fill).collect::<Map<_, _>>())
        }
    }
}

/// Subfields with their topics, as one object.
fn topics_object(body: &Value, options: &ChatOptions) -> Value {
    Value::Object(topics(body, options).into_iter().map(|(name, topics)| (name, json!(topics))).collect::<Map<_, _>>())
}

/// The subfields of a question with their topics: known ones that it names, else those of its line `Subfield: a`, or
/// `Field: a, b`.
fn topics(body: &Value, options: &ChatOptions) -> Vec<(String, Vec<String>)> {
    let question = question(body);
    let known: Vec<_> = options.topics.iter().filter(|(name, _)| question.contains(name.as_str())).collect();
    if !known.is_empty() {
        return known.into_iter().map(|(name, topics)| (name.clone(), topics.clone())).collect();
    }
    let line = question.lines().find(|line| line.starts_with("Subfield: "));
    let line = line.or_else(|| question.lines().find(|line| line.contains(": "))).unwrap_or(&question);
    let (_, names) = line.split_once(": ").unwrap_or(("", line));
    let named = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    named.map(|name| (name.to_string(), (1..=20).map(|n| format!("{name} {n}")).collect())).collect()
}
