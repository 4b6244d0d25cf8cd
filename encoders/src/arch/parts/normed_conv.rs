//! A convolution without bias and a batch norm, under the names that different networks of timm give them.

use super::{Conv, ConvSpec, FrozenBatchNorm, Trace};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

macro_rules! normed_conv {
    ($($(#[$doc:meta])* $name:ident { $conv:ident, $norm:ident },)+) => {$(
        $(#[$doc])*
        #[derive(Module, Debug)]
        pub struct $name {
            /// The convolution.
            pub $conv: Conv,
            /// Batch norm after the convolution.
            pub $norm: FrozenBatchNorm,
        }

        impl $name {
            /// Builds the layers with placeholder weights.
            pub(in crate::arch) fn new(spec: ConvSpec, device: &Device) -> Self {
                Self { $norm: FrozenBatchNorm::new(spec.to, 1e-5, device), $conv: spec.init(device) }
            }

            /// Maps `[batch, in, rows, columns]` to `[batch, out, rows, columns]`.
            pub(in crate::arch) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                self.$norm.forward(self.$conv.forward(x))
            }

            /// Follows shape and cost.
            pub(in crate::arch) fn trace(&self, trace: &mut Trace) {
                trace.conv(&self.$conv);
            }
        }
    )+};
}

normed_conv! {
    /// Named `conv` and `bn`.
    ConvBn { conv, bn },
    /// Named `conv` and `bn1`.
    ConvBn1 { conv, bn1 },
    /// Named `c` and `bn`.
    CBn { c, bn },
    /// Named `linear` and `bn`.
    LinearBn { linear, bn },
    /// Named `proj` and `norm`.
    ProjNorm { proj, norm },
    /// Named `reduction` and `norm`.
    ReductionNorm { reduction, norm },
}
