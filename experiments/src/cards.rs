//! What a saved model's pictures go through: `cards.json` in its directory, a card for each encoder in the order in which
//! the model reads them.

use crate::arm::ArmEncoder;
use crate::frozen::finite;
use crate::training::Part;
use burgess_base::{Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
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
    let features = prepared.map(|(e, card, pixels)| {
        let map = e.load(card.clone(), device)?.forward(pixels)?;
        finite::<&str>(&map.tokens, &card.id, &[])?;
        Ok(map)
    });
    features.collect::<Result<_>>().map(Visual::Towers)
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
    atomic::write_json(&file, &towers(parts))
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
    atomic::read_json(&dir.join(FILE))
}
