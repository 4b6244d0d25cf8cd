//! PiT, the pooling-based vision transformer (Heo et al. 2021, arXiv:2103.16302): three stages of a vision transformer
//! with convolutions that halve the grid between them. Parameter paths are those of timm's `PoolingVisionTransformer`.
//!
//! The layers of a tap are the stages. The final norm is for the class token only, which [`Network::pooled`] returns.

use super::block::{AttentionPositions, Block, BlockConfig};
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_patches};
use super::network::{Network, NetworkConfig, TapSupport};
use super::parts::tokens::by_row;
use super::parts::{Conv, ConvSpec, Padding, to_map, to_tokens};
use super::tap::{Tap, Tokens};
use crate::features::FeatureMap;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a PiT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PitConfig {
    /// Side of the square input images, in pixels; the position embeddings are for this size only.
    pub image_size: usize,
    /// Side of the kernel of the patch embedding, in pixels.
    pub patch: usize,
    /// Stride of the patch embedding, in pixels.
    pub stride: usize,
    /// Channels of a token per stage.
    pub dims: Vec<usize>,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Attention heads per stage.
    pub heads: Vec<usize>,
    /// Hidden channels of the MLPs divided by the channels of a token. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether a distillation token follows the class token; no tap returns it. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub distillation_token: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    4.0
}

/// A PiT; see the module documentation.
#[derive(Module, Debug)]
pub struct Pit {
    /// Patch embedding.
    pub patch_embed: ConvEmbedding,
    /// Position embeddings of the patches, `[1, width, rows, columns]`.
    pub pos_embed: Param<Tensor<4>>,
    /// Class token and, if there is one, distillation token, `[1, tokens, width]`.
    pub cls_token: Param<Tensor<3>>,
    /// The stages, in order of depth.
    pub transformers: Vec<Stage>,
    /// Norm of the class token.
    pub norm: LayerNorm,
    #[module(skip)]
    config: PitConfig,
}

/// The patch embedding, an overlapping convolution.
#[derive(Module, Debug)]
pub struct ConvEmbedding {
    /// The convolution.
    pub conv: Conv,
}

/// A stage: pooling (absent in the first stage), then transformer blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Pooling.
    pub pool: Option<Pooling>,
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// A strided depthwise convolution of the patches and a linear layer for the tokens before them.
#[derive(Module, Debug)]
pub struct Pooling {
    /// 3×3 convolution of stride 2.
    pub conv: Conv,
    /// Linear layer.
    pub fc: Linear,
}

impl PitConfig {
    fn embedding(&self) -> ConvSpec {
        let width = self.dims.first().copied().unwrap_or_default();
        ConvSpec::new(3, width, self.patch).stride(self.stride).padding(Padding::Explicit(0))
    }

    /// The convolution before `stage`.
    fn pool(&self, stage: usize) -> Option<ConvSpec> {
        match self.dims.get(stage.checked_sub(1)?..=stage)? {
            [before, after] => Some(ConvSpec::new(*before, *after, 3).stride(2).groups(*before)),
            _ => None,
        }
    }

    fn prefix(&self) -> usize {
        1 + usize::from(self.distillation_token)
    }

    fn block(&self, width: usize, heads: usize) -> BlockConfig {
        BlockConfig { mlp_hidden: times(width, self.mlp_ratio), ..BlockConfig::plain(width, heads) }
    }

    /// Side of the grid of each stage.
    fn sides(&self) -> Vec<usize> {
        let mut side = self.embedding().out_side(self.image_size);
        let sides = (0..self.dims.len()).map(|stage| {
            if let Some(pool) = self.pool(stage) {
                side = pool.out_side(side);
            }
            side
        });
        sides.collect()
    }

