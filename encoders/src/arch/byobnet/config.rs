//! Hyper-parameters of a ByobNet, their validation, and the construction of the network.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::is_default;
use super::super::limits::MAX_SIZE;
use super::super::parts::{
    ActivationKind, AntiAlias, AverageDown, ChannelAttentionKind, ConvNormAct, ConvSpec, Named, NormActKind,
    ShortcutKind, avg_pool, divisible, max_pool,
};
use super::super::staged::{LayerShape, StagedConfig};
use super::mobilevit::BlockLayers;
use super::{
    ByobBlock, ByobNet, ByobShortcut, ByobStem, KernelConvs, MobileVitBlock, MobileVitV2Block, ParallelBlock,
    PooledConv, ResidualBlock, StemConv,
};
use burgess_base::{Error, Result};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a ByobNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ByobNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// The stem.
    pub stem: ByobStemConfig,
    /// The blocks of each stage.
    pub stages: Vec<Vec<ByobBlockConfig>>,
    /// Channels of a 1×1 convolution after the last stage; 0 for none. Default 0.
    #[serde(default)]
    pub final_width: usize,
    /// Shortcut of blocks that change the shape of their input. Default a convolution.
    #[serde(default)]
    pub shortcut: ShortcutKind,
    /// Activation of all layers. Default ReLU.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Norm of all layers. Default batch norm.
    #[serde(default)]
    pub norm: NormActKind,
    /// Filter that takes the place of strides in the stages. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_alias: Option<AntiAlias>,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// The stem of a ByobNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ByobStemConfig {
    /// Kind of the stem. Default convolutions in sequence.
    #[serde(default)]
    pub kind: ByobStemKind,
    /// Output channels of each convolution; parallel convolutions have one number.
    pub channels: Vec<usize>,
    /// Side of the kernels, odd. Default 3.
    #[serde(default = "three")]
    pub kernel: usize,
    /// How many of the first convolutions have neither norm nor activation. Default 0.
    #[serde(default)]
    pub bare: usize,
    /// Pooling after the convolutions. Without it, the last of several convolutions has a stride of 2. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<ByobStemPool>,
    /// Channel attention of parallel convolutions. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ChannelAttentionKind>,
}

/// The kind of stem; the first convolution has a stride of 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ByobStemKind {
    /// Convolutions in sequence.
    #[default]
    Convolutions,
    /// A block of RepVGG.
    Rep,
    /// A block of MobileOne.
    One,
}

/// The pooling after the convolutions of a stem, of stride 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ByobStemPool {
    /// The maximum of 3×3 positions, padded by 1.
    Max,
    /// The mean of 3×3 positions, padded by 1; the padding does not count.
    Average,
    /// The maximum of 2×2 positions.
    Max2,
    /// The mean of 2×2 positions.
    Average2,
}

/// Equal blocks of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ByobBlockConfig {
    /// Kind of the blocks.
    pub kind: ByobBlockKind,
    /// Number of blocks. Default 1.
    #[serde(default = "one")]
    pub depth: usize,
    /// Output channels.
    pub width: usize,
    /// Stride of the first block of the stage, 1 or 2; that of other blocks is not used. Default 2.
    #[serde(default = "two")]
    pub stride: usize,
    /// Channels per group of the convolutions with the full kernel; 0 for ungrouped ones. Default 0.
    #[serde(default)]
    pub group_size: usize,
    /// Inner channels divided by output channels, rounded to a multiple of 8. Default 1.
    #[serde(default = "unit")]
    pub ratio: f64,
    /// Whether `ratio` is that of inner to input channels. Default false.
    #[serde(default)]
    pub ratio_of_input: bool,
    /// Side of the full kernels, odd. Default 3.
    #[serde(default = "three")]
    pub kernel: usize,
    /// Number of parallel convolutions of MobileOne with the full kernel. Default 1.
    #[serde(default = "one")]
    pub branches: usize,
    /// Whether bottlenecks have one more convolution with the full kernel. Default false.
    #[serde(default)]
    pub extra_convolution: bool,
    /// Whether the blocks end without activation. Default false.
    #[serde(default)]
    pub linear_output: bool,
    /// Channel attention. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ChannelAttentionKind>,
    /// Self-attention, which blocks of the kind `self-attention` need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_attention: Option<SelfAttentionKind>,
    /// Transformer blocks, which blocks of MobileViTs need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<ByobTransformerConfig>,
}

