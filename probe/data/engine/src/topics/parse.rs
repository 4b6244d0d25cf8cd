//! Topics in replies of language models: JSON of many forms, or a list of lines.

use crate::fold::folded;
use crate::reply_json;
use serde_json::Value;

/// Largest length of a topic in characters.
pub const LONGEST: usize = 120;
/// Depth of nested objects that are looked into.
const DEPTH: usize = 4;

/// Topics that a reply gives for a subfield.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedTopics {
    /// The topics in the order of the reply, cleaned, not yet checked for duplicates.
    pub topics: Vec<String>,
    /// What was left out, with the reason.
    pub rejected: Vec<(String, &'static str)>,
}

/// Reads the topics of each of the subfields from a reply; `None` for a subfield that the reply does not have.
///
/// The reply may be JSON (alone, in a Markdown block, or between sentences): an object whose keys are the subfields, at
/// any depth, or, if only one subfield was asked for, any list. Else it may be a list of lines that begin with numbers
/// or bullets, if only one subfield was asked for.
pub fn parse(reply: &str, subfields: &[&str]) -> Vec<Option<ParsedTopics>> {
    let value = reply_json::find(reply);
    let single = subfields.len() == 1;
    let lists: Vec<Option<Vec<String>>> = subfields
        .iter()
        .map(|subfield| match &value {
            Some(value) => {
                let named = under_name(value, &key(subfield), DEPTH).and_then(texts);
                named.or_else(|| if single { only_list(value, DEPTH) } else { None })
            }
            None if single => lines(reply),
            None => None,
        })
        .collect();
    lists.into_iter().map(|list| list.map(cleaned)).collect()
}

/// Folds a name so that `Cell_biology` and `cell biology:` are the same key.
fn key(name: &str) -> String {
    let plain: String = folded(name).chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Finds the value under a key, at any depth.
fn under_name<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    match value {
        Value::Object(entries) => {
            let own = entries.iter().find(|(k, _)| key(k) == name).map(|(_, v)| v);
            own.or_else(|| {
                // {"subfield": "Botany", "topics": […]}
                let named = entries.values().any(|v| v.as_str().is_some_and(|text| key(text) == name));
                named.then(|| entries.values().find(|v| v.is_array())).flatten()
            })
            .or_else(|| match depth {
                0 => None,
                _ => entries.values().find_map(|v| under_name(v, name, depth - 1)),
            })
        }
        Value::Array(items) if depth > 0 => items.iter().find_map(|v| under_name(v, name, depth - 1)),
        _ => None,
    }
}

/// The texts of a list; of objects those of the key that names a topic; of an object of lists all of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    fn text(item: &Value) -> Vec<String> {
        match item {
            Value::String(text) => vec![text.clone()],
            Value::Object(entries) => {
                let named = ["topic", "name", "title", "subtopic", "sub_topic", "sub-topic"];
                match named.iter().find_map(|name| entries.get(*name).and_then(Value::as_str)) {
                    Some(text) => vec![text.to_string()],
                    None => entries.values().flat_map(|v| texts(v).unwrap_or_default()).collect(),
                }
            }
            // What is no text is counted as rejected.
            Value::Null | Value::Bool(_) | Value::Number(_) => vec![String::new()],
            Value::Array(_) => texts(item).unwrap_or_default(),
        }
    }
    match value {
        Value::Array(items) => Some(items.iter().flat_map(text).collect()),
        Value::Object(entries) => {
            // {"1": "Moss", "2": "Fern"}, or {"Mosses": ["…"], "Ferns": ["…"]}
            let all: Vec<String> = entries.values().flat_map(text).collect();
            (!all.is_empty()).then_some(all)
        }
        Value::String(list) if list.contains(',') => Some(list.split(',').map(str::to_string).collect()),
        _ => None,
    }
}

