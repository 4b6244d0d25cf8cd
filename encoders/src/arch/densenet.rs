//! DenseNet (Huang et al. 2017, arXiv:1608.06993): every layer of a block gets the outputs of all layers before it.
//! Parameter paths are those of timm's `DenseNet`.

use super::drop_path::DropPathMask;
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{ActivationKind, AntiAlias, Conv, ConvSpec, Named, NormAct, NormActKind, avg_pool, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a DenseNet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DenseNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels that every layer adds.
    pub growth: usize,
    /// Number of layers of each of the four blocks.
    pub depths: [usize; 4],
    /// Inner channels of a layer per added channel. Default 4.
    #[serde(default = "four")]
    pub bottleneck: usize,
    /// Whether the stem has three 3×3 convolutions and not one of 7×7. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub deep_stem: bool,
    /// Low-pass filter of the stem's pooling. Default: none, the pooling has a stride of 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_filter: Option<AntiAlias>,
}

fn four() -> usize {
    4
}

/// A DenseNet; see the module documentation.
#[derive(Module, Debug)]
pub struct DenseNet {
    /// All layers.
    pub features: DenseFeatures,
    #[module(skip)]
    config: DenseNetConfig,
}

/// The layers of a DenseNet.
#[derive(Module, Debug)]
pub struct DenseFeatures {
    /// First convolution of the stem, of stride 2.
    pub conv0: Conv,
    /// Norm after `conv0`.
    pub norm0: NormAct,
    /// Second convolution of a deep stem.
    pub conv1: Option<Conv>,
    /// Norm after `conv1`.
    pub norm1: Option<NormAct>,
    /// Third convolution of a deep stem.
    pub conv2: Option<Conv>,
    /// Norm after `conv2`.
    pub norm2: Option<NormAct>,
    /// Layers of the first block.
    pub denseblock1: Named<DenseLayer>,
    /// Transition after the first block.
    pub transition1: Transition,
    /// Layers of the second block.
    pub denseblock2: Named<DenseLayer>,
    /// Transition after the second block.
    pub transition2: Transition,
    /// Layers of the third block.
    pub denseblock3: Named<DenseLayer>,
    /// Transition after the third block.
    pub transition3: Transition,
    /// Layers of the fourth block.
    pub denseblock4: Named<DenseLayer>,
    /// Norm with ReLU after the fourth block.
    pub norm5: NormAct,
}

/// Convolutions of 1×1 and 3×3, each after a norm and a ReLU.
#[derive(Module, Debug)]
pub struct DenseLayer {
    /// Norm before `conv1`.
    pub norm1: NormAct,
    /// 1×1 convolution to the inner channels.
    pub conv1: Conv,
    /// Norm before `conv2`.
    pub norm2: NormAct,
    /// 3×3 convolution to the added channels.
    pub conv2: Conv,
}

/// Halves channels and grid: a norm with ReLU, a 1×1 convolution and average pooling.
#[derive(Module, Debug)]
pub struct Transition {
    /// Norm before `conv`.
    pub norm: NormAct,
    /// 1×1 convolution to half of the channels.
    pub conv: Conv,
}

/// Runs the layers of a block.
fn dense(layers: &Named<DenseLayer>, x: Tensor<4>) -> Tensor<4> {
    let mut all = vec![x];
    for layer in layers.iter() {
        let hidden = layer.conv1.forward(layer.norm1.forward(Tensor::cat(all.clone(), 1)));
        all.push(layer.conv2.forward(layer.norm2.forward(hidden)));
    }
    Tensor::cat(all, 1)
}

impl Transition {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        avg_pool(self.conv.forward(self.norm.forward(x)), 2, 2, 0, true, false)
    }
}

fn norm(channels: usize, device: &Device) -> NormAct {
    NormActKind::default().init(channels, ActivationKind::Relu, device)
}

impl DenseNetConfig {
    /// The convolutions of the stem.
    fn stem(&self) -> Vec<ConvSpec> {
        let (growth, width) = (self.growth, 2 * self.growth);
        let specs = match self.deep_stem {
            true => vec![
                ConvSpec::new(3, growth, 3).stride(2),
                ConvSpec::new(growth, growth, 3),
                ConvSpec::new(growth, width, 3),
            ],
            false => vec![ConvSpec::new(3, width, 7).stride(2)],
        };
        specs.into_iter().map(|spec| spec.bias(false)).collect()
    }

    /// The two convolutions of a layer with `from` input channels.
    fn layer(&self, from: usize) -> [ConvSpec; 2] {
        let inner = self.bottleneck * self.growth;
        [ConvSpec::new(from, inner, 1).bias(false), ConvSpec::new(inner, self.growth, 3).bias(false)]
    }

    /// Input channels of each block, and output channels of the last.
    fn widths(&self) -> [usize; 5] {
        let mut width = 2 * self.growth;
        let mut widths = [width; 5];
        for (i, depth) in self.depths.iter().enumerate() {
            widths[i] = width;
            width += depth * self.growth;
            if i < 3 {
                width /= 2;
            }
        }
        widths[4] = width;
        widths
    }

