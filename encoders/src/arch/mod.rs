//! Architectures, one file per family, and the one way to tap their features.
//!
//! Module paths mirror timm's checkpoint keys, so that a checkpoint needs no translation table.

mod block;
mod convnext;
mod rotary;
mod sam;
mod stable_diffusion;
mod vit;

pub(crate) use block::blocks;
pub use block::{Activation, Block, Mlp, Places};
pub use convnext::{ConvNext, ConvNextConfig};
pub use rotary::Rotary;
pub use sam::{Sam, SamConfig};
pub use stable_diffusion::{
    PromptConfig, Schedule, SchedulerConfig, StableDiffusion, StableDiffusionConfig, UnetConfig, VaeConfig,
};
pub use vit::{Vit, VitConfig};

use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of an architecture, as an encoder card states them under `architecture = "vit"`, `"convnext"`, `"sam"` or
/// `"stable-diffusion"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "lowercase")]
pub enum ArchitectureConfig {
    /// A plain vision transformer.
    Vit(VitConfig),
    /// A ConvNeXt.
    ConvNext(ConvNextConfig),
    /// SAM's image encoder.
    Sam(SamConfig),
    /// Stable Diffusion.
    #[serde(rename = "stable-diffusion")]
    StableDiffusion(StableDiffusionConfig),
}

/// An encoder's network.
///
/// Burn adds the variant's name to parameter paths when this enum is traversed; load and save
/// checkpoints through the inner module to have timm's keys.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Architecture {
    /// A plain vision transformer.
    Vit(Vit),
    /// A ConvNeXt.
    ConvNext(ConvNext),
    /// SAM's image encoder.
    Sam(Sam),
    /// Stable Diffusion.
    StableDiffusion(StableDiffusion),
}

/// Which tokens a tap hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// The patches only.
    #[default]
    Patch,
    /// The class token, then the patches.
    PatchAndClass,
}

impl std::str::FromStr for Tokens {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "patch" => Ok(Self::Patch),
            "patch-and-class" => Ok(Self::PatchAndClass),
            other => Err(Error::usage(format!("there are no tokens `{other}`")).hint("known: patch, patch-and-class")),
        }
    }
}

/// Where features are taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// The block (ViT), stage (ConvNeXt) or up block (Stable Diffusion) whose output is taken: -1 is the last, -2 the
    /// one before it, 0 the first. Stable Diffusion's last is not an up block: it is all of them, brought to one grid and
    /// concatenated. Default -1.
    #[serde(default = "last")]
    pub layer: i32,
    /// Whether the final norm is applied to it.
    #[serde(default)]
    pub norm: bool,
    /// Which tokens are kept.
    #[serde(default)]
    pub tokens: Tokens,
}

fn last() -> i32 {
    -1
}

impl Default for Tap {
    fn default() -> Self {
        Self { layer: last(), norm: false, tokens: Tokens::Patch }
    }
}

impl Tap {
    /// The layer counted from the front, if there is one.
    fn index(&self, layers: usize, what: &str) -> Result<usize> {
        let n = layers as i64;
        let index = if self.layer < 0 { n + i64::from(self.layer) } else { i64::from(self.layer) };
        if (0..n).contains(&index) {
            return Ok(index as usize);
        }
        Err(Error::usage(format!("the feature tap asks for {what} {}, but there are {layers}", self.layer))
            .hint(format!("choose a layer from -{layers} (the first) to -1 (the last)")))
    }
}

