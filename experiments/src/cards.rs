//! What a saved model's pictures go through: `cards.json` in its directory, a card for each encoder in the order in which
//! the model reads them.

use crate::arm::ArmEncoder;
use crate::training::Part;
use burgess_base::{Error, Result, atomic, checksums};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::preprocess::Orientation;
use burgess_probe::mllm::Visual;
use burn::tensor::Device;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "cards.json";

/// One encoder of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tower {
    /// As the arm names it.
    pub encoder: ArmEncoder,
    /// Everything about it but its weights.
    pub card: EncoderCard,
}

impl Tower {
    /// An encoder with its own weights.
    pub fn own(card: EncoderCard) -> Self {
        Self { encoder: ArmEncoder::plain(card.id.clone()), card }
    }
}

/// A picture as a model with these encoders sees it: pixels, if it has `trained` them and holds them itself, else features.
/// Encoders are loaded one after the other, and let go.
///
/// # Errors
/// The weights of an encoder are not on this machine.
pub fn visual<'a>(
    picture: &RgbImage,
    encoders: impl Iterator<Item = (&'a ArmEncoder, &'a EncoderCard)>,
    trained: bool,
    device: &Device,
) -> Result<Visual> {
    let prepared = encoders.map(|(e, card)| (e, card, card.preprocess.pixels(std::slice::from_ref(picture), device)));
    if trained {
        return Ok(Visual::Pixels(prepared.map(|(_, _, pixels)| pixels).collect()));
    }
    let features = prepared.map(|(e, card, pixels)| e.load(card.clone(), device)?.forward(pixels));
    features.collect::<Result<_>>().map(Visual::Towers)
}

/// What is done with the orientation in pictures' EXIF data: all encoders of a model read the same pictures.
pub fn orientation<'a>(mut cards: impl Iterator<Item = &'a EncoderCard>) -> Orientation {
    cards.next().map(|card| card.preprocess.orientation()).unwrap_or_default()
}

/// The encoders of a run.
pub fn towers(parts: &[Part]) -> Vec<Tower> {
    let tower = |part: &Part| {
        // How it was trained says nothing about what it computes.
        let card = EncoderCard { pretrain: None, ..part.card.clone() };
        Tower { encoder: part.encoder.clone(), card }
    };
    parts.iter().map(tower).collect()
}

/// Writes the encoders of a run beside its model, unless they are there.
pub fn write(dir: &Path, parts: &[Part]) -> Result<()> {
    let file = dir.join(FILE);
    if file.is_file() {
        return Ok(());
    }
    // Models of earlier versions have no checksums; one alone would say that the others were checked.
    match dir.join(checksums::FILE).is_file() {
        true => checksums::write_json(dir, FILE, &towers(parts)),
        false => atomic::write_json(&file, &towers(parts)),
    }
}

/// The encoders of the model in `dir`.
pub fn read(dir: &Path) -> Result<Vec<Tower>> {
    if !dir.join(FILE).is_file() {
        return Err(Error::failed(format!(
            "{} has no {FILE}: what its pictures go through is not known",
            dir.display()
        ))
        .hint("run the study again: what is done stays done, and the file is written"));
    }
    let towers: Vec<Tower> = atomic::read_json(&dir.join(FILE))?;
    for tower in &towers {
        // What the cards of the zoo and of directories had to pass, these must pass too.
        let step = || format!("{}: the card of {}", dir.join(FILE).display(), tower.encoder);
        tower.card.validate().map_err(|e| e.context(step()))?;
    }
    Ok(towers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_cards_of_a_saved_model_are_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let good = serde_json::to_value([Tower::own(EncoderCard::find("nano-clip")?)])?;
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
