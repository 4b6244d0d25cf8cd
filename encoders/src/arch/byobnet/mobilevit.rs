//! The blocks of MobileViT (Mehta & Rastegari 2022, arXiv:2110.02178) and MobileViTv2 (arXiv:2206.02680): convolutions,
//! then transformer blocks in which each pixel of a patch attends to the pixels at the same place in all other patches.

use super::super::block::Mlp;
use super::super::drop_path::DropPathMask;
use super::super::parts::tokens::by_row;
use super::super::parts::{
    ActivationKind, Conv, ConvNormAct, ConvSpec, ImageNorm, NormActKind, PointwiseConv, QkvAttention,
    QkvAttentionConfig, add_branch,
};
use super::config::ByobTransformerConfig;
use crate::operands::Activation;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};

/// Epsilon of the norms of transformer blocks.
const EPS: f64 = 1e-5;

/// A block of MobileViT.
#[derive(Module, Debug)]
pub struct MobileVitBlock {
    /// Convolution with the full kernel.
    pub conv_kxk: ConvNormAct,
    /// 1×1 convolution to the width of the transformer blocks.
    pub conv_1x1: Conv,
    /// The transformer blocks.
    pub transformer: Vec<TransformerBlock>,
    /// Norm after them.
    pub norm: LayerNorm,
    /// 1×1 convolution to the output channels.
    pub conv_proj: ConvNormAct,
    /// Convolution of the input and the output together.
    pub conv_fusion: ConvNormAct,
    #[module(skip)]
    config: ByobTransformerConfig,
}

/// A transformer block over `[batch, pixels of a patch, patches, width]`; each pixel of a patch has a sequence of its
/// own.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: QkvAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
}

/// A block of MobileViTv2.
#[derive(Module, Debug)]
pub struct MobileVitV2Block {
    /// Depthwise convolution.
    pub conv_kxk: ConvNormAct,
    /// 1×1 convolution to the width of the transformer blocks.
    pub conv_1x1: Conv,
    /// The transformer blocks.
    pub transformer: Vec<LinearBlock>,
    /// Norm after them.
    pub norm: ImageNorm,
    /// 1×1 convolution to the output channels.
    pub conv_proj: ConvNormAct,
    #[module(skip)]
    config: ByobTransformerConfig,
}

/// A transformer block with attention of linear cost, over `[batch, pixels of a patch, patches, width]`.
#[derive(Module, Debug)]
pub struct LinearBlock {
    /// Norm before attention.
    pub norm1: ImageNorm,
    /// Attention.
    pub attn: LinearAttention,
    /// Norm before the MLP.
    pub norm2: ImageNorm,
    /// MLP.
    pub mlp: LinearMlp,
}

/// Attention in which one score per token weighs the keys to one context vector, by which the values are multiplied.
#[derive(Module, Debug)]
pub struct LinearAttention {
    /// Score, keys and values in this order, `[1 + 2 * width, width, 1, 1]`.
    pub qkv_proj: PointwiseConv,
    /// Output projection.
    pub out_proj: PointwiseConv,
}

/// An MLP of two 1×1 convolutions.
#[derive(Module, Debug)]
pub struct LinearMlp {
    /// First layer.
    pub fc1: PointwiseConv,
    /// Second layer.
    pub fc2: PointwiseConv,
}

/// Sorts the positions of `[batch, channels, rows, columns]` by their place in a patch, then by patch:
/// `[batch, pixels of a patch, patches, channels]`.
fn unfold(x: Tensor<4>, patch: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let [down, across] = [rows / patch, columns / patch];
    let x: Tensor<6> = x.reshape([batch, channels, down, patch, across, patch]);
    x.permute([0, 3, 5, 2, 4, 1]).reshape([batch, patch * patch, down * across, channels])
}

