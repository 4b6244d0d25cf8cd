//! CoAtNet (Dai et al. 2021, arXiv:2106.04803), MaxViT (Tu et al. 2022, arXiv:2204.01697) and timm's variants of both
//! with ConvNeXt blocks: stages of convolutional blocks, transformer blocks, and attention within windows and dilated
//! grids. Parameter paths are those of timm's `MaxxVit`, whose 1×1 convolutions in transformer blocks are linear
//! layers here (dialect `timm-maxxvit`).

mod config;
mod conv_block;
mod costs;
mod timm;

pub use config::{
    MaxxVitAttentionConfig, MaxxVitBlockKind, MaxxVitConfig, MaxxVitConvConfig, MaxxVitConvKind, MaxxVitPool,
    MaxxVitPositions, MaxxVitStride,
};

use super::block::{LayerScale, Mlp};
use super::drop_path::DropPathMask;
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::window::{
    LogScale, grid_partition, grid_reverse, log_coordinates, partition, relative_bias, reverse,
};
use super::parts::{ActivationKind, Conv, ConvSpec, MapNorm, MapNormKind};
use super::staged::StagedNetwork;
use crate::attention::attend;
use crate::operands::Bias;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use config::BlockSizes;
use conv_block::{ConvBlock, Downsample, pool};

/// A CoAtNet or MaxViT; see the module documentation.
#[derive(Module, Debug)]
pub struct MaxxVit {
    /// Two convolutions from pixels to half their resolution.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Norm over the channels of the last feature map.
    pub norm: Option<MapNorm>,
    #[module(skip)]
    config: MaxxVitConfig,
}

/// The stem: a convolution of stride 2, a norm with an activation, and another convolution.
#[derive(Module, Debug)]
pub struct Stem {
    /// First convolution, of stride 2.
    pub conv1: Conv,
    /// Norm after `conv1`.
    pub norm1: MapNorm,
    /// Second convolution.
    pub conv2: Conv,
    #[module(skip)]
    activation: ActivationKind,
}

/// A stage, whose first block halves the feature map.
#[derive(Module, Debug)]
pub struct Stage {
    /// The blocks.
    pub blocks: Vec<MaxxBlock>,
}

/// A block, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum MaxxBlock {
    /// A convolutional block.
    Conv(ConvBlock),
    /// A transformer block.
    Transformer(TransformerBlock),
    /// A multi-axis block.
    MultiAxis(MultiAxisBlock),
}

/// A transformer block with attention over the whole feature map.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Shortcut of a block that halves the feature map.
    pub shortcut: Option<Downsample>,
    /// Norm before attention.
    pub norm1: PooledNorm,
    /// Attention.
    pub attn: Attention,
    /// Layer scale of attention.
    pub ls1: Option<LayerScale>,
    /// Norm before the MLP.
    pub norm2: MapNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale of the MLP.
    pub ls2: Option<LayerScale>,
}

/// The norm before attention, with pooling in a block that halves the feature map.
#[derive(Module, Debug)]
pub enum PooledNorm {
    /// The norm alone.
    Plain(MapNorm),
    /// The norm followed by pooling.
    Pooled(NormThenPool),
}

/// A norm followed by pooling.
#[derive(Module, Debug)]
pub struct NormThenPool {
    /// The norm.
    pub norm: MapNorm,
    #[module(skip)]
    pool: MaxxVitPool,
}

/// A convolutional block, then attention within windows and within grids.
#[derive(Module, Debug)]
pub struct MultiAxisBlock {
    /// The convolutional block.
    pub conv: ConvBlock,
    /// Attention within windows.
    pub attn_block: Option<PartitionAttention>,
    /// Attention within grids.
    pub attn_grid: PartitionAttention,
}

