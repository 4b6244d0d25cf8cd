//! Networks of MLPs over tokens and channels: MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601), gMixer, ResMLP
//! (Touvron et al. 2021, arXiv:2105.03404) and gMLP (Liu et al. 2021, arXiv:2105.08050). Parameter paths are those of
//! timm's `MlpMixer`.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_patches, check_pixels};
use super::parts::{add_branch, constant_drop_path, constant_factors, to_map};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use super::vit::PatchEmbed;
use crate::operands::{Activation, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MixerBlockKind {
    /// An MLP over tokens, then an MLP over channels (MLP-Mixer).
    Mixer,
    /// As `mixer`, with gated MLPs (gMixer).
    GatedMixer,
    /// A linear layer over tokens, then an MLP over channels, with factors and shifts instead of norms (ResMLP).
    Residual,
    /// An MLP over channels, in which one half of the channels gates the other through a linear layer over tokens
    /// (gMLP).
    SpatialGating,
}

/// Hyper-parameters of a network of MLPs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MixerConfig {
    /// Side of the square input images, in pixels; the network is for this size only.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Kind of block.
    pub block: MixerBlockKind,
    /// Hidden size of the MLPs over tokens; `mixer` and `gated-mixer` only. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub token_hidden: usize,
    /// Hidden size of the MLPs over channels. Where a half gates the other, both halves count.
    pub mlp_hidden: usize,
    /// Initial value of the layer scale; `residual` only. Default 1e-4.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Epsilon added to the variance in every layer norm over all channels. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of all blocks, at least 0 and below 1. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_scale() -> f64 {
    1e-4
}

fn default_eps() -> f64 {
    1e-6
}

/// A network of MLPs; see the module documentation.
#[derive(Module, Debug)]
pub struct Mixer {
    /// Patch embedding.
    pub stem: PatchEmbed,
    /// The blocks, in order.
    pub blocks: Vec<MixerBlock>,
    /// Norm after the last block.
    pub norm: TokenNorm,
    #[module(skip)]
    config: MixerConfig,
}

/// A block, one variant per kind of its structure.
#[derive(Module, Debug)]
pub enum MixerBlock {
    /// MLPs over tokens and over channels.
    Mixer(TokenChannelBlock),
    /// ResMLP.
    Residual(ResidualBlock),
    /// gMLP.
    SpatialGating(SpatialGatingBlock),
}

/// A block with an MLP over tokens and an MLP over channels.
#[derive(Module, Debug)]
pub struct TokenChannelBlock {
    /// Norm before the MLP over tokens.
    pub norm1: TokenNorm,
    /// MLP over tokens.
    pub mlp_tokens: MixerMlp,
    /// Norm before the MLP over channels.
    pub norm2: TokenNorm,
    /// MLP over channels.
    pub mlp_channels: MixerMlp,
}

/// A block with a linear layer over tokens and an MLP over channels.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Factors and shifts before the layer over tokens.
    pub norm1: TokenNorm,
    /// Linear layer over tokens, `[tokens, tokens]`.
    pub linear_tokens: Linear,
    /// Factors and shifts before the MLP.
    pub norm2: TokenNorm,
    /// MLP over channels.
    pub mlp_channels: MixerMlp,
    /// Layer scale of the first branch, `[width]`.
    pub ls1: Param<Tensor<1>>,
    /// Layer scale of the second branch, `[width]`.
    pub ls2: Param<Tensor<1>>,
}

/// A block with a spatial gating unit between the layers of an MLP over channels.
#[derive(Module, Debug)]
pub struct SpatialGatingBlock {
    /// Norm before the MLP.
    pub norm: TokenNorm,
    /// MLP with its gate.
    pub mlp_channels: SpatialGatingMlp,
}

/// An MLP whose hidden channels' second half gates the first.
#[derive(Module, Debug)]
pub struct SpatialGatingMlp {
    /// First layer, `[width, hidden]`.
    pub fc1: Linear,
    /// Spatial gating unit.
    pub gate: SpatialGate,
    /// Second layer, `[hidden / 2, width]`.
    pub fc2: Linear,
}

