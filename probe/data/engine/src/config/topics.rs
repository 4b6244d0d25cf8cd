//! `[topics]`: where topics come from.

use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a language model is asked for topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicPrompt {
    /// One request per subfield, for titles of illustrated articles, as JSON of a given schema.
    #[default]
    Structured,
    /// The paper's: one request per field with all its subfields, for 20 sub-topics each, as JSON of any form.
    Paper,
}

/// Topics of subfields, by a language model or from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// File of fields and subfields, relative to the workspace: TOML, or lines `Field: subfield, subfield`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub fields: Option<PathBuf>,
    /// File of topics instead of fields: JSON lines with topic, field and subfield, or one topic per line. No endpoint
    /// is needed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub file: Option<PathBuf>,
    /// How the language model is asked: `structured`, or `paper` for the paper's prompt.
    pub prompt: TopicPrompt,
    /// Number of topics per subfield.
    pub per_subfield: usize,
    /// Smallest number of topics of a subfield with which the model is not asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub at_least: Option<usize>,
    /// Largest number of requests for a subfield, if replies are malformed or too short.
    pub asks: usize,
    /// Number of subfields in a shard; the shards of all further stages follow from it.
    pub subfields_per_shard: usize,
    /// Number of topics in a shard, if they come from a file.
    pub topics_per_shard: usize,
    /// Number of requests at the same time.
    pub workers: usize,
    /// Largest number of generated tokens of a reply.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Seed of the sampling, if the endpoint takes one.
    pub seed: u64,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            fields: None,
            file: None,
            prompt: TopicPrompt::Structured,
            per_subfield: 20,
            at_least: None,
            asks: 3,
            subfields_per_shard: 10,
            topics_per_shard: 200,
            workers: 4,
            max_tokens: 2048,
            temperature: 0.7,
            seed: 0,
        }
    }
}

impl TopicsConfig {
    /// Returns the smallest number of topics of a subfield with which the model is not asked again.
    pub fn least(&self) -> usize {
        self.at_least.unwrap_or(self.per_subfield.div_ceil(2))
    }

    pub(super) fn check(&self, may_be_empty: bool) -> Result<(), (&'static str, Error)> {
        let hint = "give one of them: `fields` for a language model, `file` for topics that exist";
        match (&self.fields, &self.file) {
            (None, None) if !may_be_empty => {
                return Err(("", Error::usage("[topics] has neither `fields` nor `file`").hint(hint)));
            }
            (Some(_), Some(_)) => {
                return Err(("file", Error::usage("[topics] has both `fields` and `file`").hint(hint)));
            }
            _ => {}
        }
        super::range("per_subfield", self.per_subfield, 1, 1000)?;
        super::range("asks", self.asks, 1, 20)?;
        super::range("subfields_per_shard", self.subfields_per_shard, 1, 100_000)?;
        super::range("topics_per_shard", self.topics_per_shard, 1, 1_000_000)?;
        super::range("workers", self.workers, 1, 1024)?;
        super::range("max_tokens", self.max_tokens as usize, 16, 1_000_000)?;
        if let Some(least) = self.at_least {
            super::range("at_least", least, 1, self.per_subfield)?;
        }
        super::temperature(self.temperature)
    }
}
