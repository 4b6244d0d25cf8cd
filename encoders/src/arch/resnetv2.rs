//! ResNetV2 (He et al. 2016, arXiv:1603.05027): residual blocks with norms before their convolutions, as in BiT
//! (Kolesnikov et al. 2020, arXiv:1912.11370), also with norms after them. Parameter paths are those of timm's
//! `ResNetV2`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, yes};
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ActivationKind, AverageDown, ChannelGroups, ConvSpec, KernelNorm, NormAct, NormActKind, Padding, StdConv,
    divisible, drop_branch, max_pool,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Hyper-parameters of a ResNetV2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResNetV2Config {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Output channels per stage.
    pub widths: [usize; 4],
    /// Channels of the 3×3 convolutions divided by the output channels of a block, rounded to a multiple of 8. Default
    /// a quarter.
    #[serde(default = "quarter")]
    pub bottleneck_ratio: f64,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Convolutions of the stem. Default `plain`, a 7×7 convolution.
    #[serde(default)]
    pub stem: ResNetV2StemKind,
    /// Padding of the stem's pooling. Default `symmetric`.
    #[serde(default)]
    pub pool_padding: PoolPadding,
    /// Whether blocks have two 3×3 convolutions and no bottleneck. Default false.
    #[serde(default)]
    pub basic: bool,
    /// Whether norms and activations come before the convolutions. Default true.
    #[serde(default = "yes")]
    pub pre_activation: bool,
    /// Whether shortcuts that halve the grid use average pooling and not a strided convolution. Default false.
    #[serde(default)]
    pub average_down: bool,
    /// Epsilon of the weight standardisation of all convolutions; ordinary convolutions if absent. Default absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standardised: Option<f64>,
    /// Whether all convolutions are padded as in TensorFlow. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub same_padding: bool,
    /// Norm of all layers. Default batch norm.
    #[serde(default)]
    pub norm: NormActKind,
    /// Activation of all layers. Default ReLU.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// The convolutions of a ResNetV2's stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ResNetV2StemKind {
    /// One 7×7 convolution.
    #[default]
    Plain,
    /// Three 3×3 convolutions, of which the first two have half the channels.
    Deep,
    /// Three 3×3 convolutions of three eighths, half and all of the channels.
    Tiered,
}

/// The padding of the 3×3 max pooling of a stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PoolPadding {
    /// One row and column at every edge; they are never the maximum.
    #[default]
    Symmetric,
    /// One row and column of zeros at every edge (BiT).
    Zeros,
    /// As in TensorFlow; the padding is never the maximum.
    Same,
}

fn quarter() -> f64 {
    0.25
}

/// A ResNetV2; see the module documentation.
#[derive(Module, Debug)]
pub struct ResNetV2 {
    /// The stem, without its pooling.
    pub stem: ResNetV2Stem,
    /// The stages.
    pub stages: Vec<ResNetV2Stage>,
    /// Norm and activation after the last stage of a network with pre-activation.
    pub norm: Option<NormAct>,
    #[module(skip)]
    config: ResNetV2Config,
}

/// The convolutions of a stem, of stride 2.
#[derive(Module, Debug)]
pub struct ResNetV2Stem {
    /// The only convolution.
    pub conv: Option<StdConv>,
    /// Norm and activation after `conv`.
    pub norm: Option<NormAct>,
    /// First of three convolutions.
    pub conv1: Option<StdConv>,
    /// Norm and activation after `conv1`.
    pub norm1: Option<NormAct>,
    /// Second of three convolutions.
    pub conv2: Option<StdConv>,
    /// Norm and activation after `conv2`.
    pub norm2: Option<NormAct>,
    /// Third convolution.
    pub conv3: Option<StdConv>,
    /// Norm and activation after `conv3`.
    pub norm3: Option<NormAct>,
}

/// A stage.
#[derive(Module, Debug)]
pub struct ResNetV2Stage {
    /// The blocks.
    pub blocks: Vec<ResNetV2Block>,
}

/// A residual block of two or three convolutions, each with a norm before or after it.
#[derive(Module, Debug)]
pub struct ResNetV2Block {
    /// Projection shortcut.
    pub downsample: Option<ResNetV2Shortcut>,
    /// First norm.
    pub norm1: NormAct,
    /// First convolution: 1×1 in a bottleneck, otherwise 3×3.
    pub conv1: StdConv,
    /// Second norm.
    pub norm2: NormAct,
    /// Second convolution, 3×3.
    pub conv2: StdConv,
    /// Third norm, in a bottleneck.
    pub norm3: Option<NormAct>,
    /// Third convolution, 1×1, in a bottleneck.
    pub conv3: Option<StdConv>,
    /// Whether the norms come before the convolutions.
    before: bool,
    #[module(skip)]
    activation: ActivationKind,
}

