//! ReXNet (Han et al. 2020, arXiv:2007.00992): linear bottlenecks whose channels grow a little at every block.
//! Parameter paths are those of timm's `RexNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, ConvBn, ConvSpec, FrozenBatchNorm, SqueezeExcite, Trace, divisible, drop_branch, positive, rounded,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a ReXNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RexNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Factor of all channels. Default 1.
    #[serde(default = "default_width")]
    pub width: f64,
    /// Factor of the number of blocks, rounded up. Default 1.
    #[serde(default = "default_width")]
    pub depth: f64,
    /// Channels of the first block, before `width`. Default 16.
    #[serde(default = "default_first")]
    pub first_channels: usize,
    /// Channels that are added from the first to the last block, before `width`. Default 180.
    #[serde(default = "default_added")]
    pub added_channels: usize,
    /// Hidden channels of squeeze-and-excitation divided by channels; 0 for none. Default 1/12.
    #[serde(default = "default_squeeze")]
    pub squeeze_ratio: f64,
    /// Channels are multiples of this number. Default 1.
    #[serde(default = "default_divisor")]
    pub divisor: usize,
    /// Activation after the expansion. Default SiLU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Activation after the depthwise convolution. Default ReLU6.
    #[serde(default = "default_depthwise")]
    pub depthwise_activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_width() -> f64 {
    1.0
}

fn default_first() -> usize {
    16
}

fn default_added() -> usize {
    180
}

fn default_squeeze() -> f64 {
    1.0 / 12.0
}

fn default_divisor() -> usize {
    1
}

fn default_activation() -> ActivationKind {
    ActivationKind::Silu
}

fn default_depthwise() -> ActivationKind {
    ActivationKind::Relu6
}

/// A ReXNet; see the module documentation.
#[derive(Module, Debug)]
pub struct RexNet {
    /// Convolution of stride 2.
    pub stem: ConvBn,
    /// The blocks, then a pointwise convolution.
    pub features: Vec<RexLayer>,
    #[module(skip)]
    config: RexNetConfig,
}

/// A layer of a ReXNet.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum RexLayer {
    /// A linear bottleneck.
    Block(RexBlock),
    /// The last pointwise convolution.
    Last(ConvBn),
}

/// A linear bottleneck; the shortcut goes to the first channels only.
#[derive(Module, Debug)]
pub struct RexBlock {
    /// Pointwise expansion.
    pub conv_exp: Option<ConvBn>,
    /// Depthwise convolution.
    pub conv_dw: ConvBn,
    /// Squeeze-and-excitation.
    pub se: Option<SqueezeExcite>,
    /// Pointwise projection.
    pub conv_pwl: ConvBn,
    residual: bool,
}

/// Shape of a block.
struct BlockShape {
    from: usize,
    to: usize,
    ratio: usize,
    stride: usize,
    excite: bool,
}

impl RexNetConfig {
    /// Number of blocks of each stage.
    fn depths(&self) -> [usize; 6] {
        [1, 2, 2, 3, 3, 5].map(|n| (f64::from(n) * self.depth).ceil() as usize)
    }

    fn stem_channels(&self) -> usize {
        let base = if self.width < 1.0 { 32.0 / self.width } else { 32.0 };
        divisible(rounded(base * self.width) as f64, self.divisor)
    }

    fn head_channels(&self) -> usize {
        divisible(1280.0 * self.width, self.divisor)
    }

    fn shapes(&self) -> Vec<BlockShape> {
        let depths = self.depths();
        let count: usize = depths.iter().sum();
        let first = self.first_channels as f64;
        let mut base = if self.width < 1.0 { first / self.width } else { first };
        let mut from = self.stem_channels();
        let mut shapes = Vec::with_capacity(count);
        for (stage, (depth, stride)) in depths.into_iter().zip([1, 2, 2, 2, 1, 2]).enumerate() {
            for block in 0..depth {
                let to = divisible(rounded(base * self.width) as f64, self.divisor);
                base += self.added_channels as f64 / count as f64;
                shapes.push(BlockShape {
                    from,
                    to,
                    ratio: if stage == 0 { 1 } else { 6 },
                    stride: if block == 0 { stride } else { 1 },
                    excite: stage > 1,
                });
                from = to;
            }
        }
        shapes
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> RexNet {
        let shapes = self.shapes();
        let last = shapes.last().map_or(0, |shape| shape.to);
        let mut features: Vec<_> = shapes.iter().map(|shape| RexLayer::Block(self.block(shape, device))).collect();
        features.push(RexLayer::Last(normed(ConvSpec::new(last, self.head_channels(), 1), device)));
        RexNet {
            stem: normed(ConvSpec::new(3, self.stem_channels(), 3).stride(2), device),
            features,
            config: self.clone(),
        }
    }

    fn block(&self, shape: &BlockShape, device: &Device) -> RexBlock {
        let expands = shape.ratio > 1;
        let hidden = if expands { divisible((shape.from * shape.ratio) as f64, self.divisor) } else { shape.from };
        let squeezed = divisible((hidden as f64 * self.squeeze_ratio).floor(), self.divisor);
        let excite = || {
            let (act, gate) = (ActivationKind::Relu, ActivationKind::Sigmoid);
            let mut layer = SqueezeExcite::new(hidden, squeezed, act, gate, device);
            layer.bn = Some(FrozenBatchNorm::new(squeezed, 1e-5, device));
            layer
        };
        RexBlock {
            conv_exp: expands.then(|| normed(ConvSpec::new(shape.from, hidden, 1), device)),
            conv_dw: normed(ConvSpec::depthwise(hidden, 3).stride(shape.stride), device),
            se: (shape.excite && self.squeeze_ratio > 0.0).then(excite),
            conv_pwl: normed(ConvSpec::new(hidden, shape.to, 1), device),
            residual: shape.stride == 1 && shape.from <= shape.to,
        }
    }
}

/// Builds a convolution with a batch norm.
fn normed(spec: ConvSpec, device: &Device) -> ConvBn {
    ConvBn::new(spec.bias(false), device)
}

impl RexBlock {
    fn forward(&self, x: Tensor<4>, config: &RexNetConfig, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mut hidden = x.clone();
        if let Some(conv) = &self.conv_exp {
            hidden = config.activation.forward(conv.forward(hidden));
        }
        hidden = self.conv_dw.forward(hidden);
        if let Some(layer) = &self.se {
            hidden = layer.forward(hidden);
        }
        let out = self.conv_pwl.forward(config.depthwise_activation.forward(hidden));
        if !self.residual {
            return out;
        }
        let out = drop_branch(out, factors);
        let ([_, from, ..], [_, to, ..]) = (x.dims(), out.dims());
        if from == to {
            return out + x;
        }
        Tensor::cat(vec![out.clone().narrow(1, 0, from) + x, out.narrow(1, from, to - from)], 1)
    }

