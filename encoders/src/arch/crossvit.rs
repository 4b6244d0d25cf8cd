//! CrossViT (Chen et al. 2021, arXiv:2103.14899): two vision transformers with patches of different sizes whose class
//! tokens attend to the other's patches. Parameter paths are those of timm's `CrossVit`. The features are those of the
//! first branch, whose patches are smaller; the layers that a tap can select are the multi-scale blocks.

use super::block::Mlp;
use super::drop_path::DropPathMask;
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_patches, check_sizes, is_ratio};
use super::parts::tokens::{by_row, check_size, project};
use super::parts::{Conv, ConvSpec, Padding, SelfAttention, rounded};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::attend;
use crate::features::{Kernel, resample_tokens};
use crate::json_values::integer;
use crate::operands::{Activation, Bias, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig, Relu};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a CrossViT; the pairs belong to the two branches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CrossvitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Sides to which the images are brought for the branches, in pixels.
    pub sides: [usize; 2],
    /// Sides of a patch, in pixels.
    pub patches: [usize; 2],
    /// Channels of a token.
    pub widths: [usize; 2],
    /// Number of attention heads.
    pub heads: [usize; 2],
    /// Number of blocks in each multi-scale block.
    pub depths: Vec<[usize; 2]>,
    /// Hidden channels of the MLPs per channel.
    pub mlp_ratios: [f64; 2],
    /// Whether patches are embedded by three convolutions, and not by one. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub deep_embed: bool,
    /// Whether smaller images are cropped from the centre, and not resized. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub crop: bool,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
}

fn default_eps() -> f64 {
    1e-6
}

impl CrossvitConfig {
    fn grid(&self, branch: usize) -> usize {
        self.sides[branch] / self.patches[branch]
    }

    /// The first convolution of a branch's patch embedding, and the two after it if it is deep.
    fn embed(&self, branch: usize) -> (ConvSpec, Option<[ConvSpec; 2]>) {
        let (width, patch) = (self.widths[branch], self.patches[branch]);
        let conv = |from: usize, to: usize, kernel: usize, stride: usize, padding: usize| {
            ConvSpec::new(from, to, kernel).stride(stride).padding(Padding::Explicit(padding))
        };
        if !self.deep_embed {
            return (conv(3, width, patch, patch, 0), None);
        }
        let rest = if patch == 12 {
            [conv(width / 4, width / 2, 3, 3, 0), conv(width / 2, width, 3, 1, 1)]
        } else {
            [conv(width / 4, width / 2, 3, 2, 1), conv(width / 2, width, 3, 2, 1)]
        };
        (conv(3, width / 4, 7, 4, 3), Some(rest))
    }

    fn block(&self, branch: usize, device: &Device) -> CrossvitBlock {
        let width = self.widths[branch];
        let norm = || LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        CrossvitBlock {
            norm1: norm(),
            attn: SelfAttention::new(width, self.heads[branch], self.qkv_bias, device),
            norm2: norm(),
            mlp: Mlp::new(width, times(width, self.mlp_ratios[branch]), width, Activation::Gelu, device),
        }
    }

    fn projection(&self, from: usize, to: usize, device: &Device) -> ClassProjection {
        let norm = LayerNormConfig::new(self.widths[from]).with_epsilon(self.norm_eps).init(device);
        (norm, Gelu::new(), LinearConfig::new(self.widths[from], self.widths[to]).init(device))
    }

