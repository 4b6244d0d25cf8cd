//! What is known of an arm's encoder without its weights: the card of a network, or that of the oracle.

use crate::arm::{ArmEncoder, Freeze, Weights};
use crate::data;
use crate::oracle::{self, OracleCard, Truth};
use crate::study::{Data, Evaluator};
use burgess_base::{Error, Result};
use burgess_encoders::card::{EncoderCard, Supervision};
use burgess_encoders::preprocess::{Orientation, Preparation};
use burgess_reports::schema::Role;
use burgess_world::CELLS;
use std::path::Path;

/// What gives an arm its features.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum ArmCard {
    /// A network that reads images.
    Encoder(EncoderCard),
    /// The ground truth of the data.
    Oracle(OracleCard),
}

impl ArmCard {
    /// The card of an encoder for the data in the directory `data`, with its tap and grid.
    ///
    /// # Errors
    /// There is no such encoder, or no ground truth for the oracle.
    pub fn of(encoder: &ArmEncoder, how: Preparation, data: &Path) -> Result<Self> {
        match encoder.is_oracle() {
            true => Ok(Self::Oracle(Truth::read(data)?.card())),
            false => Ok(Self::Encoder(encoder.card(how)?)),
        }
    }

    /// As [`ArmCard::of`] for the data of an evaluator, which may be a world that is not rendered yet.
    ///
    /// # Errors
    /// As [`ArmCard::of`].
    pub fn planned(encoder: &ArmEncoder, evaluator: &Evaluator) -> Result<Self> {
        let how = evaluator.preparation();
        match (data::directory(&evaluator.data)?, &evaluator.data) {
            _ if !encoder.is_oracle() => Ok(Self::Encoder(encoder.card(how)?)),
            (Some(dir), _) => Self::of(encoder, how, &dir),
            (None, Data::World(_)) => Ok(Self::Oracle(OracleCard::new([CELLS; 2], ""))),
            (None, _) => {
                Err(Error::failed("the oracle's ground truth is not known before the data are on this machine")
                    .hint("leave the oracle out, or get the data first"))
            }
        }
    }

    /// The card with the data in the directory `data` in the place of those that the model was trained on.
    ///
    /// # Errors
    /// The oracle finds no ground truth there, or one of another grid.
    pub fn on(&self, data: &Path) -> Result<Self> {
        let Self::Oracle(trained) = self else { return Ok(self.clone()) };
        let here = Truth::read(data)?.card();
        match here.grid == trained.grid {
            true => Ok(Self::Oracle(here)),
            false => Err(Error::failed(format!(
                "the grid of {} is {:?}, the model was trained on {:?}",
                data.join(oracle::FILE).display(),
                here.grid,
                trained.grid
            ))
            .hint("--data names a directory whose ground truth has the grid of the training data's")),
        }
    }

    /// The card of the network.
    ///
    /// # Errors
    /// There is none: it is the oracle.
    pub fn encoder(&self) -> Result<&EncoderCard> {
        match self {
            Self::Encoder(card) => Ok(card),
            Self::Oracle(_) => Err(oracle::no_encoder()),
        }
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        match self {
            Self::Encoder(card) => &card.id,
            Self::Oracle(_) => oracle::NAME,
        }
    }

    /// What is assumed of it, or to be known beside its results.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Encoder(card) => card.notes.clone(),
            Self::Oracle(card) => card.notes(),
        }
    }

    /// Channels of the features.
    ///
    /// # Errors
    /// A network cannot be tapped as its card says.
    pub fn width(&self) -> Result<usize> {
        match self {
            Self::Encoder(card) => card.architecture.width(&card.tap),
            Self::Oracle(card) => Ok(card.width),
        }
    }

    /// `[rows, columns]` of the features as they leave the encoder.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn native_grid(&self) -> Result<[usize; 2]> {
        match self {
            Self::Encoder(card) => card.native_grid(),
            Self::Oracle(card) => Ok(card.grid),
        }
    }

    /// `[rows, columns]` of the features as they are used.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn used_grid(&self) -> Result<[usize; 2]> {
        match self {
            Self::Encoder(card) => card.used_grid(),
            Self::Oracle(card) => Ok(card.grid),
        }
    }

    /// Number of parameters; the oracle has none.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Encoder(card) => card.source.parameters,
            Self::Oracle(_) => 0,
        }
    }

    /// Floating-point operations for the features of one image; the oracle does none.
    ///
    /// # Errors
    /// As [`ArmCard::width`].
    pub fn flops(&self) -> Result<u64> {
        match self {
            Self::Encoder(card) => card.architecture.flops(&card.tap),
            Self::Oracle(_) => Ok(0),
        }
    }

    /// What is done with the orientation in images' EXIF data: all encoders of a model read the same images.
    pub fn orientation(&self) -> Orientation {
        match self {
            Self::Encoder(card) => card.preprocess.orientation(),
            Self::Oracle(_) => Orientation::default(),
        }
    }

    /// Checks a card that was read from a file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Encoder(card) => card.validate(),
            Self::Oracle(card) => card.validate(),
        }
    }
}

/// What an arm of these encoders stands for. Untrained encoders are the random baseline only while they are frozen: unfrozen
/// ones are trained in the tune stage.
pub fn role<'a>(encoders: impl IntoIterator<Item = (&'a ArmEncoder, &'a ArmCard)>, freeze: Freeze) -> Role {
    let mut untrained = freeze == Freeze::Frozen;
    for (encoder, card) in encoders {
        match card {
            ArmCard::Oracle(_) => return Role::Oracle,
            ArmCard::Encoder(card) => {
                let drawn = matches!(encoder.weights, Weights::Random(_));
                untrained &= drawn || card.supervision == Supervision::None;
            }
        }
    }
    if untrained { Role::Random } else { Role::Trained }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::Arm;

    #[test]
    fn arms_have_roles() -> Result<()> {
        let role_of = |text: &str| -> Result<Role> {
            let arm = Arm::parse(text)?;
            let cards = arm.encoders.iter().map(|e| match e.is_oracle() {
                true => Ok(ArmCard::Oracle(OracleCard::new([6, 6], ""))),
                false => Ok(ArmCard::Encoder(e.card(Preparation::default())?)),
            });
            let cards = cards.collect::<Result<Vec<_>>>()?;
            Ok(role(arm.encoders.iter().zip(&cards), arm.freeze))
        };
        for (text, expected) in [
            ("nano-clip", Role::Trained),
            ("nano-random", Role::Random),
            ("nano-clip@random=1", Role::Random),
            ("nano-random+nano-clip@random", Role::Random),
            ("nano-random+nano-clip", Role::Trained),
            ("nano-random:unfrozen", Role::Trained),
            ("oracle", Role::Oracle),
        ] {
            assert_eq!(role_of(text)?, expected, "{text}");
        }
        Ok(())
    }
}