    /// Output channels of a block.
    fn width(&self, block: usize) -> usize {
        self.widths()[block] + self.depths[block] * self.growth
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> DenseNet {
        let stem = self.stem();
        let conv = |at: usize| stem.get(at).map(|spec| spec.init(device));
        let stem_norm = |at: usize| stem.get(at).map(|spec| norm(spec.to, device));
        let widths = self.widths();
        let block = |at: usize| {
            let layers = (0..self.depths[at]).map(|i| {
                let [conv1, conv2] = self.layer(widths[at] + i * self.growth);
                DenseLayer {
                    norm1: norm(conv1.from, device),
                    conv1: conv1.init(device),
                    norm2: norm(conv2.from, device),
                    conv2: conv2.init(device),
                }
            });
            Named::counted("denselayer", layers)
        };
        let transition = |at: usize| Transition {
            norm: norm(self.width(at), device),
            conv: ConvSpec::new(self.width(at), widths[at + 1], 1).bias(false).init(device),
        };
        let features = DenseFeatures {
            conv0: stem[0].init(device),
            norm0: norm(stem[0].to, device),
            conv1: conv(1),
            norm1: stem_norm(1),
            conv2: conv(2),
            norm2: stem_norm(2),
            denseblock1: block(0),
            transition1: transition(0),
            denseblock2: block(1),
            transition2: transition(1),
            denseblock3: block(2),
            transition3: transition(2),
            denseblock4: block(3),
            norm5: norm(widths[4], device),
        };
        DenseNet { features, config: self.clone() }
    }
}

impl StagedConfig for DenseNetConfig {
    fn check(&self) -> Result<()> {
        let numbers = self.depths.iter().chain([&self.image_size, &self.growth, &self.bottleneck]);
        if !numbers.into_iter().all(|n| (1..=MAX_SIZE).contains(n)) || self.image_size < 32 {
            return Err(Error::usage(format!(
                "invalid DenseNet: image_size {}, growth {}, depths {:?}, bottleneck {}",
                self.image_size, self.growth, self.depths, self.bottleneck
            ))
            .hint("all must be positive and at most 65536, and images have at least 32 pixels per side"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut side = self.image_size;
        let mut carried = 0;
        for spec in self.stem() {
            carried += spec.multiply_adds(side);
            side = spec.out_side(side);
        }
        carried += self.stem_filter.map_or(0, |filter| filter.multiply_adds(2 * self.growth, side));
        side = side.div_ceil(2);
        let mut layers = Vec::with_capacity(4);
        let widths = self.widths();
        for (at, depth) in self.depths.iter().enumerate() {
            let inside = (0..*depth).flat_map(|i| self.layer(widths[at] + i * self.growth));
            let multiply_adds = std::mem::take(&mut carried) + inside.map(|spec| spec.multiply_adds(side)).sum::<u64>();
            layers.push(LayerShape { width: self.width(at), side, multiply_adds });
            if at < 3 {
                carried = ConvSpec::new(self.width(at), widths[at + 1], 1).multiply_adds(side);
                side /= 2;
            }
        }
        layers
    }
}

impl DenseNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &DenseNetConfig {
        &self.config
    }

    fn stem(&self, pixels: Tensor<4>) -> Tensor<4> {
        let layers = &self.features;
        let mut x = layers.norm0.forward(layers.conv0.forward(pixels));
        for (conv, norm) in [(&layers.conv1, &layers.norm1), (&layers.conv2, &layers.norm2)] {
            if let (Some(conv), Some(norm)) = (conv, norm) {
                x = norm.forward(conv.forward(x));
            }
        }
        match self.config.stem_filter {
            Some(filter) => filter.forward(max_pool(x, 3, 1, 1, false)),
            None => max_pool(x, 3, 2, 1, false),
        }
    }
}

impl StagedNetwork for DenseNet {
    fn depth(&self) -> usize {
        4
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let layers = &self.features;
        let mut x = self.stem(pixels);
        let mut outputs = Vec::with_capacity(count);
        let blocks = [
            (&layers.denseblock1, Some(&layers.transition1)),
            (&layers.denseblock2, Some(&layers.transition2)),
            (&layers.denseblock3, Some(&layers.transition3)),
            (&layers.denseblock4, None),
        ];
        for (block, transition) in blocks.into_iter().take(count) {
            let out = dense(block, x);
            match transition {
                Some(transition) => {
                    x = transition.forward(out.clone());
                    outputs.push(out);
                }
                None => {
                    x = layers.norm5.forward(out);
                    outputs.push(x.clone());
                }
            }
        }
        Ok(outputs)
    }
}

impl TimmModel for DenseNetConfig {
    const CLASSES: &'static [&'static str] = &["DenseNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("aa_stem_only", "true"),
            ("act_layer", "\"relu\""),
            ("in_chans", "3"),
            ("norm_layer", "\"batchnorm2d\""),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "memory_efficient"]);
        let filters = [("", None), ("BlurPool2d", Some(AntiAlias::Blur)), ("AvgPool2d", Some(AntiAlias::Average))];
        Ok(TimmNetwork::new(Self {
            image_size,
            growth: arguments.number("growth_rate", 32)?,
            depths: arguments.four("block_config", [6, 12, 24, 16])?,
            bottleneck: arguments.number("bn_size", 4)?,
            deep_stem: arguments.one_of("stem_type", "", &[("", false), ("deep", true)])?,
            stem_filter: arguments.one_of("aa_layer", "", &filters)?,
        }))
    }
}
