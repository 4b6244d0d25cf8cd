//! FastViT hyper-parameters, their validation, and the construction of the network.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, is_yes, yes};
use super::super::limits::MAX_SIZE;
use super::super::parts::{
    ActivationKind, ConvNormAct, ConvSpec, FrozenBatchNorm, LayerNorm2d, NormActKind, QkvAttentionConfig, SqueezeExcite,
};
use super::super::staged::{LayerShape, StagedConfig};
use super::{
    AttentionBlock, AttentionNorm, ConvMlp, FastVit, FastVitBlock, LargeKernel, MapScale, MobileOne, PatchEmbed,
    PositionEncoding, RepMixer, RepMixerBlock, Stage,
};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Initializer;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Channels of an attention head.
const HEAD_DIM: usize = 32;
/// Epsilon of all norms.
const EPS: f64 = 1e-5;

/// The token mixer of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FastVitMixerKind {
    /// RepMixer: a depthwise convolution.
    RepMixer,
    /// Multi-head self-attention with heads of 32 channels.
    Attention,
}

/// Hyper-parameters of a FastViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FastVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Token mixer per stage.
    pub mixers: Vec<FastVitMixerKind>,
    /// Hidden channels of the MLPs divided by the channels of their stage, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Per stage, whether it begins with downsampling.
    pub downsample: Vec<bool>,
    /// Per stage, whether downsampling has squeeze-excitation. Default: none has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub squeeze_excite: Vec<bool>,
    /// Per stage, the side of the kernel of the conditional position encoding; 0 for no encoding. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_kernels: Vec<usize>,
    /// Side of the kernels of RepMixer. Default 3.
    #[serde(default = "default_kernel")]
    pub mixer_kernel: usize,
    /// Side of the large kernels in downsampling. Default 7.
    #[serde(default = "default_patch")]
    pub downsample_kernel: usize,
    /// Stride of downsampling. Default 2.
    #[serde(default = "default_stride")]
    pub downsample_stride: usize,
    /// Whether an activation follows the large kernels in downsampling (MobileCLIP). Default false.
    #[serde(default)]
    pub downsample_activation: bool,
    /// Whether the blocks of the stem have a branch with a 1×1 kernel. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stem_scale: bool,
    /// Whether the norms before attention are layer norms and not batch norms. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub layer_norm: bool,
    /// Channels of the final convolution, a multiple of the channels of the last stage.
    pub output_width: usize,
    /// Initial value of all layer scales. Default: no layer scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_kernel() -> usize {
    3
}

fn default_patch() -> usize {
    7
}

fn default_stride() -> usize {
    2
}

fn squeeze(channels: usize, hidden: usize, device: &Device) -> SqueezeExcite {
    SqueezeExcite::new(channels, hidden, ActivationKind::Relu, ActivationKind::Sigmoid, device)
}

/// The branches of a MobileOne block.
#[derive(Debug, Clone, Copy)]
struct Branches {
    /// The convolution of a branch with the full kernel.
    conv: ConvSpec,
    /// Whether there is a branch with the full kernel.
    full: bool,
    /// Whether there is a branch with a 1×1 kernel, if the full kernel is larger.
    scale: bool,
    /// Whether squeeze-excitation follows.
    excite: bool,
    /// Whether GELU follows.
    activated: bool,
}

impl Branches {
    fn of(from: usize, to: usize, kernel: usize) -> Self {
        let conv = ConvSpec::new(from, to, kernel).bias(false);
        Self { conv, full: true, scale: true, excite: false, activated: true }
    }

    fn depthwise(from: usize, to: usize, kernel: usize) -> Self {
        Self { conv: ConvSpec::new(from, to, kernel).groups(from).bias(false), ..Self::of(from, to, kernel) }
    }

    /// The convolution of the branch with a 1×1 kernel.
    fn pointwise(self) -> Option<ConvSpec> {
        let ConvSpec { from, to, kernel, stride, groups, .. } = self.conv;
        let conv = ConvSpec::new(from, to, 1).stride(stride).groups(groups).bias(false);
        (self.scale && kernel > 1).then_some(conv)
    }

    /// The channels between the two layers of squeeze-excitation: a sixteenth, rounded.
    fn excite_channels(channels: usize) -> usize {
        ((channels + 8) / 16).max(1)
    }

    fn init(self, device: &Device) -> MobileOne {
        let ConvSpec { from, to, stride, .. } = self.conv;
        let norm = |conv: ConvSpec| {
            ConvNormAct::new(conv, NormActKind::Batch { eps: EPS }, ActivationKind::Identity, None, device)
        };
        MobileOne {
            se: self.excite.then(|| squeeze(to, Self::excite_channels(to), device)),
            identity: (from == to && stride == 1).then(|| FrozenBatchNorm::new(from, EPS, device)),
            conv_kxk: self.full.then(|| vec![norm(self.conv)]),
            conv_scale: self.pointwise().map(norm),
            activated: self.activated,
        }
    }

