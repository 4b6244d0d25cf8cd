//! Checks before work starts: whether encoders, recipe and data fit together, and whether results can be written.

use crate::data::examples::ExampleSet;
use crate::features::ArmCard;
use crate::features::oracle::GroundTruth;
use crate::run::evaluator::Evaluator;
use crate::run::llm_files::LlmFiles;
use crate::run::training;
use crate::study::{Arm, EvaluatorConfig, Freeze};
use burgess_base::{Error, Result, output};
use burgess_encoders::tiling::Tiling;
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::data::Examples;
use burgess_probe::mllm::MllmConfig;
use burgess_probe::recipe::Stage;
use burn::tensor::Device;
use std::path::Path;

/// The training stages of an arm, by name, with the arm's freeze setting applied.
fn stages(evaluator: &EvaluatorConfig, arm: &Arm) -> Vec<(&'static str, Stage)> {
    let align = evaluator.recipe.align.iter().map(|stage| ("align", stage.clone()));
    align.chain([("tune", training::tune_stage(&evaluator.recipe.tune, arm.freeze))]).collect()
}

/// Checks the recipe of an arm against its encoders, the language model and the device. Returns the number of positions
/// that an image takes in the language model.
///
/// # Errors
/// Something does not fit; the error names arm, stage and key.
pub fn check_arm(
    evaluator: &EvaluatorConfig,
    llm: &LlmFiles,
    arm: &Arm,
    cards: &[&ArmCard],
    device: &Device,
) -> Result<usize> {
    let check = || {
        for (name, stage) in stages(evaluator, arm) {
            self::stage(&stage, llm, device).map_err(|e| e.context(format!("stage {name}")))?;
        }
        let mut shapes = Vec::with_capacity(cards.len());
        for card in cards {
            shapes.push((card.width()?, card.used_grid()?));
        }
        let kind = evaluator.connector_of(arm).clone();
        check_images(arm, cards, kind.properties().needs_image_sizes)?;
        let connector = ConnectorConfig::new(kind, &shapes, llm.config.hidden_size)?;
        let grids: Vec<[usize; 2]> = shapes.iter().map(|t| t.1).collect();
        let positions = connector.image_tokens(&grids);
        let (chat, encoders, llm) = (llm.chat.clone(), Vec::new(), llm.config.clone());
        MllmConfig { connector, llm, chat, encoders, grid: None }.check()?;
        Ok(positions)
    };
    check().map_err(|e: Error| e.context(format!("the arm {}", arm.name())))
}

/// Checks that the connector and the training of an arm can do with the images that its encoders read.
fn check_images(arm: &Arm, cards: &[&ArmCard], masks_padding: bool) -> Result<()> {
    for card in cards.iter().filter_map(|card| card.encoder().ok()) {
        if arm.freeze == Freeze::Unfrozen {
            card.check_trainable()?;
        }
        if masks_padding && matches!(card.tiling, Some(Tiling::AnyRes { .. })) {
            return Err(Error::usage(format!(
                "{}: the connector masks the padding of square images, which the tiling any-res does not have",
                card.id
            ))
            .hint("choose a connector without newline tokens and masks, such as mlp, or the tiling s2"));
        }
    }
    Ok(())
}

fn stage(stage: &Stage, llm: &LlmFiles, device: &Device) -> Result<()> {
    if stage.trainable.is_empty() {
        return Err(Error::usage("`trainable` names only `encoder`, but the encoders of this arm are frozen")
            .hint("add \"connector\" to `trainable`, or set freeze = \"unfrozen\" in the arm"));
    }
    stage.precision.check_device(device).map_err(|e| e.context("`precision`"))?;
    match &stage.lora {
        Some(lora) if lora.rank > llm.config.hidden_size => Err(Error::usage(format!(
            "`lora.rank` = {} is above the width {} of the language model",
            lora.rank, llm.config.hidden_size
        ))
        .hint("an adapter of that rank has no fewer parameters than the matrix: usual ranks are 8 to 128")),
        _ => Ok(()),
    }
}

impl Evaluator {
    /// Checks that conversations and questions fit into the model of an arm whose images take `positions` positions.
    ///
    /// # Errors
    /// One is too long; the error names the stage and conversation, or the benchmark and question.
    pub fn check_lengths(&self, arm: &Arm, positions: usize) -> Result<()> {
        let most = self.llm.config.max_position_embeddings;
        let check = || {
            for (name, stage) in stages(&self.config, arm) {
                let set = if name == "align" { self.align.as_ref() } else { Some(self.tune_of(arm)?) };
                if let Some(set) = set {
                    lengths(&stage, set, positions, most).map_err(|e| e.context(format!("stage {name}")))?;
                }
            }
            self.benchmarks.iter().try_for_each(|asked| asked.check_lengths(positions, most))
        };
        check().map_err(|e: Error| e.context(format!("the arm {}", arm.name())))
    }

    /// Checks that the oracle, if the arm has it, has ground truth for every image.
    ///
    /// # Errors
    /// An image has no ground truth; the error names it.
    pub fn check_truth(&self, cards: &[&ArmCard]) -> Result<()> {
        match cards.iter().any(|card| matches!(card, ArmCard::Oracle(_))) {
            true => GroundTruth::read(&self.data.dir)?.check(&self.images),
            false => Ok(()),
        }
    }
}

fn lengths(stage: &Stage, set: &ExampleSet, image: usize, most: usize) -> Result<()> {
    let (examples, file) = (&set.examples, set.file().display());
    let mut learnable = false;
    for i in 0..examples.len() {
        let all = examples.length(i) + if examples.has_image(i) { image.saturating_sub(1) } else { 0 };
        let read = match stage.max_length.filter(|longest| all > *longest) {
            Some(longest) => {
                let step = |e: Error| e.context(format!("conversation {} of {file}", i + 1));
                learnable |= examples.get(i)?.truncated(longest, image).map_err(step)?.has_supervised_tokens();
                longest
            }
            None => {
                learnable = true;
                all
            }
        };
        // The last token is only a target: it is never an input.
        if read.saturating_sub(1) > most {
            return Err(Error::failed(format!(
                "conversation {} of {file} has {all} tokens, the language model reads at most {most}",
                i + 1
            ))
            .hint(format!("set `max_length` = {most} or less in the stage, which truncates longer conversations")));
        }
    }
    if !learnable && !examples.is_empty() {
        let longest = stage.max_length.unwrap_or(most);
        return Err(Error::failed(format!(
            "`max_length` = {longest} removes the answers of all {} conversations of {file}",
            examples.len()
        ))
        .hint(format!("an image takes {image} tokens: raise `max_length`")));
    }
    Ok(())
}

/// Checks that a directory exists or can be created, and that files can be created in it. Leaves nothing behind.
///
/// # Errors
/// The directory cannot be created or written to; the error names the cause.
pub fn check_writable(dir: &Path) -> Result<()> {
    output::check_directory(dir).map_err(|e| e.hint("choose another output directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_made_is_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let place = dir.path();
        check_writable(&place.join("a/b/c"))?;
        assert!(std::fs::read_dir(place)?.next().is_none(), "nothing is left");
        std::fs::write(place.join("file"), "")?;
        let e = check_writable(&place.join("file/below")).unwrap_err();
        assert!(e.to_string().contains("file/below") && e.to_string().contains("is a file, not a directory"), "{e}");
        assert!(e.hint_text().is_some_and(|h| h.contains("another directory")));
        check_writable(Path::new("Cargo-not-here"))
    }
}
