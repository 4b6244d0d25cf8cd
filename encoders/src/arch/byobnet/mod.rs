//! timm's ByobNet ("bring your own blocks"): GENet, RepVGG, MobileOne, ResNet-Q and -TS, RegNetZ of timm, the ResNets
//! of CLIP, ResNets with self-attention (BoTNet, HaloNet, LambdaResNet), and MobileViTs. Parameter paths are those of
//! timm's `ByobNet`.

mod config;
mod from_timm;
mod mobilevit;
mod self_attention;

pub use config::{
    ByobBlockConfig, ByobBlockKind, ByobNetConfig, ByobStemConfig, ByobStemKind, ByobStemPool, ByobTransformerConfig,
    SelfAttentionKind,
};
pub use mobilevit::{MobileVitBlock, MobileVitV2Block};
pub use self_attention::SelfAttention;

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{ActivationKind, AverageDown, ChannelAttention, Conv, ConvNormAct, Named, NormAct, drop_branch};
use super::staged::{LayerShape, StagedNetwork};
use burgess_base::Result;
use burn::module::Module;
use burn::tensor::Tensor;

/// A ByobNet; see the module documentation.
#[derive(Module, Debug)]
pub struct ByobNet {
    /// The stem, without its pooling.
    pub stem: ByobStem,
    /// The blocks of each stage.
    pub stages: Vec<Vec<ByobBlock>>,
    /// 1×1 convolution after the last stage.
    pub final_conv: Option<ConvNormAct>,
    #[module(skip)]
    config: ByobNetConfig,
}

/// The convolutions of a stem.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has one stem")]
pub enum ByobStem {
    /// One convolution.
    Single(ConvNormAct),
    /// Several convolutions, `conv1`, `conv2` …, or one before a pooling.
    Stack(Named<StemConv>),
    /// A block of parallel convolutions.
    Parallel(ParallelBlock),
}

/// A convolution of a stack.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a stem has few convolutions")]
pub enum StemConv {
    /// Followed by norm and activation.
    Normed(ConvNormAct),
    /// Alone.
    Plain(Conv),
}

/// A block of a ByobNet.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "blocks are stored one by one")]
pub enum ByobBlock {
    /// Convolutions in sequence, with a shortcut.
    Residual(ResidualBlock),
    /// Convolutions in parallel, whose outputs are added.
    Parallel(ParallelBlock),
    /// Convolutions and transformer blocks of MobileViT.
    MobileVit(MobileVitBlock),
    /// Convolutions and transformer blocks of MobileViTv2.
    MobileVitV2(MobileVitV2Block),
}

/// A residual block. Which layers it has depends on its kind ([`ByobBlockKind`]); they run in the order of the fields.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Projection shortcut; runs beside the other layers.
    pub shortcut: Option<ByobShortcut>,
    /// First layer of bottlenecks.
    pub conv1_1x1: Option<ConvNormAct>,
    /// First layer of basic and edge blocks.
    pub conv1_kxk: Option<ConvNormAct>,
    /// Second layer of all but edge blocks.
    pub conv2_kxk: Option<ConvNormAct>,
    /// Additional layer of bottlenecks.
    pub conv2b_kxk: Option<ConvNormAct>,
    /// Self-attention over the positions.
    pub self_attn: Option<SelfAttention>,
    /// Norm and activation after the self-attention.
    pub post_attn: Option<NormAct>,
    /// Channel attention inside of the block.
    pub attn: Option<ChannelAttention>,
    /// Last layer of edge blocks.
    pub conv2_1x1: Option<ConvNormAct>,
    /// Last layer of bottlenecks.
    pub conv3_1x1: Option<ConvNormAct>,
    /// Channel attention at the end of the block.
    pub attn_last: Option<ChannelAttention>,
    /// Whether the block has a shortcut.
    residual: bool,
    #[module(skip)]
    activation: ActivationKind,
}

/// A projection shortcut.
#[derive(Module, Debug)]
pub enum ByobShortcut {
    /// A strided convolution.
    Convolution(ConvNormAct),
    /// Pooling and a convolution.
    Average(PooledConv),
}

/// Average pooling and a 1×1 convolution.
#[derive(Module, Debug)]
pub struct PooledConv {
    /// Pooling by the block's stride.
    pub pool: AverageDown,
    /// The convolution.
    pub conv: ConvNormAct,
}

