//! `cards.json` in a saved model's directory: one card per encoder, in the order in which the connector reads them. The
//! cards say how images are preprocessed and encoded.

use crate::features::card::ArmCard;
use crate::features::frozen::EncoderFeatures;
use crate::features::oracle;
use crate::features::oracle::OracleCard;
use crate::study::ArmEncoder;
use burgess_base::{Error, Result, atomic, checksums};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::features::FeatureMap;
use burgess_encoders::preprocess::Orientation;
use burgess_encoders::transfer;
use burgess_probe::mllm::ImageBatch;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "cards.json";

/// One encoder of a model, with its card.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "ModelEncoderTable", into = "ModelEncoderTable")]
pub struct ModelEncoder {
    /// The encoder, as the arm names it.
    pub encoder: ArmEncoder,
    /// Card: everything about the encoder except its weights.
    pub card: ArmCard,
}

/// The serialised form of [`ModelEncoder`], with exactly one of `card` and `oracle`.
#[derive(Serialize, Deserialize)]
struct ModelEncoderTable {
    encoder: ArmEncoder,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<EncoderCard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oracle: Option<OracleCard>,
}

impl TryFrom<ModelEncoderTable> for ModelEncoder {
    type Error = String;

    fn try_from(ModelEncoderTable { encoder, card, oracle }: ModelEncoderTable) -> std::result::Result<Self, String> {
        let card = match (card, oracle, encoder.is_oracle()) {
            (Some(card), None, false) => ArmCard::Encoder(card),
            (None, Some(card), true) => ArmCard::Oracle(card),
            (_, _, true) => return Err(format!("the encoder `{encoder}` needs a table `oracle` and no `card`")),
            (_, _, false) => return Err(format!("the encoder `{encoder}` needs a `card` and no table `oracle`")),
        };
        Ok(Self { encoder, card })
    }
}

impl From<ModelEncoder> for ModelEncoderTable {
    fn from(ModelEncoder { encoder, card }: ModelEncoder) -> Self {
        let (card, oracle) = match card {
            ArmCard::Encoder(card) => (Some(card), None),
            ArmCard::Oracle(card) => (None, Some(card)),
        };
        Self { encoder, card, oracle }
    }
}

impl ModelEncoder {
    /// Creates the entry of an encoder with the weights of its card.
    pub fn of_card(card: EncoderCard) -> Self {
        Self { encoder: ArmEncoder::plain(card.id.clone()), card: ArmCard::Encoder(card) }
    }

    /// Computes the features of one image. The encoder is loaded for this call only.
    fn features(&self, image: &RgbImage, device: &Device) -> Result<FeatureMap> {
        let encoder = self.encoder.load(self.card.encoder()?.clone(), device)?;
        Ok(encoder.encode_batch(std::slice::from_ref(image), &|_| "the image".into())?.features)
    }
}

fn pixels(card: &EncoderCard, image: &RgbImage, device: &Device) -> Result<Tensor<4>> {
    card.check_trainable()?;
    Ok(card.preprocess.pixels(std::slice::from_ref(image), device))
}

/// Prepares an image for a model with these encoders: pixels if the model holds `trained` encoders itself, else
/// features. Encoders are loaded one at a time, and dropped.
///
/// # Errors
/// The weights of an encoder are not on this machine, or the model has the oracle, which reads no images.
pub fn image_batch(image: &RgbImage, encoders: &[ModelEncoder], trained: bool, device: &Device) -> Result<ImageBatch> {
    match trained {
        true => {
            let pixels = encoders.iter().map(|e| pixels(e.card.encoder()?, image, device));
            pixels.collect::<Result<_>>().map(ImageBatch::Pixels)
        }
        false => encoders.iter().map(|e| e.features(image, device)).collect::<Result<_>>().map(ImageBatch::FeatureMaps),
    }
}

/// As [`image_batch`], for an image without content: for the oracle, every cell shows background.
///
/// # Errors
/// As [`image_batch`].
pub fn blank_batch(image: &RgbImage, encoders: &[ModelEncoder], trained: bool, device: &Device) -> Result<ImageBatch> {
    match encoders {
        [ModelEncoder { card: ArmCard::Oracle(card), .. }] => {
            let shape = [1, card.grid[0] * card.grid[1], card.width];
            let tokens = transfer::to_device(TensorData::new(oracle::background(card), shape), device);
            Ok(ImageBatch::FeatureMaps(vec![FeatureMap { tokens, grid: card.grid }]))
        }
        _ => image_batch(image, encoders, trained, device),
    }
}

/// Returns how the EXIF orientation of images is applied: as the first card states, because all encoders of a model
/// read the same images.
pub fn orientation<'a>(mut cards: impl Iterator<Item = &'a ArmCard>) -> Orientation {
    cards.next().map(ArmCard::orientation).unwrap_or_default()
}

