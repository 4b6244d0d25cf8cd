//! The decoder of LLaMA and its relatives: RMSNorm, rotary positions, grouped-query attention, a gated layer.
//!
//! One network with the differences of the families as options of [`LlmConfig`]: LLaMA, Mistral, Qwen 2 and 3, Phi-3,
//! Gemma 3. Module paths are those of `transformers`' `LlamaForCausalLM` and its siblings, so a checkpoint's keys are
//! the parameters' names: `model.embed_tokens.weight`, `model.layers.0.self_attn.q_proj.weight`, …, `model.norm.weight`,
//! `lm_head.weight` (absent when the head is tied to the embeddings). Phi-3's fused projections are held apart.

use super::config::{Family, LlmConfig};
use super::kernel::{self, Heads, Hidden};
use super::kv_cache::KvCache;
use super::linear::{Linear, joined};
use super::rope::{Rope, Rotation};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The layers of a block that can be adapted.
pub const PROJECTIONS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A language model: token embeddings, decoder, output head.
#[derive(Module, Debug)]
pub struct Llm {
    /// Everything before the head.
    pub model: Decoder,
    /// The head, unless tied to the embeddings.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: LlmConfig,
    #[module(skip)]
    compute: Compute,
}

/// In what a decoder computes; its weights, its residual stream and the loss are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// 32 bits.
    #[default]
    F32,
    /// Products, attention and gates in bfloat16, as in PyTorch's mixed precision (`autocast`): less memory for activations, and
    /// several times the speed where the device has units for it.
    Bf16,
}

impl Compute {
    /// The type of what products read and give.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Embeddings, blocks and the final norm.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab_size, hidden_size]`.
    pub embed_tokens: Embedding,
    /// The decoder blocks, first to last.
    pub layers: Vec<Block>,
    /// Norm after the last block.
    pub norm: RmsNorm,
}

/// One decoder block: attention and the gated layer, each behind a norm and around a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Grouped-query attention.
    pub self_attn: SelfAttention,
    /// The gated layer.
    pub mlp: Mlp,
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Norm before the gated layer; in Gemma 3 the norm after attention.
    pub post_attention_layernorm: RmsNorm,
    /// Gemma 3's norm before the gated layer.
    pub pre_feedforward_layernorm: Option<RmsNorm>,
    /// Gemma 3's norm after it.
    pub post_feedforward_layernorm: Option<RmsNorm>,
}

/// Projections of grouped-query attention.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Queries.
    pub q_proj: Linear,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Linear,
    /// Output.
    pub o_proj: Linear,
    /// Norm of each query (Qwen 3, Gemma 3).
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key.
    pub k_norm: Option<RmsNorm>,
}

/// Projections of the gated layer, all without bias.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Gate.
    pub gate_proj: Linear,
    /// Up.
    pub up_proj: Linear,
    /// Down.
    pub down_proj: Linear,
}

/// Root-mean-square norm with a learned scale.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`; Gemma's is what is added to one.
    pub weight: Param<Tensor<1>>,
}

/// How whole sequences are read, where it is not as ordinary text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// The position of each token, a list for each row; absent = counted from 0.
    pub positions: Option<&'a [Vec<usize>]>,
    /// Tokens that nobody sees but themselves: padded cells of a picture.
    pub hidden: Hidden<'a>,
}

impl Reading<'_> {
    /// The position after the last of `t` tokens.
    fn end(&self, t: usize) -> usize {
        self.positions.into_iter().flatten().flatten().max().map_or(t, |last| last + 1)
    }

    /// The angles of its `t` tokens.
    fn rope(&self, rotation: Rotation<'_>, t: usize, device: &Device) -> Rope {
        match self.positions {
            Some(rows) => rotation.at(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), device),
            None => rotation.range(t, device),
        }
    }
}

/// Called after each decoder block with its number and the residual stream `[b, t, d]`, which it may change.
pub type After<'a> = dyn FnMut(usize, Tensor<3>) -> Result<Tensor<3>> + 'a;

