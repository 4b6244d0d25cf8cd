//! Dual Path Network (Chen et al. 2017, arXiv:1707.01629): every block adds to some channels and appends others.
//! Parameter paths are those of timm's `DPN`.

use super::drop_path::DropPathMask;
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{ActivationKind, Conv, ConvNormAct, ConvSpec, Named, NormAct, NormActKind, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// All norms are batch norms with this epsilon.
const NORM: NormActKind = NormActKind::Batch { eps: 1e-3 };

/// Hyper-parameters of a DPN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DpnConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Output channels of the stem.
    pub stem: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Channels that every block of a stage appends.
    pub growth: [usize; 4],
    /// Inner channels of the blocks of the first stage; they double from stage to stage.
    pub inner: usize,
    /// Groups of the 3×3 convolutions.
    pub groups: usize,
    /// Whether the stem's kernel has a side of 3 and not 7, and the stages a quarter of the channels. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub small: bool,
    /// Whether the added and the appended channels come from convolutions of their own. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub split: bool,
    /// Activation of the stem and after the last norm; that of the blocks is a ReLU. Default ReLU.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: ActivationKind,
}

/// A DPN; see the module documentation. After the last stage there is a batch norm with an activation.
#[derive(Module, Debug)]
pub struct Dpn {
    /// Stem, blocks (`conv2_1` is the first block of the first stage) and the last norm.
    pub features: Named<DpnLayer>,
    #[module(skip)]
    config: DpnConfig,
}

/// A layer of a DPN.
// Almost all are blocks.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum DpnLayer {
    /// The convolution of the stem, of stride 2.
    Stem(ConvNormAct),
    /// A block.
    Block(DualPathBlock),
    /// Batch norm with an activation after the last block.
    Norm(NormLayer),
}

/// A norm with an activation.
#[derive(Module, Debug)]
pub struct NormLayer {
    /// The norm.
    pub bn: NormAct,
}

/// A norm with an activation, and a convolution unless it is left out.
#[derive(Module, Debug)]
pub struct NormConv {
    /// The norm before `conv`.
    pub bn: NormAct,
    /// The convolution.
    pub conv: Option<Conv>,
}

/// A block of two paths.
#[derive(Module, Debug)]
pub struct DualPathBlock {
    /// Projection of the input, in the first block of the first stage.
    pub c1x1_w_s1: Option<NormConv>,
    /// Projection of the input with a stride of 2, in the first block of later stages.
    pub c1x1_w_s2: Option<NormConv>,
    /// 1×1 convolution to the inner channels.
    pub c1x1_a: NormConv,
    /// Grouped 3×3 convolution.
    pub c3x3_b: NormConv,
    /// 1×1 convolution to added and appended channels; only a norm if they have convolutions of their own.
    pub c1x1_c: NormConv,
    /// 1×1 convolution to the added channels.
    pub c1x1_c1: Option<Conv>,
    /// 1×1 convolution to the appended channels.
    pub c1x1_c2: Option<Conv>,
    added: usize,
}

impl NormConv {
    fn new(spec: ConvSpec, device: &Device) -> Self {
        Self { bn: NORM.init(spec.from, ActivationKind::Relu, device), conv: Some(spec.bias(false).init(device)) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn.forward(x);
        self.conv.as_ref().map_or(x.clone(), |conv| conv.forward(x))
    }
}

/// Splits a map after its first `added` channels.
fn split(x: Tensor<4>, added: usize) -> (Tensor<4>, Tensor<4>) {
    let channels = x.dims()[1];
    (x.clone().narrow(1, 0, added), x.narrow(1, added, channels - added))
}

impl DualPathBlock {
    /// Runs the block on the added and the appended channels, which are one map.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match self.c1x1_w_s1.as_ref().or(self.c1x1_w_s2.as_ref()) {
            Some(projection) => projection.forward(x.clone()),
            None => x.clone(),
        };
        let (residual, dense) = split(shortcut, self.added);
        let x = self.c1x1_c.forward(self.c3x3_b.forward(self.c1x1_a.forward(x)));
        let (added, appended) = match (&self.c1x1_c1, &self.c1x1_c2) {
            (Some(first), Some(second)) => (first.forward(x.clone()), second.forward(x)),
            _ => split(x, self.added),
        };
        Tensor::cat(vec![residual + added, dense, appended], 1)
    }
}

/// Sizes of a block.
struct BlockSpec {
    from: usize,
    added: usize,
    growth: usize,
    inner: usize,
    stride: usize,
    projected: bool,
}

impl DpnConfig {
    fn stem_spec(&self) -> ConvSpec {
        ConvSpec::new(3, self.stem, if self.small { 3 } else { 7 }).stride(2).bias(false)
    }

    /// The blocks of each stage.
    fn stages(&self) -> Vec<Vec<BlockSpec>> {
        let mut from = self.stem;
        let mut stages = Vec::with_capacity(4);
        for (stage, (depth, growth)) in self.depths.iter().zip(self.growth).enumerate() {
            let added = if self.small { 64 } else { 256 } << stage;
            let mut blocks = Vec::with_capacity(*depth);
            for i in 0..*depth {
                let (projected, inner) = (i == 0, self.inner << stage);
                let stride = if projected && stage > 0 { 2 } else { 1 };
                blocks.push(BlockSpec { from, added, growth, inner, stride, projected });
                from = if projected { added + 3 * growth } else { from + growth };
            }
            stages.push(blocks);
        }
        stages
    }