    fn fusion(&self, branch: usize, device: &Device) -> CrossAttentionBlock {
        let width = self.widths[branch];
        let linear = || LinearConfig::new(width, width).with_bias(self.qkv_bias).init(device);
        CrossAttentionBlock {
            norm1: LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device),
            attn: CrossAttention {
                wq: linear(),
                wk: linear(),
                wv: linear(),
                proj: LinearConfig::new(width, width).init(device),
                heads: self.heads[branch],
            },
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Crossvit {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let embed = |branch: usize| {
            let (first, rest) = self.embed(branch);
            let first = first.init(device);
            PatchEmbed {
                proj: match rest.map(|rest| rest.map(|spec| spec.init(device))) {
                    Some([two, three]) => PatchLayers::Deep((first, Relu::new(), two, Relu::new(), three)),
                    None => PatchLayers::Single(first),
                },
            }
        };
        let zeros = |tokens: usize, width: usize| Initializer::Zeros.init([1, tokens, width], device);
        let block = |depths: &[usize; 2]| MultiScaleBlock {
            blocks: (0..2).map(|b| (0..depths[b]).map(|_| self.block(b, device)).collect()).collect(),
            projs: (0..2).map(|b| self.projection(b, 1 - b, device)).collect(),
            fusion: (0..2).map(|b| self.fusion(1 - b, device)).collect(),
            revert_projs: (0..2).map(|b| self.projection(1 - b, b, device)).collect(),
        };
        Crossvit {
            pos_embed_0: zeros(1 + self.grid(0).pow(2), self.widths[0]),
            cls_token_0: zeros(1, self.widths[0]),
            pos_embed_1: zeros(1 + self.grid(1).pow(2), self.widths[1]),
            cls_token_1: zeros(1, self.widths[1]),
            patch_embed: (0..2).map(embed).collect(),
            blocks: self.depths.iter().map(block).collect(),
            norm: self.widths.iter().map(|width| norm(*width)).collect(),
            config: self.clone(),
        }
    }
}

impl StagedConfig for CrossvitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a CrossViT";
        check_sizes(WHAT, &[("image_size", self.image_size)])?;
        for branch in 0..2 {
            check_patches(self.sides[branch], self.patches[branch])?;
            let sizes = [
                ("sides", self.sides[branch]),
                ("patches", self.patches[branch]),
                ("widths", self.widths[branch]),
                ("heads", self.heads[branch]),
            ];
            check_sizes(WHAT, &sizes)?;
            check_multiple(WHAT, self.sides[branch], self.patches[branch])?;
        }
        check_heads(WHAT, &self.widths, &self.heads)?;
        let deep = [12, 16];
        if self.depths.is_empty()
            || self.depths.iter().flatten().any(|n| !(1..=1 << 16).contains(n))
            || !self.mlp_ratios.iter().all(|ratio| is_ratio(*ratio))
            || (self.deep_embed && !self.patches.iter().all(|patch| deep.contains(patch)))
            || self.widths.iter().any(|width| !width.is_multiple_of(4))
        {
            return Err(Error::usage(format!(
                "{WHAT} with depths {:?}, mlp_ratios {:?}, patches {:?} and widths {:?}",
                self.depths, self.mlp_ratios, self.patches, self.widths
            ))
            .hint(
                "depths and ratios must be positive, deep_embed needs patches of 12 or 16, widths are multiples of 4",
            ));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().flatten().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let embed = |branch: usize| {
            let (first, rest) = self.embed(branch);
            let (mut side, mut sum) = (self.sides[branch], 0);
            for conv in std::iter::once(first).chain(rest.into_iter().flatten()) {
                sum += conv.multiply_adds(side);
                side = conv.out_side(side);
            }
            sum
        };
        let tokens = |branch: usize| self.grid(branch).pow(2) + 1;
        let layer = |(i, depths): (usize, &[usize; 2])| {
            let blocks = |branch: usize| {
                let (tokens, width) = (tokens(branch), self.widths[branch]);
                let mlp = (tokens * 2 * width * times(width, self.mlp_ratios[branch])) as u64;
                depths[branch] as u64 * (SelfAttention::multiply_adds(width, tokens, tokens) + mlp)
            };
            // The class token of a branch attends to the patches of the other.
            let fusion = |branch: usize| {
                let (tokens, width) = (tokens(branch), self.widths[branch]);
                (2 * tokens * width * width
                    + 2 * width * width
                    + 2 * tokens * width
                    + 2 * self.widths[0] * self.widths[1]) as u64
            };
            let embed = if i == 0 { embed(0) + embed(1) } else { 0 };
            LayerShape {
                width: self.widths[0],
                side: self.grid(0),
                multiply_adds: embed + blocks(0) + blocks(1) + fusion(0) + fusion(1),
            }
        };
        self.depths.iter().enumerate().map(layer).collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }
}