/// The transformer blocks in a block of a MobileViT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ByobTransformerConfig {
    /// Channels of a token.
    pub width: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Side of a patch, which must divide that of the map.
    pub patch: usize,
    /// Attention heads of MobileViT; must divide `width`. Default 4.
    #[serde(default = "four")]
    pub heads: usize,
    /// Hidden channels of the MLPs.
    pub mlp_hidden: usize,
}

/// The kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ByobBlockKind {
    /// Two full kernels.
    Basic,
    /// A 1×1, a full and a 1×1 kernel.
    Bottleneck,
    /// A 1×1 and a full kernel.
    Dark,
    /// A full and a 1×1 kernel.
    Edge,
    /// A full and a 1×1 kernel in parallel (RepVGG).
    Rep,
    /// Several full kernels and a 1×1 kernel in parallel (MobileOne).
    One,
    /// A bottleneck with self-attention in place of the full kernel.
    SelfAttention,
    /// Convolutions around transformer blocks, joined with the input by a convolution (MobileViT).
    MobileVit,
    /// Convolutions around transformer blocks of linear cost (MobileViTv2).
    MobileVitV2,
}

/// The kind of self-attention over the positions of a map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SelfAttentionKind {
    /// Attention over all positions (BoTNet); the weights fit one image size.
    Bottleneck {
        /// Number of heads.
        heads: usize,
        /// Channels of queries and keys per head; by `key_ratio` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_width: Option<usize>,
        /// Channels of all queries divided by channels, if `key_width` is absent.
        key_ratio: f64,
    },
    /// Attention of each block of positions over the block and its surroundings (HaloNet).
    Halo {
        /// Number of heads.
        heads: usize,
        /// Channels of queries and keys per head; by `key_ratio` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_width: Option<usize>,
        /// Channels of all queries divided by channels, if `key_width` is absent.
        key_ratio: f64,
        /// Side of a block of positions.
        block_size: usize,
        /// Rows and columns around a block.
        halo_size: usize,
    },
    /// Lambda layer (LambdaNetworks).
    Lambda {
        /// Number of heads.
        heads: usize,
        /// Channels of keys, and of queries per head.
        key_width: usize,
        /// Side of the convolution of the positions, odd; embeddings of their offsets if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kernel: Option<usize>,
    },
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn three() -> usize {
    3
}

fn four() -> usize {
    4
}

fn unit() -> f64 {
    1.0
}

impl ByobStemPool {
    /// Pools `[batch, channels, rows, columns]`.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Max => max_pool(x, 3, 2, 1, false),
            Self::Average => avg_pool(x, 3, 2, 1, false, false),
            Self::Max2 => max_pool(x, 2, 2, 0, false),
            Self::Average2 => avg_pool(x, 2, 2, 0, true, false),
        }
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(self, side: usize) -> usize {
        match self {
            Self::Max | Self::Average => side.div_ceil(2),
            Self::Max2 | Self::Average2 => side / 2,
        }
    }
}

/// The input of a block.
#[derive(Clone, Copy)]
struct BlockInput {
    channels: usize,
    side: usize,
    stride: usize,
}

impl ByobBlockConfig {
    /// Channels inside of a block.
    fn inner(&self, before: usize) -> usize {
        let outside = if self.ratio_of_input { before } else { self.width };
        divisible(self.ratio * outside as f64, 8)
    }

    /// Number of groups of the full kernels, for `channels`.
    fn groups(&self, channels: usize) -> usize {
        channels.checked_div(self.group_size).unwrap_or(1)
    }

    /// Channels that the full kernels divide into groups.
    fn grouped(&self, before: usize) -> usize {
        match self.kind {
            ByobBlockKind::Rep | ByobBlockKind::One | ByobBlockKind::MobileVit | ByobBlockKind::MobileVitV2 => before,
            _ => self.inner(before),
        }
    }

