//! The keys of all TOML files: their JSON schemas, and the reference in plain text and Markdown.
//!
//! Everything is generated from the types into which the files are read: names, types and defaults from their serde
//! attributes, descriptions from their doc comments. `experiments/KEYS.md` is the generated reference; a test compares
//! it with the types.

mod reference;
mod render;
#[cfg(test)]
mod tests;

pub use reference::{Key, Section, sections};
pub use render::{markdown, text};

use crate::run::pretraining::LlmRecipe;
use crate::study::{RunConfig, StudyConfig};
use burgess_base::{Error, Result, nearest};
use burgess_encoders::card::EncoderCard;
use burgess_engine::config::EngineConfig;
use burgess_mix::Mix;
use burgess_probe::bench::declared::format::BenchmarkFile;
use burgess_probe::llm::card::LlmCard;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::str::FromStr;

/// A kind of TOML file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A study, for `burgess rank`.
    Study,
    /// A single run, for `burgess train`.
    Run,
    /// The card of an encoder, in `encoders/zoo/`.
    Card,
    /// The card of a language model, in `probe/zoo/llms/`.
    LlmCard,
    /// The recipe of a language model, `recipe.toml` in its directory, for `burgess pretrain`.
    LlmRecipe,
    /// A benchmark, for `burgess prompts`, `score`, `eval` and `rank`.
    Benchmark,
    /// A mix of training data, for `burgess data mix`.
    Mix,
    /// The settings of a workspace of the data engine, for `burgess data engine`.
    Engine,
}

impl FileKind {
    /// All kinds, in the order of the reference.
    pub const ALL: [Self; 8] =
        [Self::Study, Self::Run, Self::Benchmark, Self::Card, Self::LlmCard, Self::LlmRecipe, Self::Mix, Self::Engine];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Run => "run",
            Self::Card => "card",
            Self::LlmCard => "llm-card",
            Self::LlmRecipe => "llm-recipe",
            Self::Benchmark => "benchmark",
            Self::Mix => "mix",
            Self::Engine => "engine",
        }
    }

    /// Returns the heading in the reference.
    pub fn title(self) -> &'static str {
        match self {
            Self::Study => "Study (burgess rank STUDY.toml)",
            Self::Run => "Run (burgess train RUN.toml)",
            Self::Card => "Encoder card (encoders/zoo/*.toml)",
            Self::LlmCard => "Language-model card (probe/zoo/llms/*.toml)",
            Self::LlmRecipe => "Recipe of a language model (probe/zoo/*/recipe.toml, burgess pretrain)",
            Self::Benchmark => "Benchmark (benchmarks/*.toml beside a study, probe/bench/benchmarks/*.toml)",
            Self::Mix => "Mix of training data (burgess data mix MIX.toml, probe/data/mix/mixes/*.toml)",
            Self::Engine => "Workspace of the data engine (engine.toml, burgess data engine)",
        }
    }

    /// Returns the JSON schema (draft 7, which editors of TOML read) of such a file.
    pub fn schema(self) -> Value {
        let mut schema = self.derived();
        schema["title"] = json!(self.title());
        remove_own_keywords(&mut schema);
        schema
    }

    /// Returns the schema with the keywords that only the reference reads: `format` and `x-default`.
    fn derived(self) -> Value {
        let generator = SchemaSettings::draft07().into_generator();
        let schema = match self {
            Self::Study => generator.into_root_schema_for::<StudyConfig>(),
            Self::Run => generator.into_root_schema_for::<RunConfig>(),
            Self::Card => generator.into_root_schema_for::<EncoderCard>(),
            Self::LlmCard => generator.into_root_schema_for::<LlmCard>(),
            Self::LlmRecipe => generator.into_root_schema_for::<LlmRecipe>(),
            Self::Benchmark => generator.into_root_schema_for::<BenchmarkFile>(),
            Self::Mix => generator.into_root_schema_for::<Mix>(),
            Self::Engine => generator.into_root_schema_for::<EngineConfig>(),
        };
        let mut schema = schema.to_value();
        clean_descriptions(&mut schema);
        schema
    }
}

impl FromStr for FileKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let list = names.join(", ");
            Error::usage(format!("there is no schema called `{name}`")).hint(match nearest(name, names).first() {
                Some(near) => format!("did you mean `{near}`? Known: {list}"),
                None => format!("known: {list}"),
            })
        })
    }
}

/// Makes all descriptions readable outside Rust: without links to types, each paragraph in one line.
fn clean_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if let Some(Value::String(text)) = keywords.get_mut("description") {
                *text = without_links(text);
            }
            keywords.values_mut().for_each(clean_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(clean_descriptions),
        _ => {}
    }
}

/// Replaces the links of a doc comment by their text, and joins the lines of the first paragraph, which says what a key
/// is; further paragraphs address readers of the code.
fn without_links(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let mut rest = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        let after = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        out += &format!("{before}`{name}`");
        rest = after.to_string();
    }
    out + &rest
}

/// Removes the keywords that JSON schemas do not define.
fn remove_own_keywords(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            for own in ["format", "x-default"] {
                // A key of this name has a schema, not a text.
                if keywords.get(own).is_some_and(Value::is_string) {
                    keywords.remove(own);
                }
            }
            keywords.values_mut().for_each(remove_own_keywords);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_own_keywords),
        _ => {}
    }
}