/// A projection shortcut: a 1×1 convolution, after average pooling if the convolution is not strided.
#[derive(Module, Debug)]
pub struct ResNetV2Shortcut {
    /// Pooling by the block's stride; the identity where the convolution is strided.
    pub pool: AverageDown,
    /// The convolution.
    pub conv: StdConv,
    /// Norm without activation, in a network without pre-activation.
    pub norm: Option<NormAct>,
}

impl PoolPadding {
    /// Takes the maximum of 3×3 positions with a stride of 2.
    pub(super) fn pool(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Symmetric => max_pool(x, 3, 2, 1, false),
            Self::Zeros => max_pool(x.pad((1, 1, 1, 1), PadMode::Constant(0.0)), 3, 2, 0, false),
            Self::Same => {
                let [_, _, rows, columns] = x.dims();
                let (top, bottom) = Padding::Same.edges(rows, 3, 2, 1);
                let (left, right) = Padding::Same.edges(columns, 3, 2, 1);
                let padded = x.pad((left, right, top, bottom), PadMode::Constant(f32::NEG_INFINITY));
                max_pool(padded, 3, 2, 0, false)
            }
        }
    }
}

impl ResNetV2Config {
    /// Channels of the 3×3 convolutions in blocks of `width` output channels.
    fn inner(&self, width: usize) -> usize {
        divisible(width as f64 * self.bottleneck_ratio, 8)
    }

    /// Channels of the first two convolutions of a deep stem.
    fn stem_inner(&self) -> Option<[usize; 2]> {
        match self.stem {
            ResNetV2StemKind::Plain => None,
            ResNetV2StemKind::Deep => Some([self.stem_width / 2; 2]),
            ResNetV2StemKind::Tiered => Some([3 * self.stem_width / 8, self.stem_width / 2]),
        }
    }

    fn conv(&self, spec: ConvSpec, device: &Device) -> StdConv {
        let norm = self.standardised.map_or(KernelNorm::None, |eps| KernelNorm::Standard { eps });
        let padding = if self.same_padding { Padding::Same } else { Padding::Symmetric };
        StdConv::new(spec.bias(false).padding(padding), norm, device)
    }

    fn norm(&self, channels: usize, device: &Device) -> NormAct {
        self.norm.init(channels, self.activation, device)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ResNetV2 {
        let mut before = self.stem_width;
        let stages = self.widths.into_iter().zip(self.depths).enumerate().map(|(stage, (width, depth))| {
            let blocks = (0..depth).map(|block| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let made = self.block(before, width, stride, block == 0, device);
                before = width;
                made
            });
            ResNetV2Stage { blocks: blocks.collect() }
        });
        let stages = stages.collect();
        ResNetV2 {
            stem: self.stem(device),
            stages,
            norm: self.pre_activation.then(|| self.norm(self.widths[3], device)),
            config: self.clone(),
        }
    }

    fn stem(&self, device: &Device) -> ResNetV2Stem {
        let after = !self.pre_activation;
        let width = self.stem_width;
        let conv = |from, to, stride| Some(self.conv(ConvSpec::new(from, to, 3).stride(stride), device));
        let norm = |channels| Some(self.norm(channels, device));
        let last = if after { norm(width) } else { None };
        let none = ResNetV2Stem {
            conv: None,
            norm: None,
            conv1: None,
            norm1: None,
            conv2: None,
            norm2: None,
            conv3: None,
            norm3: None,
        };
        match self.stem_inner() {
            None => {
                ResNetV2Stem { conv: Some(self.conv(ConvSpec::new(3, width, 7).stride(2), device)), norm: last, ..none }
            }
            Some([one, two]) => ResNetV2Stem {
                conv1: conv(3, one, 2),
                norm1: norm(one),
                conv2: conv(one, two, 1),
                norm2: norm(two),
                conv3: conv(two, width, 1),
                norm3: last,
                ..none
            },
        }
    }