    fn multiply_adds(self, side: usize) -> u64 {
        let full = if self.full { self.conv.multiply_adds(side) } else { 0 };
        let excite = if self.excite { 2 * (self.conv.to * Self::excite_channels(self.conv.to)) as u64 } else { 0 };
        full + self.pointwise().map_or(0, |conv| conv.multiply_adds(side)) + excite
    }
}

impl FastVitConfig {
    fn stem(&self) -> [Branches; 3] {
        let width = self.dims.first().copied().unwrap_or_default();
        let strided = |branches: Branches| Branches { conv: branches.conv.stride(2), ..branches };
        [
            strided(Branches::of(3, width, 3)),
            strided(Branches::depthwise(width, width, 3)),
            Branches::of(width, width, 1),
        ]
        .map(|branches| Branches { scale: self.stem_scale, ..branches })
    }

    /// Channels before and after the downsampling of `stage`; `None` if it does not begin with downsampling.
    fn downsampled(&self, stage: usize) -> Option<[usize; 2]> {
        let after = *self.dims.get(stage)?;
        let before = stage.checked_sub(1).map_or(after, |before| self.dims.get(before).copied().unwrap_or(after));
        let wanted = self.downsample.get(stage).copied().unwrap_or(false);
        (wanted || before != after).then_some([before, after])
    }

    /// The convolutions of a downsampling layer with the large and the small kernel.
    fn large_kernel(&self, [from, to]: [usize; 2]) -> [ConvSpec; 2] {
        let conv = |kernel| ConvSpec::new(from, to, kernel).stride(self.downsample_stride).groups(from).bias(false);
        [conv(self.downsample_kernel), conv(3)]
    }

    fn excited(&self, stage: usize) -> bool {
        self.squeeze_excite.get(stage).copied().unwrap_or(false)
    }

    /// The channels between the two layers of squeeze-excitation in downsampling: a quarter, as a multiple of 8.
    fn excite_channels(channels: usize) -> usize {
        ((channels / 4 + 4) / 8 * 8).max(8)
    }

    fn positions(&self, stage: usize) -> Option<ConvSpec> {
        let (channels, kernel) = (*self.dims.get(stage)?, *self.position_kernels.get(stage)?);
        (kernel > 0).then(|| ConvSpec::new(channels, channels, kernel).groups(channels))
    }

    fn hidden(&self, stage: usize) -> usize {
        let (channels, ratio) = (self.dims.get(stage), self.mlp_ratios.get(stage));
        channels.zip(ratio).map_or(0, |(channels, ratio)| (*channels as f64 * ratio) as usize)
    }

    fn mixer(&self, channels: usize) -> [Branches; 2] {
        let depthwise = Branches::depthwise(channels, channels, self.mixer_kernel);
        let plain = Branches { activated: false, ..depthwise };
        [Branches { full: false, scale: false, ..plain }, plain]
    }

    fn attention(channels: usize) -> QkvAttentionConfig {
        let heads = channels / HEAD_DIM;
        QkvAttentionConfig { width: channels, heads, head_dim: HEAD_DIM, qkv_bias: false, proj_bias: true }
    }

    fn mlp_conv(channels: usize) -> ConvSpec {
        ConvSpec::new(channels, channels, 7).groups(channels).bias(false)
    }

