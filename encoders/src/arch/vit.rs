//! Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the variants that CLIP, SigLIP, DINOv2,
//! MAE and supervised checkpoints differ in. Parameter paths are those of timm's `VisionTransformer`.
//!
//! The forward pass is cut where pretraining objectives reach in: [`Vit::patches`] → (MAE drops tokens, DINOv2
//! puts mask tokens) → [`Vit::prepare`] → [`Vit::run_blocks`] → [`Vit::final_norm`].

use super::{Tap, Tokens, check_pixels};
use crate::attention::attend;
use crate::features::{FeatureMap, Kernel, resample_tokens};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation, module::linear};
use serde::{Deserialize, Serialize};

/// The non-linearity between the two layers of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact GELU, x·Φ(x).
    #[default]
    Gelu,
    /// x·σ(1.702 x), of OpenAI's CLIP.
    QuickGelu,
    /// GELU by tanh, of SigLIP.
    GeluTanh,
}

impl Activation {
    /// Applies it to every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => activation::gelu(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
            Self::GeluTanh => activation::gelu_approximate(x),
        }
    }
}

/// The numbers of a vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square pictures, in pixels; the position embeddings are for this size.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Channels inside the MLP.
    pub mlp_hidden: usize,
    /// A class token before the patches. Default true.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// Register tokens after the class token (Darcet et al. 2024). Default 0.
    #[serde(default)]
    pub registers: usize,
    /// A norm before the first block (CLIP). Default false.
    #[serde(default)]
    pub pre_norm: bool,
    /// A bias in the patch embedding. Default true.
    #[serde(default = "yes")]
    pub patch_bias: bool,
    /// Biases in the query, key and value projections. Default true.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Scale of each residual branch at the start (DINOv2); none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Default exact GELU.
    #[serde(default)]
    pub activation: Activation,
    /// Added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// A norm after the last block. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Whether the class token has a position embedding of its own. Default true.
    #[serde(default = "yes")]
    pub pos_embed_class: bool,
}

fn yes() -> bool {
    true
}

fn default_eps() -> f64 {
    1e-6
}

impl VitConfig {
    /// Says what is wrong with the numbers, if anything.
    pub fn validate(&self) -> Result<()> {
        let positive =
            [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden].iter().all(|n| *n > 0);
        if !positive || !self.image_size.is_multiple_of(self.patch) || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "a vision transformer cannot have image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}",
                self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden
            ))
            .hint("all must be positive, patch must divide image_size, and heads must divide width"));
        }
        Ok(())
    }

    /// `[rows, columns]` of patches.
    pub fn grid(&self) -> [usize; 2] {
        [self.image_size / self.patch; 2]
    }

    /// Tokens before the patches.
    fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// Multiply-adds of one picture up to the output of block number `blocks`.
    pub(super) fn multiply_adds(&self, blocks: usize) -> u64 {
        let [rows, columns] = self.grid();
        let patches = (rows * columns) as u64;
        let tokens = patches + self.prefix() as u64;
        let (width, hidden) = (self.width as u64, self.mlp_hidden as u64);
        let embed = patches * width * (3 * self.patch * self.patch) as u64;
        let block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width;
        embed + blocks as u64 * block
    }

    /// A network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Vit {
        let width = self.width;
        let token = |n: usize| Initializer::Zeros.init([1, n, width], device);
        let [rows, columns] = self.grid();
        let positions = rows * columns + usize::from(self.class_token && self.pos_embed_class);
        Vit {
            cls_token: self.class_token.then(|| token(1)),
            reg_token: (self.registers > 0).then(|| token(self.registers)),
            pos_embed: token(positions),
            patch_embed: PatchEmbed {
                proj: Conv2dConfig::new([3, width], [self.patch, self.patch])
                    .with_stride([self.patch, self.patch])
                    .with_bias(self.patch_bias)
                    .init(device),
            },
            norm_pre: self.pre_norm.then(|| self.norm(device)),
            blocks: (0..self.depth).map(|_| self.block(device)).collect(),
            norm: self.final_norm.then(|| self.norm(device)),
            config: self.clone(),
        }
    }

    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device)
    }

    fn block(&self, device: &Device) -> Block {
        let scale = |value: f64| LayerScale { gamma: Initializer::Constant { value }.init([self.width], device) };
        Block {
            norm1: self.norm(device),
            attn: Attention {
                qkv: LinearConfig::new(self.width, 3 * self.width).with_bias(self.qkv_bias).init(device),
                proj: LinearConfig::new(self.width, self.width).init(device),
                heads: self.heads,
            },
            ls1: self.layer_scale.map(scale),
            norm2: self.norm(device),
            mlp: Mlp::new(self.width, self.mlp_hidden, self.width, self.activation, device),
            ls2: self.layer_scale.map(scale),
        }
    }

    /// Blocks alone, for the towers and decoders that objectives put beside an encoder: exact GELU, an MLP four
    /// times as wide, biases everywhere, no layer scale. An error unless `heads` divides `width`.
    pub(crate) fn blocks(width: usize, depth: usize, heads: usize, device: &Device) -> Result<Vec<Block>> {
        let config = Self {
            image_size: 1,
            patch: 1,
            width,
            depth,
            heads,
            mlp_hidden: 4 * width,
            class_token: false,
            registers: 0,
            pre_norm: false,
            patch_bias: true,
            qkv_bias: true,
            layer_scale: None,
            activation: Activation::Gelu,
            norm_eps: default_eps(),
            final_norm: false,
            pos_embed_class: false,
        };
        config.validate()?;
        Ok((0..depth).map(|_| config.block(device)).collect())
    }
}

