//! ViTamin (Chen et al. 2024, arXiv:2404.02132): two stages of inverted residual convolutions, then a vision
//! transformer with gated MLPs. Parameter paths are those of timm's `vitamin_*`, which open_clip's towers also use.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{MAX_SIZE, check_patches, check_pixels};
use super::network::{Network, NetworkConfig, TapSupport};
use super::parts::{Conv, ConvSpec, LayerNorm2d, QkvAttention, QkvAttentionConfig, add_branch, avg_pool, to_tokens};
use super::tap::{Tap, outputs};
use crate::features::FeatureMap;
use crate::json_values::integer;
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Pixels per token side: the stem, both stages and the last convolution each halve the grid.
const STRIDE: usize = 16;
/// Epsilon of all norms.
const EPS: f64 = 1e-6;

/// Hyper-parameters of a ViTamin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VitaminConfig {
    /// Side of the square input images, in pixels; a multiple of 16. The position embeddings are for this size.
    pub image_size: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Number of convolutional blocks in the first two stages.
    pub conv_depths: [usize; 2],
    /// Channels of the first two stages.
    pub conv_dims: [usize; 2],
    /// Channels of a token in the transformer.
    pub width: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads per block; must divide `width`.
    pub heads: usize,
    /// Hidden channels of the gated MLPs.
    pub mlp_hidden: usize,
    /// Whether learned position embeddings are added to the tokens. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub positions: bool,
    /// Whether there is a norm after the last block. Default false.
    #[serde(default)]
    pub final_norm: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// A ViTamin; see the module documentation.
#[derive(Module, Debug)]
pub struct Vitamin {
    /// The convolutional stages.
    pub patch_embed: PatchEmbed,
    /// Position embeddings, `[1, tokens, width]`.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// The transformer blocks, in order.
    pub blocks: Vec<VitaminBlock>,
    /// Layer norm after the last block.
    pub norm: Option<LayerNorm>,
    #[module(skip)]
    config: VitaminConfig,
}

/// The path of the convolutional stages in timm's names.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// The convolutional stages.
    pub backbone: Backbone,
}

/// Stem, two convolutional stages and a last strided convolution.
#[derive(Module, Debug)]
pub struct Backbone {
    /// Stem.
    pub stem: Stem,
    /// The blocks of both stages.
    pub stages: Vec<Vec<ConvBlock>>,
    /// Norm and 3×3 convolution of stride 2 to the width of the transformer.
    pub pool: StridedConv,
}

/// Two 3×3 convolutions, the first of stride 2, with norm and GELU between them.
#[derive(Module, Debug)]
pub struct Stem {
    /// First convolution.
    pub conv1: Conv,
    /// Norm after it.
    pub norm1: LayerNorm2d,
    /// Second convolution.
    pub conv2: Conv,
}

/// A norm and a 3×3 convolution of stride 2.
#[derive(Module, Debug)]
pub struct StridedConv {
    /// Convolution.
    pub proj: Conv,
    /// Norm before it.
    pub norm: LayerNorm2d,
}

/// An inverted residual block: norm, 1×1 convolution to more channels, depthwise convolution, 1×1 convolution.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Shortcut, where the block's output has another shape than its input.
    pub shortcut: Option<Shortcut>,
    /// Norm before the first convolution.
    pub pre_norm: LayerNorm2d,
    /// First 1×1 convolution.
    pub conv1_1x1: Conv,
    /// Depthwise 3×3 convolution.
    pub conv2_kxk: Conv,
    /// Second 1×1 convolution.
    pub conv3_1x1: Conv,
}

/// A shortcut: 3×3 average pooling of stride 2, then a 1×1 convolution if the channels change.
#[derive(Module, Debug)]
pub struct Shortcut {
    /// 1×1 convolution.
    pub expand: Option<Conv>,
}

/// A transformer block: attention, then a gated MLP that begins with a norm of its own.
#[derive(Module, Debug)]
pub struct VitaminBlock {
    /// Norm of the attention branch.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: QkvAttention,
    /// Norm of the MLP branch.
    pub norm2: LayerNorm,
    /// Gated MLP.
    pub mlp: GatedMlp,
}