    fn output(&self) -> Branches {
        let width = self.dims.last().copied().unwrap_or_default();
        Branches { excite: true, ..Branches::depthwise(width, self.output_width, 3) }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> FastVit {
        let stages = self.dims.iter().zip(&self.mixers).zip(&self.depths).enumerate();
        let stages = stages.map(|(stage, ((channels, mixer), depth))| Stage {
            downsample: self.downsampled(stage).map(|channels| self.downsampling(stage, channels, device)),
            pos_emb: self.positions(stage).map(|conv| PositionEncoding { pos_enc: conv.init(device) }),
            blocks: (0..*depth).map(|_| self.block(*channels, self.hidden(stage), *mixer, device)).collect(),
        });
        FastVit {
            stem: self.stem().into_iter().map(|branches| branches.init(device)).collect(),
            stages: stages.collect(),
            final_conv: self.output().init(device),
            config: self.clone(),
        }
    }

    fn downsampling(&self, stage: usize, channels: [usize; 2], device: &Device) -> PatchEmbed {
        let [large_conv, small_conv] = self.large_kernel(channels).map(|conv| {
            ConvNormAct::new(conv, NormActKind::Batch { eps: EPS }, ActivationKind::Identity, None, device)
        });
        let to = channels[1];
        let se = self.excited(stage).then(|| squeeze(to, Self::excite_channels(to), device));
        let large = LargeKernel { large_conv, small_conv, se, activated: self.downsample_activation };
        PatchEmbed { proj: (large, Branches::of(to, to, 1).init(device)) }
    }

    fn block(&self, channels: usize, hidden: usize, mixer: FastVitMixerKind, device: &Device) -> FastVitBlock {
        let scale = || {
            self.layer_scale
                .map(|value| MapScale { gamma: Initializer::Constant { value }.init([channels, 1, 1], device) })
        };
        let mlp = ConvMlp {
            conv: ConvNormAct::new(
                Self::mlp_conv(channels),
                NormActKind::Batch { eps: EPS },
                ActivationKind::Identity,
                None,
                device,
            ),
            fc1: ConvSpec::new(channels, hidden, 1).init(device),
            fc2: ConvSpec::new(hidden, channels, 1).init(device),
        };
        match mixer {
            FastVitMixerKind::RepMixer => {
                let [norm, mixer] = self.mixer(channels).map(|branches| branches.init(device));
                let token_mixer = RepMixer { norm, mixer, layer_scale: scale() };
                FastVitBlock::RepMixer(RepMixerBlock { token_mixer, mlp, layer_scale: scale() })
            }
            FastVitMixerKind::Attention => FastVitBlock::Attention(AttentionBlock {
                norm: match self.layer_norm {
                    true => AttentionNorm::Layer(LayerNorm2d::new(channels, EPS, device)),
                    false => AttentionNorm::Batch(FrozenBatchNorm::new(channels, EPS, device)),
                },
                token_mixer: Self::attention(channels).init(device),
                layer_scale_1: scale(),
                mlp,
                layer_scale_2: scale(),
            }),
        }
    }
}

impl StagedConfig for FastVitConfig {
    fn check(&self) -> Result<()> {
        let stages = self.dims.len();
        let sizes = self.depths.iter().chain(&self.dims);
        let sizes = sizes.chain([&self.image_size, &self.mixer_kernel, &self.downsample_kernel]);
        let positive = sizes.chain([&self.downsample_stride, &self.output_width]).all(|n| (1..=MAX_SIZE).contains(n));
        let lengths = [self.depths.len(), self.mixers.len(), self.mlp_ratios.len(), self.downsample.len()];
        let ratios = self.mlp_ratios.iter().all(|ratio| (1.0..=64.0).contains(ratio));
        if !positive || !ratios || stages == 0 || lengths.iter().any(|n| *n != stages) {
            return Err(Error::usage(format!(
                "invalid FastViT: image_size {}, depths {:?}, dims {:?}, mlp_ratios {:?}, {} mixers, {} downsample",
                self.image_size,
                self.depths,
                self.dims,
                self.mlp_ratios,
                self.mixers.len(),
                self.downsample.len()
            ))
            .hint("all must be positive and at most 65536, with one value per stage, and mlp_ratios at least 1"));
        }
        if self.squeeze_excite.len() > stages || self.position_kernels.len() > stages {
            return Err(Error::usage("squeeze_excite and position_kernels have at most one value per stage"));
        }
        if self.position_kernels.iter().any(|kernel| *kernel > MAX_SIZE) {
            return Err(Error::usage(format!("position_kernels = {:?} is too large", self.position_kernels)));
        }
        let steps = self.dims.windows(2).all(|pair| pair[1].is_multiple_of(pair[0]));
        if !steps || !self.dims.last().is_some_and(|last| self.output_width.is_multiple_of(*last)) {
            return Err(Error::usage(format!("dims {:?} and output_width {}", self.dims, self.output_width))
                .hint("the channels of every stage, and output_width, must be a multiple of those before"));
        }
        let attends = |(channels, mixer): &(&usize, &FastVitMixerKind)| {
            **mixer == FastVitMixerKind::Attention && !channels.is_multiple_of(HEAD_DIM)
        };
        if let Some((channels, _)) = self.dims.iter().zip(&self.mixers).find(attends) {
            return Err(Error::usage(format!("a stage of {channels} channels cannot have attention"))
                .hint(format!("its channels must be a multiple of {HEAD_DIM}, the size of a head")));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(1, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (mut side, mut extra) = (self.image_size, 0);
        for branches in self.stem() {
            extra += branches.multiply_adds(side);
            side = branches.conv.out_side(side);
        }
        let mut layers = Vec::new();
        for (stage, ((channels, mixer), depth)) in self.dims.iter().zip(&self.mixers).zip(&self.depths).enumerate() {
            if let Some(before) = self.downsampled(stage) {
                let [large, small] = self.large_kernel(before);
                extra += large.multiply_adds(side) + small.multiply_adds(side);
                side = large.out_side(side);
                extra += Branches::of(*channels, *channels, 1).multiply_adds(side);
                if self.excited(stage) {
                    extra += 2 * (channels * Self::excite_channels(*channels)) as u64;
                }
            }
            extra += self.positions(stage).map_or(0, |conv| conv.multiply_adds(side));
            let positions = (side * side) as u64;
            let mixing = match mixer {
                FastVitMixerKind::RepMixer => {
                    self.mixer(*channels).map(|branches| branches.multiply_adds(side)).iter().sum()
                }
                FastVitMixerKind::Attention => Self::attention(*channels).multiply_adds(positions),
            };
            let mlp =
                Self::mlp_conv(*channels).multiply_adds(side) + positions * 2 * (channels * self.hidden(stage)) as u64;
            layers.push(LayerShape { width: *channels, side, multiply_adds: extra + *depth as u64 * (mixing + mlp) });
            extra = 0;
        }
        let multiply_adds = self.output().multiply_adds(side);
        layers.push(LayerShape { width: self.output_width, side, multiply_adds });
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 2 })
    }
}

impl TimmModel for FastVitConfig {
    const CLASSES: &'static [&'static str] = &["FastVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("act_layer", "\"GELU\""),
            ("fork_feat", "false"),
            ("inference_mode", "false"),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let dims = arguments.numbers("embed_dims")?.unwrap_or_else(|| vec![64, 128, 256, 512]);
        let stages = dims.len();
        let mixers =
            arguments.per_stage("token_mixers", stages, FastVitMixerKind::RepMixer, |name| match name.as_str()? {
                "repmixer" => Some(FastVitMixerKind::RepMixer),
                "attention" => Some(FastVitMixerKind::Attention),
                _ => None,
            })?;
        let flags = |value: &Value| value.as_array()?.iter().map(Value::as_bool).collect::<Option<Vec<bool>>>();
        let downsample = arguments.read("downsamples", flags)?.unwrap_or_else(|| vec![false, true, true, true]);
        let squeeze_excite = arguments.read("se_downsamples", flags)?.unwrap_or_default();
        let position_kernels = arguments.per_stage("pos_embs", stages, 0, |layer| {
            if layer.is_null() {
                return Some(0);
            }
            let shape = match layer.as_str() {
                Some("RepConditionalPosEnc") => None,
                _ => layer.get("RepConditionalPosEnc")?.as_object()?.get("spatial_shape"),
            };
            match shape.map(Value::as_array) {
                None => Some(7),
                Some(Some(sides)) => match sides.as_slice() {
                    [rows, columns] if rows == columns => integer(rows),
                    _ => None,
                },
                Some(None) => shape.and_then(integer),
            }
        })?;
        let layer_norm = arguments.read("norm_layer", |layer| match layer.as_str() {
            Some("BatchNorm2d") => Some(false),
            _ => {
                let settings = layer.get("LayerNorm2d")?.as_object()?;
                (settings.get("eps")?.as_f64()? == EPS && settings.len() == 1).then_some(true)
            }
        })?;
        let layer_scale = if arguments.is_none("layer_scale_init_value") { None } else { Some(1e-5) };
        let widest = dims.last().copied().unwrap_or_default();
        let some = |flags: Vec<bool>| if flags.contains(&true) { flags } else { Vec::new() };
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.numbers("layers")?.unwrap_or_else(|| vec![2, 2, 6, 2]),
            mixers,
            mlp_ratios: arguments.per_stage("mlp_ratios", stages, 4.0, Value::as_f64)?,
            downsample,
            squeeze_excite: some(squeeze_excite),
            position_kernels: if position_kernels.iter().any(|side| *side > 0) { position_kernels } else { Vec::new() },
            mixer_kernel: arguments.number("repmixer_kernel_size", default_kernel())?,
            downsample_kernel: arguments.number("down_patch_size", default_patch())?,
            downsample_stride: arguments.number("down_stride", default_stride())?,
            downsample_activation: arguments.flag("lkc_use_act", false)?,
            stem_scale: arguments.flag("stem_use_scale_branch", true)?,
            layer_norm: layer_norm.unwrap_or(false),
            output_width: times(widest, arguments.real("cls_ratio")?.unwrap_or(2.0)),
            layer_scale: arguments.real("layer_scale_init_value")?.or(layer_scale),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
            dims,
        }))
    }
}
