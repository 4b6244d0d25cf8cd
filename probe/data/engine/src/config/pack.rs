//! `[pack]`: the form of the training data.

use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of the training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackFormat {
    /// LLaVA's: JSON lines of conversations, beside the folder of images.
    #[default]
    Llava,
    /// Webdataset: tar archives of images and conversations.
    Webdataset,
}

/// Training data, their card and their attribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PackConfig {
    /// Form of the training data: `llava` or `webdataset`.
    pub format: PackFormat,
    /// Name of the data set, in its card and in the ids of its entries.
    pub name: String,
    /// Value of `source` of each entry.
    pub source: String,
    /// Value of `kind` of each entry.
    pub kind: String,
    /// Whether images without a stated licence are left out.
    pub require_licence: bool,
    /// Whether an image that an earlier shard has (equal file or equal difference hash) is left out.
    pub unique_images: bool,
    /// Licence of the questions and answers, for the card: an id of the Hugging Face hub.
    pub licence: String,
}

impl Default for PackConfig {
    fn default() -> Self {
        Self {
            format: PackFormat::Llava,
            name: "data-engine".into(),
            source: "data-engine".into(),
            kind: "science".into(),
            require_licence: true,
            unique_images: true,
            licence: "other".into(),
        }
    }
}

impl PackConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, Error)> {
        for (key, value) in
            [("name", &self.name), ("source", &self.source), ("kind", &self.kind), ("licence", &self.licence)]
        {
            let good = !value.is_empty() && value.len() <= 100;
            if !good || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                let e = Error::usage(format!("`{key}` is `{value}`, must be letters, digits, `-`, `_` and `.`"));
                return Err((key, e));
            }
        }
        Ok(())
    }
}