/// A norm and a gated MLP: `w2(gelu(w0(x)) · w1(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// Norm of the input.
    pub norm: LayerNorm,
    /// Layer of the gate.
    pub w0: Linear,
    /// Layer of the values.
    pub w1: Linear,
    /// Last layer.
    pub w2: Linear,
}

impl ConvBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(shortcut) => {
                let pooled = avg_pool(x.clone(), 3, 2, 1, false, false);
                match &shortcut.expand {
                    Some(conv) => conv.forward(pooled),
                    None => pooled,
                }
            }
        };
        let x = gelu(self.conv1_1x1.forward(self.pre_norm.forward(x)));
        self.conv3_1x1.forward(gelu(self.conv2_kxk.forward(x))) + shortcut
    }
}

impl Backbone {
    /// Maps images to `[batch, width, rows, columns]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let Stem { conv1, norm1, conv2 } = &self.stem;
        let x = conv2.forward(gelu(norm1.forward(conv1.forward(pixels))));
        let x = self.stages.iter().flatten().fold(x, |x, block| block.forward(x));
        self.pool.proj.forward(self.pool.norm.forward(x))
    }
}

impl VitaminBlock {
    /// Runs block number `index` on `[batch, tokens, width]`.
    fn forward(&self, x: Tensor<3>, drop_path: &DropPathMask, index: usize) -> Tensor<3> {
        let branch = self.attn.forward(self.norm1.forward(x.clone()));
        let x = add_branch(x, branch, drop_path.factors(index, 0));
        let GatedMlp { norm, w0, w1, w2 } = &self.mlp;
        let normed = norm.forward(self.norm2.forward(x.clone()));
        let branch = w2.forward(gelu(w0.forward(normed.clone())) * w1.forward(normed));
        add_branch(x, branch, drop_path.factors(index, 1))
    }
}

impl VitaminConfig {
    fn side(&self) -> usize {
        self.image_size / STRIDE
    }

    fn stem(&self) -> [ConvSpec; 2] {
        [ConvSpec::new(3, self.stem_width, 3).stride(2), ConvSpec::new(self.stem_width, self.stem_width, 3)]
    }

    fn last(&self) -> ConvSpec {
        ConvSpec::new(self.conv_dims[1], self.width, 3).stride(2)
    }

    /// The convolutions of a block from `from` to `to` channels: shortcut, first, depthwise and last.
    fn conv_block(from: usize, to: usize, stride: usize) -> (Option<ConvSpec>, [ConvSpec; 3]) {
        // timm's `make_divisible`: the nearest multiple of 8.
        let middle = (4 * to + 4) / 8 * 8;
        let depthwise = ConvSpec::new(middle, middle, 3).stride(stride).groups(middle);
        let expand = (from != to).then(|| ConvSpec::new(from, to, 1));
        (expand, [ConvSpec::new(from, middle, 1), depthwise, ConvSpec::new(middle, to, 1)])
    }

    /// Calls `block` with stage, input channels, output channels and stride of all convolutional blocks.
    fn conv_blocks(&self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let before = [self.stem_width, self.conv_dims[0]];
        let stages = self.conv_depths.into_iter().zip(self.conv_dims).zip(before).enumerate();
        stages.flat_map(|(stage, ((depth, to), before))| {
            (0..depth).map(move |block| if block == 0 { (stage, before, to, 2) } else { (stage, to, to, 1) })
        })
    }

    fn attention(&self) -> QkvAttentionConfig {
        let head_dim = self.width / self.heads;
        QkvAttentionConfig { width: self.width, heads: self.heads, head_dim, qkv_bias: true, proj_bias: true }
    }