impl TimmModel for CrossvitConfig {
    const CLASSES: &'static [&'static str] = &["CrossVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        arguments.only(&[("drop_path_rate", "0.0")])?;
        let pair = |value: &serde_json::Value| {
            value.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>()?.try_into().ok()
        };
        let reals = |value: &serde_json::Value| match value.as_array() {
            None => value.as_f64().map(|one| vec![one; 2]),
            Some(list) => list.iter().map(serde_json::Value::as_f64).collect::<Option<Vec<_>>>(),
        };
        let scales = arguments.read("img_scale", reals)?.unwrap_or_else(|| vec![1.0; 2]);
        let ratios = arguments.read("mlp_ratio", reals)?.unwrap_or_else(|| vec![2.0, 2.0, 4.0]);
        let ([one, two], [first, second, ..]) = (scales.as_slice(), ratios.as_slice()) else {
            return Err(arguments.invalid("img_scale and mlp_ratio need a number per branch"));
        };
        // The last number of a block is that of its fusions, of which there is one where it is 0.
        let depths = arguments.read("depth", |value| {
            let block = |value: &serde_json::Value| match value.as_array()?.as_slice() {
                [one, two, fusions] if integer(fusions) == Some(0) => Some([integer(one)?, integer(two)?]),
                _ => None,
            };
            value.as_array()?.iter().map(block).collect::<Option<Vec<_>>>()
        })?;
        let depths = depths.ok_or_else(|| arguments.invalid("several fusions per block are not supported"))?;
        Ok(TimmNetwork::new(Self {
            image_size,
            sides: [times(image_size, *one), times(image_size, *two)],
            patches: arguments.read("patch_size", pair)?.unwrap_or([8, 16]),
            widths: arguments.read("embed_dim", pair)?.unwrap_or([192, 384]),
            heads: arguments.read("num_heads", pair)?.unwrap_or([6, 12]),
            depths,
            mlp_ratios: [*first, *second],
            deep_embed: arguments.flag("multi_conv", false)?,
            crop: arguments.flag("crop_scale", false)?,
            qkv_bias: arguments.flag("qkv_bias", true)?,
            norm_eps: arguments.norm_eps(1e-6)?,
        }))
    }
}

/// A CrossViT; see the module documentation.
#[derive(Module, Debug)]
pub struct Crossvit {
    /// Position embeddings of the first branch's class token and patches, `[1, 1 + patches, width]`.
    pub pos_embed_0: Param<Tensor<3>>,
    /// Class token of the first branch, `[1, 1, width]`.
    pub cls_token_0: Param<Tensor<3>>,
    /// Position embeddings of the second branch.
    pub pos_embed_1: Param<Tensor<3>>,
    /// Class token of the second branch.
    pub cls_token_1: Param<Tensor<3>>,
    /// Patch embeddings of the branches.
    pub patch_embed: Vec<PatchEmbed>,
    /// The multi-scale blocks.
    pub blocks: Vec<MultiScaleBlock>,
    /// Final layer norms of the branches.
    pub norm: Vec<LayerNorm>,
    #[module(skip)]
    config: CrossvitConfig,
}

/// Embedding of patches.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// One convolution, or three.
    pub proj: PatchLayers,
}

/// The convolutions of a patch embedding.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum PatchLayers {
    /// One convolution whose kernel equals its stride.
    Single(Conv),
    /// Three convolutions with ReLU between them.
    Deep((Conv, Relu, Conv, Relu, Conv)),
}

/// A norm, GELU and a linear layer from one branch's width to the other's.
type ClassProjection = (LayerNorm, Gelu, Linear);

/// Blocks of both branches, and the exchange of their class tokens.
#[derive(Module, Debug)]
pub struct MultiScaleBlock {
    /// The blocks of each branch.
    pub blocks: Vec<Vec<CrossvitBlock>>,
    /// Projections of each branch's class token to the other's width.
    pub projs: Vec<ClassProjection>,
    /// Attention of each branch's class token to the other's patches.
    pub fusion: Vec<CrossAttentionBlock>,
    /// Projections back to each branch's width.
    pub revert_projs: Vec<ClassProjection>,
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct CrossvitBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: SelfAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// Attention of the first token to all, with a shortcut.
#[derive(Module, Debug)]
pub struct CrossAttentionBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: CrossAttention,
}

/// Attention whose only query is the first token.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Projection to the query, `[width, width]`.
    pub wq: Linear,
    /// Projection to keys, `[width, width]`.
    pub wk: Linear,
    /// Projection to values, `[width, width]`.
    pub wv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

impl PatchEmbed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.proj {
            PatchLayers::Single(conv) => conv.forward(x),
            PatchLayers::Deep((one, _, two, _, three)) => three.forward(relu(two.forward(relu(one.forward(x))))),
        }
    }
}

