//! Low-rank adaptation of a language model (LoRA, arXiv 2106.09685), as in PEFT.

use super::decoder::Llm;
use super::parts::Block;
use burgess_base::{Error, Result};
use burn::module::Module;

/// Names of the linear layers of a block that LoRA can adapt.
pub const PROJECTIONS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

impl Llm {
    /// Returns this model with new LoRA factors on the projections named in `targets` (`q_proj`, `down_proj` …), and
    /// every other parameter frozen.
    ///
    /// # Errors
    /// When a name is unknown, the rank is 0 or above a matrix dimension, or `targets` or `alpha` is not valid.
    pub fn with_lora(self, rank: usize, alpha: f64, targets: &[String], seed: u64) -> Result<Self> {
        if let Some(bad) = targets.iter().find(|t| !PROJECTIONS.contains(&t.as_str())) {
            return Err(Error::usage(format!("LoRA `targets`: `{bad}` is not a projection of the language model"))
                .hint(format!("known are {}", PROJECTIONS.join(", "))));
        }
        if rank == 0 || targets.is_empty() {
            return Err(Error::usage("LoRA: `rank` must be at least 1, and `targets` must not be empty"));
        }
        let factor = alpha / rank as f64;
        if !((factor as f32).is_finite() && factor > 0.0) {
            return Err(Error::usage(format!(
                "LoRA: `alpha` is {alpha}, but alpha / rank must be a finite number above 0 (rank {rank})"
            )));
        }
        let mut model: Self = self.freeze();
        for (i, block) in model.model.layers.iter_mut().enumerate() {
            for (name, layer) in block.projections() {
                let kind = name.rsplit('.').next().unwrap_or_default();
                if !targets.iter().any(|t| t == kind) {
                    continue;
                }
                let [inputs, outputs] = layer.shape();
                if rank > inputs.min(outputs) {
                    return Err(Error::usage(format!(
                        "LoRA: `rank` is {rank}, more than the smaller side of `{kind}` ({inputs} inputs, {outputs} \
                         outputs)"
                    ))
                    .hint(format!("give a rank of at most {}", inputs.min(outputs))));
                }
                *layer = layer.clone().with_lora(rank, alpha, &format!("{i}/{name}"), seed);
            }
        }
        Ok(model)
    }

    /// Returns whether any projection has LoRA factors.
    pub fn has_lora(&self) -> bool {
        self.model.layers.iter().any(Block::has_lora)
    }

    /// Returns this model with all LoRA products added to the weights. A model with weights that are stored as in their
    /// file keeps its LoRA factors.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        if self.has_stored_weights() {
            return self;
        }
        for block in &mut self.model.layers {
            for (_, layer) in block.projections() {
                *layer = layer.clone().merge_lora();
            }
        }
        self
    }
}
