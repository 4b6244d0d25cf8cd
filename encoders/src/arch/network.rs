//! The interface of an architecture: [`NetworkConfig`] for its hyper-parameters and what follows from them, [`Network`]
//! for its forward pass.

use super::drop_path::{DropPathMask, DropPathSpec};
use super::tap::{Tap, Tokens};
use crate::features::FeatureMap;
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Tensor};

/// Hyper-parameters of an architecture, and the sizes and costs that follow from them.
pub trait NetworkConfig {
    /// Checks the hyper-parameters; all other methods rely on it.
    ///
    /// # Errors
    /// The first invalid value or combination of values.
    fn validate(&self) -> Result<()>;

    /// Side of the square images that the network is built for, in pixels.
    fn image_size(&self) -> usize;

    /// A lower bound of the number of layers, each of which has tensors of its own.
    fn min_layers(&self) -> usize;

    /// What the layers of `tap` offer besides patch tokens.
    ///
    /// # Errors
    /// A layer does not exist, or the architecture cannot join several layers.
    fn tap_support(&self, tap: &Tap) -> Result<TapSupport>;

    /// Side of the square grid at each layer of `tap`.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`].
    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>>;

    /// Number of channels of the features at `tap`.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`].
    fn tap_width(&self, tap: &Tap) -> Result<usize>;

    /// Multiply-add operations for the features of one image up to `tap`. Only matrix products and convolutions are
    /// counted, as is usual in the papers.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`].
    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64>;

    /// Number of channels of the pooled output, [`Network::pooled`].
    fn pooled_width(&self) -> usize;

    /// Whether the network applies its final norm to every token of the last layer, and not only to the pooled output.
    fn norms_last_tokens(&self) -> bool;

    /// The number of pixels of which both sides of an image must be multiples, if the network accepts images of any
    /// size and aspect ratio; `None` if it does not.
    fn takes_any_grid(&self) -> Option<usize> {
        None
    }

    /// Whether the network computes its linear layers in bf16 if their weights are packed. Those that do call
    /// [`kernel`](crate::kernel) for them.
    fn computes_bf16(&self) -> bool {
        false
    }

    /// Checks that the network has a merger of patches after every layer of `tap`.
    ///
    /// # Errors
    /// There is none.
    fn check_merge(&self, _tap: &Tap) -> Result<()> {
        Err(Error::usage("the feature tap has merge = true, but this architecture has no merger of patches")
            .hint("set merge = false in the feature tap"))
    }

    /// Drop path in training; `None` if the architecture has none upstream.
    fn drop_path(&self) -> Option<DropPathSpec>;

    /// Draws the drop-path mask for `batch` images in training from the stream; a rate of 0 draws no random numbers,
    /// and the mask of an architecture without drop path is empty.
    fn draw_drop_path(&self, batch: usize, stream: &mut Stream, device: &Device) -> DropPathMask {
        self.drop_path().map_or_else(DropPathMask::none, |spec| spec.draw(batch, stream, device))
    }

    /// Checks that this architecture can provide the features that `tap` selects.
    ///
    /// # Errors
    /// A layer does not exist, it has no final norm or no class token although the tap selects it, or the grids of
    /// several layers differ and the tap states none.
    fn check_tap(&self, tap: &Tap) -> Result<()> {
        let TapSupport { final_norm, class_token } = self.tap_support(tap)?;
        if tap.norm && !final_norm {
            return Err(Error::usage("the feature tap has norm = true, but there is no final norm at this layer")
                .hint("set norm = false in the feature tap"));
        }
        if tap.tokens == Tokens::PatchAndClass && !class_token {
            return Err(Error::usage(
                "the feature tap has tokens = \"patch-and-class\", but this architecture has no class token",
            )
            .hint("set tokens = \"patch\" in the feature tap"));
        }
        if tap.merge {
            if tap.norm {
                return Err(Error::usage("the feature tap has both norm = true and merge = true")
                    .hint("set norm = false: a merger has a norm of its own"));
            }
            self.check_merge(tap)?;
        }
        self.tap_grid(tap).map(|_| ())
    }

    /// Grid of the features at `tap`, `[rows, columns]`, for images of [`NetworkConfig::image_size`].
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`]; or the grids of several layers differ and the tap states none.
    fn tap_grid(&self, tap: &Tap) -> Result<[usize; 2]> {
        let grids: Vec<[usize; 2]> = self.tap_sides(tap)?.into_iter().map(|side| [side; 2]).collect();
        tap.joined_grid(&grids)
    }
}

/// What the layers of a feature tap offer besides patch tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapSupport {
    /// Whether the final norm can be applied to the outputs of these layers.
    pub final_norm: bool,
    /// Whether there is a class token.
    pub class_token: bool,
}

/// The forward pass of an architecture.
pub trait Network {
    /// Features of normalised images `[batch, 3, height, width]` at `tap`, with the drop-path mask of a training step.
    /// The tap must have passed [`NetworkConfig::check_tap`].
    ///
    /// # Errors
    /// The images have a size that the network cannot process.
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap>;

    /// Pooled output for image-level objectives, `[batch, width]`, of normalised images `[batch, 3, height, width]`,
    /// with the drop-path mask of a training step.
    ///
    /// # Errors
    /// The images have a size that the network cannot process.
    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>>;
}
