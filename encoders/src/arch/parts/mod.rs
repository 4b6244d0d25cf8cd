//! Layers that several architectures share. Their parameter paths are timm's.

mod activation;
mod anti_alias;
mod attention;
mod batch_norm;
mod channel_attention;
mod checks;
mod conv;
mod conv_norm_act;
mod layer_norm2d;
mod layer_scale;
mod map_norm;
mod named;
mod norm_act;
mod normed_conv;
mod offset_bias;
mod patch_embed;
mod pool;
mod rounding;
mod separable_blocks;
mod shortcut;
mod squeeze_excite;
mod std_conv;
pub(crate) mod tokens;
mod trace;
pub(crate) mod window;

pub use activation::ActivationKind;
pub use anti_alias::AntiAlias;
pub(crate) use attention::Reduction;
pub use attention::{ReducedAttention, SelfAttention};
pub use batch_norm::FrozenBatchNorm;
pub use channel_attention::{ChannelAttention, ChannelAttentionKind};
pub(in crate::arch) use checks::{divides, per_stage, positive};
pub use conv::{Conv, ConvSpec, Padding};
pub use conv_norm_act::ConvNormAct;
pub use layer_norm2d::LayerNorm2d;
pub use layer_scale::LayerScale;
pub(in crate::arch) use layer_scale::per_channel;
pub use map_norm::{MapNorm, MapNormKind};
pub use named::Named;
pub use norm_act::{ChannelGroups, NormAct, NormActKind};
pub use normed_conv::{CBn, ConvBn, ConvBn1, LinearBn, ProjNorm, ReductionNorm};
pub(in crate::arch) use offset_bias::{from_windows, offset_bias, to_windows};
pub use patch_embed::ConvEmbed;
pub use pool::{avg_pool, global_mean, max_pool};
pub use rounding::{divisible, divisible_within, rounded};
pub(in crate::arch) use separable_blocks::NormedLayer;
pub use separable_blocks::{Around, Merge, PointMlp};
pub use shortcut::{AverageDown, ShortcutKind};
pub use squeeze_excite::SqueezeExcite;
pub use std_conv::{KernelNorm, StdConv};
pub(in crate::arch) use trace::Trace;

mod branch;
mod class_attention;
mod image_norm;
mod layout;
mod pointwise;
mod qkv_attention;
mod slot;

pub use branch::{add_branch, constant_drop_path, constant_factors};
pub use class_attention::ClassAttention;
pub use image_norm::ImageNorm;
pub use layout::{channels_first, channels_last, to_map, to_tokens};
pub use pointwise::{Pointwise, PointwiseConv};
pub use qkv_attention::{QkvAttention, QkvAttentionConfig};
pub use slot::Slot;

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
