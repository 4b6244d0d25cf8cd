//! Encoder architectures, one file per family, with one interface to tap their features.
//!
//! Module paths mirror timm's checkpoint keys, so that a checkpoint needs no translation table.

mod block;
mod channel_norm;
mod convnext;
mod drop_path;
mod fields;
mod resnet;
mod rotary;
mod sam;
mod stable_diffusion;
mod tap;
mod vit;

pub use crate::operands::Activation;
pub(crate) use block::blocks;
pub use block::{Block, Mlp, Places};
pub use channel_norm::{ChannelNorm, NormKind};
pub use convnext::{ConvNext, ConvNextConfig, StemKind};
pub use drop_path::Drops;
pub use resnet::{ResBlockKind, ResNet, ResNetConfig, ResStemKind};
pub use rotary::Rotary;
pub use sam::{Sam, SamConfig};
pub use stable_diffusion::{
    PromptConfig, Schedule, SchedulerConfig, StableDiffusion, StableDiffusionConfig, UnetConfig, VaeConfig,
};
pub use tap::{Tap, Tokens};
pub use vit::{Vit, VitConfig};

use crate::features::FeatureMap;
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The largest number of patches per side of an image, which limits the memory that attention takes.
const LARGEST_SIDE: usize = 256;

/// Hyper-parameters of an architecture, as an encoder card states them under `architecture = "vit"`, `"convnext"`,
/// `"resnet"`, `"sam"` or `"stable-diffusion"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "lowercase")]
pub enum ArchitectureConfig {
    /// A plain vision transformer (ViT).
    Vit(VitConfig),
    /// A ConvNeXt or ConvNeXt V2.
    ConvNext(ConvNextConfig),
    /// A ResNet or ResNeXt.
    ResNet(ResNetConfig),
    /// The image encoder of SAM.
    Sam(SamConfig),
    /// Stable Diffusion: VAE encoder, U-Net and text encoder.
    #[serde(rename = "stable-diffusion")]
    StableDiffusion(StableDiffusionConfig),
}

/// The network of an encoder.
///
/// Burn adds the variant's name to parameter paths when this enum is traversed; load and save checkpoints through the
/// inner module to keep timm's keys.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Architecture {
    /// A plain vision transformer (ViT).
    Vit(Vit),
    /// A ConvNeXt or ConvNeXt V2.
    ConvNext(ConvNext),
    /// A ResNet or ResNeXt.
    ResNet(ResNet),
    /// The image encoder of SAM.
    Sam(Sam),
    /// Stable Diffusion: VAE encoder, U-Net and text encoder.
    StableDiffusion(StableDiffusion),
}

impl ArchitectureConfig {
    /// Checks the hyper-parameters; [`ArchitectureConfig::init`] relies on it.
    pub fn validate(&self) -> Result<()> {
        let (patches, what) = match self {
            Self::Vit(c) => (c.image_size.checked_div(c.patch), c.patch),
            Self::Sam(c) => (c.image_size.checked_div(c.patch), c.patch),
            _ => (None, 0),
        };
        match patches {
            Some(side) if side > LARGEST_SIDE && self.image_size() <= vit::LARGEST => {
                return Err(Error::usage(format!(
                    "images of {} pixels have {side} patches of {what} pixels on a side, which no attention can hold",
                    self.image_size()
                ))
                .hint(format!("at most {LARGEST_SIDE} patches on a side can be read")));
            }
            _ => {}
        }
        match self {
            Self::Vit(config) => config.validate(),
            Self::ConvNext(config) => config.validate(),
            Self::ResNet(config) => config.validate(),
            Self::Sam(config) => config.validate(),
            Self::StableDiffusion(config) => config.validate(),
        }
    }

    /// A lower bound of the number of layers, each of which has tensors of its own.
    fn layers(&self) -> usize {
        match self {
            Self::Vit(c) => c.depth,
            Self::ConvNext(c) => c.depths.iter().fold(0, |sum, n| sum.saturating_add(*n)),
            Self::ResNet(c) => c.depths.iter().fold(0, |sum, n| sum.saturating_add(*n)),
            Self::Sam(c) => c.depth,
            Self::StableDiffusion(c) => c.text.depth.max(c.unet.layers).max(c.vae.layers).max(c.unet.transformer_depth),
        }
    }

    /// Checks before a network is built that a file of `tensors` tensors can hold the weights of all layers.
    ///
    /// # Errors
    /// The configuration has more layers than the file has tensors.
    pub fn check_layers(&self, tensors: usize) -> Result<()> {
        let layers = self.layers();
        if layers > tensors {
            return Err(Error::failed(format!(
                "the configuration asks for {layers} layers (depth), but the file has {tensors} tensors in all"
            ))
            .hint("the configuration and the weights belong to different models"));
        }
        Ok(())
    }

