//! Normaliser-free networks (Brock et al. 2021, arXiv:2101.08692 and arXiv:2102.06171): residual blocks without norms,
//! whose convolutions have scaled weight standardisation. Parameter paths are those of timm's `NormFreeNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ActivationKind, AverageDown, ChannelAttention, ChannelAttentionKind, ConvSpec, KernelNorm, Named, Padding, StdConv,
    divisible, drop_branch, max_pool,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a normaliser-free network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NfNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Output channels per stage.
    pub widths: [usize; 4],
    /// Convolutions of the stem.
    pub stem: NfStemKind,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Whether the stem ends with 3×3 max pooling. Default false.
    #[serde(default)]
    pub stem_pool: bool,
    /// Inner channels of a block divided by its output channels.
    pub bottleneck_ratio: f64,
    /// Whether `bottleneck_ratio` is that of inner to input channels, 1 in the first block, and attention comes before
    /// the last convolution (NF-RegNet). Default false.
    #[serde(default)]
    pub expanding: bool,
    /// The inner channels are rounded to a multiple of this number. Default 8.
    #[serde(default = "eight")]
    pub divisor: usize,
    /// Channels per group of the 3×3 convolutions; 0 for ungrouped ones. Default 0.
    #[serde(default)]
    pub group_size: usize,
    /// Whether blocks have two 3×3 convolutions. Default false.
    #[serde(default)]
    pub extra_convolution: bool,
    /// Channels of a 1×1 convolution after the last stage; 0 for none. Default 0.
    #[serde(default)]
    pub final_width: usize,
    /// Factor of the residual branches. Default 0.2.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// Channel attention of the blocks. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ChannelAttentionKind>,
    /// Factor of the output of the attention. Default 2.
    #[serde(default = "default_gain")]
    pub attention_gain: f64,
    /// Whether a trained number, 0 at first, multiplies each residual branch. Default false.
    #[serde(default)]
    pub skip_init: bool,
    /// Activation of all layers.
    pub activation: ActivationKind,
    /// Whether the correction of the activation's variance multiplies its output and not the kernels. Default false.
    #[serde(default)]
    pub gain_in_activation: bool,
    /// Whether convolutions are padded as in TensorFlow. Default false.
    #[serde(default)]
    pub same_padding: bool,
    /// Epsilon added to the variance of the kernels. Default 1e-5.
    #[serde(default = "default_eps")]
    pub kernel_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// The convolutions of a stem; the first has a stride of 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NfStemKind {
    /// One 3×3 convolution.
    Small,
    /// One 7×7 convolution.
    Large,
    /// Three 3×3 convolutions; the first two have half the channels.
    Deep,
    /// Three 3×3 convolutions of three eighths, half and all of the channels.
    Tiered,
    /// Four 3×3 convolutions of an eighth, a quarter, half and all of the channels; the last has a stride of 2.
    Quad,
}

fn eight() -> usize {
    8
}

fn default_alpha() -> f64 {
    0.2
}

fn default_gain() -> f64 {
    2.0
}

fn default_eps() -> f64 {
    1e-5
}

/// A normaliser-free network; see the module documentation.
#[derive(Module, Debug)]
pub struct NfNet {
    /// The stem, without its pooling.
    pub stem: Named<StdConv>,
    /// The blocks of each stage.
    pub stages: Vec<Vec<NfBlock>>,
    /// 1×1 convolution after the last stage.
    pub final_conv: Option<StdConv>,
    #[module(skip)]
    config: NfNetConfig,
}

/// A residual block with activations before its convolutions.
#[derive(Module, Debug)]
pub struct NfBlock {
    /// Projection shortcut.
    pub downsample: Option<NfShortcut>,
    /// 1×1 convolution.
    pub conv1: StdConv,
    /// Grouped 3×3 convolution.
    pub conv2: StdConv,
    /// Second grouped 3×3 convolution.
    pub conv2b: Option<StdConv>,
    /// Channel attention before `conv3`.
    pub attn: Option<ChannelAttention>,
    /// 1×1 convolution.
    pub conv3: StdConv,
    /// Channel attention after `conv3`.
    pub attn_last: Option<ChannelAttention>,
    /// Trained factor of the branch, one number.
    pub skipinit_gain: Option<Param<Tensor<1>>>,
    /// Factor of the activated input: one over its expected standard deviation.
    beta: f64,
}

/// Average pooling and a 1×1 convolution.
#[derive(Module, Debug)]
pub struct NfShortcut {
    /// Pooling by the block's stride.
    pub pool: AverageDown,
    /// The convolution.
    pub conv: StdConv,
}

