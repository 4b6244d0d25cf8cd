//! Encoders whose cards are opened and whose weights are checked.

use crate::features::card::ArmCard;
use crate::machine::progress::Progress;
use crate::study::{ArmEncoder, EvaluatorConfig, StudyConfig};
use burgess_base::{Result, digest};
use std::collections::BTreeMap;
use std::path::Path;

/// An encoder of the study whose weights, or ground truth, are on this machine.
pub struct PreparedEncoder {
    /// The encoder, as the arm names it.
    pub encoder: ArmEncoder,
    /// Card of the encoder, with the arm's tap.
    pub card: ArmCard,
    /// Digest of the weights; for the oracle, that of its card, which holds the digest of the ground truth.
    pub weights_digest: String,
}

impl PreparedEncoder {
    /// Opens the card of an encoder, and checks and digests its weights. `data` is the directory of the study's data.
    ///
    /// # Errors
    /// There is no such encoder, its weights are not on this machine or do not fit the card, or the data have no ground
    /// truth for the oracle.
    pub fn open(encoder: &ArmEncoder, evaluator: &EvaluatorConfig, data: &Path) -> Result<Self> {
        let card = ArmCard::of(encoder, evaluator.preparation(), data)?;
        let weights_digest = match &card {
            ArmCard::Encoder(card) => {
                encoder.check_weights(card)?;
                encoder.weights_digest(card)?
            }
            ArmCard::Oracle(card) => digest::of_value(card)?,
        };
        Ok(Self { encoder: encoder.clone(), card, weights_digest })
    }
}

/// Opens the cards of a study's encoders, and checks and digests their weights; one that fails does not stop the others.
/// Returns the outcome for each by its name. `data` is the directory of the study's data.
pub fn prepare_all(study: &StudyConfig, data: &Path, progress: &Progress) -> BTreeMap<String, Result<PreparedEncoder>> {
    let bar = progress.bar("checking the weights of encoders", 0);
    let mut encoders: BTreeMap<String, Result<PreparedEncoder>> = BTreeMap::new();
    for encoder in study.arms.iter().flat_map(|a| &a.encoders) {
        encoders.entry(encoder.to_string()).or_insert_with(|| PreparedEncoder::open(encoder, &study.evaluator, data));
        bar.add(1);
    }
    encoders
}
