//! VoVNet V1 (Lee et al. 2019, arXiv:1904.09730) and V2 (Lee & Park 2020, arXiv:1911.06667): blocks that concatenate
//! their input and the outputs of all their convolutions once, at their end. Parameter paths are those of timm's
//! `VovNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{check_pixels, check_sizes, check_stages};
use super::parts::{
    ActivationKind, ChannelAttention, ChannelAttentionKind, ChannelGroups, Conv, ConvNormAct, ConvSpec, NormAct,
    NormActKind, Trace, drop_branch, max_pool,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Number of stages of timm's VoVNets.
const TIMM_STAGES: usize = 4;

/// Hyper-parameters of a VoVNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VovNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Output channels of the stem's three convolutions.
    pub stem: [usize; 3],
    /// Channels of the convolutions inside the blocks, one number per stage.
    pub inner: Vec<usize>,
    /// Output channels, one number per stage.
    pub widths: Vec<usize>,
    /// Number of blocks, one number per stage.
    pub depths: Vec<usize>,
    /// Number of convolutions per block, without the one over the concatenated maps.
    pub layers: usize,
    /// Whether all blocks of a stage but the first have a shortcut. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub residual: bool,
    /// Whether the convolutions after the first are depthwise, each followed by one of 1×1. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub depthwise: bool,
    /// Channel attention at the end of the last block of every stage. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ChannelAttentionKind>,
    /// The norms. Default batch norms.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm: NormActKind,
    /// The activations. Default ReLU.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// A VoVNet; see the module documentation.
#[derive(Module, Debug)]
pub struct VovNet {
    /// Three 3×3 convolutions, the first and the last with a stride of 2.
    pub stem: Vec<VovUnit>,
    /// The stages, in order of depth.
    pub stages: Vec<VovStage>,
    #[module(skip)]
    config: VovNetConfig,
}

/// A 3×3 convolution with norm and activation.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all units of a network have the same variant")]
pub enum VovUnit {
    /// One convolution.
    Full(ConvNormAct),
    /// A depthwise and a 1×1 convolution.
    Separable(SeparableUnit),
}

/// A depthwise 3×3 and a 1×1 convolution, then a norm and an activation: timm's `SeparableConvNormAct`.
#[derive(Module, Debug)]
pub struct SeparableUnit {
    /// Depthwise convolution.
    pub conv_dw: Conv,
    /// 1×1 convolution.
    pub conv_pw: Conv,
    /// The norm and the activation.
    pub bn: NormAct,
}

/// A stage of blocks; all stages but the first halve the grid before them by max pooling.
#[derive(Module, Debug)]
pub struct VovStage {
    /// The blocks.
    pub blocks: Vec<OsaBlock>,
}

/// A block of one-shot aggregation.
#[derive(Module, Debug)]
pub struct OsaBlock {
    /// 1×1 convolution to the channels of depthwise convolutions, where the input has another number.
    pub conv_reduction: Option<ConvNormAct>,
    /// The convolutions, one after the other.
    pub conv_mid: Vec<VovUnit>,
    /// 1×1 convolution over the input and the outputs of all convolutions.
    pub conv_concat: ConvNormAct,
    /// Channel attention at the end.
    pub attn: Option<ChannelAttention>,
    residual: bool,
}

impl VovUnit {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Full(unit) => unit.forward(x),
            Self::Separable(unit) => unit.bn.forward(unit.conv_pw.forward(unit.conv_dw.forward(x))),
        }
    }

    fn trace(&self, trace: &mut Trace) {
        match self {
            Self::Full(unit) => trace.conv(&unit.conv),
            Self::Separable(unit) => {
                trace.conv(&unit.conv_dw);
                trace.conv(&unit.conv_pw);
            }
        }
    }
}

