//! Writes a chat template as Jinja for `transformers`: `chat_template.jinja` of an exported model.
//!
//! The messages may be texts, or lists of parts (`{"type": "image"}`, `{"type": "text", "text": …}`), as processors
//! take them. The image stands where [`ChatTemplate::open`](super::ChatTemplate::open) places it.

use crate::llm::tokenizer::IMAGE;

/// Returns statements that make `turns.list`: the messages, each with its text, in which the image placeholder is at
/// the start, followed by a line break.
pub(super) fn turns(image: &str) -> String {
    const STATEMENTS: &str = "{%- set turns = namespace(list=[]) -%}
{%- for message in messages -%}
{%- set turn = namespace(text='', image=false) -%}
{%- if message['content'] is string -%}
{%- set turn.text = message['content'] -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{%- set turn.image = true -%}
{%- elif part['type'] == 'text' -%}
{%- set turn.text = turn.text + part['text'] -%}
{%- else -%}
{{- raise_exception('this model reads texts and images only') -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if turn.image or @IMAGE@ in turn.text -%}
{%- set turn.text = (@IMAGE@ + '\\n' + turn.text.replace(@IMAGE@, '').strip()).strip() -%}
{%- endif -%}
{%- set turns.list = turns.list + [dict(message, content=turn.text)] -%}
{%- endfor -%}
";
    filled(STATEMENTS, &[("IMAGE", image)])
}

/// Returns a text as a string literal of Jinja.
pub(super) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r");
    format!("'{escaped}'")
}

/// Fills a template, in which names stand between `@`, with string literals of Jinja.
pub(super) fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let part = |(i, part): (usize, &str)| match values.iter().find(|(name, _)| i % 2 == 1 && *name == part) {
        Some((_, value)) => quoted(value),
        None => part.to_string(),
    };
    template.split('@').enumerate().map(part).collect()
}

/// Returns the template of a model that reads texts, with the messages as [`turns`] makes them and a system message
/// where a conversation has none.
pub(super) fn wrapped(template: &str, system: Option<&str>) -> String {
    let mut text = turns(IMAGE) + "{%- set messages = turns.list -%}\n";
    if let Some(system) = system {
        text += &filled(
            "{%- if not messages or messages[0]['role'] != 'system' -%}
{%- set messages = [{'role': 'system', 'content': @SYSTEM@}] + messages -%}
{%- endif -%}
",
            &[("SYSTEM", system)],
        );
    }
    // The last statement must not take white space from the beginning of the template. Without a dash it takes one line
    // break, which is the one written here.
    format!("{text}{{%- set turns = none %}}\n{template}")
}