/// Lists the encoders of a run for `cards.json`.
pub fn model_encoders(encoders: &[EncoderFeatures]) -> Vec<ModelEncoder> {
    let entry = |part: &EncoderFeatures| {
        let mut card = part.card.clone();
        if let ArmCard::Encoder(card) = &mut card {
            // The pretraining recipe does not affect what the encoder computes.
            card.pretrain = None;
        }
        ModelEncoder { encoder: part.encoder.clone(), card }
    };
    encoders.iter().map(entry).collect()
}

/// Writes `cards.json` beside the model of a run, unless it exists.
pub fn write(dir: &Path, encoders: &[EncoderFeatures]) -> Result<()> {
    let file = dir.join(FILE);
    if file.is_file() {
        return Ok(());
    }
    // A model of an earlier version has no list of checksums. A new list with this file alone would make the model
    // count as verified although its other files were never checked.
    match dir.join(checksums::FILE).is_file() {
        true => checksums::write_json(dir, FILE, &model_encoders(encoders)),
        false => atomic::write_json(&file, &model_encoders(encoders)),
    }
}

/// Reads and validates the encoders of the model in `dir`.
pub fn read(dir: &Path) -> Result<Vec<ModelEncoder>> {
    if !dir.join(FILE).is_file() {
        return Err(Error::failed(format!("{} has no {FILE}, which describes its encoders", dir.display()))
            .hint("run the study again: finished work is kept, and the file is written"));
    }
    let encoders: Vec<ModelEncoder> = atomic::read_json(&dir.join(FILE))?;
    for entry in &encoders {
        // Apply the same validation as to cards of the zoo and of directories.
        let step = || format!("{}: the card of {}", dir.join(FILE).display(), entry.encoder);
        entry.card.validate().map_err(|e| e.context(step()))?;
    }
    Ok(encoders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::ORACLE;

    #[test]
    fn the_oracle_is_written_without_a_card_and_reads_no_images() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let card = ArmCard::Oracle(OracleCard::new([2, 3], "0305"));
        let entry = ModelEncoder { encoder: ArmEncoder::plain(ORACLE), card: card.clone() };
        atomic::write_json(&dir.path().join(FILE), &[&entry])?;
        let mut read_back = read(dir.path())?;
        assert_eq!(read_back.pop().map(|e| e.card), Some(card));
        let written = serde_json::to_value(&entry)?;
        assert_eq!(written["oracle"]["truth"], "0305");
        assert!(written.get("card").is_none(), "{written}");
        for (key, value) in [("encoder", "nano-clip".into()), ("oracle", serde_json::Value::Null)] {
            let mut wrong = written.clone();
            wrong[key] = value;
            atomic::write_json(&dir.path().join(FILE), &[wrong])?;
            assert!(read(dir.path()).is_err_and(|e| e.to_string().contains("needs a")), "{key}");
        }
        let device = Device::flex();
        let image = RgbImage::new(8, 8);
        let encoders = [entry];
        assert!(image_batch(&image, &encoders, false, &device).is_err_and(|e| e.to_string().contains("no encoder")));
        match blank_batch(&image, &encoders, false, &device)? {
            ImageBatch::FeatureMaps(maps) => assert_eq!(maps[0].tokens.dims(), [1, 6, oracle::WIDTH]),
            _ => return Err(Error::failed("expected features of the oracle")),
        }
        Ok(())
    }

    #[test]
    fn absurd_cards_of_a_saved_model_are_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let good = serde_json::to_value([ModelEncoder::of_card(EncoderCard::find("nano-clip")?)])?;
        let say = |at: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            let (table, key) = at.rsplit_once('/').unwrap_or_default();
            if let Some(table) = changed.pointer_mut(table).and_then(serde_json::Value::as_object_mut) {
                table.insert(key.to_string(), value);
            }
            atomic::write_json(&dir.path().join(FILE), &changed)?;
            read(dir.path()).map(|_| ())
        };
        say("/nowhere", serde_json::Value::Null)?;
        for (at, value) in [
            ("/0/card/preprocess/size", serde_json::json!(1_000_000_000_000_u64)),
            ("/0/card/preprocess/crop_pct", serde_json::json!(0.0)),
            ("/0/card/preprocess/crop_pct", serde_json::json!(-1.0)),
            ("/0/card/architecture/patch", serde_json::json!(0)),
            ("/0/card/architecture/depth", serde_json::json!(10_000_000)),
            ("/0/card/architecture/width", serde_json::json!(1_000_000_000)),
            ("/0/card/grid", serde_json::json!([100_000, 100_000])),
        ] {
            let error = say(at, value).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(FILE), "{at}: {error}");
        }
        Ok(())
    }
}
