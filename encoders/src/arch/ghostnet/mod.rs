//! GhostNet (Han et al. 2020, arXiv:1911.11907), GhostNetV2 (Tang et al. 2022, arXiv:2211.12905), GhostNetV3 (Liu et
//! al. 2024, arXiv:2404.11202) and RepGhost (Chen et al. 2022, arXiv:2211.06088): half of the channels are computed by
//! cheap depthwise convolutions from the other half. Parameter paths are those of timm's `GhostNet` and `RepGhostNet`,
//! before branches are fused.

mod config;
mod modules;

pub use config::{GhostBlockConfig, GhostNetConfig, GhostVersion};

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{Conv, FrozenBatchNorm, Trace};
use super::staged::StagedNetwork;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use modules::GhostStage;

/// A GhostNet; see the module documentation.
#[derive(Module, Debug)]
pub struct GhostNet {
    /// Convolution of stride 2.
    pub conv_stem: Conv,
    /// Batch norm after `conv_stem`.
    pub bn1: FrozenBatchNorm,
    /// The stages, then a stage of one pointwise convolution.
    pub blocks: Vec<GhostStage>,
    #[module(skip)]
    config: GhostNetConfig,
}

impl GhostNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &GhostNetConfig {
        &self.config
    }

    /// The stages with the hyper-parameters of their blocks; the last one has none.
    fn stages(&self) -> impl Iterator<Item = (&GhostStage, &[GhostBlockConfig])> {
        let configs = self.config.stages.iter().map(Vec::as_slice).chain([&[] as &[GhostBlockConfig]]);
        self.blocks.iter().zip(configs)
    }

    /// Follows shape and cost through all layers.
    fn trace(&self, mut trace: Trace) -> Trace {
        trace.conv(&self.conv_stem);
        for (index, (stage, blocks)) in self.stages().enumerate() {
            stage.trace(&mut trace, blocks);
            if self.config.ends_layer(index) {
                trace.end_layer();
            }
        }
        trace
    }
}

impl StagedNetwork for GhostNet {
    fn depth(&self) -> usize {
        (0..self.blocks.len()).filter(|index| self.config.ends_layer(*index)).count()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if self.config.has_gates() && height.min(width) <= 32 {
            return Err(Error::failed(format!("images of {height}x{width} pixels are too small for this GhostNet"))
                .hint("both sides must be at least 33 pixels"));
        }
        let mut x = relu(self.bn1.forward(self.conv_stem.forward(pixels)));
        let mut outputs = Vec::with_capacity(count);
        for (index, (stage, blocks)) in self.stages().enumerate() {
            if outputs.len() >= count {
                break;
            }
            x = stage.forward(x, blocks);
            if self.config.ends_layer(index) {
                outputs.push(x.clone());
            }
        }
        Ok(outputs)
    }
}
