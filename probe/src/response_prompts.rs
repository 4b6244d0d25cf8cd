//! The option of a stage that appends response-format prompts to training questions.

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which response-format prompts are appended to training questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "ResponsePromptsForm", into = "ResponsePromptsForm")]
pub enum ResponsePrompts {
    /// None.
    #[default]
    Off,
    /// The paper's texts for the paper's sources.
    Paper,
    /// Texts by source.
    BySource(BTreeMap<String, String>),
}

impl ResponsePrompts {
    /// Returns whether no prompts are appended.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }

    /// Checks that sources and texts are not blank.
    pub(crate) fn check(&self) -> Result<()> {
        let Self::BySource(texts) = self else { return Ok(()) };
        let blank = texts.iter().find(|(source, text)| source.trim().is_empty() || text.trim().is_empty());
        match (texts.is_empty(), blank) {
            (true, _) => Err(Error::usage(
                "`response_prompts` is an empty table: name sources and their texts, or leave it out".to_string(),
            )),
            (_, Some((source, text))) => Err(Error::usage(format!(
                "`response_prompts`: the source `{source}` has the text `{text}`; neither may be blank"
            ))),
            _ => Ok(()),
        }
    }
}

/// [`ResponsePrompts`] as they are written: `true`, `false`, `"cambrian-1"`, or a table of texts by source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "expected true, false, \"cambrian-1\", or a table of texts by source")]
enum ResponsePromptsForm {
    /// Whether the paper's texts are appended.
    Switch(bool),
    /// The set of texts by its name.
    Named(PromptSet),
    /// Texts by source.
    BySource(BTreeMap<String, String>),
}

/// A published set of response-format prompts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
enum PromptSet {
    /// The texts and sources of the Cambrian-1 paper.
    #[serde(rename = "cambrian-1")]
    Cambrian1,
}

impl From<ResponsePromptsForm> for ResponsePrompts {
    fn from(form: ResponsePromptsForm) -> Self {
        match form {
            ResponsePromptsForm::Switch(false) => Self::Off,
            ResponsePromptsForm::Switch(true) | ResponsePromptsForm::Named(PromptSet::Cambrian1) => Self::Paper,
            ResponsePromptsForm::BySource(texts) => Self::BySource(texts),
        }
    }
}

impl From<ResponsePrompts> for ResponsePromptsForm {
    fn from(prompts: ResponsePrompts) -> Self {
        match prompts {
            ResponsePrompts::Off => Self::Switch(false),
            ResponsePrompts::Paper => Self::Named(PromptSet::Cambrian1),
            ResponsePrompts::BySource(texts) => Self::BySource(texts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Table {
        #[serde(default, skip_serializing_if = "ResponsePrompts::is_off")]
        prompts: ResponsePrompts,
    }

    #[test]
    fn prompts_are_a_switch_a_name_or_a_table() {
        let of = |text: &str| toml::from_str::<Table>(text).map(|t| t.prompts);
        let own = ResponsePrompts::BySource(BTreeMap::from([("vqa".to_string(), "One word.".to_string())]));
        for (text, expected) in [
            ("", ResponsePrompts::Off),
            ("prompts = false", ResponsePrompts::Off),
            ("prompts = true", ResponsePrompts::Paper),
            ("prompts = \"cambrian-1\"", ResponsePrompts::Paper),
            ("prompts = { vqa = \"One word.\" }", own),
        ] {
            let found = of(text);
            assert_eq!(found.as_ref(), Ok(&expected), "{text}");
            let written = serde_json::to_value(Table { prompts: expected.clone() }).unwrap_or_default();
            assert_eq!(written.get("prompts").is_none(), expected.is_off(), "the default leaves no trace");
            assert_eq!(serde_json::from_value::<Table>(written).map(|t| t.prompts).ok(), Some(expected));
        }
        for text in ["prompts = 3", "prompts = \"paper\"", "prompts = { vqa = 1 }", "prompts = [true]"] {
            let error = of(text).expect_err(text).to_string();
            assert!(error.contains("expected true, false, \"cambrian-1\", or a table of texts by source"), "{error}");
        }
    }
}
