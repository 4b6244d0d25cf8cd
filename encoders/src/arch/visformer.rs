//! Visformer (Chen et al. 2021, arXiv:2104.12533): three stages, of convolutions first and of self-attention later.
//! Parameter paths are those of timm's `Visformer`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::MAX_SIZE;
use super::parts::{Conv, ConvSpec, FrozenBatchNorm, MapNorm, MapNormKind, Padding, Slot, add_branch, to_map};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::attend;
use crate::operands::{Bias, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Epsilon of the batch norms.
const EPS: f64 = 1e-5;
/// Side of a patch of the second stage, in pixels.
const PATCH: usize = 16;

/// Hyper-parameters of a Visformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VisformerConfig {
    /// Side of the square input images, in pixels; a multiple of 32. The position embeddings are for this size only.
    pub image_size: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Channels of the second stage; the first has half, the third twice as many.
    pub width: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 3],
    /// Attention heads of all blocks.
    pub heads: usize,
    /// Hidden channels of the MLPs divided by the channels of their stage, in stages without spatial convolutions.
    pub mlp_ratio: f64,
    /// Per stage, whether its blocks have self-attention.
    pub attention: [bool; 3],
    /// Per stage, whether its MLPs have a grouped 3×3 convolution between their layers.
    pub spatial: [bool; 3],
    /// Groups of these convolutions. Default 8.
    #[serde(default = "default_groups")]
    pub groups: usize,
    /// Whether learned position embeddings are added at the beginning of every stage. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub positions: bool,
    /// Whether a batch norm follows each patch embedding. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub embed_norm: bool,
    /// Norm of the blocks and after the last. Default layer norm.
    #[serde(default)]
    pub norm: MapNormKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_groups() -> usize {
    8
}

/// A Visformer; see the module documentation.
#[derive(Module, Debug)]
pub struct Visformer {
    /// Stem: a 7×7 convolution of stride 2, a batch norm and a ReLU.
    pub stem: (Conv, FrozenBatchNorm, Slot),
    /// Patch embedding of the first stage.
    pub patch_embed1: PatchEmbed,
    /// Position embeddings of the first stage, `[1, channels, rows, columns]`.
    pub pos_embed1: Option<Param<Tensor<4>>>,
    /// Blocks of the first stage.
    pub stage1: Vec<VisformerBlock>,
    /// Patch embedding of the second stage.
    pub patch_embed2: PatchEmbed,
    /// Position embeddings of the second stage.
    pub pos_embed2: Option<Param<Tensor<4>>>,
    /// Blocks of the second stage.
    pub stage2: Vec<VisformerBlock>,
    /// Patch embedding of the third stage.
    pub patch_embed3: PatchEmbed,
    /// Position embeddings of the third stage.
    pub pos_embed3: Option<Param<Tensor<4>>>,
    /// Blocks of the third stage.
    pub stage3: Vec<VisformerBlock>,
    /// Norm after the last block.
    pub norm: MapNorm,
    #[module(skip)]
    config: VisformerConfig,
}

/// A convolution whose kernel equals its stride, then a batch norm.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Convolution.
    pub proj: Conv,
    /// Batch norm.
    pub norm: Option<FrozenBatchNorm>,
}

/// A block: self-attention, if its stage has it, then an MLP.
#[derive(Module, Debug)]
pub struct VisformerBlock {
    /// Norm before attention.
    pub norm1: Option<MapNorm>,
    /// Self-attention.
    pub attn: Option<ConvAttention>,
    /// Norm before the MLP.
    pub norm2: MapNorm,
    /// MLP.
    pub mlp: SpatialMlp,
}

/// Self-attention whose projections are 1×1 convolutions.
#[derive(Module, Debug)]
pub struct ConvAttention {
    /// Projection to queries, keys and values in this order.
    pub qkv: Conv,
    /// Output projection.
    pub proj: Conv,
    heads: usize,
}

/// An MLP of 1×1 convolutions, with a grouped 3×3 convolution between them if its stage has it.
#[derive(Module, Debug)]
pub struct SpatialMlp {
    /// First layer.
    pub conv1: Conv,
    /// Spatial convolution.
    pub conv2: Option<Conv>,
    /// Last layer.
    pub conv3: Conv,
}

impl PatchEmbed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.proj.forward(x);
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

impl ConvAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let qkv = self.qkv.forward(x);
        let (heads, head_dim) = (self.heads, qkv.dims()[1] / (3 * self.heads));
        let qkv = qkv.reshape([batch, 3 * heads, head_dim, rows * columns]);
        let part = |i: usize| qkv.clone().narrow(1, i * heads, heads).swap_dims(2, 3);
        let mixed = attend(part(0), part(1), part(2), Bias::None, None);
        self.proj.forward(to_map(mixed, [rows, columns]))
    }
}

