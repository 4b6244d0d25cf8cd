//! Attention blocks of MobileNetV4 (Qin et al. 2024, arXiv:2404.10518). Parameter paths are those of timm's
//! `MobileAttention`.

use super::blocks::BlockContext;
use super::config::{MobileBlockConfig, MobileBlockKind};
use crate::arch::parts::ActivationKind;
use crate::arch::parts::Conv;
use crate::arch::parts::LayerScale;
use crate::arch::parts::NormAct;
use crate::arch::parts::Trace;
use crate::attention::{Bias, attend};
use burn::module::Module;
use burn::tensor::Tensor;

/// An attention block: norm, attention, layer scale.
#[derive(Module, Debug)]
pub struct MobileAttention {
    /// Norm before the attention.
    pub norm: NormAct,
    /// Attention.
    pub attn: AttentionLayer,
    /// Layer scale.
    pub layer_scale: Option<LayerScale>,
    residual: bool,
}

/// The attention of a block, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum AttentionLayer {
    /// All heads share keys and values.
    MultiQuery(MultiQuery),
    /// Every head has its own.
    MultiHead(MultiHead),
}

/// Multi-query attention whose keys and values may come from a reduced grid.
#[derive(Module, Debug)]
pub struct MultiQuery {
    /// Queries, `heads · key` channels.
    pub query: Projection,
    /// Keys, `key` channels.
    pub key: Projection,
    /// Values, `key` channels.
    pub value: Projection,
    /// Output projection.
    pub output: Projection,
    heads: usize,
}

/// A pointwise projection, after a strided depthwise convolution where the grid is reduced.
#[derive(Module, Debug)]
pub struct Projection {
    /// Depthwise convolution that reduces the grid.
    pub down_conv: Option<Conv>,
    /// Norm after `down_conv`.
    pub norm: Option<NormAct>,
    /// Pointwise projection.
    pub proj: Conv,
}

/// Multi-head attention over all positions.
#[derive(Module, Debug)]
pub struct MultiHead {
    /// Queries, keys and values.
    pub qkv: Conv,
    /// Output projection.
    pub proj: Conv,
    heads: usize,
}

/// Builds the attention block with placeholder weights.
pub(super) fn attention(block: &MobileBlockConfig, context: &BlockContext) -> MobileAttention {
    let (channels, heads, key, device) = (block.channels, block.heads, block.key_channels, context.device);
    let conv = |from, to| context.spec(from, to, 1).init(device);
    let plain = |from, to| Projection { down_conv: None, norm: None, proj: conv(from, to) };
    let reduced = || {
        let kernel = block.kernels.first().copied().unwrap_or(1);
        let reduces = block.key_stride > 1;
        let down = context.spec(channels, channels, kernel).stride(block.key_stride).groups(channels);
        Projection {
            down_conv: reduces.then(|| down.init(device)),
            norm: reduces.then(|| context.norm(channels, ActivationKind::Identity)),
            proj: conv(channels, key),
        }
    };
    let attn = match block.kind {
        MobileBlockKind::MultiHeadAttention => AttentionLayer::MultiHead(MultiHead {
            qkv: conv(channels, 3 * channels),
            proj: conv(channels, channels),
            heads,
        }),
        _ => AttentionLayer::MultiQuery(MultiQuery {
            query: plain(channels, heads * key),
            key: reduced(),
            value: reduced(),
            output: plain(heads * key, channels),
            heads,
        }),
    };
    MobileAttention {
        norm: context.norm(channels, ActivationKind::Identity),
        attn,
        layer_scale: context.config.layer_scale.then(|| LayerScale::new(channels, device)),
        residual: block.residual,
    }
}

/// Splits `[batch, heads · width, rows, columns]` into heads of tokens, `[batch, heads, tokens, width]`.
fn heads(x: Tensor<4>, count: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let x: Tensor<4> = x.reshape([batch, count, channels / count, rows * columns]);
    x.swap_dims(2, 3)
}

impl Projection {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match (&self.down_conv, &self.norm) {
            (Some(conv), Some(norm)) => self.proj.forward(norm.forward(conv.forward(x))),
            _ => self.proj.forward(x),
        }
    }

    fn trace(&self, trace: &mut Trace) {
        if let Some(conv) = &self.down_conv {
            trace.conv(conv);
        }
        trace.conv(&self.proj);
    }
}

impl AttentionLayer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let (q, k, v, proj) = match self {
            Self::MultiQuery(layer) => {
                let q = heads(layer.query.forward(x.clone()), layer.heads);
                let shared =
                    |projection: &Projection| heads(projection.forward(x.clone()), 1).repeat_dim(1, layer.heads);
                (q, shared(&layer.key), shared(&layer.value), &layer.output.proj)
            }
            Self::MultiHead(layer) => {
                let qkv = heads(layer.qkv.forward(x), 3 * layer.heads);
                let part = |index: usize| qkv.clone().narrow(1, index * layer.heads, layer.heads);
                (part(0), part(1), part(2), &layer.proj)
            }
        };
        let mixed = attend(q, k, v, Bias::None, None);
        let width = mixed.dims()[2];
        proj.forward(mixed.swap_dims(1, 2).reshape([batch, width, rows, columns]))
    }
}

impl MobileAttention {
    /// Whether the input is added to the output.
    pub(super) fn is_residual(&self) -> bool {
        self.residual
    }

    /// The residual branch.
    pub(super) fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attn.forward(self.norm.forward(x));
        match &self.layer_scale {
            Some(scale) => scale.forward(x),
            None => x,
        }
    }

    /// Follows shape and cost.
    pub(super) fn trace(&self, trace: &mut Trace) {
        let queries = trace.positions();
        match &self.attn {
            AttentionLayer::MultiQuery(layer) => {
                let mut keys = trace.clone();
                keys.multiply_adds = 0;
                layer.key.trace(&mut keys);
                let (width, positions) = (keys.channels, keys.positions());
                // Keys and values cost the same.
                trace.multiply_adds += 2 * keys.multiply_adds;
                layer.query.trace(trace);
                trace.attention(layer.heads * queries, positions, width, width);
                layer.output.trace(trace);
            }
            AttentionLayer::MultiHead(layer) => {
                let width = trace.channels / layer.heads;
                trace.conv(&layer.qkv);
                trace.attention(layer.heads * queries, queries, width, width);
                trace.conv(&layer.proj);
            }
        }
    }
}
