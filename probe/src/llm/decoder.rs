//! The decoder of LLaMA and related families: norm, rotary position embedding, grouped-query attention, MLP.
//!
//! There is one network; a row of [`super::family::FAMILIES`] describes each family's differences, and [`LlmConfig`]
//! holds sizes and switches. Module paths are those of `transformers`' `LlamaForCausalLM`, so parameter names equal a
//! LLaMA's keys: `model.embed_tokens.weight`, `model.layers.0.self_attn.q_proj.weight`, …, `model.norm.weight`,
//! `lm_head.weight` (absent if the head is tied to the embeddings). `weights/names.rs` maps the names of other
//! families; fused projections are split.

use super::config::LlmConfig;
use super::experts::Moe;
use super::family::{BlockLayout, NormScale, QkNorm};
use super::kernel::{self, AttentionSpec, CausalMasks, PaddingMask};
use super::kv_cache::KvCache;
use super::linear::{Linear, concat_linear};
use super::mlp::Mlp;
use super::parts::{Block, Norm, SelfAttention};
use super::precision::{Compute, cast};
use super::rope::{Rope, RopeConfig};
use super::stored::TokenTable;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use std::path::PathBuf;
use std::sync::Arc;

/// A causal language model: token embeddings, decoder blocks, output head.
#[derive(Module, Debug)]
pub struct Llm {
    /// Token embeddings, decoder blocks and final norm.
    pub model: Decoder,
    /// The output head; `None` if it is tied to the embeddings.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: LlmConfig,
    #[module(skip)]
    compute: Compute,
    /// The files whose weights the model shares, if some stay as stored there.
    #[module(skip)]
    pub(super) base: Option<Arc<PathBuf>>,
}

/// Token embeddings, decoder blocks and the final norm.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Token embedding table, `[vocab_size, hidden_size]`.
    pub embed_tokens: TokenTable,
    /// The decoder blocks in order.
    pub layers: Vec<Block>,
    /// The final norm, after the last block.
    pub norm: Norm,
}

/// Positions and padding mask of whole sequences; the default is ordinary text.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceLayout<'a> {
    /// Position of each token, `[rows][t]`; `None` counts from 0.
    pub positions: Option<&'a [Vec<usize>]>,
    /// Padding mask `[rows][t]`: a `true` token (padding of an image) is attended to by itself only.
    pub padding_mask: PaddingMask<'a>,
}

impl SequenceLayout<'_> {
    /// Returns the position after the last of `t` tokens: the length that the rotary embedding must cover.
    fn end(&self, t: usize) -> usize {
        self.positions.into_iter().flatten().flatten().max().map_or(t, |last| last + 1)
    }

    /// Returns cosines and sines for `t` tokens.
    fn rope(&self, rotation: RopeConfig<'_>, t: usize, device: &Device) -> Rope {
        match self.positions {
            Some(rows) => rotation.for_positions(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), device),
            None => rotation.for_length(t, device),
        }
    }
}

/// What all blocks share on the device for a batch of whole sequences: rotary angles and causal masks.
#[derive(Debug)]
pub struct SequenceTensors<'a> {
    /// Cosines and sines of each layer.
    ropes: Vec<Rope>,
    masks: CausalMasks<'a>,
}

/// A hook called after each decoder block with its index and the residual stream `[b, t, d]`; returns the new stream.
pub type BlockHook<'a> = dyn FnMut(usize, Tensor<3>) -> Result<Tensor<3>> + 'a;

