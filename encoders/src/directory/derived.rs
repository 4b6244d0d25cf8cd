//! An encoder as it follows from its configuration and its weights, and the search for the part of a file that holds
//! it.

use crate::arch::{ArchitectureConfig, Tap};
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors};
use crate::preprocess::Preprocess;
use burgess_base::{Error, Result};
use burn::tensor::Device;

/// The description of an encoder, derived from its configuration and the shapes of its tensors.
pub(super) struct DerivedEncoder {
    pub family: String,
    pub dialect: &'static str,
    pub part: CheckpointPart,
    pub architecture: ArchitectureConfig,
    pub preprocess: Preprocess,
    pub tap: Tap,
    pub notes: Vec<String>,
}

/// Describes the encoder in the one of `parts` that matches; `read` describes it in a given part.
///
/// # Errors
/// An error of `read`, or several parts match and no precedence applies.
pub(super) fn locate(
    weights: &Checkpoint,
    parts: Vec<CheckpointPart>,
    read: impl Fn(&CheckpointPart) -> Result<DerivedEncoder>,
) -> Result<DerivedEncoder> {
    let fits = |part: &CheckpointPart| -> Result<bool> {
        let found = read(part)?;
        found.architecture.check_layers(weights.keys().count())?;
        let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
        Ok(ExpectedTensors::new(&parameters, Dialect::find(found.dialect)?)?.fits(weights, part))
    };
    // A part for which `read` fails does not match; if no part matches, the error of the first one is returned.
    let several = parts.len() > 1;
    let fitting = parts.iter().filter(|part| !several || fits(part).unwrap_or(false)).cloned().collect();
    let chosen = checkpoint::choose_part(fitting, weights)?;
    let (part, note) = match (chosen, parts.into_iter().next()) {
        (Some(chosen), _) => chosen,
        (None, Some(first)) => (first, None),
        (None, None) => return Err(Error::failed("the weights contain no encoder of this family")),
    };
    let mut found = read(&part)?;
    found.architecture.check_layers(weights.keys().count())?;
    found.notes.extend(note);
    Ok(found)
}