impl VisformerBlock {
    /// Runs block number `index` on `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let x = match (&self.norm1, &self.attn) {
            (Some(norm), Some(attention)) => {
                let branch = attention.forward(norm.channels_first(x.clone()));
                add_branch(x, branch, drop_path.factors(index, 0))
            }
            _ => x,
        };
        let SpatialMlp { conv1, conv2, conv3 } = &self.mlp;
        let hidden = gelu(conv1.forward(self.norm2.channels_first(x.clone())));
        let hidden = match conv2 {
            Some(conv) => gelu(conv.forward(hidden)),
            None => hidden,
        };
        add_branch(x, conv3.forward(hidden), drop_path.factors(index, 1))
    }
}

impl VisformerConfig {
    fn dims(&self) -> [usize; 3] {
        [self.width / 2, self.width, 2 * self.width]
    }

    fn stem(&self) -> ConvSpec {
        ConvSpec::new(3, self.stem_width, 7).stride(2).bias(false)
    }

    fn embeddings(&self) -> [ConvSpec; 3] {
        let conv = |from, to, side| ConvSpec::new(from, to, side).stride(side).padding(Padding::Explicit(0));
        let [first, second, third] = self.dims();
        [conv(self.stem_width, first, PATCH / 4), conv(first, second, PATCH / 8), conv(second, third, PATCH / 8)]
    }

    /// The convolutions of attention in `stage`, and the channels of a head.
    fn attention(&self, stage: usize) -> Option<([ConvSpec; 2], usize)> {
        let channels = self.dims()[stage];
        let inner = channels / self.heads;
        // Heads of the first stage have half the channels; timm rounds a half to the even neighbour.
        let head_dim = if stage == 0 { (inner as f64 * 0.5).round_ties_even() as usize } else { inner };
        let conv = |from, to| ConvSpec::new(from, to, 1).bias(false);
        let all = head_dim * self.heads;
        self.attention[stage].then(|| ([conv(channels, 3 * all), conv(all, channels)], head_dim))
    }

    /// The convolutions of an MLP in `stage`: first, spatial and last.
    fn mlp(&self, stage: usize) -> (ConvSpec, Option<ConvSpec>, ConvSpec) {
        let channels = self.dims()[stage];
        let hidden = match self.spatial[stage] {
            true if self.groups < 2 => channels * 5 / 6,
            true => channels * 2,
            false => times(channels, self.mlp_ratio),
        };
        let spatial = ConvSpec::new(hidden, hidden, 3).groups(self.groups).bias(false);
        (
            ConvSpec::new(channels, hidden, 1).bias(false),
            self.spatial[stage].then_some(spatial),
            ConvSpec::new(hidden, channels, 1).bias(false),
        )
    }

    /// Side of the grid of each stage.
    fn sides(&self) -> [usize; 3] {
        let mut side = self.stem().out_side(self.image_size);
        self.embeddings().map(|conv| {
            side = conv.out_side(side);
            side
        })
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Visformer {
        let norm_eps = match self.norm {
            MapNormKind::Layer => 1e-6,
            MapNormKind::Batch => EPS,
        };
        let block = |stage: usize| {
            let channels = self.dims()[stage];
            let attention = self.attention(stage);
            let (conv1, conv2, conv3) = self.mlp(stage);
            VisformerBlock {
                norm1: attention.is_some().then(|| self.norm.init(channels, norm_eps, device)),
                attn: attention.map(|([qkv, proj], _)| ConvAttention {
                    qkv: qkv.init(device),
                    proj: proj.init(device),
                    heads: self.heads,
                }),
                norm2: self.norm.init(channels, norm_eps, device),
                mlp: SpatialMlp {
                    conv1: conv1.init(device),
                    conv2: conv2.map(|conv| conv.init(device)),
                    conv3: conv3.init(device),
                },
            }
        };
        let blocks = |stage: usize| (0..self.depths[stage]).map(|_| block(stage)).collect();
        let [embed1, embed2, embed3] = self.embeddings().map(|conv| PatchEmbed {
            proj: conv.init(device),
            norm: self.embed_norm.then(|| FrozenBatchNorm::new(conv.to, EPS, device)),
        });
        let ([first, second, third], sides) = (self.dims(), self.sides());
        let positions = |channels: usize, side: usize| {
            self.positions.then(|| Initializer::Zeros.init([1, channels, side, side], device))
        };
        Visformer {
            stem: (self.stem().init(device), FrozenBatchNorm::new(self.stem_width, EPS, device), Slot::default()),
            patch_embed1: embed1,
            pos_embed1: positions(first, sides[0]),
            stage1: blocks(0),
            patch_embed2: embed2,
            pos_embed2: positions(second, sides[1]),
            stage2: blocks(1),
            patch_embed3: embed3,
            pos_embed3: positions(third, sides[2]),
            stage3: blocks(2),
            norm: self.norm.init(third, norm_eps, device),
            config: self.clone(),
        }
    }
}

impl StagedConfig for VisformerConfig {
    fn check(&self) -> Result<()> {
        let numbers = [self.image_size, self.stem_width, self.width, self.heads, self.groups];
        let positive = numbers.iter().chain(&self.depths).all(|n| (1..=MAX_SIZE).contains(n));
        let ratio = (0.1..=64.0).contains(&self.mlp_ratio);
        if !positive || !ratio || !self.image_size.is_multiple_of(2 * PATCH) || !self.width.is_multiple_of(2) {
            return Err(Error::usage(format!(
                "invalid Visformer: image_size {}, stem_width {}, width {}, depths {:?}, heads {}, groups {}, \
                 mlp_ratio {}",
                self.image_size, self.stem_width, self.width, self.depths, self.heads, self.groups, self.mlp_ratio
            ))
            .hint("all must be positive and at most 65536, image_size a multiple of 32, and width even"));
        }
        for stage in 0..3 {
            let heads = self.attention(stage).is_none_or(|(_, head_dim)| head_dim > 0);
            let (first, spatial, _) = self.mlp(stage);
            if !heads || (spatial.is_some() && !first.to.is_multiple_of(self.groups)) {
                return Err(Error::usage(format!(
                    "stage {stage} of {} channels does not divide into {} heads or {} groups",
                    self.dims()[stage],
                    self.heads,
                    self.groups
                )));
            }
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
        let mut extra = self.stem().multiply_adds(self.image_size);
        let mut before = self.stem().out_side(self.image_size);
        let mut layers = Vec::new();
        for (stage, (conv, side)) in self.embeddings().into_iter().zip(self.sides()).enumerate() {
            extra += conv.multiply_adds(before);
            before = side;
            let positions = (side * side) as u64;
            let attention = self.attention(stage).map_or(0, |([qkv, proj], head_dim)| {
                let mixing = 2 * positions * positions * (self.heads * head_dim) as u64;
                qkv.multiply_adds(side) + proj.multiply_adds(side) + mixing
            });
            let (first, spatial, last) = self.mlp(stage);
            let mlp = first.multiply_adds(side)
                + spatial.map_or(0, |conv| conv.multiply_adds(side))
                + last.multiply_adds(side);
            let blocks = self.depths[stage] as u64 * (attention + mlp);
            layers.push(LayerShape { width: conv.to, side, multiply_adds: extra + blocks });
            extra = 0;
        }
        layers
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 2 })
    }
}

