//! TResNet (Ridnik et al. 2020, arXiv:2003.13630): a ResNet whose stem rearranges 4×4 pixels to channels, with
//! squeeze-and-excitation and low-pass filters in place of strides. Parameter paths are those of timm's `TResNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ActivationKind, AntiAlias, AverageDown, ConvNormAct, ConvSpec, NormActKind, SqueezeExcite, drop_branch,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Activation inside the blocks.
const INNER: ActivationKind = ActivationKind::LeakyReluThousandth;

/// Hyper-parameters of a TResNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TResNetConfig {
    /// Side of the square input images, in pixels; a multiple of 4.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Channels of the stem and of the first stage's convolutions; they double from stage to stage.
    pub width: usize,
    /// Whether all stages have bottlenecks (V2), and not only the last two. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub bottlenecks: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// A TResNet; see the module documentation.
#[derive(Module, Debug)]
pub struct TResNet {
    /// All layers.
    pub body: Body,
    #[module(skip)]
    config: TResNetConfig,
}

/// The layers of a TResNet.
#[derive(Module, Debug)]
pub struct Body {
    /// 3×3 convolution of the rearranged pixels.
    pub conv1: ConvNormAct,
    /// The blocks of the first stage.
    pub layer1: Vec<TResBlock>,
    /// The blocks of the second stage.
    pub layer2: Vec<TResBlock>,
    /// The blocks of the third stage.
    pub layer3: Vec<TResBlock>,
    /// The blocks of the fourth stage.
    pub layer4: Vec<TResBlock>,
}

/// A residual block: two 3×3 convolutions, or a bottleneck of three.
#[derive(Module, Debug)]
pub struct TResBlock {
    /// First convolution: 3×3 in a basic block, otherwise 1×1.
    pub conv1: ConvNormAct,
    /// Second convolution, 3×3.
    pub conv2: ConvNormAct,
    /// Squeeze-and-excitation after `conv2`; none in the last stage.
    pub se: Option<SqueezeExcite>,
    /// Third convolution, 1×1; only in a bottleneck.
    pub conv3: Option<ConvNormAct>,
    /// Projection shortcut, where the block's output has another shape than its input.
    pub downsample: Option<Projection>,
}

/// A 1×1 convolution, after average pooling where the grid is halved.
// A stage has one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Projection {
    /// The convolution alone.
    Same([ConvNormAct; 1]),
    /// Average pooling, then the convolution.
    Halved((AverageDown, ConvNormAct)),
}

/// Sizes of a block.
#[derive(Clone, Copy)]
struct BlockSpec {
    from: usize,
    planes: usize,
    stride: usize,
    bottleneck: bool,
    squeeze: bool,
}

impl BlockSpec {
    /// Output channels.
    fn to(self) -> usize {
        if self.bottleneck { 4 * self.planes } else { self.planes }
    }

    /// The convolutions, each with its activation.
    fn layout(self) -> Vec<(ConvSpec, ActivationKind)> {
        let Self { from, planes, stride, bottleneck, .. } = self;
        match bottleneck {
            true => vec![
                (ConvSpec::new(from, planes, 1), INNER),
                (ConvSpec::new(planes, planes, 3).stride(stride), INNER),
                (ConvSpec::new(planes, 4 * planes, 1), ActivationKind::Identity),
            ],
            false => vec![
                (ConvSpec::new(from, planes, 3).stride(stride), INNER),
                (ConvSpec::new(planes, planes, 3), ActivationKind::Identity),
            ],
        }
    }

    /// Hidden channels of squeeze-and-excitation.
    fn hidden(self) -> usize {
        (if self.bottleneck { self.planes / 2 } else { self.planes / 4 }).max(64)
    }

    fn projected(self) -> bool {
        self.stride != 1 || self.from != self.to()
    }

    fn init(self, device: &Device) -> TResBlock {
        let conv = |(spec, activation): (ConvSpec, ActivationKind)| {
            ConvNormAct::new(spec, NormActKind::default(), activation, Some(AntiAlias::Blur), device)
        };
        let layout = self.layout();
        let squeeze =
            || SqueezeExcite::new(self.planes, self.hidden(), ActivationKind::Relu, ActivationKind::Sigmoid, device);
        TResBlock {
            conv1: conv(layout[0]),
            conv2: conv(layout[1]),
            se: self.squeeze.then(squeeze),
            conv3: layout.get(2).copied().map(conv),
            downsample: self.projected().then(|| {
                let point = conv((ConvSpec::new(self.from, self.to(), 1), ActivationKind::Identity));
                match self.stride {
                    1 => Projection::Same([point]),
                    stride => Projection::Halved((AverageDown::new(stride), point)),
                }
            }),
        }
    }