/// Attention within windows or grids, and an MLP.
#[derive(Module, Debug)]
pub struct PartitionAttention {
    /// Norm before attention.
    pub norm1: MapNorm,
    /// Attention.
    pub attn: Attention,
    /// Layer scale of attention.
    pub ls1: Option<LayerScale>,
    /// Norm before the MLP.
    pub norm2: MapNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale of the MLP.
    pub ls2: Option<LayerScale>,
    side: usize,
    grid: bool,
}

/// Multi-head attention with relative position biases.
#[derive(Module, Debug)]
pub struct Attention {
    /// Projection to queries, keys and values, `[input, 3 * width]`.
    pub qkv: Linear,
    /// Relative position biases.
    pub rel_pos: Option<RelativePositions>,
    /// Output projection, `[width, output]`.
    pub proj: Linear,
    heads: usize,
    side: usize,
    head_first: bool,
}

/// Relative position biases, one variant per [`MaxxVitPositions`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum RelativePositions {
    /// A table, `[offsets, heads]`.
    Table(BiasTable),
    /// A table per head.
    HeadTable(HeadBiasTable),
    /// An MLP from the logarithms of offsets.
    Mlp(BiasMlp),
}

/// Relative position biases per offset of the query from the key.
#[derive(Module, Debug)]
pub struct BiasTable {
    /// The biases, `[offsets, heads]`.
    pub relative_position_bias_table: Param<Tensor<2>>,
}

/// Relative position biases per offset of the key from the query.
#[derive(Module, Debug)]
pub struct HeadBiasTable {
    /// The biases, `[heads, row offsets, column offsets]`.
    pub relative_position_bias_table: Param<Tensor<3>>,
}

/// An MLP from the logarithms of offsets to position biases.
#[derive(Module, Debug)]
pub struct BiasMlp {
    /// The two layers.
    pub mlp: PositionMlp,
}

/// Two linear layers with ReLU between them.
#[derive(Module, Debug)]
pub struct PositionMlp {
    /// First layer, `[2, hidden]`.
    pub fc1: Linear,
    /// Second layer, `[hidden, heads]`.
    pub fc2: Linear,
}

/// A layer scale of `channels` factors; `None` if `value` is 0.
fn layer_scale(value: f64, channels: usize, device: &Device) -> Option<LayerScale> {
    (value != 0.0).then(|| LayerScale { gamma: Initializer::Constant { value }.init([channels], device) })
}

/// Multiplies channels by a layer scale, if there is one.
fn scaled(x: Tensor<4>, scale: Option<&LayerScale>) -> Tensor<4> {
    match scale {
        Some(scale) => x * scale.gamma.val().unsqueeze(),
        None => x,
    }
}

