//! EfficientViT of MIT (Cai et al. 2022, arXiv:2205.14756): inverted residual blocks, then blocks with multi-scale
//! linear attention. Parameter paths are those of timm's `EfficientVit` and `EfficientVitLarge`.

mod blocks;
mod config;

pub use blocks::{MitBlock, MitConv};
pub use config::EfficientVitMitConfig;

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::Trace;
use super::staged::StagedNetwork;
use blocks::Residual;
use burgess_base::Result;
use burn::module::Module;
use burn::tensor::Tensor;

/// An EfficientViT; see the module documentation.
#[derive(Module, Debug)]
pub struct EfficientVitMit {
    /// Stem of stride 2.
    pub stem: MitStem,
    /// The stages, each of which halves the grid.
    pub stages: Vec<MitStage>,
    #[module(skip)]
    config: EfficientVitMitConfig,
}

/// A convolution of stride 2 and a residual block.
#[derive(Module, Debug)]
pub struct MitStem {
    /// Convolution of stride 2.
    pub in_conv: MitConv,
    /// Residual block.
    pub res0: Option<Residual>,
}

/// A stage.
#[derive(Module, Debug)]
pub struct MitStage {
    /// The blocks; the first halves the grid.
    pub blocks: Vec<MitBlock>,
}

impl EfficientVitMit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EfficientVitMitConfig {
        &self.config
    }

    /// Follows shape and cost through all layers.
    fn trace(&self, mut trace: Trace) -> Trace {
        self.stem.in_conv.trace(&mut trace);
        if let Some(block) = &self.stem.res0 {
            block.trace(&mut trace);
        }
        for stage in &self.stages {
            stage.blocks.iter().for_each(|block| block.trace(&mut trace));
            trace.end_layer();
        }
        trace
    }
}

impl StagedNetwork for EfficientVitMit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.stem.in_conv.forward(pixels);
        if let Some(block) = &self.stem.res0 {
            x = block.forward(x);
        }
        let mut outputs = Vec::with_capacity(count);
        for stage in self.stages.iter().take(count) {
            for block in &stage.blocks {
                x = block.forward(x);
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}
