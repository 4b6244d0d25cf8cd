//! ConViT (d'Ascoli et al. 2021, arXiv:2103.10697): a vision transformer whose first blocks mix attention by content
//! and by position with a learned gate. The class token joins the patches after these blocks. Parameter paths are those
//! of timm's `ConVit`. The layers that a tap can select are the blocks.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_patches, check_sizes, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::{ConvEmbed, ConvSpec, Padding, SelfAttention};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use crate::transfer;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a ConViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConvitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels. Default 16.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of blocks with gated positional attention; the class token joins after them.
    pub local_blocks: usize,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether learned position embeddings are added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub absolute_positions: bool,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    16
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-6
}

impl ConvitConfig {
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    fn embed(&self) -> ConvSpec {
        ConvSpec::new(3, self.width, self.patch).stride(self.patch).padding(Padding::Explicit(0))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Convit {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device);
        let (width, heads) = (self.width, self.heads);
        let block = |i: usize| ConvitBlock {
            norm1: norm(),
            attn: if i < self.local_blocks {
                let linear = |out: usize| LinearConfig::new(width, out).with_bias(self.qkv_bias).init(device);
                ConvitAttention::Gated(GatedAttention {
                    qk: linear(2 * width),
                    v: linear(width),
                    proj: LinearConfig::new(width, width).init(device),
                    pos_proj: LinearConfig::new(3, heads).init(device),
                    gating_param: Initializer::Ones.init([heads], device),
                    heads,
                    side: self.side(),
                })
            } else {
                ConvitAttention::Plain(SelfAttention::new(width, heads, self.qkv_bias, device))
            },
            norm2: norm(),
            mlp: Mlp::new(width, times(width, self.mlp_ratio), width, Activation::Gelu, device),
        };
        Convit {
            patch_embed: ConvEmbed::new(self.embed(), None, device),
            cls_token: Initializer::Zeros.init([1, 1, width], device),
            pos_embed: self.absolute_positions.then(|| Initializer::Zeros.init([1, self.side().pow(2), width], device)),
            blocks: (0..self.depth).map(block).collect(),
            norm: norm(),
            config: self.clone(),
        }
    }
}

impl StagedConfig for ConvitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a ConViT";
        check_patches(self.image_size, self.patch)?;
        let sizes = [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("width", self.width),
            ("depth", self.depth),
            ("heads", self.heads),
        ];
        check_sizes(WHAT, &sizes)?;
        check_heads(WHAT, &[self.width], &[self.heads])?;
        check_multiple(WHAT, self.image_size, self.patch)?;
        if !is_ratio(self.mlp_ratio) || self.local_blocks > self.depth {
            return Err(Error::usage(format!(
                "{WHAT} with mlp_ratio = {} and {} of {} blocks local",
                self.mlp_ratio, self.local_blocks, self.depth
            )));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depth
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (width, side) = (self.width, self.side());
        let layer = |i: usize| {
            let gated = i < self.local_blocks;
            let tokens = side * side + usize::from(!gated);
            let mlp = (tokens * 2 * width * times(width, self.mlp_ratio)) as u64;
            let positions = if gated { (tokens * tokens * 3 * self.heads) as u64 } else { 0 };
            let embed = if i == 0 { self.embed().multiply_adds(self.image_size) } else { 0 };
            let attention = SelfAttention::multiply_adds(width, tokens, tokens);
            LayerShape { width, side, multiply_adds: embed + attention + positions + mlp }
        };
        (0..self.depth).map(layer).collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depth, branches: 2 })
    }
}

impl TimmModel for ConvitConfig {
    const CLASSES: &'static [&'static str] = &["ConVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        // The strength of locality only initialises weights.
        arguments.without(&["global_pool", "locality_strength"]);
        arguments.only(&[("hybrid_backbone", "null")])?;
        let heads = arguments.number("num_heads", 12)?;
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.side("patch_size")?.unwrap_or(16),
            width: arguments.number("embed_dim", 768)?.saturating_mul(heads),
            depth: arguments.number("depth", 12)?,
            heads,
            local_blocks: arguments.number("local_up_to_layer", 3)?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            qkv_bias: arguments.flag("qkv_bias", false)?,
            absolute_positions: arguments.flag("use_pos_embed", true)?,
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A ConViT; see the module documentation.
#[derive(Module, Debug)]
pub struct Convit {
    /// Patch embedding.
    pub patch_embed: ConvEmbed,
    /// Class token, `[1, 1, width]`.
    pub cls_token: Param<Tensor<3>>,
    /// Position embeddings, `[1, patches, width]`.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// The blocks.
    pub blocks: Vec<ConvitBlock>,
    /// Final layer norm.
    pub norm: LayerNorm,
    #[module(skip)]
    config: ConvitConfig,
}

/// A pre-norm block.
#[derive(Module, Debug)]
pub struct ConvitBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: ConvitAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// Attention, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum ConvitAttention {
    /// Gated positional attention.
    Gated(GatedAttention),
    /// Attention by content alone.
    Plain(SelfAttention),
}