    /// Builds a network with placeholder weights; load a checkpoint or call [`crate::init::initialise`] next.
    pub fn init(&self, device: &Device) -> Result<Architecture> {
        self.validate()?;
        Ok(match self {
            Self::Vit(config) => Architecture::Vit(config.init(device)),
            Self::ConvNext(config) => Architecture::ConvNext(config.init(device)),
            Self::ResNet(config) => Architecture::ResNet(config.init(device)),
            Self::Sam(config) => Architecture::Sam(config.init(device)),
            Self::StableDiffusion(config) => Architecture::StableDiffusion(config.init(device)),
        })
    }

    /// Checks that this architecture can provide the features that `tap` asks for; the error says why not.
    pub fn check_tap(&self, tap: &Tap) -> Result<()> {
        let (layers, final_norm, class_token) = match self {
            Self::Vit(c) => (tap.indices(c.depth, "block")?, c.final_norm, c.class_token),
            Self::ConvNext(c) => (tap.indices(c.depths.len(), "stage")?, c.final_norm, false),
            Self::ResNet(c) => (tap.indices(c.depths.len(), "stage")?, false, false),
            Self::Sam(c) => (tap.indices(c.depth, "block")?, false, false),
            Self::StableDiffusion(c) => (vec![c.tapped(tap)?.unwrap_or(c.unet.channels.len())], false, false),
        };
        let convnext_inner =
            matches!(self, Self::ConvNext(c) if layers.iter().any(|layer| layer + 1 != c.depths.len()));
        if tap.norm && (!final_norm || convnext_inner) {
            return Err(Error::usage("the feature tap asks for a final norm that this layer does not have")
                .hint("set norm = false in the card's tap, or say --norm false"));
        }
        if tap.tokens == Tokens::PatchAndClass && !class_token {
            return Err(Error::usage("the feature tap asks for a class token that this architecture does not have")
                .hint("set tokens = \"patch\" in the card's tap, or say --tokens patch"));
        }
        self.grid(tap).map(|_| ())
    }

    /// Grid of the features at `tap`, `[rows, columns]`, for the image size of the configuration.
    pub fn grid(&self, tap: &Tap) -> Result<[usize; 2]> {
        let sides: Vec<usize> = match self {
            Self::Vit(c) => vec![c.image_size / c.patch],
            Self::ConvNext(c) => {
                tap.indices(c.depths.len(), "stage")?.into_iter().map(|stage| c.image_size / c.stride(stage)).collect()
            }
            Self::ResNet(c) => tap.indices(c.depths.len(), "stage")?.into_iter().map(|stage| c.side(stage)).collect(),
            Self::Sam(c) => vec![c.side()],
            Self::StableDiffusion(c) => vec![c.side(tap)?],
        };
        tap.joined_grid(&sides.into_iter().map(|side| [side; 2]).collect::<Vec<_>>())
    }

    /// Number of channels of the features at `tap`.
    pub fn width(&self, tap: &Tap) -> Result<usize> {
        match self {
            Self::Vit(c) => Ok(c.width * tap.indices(c.depth, "block")?.len()),
            Self::Sam(c) => Ok(c.width * tap.indices(c.depth, "block")?.len()),
            Self::StableDiffusion(c) => c.width(tap),
            Self::ConvNext(c) => {
                let stages = tap.indices(c.depths.len(), "stage")?;
                Ok(stages.into_iter().filter_map(|stage| c.dims.get(stage)).sum())
            }
            Self::ResNet(c) => {
                let stages = tap.indices(c.depths.len(), "stage")?;
                Ok(stages.into_iter().filter_map(|stage| c.width(stage)).sum())
            }
        }
    }

    /// Number of channels of the pooled output, [`Architecture::summary`].
    pub fn summary_width(&self) -> usize {
        match self {
            Self::Vit(c) => c.width,
            Self::ConvNext(c) => c.dims[3],
            Self::ResNet(c) => c.width(3).unwrap_or_default(),
            Self::Sam(c) => c.width,
            Self::StableDiffusion(c) => c.unet.channels.iter().sum(),
        }
    }

