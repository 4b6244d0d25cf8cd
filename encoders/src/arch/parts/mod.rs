//! Layers that several architectures share. Their parameter paths are timm's.

mod activation;
mod batch_norm;
mod conv;
mod conv_norm;
mod layer_norm2d;
mod map_norm;
mod patch_embed;
mod pool;
mod squeeze_excite;
pub(crate) mod tokens;
pub(crate) mod window;

pub use activation::ActivationKind;
pub use batch_norm::FrozenBatchNorm;
pub use conv::{Conv, ConvSpec, Padding};
pub use conv_norm::ConvNorm;
pub use layer_norm2d::LayerNorm2d;
pub use map_norm::{MapNorm, MapNormKind};
pub use patch_embed::ConvEmbed;
pub use pool::{avg_pool, global_mean, max_pool};
pub use squeeze_excite::SqueezeExcite;

use burn::tensor::Tensor;

/// Multiplies a residual branch `[batch, channels, rows, columns]` by its image's drop-path factor, if there are
/// factors, `[batch]`.
pub fn drop_branch(branch: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
    match factors {
        Some(factors) => {
            let [batch] = factors.dims();
            branch * factors.clone().reshape([batch, 1, 1, 1])
        }
        None => branch,
    }
}
