//! JSON inside replies of language models: alone, in a Markdown block, between sentences, with trailing commas.

use serde_json::Value;

/// Largest text in which JSON is searched, in bytes.
const LARGEST: usize = 4 << 20;
/// Largest number of places at which JSON may begin that are tried.
const STARTS: usize = 64;

/// Finds the JSON object or list of a reply: in the first Markdown block that holds one, else the whole text, else the
/// first one inside the text. `None` if there is none.
pub fn find(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.len() > LARGEST {
        return None;
    }
    let whole = || parse(text);
    blocks(text).find_map(parse).or_else(whole).or_else(|| inside(text))
}

/// The contents of the Markdown blocks of a text; a block without an end reaches to the end of the text.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|block| {
        // The first line may name the language.
        let (first, rest) = block.split_once('\n').unwrap_or(("", block));
        match first.trim().bytes().all(|b| b.is_ascii_alphanumeric()) {
            true => rest.trim(),
            false => block.trim(),
        }
    })
}

/// Parses a text that is JSON from the beginning to the end.
fn parse(text: &str) -> Option<Value> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let strict = burgess_base::json::from_str(text).ok();
    strict.or_else(|| burgess_base::json::from_str(&without_trailing_commas(text)).ok())
}

/// Finds the first object or list inside a text. Lists of one number, such as references `[1]`, are no replies.
fn inside(text: &str) -> Option<Value> {
    let starts = text.char_indices().filter(|(_, c)| matches!(c, '{' | '[')).map(|(at, _)| at).take(STARTS);
    let mut end = 0;
    for start in starts {
        // What lies inside a value that was found is part of it.
        if start < end {
            continue;
        }
        for cleaned in [false, true] {
            let rest = text.get(start..).unwrap_or_default();
            let without = cleaned.then(|| without_trailing_commas(rest));
            let mut values =
                serde_json::Deserializer::from_str(without.as_deref().unwrap_or(rest)).into_iter::<Value>();
            if let Some(Ok(value)) = values.next() {
                let is_reference = value.as_array().is_some_and(|items| items.iter().all(Value::is_number));
                if !is_reference {
                    return Some(value);
                }
                end = start + values.byte_offset();
                break;
            }
        }
    }
    None
}

/// Removes commas before `}` and `]`, outside strings.
fn without_trailing_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if c == '"' {
            in_string = true;
        } else if matches!(c, '}' | ']') {
            let kept = out.trim_end().len();
            if out.get(..kept).is_some_and(|kept| kept.ends_with(',')) {
                out.truncate(kept - 1);
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_found_in_many_forms() {
        let value = json!({"a": ["b", "}, ]"]});
        for text in [
            r#"{"a": ["b", "}, ]"]}"#,
            "\u{feff} {\"a\": [\"b\", \"}, ]\",],}\n",
            "```json\n{\"a\": [\"b\", \"}, ]\"]}\n```\nI hope this helps [1]!",
            "```\n{\"a\": [\"b\", \"}, ]\"]}\n",
            "Here it is [1]: ```{\"a\": [\"b\", \"}, ]\"]}```",
            "Sure {as you wish} [1, 2]: {\"a\": [\"b\", \"}, ]\",]} and more {}",
        ] {
            assert_eq!(find(text.trim_start_matches('\u{feff}')), Some(value.clone()), "{text}");
        }
        for text in [
            "",
            "no",
            "{",
            "see [1] and [2, 3]",
            "{\"a\": [\"b\"",
            "```json\n```",
            &"[".repeat(100_000),
            &"{\"a\":".repeat(9999),
        ] {
            assert_eq!(find(text), None, "{}", text.get(..20).unwrap_or(text));
        }
    }
}