    /// Side of the output for a map of `side`.
    fn out_side(&self, side: usize, stride: usize, anti_alias: Option<AntiAlias>) -> usize {
        match (anti_alias, self.kind) {
            (_, ByobBlockKind::MobileVit | ByobBlockKind::MobileVitV2) => side,
            (_, ByobBlockKind::SelfAttention) if !self.extra_convolution => side / stride,
            (Some(filter), _) if stride > 1 => filter.out_side(side),
            _ => side.div_ceil(stride),
        }
    }
}

impl ByobNetConfig {
    /// Calls `visit` with every block, its stage and its input.
    fn each_block<'a>(&'a self, mut visit: impl FnMut(usize, &'a ByobBlockConfig, BlockInput)) {
        let mut side = self.stem_side();
        let mut channels = self.stem.channels.last().copied().unwrap_or_default();
        for (stage, blocks) in self.stages.iter().enumerate() {
            let stride = blocks.first().map_or(1, |block| block.stride);
            let each = blocks.iter().flat_map(|block| std::iter::repeat_n(block, block.depth));
            for (index, block) in each.enumerate() {
                let stride = if index == 0 { stride } else { 1 };
                visit(stage, block, BlockInput { channels, side, stride });
                side = block.out_side(side, stride, self.anti_alias);
                channels = block.width;
            }
        }
    }

