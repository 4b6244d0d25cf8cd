//! What is known of published language models without their weights: the files of `zoo/llms/`.

use super::config::LlmConfig;
use burgess_base::{Error, Result};
use serde::Deserialize;

/// Name and text of every card.
const CARDS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/llms.rs"));

/// One language model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmCard {
    /// The name of its file.
    pub id: String,
    /// Its repository on the hub, by which studies name it.
    pub hub: String,
    /// Licence of the weights.
    pub licence: String,
    /// The chat template that Cambrian-1 uses with it, or `model` for its own.
    pub chat: String,
    /// Numbers in its weights.
    pub parameters: u64,
    /// As in its `config.json`.
    pub config: LlmConfig,
}

impl LlmCard {
    /// All cards, by id.
    ///
    /// # Errors
    /// A card is unsound; the tests read them all.
    pub fn all() -> Result<Vec<Self>> {
        let read = |(id, text): &(&str, &str)| {
            toml::from_str(text).map_err(|e| Error::failed(e.to_string()).context(format!("the card {id}")))
        };
        CARDS.iter().map(read).collect()
    }

    /// The card of a repository, or of a card's id.
    ///
    /// # Errors
    /// As [`LlmCard::all`].
    pub fn find(name: &str) -> Result<Option<Self>> {
        Ok(Self::all()?.into_iter().find(|c| c.hub == name || c.id == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_sound_and_counts_its_parameters() -> Result<()> {
        let cards = LlmCard::all()?;
        assert_eq!(cards.len(), CARDS.len());
        for (card, (name, _)) in cards.iter().zip(CARDS) {
            card.config.check()?;
            assert_eq!((card.id.as_str(), card.config.parameters() as u64), (*name, card.parameters));
        }
        assert!(LlmCard::find("lmsys/vicuna-7b-v1.5")?.is_some_and(|c| c.id == "vicuna-7b"));
        Ok(())
    }
}