/// The list of a reply that has only one.
fn only_list(value: &Value, depth: usize) -> Option<Vec<String>> {
    match value {
        Value::Array(_) => texts(value),
        Value::Object(entries) => {
            let lists: Vec<&Value> = entries.values().filter(|v| v.is_array()).collect();
            match (lists.as_slice(), depth) {
                ([list], _) => texts(list),
                ([], 1..) if entries.len() == 1 => entries.values().find_map(|v| only_list(v, depth - 1)),
                ([], _) if entries.len() > 1 && entries.values().all(Value::is_string) => texts(value),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The lines that begin with a number or a bullet; `None` if there are fewer than two.
fn lines(reply: &str) -> Option<Vec<String>> {
    let found: Vec<String> = reply.lines().filter_map(|line| item(line.trim())).map(str::to_string).collect();
    (found.len() > 1).then_some(found)
}

/// What stands after `- `, `* `, `• `, `3. ` or `3) `.
fn item(line: &str) -> Option<&str> {
    let bullets = ["- ", "* ", "• ", "– "];
    if let Some(rest) = bullets.iter().find_map(|bullet| line.strip_prefix(bullet)) {
        return Some(rest);
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = line.get(digits..)?;
    (1..=4).contains(&digits).then(|| rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") "))).flatten()
}

fn cleaned(list: Vec<String>) -> ParsedTopics {
    let mut parsed = ParsedTopics::default();
    for text in list {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut topic = item(&line).unwrap_or(&line);
        // "**Moss**: small plants": what is marked is the topic.
        if let Some((marked, _)) = topic.strip_prefix("**").and_then(|rest| rest.split_once("**")) {
            topic = marked;
        }
        let quotes = ['"', '\'', '`', '“', '”', '‘', '’', '*', '_'];
        let topic = topic.trim_matches(quotes).trim_end_matches(['.', ':', ',', ';']).trim_matches(quotes).trim();
        let length = topic.chars().count();
        let reason = match length {
            0 => Some("empty"),
            1 => Some("too short"),
            n if n > LONGEST => Some("too long"),
            _ if !topic.chars().any(char::is_alphabetic) => Some("no letters"),
            _ => None,
        };
        match reason {
            Some(reason) => parsed.rejected.push((burgess_base::text::excerpt(&line, 200), reason)),
            None => parsed.topics.push(topic.to_string()),
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_replies_of_many_forms() {
        let one = |reply: &str| parse(reply, &["Cell biology"]).remove(0).map(|p| p.topics);
        let expected = Some(vec!["Mitosis".to_string(), "Ribosome".to_string()]);
        for reply in [
            r#"{"topics": ["Mitosis", "Ribosome"]}"#,
            r#"["Mitosis", "Ribosome"]"#,
            "```json\n{\"Cell_biology\": [\"1. Mitosis\", \"**Ribosome**: makes proteins\"]}\n```\nLet me know!",
            r#"Sure! {"Biology": {"Cell Biology": [{"topic": "Mitosis"}, {"name": "Ribosome."}]}} Done [1]."#,
            r#"{"subfields": [{"subfield": "Cell biology", "topics": ["Mitosis", "Ribosome"]}]}"#,
            r#"{"1": "Mitosis", "2": "Ribosome"}"#,
            r#"{"data": {"list": ["Mitosis", "Ribosome",],},}"#,
            "Here are topics:\n1. Mitosis\n2) \"Ribosome\"\n\nEnjoy.",
            "- Mitosis\n- Ribosome",
            r#"{"Cell biology": {"a": ["Mitosis"], "b": ["Ribosome"]}}"#,
        ] {
            assert_eq!(one(reply), expected, "{reply}");
        }
        for reply in ["", "I cannot help.", "{}", "null", r#"{"a": ["x"], "b": ["y"]}"#, r#"{"topics": 3}"#, "1. One"] {
            assert_eq!(one(reply), None, "{reply}");
        }
        let two = parse(r#"{"Biology": {"Botany": ["Moss"]}}"#, &["Botany", "Zoology"]);
        assert!(two[0].is_some() && two[1].is_none());
        let odd = parse(&format!(r#"["", 3, "{}", "12", "x"]"#, "y".repeat(121)), &["a"]).remove(0).unwrap();
        assert_eq!(
            odd.rejected.iter().map(|r| r.1).collect::<Vec<_>>(),
            ["empty", "empty", "too long", "no letters", "too short"]
        );
    }
}