    /// Side of the map after the stem.
    fn stem_side(&self) -> usize {
        let half = self.image_size.div_ceil(2);
        match (self.stem.pool, self.stem.channels.len()) {
            (Some(pool), _) => pool.out_side(half),
            (None, 0 | 1) => half,
            (None, _) => half.div_ceil(2),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ByobNet {
        let mut stages: Vec<Vec<ByobBlock>> = self.stages.iter().map(|_| Vec::new()).collect();
        self.each_block(|stage, block, input| {
            if let Some(blocks) = stages.get_mut(stage) {
                blocks.push(self.block(block, input, device));
            }
        });
        let last = self.stages.iter().flatten().last().map_or(0, |block| block.width);
        ByobNet {
            stem: self.stem(device),
            stages,
            final_conv: (self.final_width > 0)
                .then(|| self.conv(ConvSpec::new(last, self.final_width, 1), self.activation, device)),
            config: self.clone(),
        }
    }

    /// A convolution of the stages.
    fn conv(&self, spec: ConvSpec, activation: ActivationKind, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec, self.norm, activation, self.anti_alias, device)
    }

    fn stem(&self, device: &Device) -> ByobStem {
        let ByobStemConfig { kind, channels, kernel, bare, pool, attention } = &self.stem;
        let last = channels.last().copied().unwrap_or_default();
        if *kind != ByobStemKind::Convolutions {
            let block = ByobBlockConfig {
                kind: if *kind == ByobStemKind::Rep { ByobBlockKind::Rep } else { ByobBlockKind::One },
                width: last,
                kernel: *kernel,
                attention: *attention,
                ..ByobBlockConfig::plain(ByobBlockKind::One, last)
            };
            let input = BlockInput { channels: 3, side: self.image_size, stride: 2 };
            return ByobStem::Parallel(self.parallel(&block, input, device));
        }
        let conv = |index: usize, from: usize, to: usize| {
            let ends = index > 0 && index + 1 == channels.len() && pool.is_none();
            ConvSpec::new(from, to, *kernel).bias(false).stride(if index == 0 || ends { 2 } else { 1 })
        };
        let normed = |spec: ConvSpec| ConvNormAct::new(spec, self.norm, self.activation, None, device);
        if channels.len() == 1 && pool.is_none() {
            return ByobStem::Single(normed(conv(0, 3, last)));
        }
        let before = std::iter::once(3).chain(channels.iter().copied());
        let convs = before.zip(channels).enumerate().map(|(index, (from, to))| {
            let spec = conv(index, from, *to);
            if index < *bare { StemConv::Plain(spec.init(device)) } else { StemConv::Normed(normed(spec)) }
        });
        ByobStem::Stack(Named::counted("conv", convs))
    }

    fn block(&self, block: &ByobBlockConfig, input: BlockInput, device: &Device) -> ByobBlock {
        match block.kind {
            ByobBlockKind::Rep | ByobBlockKind::One => ByobBlock::Parallel(self.parallel(block, input, device)),
            ByobBlockKind::MobileVit => match &block.transformer {
                Some(config) => ByobBlock::MobileVit(MobileVitBlock::new(self.layers(block, input), config, device)),
                None => ByobBlock::Residual(self.residual(block, input, device)),
            },
            ByobBlockKind::MobileVitV2 => match &block.transformer {
                Some(config) => {
                    ByobBlock::MobileVitV2(MobileVitV2Block::new(self.layers(block, input), config, device))
                }
                None => ByobBlock::Residual(self.residual(block, input, device)),
            },
            _ => ByobBlock::Residual(self.residual(block, input, device)),
        }
    }

    fn layers(&self, block: &ByobBlockConfig, input: BlockInput) -> BlockLayers {
        BlockLayers {
            from: input.channels,
            to: block.width,
            kernel: block.kernel,
            groups: block.groups(input.channels),
            norm: self.norm,
            activation: self.activation,
        }
    }

    fn parallel(&self, block: &ByobBlockConfig, input: BlockInput, device: &Device) -> ParallelBlock {
        let BlockInput { channels, stride, .. } = input;
        let conv = |kernel: usize| {
            let spec = ConvSpec::new(channels, block.width, kernel).bias(false).stride(stride);
            self.conv(spec.groups(block.groups(channels)), ActivationKind::Identity, device)
        };
        let rep = block.kind == ByobBlockKind::Rep;
        ParallelBlock {
            identity: (channels == block.width && stride == 1)
                .then(|| self.norm.init(block.width, ActivationKind::Identity, device)),
            conv_kxk: if rep {
                KernelConvs::One(conv(block.kernel))
            } else {
                KernelConvs::Several((0..block.branches).map(|_| conv(block.kernel)).collect())
            },
            conv_1x1: rep.then(|| conv(1)),
            conv_scale: (!rep && block.kernel > 1).then(|| conv(1)),
            attn: block.attention.map(|kind| kind.init(block.width, device)),
            activation: self.activation,
        }
    }

    fn residual(&self, block: &ByobBlockConfig, input: BlockInput, device: &Device) -> ResidualBlock {
        use ByobBlockKind::{Basic, Bottleneck, Dark, Edge, SelfAttention};
        let BlockInput { channels: before, side, stride } = input;
        let (inner, after, kind) = (block.inner(before), block.width, block.kind);
        let (act, linear) = (self.activation, ActivationKind::Identity);
        let full =
            |from, to, stride, groups| ConvSpec::new(from, to, block.kernel).bias(false).stride(stride).groups(groups);
        let point = |from, to| ConvSpec::new(from, to, 1).bias(false);
        let conv = |spec: ConvSpec, activation| Some(self.conv(spec, activation, device));
        let groups = block.groups(inner);
        let channel_attention = |channels: usize| block.attention.map(|kind| kind.init(channels, device));
        let attends_last = matches!(kind, Basic | Dark);
        // Self-attention has the stride if no convolution before it does.
        let attention_stride = if block.extra_convolution { 1 } else { stride };
        let projects = before != after || stride != 1;
        ResidualBlock {
            shortcut: projects.then(|| self.projection(before, after, stride, device)).flatten(),
            conv1_1x1: match kind {
                Bottleneck | Dark | SelfAttention => conv(point(before, inner), act),
                _ => None,
            },
            conv1_kxk: match kind {
                Basic => conv(full(before, inner, stride, 1), act),
                Edge => conv(full(before, inner, stride, groups), act),
                _ => None,
            },
            conv2_kxk: match kind {
                Basic => conv(full(inner, after, 1, groups), linear),
                Dark => conv(full(inner, after, stride, groups), linear),
                Bottleneck => conv(full(inner, inner, stride, groups), act),
                SelfAttention if block.extra_convolution => conv(full(inner, inner, stride, groups), act),
                _ => None,
            },
            conv2b_kxk: match kind {
                Bottleneck if block.extra_convolution => conv(full(inner, inner, 1, groups), act),
                _ => None,
            },
            self_attn: match kind {
                SelfAttention => block.self_attention.map(|kind| kind.init(inner, side, attention_stride, device)),
                _ => None,
            },
            post_attn: (kind == SelfAttention).then(|| self.norm.init(inner, act, device)),
            attn: match kind {
                Bottleneck | Edge => channel_attention(inner),
                _ => None,
            },
            conv2_1x1: if kind == Edge { conv(point(inner, after), linear) } else { None },
            conv3_1x1: match kind {
                Bottleneck | SelfAttention => conv(point(inner, after), linear),
                _ => None,
            },
            attn_last: if attends_last { channel_attention(after) } else { None },
            residual: !projects || self.shortcut != ShortcutKind::None,
            activation: if block.linear_output { linear } else { act },
        }
    }

    fn projection(&self, before: usize, after: usize, stride: usize, device: &Device) -> Option<ByobShortcut> {
        let point = ConvSpec::new(before, after, 1).bias(false);
        let linear = ActivationKind::Identity;
        match self.shortcut {
            ShortcutKind::Convolution => {
                Some(ByobShortcut::Convolution(self.conv(point.stride(stride), linear, device)))
            }
            // timm gives this convolution a batch norm whatever the other norms are.
            ShortcutKind::Average => Some(ByobShortcut::Average(PooledConv {
                pool: AverageDown::new(stride),
                conv: ConvNormAct::new(point, NormActKind::default(), linear, None, device),
            })),
            ShortcutKind::None => None,
        }
    }
}

impl ByobBlockConfig {
    /// One block of a kind with the default settings.
    pub fn plain(kind: ByobBlockKind, width: usize) -> Self {
        Self {
            kind,
            depth: 1,
            width,
            stride: 2,
            group_size: 0,
            ratio: 1.0,
            ratio_of_input: false,
            kernel: 3,
            branches: 1,
            extra_convolution: false,
            linear_output: false,
            attention: None,
            self_attention: None,
            transformer: None,
        }
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.depth, self.width, self.kernel, self.branches];
        let valid = sizes.iter().all(|n| (1..=MAX_SIZE).contains(n))
            && (1..=2).contains(&self.stride)
            && self.kernel % 2 == 1
            && self.group_size <= MAX_SIZE
            && (1e-3..=64.0).contains(&self.ratio);
        if valid {
            return Ok(());
        }
        Err(Error::usage(format!("invalid blocks of a ByobNet: {self:?}"))
            .hint("sizes are from 1 to 65536, strides 1 or 2, kernels odd, ratios from 0.001 to 64"))
    }