impl MaxxVitConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> MaxxVit {
        let [first, second] = self.stem_widths;
        let conv = |from: usize, to: usize| ConvSpec::new(from, to, 3).bias(self.stem_bias).padding(self.padding());
        let stages = self
            .sizes()
            .into_iter()
            .map(|stage| Stage { blocks: stage.iter().map(|sizes| self.block(sizes, device)).collect() });
        let last = self.widths.last().copied().unwrap_or(second);
        MaxxVit {
            stem: Stem {
                conv1: conv(3, first).stride(2).init(device),
                norm1: self.conv.norm.init(first, self.conv.norm_eps, device),
                conv2: conv(first, second).init(device),
                activation: self.conv.activation,
            },
            stages: stages.collect(),
            norm: self.final_norm.then(|| self.attention.norm.init(last, self.attention.norm_eps, device)),
            config: self.clone(),
        }
    }

    fn block(&self, sizes: &BlockSizes, device: &Device) -> MaxxBlock {
        let options = &self.attention;
        match sizes.kind {
            MaxxVitBlockKind::Conv => MaxxBlock::Conv(self.conv_block(sizes, device)),
            MaxxVitBlockKind::Transformer => {
                let (input, output) = (sizes.input, sizes.output);
                let norm = |channels: usize| options.norm.init(channels, options.norm_eps, device);
                let norm1 = norm(input);
                MaxxBlock::Transformer(TransformerBlock {
                    shortcut: sizes
                        .halves
                        .then(|| Downsample::new(input, output, options.pool, options.shortcut_bias, device)),
                    norm1: if sizes.halves {
                        PooledNorm::Pooled(NormThenPool { norm: norm1, pool: options.pool })
                    } else {
                        PooledNorm::Plain(norm1)
                    },
                    // timm does not hand the order of heads to this block.
                    attn: self.attention([input, self.attention_width(sizes), output], sizes.side, true, device),
                    ls1: layer_scale(options.layer_scale, output, device),
                    norm2: norm(output),
                    mlp: Mlp::new(output, self.mlp_hidden(output), output, options.activation, device),
                    ls2: layer_scale(options.layer_scale, output, device),
                })
            }
            MaxxVitBlockKind::MultiAxis => MaxxBlock::MultiAxis(MultiAxisBlock {
                conv: self.conv_block(sizes, device),
                attn_block: options
                    .window_attention
                    .then(|| self.partition_attention(sizes.output, options.window, false, device)),
                attn_grid: self.partition_attention(sizes.output, options.grid, true, device),
            }),
        }
    }

    fn partition_attention(&self, width: usize, side: usize, grid: bool, device: &Device) -> PartitionAttention {
        let options = &self.attention;
        let norm = || MapNormKind::Layer.init(width, options.norm_eps, device);
        PartitionAttention {
            norm1: norm(),
            attn: self.attention([width; 3], side, options.head_first, device),
            ls1: layer_scale(options.layer_scale, width, device),
            norm2: norm(),
            mlp: Mlp::new(width, self.mlp_hidden(width), width, options.activation, device),
            ls2: layer_scale(options.layer_scale, width, device),
            side,
            grid,
        }
    }

    fn attention(
        &self,
        [input, width, output]: [usize; 3],
        side: usize,
        head_first: bool,
        device: &Device,
    ) -> Attention {
        let options = &self.attention;
        let (heads, offsets) = (width / options.head_dim, 2 * side - 1);
        let linear = |from: usize, to: usize| LinearConfig::new(from, to).with_bias(options.bias).init(device);
        let rel_pos = match options.positions {
            MaxxVitPositions::None => None,
            MaxxVitPositions::Table => Some(RelativePositions::Table(BiasTable {
                relative_position_bias_table: Initializer::Zeros.init([offsets * offsets, heads], device),
            })),
            MaxxVitPositions::HeadTable => Some(RelativePositions::HeadTable(HeadBiasTable {
                relative_position_bias_table: Initializer::Zeros.init([heads, offsets, offsets], device),
            })),
            MaxxVitPositions::Mlp => Some(RelativePositions::Mlp(BiasMlp {
                mlp: PositionMlp {
                    fc1: LinearConfig::new(2, options.position_hidden).init(device),
                    fc2: LinearConfig::new(options.position_hidden, heads).init(device),
                },
            })),
        };
        Attention { qkv: linear(input, 3 * width), rel_pos, proj: linear(width, output), heads, side, head_first }
    }
}

impl RelativePositions {
    /// The biases of a square window, `[1, heads, tokens, tokens]`.
    fn bias(&self, side: usize, device: &Device) -> Tensor<4> {
        let window = [side; 2];
        match self {
            Self::Table(table) => relative_bias(table.relative_position_bias_table.val(), window),
            Self::HeadTable(table) => {
                let table = table.relative_position_bias_table.val();
                let [heads, rows, columns] = table.dims();
                // The reversed table is the one for offsets of the query from the key.
                let table: Tensor<2> = table.reshape([heads, rows * columns]);
                relative_bias(table.transpose().flip([0]), window)
            }
            Self::Mlp(BiasMlp { mlp }) => {
                let coordinates = log_coordinates(window, LogScale::Plain, device);
                relative_bias(mlp.fc2.forward(relu(mlp.fc1.forward(coordinates))), window)
            }
        }
    }
}

