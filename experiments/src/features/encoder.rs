//! The card and the weights of an arm's encoder.

use crate::data::field;
use crate::features::oracle;
use crate::study::{ArmEncoder, EncoderWeights};
use burgess_base::{Result, digest};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::init::initialise;
use burgess_encoders::preprocess::Preparation;
use burgess_encoders::resolve;
use burn::tensor::Device;

impl ArmEncoder {
    /// Opens the encoder's card and applies its tap, grid and input options.
    ///
    /// # Errors
    /// There is no such encoder or no such layer, or the encoder is the oracle.
    pub fn card(&self, preparation: Preparation) -> Result<EncoderCard> {
        if self.is_oracle() {
            return Err(oracle::no_encoder());
        }
        let source = field::resolve(&self.source)?;
        let mut card = EncoderCard::open_under(&source, self.prefix.as_deref())?.prepared(preparation)?;
        self.tap.apply(&mut card);
        card.architecture.check_tap(&card.tap).map_err(|e| e.context(format!("tapping {self}")))?;
        self.input.apply(&mut card).map_err(|e| e.context(self.to_string()))?;
        Ok(card)
    }

    /// Digest of the weights that [`ArmEncoder::load`] loads.
    pub fn weights_digest(&self, card: &EncoderCard) -> Result<String> {
        match self.weights {
            EncoderWeights::Own => resolve::weights_digest(card, None),
            EncoderWeights::Random(seed) => digest::of_value(&("random", seed, &card.architecture)),
        }
    }

    /// Checks that the weights exist on this machine.
    ///
    /// # Errors
    /// They do not exist; the error says where they are expected and how to get them.
    pub fn find(&self, card: &EncoderCard) -> Result<()> {
        match self.weights {
            EncoderWeights::Own => resolve::weights_path(card).map(|_| ()),
            EncoderWeights::Random(_) => Ok(()),
        }
    }

    /// Checks that the weights fit the card, without loading them.
    ///
    /// # Errors
    /// As [`ArmEncoder::load`], except for values that are not finite, which are not detected.
    pub fn check_weights(&self, card: &EncoderCard) -> Result<()> {
        match self.weights {
            EncoderWeights::Own => Encoder::check(card, None),
            EncoderWeights::Random(_) => Ok(()),
        }
    }

    /// Loads the encoder onto a device; `card` must be the encoder's own.
    pub fn load(&self, card: EncoderCard, device: &Device) -> Result<Encoder> {
        match self.weights {
            EncoderWeights::Own => Encoder::load(card, None, device),
            EncoderWeights::Random(seed) => {
                let network = initialise(card.architecture.init(device)?, "control", seed);
                Encoder::new(card, network, device).in_precision_of_card()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::ORACLE;

    #[test]
    fn random_weights_are_those_of_their_seed() -> Result<()> {
        let device = Device::flex();
        let features = |text: &str| -> Result<Vec<f32>> {
            let encoder: ArmEncoder = text.parse()?;
            let card = encoder.card(Preparation::default())?;
            let image = image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([x as u8, y as u8, 90]));
            Ok(encoder.load(card, &device)?.encode(&[image], 1)?.values)
        };
        let own = features("nano-sup")?;
        let (zero, again, one) =
            (features("nano-sup@random")?, features("nano-sup@random=0")?, features("nano-sup@random=1")?);
        assert!(own != zero && zero == again && zero != one);
        let digest = |text: &str| -> Result<String> {
            let encoder: ArmEncoder = text.parse()?;
            encoder.weights_digest(&encoder.card(Preparation::default())?)
        };
        assert_ne!(digest("nano-sup@random")?, digest("nano-sup@random=1")?);
        assert_ne!(digest("nano-sup@random")?, digest("nano-sup")?);
        assert_eq!(features("nano-sup@grid=2")?.len() * 4, own.len());
        assert!(features("nano-sup@99").is_err());
        let oracle = ArmEncoder::plain(ORACLE).card(Preparation::default());
        assert!(oracle.is_err_and(|e| e.to_string().contains("no encoder")));
        Ok(())
    }
}