/// A spatial gating unit: norm and linear layer over tokens, applied to the second half of the channels.
#[derive(Module, Debug)]
pub struct SpatialGate {
    /// Norm over the gating channels.
    pub norm: LayerNorm,
    /// Linear layer over tokens, `[tokens, tokens]`.
    pub proj: Linear,
}

/// An MLP over the last axis.
#[derive(Module, Debug)]
pub enum MixerMlp {
    /// Two layers with GELU between them.
    Plain(Mlp),
    /// Two layers; SiLU of the second half of the hidden channels gates the first.
    Gated(GatedMlp),
}

/// A gated MLP: `fc2(first half · silu(second half))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// First layer, `[input, hidden]`.
    pub fc1: Linear,
    /// Second layer, `[hidden / 2, input]`.
    pub fc2: Linear,
}

/// The norm of a token.
#[derive(Module, Debug)]
pub enum TokenNorm {
    /// Layer norm.
    Layer(LayerNorm),
    /// A factor and a shift per channel, without normalisation.
    Affine(Affine),
}

/// A factor and a shift per channel.
#[derive(Module, Debug)]
pub struct Affine {
    /// Factors, `[1, 1, width]`.
    pub alpha: Param<Tensor<3>>,
    /// Shifts, `[1, 1, width]`.
    pub beta: Param<Tensor<3>>,
}

impl TokenNorm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Affine(Affine { alpha, beta }) => x * alpha.val() + beta.val(),
        }
    }
}

impl MixerMlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Plain(mlp) => {
                let [batch, rows, input] = x.dims();
                mlp.forward(x.reshape([batch * rows, input])).reshape([batch, rows, input])
            }
            Self::Gated(GatedMlp { fc1, fc2 }) => {
                let hidden = fc1.forward(x);
                let half = hidden.dims()[2] / 2;
                fc2.forward(hidden.clone().narrow(2, 0, half) * silu(hidden.narrow(2, half, half)))
            }
        }
    }
}

impl SpatialGatingMlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = gelu(self.fc1.forward(x));
        let half = hidden.dims()[2] / 2;
        let gate = self.gate.norm.forward(hidden.clone().narrow(2, half, half));
        let gate = self.gate.proj.forward(gate.swap_dims(1, 2)).swap_dims(1, 2);
        self.fc2.forward(hidden.narrow(2, 0, half) * gate)
    }
}

impl MixerBlock {
    /// Runs block number `index` on `[batch, tokens, width]`.
    fn forward(&self, x: Tensor<3>, drop_path: &DropPathMask, index: usize) -> Tensor<3> {
        let factors = |branch: usize| constant_factors(drop_path, 2 * index + branch);
        match self {
            Self::Mixer(TokenChannelBlock { norm1, mlp_tokens, norm2, mlp_channels }) => {
                let branch = mlp_tokens.forward(norm1.forward(x.clone()).swap_dims(1, 2)).swap_dims(1, 2);
                let x = add_branch(x, branch, factors(0));
                let branch = mlp_channels.forward(norm2.forward(x.clone()));
                add_branch(x, branch, factors(1))
            }
            Self::Residual(ResidualBlock { norm1, linear_tokens, norm2, mlp_channels, ls1, ls2 }) => {
                let branch = linear_tokens.forward(norm1.forward(x.clone()).swap_dims(1, 2)).swap_dims(1, 2);
                let x = add_branch(x, branch * ls1.val().unsqueeze(), factors(0));
                let branch = mlp_channels.forward(norm2.forward(x.clone()));
                add_branch(x, branch * ls2.val().unsqueeze(), factors(1))
            }
            Self::SpatialGating(SpatialGatingBlock { norm, mlp_channels }) => {
                let branch = mlp_channels.forward(norm.forward(x.clone()));
                add_branch(x, branch, factors(0))
            }
        }
    }
}

impl MixerConfig {
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Mixer {
        Mixer {
            stem: PatchEmbed::new(self.width, self.patch, true, device),
            blocks: (0..self.depth).map(|_| self.init_block(device)).collect(),
            norm: self.norm(device),
            config: self.clone(),
        }
    }