impl LlmConfig {
    /// Builds a model with random weights (normal with [`LlmConfig::initializer_range`], norms one).
    ///
    /// Burn's own generator draws the weights; callers that need reproducible ones call
    /// `burgess_encoders::init::initialise` afterwards.
    ///
    /// # Errors
    /// When the configuration fails [`LlmConfig::check`].
    pub fn init(&self, device: &Device) -> Result<Llm> {
        self.check()?;
        let normal = Initializer::Normal { mean: 0.0, std: self.initializer_range };
        let (d, w, f) = (self.hidden_size, self.head_width(), self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * w, self.kv_heads() * w);
        let family = self.model_type;
        let lin = |i: usize, o: usize, bias: bool| Linear::new(i, o, bias, &normal, device);
        let norm = |width: usize| Norm::new(family.norm, width, device);
        let mlp = |f: usize| Mlp {
            gate_proj: family.gated.then(|| lin(d, f, self.mlp_bias)),
            up_proj: lin(d, f, self.mlp_bias),
            down_proj: lin(f, d, self.mlp_bias),
        };
        let qk_widths = family.qk_norm.widths(w, q, kv);
        let norms = family.block.norms();
        let norm_if = |exists: bool| exists.then(|| norm(d));
        let block = |i: usize| {
            let experts = self.experts.as_ref().filter(|experts| experts.has_experts(i));
            Block {
                self_attn: SelfAttention {
                    q_proj: lin(d, q, self.qkv_bias()),
                    k_proj: lin(d, kv, self.qkv_bias()),
                    v_proj: lin(d, kv, self.qkv_bias()),
                    o_proj: lin(q, d, self.output_bias()),
                    q_norm: qk_widths.map(|[q, _]| norm(q)),
                    k_norm: qk_widths.map(|[_, k]| norm(k)),
                },
                mlp: experts.is_none().then(|| mlp(f)),
                moe: experts.map(|experts| Moe {
                    gate: lin(d, experts.count, false),
                    experts: (0..experts.count).map(|_| mlp(experts.width)).collect(),
                    shared_expert: experts.shared.map(&mlp),
                    shared_expert_gate: experts.shared.map(|_| lin(d, 1, false)),
                }),
                input_layernorm: norm_if(norms.input),
                post_attention_layernorm: norm_if(norms.post_attention),
                pre_feedforward_layernorm: norm_if(norms.pre_feedforward),
                post_feedforward_layernorm: norm_if(norms.post_feedforward),
            }
        };
        Ok(Llm {
            model: Decoder {
                embed_tokens: TokenTable::new(self.vocab_size, d, &normal, device),
                layers: (0..self.num_hidden_layers).map(block).collect(),
                norm: norm(d),
            },
            lm_head: (!self.tie_word_embeddings).then(|| lin(d, self.vocab_size, false)),
            config: self.clone(),
            compute: Compute::F32,
            base: None,
        })
    }
}

impl Llm {
    /// Returns the configuration that this model was built from.
    pub fn config(&self) -> &LlmConfig {
        &self.config
    }

    /// Returns this model with its matrix products in the precision `compute`.
    ///
    /// # Errors
    /// The model's device does not compute in it, see [`Compute::check_device`], or weights stay quantised, whose products
    /// are not computed in bf16.
    pub fn with_compute(mut self, compute: Compute) -> Result<Self> {
        let on_host = self.devices().iter().all(|device| transfer::is_host(&device.clone().inner()));
        for device in self.devices() {
            compute.check_device(&device)?;
        }
        let bf16 = compute == Compute::Bf16 && on_host;
        if bf16 && self.has_quantised_weights() {
            return Err(Error::usage(
                "the weights of the language model stay quantised, and products with them are not computed in bf16",
            )
            .hint("leave `precision` out: f32 is the default"));
        }
        self.compute = compute;
        self.model.embed_tokens.set_bf16(bf16);
        if let Some(head) = &mut self.lm_head {
            head.set_bf16(bf16);
        }
        for block in &mut self.model.layers {
            block.projections().into_iter().for_each(|(_, layer)| layer.set_bf16(bf16));
            block.gates().for_each(|layer| layer.set_bf16(bf16));
        }
        Ok(self)
    }