/// Parallel convolutions whose outputs are added, as RepVGG (Ding et al. 2021, arXiv:2101.03697) and MobileOne (Vasu et
/// al. 2022, arXiv:2206.04040) are trained.
#[derive(Module, Debug)]
pub struct ParallelBlock {
    /// Norm of the input, added where the shapes agree.
    pub identity: Option<NormAct>,
    /// The convolutions with the full kernel.
    pub conv_kxk: KernelConvs,
    /// The 1×1 convolution of RepVGG.
    pub conv_1x1: Option<ConvNormAct>,
    /// The 1×1 convolution of MobileOne.
    pub conv_scale: Option<ConvNormAct>,
    /// Channel attention.
    pub attn: Option<ChannelAttention>,
    #[module(skip)]
    activation: ActivationKind,
}

/// The convolutions with the full kernel of a [`ParallelBlock`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "blocks are stored one by one")]
pub enum KernelConvs {
    /// The one of RepVGG.
    One(ConvNormAct),
    /// Those of MobileOne.
    Several(Vec<ConvNormAct>),
}

impl StemConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Normed(conv) => conv.forward(x),
            Self::Plain(conv) => conv.forward(x),
        }
    }

    fn cost(&self, side: usize) -> (usize, u64) {
        match self {
            Self::Normed(conv) => (conv.out_side(side), conv.multiply_adds(side)),
            Self::Plain(conv) => (conv.spec().out_side(side), conv.spec().multiply_adds(side)),
        }
    }
}

impl ByobStem {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Single(conv) => conv.forward(pixels),
            Self::Stack(convs) => convs.iter().fold(pixels, |x, conv| conv.forward(x)),
            Self::Parallel(block) => block.forward(pixels, None),
        }
    }

    fn cost(&self, side: usize) -> (usize, u64) {
        match self {
            Self::Single(conv) => (conv.out_side(side), conv.multiply_adds(side)),
            Self::Parallel(block) => block.cost(side),
            Self::Stack(convs) => convs.iter().fold((side, 0), |(side, total), conv| {
                let (out, adds) = conv.cost(side);
                (out, total + adds)
            }),
        }
    }
}

impl ByobShortcut {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Convolution(conv) => conv.forward(x),
            Self::Average(PooledConv { pool, conv }) => conv.forward(pool.forward(x)),
        }
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        match self {
            Self::Convolution(conv) => conv.multiply_adds(side),
            Self::Average(PooledConv { pool, conv }) => conv.multiply_adds(pool.out_side(side)),
        }
    }
}

impl ResidualBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mut branch = x.clone();
        for conv in [&self.conv1_1x1, &self.conv1_kxk, &self.conv2_kxk, &self.conv2b_kxk].into_iter().flatten() {
            branch = conv.forward(branch);
        }
        if let Some(attention) = &self.self_attn {
            branch = attention.forward(branch);
        }
        if let Some(norm) = &self.post_attn {
            branch = norm.forward(branch);
        }
        if let Some(attention) = &self.attn {
            branch = attention.forward(branch);
        }
        for conv in [&self.conv2_1x1, &self.conv3_1x1].into_iter().flatten() {
            branch = conv.forward(branch);
        }
        if let Some(attention) = &self.attn_last {
            branch = attention.forward(branch);
        }
        if !self.residual {
            return self.activation.forward(drop_branch(branch, factors));
        }
        let shortcut = self.shortcut.as_ref().map_or(x.clone(), |way| way.forward(x));
        self.activation.forward(shortcut + drop_branch(branch, factors))
    }

    /// Side of the output, and multiply-adds, for a map of `side`.
    fn cost(&self, side: usize) -> (usize, u64) {
        let mut total = self.shortcut.as_ref().map_or(0, |way| way.multiply_adds(side));
        let mut side = side;
        let mut add = |conv: &Option<ConvNormAct>, side: &mut usize| {
            if let Some(conv) = conv {
                total += conv.multiply_adds(*side);
                *side = conv.out_side(*side);
            }
        };
        for conv in [&self.conv1_1x1, &self.conv1_kxk, &self.conv2_kxk, &self.conv2b_kxk] {
            add(conv, &mut side);
        }
        let attention = self.self_attn.as_ref().map_or(0, |attention| attention.multiply_adds(side));
        side = self.self_attn.as_ref().map_or(side, |attention| attention.out_side(side));
        for conv in [&self.conv2_1x1, &self.conv3_1x1] {
            add(conv, &mut side);
        }
        let channels = [&self.attn, &self.attn_last].into_iter().flatten();
        let channels: u64 = channels.map(|attention| attention.multiply_adds(side)).sum();
        (side, total + attention + channels)
    }
}