    /// Multiply-add operations for one image through the first `stages` stages.
    fn multiply_adds(&self, stages: usize) -> u64 {
        let mut total = self.embedding().multiply_adds(self.image_size);
        let mut before = self.embedding().out_side(self.image_size);
        for (stage, side) in self.sides().into_iter().enumerate().take(stages) {
            if let Some(pool) = self.pool(stage) {
                total += pool.multiply_adds(before) + (self.prefix() * pool.from * pool.to) as u64;
            }
            let shape = self.dims.get(stage).zip(self.heads.get(stage)).zip(self.depths.get(stage));
            if let Some(((width, heads), depth)) = shape {
                let tokens = (side * side + self.prefix()) as u64;
                total += *depth as u64 * self.block(*width, *heads).multiply_adds(tokens);
            }
            before = side;
        }
        total
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Pit {
        let embedding = self.embedding();
        let side = embedding.out_side(self.image_size);
        let stages = self.dims.iter().zip(&self.heads).zip(&self.depths).enumerate();
        let stages = stages.map(|(stage, ((width, heads), depth))| Stage {
            pool: self.pool(stage).map(|conv| Pooling {
                fc: LinearConfig::new(conv.from, conv.to).init(device),
                conv: conv.init(device),
            }),
            blocks: (0..*depth).map(|_| self.block(*width, *heads).init(device)).collect(),
        });
        Pit {
            transformers: stages.collect(),
            pos_embed: Initializer::Zeros.init([1, embedding.to, side, side], device),
            cls_token: Initializer::Zeros.init([1, self.prefix(), embedding.to], device),
            patch_embed: ConvEmbedding { conv: embedding.init(device) },
            norm: LayerNormConfig::new(self.pooled_width()).with_epsilon(1e-6).init(device),
            config: self.clone(),
        }
    }
}

impl NetworkConfig for PitConfig {
    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.stride)?;
        let sizes = self.dims.iter().chain(&self.depths).chain(&self.heads);
        let positive = sizes.chain([&self.image_size, &self.patch, &self.stride]).all(|n| (1..=MAX_SIZE).contains(n));
        let stages = self.dims.len();
        let lengths = stages > 0 && self.depths.len() == stages && self.heads.len() == stages;
        let heads = self.dims.iter().zip(&self.heads).all(|(width, heads)| width.is_multiple_of(*heads.max(&1)));
        let pools = self.dims.windows(2).all(|pair| pair[1].is_multiple_of(pair[0].max(1)));
        let ratio = (0.1..=64.0).contains(&self.mlp_ratio);
        if !positive || !lengths || !heads || !pools || !ratio || self.image_size < self.patch {
            return Err(Error::usage(format!(
                "invalid PiT: image_size {}, patch {}, stride {}, dims {:?}, depths {:?}, heads {:?}, mlp_ratio {}",
                self.image_size, self.patch, self.stride, self.dims, self.depths, self.heads, self.mlp_ratio
            ))
            .hint(
                "all must be positive with one number per stage; heads divide dims, and dims those of the next stage",
            ));
        }
        drop_path::check(self.drop_path)
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        tap.indices(self.dims.len(), "stage")?;
        Ok(TapSupport { final_norm: false, class_token: true })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        let sides = self.sides();
        let stages = tap.indices(sides.len(), "stage")?;
        Ok(stages.into_iter().filter_map(|stage| sides.get(stage).copied()).collect())
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let stages = tap.indices(self.dims.len(), "stage")?;
        Ok(stages.into_iter().filter_map(|stage| self.dims.get(stage)).sum())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.dims.len(), "stage")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.dims.last().copied().unwrap_or_default()
    }

    fn norms_last_tokens(&self) -> bool {
        false
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 2 })
    }
}

impl Pit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &PitConfig {
        &self.config
    }

    /// Outputs of the first `count` stages: the tokens before the patches, and the patches `[batch, width, rows,
    /// columns]`.
    fn outputs(
        &self,
        pixels: Tensor<4>,
        count: usize,
        drop_path: &DropPathMask,
    ) -> Result<Vec<(Tensor<3>, Tensor<4>)>> {
        let [batch, channels, height, width] = pixels.dims();
        let size = self.config.image_size;
        if channels != 3 || [height, width] != [size; 2] {
            return Err(Error::failed(format!(
                "the position embeddings are for images of {size}x{size} pixels, but the images have {height}x{width}"
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let mut map = self.patch_embed.conv.forward(pixels) + self.pos_embed.val();
        let [_, prefix, dim] = self.cls_token.dims();
        let mut special = self.cls_token.val().expand([batch, prefix, dim]);
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.transformers.iter().take(count) {
            if let Some(Pooling { conv, fc }) = &stage.pool {
                map = conv.forward(map);
                special = by_row(special, |x| fc.forward(x));
            }
            let [_, _, rows, columns] = map.dims();
            let mut x = Tensor::cat(vec![special, to_tokens(map)], 1);
            for block in &stage.blocks {
                x = block.forward_with_drop_path(x, &AttentionPositions::default(), drop_path, index);
                index += 1;
            }
            special = x.clone().narrow(1, 0, prefix);
            map = to_map(x.narrow(1, prefix, rows * columns), [rows, columns]);
            outputs.push((special.clone(), map.clone()));
        }
        Ok(outputs)
    }
}

impl Network for Pit {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let count = self.transformers.len();
        let outputs = self.outputs(pixels, tap.deepest(count, "stage")? + 1, drop_path)?;
        let tapped = tap.indices(count, "stage")?.into_iter().filter_map(|stage| outputs.get(stage));
        let maps = tapped.map(|(special, map)| {
            let [_, _, rows, columns] = map.dims();
            let patches = to_tokens(map.clone());
            let tokens = match tap.tokens {
                Tokens::Patch => patches,
                Tokens::PatchAndClass => Tensor::cat(vec![special.clone().narrow(1, 0, 1), patches], 1),
            };
            FeatureMap { tokens, grid: [rows, columns] }
        });
        tap.join(maps.collect())
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let last = self.outputs(pixels, self.transformers.len(), drop_path)?.pop();
        let (special, _) = last.ok_or_else(|| Error::failed("a PiT without stages has no features"))?;
        Ok(self.norm.forward(special.narrow(1, 0, 1)).squeeze_dim(1))
    }
}

impl TimmModel for PitConfig {
    const CLASSES: &'static [&'static str] = &["PoolingVisionTransformer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("stem_type", "\"overlap\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "pos_drop_drate"]);
        let heads = arguments.numbers("heads")?.unwrap_or_else(|| vec![2, 4, 8]);
        let base = arguments.numbers("base_dims")?.unwrap_or_else(|| vec![48, 48, 48]);
        if base.len() != heads.len() {
            return Err(arguments.invalid("base_dims and heads have different lengths"));
        }
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.number("patch_size", 16)?,
            stride: arguments.number("stride", 8)?,
            dims: base.iter().zip(&heads).map(|(base, heads)| base.saturating_mul(*heads)).collect(),
            depths: arguments.numbers("depth")?.unwrap_or_else(|| vec![2, 6, 4]),
            heads,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(default_ratio()),
            distillation_token: arguments.flag("distilled", false)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