/// Attention whose weights are a gated mean of those by content and those by position.
#[derive(Module, Debug)]
pub struct GatedAttention {
    /// Projection to queries and keys in this order, `[width, 2 * width]`.
    pub qk: Linear,
    /// Projection to values, `[width, width]`.
    pub v: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Projection of offsets and squared distances to positional scores, `[3, heads]`.
    pub pos_proj: Linear,
    /// Logits of the gates, `[heads]`.
    pub gating_param: Param<Tensor<1>>,
    heads: usize,
    side: usize,
}

impl GatedAttention {
    /// Offsets of all pairs of patches across and down, and their squared distances, `[patches * patches, 3]`.
    fn offsets(&self, device: &Device) -> Tensor<2> {
        let (side, count) = (self.side, self.side * self.side);
        let pair = |i: usize| {
            let (query, key) = (i / count, i % count);
            let across = (key % side) as f32 - (query % side) as f32;
            let down = (key / side) as f32 - (query / side) as f32;
            [across, down, across * across + down * down]
        };
        let values: Vec<f32> = (0..count * count).flat_map(pair).collect();
        transfer::to_device(TensorData::new(values, [count * count, 3]), device)
    }

    /// Attention of patches `[batch, patches, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let ([batch, count, width], heads, device) = (x.dims(), self.heads, x.device());
        let [q, k] = project(&self.qk, x.clone(), heads);
        let [v] = project(&self.v, x, heads);
        let scale = ((width / heads) as f64).powf(-0.5);
        let content = softmax(q.mul_scalar(scale).matmul(k.swap_dims(2, 3)), 3);
        let position: Tensor<3> = self.pos_proj.forward(self.offsets(&device)).reshape([count, count, heads]);
        let position: Tensor<4> = softmax(position.permute([2, 0, 1]), 2).unsqueeze();
        let gate = sigmoid(self.gating_param.val()).reshape([1, heads, 1, 1]);
        let weights = gate.clone().neg().add_scalar(1.0) * content + gate * position;
        let weights = weights.clone() / weights.sum_dim(3);
        let mixed = weights.matmul(v).swap_dims(1, 2).reshape([batch, count, width]);
        by_row(mixed, |x| self.proj.forward(x))
    }
}

impl ConvitBlock {
    /// Runs the block on `[batch, tokens, width]`.
    fn forward(&self, x: Tensor<3>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone());
        let branch = match &self.attn {
            ConvitAttention::Gated(attention) => attention.forward(normed),
            ConvitAttention::Plain(attention) => attention.forward(normed),
        };
        let x = x + dropped(branch, factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(mlp, factors[1])
    }
}

impl Convit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ConvitConfig {
        &self.config
    }
}

impl StagedNetwork for Convit {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let x = self.patch_embed.forward(pixels);
        let [batch, rows, columns, width] = x.dims();
        let mut x: Tensor<3> = x.reshape([batch, rows * columns, width]);
        if let Some(positions) = &self.pos_embed {
            x = x + positions.val();
        }
        let mut outputs = Vec::new();
        for (i, block) in self.blocks.iter().enumerate().take(count) {
            if i == self.config.local_blocks {
                x = Tensor::cat(vec![self.cls_token.val().repeat_dim(0, batch), x], 1);
            }
            x = block.forward(x, [drop_path.factors(i, 0), drop_path.factors(i, 1)]);
            let patches = rows * columns;
            let first = x.dims()[1] - patches;
            let map: Tensor<4> = x.clone().narrow(1, first, patches).reshape([batch, rows, columns, width]);
            outputs.push(map.permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
