//! CoaT hyper-parameters, their validation, and the construction of the network.

use super::super::block::Mlp;
use super::super::limits::MAX_SIZE;
use super::super::parts::{ConvEmbed, ConvSpec, Padding};
use super::super::staged::{LayerShape, StagedConfig};
use super::{Coat, FactorAttention, ParallelBlock, PositionEncoding, RelativeEncoding, SerialBlock};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Initializer;
use burn::nn::{LayerNorm, LayerNormConfig, LinearConfig};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Side of the kernel, and number of heads, of each convolution of the relative position encoding.
const WINDOWS: [[usize; 2]; 3] = [[3, 2], [5, 3], [7, 3]];
/// Attention heads of all blocks.
const HEADS: usize = 8;
/// Epsilon of the norms of blocks.
const EPS: f64 = 1e-6;
/// Epsilon of the norms of patch embeddings.
const EMBED_EPS: f64 = 1e-5;

/// Hyper-parameters of a CoaT or CoaT-Lite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CoatConfig {
    /// Side of the square input images, in pixels; a multiple of 8 times `patch`.
    pub image_size: usize,
    /// Side of a patch of the first stage, in pixels. Default 4.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels per stage, multiples of 8; equal in the last three stages if there are parallel blocks.
    pub dims: [usize; 4],
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Hidden channels of the MLPs per stage.
    pub mlp_hidden: [usize; 4],
    /// Number of blocks that exchange the features of the last three stages. Default 0.
    #[serde(default)]
    pub parallel_depth: usize,
    /// Whether the query, key and value projections have biases. Default true.
    #[serde(default = "super::super::fields::yes", skip_serializing_if = "super::super::fields::is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
}

fn default_patch() -> usize {
    4
}

impl CoatConfig {
    fn embedding(&self, stage: usize) -> ConvSpec {
        let side = if stage == 0 { self.patch } else { 2 };
        let from = stage.checked_sub(1).map_or(3, |before| self.dims[before]);
        ConvSpec::new(from, self.dims[stage], side).stride(side).padding(Padding::Explicit(0))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Coat {
        let norm = |stage: usize| self.norm(stage, device);
        let embed = |stage| ConvEmbed::new(self.embedding(stage), Some(EMBED_EPS), device);
        let class = |stage: usize| Initializer::Zeros.init([1, 1, self.dims[stage]], device);
        let positions = |stage: usize| PositionEncoding { proj: ConvSpec::depthwise(self.dims[stage], 3).init(device) };
        let relative = |stage: usize| {
            let conv = |[kernel, heads]: [usize; 2]| {
                ConvSpec::depthwise(self.dims[stage] / HEADS * heads, kernel).init(device)
            };
            RelativeEncoding { conv_list: WINDOWS.into_iter().map(conv).collect() }
        };
        let serial = |stage: usize| {
            let block = |_| SerialBlock {
                norm1: norm(stage),
                factoratt_crpe: self.attention(stage, device),
                norm2: norm(stage),
                mlp: self.mlp(stage, device),
            };
            (0..self.depths[stage]).map(block).collect()
        };
        let parallel = |_| ParallelBlock {
            norm12: norm(1),
            norm13: norm(2),
            norm14: norm(3),
            factoratt_crpe2: self.attention(1, device),
            factoratt_crpe3: self.attention(2, device),
            factoratt_crpe4: self.attention(3, device),
            norm22: norm(1),
            norm23: norm(2),
            norm24: norm(3),
            mlp2: self.mlp(1, device),
        };
        Coat {
            patch_embed1: embed(0),
            patch_embed2: embed(1),
            patch_embed3: embed(2),
            patch_embed4: embed(3),
            cls_token1: class(0),
            cls_token2: class(1),
            cls_token3: class(2),
            cls_token4: class(3),
            cpe1: positions(0),
            cpe2: positions(1),
            cpe3: positions(2),
            cpe4: positions(3),
            crpe1: relative(0),
            crpe2: relative(1),
            crpe3: relative(2),
            crpe4: relative(3),
            serial_blocks1: serial(0),
            serial_blocks2: serial(1),
            serial_blocks3: serial(2),
            serial_blocks4: serial(3),
            parallel_blocks: (0..self.parallel_depth).map(parallel).collect(),
            norm2: (self.parallel_depth > 0).then(|| norm(1)),
            norm3: (self.parallel_depth > 0).then(|| norm(2)),
            norm4: norm(3),
            config: self.clone(),
        }
    }

    fn norm(&self, stage: usize, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.dims[stage]).with_epsilon(EPS).init(device)
    }

