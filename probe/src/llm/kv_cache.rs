//! Key/value cache: keys and values of earlier tokens, so that a new token needs one position of computation instead of
//! the whole sequence.

use super::kernel::{self, AttentionSpec, CachedRows};
use super::rope::Rope;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::cell::{OnceCell, RefCell};

/// Keys (already rotated) and values of every layer, for a batch of sequences of different lengths.
///
/// On the CPU backend, each row stores only its own tokens. On other backends all rows have the same number of
/// *slots*: each step adds one slot per token of the longest row, and slots of padding are masked for all later tokens.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    rows: Vec<CachedSequence>,
    /// The embeddings read so far, `[batch, t, d]` each, as long as the model may have to recompute them.
    inputs: Vec<Tensor<3>>,
    /// Whether a connector changed the hidden states between the blocks, so that `inputs` alone cannot reproduce them.
    changed: bool,
}

// A model has only some dozens of layers, so the size of the variants does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
enum LayerCache {
    /// Keys and values, `[batch, kv_heads, slots, head_dim]` each.
    Tensors(Tensor<4>, Tensor<4>),
    /// Keys and values of each row, on the CPU backend.
    Rows(CachedRows),
}

/// The cached tokens of one sequence.
#[derive(Debug, Clone, Default)]
struct CachedSequence {
    /// Position of the sequence's next token.
    next: usize,
    /// Position of the token in each slot; `None` for padding.
    slots: Vec<Option<usize>>,
}

/// Positions and masks of the new tokens of one step, shared by all layers.
pub(crate) struct CacheStep {
    /// Position of each new token, `[batch][t]`.
    pub positions: Vec<Vec<usize>>,
    /// Number of real tokens (not padding) in each row.
    real: Vec<usize>,
    /// Number of slots before this step.
    before: usize,
    /// Attention biases by window size, so that each is built once and not per layer.
    biases: RefCell<Vec<(Option<usize>, Tensor<4>)>>,
}

