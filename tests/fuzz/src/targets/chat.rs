//! Fuzz targets for chat templates: Jinja, and Burgess's own descriptions.

use super::tokenizers::TEXT;
use crate::FuzzTarget;
use crate::corpus::root;
use crate::mutate::MutationForm;
use burgess_base::{Error, Result};
use burgess_probe::llm::chat::{ChatTemplate, JinjaTemplate, Turn};
use burgess_probe::llm::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "chat-template",
        about: "a chat template (Jinja)",
        corpus: &[],
        words: &[
            "{% for m in messages %}",
            "{% endfor %}",
            "{% if true %}",
            "{% else %}",
            "{% endif %}",
            "{{ messages }}",
            "{% set x = x + x %}",
            "{%- set ns = namespace(a=messages) %}",
            "{% set ns.a = ns.a + ns.a %}",
            "|tojson",
            "|tojson(indent=100000000000)",
            "'{:>100000000000}'.format('a')",
            "range(1000000000)",
            "|join('x')",
            "* 1000000",
            "~",
            "loop.index0",
            ".split('a')[-1]",
            "|trim",
            "raise_exception('a')",
            "strftime_now('%Y')",
            "{% macro f(a) %}",
            "{% endmacro %}",
            "{{ f(f) }}",
            "{% generation %}",
            "{% endgeneration %}",
            "|length",
            "|replace('a', 'aaaa')",
            "|indent(99999999)",
            "|center(9999999999)",
            "|batch(3)",
            "|list",
            "|sort",
            "|map('upper')",
            "not ",
            "(((((",
            "**",
            "// 0",
            "% 0",
            "[::-1]",
            "[::0]",
            "[9999999999999:]",
            ".items()",
            "bos_token",
            "%",
            "-9223372036854775808",
            "is defined",
            "{% filter upper %}",
            "{% raw %}",
            "{#",
            "lipsum(9999)",
            "|format('%s')",
            "'a' * 99999999",
            "{% call f() %}",
            "{% include 'chat' %}",
            "{% import 'chat' as c %}",
            "{% extends 'chat' %}",
            "{% block b %}",
        ],
        form: MutationForm::Text,
        share: 15,
        run: |input, place| {
            let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
            let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_string(), v.to_string()));
            let jinja = JinjaTemplate::new(text, BTreeMap::from(tokens))?;
            let turns = turns();
            jinja.text(&turns, false)?;
            jinja.text(&turns[..2], true)?;
            let chat = ChatTemplate::Jinja(Box::new(jinja));
            chat.notes().into_iter().for_each(|note| place.tell(note));
            chat.encode(tokenizer()?, &turns, true).map(drop)
        },
    },
    FuzzTarget {
        name: "chat-json",
        about: "chat.json of a model",
        corpus: &["probe/zoo/nano-lm/chat.json"],
        words: &[
            "\"named\"",
            "\"vicuna_v1\"",
            "\"jinja\"",
            "\"system\"",
            "\"date\"",
            "\"max_length\"",
            "\"tokens\"",
            "\"phi3\"",
        ],
        form: MutationForm::Json,
        share: 60,
        run: |input, _| {
            let chat: ChatTemplate = serde_json::from_slice(input.bytes)?;
            chat.encode(tokenizer()?, &turns()[1..], true).map(drop)
        },
    },
];

fn turns() -> Vec<Turn> {
    vec![
        Turn::system("You help."),
        Turn::user(TEXT),
        Turn::assistant("A cat."),
        Turn::user("And now?"),
        Turn::assistant("A dog {{ x }}"),
    ]
}

/// Loads the tokenizer of the nano study.
fn tokenizer() -> Result<&'static Tokenizer> {
    static NANO: LazyLock<std::result::Result<Tokenizer, String>> = LazyLock::new(|| {
        Tokenizer::from_file(&root().join("probe/zoo/nano-lm/tokenizer.json")).map_err(|e| e.to_string())
    });
    NANO.as_ref().map_err(|e| Error::failed(e.clone()))
}