    /// Checks the block for its input.
    fn check_input(&self, input: BlockInput) -> Result<()> {
        let channels = self.grouped(input.channels);
        if self.group_size > 0 && !channels.is_multiple_of(self.group_size) {
            return Err(Error::usage(format!(
                "group_size = {} does not divide the {channels} channels of a block",
                self.group_size
            ))
            .hint("change group_size or width"));
        }
        let mobile = matches!(self.kind, ByobBlockKind::MobileVit | ByobBlockKind::MobileVitV2);
        if mobile != self.transformer.is_some() {
            return Err(Error::usage("`transformer` is for blocks of MobileViTs, which need it")
                .hint("add transformer = { width = …, depth = …, patch = …, mlp_hidden = … }, or remove it"));
        }
        if let Some(ByobTransformerConfig { width, depth, patch, heads, mlp_hidden }) = self.transformer {
            let positive = [width, depth, patch, heads, mlp_hidden].iter().all(|n| (1..=MAX_SIZE).contains(n));
            if !positive || !width.is_multiple_of(heads) || !input.side.is_multiple_of(patch) || input.stride != 1 {
                return Err(Error::usage(format!(
                    "a block of a MobileViT over a map of side {} with stride {}: {:?}",
                    input.side, input.stride, self.transformer
                ))
                .hint("all are positive, the stride is 1, heads divide width, and patch divides the side of the map"));
            }
        }
        match (self.kind, self.self_attention) {
            (ByobBlockKind::SelfAttention, None) => {
                Err(Error::usage("a block of the kind `self-attention` has no self_attention")
                    .hint("say which: self_attention = { kind = \"bottleneck\", … }"))
            }
            (ByobBlockKind::SelfAttention, Some(kind)) => kind.check(
                self.inner(input.channels),
                if self.extra_convolution { input.side.div_ceil(input.stride) } else { input.side },
            ),
            _ => Ok(()),
        }
    }
}