    /// Multiply-adds for an input of `side`, and the side of the output.
    fn cost(self, side: usize) -> (u64, usize) {
        let half = if self.stride > 1 { AntiAlias::Blur.out_side(side) } else { side };
        let mut total = 0;
        let mut at = side;
        for (spec, _) in self.layout() {
            // A convolution with a low-pass filter is computed at full resolution.
            total += spec.stride(1).multiply_adds(at);
            if spec.stride > 1 {
                total += AntiAlias::Blur.multiply_adds(spec.to, at);
                at = half;
            }
        }
        if self.projected() {
            total += ConvSpec::new(self.from, self.to(), 1).multiply_adds(half);
        }
        if self.squeeze {
            total += 2 * (self.planes * self.hidden()) as u64;
        }
        (total, half)
    }
}

impl TResBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let branch = self.conv2.forward(self.conv1.forward(x.clone()));
        let branch = self.se.as_ref().map_or(branch.clone(), |se| se.forward(branch));
        let branch = self.conv3.as_ref().map_or(branch.clone(), |conv| conv.forward(branch));
        let shortcut = match &self.downsample {
            None => x,
            Some(Projection::Same([point])) => point.forward(x),
            Some(Projection::Halved((pool, point))) => point.forward(pool.forward(x)),
        };
        relu(drop_branch(branch, factors) + shortcut)
    }
}

/// Rearranges 4×4 pixels to channels: `[batch, 3, height, width]` to `[batch, 48, height / 4, width / 4]`.
fn space_to_depth(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let split: Tensor<6> = x.reshape([batch, channels, rows / 4, 4, columns / 4, 4]);
    split.permute([0, 3, 5, 1, 2, 4]).reshape([batch, 16 * channels, rows / 4, columns / 4])
}

impl TResNetConfig {
    fn stem(&self) -> ConvSpec {
        ConvSpec::new(48, self.width, 3)
    }

    /// The blocks of each stage.
    fn stages(&self) -> Vec<Vec<BlockSpec>> {
        let mut from = self.width;
        let stage = |(stage, depth): (usize, &usize)| {
            let block = |i: usize| {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let bottleneck = self.bottlenecks || stage > 1;
                let spec = BlockSpec { from, planes: self.width << stage, stride, bottleneck, squeeze: stage < 3 };
                from = spec.to();
                spec
            };
            (0..*depth).map(block).collect()
        };
        self.depths.iter().enumerate().map(stage).collect()
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> TResNet {
        let stages = self.stages().into_iter();
        let mut stages = stages.map(|stage| stage.into_iter().map(|spec| spec.init(device)).collect());
        let mut next = || stages.next().unwrap_or_default();
        let conv1 = ConvNormAct::new(self.stem(), NormActKind::default(), ActivationKind::LeakyRelu, None, device);
        let body = Body { conv1, layer1: next(), layer2: next(), layer3: next(), layer4: next() };
        TResNet { body, config: self.clone() }
    }
}

impl StagedConfig for TResNetConfig {
    fn check(&self) -> Result<()> {
        let positive = self.depths.iter().chain([&self.image_size, &self.width]).all(|n| (1..=MAX_SIZE).contains(n));
        if !positive || !self.image_size.is_multiple_of(4) || self.image_size < 64 {
            return Err(Error::usage(format!(
                "invalid TResNet: image_size {}, depths {:?}, width {}",
                self.image_size, self.depths, self.width
            ))
            .hint("all must be positive and at most 65536, and image_size a multiple of 4 and at least 64"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut side = self.image_size / 4;
        let mut carried = self.stem().multiply_adds(side);
        let mut layers = Vec::with_capacity(4);
        for stage in self.stages() {
            let mut width = 0;
            for spec in stage {
                let (cost, after) = spec.cost(side);
                (carried, side, width) = (carried + cost, after, spec.to());
            }
            layers.push(LayerShape { width, side, multiply_adds: std::mem::take(&mut carried) });
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl TResNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &TResNetConfig {
        &self.config
    }
}

impl StagedNetwork for TResNet {
    fn depth(&self) -> usize {
        4
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 4)?;
        let body = &self.body;
        let mut x = body.conv1.forward(space_to_depth(pixels));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in [&body.layer1, &body.layer2, &body.layer3, &body.layer4].into_iter().take(count) {
            for block in stage {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for TResNetConfig {
    const CLASSES: &'static [&'static str] = &["TResNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let bottlenecks = arguments.flag("v2", false)?;
        let width = times(64, arguments.real("width_factor")?.unwrap_or(1.0));
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.four("layers", [0; 4])?,
            width: if bottlenecks { width / 8 * 8 } else { width },
            bottlenecks,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
