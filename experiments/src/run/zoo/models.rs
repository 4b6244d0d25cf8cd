//! What timm's columns say about an arm: image size, parameters, crop and interpolation of its encoders.

use crate::features::{ArmCard, role};
use crate::study::{Arm, EvaluatorConfig};
use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_reports::schema::ArmRole;
use burgess_reports::zoo::ZooModel;

/// Describes an arm in timm's columns. The oracle has neither size nor filter.
///
/// # Errors
/// An encoder has no card.
pub fn describe(arm: &Arm, evaluator: &EvaluatorConfig) -> Result<ZooModel> {
    let cards = cards(arm, evaluator)?;
    let encoders = || cards.iter().filter_map(|card| card.encoder().ok());
    Ok(ZooModel {
        arm: arm.name(),
        img_size: encoders().map(|card| card.preprocess.size).collect(),
        param_count: cards.iter().map(ArmCard::parameters).sum(),
        crop_pct: encoders().map(|card| card.preprocess.crop_pct).collect(),
        interpolation: encoders().map(interpolation).collect::<Result<_>>()?,
    })
}

/// The role of an arm: ranked, or one of the baselines.
///
/// # Errors
/// An encoder has no card.
pub fn role_of(arm: &Arm, evaluator: &EvaluatorConfig) -> Result<ArmRole> {
    let cards = cards(arm, evaluator)?;
    Ok(role(arm.encoders.iter().zip(&cards), arm.freeze))
}

fn cards(arm: &Arm, evaluator: &EvaluatorConfig) -> Result<Vec<ArmCard>> {
    arm.encoders.iter().map(|encoder| ArmCard::planned(encoder, evaluator)).collect()
}

/// Name of the resampling filter, as in cards and in timm.
fn interpolation(card: &EncoderCard) -> Result<String> {
    let name = serde_json::to_value(card.preprocess.interpolation)?;
    name.as_str().map(String::from).ok_or_else(|| Error::failed(format!("{}: its interpolation has no name", card.id)))
}