impl LlmConfig {
    /// A model with freshly drawn weights (normal with [`LlmConfig::initializer_range`], norms one).
    ///
    /// The draws here come from Burn's own generator; callers that need reproducible weights follow with
    /// `burgess_encoders::init::initialise`.
    ///
    /// # Errors
    /// When the configuration fails [`LlmConfig::check`].
    pub fn init(&self, device: &Device) -> Result<Llm> {
        self.check()?;
        let normal = Initializer::Normal { mean: 0.0, std: self.initializer_range };
        let (d, w, f) = (self.hidden_size, self.head_width(), self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * w, self.kv_heads() * w);
        let gemma = self.model_type == Family::Gemma3;
        let normed = gemma || self.model_type == Family::Qwen3;
        let inner_bias = self.attention_bias || self.model_type == Family::Qwen2;
        let lin = |i: usize, o: usize, bias: bool| Linear::new(i, o, bias, &normal, device);
        let scale = if gemma { Initializer::Zeros } else { Initializer::Ones };
        let norm = |width: usize| RmsNorm { weight: scale.init([width], device) };
        let block = || Block {
            self_attn: SelfAttention {
                q_proj: lin(d, q, inner_bias),
                k_proj: lin(d, kv, inner_bias),
                v_proj: lin(d, kv, inner_bias),
                o_proj: lin(q, d, self.attention_bias),
                q_norm: normed.then(|| norm(w)),
                k_norm: normed.then(|| norm(w)),
            },
            mlp: Mlp { gate_proj: lin(d, f, false), up_proj: lin(d, f, false), down_proj: lin(f, d, false) },
            input_layernorm: norm(d),
            post_attention_layernorm: norm(d),
            pre_feedforward_layernorm: gemma.then(|| norm(d)),
            post_feedforward_layernorm: gemma.then(|| norm(d)),
        };
        Ok(Llm {
            model: Decoder {
                embed_tokens: EmbeddingConfig::new(self.vocab_size, d).with_initializer(normal.clone()).init(device),
                layers: (0..self.num_hidden_layers).map(|_| block()).collect(),
                norm: norm(d),
            },
            lm_head: (!self.tie_word_embeddings).then(|| lin(d, self.vocab_size, false)),
            config: self.clone(),
            compute: Compute::F32,
        })
    }
}

impl Llm {
    /// The configuration this model was made from.
    pub fn config(&self) -> &LlmConfig {
        &self.config
    }

    /// This model, computing in this type from now on.
    #[must_use]
    pub fn computing(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// Token embeddings: `ids` `[b, t]` → `[b, t, hidden_size]`.
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let table = self.model.embed_tokens.forward(ids);
        match self.config.model_type {
            Family::Gemma3 => table.mul_scalar((self.config.hidden_size as f64).sqrt()),
            _ => table,
        }
    }

    /// Token embeddings of rows of ids, each of the same length, on the model's device: `[rows, t, hidden_size]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or the rows differ in length.
    pub fn embed_rows(&self, rows: &[&[u32]], device: &Device) -> Result<Tensor<3>> {
        let t = rows.first().map_or(0, |r| r.len());
        let vocab = self.config.vocab_size;
        if rows.iter().any(|r| r.len() != t) {
            return Err(Error::failed("rows of token ids differ in length"));
        }
        if let Some(id) = rows.iter().flat_map(|r| r.iter()).find(|&&id| id as usize >= vocab) {
            return Err(Error::failed(format!("token id {id} is outside the vocabulary of {vocab}"))
                .hint("the tokenizer and the language model do not belong together"));
        }
        let flat: Vec<i32> = rows.iter().flat_map(|r| r.iter().map(|&id| id as i32)).collect();
        Ok(self.embed(Tensor::from_data(TensorData::new(flat, [rows.len(), t]), device)))
    }

