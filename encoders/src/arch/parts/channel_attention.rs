//! Channel attention of convolutional blocks: each channel is scaled (or shifted) by what the whole feature map holds.

use super::{
    ActivationKind, Conv, ConvNormAct, ConvSpec, LayerNorm2d, NormActKind, SqueezeExcite, divisible, divisible_within,
    global_mean,
};
use crate::timm::TimmArguments;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The kind of channel attention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChannelAttentionKind {
    /// Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507).
    SqueezeExcite {
        /// Hidden channels divided by channels.
        ratio: f64,
        /// The hidden channels are rounded to a multiple of this number.
        divisor: usize,
    },
    /// Efficient channel attention (Wang et al. 2020, arXiv:1910.03151): a convolution along the channels.
    Efficient,
    /// Effective squeeze-and-excitation (Lee & Park 2020, arXiv:1911.06667): one map of the channels' means, without
    /// reduction, and a hard sigmoid.
    EffectiveSqueezeExcite,
    /// Global context (Cao et al. 2019, arXiv:1904.11492), added to the map.
    GlobalContext {
        /// Hidden channels divided by channels.
        ratio: f64,
        /// The hidden channels are rounded to a multiple of this number.
        divisor: usize,
    },
    /// Bilinear attentional transform (Chi et al. 2020), in a residual branch.
    Bilinear {
        /// Number of rows and of columns into which a map is divided.
        block_size: usize,
    },
}

impl ChannelAttentionKind {
    /// Reads the name of timm's attention layer and its arguments.
    ///
    /// # Errors
    /// The layer or one of its arguments is not supported.
    pub(crate) fn from_timm(arguments: &TimmArguments, name: &str, options: &Map<String, Value>) -> Result<Self> {
        let real = |key: &str, default: f64| options.get(key).map_or(Some(default), Value::as_f64);
        let number = |key: &str, default: usize| {
            options.get(key).map_or(Some(default), |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
        };
        let known: (&[&str], Option<Self>) = match name {
            "se" | "SEModule" => (
                &["rd_ratio", "rd_divisor"],
                real("rd_ratio", 1.0 / 16.0)
                    .zip(number("rd_divisor", 8))
                    .map(|(ratio, divisor)| Self::SqueezeExcite { ratio, divisor }),
            ),
            "eca" => (&[], Some(Self::Efficient)),
            "ese" => (&[], Some(Self::EffectiveSqueezeExcite)),
            "gca" => (
                &["rd_ratio", "rd_divisor"],
                real("rd_ratio", 1.0 / 8.0)
                    .zip(number("rd_divisor", 1))
                    .map(|(ratio, divisor)| Self::GlobalContext { ratio, divisor }),
            ),
            "bat" => (&["block_size"], number("block_size", 7).map(|block_size| Self::Bilinear { block_size })),
            other => return Err(arguments.unsupported("attn_layer", &other.into())),
        };
        let (keys, kind) = known;
        match (options.keys().find(|key| !keys.contains(&key.as_str())), kind) {
            (None, Some(kind)) => Ok(kind),
            (Some(key), _) => Err(arguments.unsupported(&format!("attn_kwargs.{key}"), &options[key])),
            (None, None) => Err(arguments.unsupported("attn_kwargs", &Value::Object(options.clone()))),
        }
    }

    /// Builds the layer for maps of `channels`.
    pub fn init(self, channels: usize, device: &Device) -> ChannelAttention {
        match self {
            Self::SqueezeExcite { ratio, divisor } => {
                let hidden = divisible_within(channels as f64 * ratio, divisor, 0.0);
                ChannelAttention::SqueezeExcite(SqueezeExcite::new(
                    channels,
                    hidden,
                    ActivationKind::Relu,
                    ActivationKind::Sigmoid,
                    device,
                ))
            }
            Self::Efficient => ChannelAttention::Efficient(EfficientChannel::new(channels, device)),
            Self::EffectiveSqueezeExcite => ChannelAttention::EffectiveSqueezeExcite(EffectiveSqueezeExcite {
                fc: ConvSpec::new(channels, channels, 1).init(device),
            }),
            Self::GlobalContext { ratio, divisor } => {
                let hidden = divisible_within(channels as f64 * ratio, divisor, 0.0);
                let conv = |from, to| ConvSpec::new(from, to, 1).bias(true).init(device);
                ChannelAttention::GlobalContext(GlobalContext {
                    conv_attn: conv(channels, 1),
                    mlp_add: ContextMlp {
                        fc1: conv(channels, hidden),
                        norm: LayerNorm2d::new(hidden, 1e-6, device),
                        fc2: conv(hidden, channels),
                    },
                })
            }
            Self::Bilinear { block_size } => ChannelAttention::Bilinear(Bilinear::new(channels, block_size, device)),
        }
    }
}

/// A layer of channel attention.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "layers are stored one by one")]
pub enum ChannelAttention {
    /// Squeeze-and-excitation.
    SqueezeExcite(SqueezeExcite),
    /// Efficient channel attention.
    Efficient(EfficientChannel),
    /// Effective squeeze-and-excitation.
    EffectiveSqueezeExcite(EffectiveSqueezeExcite),
    /// Global context.
    GlobalContext(GlobalContext),
    /// Bilinear attentional transform.
    Bilinear(Bilinear),
}

impl ChannelAttention {
    /// Applies the attention to `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::SqueezeExcite(layer) => layer.forward(x),
            Self::Efficient(layer) => layer.forward(x),
            Self::EffectiveSqueezeExcite(layer) => layer.forward(x),
            Self::GlobalContext(layer) => layer.forward(x),
            Self::Bilinear(layer) => layer.forward(x),
        }
    }

    /// Multiply-adds for one image whose map has `side` rows and columns.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        match self {
            Self::SqueezeExcite(layer) => layer.multiply_adds(),
            Self::Efficient(layer) => layer.multiply_adds(),
            Self::EffectiveSqueezeExcite(layer) => layer.fc.spec().multiply_adds(1),
            Self::GlobalContext(layer) => layer.multiply_adds(side),
            Self::Bilinear(layer) => layer.multiply_adds(side),
        }
    }
}