/// A vision transformer. See the module documentation.
#[derive(Module, Debug)]
pub struct Vit {
    /// `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, registers, width]`.
    pub reg_token: Option<Param<Tensor<3>>>,
    /// `[1, (1 +) patches, width]`.
    pub pos_embed: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// CLIP's `ln_pre`.
    pub norm_pre: Option<LayerNorm>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// The norm after the last block.
    pub norm: Option<LayerNorm>,
    #[module(skip)]
    config: VitConfig,
}

/// The patch embedding, a convolution whose kernel equals its stride; weight `[width, 3, patch, patch]`.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Holds the parameters; the product itself is a matrix product.
    pub proj: Conv2d,
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: Attention,
    /// Scale of the attention branch.
    pub ls1: Option<LayerScale>,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    /// Scale of the MLP branch.
    pub ls2: Option<LayerScale>,
}

/// Multi-head self-attention with one matrix for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[width, 3 * width]`: queries, keys, values.
    pub qkv: Linear,
    /// `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

/// Two linear layers with a non-linearity between.
#[derive(Module, Debug)]
pub struct Mlp {
    /// To the hidden width.
    pub fc1: Linear,
    /// Back.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

/// A learned factor per channel (Touvron et al. 2021, arXiv:2103.17239).
#[derive(Module, Debug)]
pub struct LayerScale {
    /// `[width]`.
    pub gamma: Param<Tensor<1>>,
}

impl Mlp {
    /// An MLP with placeholder weights.
    pub fn new(input: usize, hidden: usize, output: usize, activation: Activation, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(input, hidden).init(device),
            fc2: LinearConfig::new(hidden, output).init(device),
            activation,
        }
    }

    /// `[rows, input]` to `[rows, output]`. Tokens come as rows of one matrix: a product per picture is up to
    /// twice as slow on the CPU backend where the output is narrow.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(self.activation.forward(self.fc1.forward(x)))
    }
}

impl Attention {
    /// `x` is `[batch * tokens, width]`; `bias` is added to the scores.
    fn forward(&self, x: Tensor<2>, batch: usize, bias: Option<&Tensor<4>>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let tokens = rows / batch;
        let head = |part: Tensor<2>| part.reshape([batch, tokens, self.heads, width / self.heads]).swap_dims(1, 2);
        let [q, k, v] = if x.is_autodiff() {
            // The gradient of a slice is a whole tensor of zeros around it: slice the small weights, not the tokens.
            let weight = self.qkv.weight.val();
            let bias = self.qkv.bias.as_ref().map(Param::val);
            std::array::from_fn(|i| {
                let columns = i * width..(i + 1) * width;
                let weight = weight.clone().slice([0..width, columns.clone()]);
                head(linear(x.clone(), weight, bias.clone().map(|b| b.slice([columns]))))
            })
        } else {
            let qkv = self.qkv.forward(x);
            std::array::from_fn(|i| head(qkv.clone().slice([0..rows, i * width..(i + 1) * width])))
        };
        let mixed = attend(q, k, v, bias.cloned());
        self.proj.forward(mixed.swap_dims(1, 2).reshape([rows, width]))
    }
}

impl Block {
    /// `x` is `[batch, tokens, width]`; `bias` (for example causal) is added to the attention scores.
    pub fn forward(&self, x: Tensor<3>, bias: Option<&Tensor<4>>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let x = x.reshape([batch * tokens, width]);
        let branch = self.attn.forward(self.norm1.forward(x.clone()), batch, bias);
        let x = x + scaled(&self.ls1, branch);
        let branch = self.mlp.forward(self.norm2.forward(x.clone()));
        (x + scaled(&self.ls2, branch)).reshape([batch, tokens, width])
    }
}

fn scaled(scale: &Option<LayerScale>, branch: Tensor<2>) -> Tensor<2> {
    match scale {
        Some(scale) => branch * scale.gamma.val().unsqueeze(),
        None => branch,
    }
}

impl PatchEmbed {
    /// `[batch, 3, height, width]` to `[batch, patches, width]`, row by row.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let weight = self.proj.weight.val();
        let [d, _, p, _] = weight.dims();
        let (rows, columns) = (height / p, width / p);
        let patches = pixels
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * p * p]);
        linear(patches, weight.reshape([d, channels * p * p]).transpose(), self.proj.bias.as_ref().map(Param::val))
            .reshape([batch, rows * columns, d])
    }
}

