//! The modules of a decoder block. The family's [`DecoderFamily`](super::family::DecoderFamily) decides which optional
//! ones exist. Names are those of `transformers`' `LlamaDecoderLayer` and `Gemma2DecoderLayer`.

use super::experts::Moe;
use super::family::{DecoderNorm, NormScale};
use super::linear::Linear;
use super::mlp::Mlp;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// One decoder block: attention and MLP, each with a residual connection.
///
/// [`BlockLayout`](super::family::BlockLayout) says which norms exist.
#[derive(Module, Debug)]
pub struct Block {
    /// Projections of grouped-query attention.
    pub self_attn: SelfAttention,
    /// The dense MLP; `None` in a mixture-of-experts layer.
    pub mlp: Option<Mlp>,
    /// The mixture of experts; `None` in a dense layer.
    pub moe: Option<Moe>,
    /// Norm before attention; `None` for [`PostNorm`](super::family::BlockLayout::PostNorm).
    pub input_layernorm: Option<Norm>,
    /// Norm before the MLP ([`PreNorm`](super::family::BlockLayout::PreNorm)) or after attention
    /// ([`SandwichNorm`](super::family::BlockLayout::SandwichNorm),
    /// [`PostNorm`](super::family::BlockLayout::PostNorm)).
    pub post_attention_layernorm: Option<Norm>,
    /// Norm before the MLP ([`SandwichNorm`](super::family::BlockLayout::SandwichNorm)).
    pub pre_feedforward_layernorm: Option<Norm>,
    /// Norm after the MLP ([`SandwichNorm`](super::family::BlockLayout::SandwichNorm),
    /// [`PostNorm`](super::family::BlockLayout::PostNorm)).
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
    /// Norm of the queries; [`QkNorm`](super::family::QkNorm) says over which width.
    pub q_norm: Option<Norm>,
    /// Norm of the keys, as `q_norm`.
    pub k_norm: Option<Norm>,
}

/// Parameters of a norm; [`DecoderNorm`] says how they are used.
#[derive(Module, Debug)]
pub struct Norm {
    /// Weight of the scale, `[width]`; `None` in a norm without parameters.
    pub weight: Option<Param<Tensor<1>>>,
    /// Bias, `[width]`; `None` in a norm without bias.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Block {
    /// The linear layers that LoRA can adapt ([`PROJECTIONS`](super::PROJECTIONS)), with their names. Those of experts
    /// have a prefix (`experts.0.q_proj`).
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

    /// The linear layers that are no projections: the routers and gates of experts.
    pub(super) fn gates(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.moe.iter_mut().flat_map(|moe| std::iter::once(&mut moe.gate).chain(&mut moe.shared_expert_gate))
    }

    /// The linear layers of [`Block::projections`] with their module paths in the block (`self_attn.q_proj`).
    pub(super) fn projection_paths(&mut self) -> Vec<(String, &mut Linear)> {
        let dense = self.mlp.is_some();
        let path = |name: String| match name.as_str() {
            "q_proj" | "k_proj" | "v_proj" | "o_proj" => format!("self_attn.{name}"),
            _ if dense => format!("mlp.{name}"),
            _ => format!("moe.{name}"),
        };
        self.projections().into_iter().map(|(name, layer)| (path(name), layer)).collect()
    }

    /// The linear layers of [`Block::projections`], in another order.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Linear> {
        let a = &self.self_attn;
        let mlps = self.mlp.iter().chain(self.moe.iter().flat_map(|moe| moe.experts.iter().chain(&moe.shared_expert)));
        let inner = mlps.flat_map(|m| m.gate_proj.iter().chain([&m.up_proj, &m.down_proj]));
        [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj].into_iter().chain(inner)
    }

    /// Whether any projection has LoRA factors.
    pub(super) fn has_lora(&self) -> bool {
        self.layers().any(|layer| layer.lora.is_some())
    }
}

impl Norm {
    /// A norm over `width` channels with a scale of one and a bias of zero.
    pub(super) fn new(norm: DecoderNorm, width: usize, device: &Device) -> Self {
        let weight = match norm.scale {
            NormScale::None => None,
            NormScale::Weight => Some(Initializer::Ones),
            NormScale::OnePlusWeight => Some(Initializer::Zeros),
        };
        Self {
            weight: weight.map(|init| init.init([width], device)),
            bias: norm.bias.then(|| Initializer::Zeros.init([width], device)),
        }
    }
}
