//! Mobile networks of inverted residual blocks: EfficientNet (Tan & Le 2019, arXiv:1905.11946) and V2
//! (arXiv:2104.00298), MobileNet V1 to V4 (arXiv:1704.04861, 1801.04381, 1905.02244, 2404.10518), MixNet, MnasNet,
//! FBNet, TinyNet, LCNet, HardCoRe-NAS and their like. Parameter paths are those of timm's `EfficientNet` and
//! `MobileNetV3`.
//!
//! The layers whose outputs a feature tap can select are, in order: the stem, if the first block has stride 2; every stage
//! that is followed by a stage of stride 2, and the last stage; and, in an EfficientNet, the pointwise convolution
//! `conv_head`. In a MobileNetV3 that convolution follows the pooling and belongs to the classifier.

mod attention;
mod blocks;
mod config;
mod conv;
mod definition;
mod pruned;
mod squeeze;
mod timm;

pub use blocks::MobileBlock;
pub use config::{EfficientNetConfig, MobileBlockConfig, MobileBlockKind, PaddingKind, SqueezeKind};

pub(super) use squeeze::MobileSqueezeExcite;

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::Conv;
use super::parts::NormAct;
use super::parts::Trace;
use super::staged::StagedNetwork;
use burgess_base::Result;
use burn::module::Module;
use burn::tensor::Tensor;

/// A mobile network; see the module documentation.
#[derive(Module, Debug)]
pub struct EfficientNet {
    /// Stem: a convolution of stride 2.
    pub conv_stem: Conv,
    /// Norm and activation after `conv_stem`.
    pub bn1: NormAct,
    /// The blocks of each stage.
    pub blocks: Vec<Vec<MobileBlock>>,
    /// Pointwise convolution after the last stage; `None` in a MobileNetV3.
    pub conv_head: Option<Conv>,
    /// Norm and activation after `conv_head`.
    pub bn2: Option<NormAct>,
    #[module(skip)]
    config: EfficientNetConfig,
}

impl EfficientNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EfficientNetConfig {
        &self.config
    }

    /// Records the output shape and the operations of every layer, after those of `trace`.
    fn trace(&self, mut trace: Trace) -> Trace {
        trace.conv(&self.conv_stem);
        if self.config.stem_is_layer() {
            trace.end_layer();
        }
        for (index, stage) in self.blocks.iter().enumerate() {
            for block in stage {
                block.trace(&mut trace);
            }
            if self.config.ends_layer(index) {
                trace.end_layer();
            }
        }
        if let Some(conv) = &self.conv_head {
            trace.conv(conv);
            trace.end_layer();
        }
        trace
    }
}

impl StagedNetwork for EfficientNet {
    fn depth(&self) -> usize {
        let stages = (0..self.blocks.len()).filter(|stage| self.config.ends_layer(*stage)).count();
        usize::from(self.config.stem_is_layer()) + stages + usize::from(self.conv_head.is_some())
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.bn1.forward(self.conv_stem.forward(pixels));
        let mut outputs = Vec::with_capacity(count);
        if self.config.stem_is_layer() {
            outputs.push(x.clone());
        }
        let mut block_index = 0;
        for (index, stage) in self.blocks.iter().enumerate() {
            if outputs.len() >= count {
                return Ok(outputs);
            }
            for block in stage {
                x = block.forward(x, drop_path.factors(block_index, 0));
                block_index += 1;
            }
            if self.config.ends_layer(index) {
                outputs.push(x.clone());
            }
        }
        if let (Some(conv), Some(norm), true) = (&self.conv_head, &self.bn2, outputs.len() < count) {
            outputs.push(norm.forward(conv.forward(x)));
        }
        Ok(outputs)
    }
}