impl ArchitectureConfig {
    /// Says what is wrong with the numbers, if anything; [`ArchitectureConfig::init`] relies on it.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Vit(config) => config.validate(),
            Self::ConvNext(config) => config.validate(),
            Self::Sam(config) => config.validate(),
            Self::StableDiffusion(config) => config.validate(),
        }
    }

    /// A network with placeholder weights on `device`: load a checkpoint or call [`crate::init::initialise`].
    pub fn init(&self, device: &Device) -> Result<Architecture> {
        self.validate()?;
        Ok(match self {
            Self::Vit(config) => Architecture::Vit(config.init(device)),
            Self::ConvNext(config) => Architecture::ConvNext(config.init(device)),
            Self::Sam(config) => Architecture::Sam(config.init(device)),
            Self::StableDiffusion(config) => Architecture::StableDiffusion(config.init(device)),
        })
    }

    /// Whether `tap` can be served by this architecture; the error says why not.
    pub fn check_tap(&self, tap: &Tap) -> Result<()> {
        let (layer, final_norm, class_token) = match self {
            Self::Vit(c) => (tap.index(c.depth, "block")?, c.final_norm, c.class_token),
            Self::ConvNext(c) => (tap.index(c.depths.len(), "stage")?, c.final_norm, false),
            Self::Sam(c) => (tap.index(c.depth, "block")?, false, false),
            Self::StableDiffusion(c) => (c.tapped(tap)?.unwrap_or(c.unet.channels.len()), false, false),
        };
        let convnext_inner = matches!(self, Self::ConvNext(c) if layer + 1 != c.depths.len());
        if tap.norm && (!final_norm || convnext_inner) {
            return Err(Error::usage("the feature tap asks for a final norm that this layer does not have")
                .hint("set norm = false in the card's tap, or say --norm false"));
        }
        if tap.tokens == Tokens::PatchAndClass && !class_token {
            return Err(Error::usage("the feature tap asks for a class token that this architecture does not have")
                .hint("set tokens = \"patch\" in the card's tap, or say --tokens patch"));
        }
        Ok(())
    }

    /// `[rows, columns]` of the features at `tap`, for the picture size of the configuration.
    pub fn grid(&self, tap: &Tap) -> Result<[usize; 2]> {
        let side = match self {
            Self::Vit(c) => c.image_size / c.patch,
            Self::ConvNext(c) => c.image_size / c.stride(tap.index(c.depths.len(), "stage")?),
            Self::Sam(c) => c.side(),
            Self::StableDiffusion(c) => c.side(tap)?,
        };
        Ok([side, side])
    }

    /// Channels of the features at `tap`.
    pub fn width(&self, tap: &Tap) -> Result<usize> {
        match self {
            Self::Vit(c) => Ok(c.width),
            Self::Sam(c) => Ok(c.width),
            Self::StableDiffusion(c) => c.width(tap),
            Self::ConvNext(c) => {
                let stage = tap.index(c.depths.len(), "stage")?;
                c.dims.get(stage).copied().ok_or_else(|| Error::usage("dims and depths differ in length"))
            }
        }
    }

    /// Channels of the last layer, the width of [`Architecture::summary`].
    pub fn summary_width(&self) -> usize {
        match self {
            Self::Vit(c) => c.width,
            Self::ConvNext(c) => c.dims[3],
            Self::Sam(c) => c.width,
            Self::StableDiffusion(c) => c.unet.channels.iter().sum(),
        }
    }

    /// Side of the square pictures the network is made for, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(c) => c.image_size,
            Self::ConvNext(c) => c.image_size,
            Self::Sam(c) => c.image_size,
            Self::StableDiffusion(c) => c.image_size,
        }
    }

    /// Floating-point operations for the features of one picture up to `tap` (multiply and add counted
    /// separately; matrix products and convolutions only, as is usual in the papers).
    pub fn flops(&self, tap: &Tap) -> Result<u64> {
        Ok(2 * match self {
            Self::Vit(c) => c.multiply_adds(tap.index(c.depth, "block")? + 1),
            Self::ConvNext(c) => c.multiply_adds(tap.index(c.depths.len(), "stage")? + 1),
            Self::Sam(c) => c.multiply_adds(tap.index(c.depth, "block")? + 1),
            Self::StableDiffusion(c) => c.multiply_adds(tap)?,
        })
    }
}

impl Architecture {
    /// The features of normalised pictures `[batch, 3, height, width]` at `tap`: the one way to tap.
    pub fn forward(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        match self {
            Self::Vit(vit) => vit.features(pixels, tap),
            Self::ConvNext(convnext) => convnext.features(pixels, tap),
            Self::Sam(sam) => sam.features(pixels, tap),
            Self::StableDiffusion(diffusion) => diffusion.features(pixels, tap),
        }
    }

    /// One vector per picture, `[batch, width]`, as image-level objectives read it: the class token after the
    /// final norm (the mean of the patches where there is no class token), for ConvNeXt the normed mean, for SAM and Stable
    /// Diffusion the mean.
    pub fn summary(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        match self {
            Self::Vit(vit) => vit.summary(pixels),
            Self::ConvNext(convnext) => convnext.summary(pixels),
            Self::Sam(sam) => sam.summary(pixels),
            Self::StableDiffusion(diffusion) => diffusion.summary(pixels),
        }
    }

    /// The numbers this network was built from.
    pub fn config(&self) -> ArchitectureConfig {
        match self {
            Self::Vit(vit) => ArchitectureConfig::Vit(vit.config().clone()),
            Self::ConvNext(convnext) => ArchitectureConfig::ConvNext(convnext.config().clone()),
            Self::Sam(sam) => ArchitectureConfig::Sam(sam.config().clone()),
            Self::StableDiffusion(diffusion) => ArchitectureConfig::StableDiffusion(diffusion.config().clone()),
        }
    }
}

/// An error unless the pictures are RGB and their sides are multiples of `stride`.
fn check_pixels(pixels: &Tensor<4>, stride: usize) -> Result<()> {
    let [_, channels, height, width] = pixels.dims();
    if channels != 3 || height == 0 || width == 0 || height % stride != 0 || width % stride != 0 {
        return Err(Error::failed(format!(
            "pictures of {channels} channels and {height}x{width} pixels do not divide into {stride}x{stride} patches of 3 channels"
        ))
        .hint("resize the pictures to the size on the encoder's card"));
    }
    Ok(())
}
