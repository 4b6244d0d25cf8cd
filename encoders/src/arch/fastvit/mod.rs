//! FastViT (Vasu et al. 2023, arXiv:2303.14189), also the image towers MCi of MobileCLIP (arXiv:2311.17049) and
//! MobileCLIP2. Parameter paths are those of timm's `FastVit` before its branches are merged for inference.
//!
//! The layers of a tap are the stages, then the final convolution, which widens the channels.

mod config;

pub use config::{FastVitConfig, FastVitMixerKind};

use super::drop_path::DropPathMask;
use super::parts::{
    Conv, ConvNormAct, FrozenBatchNorm, LayerNorm2d, QkvAttention, SqueezeExcite, add_branch, to_map, to_tokens,
};
use super::staged::StagedNetwork;
use crate::operands::gelu;
use burgess_base::Result;
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A FastViT; see the module documentation.
#[derive(Module, Debug)]
pub struct FastVit {
    /// Stem: three MobileOne blocks, with a stride of 4 pixels.
    pub stem: Vec<MobileOne>,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Final depthwise convolution, which widens the channels.
    pub final_conv: MobileOne,
    #[module(skip)]
    config: FastVitConfig,
}

/// A MobileOne block: the sum of parallel branches of convolution and batch norm, then squeeze-excitation and GELU.
#[derive(Module, Debug)]
pub struct MobileOne {
    /// Squeeze-excitation of the sum.
    pub se: Option<SqueezeExcite>,
    /// Branch that only has a batch norm.
    pub identity: Option<FrozenBatchNorm>,
    /// Branches with the full kernel.
    pub conv_kxk: Option<Vec<ConvNormAct>>,
    /// Branch with a 1×1 kernel.
    pub conv_scale: Option<ConvNormAct>,
    activated: bool,
}

/// A stage: downsampling, position encoding, blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Downsampling layer.
    pub downsample: Option<PatchEmbed>,
    /// Conditional position encoding.
    pub pos_emb: Option<PositionEncoding>,
    /// The blocks.
    pub blocks: Vec<FastVitBlock>,
}

/// A downsampling layer: a depthwise convolution with a large kernel, then a 1×1 MobileOne block.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// The two layers.
    pub proj: (LargeKernel, MobileOne),
}

/// The sum of two strided depthwise convolutions with batch norms, one with a large and one with a small kernel.
#[derive(Module, Debug)]
pub struct LargeKernel {
    /// Convolution with the large kernel.
    pub large_conv: ConvNormAct,
    /// Convolution with a 3×3 kernel.
    pub small_conv: ConvNormAct,
    /// Squeeze-excitation of the sum.
    pub se: Option<SqueezeExcite>,
    activated: bool,
}

/// Conditional position encoding: a depthwise convolution added to its input.
#[derive(Module, Debug)]
pub struct PositionEncoding {
    /// The convolution.
    pub pos_enc: Conv,
}

/// A block, one variant per [`FastVitMixerKind`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "blocks are stored one by one")]
pub enum FastVitBlock {
    /// RepMixer, then MLP.
    RepMixer(RepMixerBlock),
    /// Self-attention, then MLP.
    Attention(AttentionBlock),
}

/// A block whose token mixer is convolutional.
#[derive(Module, Debug)]
pub struct RepMixerBlock {
    /// Token mixer, with a skip connection of its own.
    pub token_mixer: RepMixer,
    /// MLP.
    pub mlp: ConvMlp,
    /// Layer scale of the MLP.
    pub layer_scale: Option<MapScale>,
}

/// RepMixer: the difference of a convolution and a batch norm, scaled and added to the input.
#[derive(Module, Debug)]
pub struct RepMixer {
    /// A batch norm.
    pub norm: MobileOne,
    /// Depthwise convolution.
    pub mixer: MobileOne,
    /// Layer scale of the difference.
    pub layer_scale: Option<MapScale>,
}

/// A block whose token mixer is self-attention.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// Norm before attention.
    pub norm: AttentionNorm,
    /// Self-attention.
    pub token_mixer: QkvAttention,
    /// Layer scale of attention.
    pub layer_scale_1: Option<MapScale>,
    /// MLP.
    pub mlp: ConvMlp,
    /// Layer scale of the MLP.
    pub layer_scale_2: Option<MapScale>,
}

