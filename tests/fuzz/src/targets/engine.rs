//! Fuzz targets of the data engine's own files and of replies of language models.

use crate::FuzzTarget;
use crate::mutate::MutationForm;
use burgess_base::Error;
use burgess_engine::config::EngineConfig;
use burgess_engine::qa::grounding::Grounding;
use burgess_engine::{qa, topics};

const REPLY: &[&str] = &[
    "```json",
    "```",
    "{\"pairs\": [",
    "{\"topics\": [",
    "\"question\": ",
    "\"answer\": ",
    "\"evidence\": ",
    "\"kind\": ",
    "]}",
    ",]",
    ",}",
    "\\u",
    "\\\"",
    "Question:",
    "Answer:",
    "**",
    "1. ",
    "- ",
    "NaN",
    "\u{feff}",
    "I'm sorry",
    "“",
    "12,345.5",
    "[...]",
    "\u{301}",
];
const CONFIG: &[&str] = &[
    "[endpoint]",
    "[budget]",
    "[topics]",
    "[pages]",
    "[images]",
    "[qa]",
    "[pack]",
    "url = ",
    "model = ",
    "kinds = []",
    "max_cost = ",
    "nan",
    "inf",
    "-1",
    "'''",
    "1979-05-27",
    "[endpoint.extra]",
    "temperature = ",
    "fields = \"..\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "engine-reply",
        about: "replies of language models with topics, or with questions and answers",
        corpus: &[],
        words: REPLY,
        form: MutationForm::Text,
        share: 40,
        run: |input, _| {
            let text = String::from_utf8_lossy(input.bytes);
            topics::parse(&text, &["Cell biology"]);
            topics::parse(&text, &["Cell biology", "Botany"]);
            let qa::ParsedReply::Pairs(pairs) = qa::parse(&text) else {
                return Err(Error::failed("no questions and answers"));
            };
            let grounding = Grounding::new([&*text]);
            for pair in &pairs {
                grounding.first_ungrounded(&pair.answer);
                grounding.first_ungrounded(&pair.question);
                grounding.quotes(pair.evidence.as_deref().unwrap_or_default());
            }
            Ok(())
        },
    },
    FuzzTarget {
        name: "engine-config",
        about: "engine.toml, fields and topics of the data engine",
        corpus: &["probe/data/engine/src/init/*.toml"],
        words: CONFIG,
        form: MutationForm::Text,
        share: 20,
        run: |input, _| {
            let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
            let results = [
                EngineConfig::parse(text, "engine.toml").map(drop),
                topics::from_toml(text, "fields.toml").map(drop),
                topics::from_lines(text, "fields.txt").map(drop),
                topics::topics_of_text(text, "topics.jsonl").map(drop),
            ];
            let mut all = results.into_iter();
            all.next().unwrap_or(Ok(())).and_then(|()| all.collect())
        },
    },
];
