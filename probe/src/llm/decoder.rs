//! The LLaMA decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU (arXiv 2302.13971, 2307.09288).
//!
//! Module paths are those of `transformers`' `LlamaForCausalLM`, so a checkpoint's keys are the parameters' names:
//! `model.embed_tokens.weight`, `model.layers.0.self_attn.q_proj.weight`, …, `model.norm.weight`, `lm_head.weight`
//! (absent when the head is tied to the embeddings).

use super::config::LlamaConfig;
use super::kernel::{self, Heads};
use super::kv_cache::KvCache;
use super::rope::Rope;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::module::linear;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A language model: token embeddings, decoder, output head.
#[derive(Module, Debug)]
pub struct Llama {
    /// Everything before the head.
    pub model: LlamaModel,
    /// The head, unless tied to the embeddings.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: LlamaConfig,
}

/// Embeddings, blocks and the final norm.
#[derive(Module, Debug)]
pub struct LlamaModel {
    /// `[vocab_size, hidden_size]`.
    pub embed_tokens: Embedding,
    /// The decoder blocks, first to last.
    pub layers: Vec<Block>,
    /// Norm after the last block.
    pub norm: RmsNorm,
}

/// One decoder block: attention and SwiGLU, each behind a norm and around a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Grouped-query attention.
    pub self_attn: SelfAttention,
    /// The gated layer.
    pub mlp: Mlp,
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Norm before the gated layer.
    pub post_attention_layernorm: RmsNorm,
}

/// Projections of grouped-query attention, all without bias.
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
    /// `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
}

/// Where the tokens of a [`Llama::extend`] call stand.
pub struct Placement<'a> {
    /// Position of each new token: one list of equal length per row, or one list for all rows.
    pub positions: &'a [&'a [usize]],
    /// `[rows or 1, 1, new tokens, slots after the call]`: 0 where a token sees a slot, −∞ where not.
    pub bias: Option<Tensor<4>>,
}

impl LlamaConfig {
    /// A model with freshly drawn weights (normal with [`LlamaConfig::initializer_range`], norms one).
    ///
    /// The draws here come from Burn's own generator; callers that need reproducible weights follow with
    /// `burgess_encoders::init::initialise`.
    ///
    /// # Errors
    /// When the configuration fails [`LlamaConfig::check`].
    pub fn init(&self, device: &Device) -> Result<Llama> {
        self.check()?;
        let normal = Initializer::Normal { mean: 0.0, std: self.initializer_range };
        let d = self.hidden_size;
        let w = self.head_width();
        let lin =
            |i: usize, o: usize| LinearConfig::new(i, o).with_bias(false).with_initializer(normal.clone()).init(device);
        let norm = || RmsNorm { weight: Initializer::Ones.init([d], device) };
        let block = || Block {
            self_attn: SelfAttention {
                q_proj: lin(d, self.num_attention_heads * w),
                k_proj: lin(d, self.kv_heads() * w),
                v_proj: lin(d, self.kv_heads() * w),
                o_proj: lin(self.num_attention_heads * w, d),
            },
            mlp: Mlp {
                gate_proj: lin(d, self.intermediate_size),
                up_proj: lin(d, self.intermediate_size),
                down_proj: lin(self.intermediate_size, d),
            },
            input_layernorm: norm(),
            post_attention_layernorm: norm(),
        };
        Ok(Llama {
            model: LlamaModel {
                embed_tokens: EmbeddingConfig::new(self.vocab_size, d).with_initializer(normal.clone()).init(device),
                layers: (0..self.num_hidden_layers).map(|_| block()).collect(),
                norm: norm(),
            },
            lm_head: (!self.tie_word_embeddings).then(|| lin(d, self.vocab_size)),
            config: self.clone(),
        })
    }
}

impl Llama {
    /// The configuration this model was made from.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Token embeddings: `ids` `[b, t]` → `[b, t, hidden_size]`.
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.model.embed_tokens.forward(ids)
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
        let [b, t, d] = embeddings.dims();
        self.check_length(t)?;
        let heads = self.heads(b, t);
        let rope = Rope::range(t, heads.width, self.config.rope_theta, &embeddings.device());
        let mut x = embeddings.reshape([b * t, d]);
        for block in &self.model.layers {
            let qkv = block.self_attn.project(self.norm(&block.input_layernorm, x.clone()));
            x = x + block.self_attn.output(kernel::causal_attention(qkv, &rope, heads));
            x = x.clone() + block.mlp.forward(self.norm(&block.post_attention_layernorm, x));
        }
        Ok(self.norm(&self.model.norm, x).reshape([b, t, d]))
    }

    /// Reads `embeddings` `[b, t, d]` after what `cache` holds, appends their keys and values to it, and returns
    /// `[b, t, d]` after the final norm.
    ///
    /// # Errors
    /// When a position reaches `max_position_embeddings`.
    pub fn extend(&self, embeddings: Tensor<3>, place: &Placement, cache: &mut KvCache) -> Result<Tensor<3>> {
        let [b, t, d] = embeddings.dims();
        let last = place.positions.iter().flat_map(|r| r.iter()).max().copied().unwrap_or(0);
        self.check_length(last + 1)?;
        let heads = self.heads(b, t);
        let rope = Rope::at(place.positions, heads.width, self.config.rope_theta, &embeddings.device());
        let mut x = embeddings.reshape([b * t, d]);
        for (i, block) in self.model.layers.iter().enumerate() {
            let qkv = block.self_attn.project(self.norm(&block.input_layernorm, x.clone()));
            let (q, k, v) = kernel::portable::split(qkv, &rope, heads);
            let (k, v) = cache.append(i, k, v);
            x = x + block.self_attn.output(kernel::attend(q, k, v, place.bias.clone()));
            x = x.clone() + block.mlp.forward(self.norm(&block.post_attention_layernorm, x));
        }
        Ok(self.norm(&self.model.norm, x).reshape([b, t, d]))
    }

    /// Scores over the vocabulary: `hidden` `[n, d]` → `[n, vocab_size]`. Ask only for the positions that need it.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => hidden.matmul(self.model.embed_tokens.weight.val().transpose()),
        }
    }

    fn heads(&self, batch: usize, tokens: usize) -> Heads {
        Heads {
            batch,
            tokens,
            query: self.config.num_attention_heads,
            kv: self.config.kv_heads(),
            width: self.config.head_width(),
        }
    }

    fn norm(&self, norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
        kernel::rms_norm(x, norm.weight.val(), self.config.rms_norm_eps)
    }

    fn check_length(&self, t: usize) -> Result<()> {
        let most = self.config.max_position_embeddings;
        if t > most {
            return Err(Error::failed(format!("a sequence of {t} tokens is longer than the model's {most} positions"))
                .hint("shorten the text, or use fewer image tokens"));
        }
        Ok(())
    }
}

impl SelfAttention {
    /// Queries, keys and values side by side. One product with the joined weights reads `x` once instead of three
    /// times, and its gradient is one product too; joining costs a copy of the weights, small beside the batch.
    fn project(&self, x: Tensor<2>) -> Tensor<2> {
        let joined = vec![self.q_proj.weight.val(), self.k_proj.weight.val(), self.v_proj.weight.val()];
        linear(x, Tensor::cat(joined, 1), None)
    }

    fn output(&self, x: Tensor<2>) -> Tensor<2> {
        self.o_proj.forward(x)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let joined = vec![self.gate_proj.weight.val(), self.up_proj.weight.val()];
        self.down_proj.forward(kernel::swiglu(linear(x, Tensor::cat(joined, 1), None)))
    }
}