impl KernelConvs {
    fn iter(&self) -> impl Iterator<Item = &ConvNormAct> {
        match self {
            Self::One(conv) => std::slice::from_ref(conv),
            Self::Several(convs) => convs,
        }
        .iter()
    }
}

impl ParallelBlock {
    /// All convolutions.
    fn convs(&self) -> impl Iterator<Item = &ConvNormAct> {
        [&self.conv_1x1, &self.conv_scale].into_iter().flatten().chain(self.conv_kxk.iter())
    }

    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`. A block whose
    /// input is not added is never dropped.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let outputs = self.convs().map(|conv| conv.forward(x.clone()));
        let identity = self.identity.as_ref().map(|norm| norm.forward(x.clone()));
        let mut sum = match (outputs.reduce(|sum, output| sum + output), identity) {
            (Some(branch), Some(identity)) => identity + drop_branch(branch, factors),
            (Some(branch), None) => branch,
            (None, Some(identity)) => identity,
            (None, None) => x,
        };
        if let Some(attention) = &self.attn {
            sum = attention.forward(sum);
        }
        self.activation.forward(sum)
    }

    fn cost(&self, side: usize) -> (usize, u64) {
        let convs: u64 = self.convs().map(|conv| conv.multiply_adds(side)).sum();
        let out = self.convs().next().map_or(side, |conv| conv.out_side(side));
        (out, convs + self.attn.as_ref().map_or(0, |attention| attention.multiply_adds(out)))
    }
}

impl ByobBlock {
    /// Runs block number `index` of a network with the activation `act`.
    fn forward(&self, x: Tensor<4>, act: ActivationKind, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        match self {
            Self::Residual(block) => block.forward(x, drop_path.factors(index, 0)),
            Self::Parallel(block) => block.forward(x, drop_path.factors(index, 0)),
            Self::MobileVit(block) => block.forward(x, drop_path, index),
            Self::MobileVitV2(block) => block.forward(x, act, drop_path, index),
        }
    }

    fn cost(&self, side: usize) -> (usize, u64) {
        match self {
            Self::Residual(block) => block.cost(side),
            Self::Parallel(block) => block.cost(side),
            Self::MobileVit(block) => (side, block.multiply_adds(side)),
            Self::MobileVitV2(block) => (side, block.multiply_adds(side)),
        }
    }
}

impl ByobNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ByobNetConfig {
        &self.config
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let (side, mut multiply_adds) = self.stem.cost(self.config.image_size);
        let mut side = self.config.stem.pool.map_or(side, |pool| pool.out_side(side));
        let mut shapes = Vec::new();
        for (stage, blocks) in self.stages.iter().zip(&self.config.stages) {
            for block in stage {
                let (out, adds) = block.cost(side);
                (side, multiply_adds) = (out, multiply_adds + adds);
            }
            let width = blocks.last().map_or(0, |block| block.width);
            shapes.push(LayerShape { width, side, multiply_adds });
            multiply_adds = 0;
        }
        if let Some(conv) = &self.final_conv {
            shapes.push(LayerShape { width: conv.channels(), side, multiply_adds: conv.multiply_adds(side) });
        }
        shapes
    }
}

impl StagedNetwork for ByobNet {
    fn depth(&self) -> usize {
        self.stages.len() + usize::from(self.final_conv.is_some())
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let x = self.stem.forward(pixels);
        let mut x = self.config.stem.pool.map_or_else(|| x.clone(), |pool| pool.forward(x.clone()));
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages.iter().take(count) {
            for block in stage {
                x = block.forward(x, self.config.activation, drop_path, run);
                run += 1;
            }
            outputs.push(x.clone());
        }
        if count > outputs.len()
            && let Some(conv) = &self.final_conv
        {
            outputs.push(conv.forward(x));
        }
        Ok(outputs)
    }
}
