//! Next-ViT (Li et al. 2022, arXiv:2207.05501): stages of convolutional blocks, each but the first with blocks that
//! join self-attention and convolution. Parameter paths are those of timm's `NextViT`.

mod config;

pub use config::NextVitConfig;

use super::drop_path::DropPathMask;
use super::parts::tokens::by_row;
use super::parts::{ActivationKind, Conv, FrozenBatchNorm, add_branch, avg_pool, to_map, to_tokens};
use super::staged::StagedNetwork;
use crate::attention::attend;
use crate::operands::Bias;
use burgess_base::Result;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

/// A Next-ViT; see the module documentation.
#[derive(Module, Debug)]
pub struct NextVit {
    /// Stem: four 3×3 convolutions, with a stride of 4 pixels.
    pub stem: Vec<StemLayer>,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Batch norm after the last stage.
    pub norm: FrozenBatchNorm,
    #[module(skip)]
    config: NextVitConfig,
}

/// A 3×3 convolution and a batch norm; an activation follows.
#[derive(Module, Debug)]
pub struct StemLayer {
    /// Convolution.
    pub conv: Conv,
    /// Batch norm.
    pub norm: FrozenBatchNorm,
}

/// A stage.
#[derive(Module, Debug)]
pub struct Stage {
    /// The blocks.
    pub blocks: Vec<NextBlock>,
}

/// A block.
// A few blocks are built: their size does not matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum NextBlock {
    /// Convolutional block.
    Conv(NextConvBlock),
    /// Block of self-attention and convolution.
    Transformer(NextTransformerBlock),
}

/// Average pooling if the grid shrinks, then a 1×1 convolution and a batch norm.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Convolution.
    pub conv: Conv,
    /// Batch norm.
    pub norm: FrozenBatchNorm,
    stride: usize,
}

/// Convolutional attention: a grouped 3×3 convolution, batch norm and activation, then a 1×1 convolution.
#[derive(Module, Debug)]
pub struct ConvAttention {
    /// Grouped convolution; each group is a head.
    pub group_conv3x3: Conv,
    /// Batch norm.
    pub norm: FrozenBatchNorm,
    /// 1×1 convolution.
    pub projection: Conv,
}

/// An MLP of two 1×1 convolutions.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// First convolution.
    pub fc1: Conv,
    /// Second convolution.
    pub fc2: Conv,
}

/// A convolutional block.
#[derive(Module, Debug)]
pub struct NextConvBlock {
    /// Projection, where the block's output has another shape than its input.
    pub patch_embed: Option<PatchEmbed>,
    /// Convolutional attention.
    pub mhca: ConvAttention,
    /// Batch norm before the MLP.
    pub norm: FrozenBatchNorm,
    /// MLP.
    pub mlp: ConvMlp,
}

/// A block that computes some output channels by self-attention and the others by convolution.
#[derive(Module, Debug)]
pub struct NextTransformerBlock {
    /// Projection to the channels of self-attention.
    pub patch_embed: Option<PatchEmbed>,
    /// Batch norm before self-attention.
    pub norm1: FrozenBatchNorm,
    /// Self-attention.
    pub e_mhsa: EfficientAttention,
    /// Projection to the channels of convolutional attention.
    pub projection: Option<PatchEmbed>,
    /// Convolutional attention.
    pub mhca: ConvAttention,
    /// Batch norm of all channels before the MLP.
    pub norm2: FrozenBatchNorm,
    /// MLP.
    pub mlp: ConvMlp,
}

/// Self-attention whose keys and values are means of successive tokens.
#[derive(Module, Debug)]
pub struct EfficientAttention {
    /// Projection to queries.
    pub q: Linear,
    /// Projection to keys.
    pub k: Linear,
    /// Projection to values.
    pub v: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Batch norm of the means.
    pub norm: Option<FrozenBatchNorm>,
    heads: usize,
    group: usize,
}

impl PatchEmbed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = if self.stride > 1 { avg_pool(x, 2, 2, 0, false, true) } else { x };
        self.norm.forward(self.conv.forward(x))
    }
}

fn embedded(embed: &Option<PatchEmbed>, x: Tensor<4>) -> Tensor<4> {
    match embed {
        Some(embed) => embed.forward(x),
        None => x,
    }
}

impl ConvAttention {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        self.projection.forward(activation.forward(self.norm.forward(self.group_conv3x3.forward(x))))
    }
}

impl ConvMlp {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        self.fc2.forward(activation.forward(self.fc1.forward(x)))
    }
}

impl EfficientAttention {
    /// Runs attention on `[batch, tokens, channels]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, channels] = x.dims();
        let linear = |layer: &Linear, x: Tensor<3>| {
            let count = x.dims()[1];
            let out = by_row(x, |x| layer.forward(x));
            out.reshape([batch, count, self.heads, channels / self.heads]).swap_dims(1, 2)
        };
        let q = linear(&self.q, x.clone());
        let means = match &self.norm {
            None => x,
            Some(norm) => {
                // Tokens that do not fill a group are left out.
                let groups = tokens / self.group;
                let x = x.narrow(1, 0, groups * self.group).reshape([batch, groups, self.group, channels]);
                let means: Tensor<3> = x.mean_dim(2).squeeze_dim(2);
                by_row(means, |x| norm.forward(x))
            }
        };
        let mixed = attend(q, linear(&self.k, means.clone()), linear(&self.v, means), Bias::None, None);
        by_row(mixed, |x| self.proj.forward(x))
    }
}

impl NextBlock {
    /// Runs block number `index` on `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>, act: ActivationKind, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let factors = |branch: usize| drop_path.factors(index, branch);
        let (x, normed, mlp) = match self {
            Self::Conv(block) => {
                let x = embedded(&block.patch_embed, x);
                let branch = block.mhca.forward(x.clone(), act);
                let x = add_branch(x, branch, factors(1));
                (x.clone(), block.norm.forward(x), &block.mlp)
            }
            Self::Transformer(block) => {
                let x = embedded(&block.patch_embed, x);
                let [_, _, rows, columns] = x.dims();
                let branch = block.e_mhsa.forward(to_tokens(block.norm1.forward(x.clone())));
                let x = add_branch(x, to_map(branch, [rows, columns]), factors(0));
                let local = embedded(&block.projection, x.clone());
                let branch = block.mhca.forward(local.clone(), act);
                let x = Tensor::cat(vec![x, add_branch(local, branch, factors(1))], 1);
                (x.clone(), block.norm2.forward(x), &block.mlp)
            }
        };
        add_branch(x, mlp.forward(normed, act), factors(2))
    }
}

impl NextVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &NextVitConfig {
        &self.config
    }
}

impl StagedNetwork for NextVit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let act = self.config.activation;
        let layer = |x, layer: &StemLayer| act.forward(layer.norm.forward(layer.conv.forward(x)));
        let mut x = self.stem.iter().fold(pixels, layer);
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            for block in &stage.blocks {
                x = block.forward(x, act, drop_path, index);
                index += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        by_row(tokens, |x| self.norm.forward(x))
    }
}
