//! Model cards of published language models (`zoo/llms/`): their facts without their weights.

use super::config::LlmConfig;
use burgess_base::{Error, Result};
use serde::Deserialize;

/// File stem and TOML text of every card.
const CARDS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/llms.rs"));

/// The card of one published language model: facts about it without its weights.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LlmCard {
    /// The stem of the card's file.
    pub id: String,
    /// The repository on the Hugging Face hub, by which studies name the model.
    pub hub: String,
    /// Licence of the weights.
    pub licence: String,
    /// The chat template that Cambrian-1 uses with the model, or `model` for the model's own.
    pub chat: String,
    /// Number of parameters, with the output head if it is not tied.
    pub parameters: u64,
    /// The decoder configuration, as in the model's `config.json`.
    pub config: LlmConfig,
}

impl LlmCard {
    /// Reads all cards, ordered by id.
    ///
    /// # Errors
    /// When a card is invalid.
    pub fn all() -> Result<Vec<Self>> {
        let read = |(id, text): &(&str, &str)| {
            toml::from_str(text).map_err(|e| Error::failed(e.to_string()).context(format!("reading the card {id}")))
        };
        CARDS.iter().map(read).collect()
    }

    /// Finds a card by its repository or its id.
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
