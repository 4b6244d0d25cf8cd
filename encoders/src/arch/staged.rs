//! Networks of stages with shrinking feature maps. A new one implements [`StagedConfig`] and [`StagedNetwork`], and is
//! a [`NetworkConfig`] and a [`Network`] by that.
//!
//! The layers that a tap can select are timm's stages. Where timm's `forward_features` goes on after the last stage (a
//! 1×1 convolution to more channels), that output is one more layer, so that the last layer, with the final norm if
//! there is one, always equals `forward_features`.

use super::drop_path::{DropPathMask, DropPathSpec};
use super::network::{Network, NetworkConfig, TapSupport};
use super::tap::Tap;
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::tensor::Tensor;

/// Shape and cost of a layer whose output a tap can select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Number of channels.
    pub width: usize,
    /// Side of the square grid.
    pub side: usize,
    /// Multiply-add operations of this layer alone for one image; those of the stem belong to the first layer.
    pub multiply_adds: u64,
}

/// Hyper-parameters of a network of stages; see the module documentation.
pub trait StagedConfig {
    /// Checks the hyper-parameters; all other methods rely on it.
    ///
    /// # Errors
    /// The first invalid value or combination of values.
    fn check(&self) -> Result<()>;

    /// Side of the square images that the network is built for, in pixels.
    fn input_side(&self) -> usize;

    /// A lower bound of the number of layers, each of which has tensors of its own.
    fn layer_count(&self) -> usize;

    /// The layers whose outputs a tap can select, first to last; at least one.
    fn layers(&self) -> Vec<LayerShape>;

    /// Whether a norm over the channels follows the last layer at every position.
    fn has_final_norm(&self) -> bool {
        false
    }

    /// Number of channels of the pooled output.
    fn pooled_channels(&self) -> usize {
        self.layers().last().map_or(0, |layer| layer.width)
    }

    /// Drop path in training; `None` if the architecture has none upstream.
    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        None
    }
}

/// The forward pass of a network of stages.
pub trait StagedNetwork {
    /// Number of layers whose outputs a tap can select.
    fn depth(&self) -> usize;

    /// Outputs of the first `count` layers, each `[batch, channels, rows, columns]`, for normalised images
    /// `[batch, 3, height, width]`; later layers are not computed.
    ///
    /// # Errors
    /// The images have a size that the network cannot process.
    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>>;

    /// Applies the final norm to tokens `[batch, positions, channels]`.
    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        tokens
    }
}

impl<C: StagedConfig> NetworkConfig for C {
    fn validate(&self) -> Result<()> {
        self.check()
    }

    fn image_size(&self) -> usize {
        self.input_side()
    }

    fn min_layers(&self) -> usize {
        self.layer_count()
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        let count = self.layers().len();
        let last = tap.indices(count, "stage")?.into_iter().all(|layer| layer + 1 == count);
        Ok(TapSupport { final_norm: last && self.has_final_norm(), class_token: false })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        let layers = self.layers();
        let tapped = tap.indices(layers.len(), "stage")?.into_iter().filter_map(|layer| layers.get(layer));
        Ok(tapped.map(|layer| layer.side).collect())
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let layers = self.layers();
        let tapped = tap.indices(layers.len(), "stage")?.into_iter().filter_map(|layer| layers.get(layer));
        Ok(tapped.map(|layer| layer.width).sum())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        let layers = self.layers();
        let deepest = tap.deepest(layers.len(), "stage")?;
        Ok(layers.iter().take(deepest + 1).map(|layer| layer.multiply_adds).sum())
    }

    fn pooled_width(&self) -> usize {
        self.pooled_channels()
    }

    fn norms_last_tokens(&self) -> bool {
        self.has_final_norm()
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        self.drop_path_spec()
    }
}

impl<N: StagedNetwork> Network for N {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let count = self.depth();
        let outputs = self.outputs(pixels, tap.deepest(count, "stage")? + 1, drop_path)?;
        let mut maps = Vec::new();
        for x in tap.indices(count, "stage")?.into_iter().filter_map(|layer| outputs.get(layer)) {
            let FeatureMap { tokens, grid } = FeatureMap::from_channels_first(x.clone());
            maps.push(FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid });
        }
        tap.join(maps)
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let last = self.outputs(pixels, self.depth(), drop_path)?.pop();
        let x = last.ok_or_else(|| Error::failed("a network without stages has no features"))?;
        Ok(self.final_norm(FeatureMap::from_channels_first(x).tokens).mean_dim(1).squeeze_dim(1))
    }
}