/// For each activation, the inverse of the standard deviation of its output for a standard normal input.
const GAINS: [(ActivationKind, f64); 10] = [
    (ActivationKind::Identity, 1.0),
    (ActivationKind::Elu, 1.271_600_484_848_022_5),
    (ActivationKind::Gelu, 1.701_504_349_708_557_1),
    (ActivationKind::LeakyRelu, 1.705_903_410_911_56),
    (ActivationKind::Relu, 1.713_958_859_443_664_6),
    (ActivationKind::Relu6, 1.713_148_474_693_298_3),
    (ActivationKind::Sigmoid, 4.803_835_391_998_291),
    (ActivationKind::Silu, 1.788_129_329_681_396_5),
    (ActivationKind::Tanh, 1.593_911_767_005_920_4),
    (ActivationKind::GeluTanh, 1.701_504_349_708_557_1),
];

impl NfStemKind {
    /// Channels of each convolution, side of the kernels, and whether the last convolution has a stride of 2.
    fn layout(self, width: usize) -> (Vec<usize>, usize, bool) {
        match self {
            Self::Small => (vec![width], 3, false),
            Self::Large => (vec![width], 7, false),
            Self::Deep => (vec![width / 2, width / 2, width], 3, false),
            Self::Tiered => (vec![3 * width / 8, width / 2, width], 3, false),
            Self::Quad => (vec![width / 8, width / 4, width / 2, width], 3, true),
        }
    }
}

impl NfNetConfig {
    /// The gain of the activation; `None` if it is not known.
    fn gain(&self) -> Option<f64> {
        GAINS.iter().find(|(kind, _)| *kind == self.activation).map(|(_, gain)| *gain)
    }

    fn activate(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.activation.forward(x);
        match self.gain() {
            Some(gain) if self.gain_in_activation => x.mul_scalar(gain),
            _ => x,
        }
    }

    fn conv(&self, spec: ConvSpec, device: &Device) -> StdConv {
        let gamma = if self.gain_in_activation { 1.0 } else { self.gain().unwrap_or(1.0) };
        let padding = if self.same_padding { Padding::Same } else { Padding::Symmetric };
        StdConv::new(spec.padding(padding), KernelNorm::Scaled { eps: self.kernel_eps, gamma }, device)
    }

    /// Whether the stem divides the sides of the image by 4, and not by 2.
    fn stem_quarters(&self) -> bool {
        self.stem_pool || self.stem == NfStemKind::Quad
    }

    /// Inner channels and groups of a block.
    fn inner(&self, before: usize, width: usize, first: bool) -> (usize, usize) {
        let ratio = if self.expanding && first { 1.0 } else { self.bottleneck_ratio };
        let outside = if self.expanding { before } else { width };
        let inner = divisible(ratio * outside as f64, self.divisor);
        match self.group_size {
            0 => (inner, 1),
            size if size % self.divisor == 0 => (inner / size * size, inner / size),
            size => (inner, inner / size),
        }
    }

