//! SHViT (Yun & Ro 2024, arXiv:2401.16456): attention with a single head over a part of the channels. Parameter paths
//! are those of timm's `SHViT`.

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Around, CBn, ChannelGroups, ConvSpec, Merge, NormAct, NormActKind, NormedLayer, PointMlp, Slot,
    Trace, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of an SHViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ShVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels that attend, of each stage.
    pub attended: Vec<usize>,
    /// Channels of queries and keys of each stage.
    pub key_dims: Vec<usize>,
    /// Whether the blocks of each stage have attention.
    pub attention: Vec<bool>,
}

/// An SHViT; see the module documentation.
#[derive(Module, Debug)]
pub struct ShVit {
    /// Stem of stride 16: four convolutions with activations between them.
    pub patch_embed: (CBn, Slot, CBn, Slot, CBn, Slot, CBn),
    /// The stages, in order of depth.
    pub stages: Vec<ShStage>,
    #[module(skip)]
    config: ShVitConfig,
}

/// A stage: a downsampling sequence where the channels change, then blocks.
#[derive(Module, Debug)]
pub struct ShStage {
    /// Residual convolution, residual MLP, reduction of the grid, residual convolution, residual MLP.
    pub downsample: Option<ShDownsample>,
    /// The blocks.
    pub blocks: Vec<ShBlock>,
}

/// Residual convolution, residual MLP, reduction of the grid, residual convolution, residual MLP.
pub type ShDownsample = (Around<CBn>, Around<PointMlp<CBn>>, Merge<CBn>, Around<CBn>, Around<PointMlp<CBn>>);

/// Residual depthwise convolution, residual attention, residual MLP.
#[derive(Module, Debug)]
pub struct ShBlock {
    /// Depthwise convolution.
    pub conv: Around<CBn>,
    /// Attention.
    pub mixer: Option<Around<SingleHead>>,
    /// MLP.
    pub ffn: Around<PointMlp<CBn>>,
}

/// Attention with one head over the first channels.
#[derive(Module, Debug)]
pub struct SingleHead {
    /// Norm of the attended channels over the whole map.
    pub pre_norm: NormAct,
    /// Queries, keys and values.
    pub qkv: CBn,
    /// Activation and output projection of all channels.
    pub proj: (Slot, CBn),
    key_dim: usize,
}

/// Builds a convolution with a batch norm.
fn normed(spec: ConvSpec, device: &Device) -> CBn {
    CBn::new(spec.bias(false), device)
}

fn relu(x: Tensor<4>) -> Tensor<4> {
    ActivationKind::Relu.forward(x)
}

fn mlp(channels: usize, device: &Device) -> Around<PointMlp<CBn>> {
    let hidden = 2 * channels;
    let pw1 = normed(ConvSpec::new(channels, hidden, 1), device);
    Around { m: PointMlp { pw1, pw2: normed(ConvSpec::new(hidden, channels, 1), device) } }
}

fn depthwise(channels: usize, device: &Device) -> Around<CBn> {
    Around { m: normed(ConvSpec::depthwise(channels, 3), device) }
}

impl SingleHead {
    fn new(channels: usize, attended: usize, key_dim: usize, device: &Device) -> Self {
        let norm = NormActKind::Group { groups: ChannelGroups::Count(1), eps: 1e-5 };
        Self {
            pre_norm: norm.init(attended, ActivationKind::Identity, device),
            qkv: normed(ConvSpec::new(attended, 2 * key_dim + attended, 1), device),
            proj: (Slot {}, normed(ConvSpec::new(channels, channels, 1), device)),
            key_dim,
        }
    }
}

impl NormedLayer for SingleHead {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let (attended, key) = (self.qkv.c.spec().from, self.key_dim);
        let qkv = self.qkv.forward(self.pre_norm.forward(x.clone().narrow(1, 0, attended)));
        let qkv: Tensor<3> = qkv.reshape([batch, 2 * key + attended, rows * columns]);
        let part = |from: usize, width: usize| qkv.clone().narrow(1, from, width);
        let scores = part(0, key).transpose().matmul(part(key, key)).mul_scalar((key as f64).powf(-0.5));
        let mixed = part(2 * key, attended).matmul(softmax(scores, 2).transpose());
        let mixed: Tensor<4> = mixed.reshape([batch, attended, rows, columns]);
        let all = Tensor::cat(vec![mixed, x.narrow(1, attended, channels - attended)], 1);
        self.proj.1.forward(relu(all))
    }

    fn follow(&self, trace: &mut Trace) {
        let positions = trace.positions();
        trace.beside(&self.qkv.c);
        trace.attention(positions, positions, self.key_dim, self.qkv.c.spec().from);
        self.proj.1.trace(trace);
    }
}