    /// Looks up token embeddings: `ids` `[b, t]` → `[b, t, hidden_size]`.
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let table = self.model.embed_tokens.forward(ids);
        match self.config.embedding_scale() {
            Some(scale) => table.mul_scalar(scale),
            None => table,
        }
    }

    /// Returns token embeddings of rows of ids of equal length, on the model's device: `[rows, t, hidden_size]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or the rows differ in length.
    pub fn embed_rows(&self, rows: &[&[u32]], device: &Device) -> Result<Tensor<3>> {
        let t = rows.first().map_or(0, |r| r.len());
        let vocab = self.config.vocab_size;
        if rows.iter().any(|r| r.len() != t) {
            return Err(Error::failed("rows of token ids differ in length; pad them first"));
        }
        if let Some(id) = rows.iter().flat_map(|r| r.iter()).find(|&&id| id as usize >= vocab) {
            return Err(Error::failed(format!("token id {id} is outside the vocabulary of {vocab}"))
                .hint("use the tokenizer and the language model of the same directory"));
        }
        let flat: Vec<i32> = rows.iter().flat_map(|r| r.iter().map(|&id| id as i32)).collect();
        Ok(self.embed(transfer::to_device(TensorData::new(flat, [rows.len(), t]), device)))
    }

    /// Runs the decoder on whole sequences from position 0: `[b, t, d]` → `[b, t, d]` after the final norm.
    ///
    /// Attention is causal. Sequences shorter than `t` are padded **on the right** and need no mask: real tokens
    /// never attend to later ones, and the caller ignores the outputs at padding.
    ///
    /// # Errors
    /// When `t` exceeds `max_position_embeddings`.
    pub fn hidden(&self, embeddings: Tensor<3>) -> Result<Tensor<3>> {
        self.hidden_with(embeddings, SequenceLayout::default(), None)
    }

    /// As [`Llm::hidden`], with given positions and padding mask, and a hook `after` each block.
    ///
    /// # Errors
    /// As [`Llm::hidden`]; when a list differs in length from the sequences; the errors of `after`.
    pub fn hidden_with(
        &self,
        embeddings: Tensor<3>,
        layout: SequenceLayout<'_>,
        after: Option<&mut BlockHook<'_>>,
    ) -> Result<Tensor<3>> {
        let ([b, t, _], device) = (embeddings.dims(), embeddings.device());
        let lists = layout.positions.into_iter().flatten().map(Vec::len);
        let lists = lists.chain(layout.padding_mask.into_iter().flatten().map(Vec::len)).collect::<Vec<_>>();
        let given = usize::from(layout.positions.is_some()) + usize::from(layout.padding_mask.is_some());
        if lists.len() != given * b || lists.iter().any(|n| *n != t) {
            return Err(Error::failed("positions or padding mask must have an entry for each token of each row"));
        }
        let shared = self.sequence_tensors(layout, t, &device)?;
        let attend = |layer: usize, rope: &Rope, qkv| {
            Ok(kernel::causal_attention(qkv, rope, self.attention_spec(layer, b, t), &shared.masks))
        };
        self.run_blocks(embeddings, &shared.ropes, attend, after)
    }

    /// Makes what all blocks share for a batch of whole sequences of `t` tokens, so that it is copied to the device once
    /// and not per block.
    ///
    /// # Errors
    /// When a position reaches `max_position_embeddings`.
    pub fn sequence_tensors<'a>(
        &self,
        layout: SequenceLayout<'a>,
        t: usize,
        device: &Device,
    ) -> Result<SequenceTensors<'a>> {
        self.check_length(layout.end(t))?;
        let ropes = self.ropes(|rotation| layout.rope(rotation, t, device));
        Ok(SequenceTensors { ropes, masks: CausalMasks::new(layout.padding_mask) })
    }

    /// Runs all blocks and the final norm; `attend` computes attention from a block's query–key–value projection.
    fn run_blocks(
        &self,
        embeddings: Tensor<3>,
        ropes: &[Rope],
        mut attend: impl FnMut(usize, &Rope, Tensor<2>) -> Result<Tensor<2>>,
        mut after: Option<&mut BlockHook<'_>>,
    ) -> Result<Tensor<3>> {
        let [b, t, d] = embeddings.dims();
        let mut x = embeddings.reshape([b * t, d]);
        for (i, (block, rope)) in self.model.layers.iter().zip(ropes).enumerate() {
            let qkv = self.project(block, x.clone());
            x = self.finish_block(block, x, attend(i, rope, qkv)?)?;
            if let Some(after) = after.as_deref_mut() {
                x = after(i, x.reshape([b, t, d]))?.reshape([b * t, d]);
            }
        }
        Ok(self.final_norm(x.reshape([b, t, d])))
    }

    /// Returns the number of decoder blocks.
    pub fn blocks(&self) -> usize {
        self.model.layers.len()
    }

    /// Runs one block of [`Llm::hidden_with`]: `[b, t, d]` → `[b, t, d]`. `shared` is from [`Llm::sequence_tensors`] for
    /// sequences of `t` tokens on the device of `x`.
    ///
    /// # Errors
    /// When there is no such block.
    pub fn block(&self, layer: usize, x: Tensor<3>, shared: &SequenceTensors<'_>) -> Result<Tensor<3>> {
        let [b, t, d] = x.dims();
        let (block, rope) = (self.model.layers.get(layer).zip(shared.ropes.get(layer)))
            .ok_or_else(|| Error::failed(format!("there is no decoder block {layer}")))?;
        let x = x.reshape([b * t, d]);
        let qkv = self.project(block, x.clone());
        let attended = kernel::causal_attention(qkv, rope, self.attention_spec(layer, b, t), &shared.masks);
        Ok(self.finish_block(block, x, attended)?.reshape([b, t, d]))
    }

    /// Applies the final norm, which follows the last block.
    pub fn final_norm(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, d] = x.dims();
        self.norm(&self.model.norm, x.reshape([b * t, d])).reshape([b, t, d])
    }

    /// Runs the decoder on new tokens after the cached ones: `[b, t, d]` → `[b, t, d]` after the final norm.
    ///
    /// The first `real[r]` tokens of row `r` are real, the rest is padding. `cache` grows by their keys and values.
    ///
    /// A row that grows past the length at which its rotary angles change (LongRoPE) is recomputed from its first
    /// token, as in `transformers`.
    ///
    /// # Errors
    /// When a position reaches `max_position_embeddings`, or the cache has other rows; the errors of `after`.
    pub fn extend(
        &self,
        embeddings: Tensor<3>,
        real: &[usize],
        cache: &mut KvCache,
        after: Option<&mut BlockHook<'_>>,
    ) -> Result<Tensor<3>> {
        match after {
            None => kernel::in_pool(&embeddings.device(), || self.extend_here(embeddings, real, cache, None)),
            Some(after) => self.extend_here(embeddings, real, cache, Some(after)),
        }
    }

    fn extend_here(
        &self,
        embeddings: Tensor<3>,
        real: &[usize],
        cache: &mut KvCache,
        after: Option<&mut BlockHook<'_>>,
    ) -> Result<Tensor<3>> {
        let ([b, t, _], device) = (embeddings.dims(), embeddings.device());
        let switch = self.config.length_switch();
        if let Some(switch) = switch {
            if cache.grows_past(switch, real) {
                return self.recompute(embeddings, real, cache, switch, after.is_some());
            }
            cache.keep_inputs(&embeddings, real, switch, after.is_some());
        }
        let step = cache.begin(real, t)?;
        let longest = cache.lengths().into_iter().max().unwrap_or(0);
        self.check_length(longest)?;
        let positions: Vec<&[usize]> = step.positions.iter().map(Vec::as_slice).collect();
        let ropes = self.ropes(|rotation| rotation.for_positions(&positions, &device));
        let attend =
            |layer: usize, rope: &Rope, qkv| cache.attend(layer, qkv, rope, self.attention_spec(layer, b, t), &step);
        self.run_blocks(embeddings, &ropes, attend, after)
    }

    /// [`Llm::extend`] where a row grows past `switch` positions: recomputes all tokens into a new cache.
    fn recompute(
        &self,
        embeddings: Tensor<3>,
        real: &[usize],
        cache: &mut KvCache,
        switch: usize,
        sampled: bool,
    ) -> Result<Tensor<3>> {
        let ([b, t, d], device) = (embeddings.dims(), embeddings.device());
        let Some((all, places)) = cache.history(embeddings, real).filter(|_| !sampled) else {
            return Err(Error::failed(format!(
                "a sequence grew past {switch} positions, where this model's rotary angles change, so it must be \
                 recomputed; that is not possible after a connector changed it between the blocks, or after it \
                 joined other sequences in a batch"
            ))
            .hint(format!("generate fewer tokens, or use prompts of more than {switch} tokens")));
        };
        let total = all.dims()[1];
        let counts: Vec<usize> = places.iter().map(Vec::len).collect();
        let longest = counts.iter().copied().max().unwrap_or(0);
        let pick = |rows: Vec<i32>| {
            let n = rows.len();
            transfer::to_device::<1, Int>(TensorData::new(rows, [n]), &device)
        };
        // Rows are right-padded with their first token.
        let index = places.iter().enumerate().flat_map(|(row, places)| {
            (0..longest).map(move |i| (row * total + places.get(i).or(places.first()).copied().unwrap_or(0)) as i32)
        });
        let whole = all.reshape([b * total, d]).select(0, pick(index.collect())).reshape([b, longest, d]);
        let mut again = KvCache::new();
        let hidden = self.extend(whole, &counts, &mut again, None)?;
        *cache = again;
        let index = counts.iter().zip(real).enumerate().flat_map(|(row, (count, real))| {
            let first = count - real;
            (0..t).map(move |i| (row * longest + (first + i).min(count.saturating_sub(1))) as i32)
        });
        Ok(hidden.reshape([b * longest, d]).select(0, pick(index.collect())).reshape([b, t, d]))
    }

    /// Computes vocabulary logits: `hidden` `[n, d]` → `[n, vocab_size]`. Pass only the positions that need them.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self.to_compute_dtype(hidden);
        let mut logits = match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => self.model.embed_tokens.head(hidden),
        };
        if let Some(scale) = self.config.logit_scale {
            logits = logits.mul_scalar(scale);
        }
        if let Some(divisor) = self.config.logits_scaling.filter(|divisor| *divisor != 1.0) {
            logits = logits.div_scalar(divisor);
        }
        match self.config.final_logit_softcapping {
            Some(cap) => kernel::portable::softcap(logits, cap),
            None => logits,
        }
    }

    /// Returns the shape and options of attention in one layer.
    fn attention_spec(&self, layer: usize, batch: usize, tokens: usize) -> AttentionSpec {
        AttentionSpec {
            batch,
            tokens,
            query: self.config.num_attention_heads,
            kv: self.config.kv_heads(),
            width: self.config.head_width(),
            scale: self.config.attention_scale(),
            window: self.config.window(layer),
            softcap: self.config.attn_logit_softcapping,
            interleaved: self.config.model_type.interleaved,
        }
    }

    /// Returns cosines and sines of each layer; layers with equal rotations share them.
    fn ropes(&self, make: impl Fn(RopeConfig<'_>) -> Rope) -> Vec<Rope> {
        let mut kinds: Vec<(RopeConfig<'_>, Rope)> = Vec::new();
        let layers = (0..self.config.num_hidden_layers).map(|layer| {
            let rotation = self.config.rotation(layer);
            if let Some((_, rope)) = kinds.iter().find(|(known, _)| *known == rotation) {
                return rope.clone();
            }
            let rope = make(rotation);
            kinds.push((rotation, rope.clone()));
            rope
        });
        layers.collect()
    }

    /// Computes the first norm, the joint query–key–value projection, clipping, and query/key norms:
    /// `[rows, columns]`.
    fn project(&self, block: &Block, x: Tensor<2>) -> Tensor<2> {
        let attention = &block.self_attn;
        let x = self.to_compute_dtype(self.normed(block.input_layernorm.as_ref(), x));
        let mut qkv = concat_linear([&attention.q_proj, &attention.k_proj, &attention.v_proj], x);
        if let Some(most) = self.config.clip_qkv {
            qkv = qkv.clamp(-most, most);
        }
        let (Some(q_norm), Some(k_norm)) = (&attention.q_norm, &attention.k_norm) else { return qkv };
        let [rows, columns] = qkv.dims();
        let w = self.config.head_width();
        let whole = self.config.model_type.qk_norm == QkNorm::AllHeads;
        let normed = |from: usize, heads: usize, norm: &Norm| {
            let part = qkv.clone().narrow(1, from * w, heads * w);
            match whole {
                true => self.norm(norm, part),
                false => self.norm(norm, part.reshape([rows * heads, w])).reshape([rows, heads * w]),
            }
        };
        let (query, kv) = (self.config.num_attention_heads, self.config.kv_heads());
        let from = (query + kv) * w;
        let values = qkv.clone().narrow(1, from, columns - from);
        Tensor::cat(vec![normed(0, query, q_norm), normed(query, kv, k_norm), values], 1)
    }

    /// Computes the part of a block after attention: `x` `[rows, d]` and `attended` (attention output before the output
    /// projection) `[rows, query · width]` → `[rows, d]`.
    fn finish_block(&self, block: &Block, x: Tensor<2>, attended: Tensor<2>) -> Result<Tensor<2>> {
        let attended = cast(block.self_attn.o_proj.forward(attended), DType::F32);
        let add = |x: Tensor<2>, more: Tensor<2>| match self.config.residual_multiplier.filter(|m| *m != 1.0) {
            Some(factor) => x + more.mul_scalar(factor),
            None => x + more,
        };
        let after_attention = block.post_attention_layernorm.as_ref();
        let after_mlp = block.post_feedforward_layernorm.as_ref();
        match self.config.model_type.block {
            BlockLayout::PreNorm => {
                let x = add(x, attended);
                Ok(add(x.clone(), self.mlp(block, self.normed(after_attention, x))?))
            }
            BlockLayout::SandwichNorm => {
                let x = add(x, self.normed(after_attention, attended));
                let inner = self.mlp(block, self.normed(block.pre_feedforward_layernorm.as_ref(), x.clone()))?;
                Ok(add(x, self.normed(after_mlp, inner)))
            }
            BlockLayout::PostNorm => {
                let x = add(x, self.normed(after_attention, attended));
                Ok(add(x.clone(), self.normed(after_mlp, self.mlp(block, x)?)))
            }
            BlockLayout::Parallel => {
                let inner = self.mlp(block, self.normed(block.input_layernorm.as_ref(), x.clone()))?;
                Ok(add(add(x, attended), inner))
            }
        }
    }

    /// Applies the MLP or the experts of a block, `[rows, d]` → `[rows, d]` in f32.
    fn mlp(&self, block: &Block, x: Tensor<2>) -> Result<Tensor<2>> {
        let activation = self.config.activation;
        let x = self.to_compute_dtype(x);
        let out = match (&block.mlp, &block.moe, &self.config.experts) {
            (Some(mlp), _, _) => mlp.forward(x, activation),
            (None, Some(moe), Some(experts)) => moe.forward(x, activation, experts)?,
            _ => return Err(Error::failed("a decoder block has neither an MLP nor experts")),
        };
        Ok(cast(out, DType::F32))
    }

    /// Casts the input of a product to the compute type; the residual stream stays f32.
    fn to_compute_dtype(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = self.compute.dtype_on(&x.device());
        cast(x, dtype)
    }

    /// Applies a norm if there is one.
    fn normed(&self, norm: Option<&Norm>, x: Tensor<2>) -> Tensor<2> {
        match norm {
            Some(norm) => self.norm(norm, x),
            None => x,
        }
    }

    /// Applies a norm to each row, `[rows, width]` → `[rows, width]`.
    fn norm(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        let eps = self.config.rms_norm_eps;
        let (weight, bias) = (norm.weight.as_ref().map(Param::val), norm.bias.as_ref().map(Param::val));
        let kind = self.config.model_type.norm;
        let weight = match kind.scale {
            NormScale::None | NormScale::Weight => weight,
            NormScale::OnePlusWeight => weight.map(|weight| weight.add_scalar(1.0)),
        };
        match weight {
            Some(weight) if !kind.centred => kernel::rms_norm(x, weight, eps),
            weight => kernel::layer_norm(x, weight, bias, eps),
        }
    }

    /// Checks that `t` positions fit the model.
    fn check_length(&self, t: usize) -> Result<()> {
        if let Some(most) = self.config.longest().filter(|most| t > *most) {
            return Err(Error::failed(format!("a sequence of {t} tokens is longer than the model's {most} positions"))
                .hint("shorten the text (in training: `max_length`), or use fewer image tokens"));
        }
        Ok(())
    }
}