impl Vit {
    /// The numbers this network was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Patch embeddings without positions: pictures `[batch, 3, height, width]` to `[batch, patches, width]`,
    /// and the grid of the patches. Pictures smaller or larger than the configuration's are welcome if their
    /// sides are multiples of the patch.
    pub fn patches(&self, pixels: Tensor<4>) -> Result<(Tensor<3>, [usize; 2])> {
        check_pixels(&pixels, self.config.patch)?;
        let [_, _, height, width] = pixels.dims();
        Ok((self.patch_embed.forward(pixels), [height / self.config.patch, width / self.config.patch]))
    }

    /// The position embeddings of the patches of `grid`, `[1, patches, width]`; resampled (bicubic, no
    /// anti-aliasing, as DINOv2's `interpolate_pos_encoding`) if the grid is not the configuration's.
    pub fn positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let all = self.pos_embed.val();
        let [_, count, width] = all.dims();
        let own = self.config.grid();
        let patches = all.slice([0..1, count - own[0] * own[1]..count, 0..width]);
        if grid == own { patches } else { resample_tokens(patches, own, grid, Kernel::Bicubic) }
    }

    /// The position embedding of the class token, `[1, 1, width]`, if it has one.
    pub fn class_position(&self) -> Option<Tensor<3>> {
        (self.config.class_token && self.config.pos_embed_class)
            .then(|| self.pos_embed.val().slice([0..1, 0..1, 0..self.config.width]))
    }

    /// Adds positions, then all of [`Vit::with_prefix`].
    pub fn prepare(&self, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        self.with_prefix(patches + self.positions(grid))
    }

    /// Puts class token and registers before patches that already have their positions, and applies the norm
    /// before the blocks: `[batch, patches, width]` to `[batch, prefix + patches, width]`.
    pub fn with_prefix(&self, patches: Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = patches.dims();
        let class = self.cls_token.as_ref().map(|class| match self.class_position() {
            Some(position) => class.val() + position,
            None => class.val(),
        });
        let registers = self.reg_token.as_ref().map(Param::val);
        let mut parts: Vec<Tensor<3>> = class
            .into_iter()
            .chain(registers)
            .map(|token| {
                let [_, n, _] = token.dims();
                token.expand([batch, n, width])
            })
            .collect();
        let tokens = if parts.is_empty() {
            patches
        } else {
            parts.push(patches);
            Tensor::cat(parts, 1)
        };
        match &self.norm_pre {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// All blocks.
    pub fn run_blocks(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.blocks.iter().fold(tokens, |x, block| block.forward(x, None))
    }

    /// The outputs of the blocks numbered in `layers` (0 is the first), in the order of the network; blocks
    /// after the last of them do not run.
    pub fn run_blocks_collect(&self, tokens: Tensor<3>, layers: &[usize]) -> Vec<Tensor<3>> {
        let depth = layers.iter().max().map_or(0, |last| last + 1);
        let mut collected = Vec::with_capacity(layers.len());
        let mut x = tokens;
        for (i, block) in self.blocks.iter().enumerate().take(depth) {
            x = block.forward(x, None);
            if layers.contains(&i) {
                collected.push(x.clone());
            }
        }
        collected
    }

    /// The norm after the last block, if there is one.
    pub fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// Splits `[batch, prefix + patches, width]` into the class token `[batch, width]`, if there is one, and the
    /// patches; registers are dropped.
    pub fn split(&self, tokens: Tensor<3>) -> (Option<Tensor<2>>, Tensor<3>) {
        let [batch, count, width] = tokens.dims();
        let class =
            self.config.class_token.then(|| tokens.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]));
        let prefix = self.config.prefix();
        let patches = if prefix == 0 { tokens } else { tokens.slice([0..batch, prefix..count, 0..width]) };
        (class, patches)
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        super::ArchitectureConfig::Vit(self.config.clone()).check_tap(tap)?;
        let layer = tap.index(self.config.depth, "block")?;
        let (patches, grid) = self.patches(pixels)?;
        let tokens = self.blocks.iter().take(layer + 1).fold(self.prepare(patches, grid), |x, b| b.forward(x, None));
        let (class, patches) = self.split(tokens);
        let tokens = match (tap.tokens, class) {
            (Tokens::PatchAndClass, Some(class)) => Tensor::cat(vec![class.unsqueeze_dim(1), patches], 1),
            _ => patches,
        };
        Ok(FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid })
    }

    pub(super) fn summary(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        let (patches, grid) = self.patches(pixels)?;
        let tokens = self.run_blocks(self.prepare(patches, grid));
        let (class, patches) = self.split(tokens);
        // Only the token that is read needs its norm.
        Ok(match class {
            Some(class) => {
                let normed = self.final_norm(class.unsqueeze_dim(1));
                normed.squeeze_dim(1)
            }
            None => self.final_norm(patches).mean_dim(1).squeeze_dim(1),
        })
    }
}