/// The norm before attention.
#[derive(Module, Debug)]
pub enum AttentionNorm {
    /// Batch norm.
    Batch(FrozenBatchNorm),
    /// Layer norm over the channels of each position.
    Layer(LayerNorm2d),
}

/// An MLP after a depthwise convolution with batch norm.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// Depthwise 7×7 convolution and batch norm.
    pub conv: ConvNormAct,
    /// First 1×1 convolution.
    pub fc1: Conv,
    /// Second 1×1 convolution.
    pub fc2: Conv,
}

/// A learned factor per channel.
#[derive(Module, Debug)]
pub struct MapScale {
    /// The factors, `[channels, 1, 1]`.
    pub gamma: Param<Tensor<3>>,
}

/// Multiplies `[batch, channels, rows, columns]` by the factors, if there are any.
fn scaled(x: Tensor<4>, scale: &Option<MapScale>) -> Tensor<4> {
    match scale {
        Some(scale) => x * scale.gamma.val().unsqueeze(),
        None => x,
    }
}

/// Applies squeeze-excitation, if there is one, then GELU if `activated`.
fn finish(x: Tensor<4>, excite: &Option<SqueezeExcite>, activated: bool) -> Tensor<4> {
    let x = match excite {
        Some(excite) => excite.forward(x),
        None => x,
    };
    if activated { gelu(x) } else { x }
}

impl MobileOne {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branches = [
            self.conv_scale.as_ref().map(|branch| branch.forward(x.clone())),
            self.identity.as_ref().map(|norm| norm.forward(x.clone())),
        ];
        let full = self.conv_kxk.iter().flatten().map(|branch| branch.forward(x.clone()));
        let sum = branches.into_iter().flatten().chain(full).reduce(|sum, branch| sum + branch);
        finish(sum.unwrap_or_else(|| x.zeros_like()), &self.se, self.activated)
    }
}

impl PatchEmbed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (LargeKernel { large_conv, small_conv, se, activated }, block) = &self.proj;
        let sum = large_conv.forward(x.clone()) + small_conv.forward(x);
        block.forward(finish(sum, se, *activated))
    }
}

impl ConvMlp {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.fc2.forward(gelu(self.fc1.forward(self.conv.forward(x))))
    }
}

impl RepMixer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let difference = self.mixer.forward(x.clone()) - self.norm.forward(x.clone());
        x + scaled(difference, &self.layer_scale)
    }
}

impl AttentionBlock {
    fn attend(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let normed = match &self.norm {
            AttentionNorm::Batch(norm) => norm.forward(x),
            AttentionNorm::Layer(norm) => norm.forward(x),
        };
        to_map(self.token_mixer.forward(to_tokens(normed)), [rows, columns])
    }
}

impl FastVitBlock {
    /// Runs block number `index` on `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let (x, mlp, scale) = match self {
            Self::RepMixer(block) => (block.token_mixer.forward(x), &block.mlp, &block.layer_scale),
            Self::Attention(block) => {
                let branch = scaled(block.attend(x.clone()), &block.layer_scale_1);
                (add_branch(x, branch, drop_path.factors(index, 0)), &block.mlp, &block.layer_scale_2)
            }
        };
        let branch = scaled(mlp.forward(x.clone()), scale);
        add_branch(x, branch, drop_path.factors(index, 1))
    }
}

impl StagedNetwork for FastVit {
    fn depth(&self) -> usize {
        self.stages.len() + 1
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let mut x = self.stem.iter().fold(pixels, |x, block| block.forward(x));
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(x);
            }
            if let Some(positions) = &stage.pos_emb {
                x = positions.pos_enc.forward(x.clone()) + x;
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path, index);
                index += 1;
            }
            outputs.push(x.clone());
        }
        if count > self.stages.len() {
            outputs.push(self.final_conv.forward(x));
        }
        Ok(outputs)
    }
}

impl FastVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &FastVitConfig {
        &self.config
    }
}
