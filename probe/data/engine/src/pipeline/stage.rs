//! The stages and the names of their files.

use burgess_base::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A stage of the engine; each reads what the one before it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Topics of subfields, by a language model or from a file.
    Topics,
    /// Pages about the topics: text, figures, captions.
    Pages,
    /// The images of the pages.
    Images,
    /// Questions and answers about the images, by a language model.
    Qa,
    /// The training data: conversations, data card, attribution.
    Pack,
}

impl Stage {
    /// All stages in their order.
    pub const ALL: [Self; 5] = [Self::Topics, Self::Pages, Self::Images, Self::Qa, Self::Pack];

    /// Returns the name, which is that of the stage's directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Pages => "pages",
            Self::Images => "images",
            Self::Qa => "qa",
            Self::Pack => "pack",
        }
    }

    /// Returns the ending of the files of rejections. In the folder of the training data a reader would take files that
    /// end in `.jsonl` for data.
    pub fn rejected_ending(self) -> &'static str {
        match self {
            Self::Pack => ".rejected",
            Self::Topics | Self::Pages | Self::Images | Self::Qa => ".rejected.jsonl",
        }
    }

    /// Returns the stage whose files this one reads.
    pub fn previous(self) -> Option<Self> {
        match self {
            Self::Topics => None,
            Self::Pages => Some(Self::Topics),
            Self::Images => Some(Self::Pages),
            Self::Qa => Some(Self::Images),
            Self::Pack => Some(Self::Qa),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text).ok_or_else(|| {
            Error::usage(format!("there is no stage `{text}`")).hint("the stages are topics, pages, images, qa, pack")
        })
    }
}

/// Returns the beginning of the names of a shard's files: `shard-00000`.
pub fn shard_name(shard: usize) -> String {
    format!("shard-{shard:05}")
}

/// Returns the number of a shard from the name of one of its files.
pub fn shard_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("shard-")?.split('.').next()?;
    (digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}
