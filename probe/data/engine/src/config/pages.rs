//! `[pages]`: where pages come from, and what is read of them.

use crate::pages::PagesOptions;
use crate::sources::SourceConfig;
use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where pages come from, and what is read of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagesConfig {
    /// The source: a wiki's search, dumps, crawls or a folder. Its files are relative to the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub source: Option<SourceConfig>,
    /// What is read of a page, and which of its sections are kept.
    pub keep: PagesOptions,
    /// Number of shards, for sources of files that are read without topics.
    pub shards: usize,
    /// Number of topics that are searched at the same time; the number of requests per second to a host is that of
    /// `[fetch]` all the same.
    pub workers: usize,
}

impl Default for PagesConfig {
    fn default() -> Self {
        Self { source: None, keep: PagesOptions::default(), shards: 1, workers: 2 }
    }
}

impl PagesConfig {
    /// Returns the source.
    ///
    /// # Errors
    /// The settings name none.
    pub fn source(&self) -> Result<&SourceConfig> {
        self.source.as_ref().ok_or_else(|| {
            Error::usage("engine.toml has no table [pages.source], which says where pages come from").hint(
                "add [pages.source] with kind = \"mediawiki\" and `api`, or kind = \"wiki-dump\", \"structured\", \
                 \"html-folder\", \"warc\" or \"wikiweb2m\" with their files",
            )
        })
    }

    /// Whether the source can be read without topics.
    pub(super) fn needs_no_topics(&self) -> bool {
        self.source.as_ref().is_some_and(|source| !matches!(source, SourceConfig::Mediawiki { .. }))
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, Error)> {
        super::range("shards", self.shards, 1, 1_000_000)?;
        super::range("workers", self.workers, 1, 1024)
    }
}