/// Mean over all positions, `[batch, channels]`.
fn mean(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, rows, columns] = x.dims();
    x.reshape([batch, channels, rows * columns]).mean_dim(2).squeeze_dim(2)
}

/// Efficient channel attention: a convolution along the channels of the mean, then a sigmoid.
#[derive(Module, Debug)]
pub struct EfficientChannel {
    /// The convolution.
    pub conv: ChannelConv,
}

/// A zero-padded convolution along the channels.
#[derive(Module, Debug)]
pub struct ChannelConv {
    /// Kernel, `[1, 1, length]`; the length is odd.
    pub weight: Param<Tensor<3>>,
    #[module(skip)]
    channels: usize,
}

impl EfficientChannel {
    fn new(channels: usize, device: &Device) -> Self {
        // The kernel grows with the logarithm of the channels.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let length = (((channels as f64).log2() + 1.0).abs() / 2.0) as usize;
        let length = (length + 1 - length % 2).max(3);
        let weight = Initializer::Constant { value: 0.0 }.init([1, 1, length], device);
        Self { conv: ChannelConv { weight, channels } }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let scale = sigmoid(self.conv.forward(mean(x.clone())));
        x * scale.reshape([batch, channels, 1, 1])
    }

    fn multiply_adds(&self) -> u64 {
        (self.conv.weight.lazy_shape()[2] * self.conv.channels) as u64
    }
}

impl ChannelConv {
    /// Maps `[batch, channels]` to the same shape.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [batch, channels] = x.dims();
        let weight = self.weight.val();
        let length = weight.dims()[2];
        let around: Tensor<2> = Tensor::zeros([batch, length / 2], (&x.device(), x.dtype()));
        let padded = Tensor::cat(vec![around.clone(), x, around], 1);
        let shifted = (0..length).map(|i| padded.clone().narrow(1, i, channels).unsqueeze_dim(2)).collect();
        let windows: Tensor<3> = Tensor::cat(shifted, 2);
        (windows * weight).sum_dim(2).squeeze_dim(2)
    }
}

/// Effective squeeze-and-excitation: scales every channel by the hard sigmoid of a 1×1 convolution of the channels'
/// means.
#[derive(Module, Debug)]
pub struct EffectiveSqueezeExcite {
    /// 1×1 convolution with bias, `[channels, channels, 1, 1]`.
    pub fc: Conv,
}

impl EffectiveSqueezeExcite {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let gate = ActivationKind::HardSigmoid.forward(self.fc.forward(global_mean(x.clone())));
        x * gate
    }
}

/// Global context: the map is pooled with learned weights of the positions, and what an MLP makes of it is added.
#[derive(Module, Debug)]
pub struct GlobalContext {
    /// Scores of the positions.
    pub conv_attn: Conv,
    /// MLP from the context to what is added.
    pub mlp_add: ContextMlp,
}

/// An MLP on one vector per image, stored as 1×1 convolutions.
#[derive(Module, Debug)]
pub struct ContextMlp {
    /// First layer.
    pub fc1: Conv,
    /// Norm of the hidden channels.
    pub norm: LayerNorm2d,
    /// Second layer.
    pub fc2: Conv,
}

impl GlobalContext {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let scores: Tensor<3> = self.conv_attn.forward(x.clone()).reshape([batch, rows * columns, 1]);
        let flat: Tensor<3> = x.clone().reshape([batch, channels, rows * columns]);
        let context = flat.matmul(softmax(scores, 1)).reshape([batch, channels, 1, 1]);
        let hidden = relu(self.mlp_add.norm.forward(self.mlp_add.fc1.forward(context)));
        x + self.mlp_add.fc2.forward(hidden)
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        // Scores and weighted sum cost the same.
        let ContextMlp { fc1, fc2, .. } = &self.mlp_add;
        2 * self.conv_attn.spec().multiply_adds(side) + fc1.spec().multiply_adds(1) + fc2.spec().multiply_adds(1)
    }
}