    /// Multiply-add operations for one image through the first `blocks` transformer blocks.
    fn multiply_adds(&self, blocks: usize) -> u64 {
        let (mut side, mut total) = (self.image_size, 0);
        for conv in self.stem() {
            total += conv.multiply_adds(side);
            side = conv.out_side(side);
        }
        for (_, from, to, stride) in self.conv_blocks() {
            let (expand, convs) = Self::conv_block(from, to, stride);
            let after = convs[1].out_side(side);
            total += expand.map_or(0, |conv| conv.multiply_adds(after));
            total += convs[0].multiply_adds(side) + convs[1].multiply_adds(side) + convs[2].multiply_adds(after);
            side = after;
        }
        total += self.last().multiply_adds(side);
        let tokens = (self.side() * self.side()) as u64;
        let mlp = tokens * 3 * (self.width * self.mlp_hidden) as u64;
        total + blocks as u64 * (self.attention().multiply_adds(tokens) + mlp)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Vitamin {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(EPS).init(device);
        let map_norm = |channels| LayerNorm2d::new(channels, EPS, device);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let mut stages = vec![Vec::new(), Vec::new()];
        for (stage, from, to, stride) in self.conv_blocks() {
            let (expand, [first, depthwise, last]) = Self::conv_block(from, to, stride);
            stages[stage].push(ConvBlock {
                shortcut: (stride > 1).then(|| Shortcut { expand: expand.map(|conv| conv.init(device)) }),
                pre_norm: map_norm(from),
                conv1_1x1: first.init(device),
                conv2_kxk: depthwise.init(device),
                conv3_1x1: last.init(device),
            });
        }
        let block = |_| VitaminBlock {
            norm1: norm(),
            attn: self.attention().init(device),
            norm2: norm(),
            mlp: GatedMlp {
                norm: norm(),
                w0: linear(self.width, self.mlp_hidden),
                w1: linear(self.width, self.mlp_hidden),
                w2: linear(self.mlp_hidden, self.width),
            },
        };
        let [conv1, conv2] = self.stem().map(|conv| conv.init(device));
        let pool = StridedConv { proj: self.last().init(device), norm: map_norm(self.conv_dims[1]) };
        let stem = Stem { conv1, norm1: map_norm(self.stem_width), conv2 };
        Vitamin {
            patch_embed: PatchEmbed { backbone: Backbone { stem, stages, pool } },
            pos_embed: self
                .positions
                .then(|| Initializer::Zeros.init([1, self.side() * self.side(), self.width], device)),
            blocks: (0..self.depth).map(block).collect(),
            norm: self.final_norm.then(norm),
            config: self.clone(),
        }
    }
}

impl NetworkConfig for VitaminConfig {
    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, STRIDE)?;
        let numbers = [self.image_size, self.stem_width, self.width, self.depth, self.heads, self.mlp_hidden];
        let sizes = numbers.iter().chain(&self.conv_depths).chain(&self.conv_dims);
        let positive = sizes.into_iter().all(|n| (1..=MAX_SIZE).contains(n));
        if !positive || !self.image_size.is_multiple_of(STRIDE) || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "invalid ViTamin: image_size {}, stem_width {}, conv_depths {:?}, conv_dims {:?}, width {}, depth {}, \
                 heads {}, mlp_hidden {}",
                self.image_size,
                self.stem_width,
                self.conv_depths,
                self.conv_dims,
                self.width,
                self.depth,
                self.heads,
                self.mlp_hidden
            ))
            .hint("all must be positive and at most 65536, image_size a multiple of 16, and heads must divide width"));
        }
        drop_path::check(self.drop_path)
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.conv_depths.iter().fold(self.depth, |sum, n| sum.saturating_add(*n))
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        tap.indices(self.depth, "block")?;
        Ok(TapSupport { final_norm: self.final_norm, class_token: false })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![self.side(); tap.indices(self.depth, "block")?.len()])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        Ok(self.width * tap.indices(self.depth, "block")?.len())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.depth, "block")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.width
    }

    fn norms_last_tokens(&self) -> bool {
        self.final_norm
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depth, branches: 2 })
    }
}

impl Vitamin {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VitaminConfig {
        &self.config
    }

