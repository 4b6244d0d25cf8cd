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
    /// Whether caches were joined, so that `inputs` does not hold the embeddings of all rows and none are stored.
    joined: bool,
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
        if self.joined {
            return;
        }
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
        if self.changed || self.joined || self.rows.len() != real.len() || self.inputs.is_empty() {
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
            joined: self.joined,
        }
    }

    /// Returns a cache with the rows of all `parts`, in their order.
    ///
    /// The parts may differ in length. On other backends than the CPU backend, slots are padded to the longest part.
    /// Embeddings for recomputing rows are not kept: if a row of a joined cache grows past the length at which the
    /// model's rotary angles change (LongRoPE), [`Llm::extend`](super::Llm::extend) returns an error.
    ///
    /// # Errors
    /// When a part is empty, or the parts belong to different models or devices.
    pub fn join(parts: Vec<Self>) -> Result<Self> {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        let rest: Vec<Self> = parts.collect();
        if rest.is_empty() {
            return Ok(whole);
        }
        let differ = || Error::failed("caches of different models or devices, or empty ones, cannot be joined");
        if whole.layers.is_empty() || rest.iter().any(|part| part.layers.len() != whole.layers.len()) {
            return Err(differ());
        }
        let slots = |cache: &Self| cache.rows.first().map_or(0, |row| row.slots.len());
        let longest = rest.iter().chain([&whole]).map(slots).max().unwrap_or(0);
        let mut layers: Vec<Vec<LayerCache>> = whole.layers.into_iter().map(|layer| vec![layer]).collect();
        whole.rows.iter_mut().for_each(|row| row.slots.resize(longest, None));
        for mut part in rest {
            layers.iter_mut().zip(part.layers).for_each(|(parts, layer)| parts.push(layer));
            part.rows.iter_mut().for_each(|row| row.slots.resize(longest, None));
            whole.rows.append(&mut part.rows);
            whole.changed |= part.changed;
        }
        let layers = layers.into_iter().map(|parts| LayerCache::join(parts, longest).ok_or_else(differ));
        let joined = Self {
            layers: layers.collect::<Result<_>>()?,
            rows: whole.rows,
            inputs: Vec::new(),
            changed: whole.changed,
            joined: true,
        };
        Ok(joined.compact())
    }

    /// Returns this joined cache without slots of padding if there are more than 1.5 times as many slots as the longest
    /// row needs. Without this, a batch that rows join and leave would grow without end.
    fn compact(mut self) -> Self {
        let (slots, longest) = (self.rows.first().map_or(0, |row| row.slots.len()), self.lengths().into_iter().max());
        let longest = longest.unwrap_or(0);
        if 2 * slots <= 3 * longest {
            return self;
        }
        let used = |row: &CachedSequence| -> Vec<usize> {
            row.slots.iter().enumerate().filter(|(_, position)| position.is_some()).map(|(slot, _)| slot).collect()
        };
        let used: Vec<Vec<usize>> = self.rows.iter().map(used).collect();
        let index: Vec<i32> = used
            .iter()
            .enumerate()
            .flat_map(|(row, used)| {
                // Padding repeats the row's first slot; it is masked.
                (0..longest).map(move |i| (row * slots + used.get(i).or(used.first()).copied().unwrap_or(0)) as i32)
            })
            .collect();
        let count = index.len();
        let made: OnceCell<Tensor<1, Int>> = OnceCell::new();
        let pick = |t: Tensor<4>| {
            let [b, kv, _, w] = t.dims();
            let index = made.get_or_init(|| transfer::to_device(TensorData::new(index.clone(), [count]), &t.device()));
            let rows = t.swap_dims(1, 2).reshape([b * slots, kv * w]).select(0, index.clone());
            rows.reshape([b, longest, kv, w]).swap_dims(1, 2)
        };
        self.layers = std::mem::take(&mut self.layers)
            .into_iter()
            .map(|layer| match layer {
                LayerCache::Tensors(k, v) => LayerCache::Tensors(pick(k), pick(v)),
                rows @ LayerCache::Rows(_) => rows,
            })
            .collect();
        for row in &mut self.rows {
            row.slots.retain(Option::is_some);
            row.slots.resize(longest, None);
        }
        self
    }

    /// Returns the number of bytes of keys, values and stored embeddings.
    pub fn bytes(&self) -> usize {
        let of = |shape: &[usize], dtype: burn::tensor::DType| shape.iter().product::<usize>() * dtype.size();
        let layers = self.layers.iter().map(|layer| match layer {
            LayerCache::Tensors(k, v) => of(&k.dims(), k.dtype()) + of(&v.dims(), v.dtype()),
            LayerCache::Rows(rows) => rows.bytes(),
        });
        layers.sum::<usize>() + self.inputs.iter().map(|t| of(&t.dims(), t.dtype())).sum::<usize>()
    }
}

impl LayerCache {
    /// Joins the rows of several caches of one layer; tensors are padded to `slots`. `None` if they differ in kind or
    /// shape.
    fn join(parts: Vec<Self>, slots: usize) -> Option<Self> {
        let mut parts = parts.into_iter();
        match parts.next()? {
            Self::Rows(mut rows) => {
                for part in parts {
                    let Self::Rows(more) = part else { return None };
                    rows.append(more);
                }
                Some(Self::Rows(rows))
            }
            Self::Tensors(k, v) => {
                let [_, heads, _, width] = k.dims();
                let (mut keys, mut values) = (vec![k], vec![v]);
                for part in parts {
                    let Self::Tensors(k, v) = part else { return None };
                    if k.dims()[1] != heads || k.dims()[3] != width || k.device() != v.device() {
                        return None;
                    }
                    keys.push(k);
                    values.push(v);
                }
                let padded = |t: Tensor<4>| {
                    let [b, heads, own, width] = t.dims();
                    if own == slots {
                        return t;
                    }
                    // Padding is masked; zeros keep its products finite.
                    let zeros = Tensor::<4>::zeros([b, heads, slots - own, width], (&t.device(), t.dtype()));
                    Tensor::cat(vec![t, zeros], 2)
                };
                let [keys, values] =
                    [keys, values].map(|all| Tensor::cat(all.into_iter().map(padded).collect::<Vec<_>>(), 0));
                Some(Self::Tensors(keys, values))
            }
        }
    }
}