impl Visformer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VisformerConfig {
        &self.config
    }
}

impl StagedNetwork for Visformer {
    fn depth(&self) -> usize {
        3
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let [_, _, height, width] = pixels.dims();
        let size = self.config.image_size;
        if self.config.positions && [height, width] != [size; 2] {
            return Err(Error::failed(format!(
                "the position embeddings are for images of {size}x{size} pixels, but the images have {height}x{width}"
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let (conv, norm, _) = &self.stem;
        let mut x = relu(norm.forward(conv.forward(pixels)));
        let stages = [
            (&self.patch_embed1, &self.pos_embed1, &self.stage1),
            (&self.patch_embed2, &self.pos_embed2, &self.stage2),
            (&self.patch_embed3, &self.pos_embed3, &self.stage3),
        ];
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for (embed, positions, blocks) in stages.into_iter().take(count) {
            x = embed.forward(x);
            if let Some(positions) = positions {
                x = x + positions.val();
            }
            for block in blocks {
                x = block.forward(x, drop_path, index);
                index += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.channels_last(tokens)
    }
}

impl TimmModel for VisformerConfig {
    const CLASSES: &'static [&'static str] = &["Visformer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("patch_size", "16"), ("vit_stem", "false")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "conv_init"]);
        let depths = arguments.read("depth", |value| match value.as_array() {
            Some(list) => list.iter().map(crate::json_values::integer).collect::<Option<Vec<_>>>()?.try_into().ok(),
            None => {
                let all = crate::json_values::integer(value)?;
                Some([all / 3, all - 2 * (all / 3), all / 3])
            }
        })?;
        let flags = |arguments: &mut TimmArguments, key: &str| -> Result<[bool; 3]> {
            let read = arguments.read(key, |value| {
                let flag = |digit| match digit {
                    '0' => Some(false),
                    '1' => Some(true),
                    _ => None,
                };
                value.as_str()?.chars().map(flag).collect::<Option<Vec<bool>>>()?.try_into().ok()
            })?;
            Ok(read.unwrap_or([true; 3]))
        };
        let norm = arguments.one_of(
            "norm_layer",
            "LayerNorm2d",
            &[("LayerNorm2d", MapNormKind::Layer), ("BatchNorm2d", MapNormKind::Batch)],
        )?;
        let embed_norm = arguments.get("embed_norm").is_some_and(|norm| !norm.is_null());
        if embed_norm {
            arguments.only(&[("embed_norm", "\"BatchNorm2d\"")])?;
        }
        arguments.without(&["embed_norm"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            stem_width: arguments.number("init_channels", 32)?,
            width: arguments.number("embed_dim", 384)?,
            depths: depths.unwrap_or([4; 3]),
            heads: arguments.number("num_heads", 6)?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            attention: flags(arguments, "attn_stage")?,
            spatial: flags(arguments, "spatial_conv")?,
            groups: arguments.number("group", default_groups())?,
            positions: arguments.flag("use_pos_embed", true)?,
            embed_norm,
            norm,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