    /// Tokens before the first transformer block, `[batch, tokens, width]`, and their grid.
    fn embed(&self, pixels: Tensor<4>) -> Result<(Tensor<3>, [usize; 2])> {
        check_pixels(&pixels, STRIDE)?;
        let map = self.patch_embed.backbone.forward(pixels);
        let [_, _, rows, columns] = map.dims();
        let tokens = to_tokens(map);
        let side = self.config.side();
        let tokens = match &self.pos_embed {
            None => tokens,
            Some(positions) if [rows, columns] == [side; 2] => tokens + positions.val(),
            Some(_) => {
                return Err(Error::failed(format!(
                    "the position embeddings are for a grid of {side}x{side} tokens, but the images have {rows}x{columns}"
                ))
                .hint("resize the images to the size on the encoder's card"));
            }
        };
        Ok((tokens, [rows, columns]))
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}

impl Network for Vitamin {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let layers = tap.indices(self.config.depth, "block")?;
        let (tokens, grid) = self.embed(pixels)?;
        let run = |i: usize, block: &VitaminBlock, x| block.forward(x, drop_path, i);
        let norm = |tokens| if tap.norm { self.final_norm(tokens) } else { tokens };
        let tokens = outputs(tokens, &layers, &self.blocks, run);
        tap.join(tokens.into_iter().map(|tokens| FeatureMap { tokens: norm(tokens), grid }).collect())
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let (tokens, _) = self.embed(pixels)?;
        let run = |x, (i, block): (usize, &VitaminBlock)| block.forward(x, drop_path, i);
        let tokens = self.blocks.iter().enumerate().fold(tokens, run);
        Ok(self.final_norm(tokens).mean_dim(1).squeeze_dim(1))
    }
}

impl TimmModel for VitaminConfig {
    /// timm builds it as a vision transformer with a convolutional patch embedding.
    const CLASSES: &'static [&'static str] = &["VisionTransformer"];

    fn reads(arguments: &TimmArguments) -> bool {
        Self::CLASSES.contains(&arguments.class) && arguments.get("mlp_layer").is_some_and(|layer| layer == "GeGluMlp")
    }

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("act_layer", "\"GELU\""),
            ("class_token", "false"),
            ("mlp_layer", "\"GeGluMlp\""),
            ("patch_size", "1"),
            ("qkv_bias", "true"),
        ])?;
        arguments.without(IGNORED);
        let pool = arguments.text("global_pool", "token")?;
        let positions = match arguments.text("pos_embed", "learn")?.as_str() {
            "learn" => true,
            "none" | "" => false,
            other => return Err(arguments.unsupported("pos_embed", &other.into())),
        };
        let width = arguments.number("embed_dim", 768)?;
        let [stem_width, depths, dims] = arguments
            .read("embed_layer", |layer| {
                let hybrid = layer.get("HybridEmbed")?;
                let stages = hybrid.get("backbone")?.get("MbConvStages")?;
                let list = |key| stages.get(key)?.as_array()?.iter().map(integer).collect::<Option<Vec<usize>>>();
                let fits = hybrid.get("proj")? == false && list("embed_dim")?.get(2) == Some(&width);
                fits.then_some([vec![integer(stages.get("stem_width")?)?], list("depths")?, list("embed_dim")?])
            })?
            .ok_or_else(|| arguments.invalid("its patch embedding is unknown"))?;
        let config = match (stem_width.as_slice(), depths.as_slice(), dims.as_slice()) {
            ([stem_width], [depth1, depth2, ..], [dim1, dim2, ..]) => Self {
                image_size,
                stem_width: *stem_width,
                conv_depths: [*depth1, *depth2],
                conv_dims: [*dim1, *dim2],
                width,
                depth: arguments.number("depth", 12)?,
                heads: arguments.number("num_heads", 12)?,
                mlp_hidden: times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0)),
                positions,
                // A norm of the pooled output takes the place of the final norm.
                final_norm: !matches!(pool.as_str(), "avg" | "avgmax" | "max"),
                drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
            },
            _ => return Err(arguments.invalid("its patch embedding has fewer than two stages")),
        };
        Ok(TimmNetwork::new(config))
    }
}