    fn norm(&self, device: &Device) -> TokenNorm {
        match self.block {
            MixerBlockKind::Residual => TokenNorm::Affine(Affine {
                alpha: Initializer::Ones.init([1, 1, self.width], device),
                beta: Initializer::Zeros.init([1, 1, self.width], device),
            }),
            MixerBlockKind::Mixer | MixerBlockKind::GatedMixer | MixerBlockKind::SpatialGating => {
                TokenNorm::Layer(LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device))
            }
        }
    }

    fn init_block(&self, device: &Device) -> MixerBlock {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let (width, tokens) = (self.width, self.side() * self.side());
        let plain = |size, hidden| MixerMlp::Plain(Mlp::new(size, hidden, size, Activation::Gelu, device));
        let gated =
            |size, hidden| MixerMlp::Gated(GatedMlp { fc1: linear(size, hidden), fc2: linear(hidden / 2, size) });
        let scale = || Initializer::Constant { value: self.layer_scale }.init([width], device);
        let (norm1, norm2) = (self.norm(device), self.norm(device));
        match self.block {
            MixerBlockKind::Mixer => MixerBlock::Mixer(TokenChannelBlock {
                norm1,
                mlp_tokens: plain(tokens, self.token_hidden),
                norm2,
                mlp_channels: plain(width, self.mlp_hidden),
            }),
            MixerBlockKind::GatedMixer => MixerBlock::Mixer(TokenChannelBlock {
                norm1,
                mlp_tokens: gated(tokens, self.token_hidden),
                norm2,
                mlp_channels: gated(width, self.mlp_hidden),
            }),
            MixerBlockKind::Residual => MixerBlock::Residual(ResidualBlock {
                norm1,
                linear_tokens: linear(tokens, tokens),
                norm2,
                mlp_channels: plain(width, self.mlp_hidden),
                ls1: scale(),
                ls2: scale(),
            }),
            MixerBlockKind::SpatialGating => MixerBlock::SpatialGating(SpatialGatingBlock {
                norm: norm1,
                mlp_channels: SpatialGatingMlp {
                    fc1: linear(width, self.mlp_hidden),
                    // timm leaves this norm at PyTorch's default epsilon.
                    gate: SpatialGate {
                        norm: LayerNormConfig::new(self.mlp_hidden / 2).with_epsilon(1e-5).init(device),
                        proj: linear(tokens, tokens),
                    },
                    fc2: linear(self.mlp_hidden / 2, width),
                },
            }),
        }
    }

    /// Multiply-add operations of a block for one image.
    fn block_multiply_adds(&self) -> u64 {
        let (width, tokens) = (self.width as u64, (self.side() * self.side()) as u64);
        let (token_hidden, hidden) = (self.token_hidden as u64, self.mlp_hidden as u64);
        match self.block {
            MixerBlockKind::Mixer => 2 * width * tokens * (token_hidden + hidden),
            MixerBlockKind::GatedMixer => width * tokens * (token_hidden + token_hidden / 2 + hidden + hidden / 2),
            MixerBlockKind::Residual => width * tokens * (tokens + 2 * hidden),
            MixerBlockKind::SpatialGating => tokens * (width * (hidden + hidden / 2) + tokens * (hidden / 2)),
        }
    }
}

impl StagedConfig for MixerConfig {
    fn check(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.mlp_hidden];
        let positive = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n)) && self.token_hidden <= MAX_SIZE;
        let mixes = matches!(self.block, MixerBlockKind::Mixer | MixerBlockKind::GatedMixer);
        let halves = matches!(self.block, MixerBlockKind::GatedMixer | MixerBlockKind::SpatialGating);
        let even = !halves || (self.mlp_hidden.is_multiple_of(2) && self.token_hidden.is_multiple_of(2));
        if !positive || !even || self.image_size < self.patch || mixes != (self.token_hidden > 0) {
            return Err(Error::usage(format!(
                "invalid network of MLPs: image_size {}, patch {}, width {}, depth {}, token_hidden {}, mlp_hidden {}",
                self.image_size, self.patch, self.width, self.depth, self.token_hidden, self.mlp_hidden
            ))
            .hint(
                "all must be positive and at most 65536, token_hidden is for `mixer` and `gated-mixer` only, and the \
                 hidden sizes of gated MLPs must be even",
            ));
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
        let side = self.side();
        let embedding = (side * side * self.width * 3 * self.patch * self.patch) as u64;
        let first = |block: usize| if block == 0 { embedding } else { 0 };
        let layer =
            |block| LayerShape { width: self.width, side, multiply_adds: first(block) + self.block_multiply_adds() };
        (0..self.depth).map(layer).collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(constant_drop_path(self.drop_path, 2 * self.depth))
    }
}