    fn block(&self, before: usize, width: usize, stride: usize, first: bool, device: &Device) -> ResNetV2Block {
        let inner = self.inner(width);
        let (pre, basic) = (self.pre_activation, self.basic);
        let conv = |from, to, kernel, stride| self.conv(ConvSpec::new(from, to, kernel).stride(stride), device);
        let norm = |before: usize, after: usize| self.norm(if pre { before } else { after }, device);
        let linear = |channels| self.norm.init(channels, ActivationKind::Identity, device);
        // Bottlenecks project in the first block of each stage, whatever its shape.
        let projects = if basic { stride > 1 || before != width } else { first };
        let pooled = if self.average_down { stride } else { 1 };
        ResNetV2Block {
            downsample: projects.then(|| ResNetV2Shortcut {
                pool: AverageDown::new(pooled),
                conv: conv(before, width, 1, stride / pooled),
                norm: (!pre).then(|| linear(width)),
            }),
            norm1: norm(before, inner),
            conv1: if basic { conv(before, inner, 3, stride) } else { conv(before, inner, 1, 1) },
            norm2: norm(inner, inner),
            conv2: if basic { conv(inner, width, 3, 1) } else { conv(inner, inner, 3, stride) },
            norm3: (!basic).then(|| if pre { self.norm(inner, device) } else { linear(width) }),
            conv3: (!basic).then(|| conv(inner, width, 1, 1)),
            before: pre,
            activation: self.activation,
        }
    }
}

impl ResNetV2Stem {
    /// The convolutions that exist, each with the norm after it.
    fn layers(&self) -> impl Iterator<Item = (&StdConv, Option<&NormAct>)> {
        let all = [
            (&self.conv, &self.norm),
            (&self.conv1, &self.norm1),
            (&self.conv2, &self.norm2),
            (&self.conv3, &self.norm3),
        ];
        all.into_iter().filter_map(|(conv, norm)| Some((conv.as_ref()?, norm.as_ref())))
    }

    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.layers().fold(pixels, |x, (conv, norm)| {
            let x = conv.forward(x);
            norm.map_or(x.clone(), |norm| norm.forward(x))
        })
    }
}

impl ResNetV2Shortcut {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv.forward(self.pool.forward(x));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(x))
    }
}

impl ResNetV2Block {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let last = self.conv3.as_ref().zip(self.norm3.as_ref());
        if self.before {
            let active = self.norm1.forward(x.clone());
            let shortcut = self.downsample.as_ref().map_or(x, |way| way.forward(active.clone()));
            let mut branch = self.conv2.forward(self.norm2.forward(self.conv1.forward(active)));
            if let Some((conv, norm)) = last {
                branch = conv.forward(norm.forward(branch));
            }
            return shortcut + drop_branch(branch, factors);
        }
        let shortcut = self.downsample.as_ref().map_or(x.clone(), |way| way.forward(x.clone()));
        let mut branch = self.norm2.forward(self.conv2.forward(self.norm1.forward(self.conv1.forward(x))));
        if let Some((conv, norm)) = last {
            branch = norm.forward(conv.forward(branch));
        }
        self.activation.forward(shortcut + drop_branch(branch, factors))
    }

    /// Side of the output, and multiply-adds, for a map of `side`.
    fn cost(&self, side: usize) -> (usize, u64) {
        let shortcut = self.downsample.as_ref();
        let shortcut = shortcut.map_or(0, |way| way.conv.multiply_adds(way.pool.out_side(side)));
        let convs = [Some(&self.conv1), Some(&self.conv2), self.conv3.as_ref()];
        convs
            .into_iter()
            .flatten()
            .fold((side, shortcut), |(side, total), conv| (conv.out_side(side), total + conv.multiply_adds(side)))
    }
}

impl ResNetV2 {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ResNetV2Config {
        &self.config
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let image = (self.config.image_size, 0);
        let (side, mut multiply_adds) = self
            .stem
            .layers()
            .fold(image, |(side, total), (conv, _)| (conv.out_side(side), total + conv.multiply_adds(side)));
        let mut side = side.div_ceil(2);
        let mut shapes = Vec::new();
        for (stage, width) in self.stages.iter().zip(self.config.widths) {
            for block in &stage.blocks {
                let (out, adds) = block.cost(side);
                (side, multiply_adds) = (out, multiply_adds + adds);
            }
            shapes.push(LayerShape { width, side, multiply_adds });
            multiply_adds = 0;
        }
        if self.norm.is_some() {
            shapes.push(LayerShape { width: self.config.widths[3], side, multiply_adds: 0 });
        }
        shapes
    }
}