impl SelfAttentionKind {
    fn check(self, channels: usize, side: usize) -> Result<()> {
        let (heads, valid) = match self {
            Self::Bottleneck { heads, key_width, key_ratio } => {
                (heads, key_width != Some(0) && (1e-3..=64.0).contains(&key_ratio))
            }
            Self::Halo { heads, key_width, key_ratio, block_size, halo_size } => {
                if block_size == 0 || !side.is_multiple_of(block_size) {
                    return Err(Error::usage(format!(
                        "halo attention has blocks of {block_size} positions, which do not divide a map of side {side}"
                    ))
                    .hint("choose an image size whose maps the blocks divide"));
                }
                let sizes = block_size <= MAX_SIZE && halo_size <= MAX_SIZE;
                (heads, key_width != Some(0) && (1e-3..=64.0).contains(&key_ratio) && sizes)
            }
            Self::Lambda { heads, key_width, kernel } => {
                (heads, key_width > 0 && kernel.is_none_or(|k| k % 2 == 1 && k <= MAX_SIZE))
            }
        };
        if valid && heads > 0 && channels.is_multiple_of(heads) && side > 0 {
            return Ok(());
        }
        Err(Error::usage(format!("invalid self-attention over {channels} channels and maps of side {side}: {self:?}"))
            .hint("heads divide the channels, kernels are odd, and numbers are positive"))
    }
}

impl StagedConfig for ByobNetConfig {
    fn check(&self) -> Result<()> {
        let stem = &self.stem;
        let sizes = stem.channels.iter().chain([&self.image_size, &stem.kernel]);
        let one = stem.kind == ByobStemKind::Convolutions || (stem.channels.len() == 1 && stem.pool.is_none());
        let valid = sizes.into_iter().all(|n| (1..=MAX_SIZE).contains(n))
            && !stem.channels.is_empty()
            && stem.kernel % 2 == 1
            && one
            && self.final_width <= MAX_SIZE
            && !self.stages.is_empty()
            && self.stages.iter().all(|stage| !stage.is_empty());
        if !valid {
            return Err(Error::usage(format!("invalid ByobNet: image_size {}, stem {stem:?}", self.image_size)).hint(
                "sizes are from 1 to 65536, kernels odd, stages not empty, and parallel stems have one width and no pool",
            ));
        }
        self.stages.iter().flatten().try_for_each(ByobBlockConfig::check)?;
        if self.layer_count() > MAX_SIZE {
            return Err(
                Error::usage(format!("a ByobNet of {} blocks", self.layer_count())).hint("there are at most 65536")
            );
        }
        let mut outcome = stem.channels.iter().try_for_each(|channels| self.norm.check(*channels));
        self.each_block(|_, block, input| {
            if outcome.is_err() {
                return;
            }
            outcome = block.check_input(input).and_then(|()| self.norm.check(block.width));
            let after = block.out_side(input.side, input.stride, self.anti_alias);
            let shortcut = input.side.div_ceil(input.stride);
            if outcome.is_ok() && self.shortcut != ShortcutKind::None && after != shortcut {
                outcome = Err(Error::usage(format!(
                    "a block halves a map of side {} to {after}, but its shortcut to {shortcut}",
                    input.side
                ))
                .hint("choose an image size of which all halves are even"));
            }
        });
        outcome?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().flatten().fold(0, |sum, block| sum.saturating_add(block.depth))
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).shapes()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        let transformers = self.stages.iter().flatten().filter_map(|block| block.transformer);
        let branches = transformers.map(|transformer| 2 * transformer.depth).max().unwrap_or(1);
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches })
    }
}
