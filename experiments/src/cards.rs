//! What a saved model's pictures go through: `cards.json` in its directory, a card for each encoder in the order in which
//! the model reads them.

use crate::arm::ArmEncoder;
use crate::training::Part;
use burgess_base::{Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "cards.json";

/// One encoder of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tower {
    /// As the arm names it.
    encoder: ArmEncoder,
    /// Everything about it but its weights.
    pub card: EncoderCard,
}

impl Tower {
    /// An encoder with its own weights.
    pub fn own(card: EncoderCard) -> Self {
        Self { encoder: ArmEncoder::plain(card.id.clone()), card }
    }

    /// The encoder, frozen.
    ///
    /// # Errors
    /// Its weights are not on this machine.
    pub fn load(&self, device: &Device) -> Result<Encoder> {
        self.encoder.load(self.card.clone(), device)
    }
}

/// Writes the encoders of a run beside its model, unless they are there.
pub fn write(dir: &Path, parts: &[Part]) -> Result<()> {
    let file = dir.join(FILE);
    if file.is_file() {
        return Ok(());
    }
    let towers: Vec<Tower> = parts
        .iter()
        .map(|part| {
            // How it was trained says nothing about what it computes.
            let card = EncoderCard { pretrain: None, ..part.card.clone() };
            Tower { encoder: part.encoder.clone(), card }
        })
        .collect();
    atomic::write_json(&file, &towers)
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
