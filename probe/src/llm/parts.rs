//! The modules of a decoder block. The family's [`super::family::Design`] decides which optional parts exist.

use super::config::Gate;
use super::experts::Moe;
use super::family::NormKind;
use super::kernel;
use super::linear::{Linear, joined};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// One decoder block: attention and MLP, each with a residual connection.
///
/// [`BlockKind`](super::family::BlockKind) says which norms exist.
#[derive(Module, Debug)]
pub struct Block {
    /// Grouped-query attention.
    pub self_attn: SelfAttention,
    /// The dense MLP; `None` in a mixture-of-experts layer.
    pub mlp: Option<Mlp>,
    /// The mixture of experts; `None` in a dense layer.
    pub moe: Option<Moe>,
    /// Norm before attention; `None` for [`After`](super::family::BlockKind::After).
    pub input_layernorm: Option<Norm>,
    /// Norm before the MLP ([`Before`](super::family::BlockKind::Before)) or after attention
    /// ([`Around`](super::family::BlockKind::Around), [`After`](super::family::BlockKind::After)).
    pub post_attention_layernorm: Option<Norm>,
    /// Norm before the MLP ([`Around`](super::family::BlockKind::Around)).
    pub pre_feedforward_layernorm: Option<Norm>,
    /// Norm after the MLP ([`Around`](super::family::BlockKind::Around), [`After`](super::family::BlockKind::After)).
    pub post_feedforward_layernorm: Option<Norm>,
}

/// Projections of grouped-query attention.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Query projection, `[hidden, query heads · head width]`.
    pub q_proj: Linear,
    /// Key projection, `[hidden, kv heads · head width]`.
    pub k_proj: Linear,
    /// Value projection, `[hidden, kv heads · head width]`.
    pub v_proj: Linear,
    /// Output projection, `[query heads · head width, hidden]`.
    pub o_proj: Linear,
    /// Norm of the queries (see [`QkNorm`](super::family::QkNorm)).
    pub q_norm: Option<Norm>,
    /// Norm of the keys (see [`QkNorm`](super::family::QkNorm)).
    pub k_norm: Option<Norm>,
}

/// Projections of the MLP.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Gate projection, `[hidden, intermediate]`; `None` in an MLP without a gate.
    pub gate_proj: Option<Linear>,
    /// Up projection, `[hidden, intermediate]`.
    pub up_proj: Linear,
    /// Down projection, `[intermediate, hidden]`.
    pub down_proj: Linear,
}

/// Parameters of a norm; [`NormKind`] says which norm uses them.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[width]`.
    pub weight: Option<Param<Tensor<1>>>,
    /// Shift, `[width]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Block {
    /// The linear layers that can carry LoRA, with their names; those of an expert are prefixed with its number.
    pub(super) fn projections(&mut self) -> Vec<(String, &mut Linear)> {
        let attention = &mut self.self_attn;
        let mut all = vec![
            ("q_proj".to_string(), &mut attention.q_proj),
            ("k_proj".to_string(), &mut attention.k_proj),
            ("v_proj".to_string(), &mut attention.v_proj),
            ("o_proj".to_string(), &mut attention.o_proj),
        ];
        let mlps = self.mlp.iter_mut().map(|mlp| (String::new(), mlp));
        let experts = self.moe.iter_mut().flat_map(Moe::mlps);
        for (prefix, mlp) in mlps.chain(experts) {
            let gate = mlp.gate_proj.iter_mut().map(|gate| ("gate_proj", gate));
            let rest = [("up_proj", &mut mlp.up_proj), ("down_proj", &mut mlp.down_proj)];
            all.extend(gate.chain(rest).map(|(name, layer)| (format!("{prefix}{name}"), layer)));
        }
        all
    }

    pub(super) fn adapted(&self) -> bool {
        let a = &self.self_attn;
        let mlps = self.mlp.iter().chain(self.moe.iter().flat_map(|moe| moe.experts.iter().chain(&moe.shared_expert)));
        let inner = mlps.flat_map(|m| m.gate_proj.iter().chain([&m.up_proj, &m.down_proj]));
        [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj].into_iter().chain(inner).any(|layer| layer.lora.is_some())
    }
}

impl Mlp {
    /// Applies the MLP to each row, `[rows, d]` → `[rows, d]`.
    pub(super) fn forward(&self, x: Tensor<2>, activation: Gate) -> Tensor<2> {
        let inner = match &self.gate_proj {
            Some(gate) => kernel::gated(joined([gate, &self.up_proj], x), activation),
            None => kernel::activate(self.up_proj.forward(x), activation),
        };
        self.down_proj.forward(inner)
    }
}

impl Norm {
    /// A norm initialised to a scale of one and a bias of zero.
    pub(super) fn new(kind: NormKind, width: usize, device: &Device) -> Self {
        let weight = match kind {
            NormKind::Rms | NormKind::Layer | NormKind::LayerScale => Some(Initializer::Ones),
            NormKind::RmsPlusOne | NormKind::LayerPlusOne => Some(Initializer::Zeros),
            NormKind::LayerPlain => None,
        };
        let bias = matches!(kind, NormKind::Layer | NormKind::LayerPlusOne);
        Self {
            weight: weight.map(|init| init.init([width], device)),
            bias: bias.then(|| Initializer::Zeros.init([width], device)),
        }
    }
}