impl CrossvitBlock {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + by_row(self.norm2.forward(x), |x| self.mlp.forward(x))
    }
}

impl CrossAttentionBlock {
    /// Maps tokens `[batch, tokens, width]` to the first token, `[batch, 1, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (normed, attention) = (self.norm1.forward(x.clone()), &self.attn);
        let [q] = project(&attention.wq, normed.clone().narrow(1, 0, 1), attention.heads);
        let [k] = project(&attention.wk, normed.clone(), attention.heads);
        let [v] = project(&attention.wv, normed, attention.heads);
        x.narrow(1, 0, 1) + by_row(attend(q, k, v, Bias::None, None), |x| attention.proj.forward(x))
    }
}

fn projected((norm, _, linear): &ClassProjection, x: Tensor<3>) -> Tensor<3> {
    by_row(gelu(norm.forward(x)), |x| linear.forward(x))
}

impl MultiScaleBlock {
    /// Runs the block on the tokens of both branches, `[batch, 1 + patches, width]`.
    fn forward(&self, branches: [Tensor<3>; 2]) -> [Tensor<3>; 2] {
        let [first, second] = branches;
        let run = |blocks: Option<&Vec<CrossvitBlock>>, x: Tensor<3>| {
            blocks.into_iter().flatten().fold(x, |x, block| block.forward(x))
        };
        let tokens = [run(self.blocks.first(), first), run(self.blocks.get(1), second)];
        let class = |x: &Tensor<3>| x.clone().narrow(1, 0, 1);
        let patches = |x: &Tensor<3>| x.clone().narrow(1, 1, x.dims()[1] - 1);
        std::array::from_fn(|own| {
            let (x, other) = (&tokens[own], &tokens[1 - own]);
            let layers = self.projs.get(own).zip(self.fusion.get(own)).zip(self.revert_projs.get(own));
            let Some(((projection, fusion), revert)) = layers else { return x.clone() };
            let query = projected(projection, class(x));
            let fused = fusion.forward(Tensor::cat(vec![query, patches(other)], 1));
            Tensor::cat(vec![projected(revert, fused), patches(x)], 1)
        })
    }
}

impl Crossvit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &CrossvitConfig {
        &self.config
    }

    /// The images of a branch: cropped, or resized (bicubic, as PyTorch's `interpolate`).
    fn scaled(&self, pixels: Tensor<4>, branch: usize) -> Tensor<4> {
        let ([batch, channels, side, _], wanted) = (pixels.dims(), self.config.sides[branch]);
        if side == wanted {
            return pixels;
        }
        if self.config.crop && wanted < side {
            let edge = rounded((side - wanted) as f64 / 2.0);
            return pixels.narrow(2, edge, wanted).narrow(3, edge, wanted);
        }
        let rows = pixels.permute([0, 2, 3, 1]).reshape([batch, side * side, channels]);
        let rows = resample_tokens(rows, [side; 2], [wanted; 2], Kernel::Bicubic, 0.0);
        rows.reshape([batch, wanted, wanted, channels]).permute([0, 3, 1, 2])
    }

    /// Class token and patches of a branch, with their positions.
    fn embedded(&self, pixels: Tensor<4>, branch: usize) -> Tensor<3> {
        let (class, positions) =
            if branch == 0 { (&self.cls_token_0, &self.pos_embed_0) } else { (&self.cls_token_1, &self.pos_embed_1) };
        let (batch, width) = (pixels.dims()[0], self.config.widths[branch]);
        let pixels = self.scaled(pixels, branch);
        let map = self.patch_embed.get(branch).map_or(pixels.clone(), |embed| embed.forward(pixels));
        let patches = map.permute([0, 2, 3, 1]).reshape([batch, self.config.grid(branch).pow(2), width]);
        Tensor::cat(vec![class.val().repeat_dim(0, batch), patches], 1) + positions.val()
    }
}

impl StagedNetwork for Crossvit {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let (batch, side, width) = (pixels.dims()[0], self.config.grid(0), self.config.widths[0]);
        let mut branches = [self.embedded(pixels.clone(), 0), self.embedded(pixels, 1)];
        let mut outputs = Vec::new();
        for block in self.blocks.iter().take(count) {
            branches = block.forward(branches);
            let patches = branches[0].clone().narrow(1, 1, side * side);
            outputs.push(patches.reshape([batch, side, side, width]).permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match self.norm.first() {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}
