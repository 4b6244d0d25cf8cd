//! Channel attention inside the blocks of mobile networks.

use super::config::{EfficientNetConfig, MobileBlockConfig, SqueezeKind};
use crate::arch::parts::ActivationKind;
use crate::arch::parts::LayerNorm2d;
use crate::arch::parts::Trace;
use crate::arch::parts::{Conv, ConvSpec};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

/// Channel attention, one variant per [`SqueezeKind`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Squeeze {
    /// Squeeze-and-excitation.
    Excite(MobileSqueezeExcite),
    /// Global context.
    Context(GlobalContext),
}

/// Squeeze-and-excitation with timm's names in mobile networks: factors per channel from the mean of all positions.
#[derive(Module, Debug)]
pub struct MobileSqueezeExcite {
    /// Pointwise convolution to the squeezed channels.
    pub conv_reduce: Conv,
    /// Pointwise convolution back to all channels.
    pub conv_expand: Conv,
    #[module(skip)]
    act: ActivationKind,
    #[module(skip)]
    gate: ActivationKind,
}

/// Global context: factors per channel from a weighted mean of all positions.
#[derive(Module, Debug)]
pub struct GlobalContext {
    /// Pointwise convolution to one score per position.
    pub conv_attn: Conv,
    /// Two pointwise convolutions.
    pub mlp_scale: ContextMlp,
    #[module(skip)]
    gate: ActivationKind,
}

/// The two pointwise convolutions of global context.
#[derive(Module, Debug)]
pub struct ContextMlp {
    /// Pointwise convolution to the squeezed channels.
    pub fc1: Conv,
    /// Norm over the squeezed channels.
    pub norm: LayerNorm2d,
    /// Pointwise convolution back to all channels.
    pub fc2: Conv,
    #[module(skip)]
    act: ActivationKind,
}

/// The mean over all positions, `[batch, channels, 1, 1]`.
fn mean(x: Tensor<4>) -> Tensor<4> {
    x.mean_dim(3).mean_dim(2)
}

impl MobileSqueezeExcite {
    /// Builds the layer with placeholder weights.
    pub(in crate::arch) fn new(
        channels: usize,
        squeezed: usize,
        act: ActivationKind,
        gate: ActivationKind,
        device: &Device,
    ) -> Self {
        Self {
            conv_reduce: ConvSpec::new(channels, squeezed, 1).init(device),
            conv_expand: ConvSpec::new(squeezed, channels, 1).init(device),
            act,
            gate,
        }
    }

    /// Scales the channels of `[batch, channels, rows, columns]`.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let squeezed = self.act.forward(self.conv_reduce.forward(mean(x.clone())));
        x * self.gate.forward(self.conv_expand.forward(squeezed))
    }

    /// Follows the cost.
    pub(in crate::arch) fn trace(&self, trace: &mut Trace) {
        trace.at_one_position(&self.conv_reduce);
        trace.at_one_position(&self.conv_expand);
    }
}

impl Squeeze {
    /// Builds the channel attention of a block, if it has one.
    pub(super) fn init(
        config: &EfficientNetConfig,
        block: &MobileBlockConfig,
        act: ActivationKind,
        device: &Device,
    ) -> Option<Self> {
        let (channels, squeezed, gate) = (block.hidden, block.squeezed, config.squeeze_gate);
        let act = config.squeeze_activation.unwrap_or(act);
        let conv = |from, to| ConvSpec::new(from, to, 1).init(device);
        (squeezed > 0).then(|| match config.squeeze {
            SqueezeKind::SqueezeExcite => Self::Excite(MobileSqueezeExcite::new(channels, squeezed, act, gate, device)),
            SqueezeKind::GlobalContext => Self::Context(GlobalContext {
                conv_attn: conv(channels, 1),
                mlp_scale: ContextMlp {
                    fc1: conv(channels, squeezed),
                    norm: LayerNorm2d::new(squeezed, 1e-6, device),
                    fc2: conv(squeezed, channels),
                    act,
                },
                gate,
            }),
        })
    }

    /// Applies channel attention, if there is one, to `[batch, channels, rows, columns]`.
    pub(super) fn apply(squeeze: Option<&Self>, x: Tensor<4>) -> Tensor<4> {
        match squeeze {
            None => x,
            Some(Self::Excite(layer)) => layer.forward(x),
            Some(Self::Context(layer)) => {
                let [batch, channels, rows, columns] = x.dims();
                let scores: Tensor<3> = layer.conv_attn.forward(x.clone()).reshape([batch, rows * columns, 1]);
                let values: Tensor<3> = x.clone().reshape([batch, channels, rows * columns]);
                let context = values.matmul(softmax(scores, 1)).reshape([batch, channels, 1, 1]);
                let mlp = &layer.mlp_scale;
                let hidden = mlp.act.forward(mlp.norm.forward(mlp.fc1.forward(context)));
                x * layer.gate.forward(mlp.fc2.forward(hidden))
            }
        }
    }

    /// Follows the cost.
    pub(super) fn trace(squeeze: Option<&Self>, trace: &mut Trace) {
        match squeeze {
            None => {}
            Some(Self::Excite(layer)) => layer.trace(trace),
            Some(Self::Context(layer)) => {
                trace.beside(&layer.conv_attn);
                trace.multiply_adds += (trace.channels * trace.positions()) as u64;
                trace.at_one_position(&layer.mlp_scale.fc1);
                trace.at_one_position(&layer.mlp_scale.fc2);
            }
        }
    }
}