/// The inverse of [`unfold`].
fn fold(x: Tensor<4>, patch: usize, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [batch, _, _, channels] = x.dims();
    let [down, across] = [rows / patch, columns / patch];
    let x: Tensor<6> = x.reshape([batch, patch, patch, down, across, channels]);
    x.permute([0, 5, 3, 1, 4, 2]).reshape([batch, channels, rows, columns])
}

impl TransformerBlock {
    fn new(config: &ByobTransformerConfig, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(config.width).with_epsilon(EPS).init(device);
        Self {
            norm1: norm(),
            attn: attention(config).init(device),
            norm2: norm(),
            mlp: Mlp::new(config.width, config.mlp_hidden, config.width, Activation::Silu, device),
        }
    }

    /// Runs transformer block `number` of block `index` of the network.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize, number: usize) -> Tensor<4> {
        let [batch, pixels, patches, width] = x.dims();
        let sequences = self.norm1.forward(x.clone()).reshape([batch * pixels, patches, width]);
        let branch = self.attn.forward(sequences).reshape([batch, pixels, patches, width]);
        let x = add_branch(x, branch, drop_path.factors(index, 2 * number));
        let branch = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        add_branch(x, branch, drop_path.factors(index, 2 * number + 1))
    }
}

impl LinearBlock {
    fn new(config: &ByobTransformerConfig, device: &Device) -> Self {
        let ByobTransformerConfig { width, mlp_hidden, .. } = *config;
        Self {
            norm1: ImageNorm::new(width, EPS, true, device),
            attn: LinearAttention {
                qkv_proj: PointwiseConv::new(width, 1 + 2 * width, true, device),
                out_proj: PointwiseConv::new(width, width, true, device),
            },
            norm2: ImageNorm::new(width, EPS, true, device),
            mlp: LinearMlp {
                fc1: PointwiseConv::new(width, mlp_hidden, true, device),
                fc2: PointwiseConv::new(mlp_hidden, width, true, device),
            },
        }
    }

    /// Runs transformer block `number` of block `index` of the network.
    fn forward(
        &self,
        x: Tensor<4>,
        act: ActivationKind,
        drop_path: &DropPathMask,
        index: usize,
        number: usize,
    ) -> Tensor<4> {
        let width = x.dims()[3];
        let all = self.attn.qkv_proj.forward(self.norm1.forward(x.clone()));
        let scores = softmax(all.clone().narrow(3, 0, 1), 2);
        let context = (all.clone().narrow(3, 1, width) * scores).sum_dim(2);
        let branch = self.attn.out_proj.forward(relu(all.narrow(3, 1 + width, width)) * context);
        let x = add_branch(x, branch, drop_path.factors(index, 2 * number));
        let hidden = act.forward(self.mlp.fc1.forward(self.norm2.forward(x.clone())));
        add_branch(x, self.mlp.fc2.forward(hidden), drop_path.factors(index, 2 * number + 1))
    }
}

fn attention(config: &ByobTransformerConfig) -> QkvAttentionConfig {
    QkvAttentionConfig {
        width: config.width,
        heads: config.heads,
        head_dim: config.width / config.heads.max(1),
        qkv_bias: true,
        proj_bias: true,
    }
}

/// What the convolutions of a block have in common.
#[derive(Clone, Copy)]
pub(super) struct BlockLayers {
    pub from: usize,
    pub to: usize,
    pub kernel: usize,
    pub groups: usize,
    pub norm: NormActKind,
    pub activation: ActivationKind,
}

impl BlockLayers {
    fn conv(self, spec: ConvSpec, activation: ActivationKind, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec.bias(false), self.norm, activation, None, device)
    }

    fn kernel(self, from: usize, to: usize) -> ConvSpec {
        ConvSpec::new(from, to, self.kernel)
    }
}