    /// Reads whole sequences from position 0: `embeddings` `[b, t, d]` → `[b, t, d]` after the final norm.
    ///
    /// Causal; sequences shorter than `t` are padded **on the right** and need no mask: real tokens never see
    /// later ones, and the caller reads no padded position.
    ///
    /// # Errors
    /// When `t` exceeds `max_position_embeddings`.
    pub fn hidden(&self, embeddings: Tensor<3>) -> Result<Tensor<3>> {
        self.hidden_with(embeddings, Reading::default(), None)
    }

    /// As [`Llm::hidden`], with positions and hidden tokens of one's own, and something to be done after each block.
    ///
    /// # Errors
    /// As [`Llm::hidden`]; when a list is not as long as the sequences; those of `after`.
    pub fn hidden_with(
        &self,
        embeddings: Tensor<3>,
        reading: Reading<'_>,
        after: Option<&mut After<'_>>,
    ) -> Result<Tensor<3>> {
        let ([b, t, _], device) = (embeddings.dims(), embeddings.device());
        let lists = reading.positions.into_iter().flatten().map(Vec::len);
        let lists = lists.chain(reading.hidden.into_iter().flatten().map(Vec::len)).collect::<Vec<_>>();
        let given = usize::from(reading.positions.is_some()) + usize::from(reading.hidden.is_some());
        if lists.len() != given * b || lists.iter().any(|n| *n != t) {
            return Err(Error::failed("positions or hidden tokens are not given for each token of each row"));
        }
        self.check_length(reading.end(t))?;
        let ropes = self.ropes(|rotation| reading.rope(rotation, t, &device));
        let attend = |layer: usize, rope: &Rope, qkv| {
            Ok(kernel::causal_attention(qkv, rope, self.heads(layer, b, t), reading.hidden))
        };
        self.through(embeddings, &ropes, attend, after)
    }

    /// All blocks and the final norm; `attend` makes of a block's queries, keys and values what the queries see.
    fn through(
        &self,
        embeddings: Tensor<3>,
        ropes: &[Rope],
        mut attend: impl FnMut(usize, &Rope, Tensor<2>) -> Result<Tensor<2>>,
        mut after: Option<&mut After<'_>>,
    ) -> Result<Tensor<3>> {
        let [b, t, d] = embeddings.dims();
        let mut x = embeddings.reshape([b * t, d]);
        for (i, (block, rope)) in self.model.layers.iter().zip(ropes).enumerate() {
            let qkv = self.project(block, x.clone());
            x = self.rest(block, x, attend(i, rope, qkv)?);
            if let Some(after) = after.as_deref_mut() {
                x = after(i, x.reshape([b, t, d]))?.reshape([b * t, d]);
            }
        }
        Ok(self.close(x.reshape([b, t, d])))
    }

    /// Decoder blocks.
    pub fn blocks(&self) -> usize {
        self.model.layers.len()
    }

    /// One block of [`Llm::hidden_with`] by itself: `[b, t, d]` → `[b, t, d]`.
    ///
    /// # Errors
    /// When there is no such block, or a position reaches `max_position_embeddings`.
    pub fn block(&self, layer: usize, x: Tensor<3>, reading: Reading<'_>) -> Result<Tensor<3>> {
        let ([b, t, d], device) = (x.dims(), x.device());
        let block =
            self.model.layers.get(layer).ok_or_else(|| Error::failed(format!("there is no decoder block {layer}")))?;
        self.check_length(reading.end(t))?;
        let rope = reading.rope(self.config.rotation(layer), t, &device);
        let x = x.reshape([b * t, d]);
        let qkv = self.project(block, x.clone());
        let seen = kernel::causal_attention(qkv, &rope, self.heads(layer, b, t), reading.hidden);
        Ok(self.rest(block, x, seen).reshape([b, t, d]))
    }