impl ShVitConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ShVit {
        let first = self.channels.first().copied().unwrap_or_default();
        let conv = |from, to| normed(ConvSpec::new(from, to, 3).stride(2), device);
        let slot = || Slot {};
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for (stage, (channels, depth)) in self.channels.iter().zip(&self.depths).enumerate() {
            let at = |list: &[usize]| list.get(stage).copied().unwrap_or(1);
            let attends = self.attention.get(stage).copied().unwrap_or(false);
            let head = || SingleHead::new(*channels, at(&self.attended), at(&self.key_dims), device);
            let block = |_| ShBlock {
                conv: depthwise(*channels, device),
                mixer: attends.then(|| Around { m: head() }),
                ffn: mlp(*channels, device),
            };
            let downsample = (before != *channels).then(|| {
                (
                    depthwise(before, device),
                    mlp(before, device),
                    Merge::new(
                        normed(ConvSpec::new(before, 4 * before, 1), device),
                        normed(ConvSpec::depthwise(4 * before, 3).stride(2), device),
                        normed(ConvSpec::new(4 * before, *channels, 1), device),
                        4 * before,
                        device,
                    ),
                    depthwise(*channels, device),
                    mlp(*channels, device),
                )
            });
            stages.push(ShStage { downsample, blocks: (0..*depth).map(block).collect() });
            before = *channels;
        }
        ShVit {
            patch_embed: (
                conv(3, first / 8),
                slot(),
                conv(first / 8, first / 4),
                slot(),
                conv(first / 4, first / 2),
                slot(),
                conv(first / 2, first),
            ),
            stages,
            config: self.clone(),
        }
    }
}

impl ShVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ShVitConfig {
        &self.config
    }
}

impl StagedConfig for ShVitConfig {
    fn check(&self) -> Result<()> {
        let name = "SHViT";
        let count = self.channels.len();
        let lengths = [self.depths.len(), self.attended.len(), self.key_dims.len(), self.attention.len()];
        per_stage(name, "depths, attended, key_dims and attention", count, &lengths)?;
        positive(name, "image_size", &[self.image_size])?;
        positive(name, "an eighth of the channels", &self.channels.iter().map(|n| n / 8).collect::<Vec<_>>())?;
        for list in [&self.depths, &self.attended, &self.key_dims] {
            positive(name, "depths, attended or key_dims", list)?;
        }
        let wide = self.channels.iter().zip(&self.attended).zip(&self.attention).find(|((c, a), on)| **on && a >= c);
        if let Some(((channels, attended), _)) = wide {
            return Err(Error::usage(format!("invalid {name}: {attended} of {channels} channels attend"))
                .hint("fewer channels must attend than there are"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        let (one, _, two, _, three, _, four) = &network.patch_embed;
        [one, two, three, four].into_iter().for_each(|conv| conv.trace(&mut trace));
        for stage in &network.stages {
            if let Some((conv1, mlp1, merge, conv2, mlp2)) = &stage.downsample {
                conv1.trace(&mut trace);
                mlp1.trace(&mut trace);
                merge.trace(&mut trace);
                conv2.trace(&mut trace);
                mlp2.trace(&mut trace);
            }
            for block in &stage.blocks {
                block.conv.trace(&mut trace);
                if let Some(mixer) = &block.mixer {
                    mixer.trace(&mut trace);
                }
                block.ffn.trace(&mut trace);
            }
            trace.end_layer();
        }
        trace.layers()
    }
}

impl StagedNetwork for ShVit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let (one, _, two, _, three, _, four) = &self.patch_embed;
        let x = relu(two.forward(relu(one.forward(pixels))));
        let mut x = four.forward(relu(three.forward(x)));
        let mut outputs = Vec::with_capacity(count);
        for stage in self.stages.iter().take(count) {
            if let Some((conv1, mlp1, merge, conv2, mlp2)) = &stage.downsample {
                x = mlp1.forward(conv1.forward(x));
                x = mlp2.forward(conv2.forward(merge.forward(x)));
            }
            for block in &stage.blocks {
                x = block.conv.forward(x);
                if let Some(mixer) = &block.mixer {
                    x = mixer.forward(x);
                }
                x = block.ffn.forward(x);
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for ShVitConfig {
    const CLASSES: &'static [&'static str] = &["SHViT"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("act_layer", "\"ReLU\""), ("norm_layer", "\"GroupNorm1\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let channels = arguments.numbers("embed_dim")?.unwrap_or_else(|| vec![128, 256, 384]);
        let count = channels.len();
        let types = arguments.read("types", |value| {
            let kind = |kind: &serde_json::Value| match kind.as_str()? {
                "s" => Some(true),
                "i" => Some(false),
                _ => None,
            };
            value.as_array()?.iter().map(kind).collect::<Option<Vec<_>>>()
        })?;
        Ok(TimmNetwork::new(Self {
            image_size,
            channels,
            depths: arguments.numbers("depth")?.unwrap_or_else(|| vec![1, 2, 3]),
            attended: arguments.numbers("partial_dim")?.unwrap_or_else(|| vec![32, 64, 96]),
            key_dims: arguments.numbers("qk_dim")?.unwrap_or_else(|| vec![16; count]),
            attention: types.unwrap_or_else(|| vec![true; count]),
        }))
    }
}
