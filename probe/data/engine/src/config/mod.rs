//! `engine.toml`: the settings of a workspace.

mod budget;
mod located;
mod pack;
mod pages;
mod qa;
mod topics;

pub use budget::{Budget, thousands};
pub(crate) use located::parse as parse_toml;
pub use pack::{PackConfig, PackFormat};
pub use pages::PagesConfig;
pub use qa::{QaConfig, QaPrompt, QuestionKind};
pub use topics::{TopicPrompt, TopicsConfig};

use crate::fetch::FetchPolicy;
use crate::images::ImagesOptions;
use crate::llm::Endpoint;
use burgess_base::{Context, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in a workspace.
pub const FILE: &str = "engine.toml";

/// The settings of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// The language model that writes topics, questions and answers; not needed by the other stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub endpoint: Option<Endpoint>,
    /// Prices and limits of what the language model may cost.
    pub budget: Budget,
    /// Where topics come from.
    pub topics: TopicsConfig,
    /// Where pages come from, and what is read of them.
    pub pages: PagesConfig,
    /// How pages and images are fetched.
    pub fetch: FetchPolicy,
    /// Which images are kept.
    pub images: ImagesOptions,
    /// How questions and answers are written, and which are kept.
    pub qa: QaConfig,
    /// The form of the training data.
    pub pack: PackConfig,
}

impl EngineConfig {
    /// Parses and checks the text of an `engine.toml`; `file` is its name in messages.
    ///
    /// # Errors
    /// A key or a value is wrong; the message names the file, the line and the key.
    pub fn parse(toml: &str, file: &str) -> Result<Self> {
        let toml = toml.strip_prefix('\u{feff}').unwrap_or(toml);
        let config: Self = located::parse(toml, file)?;
        let at = |table: &'static str, e: (&'static str, Error)| located::at(e.1, toml, file, &[table, e.0]);
        if let Some(endpoint) = &config.endpoint {
            endpoint.check().map_err(|e| {
                let key = e.to_string().split('`').nth(1).unwrap_or_default().to_string();
                let path: Vec<&str> = std::iter::once("endpoint").chain(key.split('.')).collect();
                located::at(e, toml, file, &path)
            })?;
        }
        config.budget.check().map_err(|e| at("budget", e))?;
        config.topics.check(config.pages.needs_no_topics()).map_err(|e| at("topics", e))?;
        config.pages.check().map_err(|e| at("pages", e))?;
        let named = |table: &'static str, e: Error| {
            let key = e.to_string().split('`').nth(1).unwrap_or_default().to_string();
            located::at(e, toml, file, &[table, &key])
        };
        config.fetch.check().map_err(|e| named("fetch", e))?;
        config.images.check().map_err(|e| named("images", e))?;
        config.qa.check().map_err(|e| at("qa", e))?;
        config.pack.check().map_err(|e| at("pack", e))?;
        Ok(config)
    }

    /// Reads and checks the `engine.toml` of a workspace.
    ///
    /// # Errors
    /// The file does not exist, or as [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self> {
        let step = || format!("reading {}", path.display());
        let bytes = std::fs::read(path).with_context(step)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::usage("it is not UTF-8 text").hint("save it as UTF-8"))
            .with_context(step)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Returns the endpoint.
    ///
    /// # Errors
    /// The settings name none.
    pub fn endpoint(&self) -> Result<&Endpoint> {
        self.endpoint.as_ref().ok_or_else(|| {
            Error::usage("engine.toml has no table [endpoint], which says where the language model is").hint(
                "add [endpoint] with `url` and `model` of an OpenAI-compatible server, such as url = \
                 \"http://127.0.0.1:8000/v1\"",
            )
        })
    }
}

/// Checks that a number is within its range; the error carries the key.
fn range(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), (&'static str, Error)> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err((key, Error::usage(format!("`{key}` is {value}, must be between {least} and {most}")))),
    }
}

fn temperature(value: f64) -> Result<(), (&'static str, Error)> {
    match (0.0..=2.0).contains(&value) {
        true => Ok(()),
        false => Err(("temperature", Error::usage(format!("`temperature` is {value}, must be between 0 and 2")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_keys_and_values_are_named_with_their_lines() {
        for (toml, parts) in [
            ("[qa]\nworker = 3\n", &["e.toml:2: `worker = 3`", "unknown field `worker`"][..]),
            ("[topics]\nfile = \"t\"\n\n[qa]\nper_image = 0\n", &["e.toml:5: `per_image = 0`", "between 1 and 20"]),
            ("[topics]\nfields = \"f\"\nfile = \"t\"\n", &["e.toml:3", "both `fields` and `file`"]),
            ("[topics]\n", &["e.toml:1: `[topics]`", "neither `fields` nor `file`"]),
            ("[topics]\nfile = \"t\"\n[budget]\nmax_cost = 1\n", &["e.toml:4", "prices are 0"]),
            ("[endpoint]\nurl = \"http://h/v1\"\nmodel = \"m\"\ntemperature = 3.0\n", &["e.toml:4", "between 0 and 2"]),
            (
                "[endpoint]\nurl = \"http://h/v1\"\nmodel = \"m\"\nkey = \"sk-1\"\n",
                &["e.toml:4", "unknown field `key`"],
            ),
            ("[topics]\nfile = \"t\"\n[pack]\nname = \"a b\"\n", &["e.toml:4", "`name` is `a b`"]),
            ("[topics]\nfile = \"t\"\n[fetch]\ntries = 0\n", &["e.toml:4", "`tries` is 0"]),
            ("[topics]\nfile = \"t\"\n[images]\nmin_side = 0\n", &["e.toml:4", "`min_side` is 0"]),
            ("[qa]\nkinds = [\"why\"]\n", &["e.toml:2", "unknown variant `why`"]),
            ("[qa\n", &["e.toml:1"]),
        ] {
            let e = EngineConfig::parse(toml, "e.toml").expect_err(toml);
            let text = e.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{toml}: {text}");
        }
        let hint = EngineConfig::parse("[qa]\nworker = 3\n", "e").expect_err("unknown");
        assert_eq!(hint.hint_text(), Some("did you mean `workers`?"));
    }
}