    fn trace(&self, trace: &mut Trace) {
        for conv in self.conv_exp.iter().chain([&self.conv_dw]) {
            conv.trace(trace);
        }
        if let Some(layer) = &self.se {
            trace.squeeze_excite(layer);
        }
        self.conv_pwl.trace(trace);
    }

    fn stride(&self) -> usize {
        self.conv_dw.conv.spec().stride
    }
}

impl RexNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &RexNetConfig {
        &self.config
    }

    /// Whether a layer ends before `index`: the layer at that index halves the grid, or is the last convolution.
    fn ends_before(&self, index: usize) -> bool {
        match self.features.get(index) {
            Some(RexLayer::Block(block)) => block.stride() > 1,
            Some(RexLayer::Last(_)) => true,
            None => false,
        }
    }
}

impl StagedConfig for RexNetConfig {
    fn check(&self) -> Result<()> {
        let real = |value: f64| (0.01..=100.0).contains(&value);
        if !real(self.width) || !real(self.depth) || !(0.0..=1.0).contains(&self.squeeze_ratio) {
            return Err(Error::usage(format!(
                "invalid ReXNet: width {}, depth {}, squeeze_ratio {}",
                self.width, self.depth, self.squeeze_ratio
            ))
            .hint("width and depth are from 0.01 to 100, and squeeze_ratio is from 0 to 1"));
        }
        let numbers = [self.image_size, self.first_channels, self.added_channels, self.divisor];
        positive("ReXNet", "image_size, first_channels, added_channels and divisor", &numbers)?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths().iter().sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        network.stem.trace(&mut trace);
        for (index, layer) in network.features.iter().enumerate() {
            if network.ends_before(index) {
                trace.end_layer();
            }
            match layer {
                RexLayer::Block(block) => block.trace(&mut trace),
                RexLayer::Last(conv) => conv.trace(&mut trace),
            }
        }
        trace.end_layer();
        trace.layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl StagedNetwork for RexNet {
    fn depth(&self) -> usize {
        1 + (0..self.features.len()).filter(|index| self.ends_before(*index)).count()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let activation = self.config.activation;
        let mut x = activation.forward(self.stem.forward(pixels));
        let mut outputs = Vec::with_capacity(count);
        for (index, layer) in self.features.iter().enumerate() {
            if self.ends_before(index) {
                outputs.push(x.clone());
            }
            if outputs.len() >= count {
                return Ok(outputs);
            }
            x = match layer {
                RexLayer::Block(block) => block.forward(x, &self.config, drop_path.factors(index, 0)),
                RexLayer::Last(conv) => activation.forward(conv.forward(x)),
            };
        }
        outputs.push(x);
        Ok(outputs)
    }
}

impl TimmModel for RexNetConfig {
    const CLASSES: &'static [&'static str] = &["RexNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            width: arguments.real("width_mult")?.unwrap_or(1.0),
            depth: arguments.real("depth_mult")?.unwrap_or(1.0),
            first_channels: arguments.number("initial_chs", 16)?,
            added_channels: arguments.number("final_chs", 180)?,
            squeeze_ratio: arguments.real("se_ratio")?.unwrap_or(1.0 / 12.0),
            divisor: arguments.number("ch_div", 1)?,
            activation: arguments.activation("act_layer", ActivationKind::Silu)?,
            depthwise_activation: arguments.activation("dw_act_layer", ActivationKind::Relu6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