impl KvCache {
    /// Creates an empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of real tokens in each row.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|r| r.next).collect()
    }

    /// Returns whether some non-empty row grows past `switch` positions when row `r` gets `real[r]` new tokens.
    /// `switch` is the length at which the rotary angles change ([`RopeScaling::length_switch`]).
    ///
    /// [`RopeScaling::length_switch`]: super::rope::RopeScaling::length_switch
    pub(crate) fn grows_past(&self, switch: usize, real: &[usize]) -> bool {
        self.rows.iter().zip(real).any(|(row, real)| row.next > 0 && row.next <= switch && row.next + real > switch)
    }

    /// Stores embeddings `[batch, t, d]`, of which the first `real[r]` of row `r` are real, so that the cache can be
    /// recomputed when a row grows past `switch` positions. Once all rows are longer than that, nothing is stored.
    /// `changed` says that a connector changes the hidden states between the blocks.
    pub(crate) fn keep_inputs(&mut self, embeddings: &Tensor<3>, real: &[usize], switch: usize, changed: bool) {
        let before = |row: usize| self.rows.get(row).map_or(0, |row| row.next);
        if real.iter().enumerate().all(|(row, real)| before(row) + real > switch) {
            self.inputs.clear();
        } else {
            self.inputs.push(embeddings.clone());
        }
        self.changed |= changed;
    }

    /// Returns all stored embeddings followed by `embeddings`, `[batch, t, d]`, and the indices of each row's real
    /// tokens; `None` if the cache cannot be recomputed from them.
    pub(crate) fn history(&self, embeddings: Tensor<3>, real: &[usize]) -> Option<(Tensor<3>, Vec<Vec<usize>>)> {
        if self.changed || self.rows.len() != real.len() || self.inputs.is_empty() {
            return None;
        }
        let slots = self.inputs.iter().map(|t| t.dims()[1]).sum::<usize>();
        let indices = self.rows.iter().zip(real).map(|(row, real)| {
            let old = row.slots.iter().enumerate().filter(|(_, position)| position.is_some()).map(|(slot, _)| slot);
            old.chain(slots..slots + real).collect()
        });
        let indices = indices.collect();
        let all = self.inputs.iter().cloned().chain([embeddings]).collect();
        Some((Tensor::cat(all, 1), indices))
    }

    /// Registers `t` new tokens per row, of which the first `real[r]` are real.
    pub(crate) fn begin(&mut self, real: &[usize], t: usize) -> Result<CacheStep> {
        if self.rows.is_empty() {
            self.rows = vec![CachedSequence::default(); real.len()];
        }
        if self.rows.len() != real.len() || real.iter().any(|n| *n > t) {
            return Err(Error::failed(format!(
                "a step of {} rows with {real:?} tokens in {t} positions does not fit a cache of {} rows",
                real.len(),
                self.rows.len()
            )));
        }
        let before = self.rows.first().map_or(0, |r| r.slots.len());
        let mut positions = Vec::with_capacity(real.len());
        for (row, &n) in self.rows.iter_mut().zip(real) {
            // Padding keeps the last position; its output is not used.
            let last = (row.next + n).saturating_sub(1);
            positions.push((0..t).map(|i| (row.next + i).min(last)).collect());
            row.slots.extend((0..t).map(|i| (i < n).then_some(row.next + i)));
            row.next += n;
        }
        Ok(CacheStep { positions, real: real.to_vec(), before, biases: RefCell::default() })
    }

    /// Appends one layer's keys and values; returns the attention output of the new tokens,
    /// `[batch · t, heads · head_dim]`.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        qkv: Tensor<2>,
        rope: &Rope,
        s: AttentionSpec,
        step: &CacheStep,
    ) -> Result<Tensor<2>> {
        if self.layers.len() == layer
            && step.before == 0
            && let Some(rows) = CachedRows::of(&qkv, s)
        {
            self.layers.push(LayerCache::Rows(rows));
        }
        if let Some(LayerCache::Rows(rows)) = self.layers.get_mut(layer) {
            return rows
                .attend(&qkv, rope, s, &step.real)
                .ok_or_else(|| Error::failed("the cache was filled by another model or on another device"));
        }
        let device = qkv.device();
        let (q, k, v) = kernel::portable::split_qkv(qkv, rope, s);
        let (k, v) = match self.layers.get(layer) {
            Some(LayerCache::Tensors(old_k, old_v)) => {
                (Tensor::cat(vec![old_k.clone(), k], 2), Tensor::cat(vec![old_v.clone(), v], 2))
            }
            _ => (k, v),
        };
        let full = LayerCache::Tensors(k.clone(), v.clone());
        match self.layers.get_mut(layer) {
            Some(slot) => *slot = full,
            None => self.layers.push(full),
        }
        // In the first step padding is on the right: no real token attends to it, and its own output is not used.
        if step.before == 0 && s.softcap.is_none() && s.window.is_none_or(|window| window >= s.tokens) {
            return Ok(kernel::attend_causal(q, k, v, s.scale));
        }
        Ok(kernel::attend(q, k, v, Some(self.bias_once(s, step, &device)), s))
    }

    /// Returns the attention bias of this step for the window of `s`, which is built on first use.
    fn bias_once(&self, s: AttentionSpec, step: &CacheStep, device: &Device) -> Tensor<4> {
        let mut made = step.biases.borrow_mut();
        if let Some((_, bias)) = made.iter().find(|(window, _)| *window == s.window) {
            return bias.clone();
        }
        let bias = self.bias(s, step, device);
        made.push((s.window, bias.clone()));
        bias
    }

    /// Returns the additive attention bias `[batch, 1, t, slots]`: 0 where a new token attends to a slot, else −∞.
    fn bias(&self, s: AttentionSpec, step: &CacheStep, device: &Device) -> Tensor<4> {
        let slots = step.before + s.tokens;
        let mut values = Vec::with_capacity(s.batch * s.tokens * slots);
        for (row, positions) in self.rows.iter().zip(&step.positions) {
            for (i, &position) in positions.iter().enumerate() {
                let own = step.before + i;
                let first = s.first_key(position);
                // Padding attends to itself, so that its row of scores is not empty.
                let attended =
                    |(slot, at): (usize, &Option<usize>)| slot == own || slot < own && at.is_some_and(|p| p >= first);
                values.extend(
                    row.slots.iter().enumerate().map(|slot| if attended(slot) { 0.0 } else { f32::NEG_INFINITY }),
                );
            }
        }
        transfer::to_device(TensorData::new(values, [s.batch, 1, s.tokens, slots]), device)
    }

    /// Returns a cache whose row `i` is a copy of this cache's row `rows[i]`. This repeats one image's prefix for all
    /// its questions, or keeps only the unfinished rows.
    ///
    /// `kv` is the number of key/value heads of the model.
    pub fn select(&self, rows: &[usize], kv: usize) -> Self {
        // All layers share one index on the device; the rows of the CPU backend need none.
        let made: OnceCell<Tensor<1, Int>> = OnceCell::new();
        let index = |device: &Device| {
            let make = || {
                let index: Vec<i32> = rows.iter().map(|&r| r as i32).collect();
                transfer::to_device(TensorData::new(index, [rows.len()]), device)
            };
            made.get_or_init(make).clone()
        };
        let pick = |t: &Tensor<4>| t.clone().select(0, index(&t.device()));
        let layers = self.layers.iter().map(|layer| match layer {
            LayerCache::Tensors(k, v) => LayerCache::Tensors(pick(k), pick(v)),
            LayerCache::Rows(own) => LayerCache::Rows(own.select(rows, kv)),
        });
        Self {
            layers: layers.collect(),
            rows: rows.iter().map(|&r| self.rows.get(r).cloned().unwrap_or_default()).collect(),
            inputs: self.inputs.iter().map(|t| t.clone().select(0, index(&t.device()))).collect(),
            changed: self.changed,
        }
    }
}