impl MobileVitBlock {
    /// Builds a block with placeholder weights.
    pub(super) fn new(layers: BlockLayers, config: &ByobTransformerConfig, device: &Device) -> Self {
        let BlockLayers { from, to, groups, activation, .. } = layers;
        Self {
            conv_kxk: layers.conv(layers.kernel(from, from).groups(groups), activation, device),
            conv_1x1: ConvSpec::new(from, config.width, 1).bias(false).init(device),
            transformer: (0..config.depth).map(|_| TransformerBlock::new(config, device)).collect(),
            norm: LayerNormConfig::new(config.width).with_epsilon(EPS).init(device),
            conv_proj: layers.conv(ConvSpec::new(config.width, to, 1), activation, device),
            conv_fusion: layers.conv(layers.kernel(from + to, to), activation, device),
            config: *config,
        }
    }

    /// Runs block `index` of the network on `[batch, channels, rows, columns]`, whose sides the patch divides.
    pub(super) fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let local = self.conv_1x1.forward(self.conv_kxk.forward(x.clone()));
        let run = |tokens, (number, block): (usize, &TransformerBlock)| block.forward(tokens, drop_path, index, number);
        let tokens = self.transformer.iter().enumerate().fold(unfold(local, self.config.patch), run);
        let map = self.conv_proj.forward(fold(self.norm.forward(tokens), self.config.patch, [rows, columns]));
        self.conv_fusion.forward(Tensor::cat(vec![x, map], 1))
    }

    /// Multiply-adds for a map of `side`.
    pub(super) fn multiply_adds(&self, side: usize) -> u64 {
        let config = &self.config;
        let (positions, pixels) = ((side * side) as u64, (self.config.patch.pow(2)) as u64);
        let mlp = positions * 2 * (config.width * config.mlp_hidden) as u64;
        let block = pixels * attention(config).multiply_adds(positions / pixels.max(1)) + mlp;
        let convs = [&self.conv_kxk, &self.conv_proj, &self.conv_fusion].map(|conv| conv.multiply_adds(side));
        convs.iter().sum::<u64>() + self.conv_1x1.spec().multiply_adds(side) + config.depth as u64 * block
    }
}

impl MobileVitV2Block {
    /// Builds a block with placeholder weights.
    pub(super) fn new(layers: BlockLayers, config: &ByobTransformerConfig, device: &Device) -> Self {
        let BlockLayers { from, to, groups, activation, .. } = layers;
        Self {
            conv_kxk: layers.conv(layers.kernel(from, from).groups(groups), activation, device),
            conv_1x1: ConvSpec::new(from, config.width, 1).bias(false).init(device),
            transformer: (0..config.depth).map(|_| LinearBlock::new(config, device)).collect(),
            norm: ImageNorm::new(config.width, EPS, true, device),
            conv_proj: layers.conv(ConvSpec::new(config.width, to, 1), ActivationKind::Identity, device),
            config: *config,
        }
    }

    /// Runs block `index` of the network on `[batch, channels, rows, columns]`, whose sides the patch divides.
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        act: ActivationKind,
        drop_path: &DropPathMask,
        index: usize,
    ) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let local = self.conv_1x1.forward(self.conv_kxk.forward(x));
        let run = |tokens, (number, block): (usize, &LinearBlock)| block.forward(tokens, act, drop_path, index, number);
        let tokens = self.transformer.iter().enumerate().fold(unfold(local, self.config.patch), run);
        self.conv_proj.forward(fold(self.norm.forward(tokens), self.config.patch, [rows, columns]))
    }

    /// Multiply-adds for a map of `side`.
    pub(super) fn multiply_adds(&self, side: usize) -> u64 {
        let config = &self.config;
        let width = config.width as u64;
        let position = width * (1 + 2 * width) + width * width + 2 * width * config.mlp_hidden as u64;
        let blocks = config.depth as u64 * (side * side) as u64 * position;
        let convs = [&self.conv_kxk, &self.conv_proj].map(|conv| conv.multiply_adds(side));
        convs.iter().sum::<u64>() + self.conv_1x1.spec().multiply_adds(side) + blocks
    }
}