    fn attention(&self, stage: usize, device: &Device) -> FactorAttention {
        let width = self.dims[stage];
        FactorAttention {
            qkv: LinearConfig::new(width, 3 * width).with_bias(self.qkv_bias).init(device),
            proj: LinearConfig::new(width, width).init(device),
            heads: HEADS,
        }
    }

    fn mlp(&self, stage: usize, device: &Device) -> Mlp {
        Mlp::new(self.dims[stage], self.mlp_hidden[stage], self.dims[stage], Activation::Gelu, device)
    }

    /// Multiply-add operations of a block of `stage` with `side` × `side` patches, without the position encoding.
    fn block_multiply_adds(&self, stage: usize, side: usize) -> u64 {
        let (width, hidden) = (self.dims[stage] as u64, self.mlp_hidden[stage] as u64);
        let patches = (side * side) as u64;
        let linear = 4 * width * width + 2 * width * hidden + 2 * width * width / HEADS as u64;
        let windows: u64 = WINDOWS.iter().map(|[kernel, heads]| (kernel * kernel * heads) as u64).sum();
        (patches + 1) * linear + patches * windows * width / HEADS as u64
    }

    /// Multiply-add operations of the position encoding of `stage`.
    fn positions_multiply_adds(&self, stage: usize, side: usize) -> u64 {
        ConvSpec::depthwise(self.dims[stage], 3).multiply_adds(side)
    }
}

impl StagedConfig for CoatConfig {
    fn check(&self) -> Result<()> {
        let sizes = [self.image_size, self.patch].into_iter().chain(self.dims).chain(self.depths);
        let positive = sizes.chain(self.mlp_hidden).all(|n| (1..=MAX_SIZE).contains(&n));
        let heads = self.dims.iter().all(|width| width.is_multiple_of(HEADS));
        let whole = positive && self.image_size.is_multiple_of(self.patch.saturating_mul(8));
        if !whole || !heads || self.parallel_depth > MAX_SIZE {
            return Err(Error::usage(format!(
                "invalid CoaT: image_size {}, patch {}, dims {:?}, depths {:?}, mlp_hidden {:?}, parallel_depth {}",
                self.image_size, self.patch, self.dims, self.depths, self.mlp_hidden, self.parallel_depth
            ))
            .hint("all must be positive, dims multiples of 8, and image_size a multiple of 8 times patch"));
        }
        let equal = |list: [usize; 4]| list[1] == list[2] && list[2] == list[3];
        if self.parallel_depth > 0 && !(equal(self.dims) && equal(self.mlp_hidden)) {
            return Err(Error::usage(format!(
                "parallel blocks cannot join stages of dims {:?} and mlp_hidden {:?}",
                self.dims, self.mlp_hidden
            ))
            .hint("the last three stages must be equal"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(self.parallel_depth, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut side = self.image_size;
        let mut layers = Vec::new();
        for stage in 0..4 {
            let embedding = self.embedding(stage);
            let multiply_adds = embedding.multiply_adds(side);
            side = embedding.out_side(side);
            let block = self.block_multiply_adds(stage, side) + self.positions_multiply_adds(stage, side);
            layers.push(LayerShape {
                width: self.dims[stage],
                side,
                multiply_adds: multiply_adds + self.depths[stage] as u64 * block,
            });
        }
        if self.parallel_depth > 0 {
            let serial = layers.clone();
            for (stage, LayerShape { width, side, .. }) in serial.into_iter().enumerate().skip(1) {
                let block = self.block_multiply_adds(stage, side) + self.positions_multiply_adds(stage, side);
                layers.push(LayerShape { width, side, multiply_adds: self.parallel_depth as u64 * block });
            }
        }
        layers
    }

    fn has_final_norm(&self) -> bool {
        true
    }
}

impl TimmModel for CoatConfig {
    const CLASSES: &'static [&'static str] = &["CoaT"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("num_heads", "8"),
            ("crpe_window", "null"),
            ("drop_path_rate", "0"),
            ("return_interm_layers", "false"),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "out_features"]);
        let dims = arguments.four("embed_dims", [64, 128, 320, 512])?;
        let ratios = arguments.four("mlp_ratios", [4; 4])?;
        let mut mlp_hidden = [0; 4];
        for ((hidden, width), ratio) in mlp_hidden.iter_mut().zip(dims).zip(ratios) {
            *hidden = times(width, ratio as f64);
        }
        let config = Self {
            image_size,
            patch: arguments.number("patch_size", 16)?,
            dims,
            depths: arguments.four("serial_depths", [3, 4, 6, 3])?,
            mlp_hidden,
            parallel_depth: arguments.number("parallel_depth", 0)?,
            qkv_bias: arguments.flag("qkv_bias", true)?,
        };
        Ok(TimmNetwork::new(config).with_dialect("timm-coat"))
    }
}
