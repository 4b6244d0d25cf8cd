//! The training data of a study and where they come from.

use crate::study::paths;
use burgess_base::Result;
use burgess_field::FieldSpec;
use burgess_world::dataset::WorldSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The source of training data and benchmarks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum DataSource {
    /// The nano world, rendered on this machine from a seed.
    World(WorldSpec),
    /// Images composed from real stamps and photographs, as `burgess data field` prepares them.
    Field(FieldSpec),
    /// A directory with `align.jsonl`, `tune.jsonl` (or `.json`, also with `.gz` or `.zst`) and `bench/`.
    Directory(PathBuf),
    /// Conversations and images in any place; without benchmarks.
    Files(ConversationFiles),
    /// The data of a published study, by their names on the hub.
    Published(PublishedData),
}

/// Training data in LLaVA's format, as separate paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConversationFiles {
    /// File of the align stage's conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<PathBuf>,
    /// File of the tune stage's conversations.
    pub tune: PathBuf,
    /// Directory to which the image names in the conversations are relative.
    #[serde(alias = "pictures")]
    pub images: PathBuf,
}

/// The training data of a published study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedData {
    /// Conversations of the align stage (adapter data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<PublishedCorpus>,
    /// Conversations of the tune stage (instruction data).
    pub tune: PublishedCorpus,
    /// Directory of the images, unpacked as the dataset cards say, and of `bench/` with the benchmarks. Default:
    /// `published/` in the cache of Burgess.
    #[serde(default, alias = "pictures", skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

/// One file of conversations in a dataset repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedCorpus {
    /// Repository of the dataset on the hub.
    pub repository: String,
    /// Path of the file in the repository.
    pub file: String,
    /// Number of conversations that are used, for estimates.
    pub samples: u64,
    /// Mean number of text tokens of a conversation, for estimates.
    pub text_tokens: usize,
    /// Largest number of conversations with an image per source, drawn with a fixed seed; conversations without an
    /// image are all used (the paper's threshold t, section 4.2). All are used if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<usize>,
}

impl DataSource {
    /// Resolves the paths, see [`paths::locate`].
    ///
    /// # Errors
    /// A path does not exist.
    pub fn resolve_paths(&mut self, folder: Option<&Path>) -> Result<()> {
        match self {
            Self::World(_) | Self::Field(_) => {}
            Self::Directory(dir) => *dir = paths::locate(folder, dir, "the data directory")?,
            Self::Files(files) => {
                if let Some(align) = &mut files.align {
                    *align = paths::locate(folder, align, "the file of conversations `align` =")?;
                }
                files.tune = paths::locate(folder, &files.tune, "the file of conversations `tune` =")?;
                files.images = paths::locate(folder, &files.images, "the directory of images `images` =")?;
            }
            Self::Published(published) => {
                if let Some(dir) = &mut published.images {
                    // Missing published data are reported with everything else that must be fetched.
                    *dir = paths::locate(folder, dir, "").unwrap_or_else(|_| dir.clone());
                }
            }
        }
        Ok(())
    }
}
