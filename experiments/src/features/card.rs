//! The cards of arms' encoders, which describe them without their weights: of a network, or of the oracle.

use crate::data;
use crate::features::oracle;
use crate::features::oracle::{GroundTruth, OracleCard};
use crate::study::{ArmEncoder, DataSource, EncoderWeights, EvaluatorConfig, Freeze, ORACLE};
use burgess_base::{Error, Result};
use burgess_encoders::card::{EncoderCard, Supervision};
use burgess_encoders::preprocess::{Orientation, Preparation};
use burgess_reports::schema::ArmRole;
use burgess_world::CELLS;
use std::path::Path;

/// The card of an arm's encoder: that of a network, or that of the oracle.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum ArmCard {
    /// Card of a network that reads images.
    Encoder(EncoderCard),
    /// Card of the oracle, which reads the ground truth of the data.
    Oracle(OracleCard),
}

impl ArmCard {
    /// Makes the card of an encoder for the data in the directory `data`; the encoder's tap and grid are applied.
    ///
    /// # Errors
    /// There is no such encoder, or the data have no ground truth for the oracle.
    pub fn of(encoder: &ArmEncoder, preparation: Preparation, data: &Path) -> Result<Self> {
        match encoder.is_oracle() {
            true => Ok(Self::Oracle(GroundTruth::read(data)?.card())),
            false => Ok(Self::Encoder(encoder.card(preparation)?)),
        }
    }

    /// As [`ArmCard::of`], for the data of an evaluator, which may be a world that is not rendered yet.
    ///
    /// # Errors
    /// As [`ArmCard::of`].
    pub fn planned(encoder: &ArmEncoder, evaluator: &EvaluatorConfig) -> Result<Self> {
        let preparation = evaluator.preparation();
        match (data::image_directory(&evaluator.data)?, &evaluator.data) {
            _ if !encoder.is_oracle() => Ok(Self::Encoder(encoder.card(preparation)?)),
            (Some(dir), _) => Self::of(encoder, preparation, &dir),
            (None, DataSource::World(_)) => Ok(Self::Oracle(OracleCard::new([CELLS; 2], ""))),
            (None, _) => Err(Error::failed(
                "the oracle cannot be planned: the data with its ground truth are not on this machine",
            )
            .hint("leave the oracle out, or get the data first")),
        }
    }

    /// Returns the card for evaluation on the data in `data`; only the oracle's card depends on the data.
    ///
    /// # Errors
    /// `data` has no ground truth for the oracle, or the ground truth has another grid than that of the training data.
    pub fn for_data(&self, data: &Path) -> Result<Self> {
        let Self::Oracle(trained) = self else { return Ok(self.clone()) };
        let here = GroundTruth::read(data)?.card();
        match here.grid == trained.grid {
            true => Ok(Self::Oracle(here)),
            false => Err(Error::failed(format!(
                "the grid of {} is {:?}, the model was trained on {:?}",
                data.join(oracle::FILE).display(),
                here.grid,
                trained.grid
            ))
            .hint("evaluate on data whose ground truth has the same grid as that of the training data")),
        }
    }

    /// Returns the card of the network.
    ///
    /// # Errors
    /// The card is that of the oracle, which has no network.
    pub fn encoder(&self) -> Result<&EncoderCard> {
        match self {
            Self::Encoder(card) => Ok(card),
            Self::Oracle(_) => Err(oracle::no_encoder()),
        }
    }

    /// Id of the encoder in messages and results.
    pub fn id(&self) -> &str {
        match self {
            Self::Encoder(card) => &card.id,
            Self::Oracle(_) => ORACLE,
        }
    }

    /// Assumptions and other notes, which are listed with the results.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Encoder(card) => card.notes.clone(),
            Self::Oracle(card) => card.notes(),
        }
    }

    /// Number of channels of the features.
    ///
    /// # Errors
    /// The network cannot be tapped as the card says.
    pub fn width(&self) -> Result<usize> {
        match self {
            Self::Encoder(card) => card.width(),
            Self::Oracle(card) => Ok(card.width),
        }
    }

    /// Grid of the features as the encoder gives them, `[rows, columns]`.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn native_grid(&self) -> Result<[usize; 2]> {
        match self {
            Self::Encoder(card) => card.native_grid(),
            Self::Oracle(card) => Ok(card.grid),
        }
    }

    /// Grid of the features as the connector reads them, `[rows, columns]`.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn used_grid(&self) -> Result<[usize; 2]> {
        match self {
            Self::Encoder(card) => card.used_grid(),
            Self::Oracle(card) => Ok(card.grid),
        }
    }

    /// Number of parameters; 0 for the oracle.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Encoder(card) => card.source.parameters,
            Self::Oracle(_) => 0,
        }
    }

    /// Floating-point operations (FLOPs) per image; 0 for the oracle.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn flops(&self) -> Result<u64> {
        match self {
            Self::Encoder(card) => card.flops(),
            Self::Oracle(_) => Ok(0),
        }
    }

    /// How the orientation in images' EXIF data is applied; all encoders of a model read the same images.
    pub fn orientation(&self) -> Orientation {
        match self {
            Self::Encoder(card) => card.preprocess.orientation(),
            Self::Oracle(_) => Orientation::default(),
        }
    }

    /// Checks a card that was read from a file.
    ///
    /// # Errors
    /// A value of the card is invalid; the error names the first.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Encoder(card) => card.validate(),
            Self::Oracle(card) => card.validate(),
        }
    }
}

/// Returns the role of an arm with these encoders. Untrained encoders are the random baseline only while they are
/// frozen: unfrozen ones are trained in the tune stage.
pub fn role<'a>(encoders: impl IntoIterator<Item = (&'a ArmEncoder, &'a ArmCard)>, freeze: Freeze) -> ArmRole {
    let mut untrained = freeze == Freeze::Frozen;
    for (encoder, card) in encoders {
        match card {
            ArmCard::Oracle(_) => return ArmRole::Oracle,
            ArmCard::Encoder(card) => {
                let random = matches!(encoder.weights, EncoderWeights::Random(_));
                untrained &= random || card.supervision == Supervision::None;
            }
        }
    }
    if untrained { ArmRole::Random } else { ArmRole::Trained }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Arm;

    #[test]
    fn arms_have_roles() -> Result<()> {
        let role_of = |text: &str| -> Result<ArmRole> {
            let arm = Arm::parse(text)?;
            let cards = arm.encoders.iter().map(|e| match e.is_oracle() {
                true => Ok(ArmCard::Oracle(OracleCard::new([6, 6], ""))),
                false => Ok(ArmCard::Encoder(e.card(Preparation::default())?)),
            });
            let cards = cards.collect::<Result<Vec<_>>>()?;
            Ok(role(arm.encoders.iter().zip(&cards), arm.freeze))
        };
        for (text, expected) in [
            ("nano-clip", ArmRole::Trained),
            ("nano-random", ArmRole::Random),
            ("nano-clip@random=1", ArmRole::Random),
            ("nano-random+nano-clip@random", ArmRole::Random),
            ("nano-random+nano-clip", ArmRole::Trained),
            ("nano-random:unfrozen", ArmRole::Trained),
            ("oracle", ArmRole::Oracle),
        ] {
            assert_eq!(role_of(text)?, expected, "{text}");
        }
        Ok(())
    }
}