/// Bilinear attentional transform in a residual branch: blocks of rows and of columns are mixed by two matrices that
/// are computed from the map.
#[derive(Module, Debug)]
pub struct Bilinear {
    /// To the reduced channels.
    pub conv1: ConvNormAct,
    /// The transform.
    pub ba: BilinearTransform,
    /// Back to the channels of the map.
    pub conv2: ConvNormAct,
}

/// The bilinear transform of [`Bilinear`].
#[derive(Module, Debug)]
pub struct BilinearTransform {
    /// One channel per group, from which the matrices are computed.
    pub conv1: ConvNormAct,
    /// From the largest value of each block of rows to the matrix that mixes these blocks.
    pub conv_p: BlockMatrix,
    /// From the largest value of each block of columns to the matrix that mixes these blocks.
    pub conv_q: BlockMatrix,
    /// Output projection.
    pub conv2: ConvNormAct,
    #[module(skip)]
    block_size: usize,
}

/// A linear map of all values, stored as a convolution whose kernel covers its input.
#[derive(Module, Debug)]
pub struct BlockMatrix {
    /// Weight, `[outputs, groups, block_size, 1]` or `[outputs, groups, 1, block_size]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

/// Groups of channels that share their matrices.
const GROUPS: usize = 2;

impl Bilinear {
    fn new(channels: usize, block_size: usize, device: &Device) -> Self {
        let reduced = divisible(channels as f64 / 4.0, 8);
        let conv = |from, to| {
            ConvNormAct::new(ConvSpec::new(from, to, 1), NormActKind::default(), ActivationKind::Relu, None, device)
        };
        let outputs = block_size * block_size * GROUPS;
        let matrix = |kernel: [usize; 2]| BlockMatrix {
            weight: Initializer::Constant { value: 0.0 }.init([outputs, GROUPS, kernel[0], kernel[1]], device),
            bias: Initializer::Constant { value: 0.0 }.init([outputs], device),
        };
        Self {
            conv1: conv(channels, reduced),
            ba: BilinearTransform {
                conv1: conv(reduced, GROUPS),
                conv_p: matrix([block_size, 1]),
                conv_q: matrix([1, block_size]),
                conv2: conv(reduced, reduced),
                block_size,
            },
            conv2: conv(reduced, channels),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self.conv2.forward(self.ba.forward(self.conv1.forward(x.clone())));
        branch + x
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let convs = [&self.conv1, &self.ba.conv1, &self.ba.conv2, &self.conv2];
        let convs: u64 = convs.iter().map(|conv| conv.multiply_adds(side)).sum();
        let block = self.ba.block_size;
        let matrices = 2 * (block * block * GROUPS) * (GROUPS * block);
        convs + (matrices + 2 * self.ba.conv2.channels() * block * side * side) as u64
    }
}

impl BlockMatrix {
    /// Maps `[batch, groups, block_size]` to matrices `[batch, groups, block_size, block_size]` of values in (0, 1).
    fn forward(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, groups, block] = x.dims();
        let weight: Tensor<2> = self.weight.val().reshape([block * block * groups, groups * block]);
        let x: Tensor<2> = x.reshape([batch, groups * block]);
        let y = x.matmul(weight.transpose()) + self.bias.val().unsqueeze();
        sigmoid(y).reshape([batch, groups, block, block])
    }
}

impl BilinearTransform {
    /// Maps `[batch, channels, rows, columns]` to the same shape; `block_size` divides rows and columns.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let (block, each) = (self.block_size, channels / GROUPS);
        let guide = self.conv1.forward(x.clone());
        let largest = |x: Tensor<4>| -> Tensor<3> {
            let x: Tensor<4> = x.reshape([batch, GROUPS, block, rows * columns / block]);
            x.max_dim(3).squeeze_dim(3)
        };
        let p = self.conv_p.forward(largest(guide.clone()));
        let q = self.conv_q.forward(largest(guide.swap_dims(2, 3)));
        let p = p.clone() / p.sum_dim(3);
        let q = q.clone() / q.sum_dim(2);
        // Row block i becomes the sum of the row blocks j, weighted by p[i, j].
        let (high, wide) = (rows / block, columns / block);
        let split: Tensor<5> = x.reshape([batch, GROUPS, each, block, high * columns]);
        let split: Tensor<4> = split.swap_dims(2, 3).reshape([batch, GROUPS, block, each * high * columns]);
        let mixed: Tensor<5> = p.matmul(split).reshape([batch, GROUPS, block, each, high * columns]);
        let x: Tensor<4> = mixed.swap_dims(2, 3).reshape([batch, GROUPS, each * rows, columns]);
        // Column block j becomes the sum of the column blocks i, weighted by q[i, j].
        let split: Tensor<5> = x.reshape([batch, GROUPS, each * rows, block, wide]);
        let split: Tensor<4> = split.swap_dims(3, 4).reshape([batch, GROUPS, each * rows * wide, block]);
        let mixed: Tensor<5> = split.matmul(q).reshape([batch, GROUPS, each * rows, wide, block]);
        let y = mixed.swap_dims(3, 4).reshape([batch, channels, rows, columns]);
        self.conv2.forward(y)
    }
}