impl StagedNetwork for Mixer {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, self.config.patch)?;
        let [_, _, height, width] = pixels.dims();
        let size = self.config.image_size;
        if [height, width] != [size; 2] {
            return Err(Error::failed(format!(
                "this network mixes the tokens of images of {size}x{size} pixels, but the images have {height}x{width}"
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let grid = [self.config.side(); 2];
        let mut x = self.stem.forward(pixels);
        let mut outputs = Vec::with_capacity(count);
        for (i, block) in self.blocks.iter().enumerate().take(count) {
            x = block.forward(x, drop_path, i);
            outputs.push(to_map(x.clone(), grid));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}

impl Mixer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &MixerConfig {
        &self.config
    }
}

impl TimmModel for MixerConfig {
    const CLASSES: &'static [&'static str] = &["MlpMixer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("stem_norm", "false"), ("nlhb", "false")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let mut layer_scale = default_scale();
        let named = arguments.take("block_layer").unwrap_or_else(|| "MixerBlock".into());
        let name = match (named.as_str(), named.get("ResBlock").and_then(Value::as_object)) {
            (Some(name), _) => name.to_string(),
            (None, Some(settings)) if settings.keys().all(|key| key == "init_values") => {
                layer_scale = settings.get("init_values").and_then(Value::as_f64).unwrap_or(layer_scale);
                "ResBlock".into()
            }
            (None, _) => String::new(),
        };
        let mlp = arguments.text("mlp_layer", "Mlp")?;
        let activation = arguments.text("act_layer", "GELU")?;
        let norm = arguments.take("norm_layer").unwrap_or_else(|| "LayerNorm".into());
        let block = match (name.as_str(), mlp.as_str(), activation.as_str()) {
            ("MixerBlock", "Mlp", "GELU") => MixerBlockKind::Mixer,
            ("MixerBlock", "GluMlp", "SiLU") => MixerBlockKind::GatedMixer,
            ("ResBlock", "Mlp", "GELU") => MixerBlockKind::Residual,
            ("SpatialGatingBlock", "GatedMlp", "GELU") => MixerBlockKind::SpatialGating,
            _ => {
                let what = format!("block_layer = {named}, mlp_layer = {mlp}, act_layer = {activation}");
                return Err(arguments.invalid(&format!("{what} is not supported")));
            }
        };
        let affine = block == MixerBlockKind::Residual;
        if norm != if affine { "Affine" } else { "LayerNorm" } {
            return Err(arguments.unsupported("norm_layer", &norm));
        }
        let width = arguments.number("embed_dim", 512)?;
        let [over_tokens, over_channels] = arguments
            .read("mlp_ratio", |ratio| match ratio.as_array().map(Vec::as_slice) {
                None => ratio.as_f64().map(|one| [one; 2]),
                Some([tokens, channels]) => Some([tokens.as_f64()?, channels.as_f64()?]),
                Some(_) => None,
            })?
            .unwrap_or([0.5, 4.0]);
        let mixes = matches!(block, MixerBlockKind::Mixer | MixerBlockKind::GatedMixer);
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.number("patch_size", 16)?,
            width,
            depth: arguments.number("num_blocks", 8)?,
            block,
            token_hidden: if mixes { times(width, over_tokens) } else { 0 },
            mlp_hidden: times(width, over_channels),
            layer_scale,
            norm_eps: default_eps(),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