impl OsaBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mut outputs = vec![x.clone()];
        let mut inner = match &self.conv_reduction {
            Some(reduce) => reduce.forward(x.clone()),
            None => x.clone(),
        };
        for unit in &self.conv_mid {
            inner = unit.forward(inner);
            outputs.push(inner.clone());
        }
        let joined = self.conv_concat.forward(Tensor::cat(outputs, 1));
        let attended = match &self.attn {
            Some(attention) => attention.forward(joined),
            None => joined,
        };
        // As in timm, blocks without a shortcut are dropped, too.
        let branch = drop_branch(attended, factors);
        if self.residual { branch + x } else { branch }
    }

    fn trace(&self, trace: &mut Trace) {
        if let Some(reduce) = &self.conv_reduction {
            trace.conv(&reduce.conv);
        }
        self.conv_mid.iter().for_each(|unit| unit.trace(trace));
        trace.conv(&self.conv_concat.conv);
        if let Some(attention) = &self.attn {
            trace.multiply_adds += attention.multiply_adds(trace.side);
        }
    }
}

/// Halves the grid: the maximum of windows of 3×3, which may reach beyond the edges at the bottom and on the right.
fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool(x, 3, 2, 0, true)
}

impl VovNetConfig {
    fn full(&self, spec: ConvSpec, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec, self.norm, self.activation, None, device)
    }

    /// A 3×3 convolution; a depthwise one can precede it in its place.
    fn unit(&self, from: usize, to: usize, stride: usize, depthwise: bool, device: &Device) -> VovUnit {
        if !depthwise {
            return VovUnit::Full(self.full(ConvSpec::new(from, to, 3).stride(stride), device));
        }
        VovUnit::Separable(SeparableUnit {
            conv_dw: ConvSpec::depthwise(from, 3).stride(stride).bias(false).init(device),
            conv_pw: ConvSpec::new(from, to, 1).bias(false).init(device),
            bn: self.norm.init(to, self.activation, device),
        })
    }

    /// The block number `index` of `depth` in a stage, from `from` over `inner` to `to` channels.
    fn block(&self, [from, inner, to]: [usize; 3], index: usize, depth: usize, device: &Device) -> OsaBlock {
        let reduced = self.depthwise && from != inner;
        let units = (0..self.layers).map(|i| {
            let before = if i == 0 && !self.depthwise { from } else { inner };
            self.unit(before, inner, 1, self.depthwise, device)
        });
        let attention = self.attention.filter(|_| index + 1 == depth);
        OsaBlock {
            conv_reduction: reduced.then(|| self.full(ConvSpec::new(from, inner, 1), device)),
            conv_mid: units.collect(),
            conv_concat: self.full(ConvSpec::new(from + self.layers * inner, to, 1), device),
            attn: attention.map(|kind| kind.init(to, device)),
            residual: self.residual && index > 0,
        }
    }

    /// Inner and output channels and number of blocks of every stage.
    fn stages(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.inner.iter().zip(&self.widths).zip(&self.depths).map(|((inner, width), depth)| (*inner, *width, *depth))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> VovNet {
        let [first, second, third] = self.stem;
        let mut before = third;
        let stages = self.stages().map(|(inner, width, depth)| {
            let from = std::mem::replace(&mut before, width);
            let channels = |i: usize| [if i == 0 { from } else { width }, inner, width];
            VovStage { blocks: (0..depth).map(|i| self.block(channels(i), i, depth, device)).collect() }
        });
        let stages = stages.collect();
        VovNet {
            stem: vec![
                self.unit(3, first, 2, false, device),
                self.unit(first, second, 1, self.depthwise, device),
                self.unit(second, third, 2, self.depthwise, device),
            ],
            stages,
            config: self.clone(),
        }
    }
}

impl VovNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VovNetConfig {
        &self.config
    }
}