    /// What follows the last block: the final norm.
    pub fn close(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, d] = x.dims();
        self.norm(&self.model.norm, x.reshape([b * t, d])).reshape([b, t, d])
    }

    /// Reads `embeddings` `[b, t, d]` after what `cache` holds, of which the first `real[r]` of row `r` count and the
    /// rest is padding, appends their keys and values to it, and returns `[b, t, d]` after the final norm.
    ///
    /// # Errors
    /// When a position reaches `max_position_embeddings`, or the cache has other rows; those of `after`.
    pub fn extend(
        &self,
        embeddings: Tensor<3>,
        real: &[usize],
        cache: &mut KvCache,
        after: Option<&mut After<'_>>,
    ) -> Result<Tensor<3>> {
        let ([b, t, _], device) = (embeddings.dims(), embeddings.device());
        let before = cache.lengths();
        let reading = cache.begin(real, t)?;
        self.check_length(cache.lengths().into_iter().max().unwrap_or(0))?;
        if let Some(turn) = self.config.rope_scaling.as_ref().and_then(super::rope::Scaling::turn)
            && before.iter().zip(cache.lengths()).any(|(before, now)| *before > 0 && *before <= turn && now > turn)
        {
            return Err(Error::failed(format!(
                "a sequence grew past {turn} positions, where this model turns to other angles; what was read has the old ones"
            ))
            .hint(format!("ask for fewer new tokens, or give prompts of more than {turn} tokens")));
        }
        let positions: Vec<&[usize]> = reading.positions.iter().map(Vec::as_slice).collect();
        let ropes = self.ropes(|rotation| rotation.at(&positions, &device));
        let attend = |layer: usize, rope: &Rope, qkv| cache.attend(layer, qkv, rope, self.heads(layer, b, t), &reading);
        self.through(embeddings, &ropes, attend, after)
    }

    /// Scores over the vocabulary: `hidden` `[n, d]` → `[n, vocab_size]`. Ask only for the positions that need it.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self.lower(hidden);
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => kernel::linear_transposed(hidden, self.model.embed_tokens.weight.val()),
        }
    }

    /// This model with fresh adapters on the projections that `targets` names (`q_proj`, `down_proj` …), and every
    /// other parameter frozen.
    ///
    /// # Errors
    /// When a name is no projection's, or the rank is 0.
    pub fn with_lora(self, rank: usize, alpha: f64, targets: &[String], seed: u64) -> Result<Self> {
        if let Some(bad) = targets.iter().find(|t| !PROJECTIONS.contains(&t.as_str())) {
            return Err(Error::usage(format!("`{bad}` is no projection of the language model"))
                .hint(format!("there are {}", PROJECTIONS.join(", "))));
        }
        if rank == 0 || targets.is_empty() {
            return Err(Error::usage("an adapter needs a rank above 0 and projections to adapt"));
        }
        let mut model: Self = self.freeze();
        for (i, block) in model.model.layers.iter_mut().enumerate() {
            for (name, layer) in block.projections() {
                if targets.iter().any(|t| t == name) {
                    *layer = layer.clone().with_lora(rank, alpha, &format!("{i}/{name}"), seed);
                }
            }
        }
        Ok(model)
    }

    /// Whether any projection has an adapter.
    pub fn adapted(&self) -> bool {
        let of = |l: &Linear| l.lora.is_some();
        self.model.layers.iter().any(|block| {
            let (a, m) = (&block.self_attn, &block.mlp);
            [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj, &m.gate_proj, &m.up_proj, &m.down_proj].into_iter().any(of)
        })
    }

    /// This model with its adapters added into the weights.
    #[must_use]
    pub fn merged(mut self) -> Self {
        for block in &mut self.model.layers {
            for (_, layer) in block.projections() {
                *layer = layer.clone().merged();
            }
        }
        self
    }

    fn heads(&self, layer: usize, batch: usize, tokens: usize) -> Heads {
        Heads {
            batch,
            tokens,
            query: self.config.num_attention_heads,
            kv: self.config.kv_heads(),
            width: self.config.head_width(),
            scale: self.config.attention_scale(),
            window: self.config.window(layer),
        }
    }

    /// The angles of each layer; those of a kind are made once.
    fn ropes(&self, make: impl Fn(Rotation<'_>) -> Rope) -> Vec<Rope> {
        let mut kinds: Vec<(Rotation<'_>, Rope)> = Vec::new();
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

    /// Queries, keys and values side by side, `[rows, columns]`.
    fn project(&self, block: &Block, x: Tensor<2>) -> Tensor<2> {
        let attention = &block.self_attn;
        let x = self.lower(self.norm(&block.input_layernorm, x));
        let qkv = joined([&attention.q_proj, &attention.k_proj, &attention.v_proj], x);
        let (Some(q_norm), Some(k_norm)) = (&attention.q_norm, &attention.k_norm) else { return qkv };
        let [rows, columns] = qkv.dims();
        let w = self.config.head_width();
        let normed = |from: usize, heads: usize, norm: &RmsNorm| {
            let part = qkv.clone().narrow(1, from * w, heads * w).reshape([rows * heads, w]);
            self.norm(norm, part).reshape([rows, heads * w])
        };
        let (query, kv) = (self.config.num_attention_heads, self.config.kv_heads());
        let from = (query + kv) * w;
        let values = qkv.clone().narrow(1, from, columns - from);
        Tensor::cat(vec![normed(0, query, q_norm), normed(query, kv, k_norm), values], 1)
    }

    /// What follows attention in a block: `x` and `seen` `[rows, d]` and `[rows, query · width]` → `[rows, d]`.
    fn rest(&self, block: &Block, x: Tensor<2>, seen: Tensor<2>) -> Tensor<2> {
        let seen = kernel::follow(block.self_attn.o_proj.forward(seen), DType::F32);
        match (&block.pre_feedforward_layernorm, &block.post_feedforward_layernorm) {
            (Some(before), Some(behind)) => {
                let x = x + self.norm(&block.post_attention_layernorm, seen);
                x.clone() + self.norm(behind, self.gated(&block.mlp, self.norm(before, x)))
            }
            _ => {
                let x = x + seen;
                x.clone() + self.gated(&block.mlp, self.norm(&block.post_attention_layernorm, x))
            }
        }
    }

    fn gated(&self, mlp: &Mlp, x: Tensor<2>) -> Tensor<2> {
        let gate_up = joined([&mlp.gate_proj, &mlp.up_proj], self.lower(x));
        kernel::follow(mlp.down_proj.forward(kernel::gated(gate_up, self.config.gate)), DType::F32)
    }

    /// What a product reads, in the type that products are computed in; the residual stream is f32.
    fn lower(&self, x: Tensor<2>) -> Tensor<2> {
        kernel::follow(x, self.compute.dtype())
    }

    fn norm(&self, norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
        let weight = norm.weight.val();
        let weight = if self.config.model_type == Family::Gemma3 { weight.add_scalar(1.0) } else { weight };
        kernel::rms_norm(x, weight, self.config.rms_norm_eps)
    }

    fn check_length(&self, t: usize) -> Result<()> {
        let most = self.config.max_position_embeddings;
        if t > most {
            return Err(Error::failed(format!("a sequence of {t} tokens is longer than the model's {most} positions"))
                .hint("shorten the text (in training: `max_length`), or use fewer image tokens"));
        }
        Ok(())
    }
}

impl Block {
    /// The layers that adapters can be put on.
    fn projections(&mut self) -> [(&'static str, &mut Linear); 7] {
        let (attention, mlp) = (&mut self.self_attn, &mut self.mlp);
        [
            ("q_proj", &mut attention.q_proj),
            ("k_proj", &mut attention.k_proj),
            ("v_proj", &mut attention.v_proj),
            ("o_proj", &mut attention.o_proj),
            ("gate_proj", &mut mlp.gate_proj),
            ("up_proj", &mut mlp.up_proj),
            ("down_proj", &mut mlp.down_proj),
        ]
    }
}