    /// Calls `visit` with the stage, input channels, stride and expected variance of each block.
    fn each_block(&self, mut visit: impl FnMut(usize, usize, usize, f64)) {
        let (mut before, mut variance) = (self.stem_width, 1.0);
        for (stage, (width, depth)) in self.widths.into_iter().zip(self.depths).enumerate() {
            for block in 0..depth {
                let stride = if block == 0 && (stage > 0 || !self.stem_quarters()) { 2 } else { 1 };
                visit(stage, before, stride, variance);
                // The first block of a stage resets the variance of the shortcut.
                variance = if block == 0 { 1.0 } else { variance } + self.alpha * self.alpha;
                before = width;
            }
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> NfNet {
        let mut stages: Vec<Vec<NfBlock>> = self.widths.iter().map(|_| Vec::new()).collect();
        self.each_block(|stage, before, stride, variance| {
            let first = stages.iter().all(Vec::is_empty);
            let block = self.block(before, self.widths[stage], stride, first, variance, device);
            stages[stage].push(block);
        });
        let (channels, kernel, strided) = self.stem.layout(self.stem_width);
        let before = std::iter::once(3).chain(channels.iter().copied());
        let last = channels.len() - 1;
        let convs = before.zip(&channels).enumerate().map(|(index, (from, to))| {
            let stride = if index == 0 || (strided && index == last) { 2 } else { 1 };
            self.conv(ConvSpec::new(from, *to, kernel).stride(stride), device)
        });
        NfNet {
            stem: if last == 0 {
                convs.map(|conv| ("conv".to_string(), conv)).collect()
            } else {
                Named::counted("conv", convs)
            },
            stages,
            final_conv: (self.final_width > 0)
                .then(|| self.conv(ConvSpec::new(self.widths[3], self.final_width, 1), device)),
            config: self.clone(),
        }
    }

    fn block(
        &self,
        before: usize,
        width: usize,
        stride: usize,
        first: bool,
        variance: f64,
        device: &Device,
    ) -> NfBlock {
        let (inner, groups) = self.inner(before, width, first);
        let conv = |spec| self.conv(spec, device);
        let middle = ConvSpec::new(inner, inner, 3).groups(groups);
        let attention = |channels: usize| self.attention.map(|kind| kind.init(channels, device));
        NfBlock {
            downsample: (before != width || stride != 1)
                .then(|| NfShortcut { pool: AverageDown::new(stride), conv: conv(ConvSpec::new(before, width, 1)) }),
            conv1: conv(ConvSpec::new(before, inner, 1)),
            conv2: conv(middle.stride(stride)),
            conv2b: self.extra_convolution.then(|| conv(middle)),
            attn: if self.expanding { attention(inner) } else { None },
            conv3: conv(ConvSpec::new(inner, width, 1)),
            attn_last: if self.expanding { None } else { attention(width) },
            skipinit_gain: self.skip_init.then(|| Initializer::Zeros.init([1], device)),
            beta: variance.powf(-0.5),
        }
    }
}

impl NfBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    fn forward(&self, x: Tensor<4>, config: &NfNetConfig, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let attend = |layer: &Option<ChannelAttention>, x: Tensor<4>| match layer {
            Some(layer) => layer.forward(x).mul_scalar(config.attention_gain),
            None => x,
        };
        let active = config.activate(x.clone()).mul_scalar(self.beta);
        let shortcut = match &self.downsample {
            Some(NfShortcut { pool, conv }) => conv.forward(pool.forward(active.clone())),
            None => x,
        };
        let mut branch = self.conv2.forward(config.activate(self.conv1.forward(active)));
        if let Some(conv) = &self.conv2b {
            branch = conv.forward(config.activate(branch));
        }
        let branch = self.conv3.forward(config.activate(attend(&self.attn, branch)));
        let mut branch = drop_branch(attend(&self.attn_last, branch), factors);
        if let Some(gain) = &self.skipinit_gain {
            branch = branch * gain.val().reshape([1, 1, 1, 1]);
        }
        branch.mul_scalar(config.alpha) + shortcut
    }

    /// Side of the output, and multiply-adds, for a map of `side`.
    fn cost(&self, side: usize) -> (usize, u64) {
        let shortcut = self.downsample.as_ref();
        let shortcut = shortcut.map_or(0, |way| way.conv.multiply_adds(way.pool.out_side(side)));
        let convs = [Some(&self.conv1), Some(&self.conv2), self.conv2b.as_ref(), Some(&self.conv3)];
        let (out, convs) = convs
            .into_iter()
            .flatten()
            .fold((side, 0), |(side, total), conv| (conv.out_side(side), total + conv.multiply_adds(side)));
        let attention = [&self.attn, &self.attn_last].into_iter().flatten();
        (out, shortcut + convs + attention.map(|layer| layer.multiply_adds(out)).sum::<u64>())
    }
}

impl NfNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &NfNetConfig {
        &self.config
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let config = &self.config;
        let image = (config.image_size, 0);
        let (mut side, mut multiply_adds) =
            self.stem.iter().fold(image, |(side, total), conv| (conv.out_side(side), total + conv.multiply_adds(side)));
        if config.stem_pool {
            side = side.div_ceil(2);
        }
        let mut shapes = Vec::new();
        for (stage, width) in self.stages.iter().zip(config.widths) {
            for block in stage {
                let (out, adds) = block.cost(side);
                (side, multiply_adds) = (out, multiply_adds + adds);
            }
            shapes.push(LayerShape { width, side, multiply_adds });
            multiply_adds = 0;
        }
        let conv = self.final_conv.as_ref();
        shapes.push(LayerShape {
            width: conv.map_or(config.widths[3], StdConv::channels),
            side,
            multiply_adds: conv.map_or(0, |conv| conv.multiply_adds(side)),
        });
        shapes
    }
}