    /// The convolutions of a block: projection, 1×1, 3×3, and one or two of 1×1.
    fn block_layout(&self, block: &BlockSpec) -> (Option<ConvSpec>, ConvSpec, ConvSpec, Vec<ConvSpec>) {
        let BlockSpec { from, added, growth, inner, stride, projected } = *block;
        let project = projected.then(|| ConvSpec::new(from, added + 2 * growth, 1).stride(stride));
        let middle = ConvSpec::new(inner, inner, 3).stride(stride).groups(self.groups);
        let last = match self.split {
            true => vec![ConvSpec::new(inner, added, 1), ConvSpec::new(inner, growth, 1)],
            false => vec![ConvSpec::new(inner, added + growth, 1)],
        };
        (project, ConvSpec::new(from, inner, 1), middle, last)
    }

    fn block(&self, spec: &BlockSpec, device: &Device) -> DualPathBlock {
        let (project, first, middle, last) = self.block_layout(spec);
        let layer = |spec: ConvSpec| NormConv::new(spec, device);
        let conv = |at: usize| last.get(at).filter(|_| self.split).map(|spec| spec.bias(false).init(device));
        DualPathBlock {
            c1x1_w_s1: project.filter(|_| spec.stride == 1).map(layer),
            c1x1_w_s2: project.filter(|_| spec.stride > 1).map(layer),
            c1x1_a: layer(first),
            c3x3_b: layer(middle),
            c1x1_c: match self.split {
                true => NormConv { bn: NORM.init(spec.inner, ActivationKind::Relu, device), conv: None },
                false => layer(last[0]),
            },
            c1x1_c1: conv(0),
            c1x1_c2: conv(1),
            added: spec.added,
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Dpn {
        let stem = ConvNormAct::new(self.stem_spec(), NORM, self.activation, None, device);
        let mut features = vec![("conv1_1".to_string(), DpnLayer::Stem(stem))];
        let mut width = 0;
        for (stage, blocks) in self.stages().iter().enumerate() {
            for (i, spec) in blocks.iter().enumerate() {
                let name = format!("conv{}_{}", stage + 2, i + 1);
                features.push((name, DpnLayer::Block(self.block(spec, device))));
                width = if spec.projected { spec.added + 3 * spec.growth } else { spec.from + spec.growth };
            }
        }
        let bn = NORM.init(width, self.activation, device);
        features.push(("conv5_bn_ac".into(), DpnLayer::Norm(NormLayer { bn })));
        Dpn { features: features.into_iter().collect(), config: self.clone() }
    }
}

impl StagedConfig for DpnConfig {
    fn check(&self) -> Result<()> {
        let numbers = self.depths.iter().chain(&self.growth);
        let numbers = numbers.chain([&self.image_size, &self.stem, &self.inner, &self.groups]);
        let positive = numbers.into_iter().all(|n| (1..=MAX_SIZE).contains(n));
        if !positive || !self.inner.is_multiple_of(self.groups) {
            return Err(Error::usage(format!(
                "invalid DPN: image_size {}, stem {}, depths {:?}, growth {:?}, inner {}, groups {}",
                self.image_size, self.stem, self.depths, self.growth, self.inner, self.groups
            ))
            .hint("all must be positive and at most 65536, and the groups must divide the inner channels"));
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
        let stem = self.stem_spec();
        let mut carried = stem.multiply_adds(self.image_size);
        let mut side = stem.out_side(self.image_size).div_ceil(2);
        let mut layers = Vec::with_capacity(4);
        for blocks in self.stages() {
            let mut width = 0;
            for block in blocks {
                let (project, first, middle, last) = self.block_layout(&block);
                carried += project.map_or(0, |spec| spec.multiply_adds(side));
                carried += first.multiply_adds(side) + middle.multiply_adds(side);
                side = middle.out_side(side);
                carried += last.iter().map(|spec| spec.multiply_adds(side)).sum::<u64>();
                width = if block.projected { block.added + 3 * block.growth } else { block.from + block.growth };
            }
            layers.push(LayerShape { width, side, multiply_adds: std::mem::take(&mut carried) });
        }
        layers
    }
}

impl Dpn {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &DpnConfig {
        &self.config
    }
}

impl StagedNetwork for Dpn {
    fn depth(&self) -> usize {
        4
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let ends = self.config.depths.iter().scan(0, |sum, depth| {
            *sum += depth;
            Some(*sum)
        });
        let ends: Vec<usize> = ends.collect();
        let (mut x, mut run, mut outputs) = (pixels, 0, Vec::with_capacity(count));
        for layer in self.features.iter() {
            match layer {
                DpnLayer::Stem(stem) => x = max_pool(stem.forward(x), 3, 2, 1, false),
                DpnLayer::Block(block) => {
                    x = block.forward(x);
                    run += 1;
                }
                DpnLayer::Norm(norm) => {
                    // The norm belongs to the last stage.
                    outputs.pop();
                    outputs.push(norm.bn.forward(x.clone()));
                }
            }
            if ends.get(outputs.len()) == Some(&run) {
                outputs.push(x.clone());
                if outputs.len() == count && count < ends.len() {
                    break;
                }
            }
        }
        Ok(outputs)
    }
}

impl TimmModel for DpnConfig {
    const CLASSES: &'static [&'static str] = &["DPN"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        // timm ignores `fc_act_layer`: the norm after the last stage has the activation of the stem.
        arguments.without(&["fc_act_layer"]);
        arguments.only(&[("in_chans", "3"), ("norm_layer", "\"batchnorm2d\""), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            stem: arguments.number("num_init_features", 64)?,
            depths: arguments.four("k_sec", [3, 4, 20, 3])?,
            growth: arguments.four("inc_sec", [16, 32, 24, 128])?,
            inner: arguments.number("k_r", 96)?,
            groups: arguments.number("groups", 32)?,
            small: arguments.flag("small", false)?,
            split: arguments.flag("b", false)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
        }))
    }
}