impl StagedConfig for VovNetConfig {
    fn check(&self) -> Result<()> {
        let name = "a VoVNet";
        let [first, second, third] = self.stem;
        let stem = [("stem", first), ("stem", second), ("stem", third)];
        check_sizes(name, &[("image_size", self.image_size), ("layers", self.layers)])?;
        check_sizes(name, &stem)?;
        check_stages(name, &[("inner", &self.inner), ("widths", &self.widths), ("depths", &self.depths)])?;
        check_sizes(name, &[("depths times layers", self.layer_count())])?;
        for (inner, width, depth) in self.stages() {
            check_sizes(name, &[("joined channels of a block", width.saturating_add(self.layers * inner))])?;
            if self.depthwise && self.residual && depth > 1 && inner != width {
                return Err(Error::usage(format!(
                    "{name}: blocks with a shortcut and depthwise convolutions of {inner} channels, but width {width}"
                ))
                .hint("set residual = false, or inner to the width of the stage, or its depth to 1"));
            }
        }
        for channels in self.stem.iter().chain(&self.inner).chain(&self.widths) {
            self.norm.check(*channels)?;
        }
        // The stem reads images of any side as ⌈side / 4⌉; a max pooling halves it, rounded down.
        let side = self.image_size.div_ceil(4) >> (self.widths.len() - 1);
        if side == 0 {
            return Err(Error::usage(format!("{name}: image_size = {} leaves no grid", self.image_size))
                .hint("use larger images or fewer stages"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, depth| sum.saturating_add(depth.saturating_mul(self.layers)))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        network.stem.iter().for_each(|unit| unit.trace(&mut trace));
        for (i, stage) in network.stages.iter().enumerate() {
            if i > 0 {
                trace.side /= 2;
            }
            stage.blocks.iter().for_each(|block| block.trace(&mut trace));
            trace.end_layer();
        }
        trace.layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

impl StagedNetwork for VovNet {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        // Max pooling needs two rows and columns.
        if height.min(width).div_ceil(4) >> (count.max(1) - 1) == 0 {
            return Err(Error::failed(format!("images of {height}x{width} pixels leave no grid after {count} stages"))
                .hint("resize the images to the size on the encoder's card"));
        }
        let mut x = self.stem.iter().fold(pixels, |x, unit| unit.forward(x));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for (i, stage) in self.stages.iter().take(count).enumerate() {
            if i > 0 {
                x = halve(x);
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for VovNetConfig {
    const CLASSES: &'static [&'static str] = &["VovNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.overlay("model_cfg")?;
        arguments.only(&[("in_chans", "3"), ("output_stride", "32"), ("stem_stride", "4")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let mut stages = |key: &str| -> Result<Vec<usize>> {
            let list = arguments.numbers(key)?.unwrap_or_default();
            match list.len() {
                TIMM_STAGES => Ok(list),
                _ => Err(arguments.invalid(&format!("{key} = {list:?} has not four numbers"))),
            }
        };
        let inner = stages("stage_conv_chs")?;
        let widths = stages("stage_out_chs")?;
        let depths = stages("block_per_stage")?;
        let stem = arguments.numbers("stem_chs")?.unwrap_or_default();
        let stem: [usize; 3] = stem
            .try_into()
            .map_err(|list: Vec<usize>| arguments.invalid(&format!("stem_chs = {list:?} has not three numbers")))?;
        let attention = match arguments.text("attn", "")?.as_str() {
            "" => None,
            name => Some(ChannelAttentionKind::from_timm(arguments, name, &Map::new())?),
        };
        // timm's only function that makes norms of this class makes EvoNorms.
        let norm = if arguments.get("norm_layer").and_then(Value::as_str) == Some("norm_act_fn") {
            arguments.take("norm_layer");
            NormActKind::EvoS0 { groups: ChannelGroups::Count(32), eps: 1e-5 }
        } else {
            NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())?
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            stem,
            inner,
            widths,
            depths,
            layers: arguments.number("layer_per_block", 0)?,
            residual: arguments.flag("residual", false)?,
            depthwise: arguments.flag("depthwise", false)?,
            attention,
            norm,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