    /// Side of the square images that the network is built for, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(c) => c.image_size,
            Self::ConvNext(c) => c.image_size,
            Self::ResNet(c) => c.image_size,
            Self::Sam(c) => c.image_size,
            Self::StableDiffusion(c) => c.image_size,
        }
    }

    /// Floating-point operations for the features of one image up to `tap`. A multiply-add counts as two operations;
    /// only matrix products and convolutions are counted, as is usual in the papers.
    pub fn flops(&self, tap: &Tap) -> Result<u64> {
        Ok(2 * match self {
            Self::Vit(c) => c.multiply_adds(tap.deepest(c.depth, "block")? + 1),
            Self::ConvNext(c) => c.multiply_adds(tap.deepest(c.depths.len(), "stage")? + 1),
            Self::ResNet(c) => c.multiply_adds(tap.deepest(c.depths.len(), "stage")? + 1),
            Self::Sam(c) => c.multiply_adds(tap.deepest(c.depth, "block")? + 1),
            Self::StableDiffusion(c) => c.multiply_adds(tap)?,
        })
    }
}

impl Architecture {
    /// Features of normalised images `[batch, 3, height, width]` at `tap`; no branch is dropped.
    pub fn forward(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        self.forward_dropping(pixels, tap, &Drops::none())
    }

    /// Features as from [`Architecture::forward`], with the drop-path mask `drops` of a training step.
    pub fn forward_dropping(&self, pixels: Tensor<4>, tap: &Tap, drops: &Drops) -> Result<FeatureMap> {
        match self {
            Self::Vit(vit) => vit.features(pixels, tap, drops),
            Self::ConvNext(convnext) => convnext.features(pixels, tap, drops),
            Self::ResNet(resnet) => resnet.features(pixels, tap, drops),
            Self::Sam(sam) => sam.features(pixels, tap),
            Self::StableDiffusion(diffusion) => diffusion.features(pixels, tap),
        }
    }

    /// Draws the drop-path mask for `batch` images from the stream, with the configuration's `drop_path`; a rate of 0
    /// draws no random numbers. SAM and Stable Diffusion have no drop path upstream.
    pub fn drops(&self, batch: usize, stream: &mut Stream, device: &Device) -> Drops {
        let (rate, blocks, branches) = match self {
            Self::Vit(vit) => return vit.config().drops(batch, stream, device),
            Self::ConvNext(convnext) => (convnext.config().drop_path, convnext.config().depths.iter().sum(), 1),
            Self::ResNet(resnet) => (resnet.config().drop_path, resnet.config().depths.iter().sum(), 1),
            Self::Sam(_) | Self::StableDiffusion(_) => return Drops::none(),
        };
        Drops::draw(rate, blocks, branches, batch, stream, device)
    }

    /// Pooled output, one vector per image, `[batch, width]`, for image-level objectives. A ViT returns the class token
    /// after the final norm (without class token the mean of the patch tokens), a ConvNeXt the normalised mean, and
    /// ResNet, SAM and Stable Diffusion the mean of the last feature map.
    pub fn summary(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        self.summary_dropping(pixels, &Drops::none())
    }

    /// Pooled output as from [`Architecture::summary`], with the drop-path mask `drops`.
    pub fn summary_dropping(&self, pixels: Tensor<4>, drops: &Drops) -> Result<Tensor<2>> {
        match self {
            Self::Vit(vit) => vit.summary(pixels, drops),
            Self::ConvNext(convnext) => convnext.summary(pixels, drops),
            Self::ResNet(resnet) => resnet.summary(pixels, drops),
            Self::Sam(sam) => sam.summary(pixels),
            Self::StableDiffusion(diffusion) => diffusion.summary(pixels),
        }
    }

    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> ArchitectureConfig {
        match self {
            Self::Vit(vit) => ArchitectureConfig::Vit(vit.config().clone()),
            Self::ConvNext(convnext) => ArchitectureConfig::ConvNext(convnext.config().clone()),
            Self::ResNet(resnet) => ArchitectureConfig::ResNet(resnet.config().clone()),
            Self::Sam(sam) => ArchitectureConfig::Sam(sam.config().clone()),
            Self::StableDiffusion(diffusion) => ArchitectureConfig::StableDiffusion(diffusion.config().clone()),
        }
    }
}

/// Checks that the images are RGB and that `stride` divides their sides.
fn check_pixels(pixels: &Tensor<4>, stride: usize) -> Result<()> {
    let [_, channels, height, width] = pixels.dims();
    if channels != 3 || height == 0 || width == 0 || height % stride != 0 || width % stride != 0 {
        return Err(Error::failed(format!(
            "images of {channels} channels and {height}x{width} pixels do not divide into {stride}x{stride} patches of 3 channels"
        ))
        .hint("resize the images to the size on the encoder's card"));
    }
    Ok(())
}