impl StagedConfig for ResNetV2Config {
    fn check(&self) -> Result<()> {
        let sizes = self.depths.iter().chain(&self.widths).chain([&self.image_size, &self.stem_width]);
        let eps = self.standardised.is_none_or(|eps| (0.0..1.0).contains(&eps));
        let stem = self.stem == ResNetV2StemKind::Plain || self.stem_width >= 8;
        if !sizes.into_iter().all(|n| (1..=MAX_SIZE).contains(n))
            || !(1e-3..=64.0).contains(&self.bottleneck_ratio)
            || !eps
            || !stem
        {
            return Err(Error::usage(format!(
                "invalid ResNetV2: image_size {}, depths {:?}, widths {:?}, bottleneck_ratio {}, stem_width {}, \
                 standardised {:?}",
                self.image_size, self.depths, self.widths, self.bottleneck_ratio, self.stem_width, self.standardised
            ))
            .hint("sizes are from 1 to 65536, ratios from 0.001 to 64, and a deep stem has at least 8 channels"));
        }
        if self.basic && !self.pre_activation {
            return Err(Error::usage("basic = true needs pre_activation = true").hint("use bottleneck blocks"));
        }
        self.norm.check(self.stem_width)?;
        self.stem_inner().into_iter().flatten().try_for_each(|channels| self.norm.check(channels))?;
        self.widths.iter().try_for_each(|width| {
            self.norm.check(*width)?;
            self.norm.check(self.inner(*width))
        })?;
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

impl StagedNetwork for ResNetV2 {
    fn depth(&self) -> usize {
        self.stages.len() + usize::from(self.norm.is_some())
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.config.pool_padding.pool(self.stem.forward(pixels));
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages.iter().take(count) {
            for block in &stage.blocks {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        if count > outputs.len()
            && let Some(norm) = &self.norm
        {
            outputs.push(norm.forward(x));
        }
        Ok(outputs)
    }
}

/// timm's names of stems: the convolutions, and the padding of the pooling.
const STEMS: [(&str, (ResNetV2StemKind, PoolPadding)); 7] = [
    ("", (ResNetV2StemKind::Plain, PoolPadding::Symmetric)),
    ("fixed", (ResNetV2StemKind::Plain, PoolPadding::Zeros)),
    ("same", (ResNetV2StemKind::Plain, PoolPadding::Same)),
    ("deep", (ResNetV2StemKind::Deep, PoolPadding::Symmetric)),
    ("deep_fixed", (ResNetV2StemKind::Deep, PoolPadding::Zeros)),
    ("deep_same", (ResNetV2StemKind::Deep, PoolPadding::Same)),
    ("tiered", (ResNetV2StemKind::Tiered, PoolPadding::Symmetric)),
];

/// The convolution of timm's `conv_layer`: epsilon of its weight standardisation, and whether its padding is
/// TensorFlow's.
fn conv_layer(value: &Value) -> Option<(Option<f64>, bool)> {
    let (name, settings) = match value {
        Value::String(name) => (name, None),
        Value::Object(layer) if layer.len() == 1 => {
            let (name, settings) = layer.iter().next()?;
            (name, Some(settings.as_object()?))
        }
        _ => return None,
    };
    let eps = match settings {
        None => 1e-6,
        Some(settings) if settings.keys().all(|key| key == "eps") => {
            settings.get("eps").map_or(Some(1e-6), Value::as_f64)?
        }
        Some(_) => return None,
    };
    match (name.as_str(), settings) {
        ("StdConv2d", _) => Some((Some(eps), false)),
        ("StdConv2dSame", _) => Some((Some(eps), true)),
        ("create_conv2d" | "Conv2d", None) => Some((None, false)),
        _ => None,
    }
}

impl TimmModel for ResNetV2Config {
    const CLASSES: &'static [&'static str] = &["ResNetV2"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "zero_init_last"]);
        let factor = arguments.real("width_factor")?.unwrap_or(1.0);
        let (stem, pool_padding) = arguments.one_of("stem_type", "", &STEMS)?;
        let (standardised, same_padding) = arguments.read("conv_layer", conv_layer)?.unwrap_or((Some(1e-6), false));
        let groups = NormActKind::Group { groups: ChannelGroups::Count(32), eps: 1e-5 };
        let scaled = |n: usize| divisible(n as f64 * factor, 8);
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.four("layers", [0; 4])?,
            widths: arguments.four("channels", [256, 512, 1024, 2048])?.map(scaled),
            bottleneck_ratio: arguments.real("bottle_ratio")?.unwrap_or(0.25),
            stem_width: scaled(arguments.number("stem_chs", 64)?),
            stem,
            pool_padding,
            basic: arguments.flag("basic", false)?,
            pre_activation: arguments.flag("preact", true)?,
            average_down: arguments.flag("avg_down", false)?,
            standardised,
            same_padding,
            norm: NormActKind::from_timm(arguments, "norm_layer", groups)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