impl Attention {
    /// Attention of windows `[windows, tokens, input]` to `[windows, tokens, output]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let device = x.device();
        let [q, k, v] = if self.head_first {
            let [windows, tokens, _] = x.dims();
            let all = by_row(x, |x| self.qkv.forward(x));
            let width = all.dims()[2] / 3;
            let all = all.reshape([windows, tokens, self.heads, 3 * width / self.heads]);
            let head_dim = width / self.heads;
            std::array::from_fn(|i| all.clone().narrow(3, i * head_dim, head_dim).swap_dims(1, 2))
        } else {
            project(&self.qkv, x, self.heads)
        };
        let bias = match &self.rel_pos {
            Some(positions) => Bias::Full(positions.bias(self.side, &device)),
            None => Bias::None,
        };
        by_row(attend(q, k, v, bias, None), |x| self.proj.forward(x))
    }
}

impl PartitionAttention {
    /// Runs on `[batch, rows, columns, width]`; `factors` are those of attention and of the MLP.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let ([_, rows, columns, _], side) = (x.dims(), [self.side; 2]);
        let normed = self.norm1.channels_last(x.clone());
        let mixed = if self.grid {
            grid_reverse(self.attn.forward(grid_partition(normed, side)), side, [rows, columns])
        } else {
            reverse(self.attn.forward(partition(normed, side)), side, [rows, columns])
        };
        let x = x + dropped(scaled(mixed, self.ls1.as_ref()), factors[0]);
        let mlp = by_row(self.norm2.channels_last(x.clone()), |x| self.mlp.forward(x));
        x + dropped(scaled(mlp, self.ls2.as_ref()), factors[1])
    }
}

impl TransformerBlock {
    /// Runs the block on `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let skipped = match &self.shortcut {
            Some(layer) => layer.forward(x.clone()),
            None => x.clone(),
        };
        let normed = match &self.norm1 {
            PooledNorm::Plain(norm) => norm.channels_first(x),
            PooledNorm::Pooled(layer) => pool(layer.norm.channels_first(x), layer.pool),
        };
        let [batch, channels, rows, columns] = normed.dims();
        let tokens = normed.permute([0, 2, 3, 1]).reshape([batch, rows * columns, channels]);
        let mixed = self.attn.forward(tokens);
        let width = mixed.dims()[2];
        let mixed = scaled(mixed.reshape([batch, rows, columns, width]), self.ls1.as_ref());
        let x = skipped.permute([0, 2, 3, 1]) + dropped(mixed, factors[0]);
        let mlp = by_row(self.norm2.channels_last(x.clone()), |x| self.mlp.forward(x));
        (x + dropped(scaled(mlp, self.ls2.as_ref()), factors[1])).permute([0, 3, 1, 2])
    }
}

impl MaxxBlock {
    fn forward(&self, x: Tensor<4>, block: usize, drop_path: &DropPathMask) -> Tensor<4> {
        let factors = |branch: usize| drop_path.factors(block, branch);
        match self {
            Self::Conv(conv) => conv.forward(x, factors(0)),
            Self::Transformer(transformer) => transformer.forward(x, [factors(0), factors(1)]),
            Self::MultiAxis(MultiAxisBlock { conv, attn_block, attn_grid }) => {
                let x = conv.forward(x, factors(0)).permute([0, 2, 3, 1]);
                let x = match attn_block {
                    Some(attention) => attention.forward(x, [factors(1), factors(2)]),
                    None => x,
                };
                attn_grid.forward(x, [factors(3), factors(4)]).permute([0, 3, 1, 2])
            }
        }
    }
}

impl MaxxVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &MaxxVitConfig {
        &self.config
    }
}

impl StagedNetwork for MaxxVit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let x = self.stem.norm1.channels_first(self.stem.conv1.forward(pixels));
        let mut x = self.stem.conv2.forward(self.stem.activation.forward(x));
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.stages.iter().take(count) {
            for layer in &stage.blocks {
                x = layer.forward(x, block, drop_path);
                block += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.channels_last(tokens),
            None => tokens,
        }
    }
}