impl StagedConfig for NfNetConfig {
    fn check(&self) -> Result<()> {
        let sizes = self.depths.iter().chain(&self.widths);
        let sizes = sizes.chain([&self.image_size, &self.stem_width, &self.divisor]);
        let reals = [self.alpha, self.attention_gain, self.kernel_eps].iter().all(|n| (0.0..1e3).contains(n));
        if !sizes.into_iter().all(|n| (1..=MAX_SIZE).contains(n))
            || !(1e-3..=64.0).contains(&self.bottleneck_ratio)
            || self.final_width > MAX_SIZE
            || self.group_size > MAX_SIZE
            || self.stem_width < 8
            || !reals
        {
            return Err(Error::usage(format!(
                "invalid NFNet: image_size {}, depths {:?}, widths {:?}, stem_width {}, divisor {}, bottleneck_ratio {}, \
                 final_width {}, group_size {}",
                self.image_size,
                self.depths,
                self.widths,
                self.stem_width,
                self.divisor,
                self.bottleneck_ratio,
                self.final_width,
                self.group_size
            ))
            .hint("sizes are from 1 to 65536, the stem has at least 8 channels, and ratios are from 0.001 to 64"));
        }
        if self.gain().is_none() {
            return Err(Error::usage(format!("an NFNet has no gain for the activation {:?}", self.activation))
                .hint("use gelu, silu, relu, elu, leaky_relu, tanh or sigmoid"));
        }
        let (mut outcome, mut first) = (Ok(()), true);
        self.each_block(|stage, before, _, _| {
            let (inner, groups) = self.inner(before, self.widths[stage], first);
            first = false;
            if outcome.is_ok() && (groups == 0 || !inner.is_multiple_of(groups)) {
                outcome = Err(Error::usage(format!(
                    "group_size = {} does not divide the {inner} inner channels of a block",
                    self.group_size
                ))
                .hint("change group_size or widths"));
            }
        });
        outcome?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).shapes()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

impl StagedNetwork for NfNet {
    fn depth(&self) -> usize {
        self.stages.len() + 1
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let config = &self.config;
        let mut x = pixels;
        for (index, conv) in self.stem.iter().enumerate() {
            x = conv.forward(if index == 0 { x } else { config.activate(x) });
        }
        if config.stem_pool {
            x = max_pool(x, 3, 2, 1, false);
        }
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages.iter().take(count) {
            for block in stage {
                x = block.forward(x, config, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        if count > outputs.len() {
            let x = self.final_conv.as_ref().map_or(x.clone(), |conv| conv.forward(x));
            outputs.push(config.activate(x));
        }
        Ok(outputs)
    }
}

/// timm's names of stems: the convolutions, and whether they end with pooling.
const STEMS: [(&str, (NfStemKind, bool)); 9] = [
    ("", (NfStemKind::Large, false)),
    ("3x3", (NfStemKind::Small, false)),
    ("7x7", (NfStemKind::Large, false)),
    ("deep", (NfStemKind::Deep, false)),
    ("deep_tiered", (NfStemKind::Tiered, false)),
    ("deep_quad", (NfStemKind::Quad, false)),
    ("deep_pool", (NfStemKind::Deep, true)),
    ("3x3_pool", (NfStemKind::Small, true)),
    ("7x7_pool", (NfStemKind::Large, true)),
];

impl TimmModel for NfNetConfig {
    const CLASSES: &'static [&'static str] = &["NormFreeNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.overlay("model_cfg")?;
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "zero_init_fc"]);
        let factor = arguments.real("width_factor")?.unwrap_or(1.0);
        let divisor = arguments.number("ch_div", 8)?;
        let scaled = |n: usize| divisible(n as f64 * factor, divisor);
        let channels = arguments.four("channels", [0; 4])?;
        let (stem, stem_pool) = arguments.one_of("stem_type", "3x3", &STEMS)?;
        let name = arguments.text("attn_layer", "")?;
        let options = arguments.read("attn_kwargs", |value| value.as_object().cloned())?.unwrap_or_default();
        let attention = match name.as_str() {
            "" => None,
            name => Some(ChannelAttentionKind::from_timm(arguments, name, &options)?),
        };
        let stem_width = match arguments.number("stem_chs", 0)? {
            0 => channels[0],
            width => width,
        };
        let final_width = match arguments.number("num_features", 0)? {
            0 => 0,
            width => scaled(width),
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.four("depths", [0; 4])?,
            widths: channels.map(scaled),
            stem,
            stem_width: scaled(stem_width),
            stem_pool,
            bottleneck_ratio: arguments.real("bottle_ratio")?.unwrap_or(0.5),
            expanding: arguments.flag("reg", false)?,
            divisor,
            group_size: arguments.number("group_size", 0)?,
            extra_convolution: arguments.flag("extra_conv", false)?,
            final_width,
            alpha: arguments.real("alpha")?.unwrap_or(0.2),
            attention,
            attention_gain: arguments.real("attn_gain")?.unwrap_or(2.0),
            skip_init: arguments.flag("skipinit", false)?,
            activation: arguments.activation("act_layer", ActivationKind::Silu)?,
            gain_in_activation: arguments.flag("gamma_in_act", false)?,
            same_padding: arguments.flag("same_padding", false)?,
            kernel_eps: arguments.real("std_conv_eps")?.unwrap_or(1e-5),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        })
        .with_dialect("timm-nfnet"))
    }
}
