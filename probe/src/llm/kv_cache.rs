//! Keys and values of what was already read, so that each new token costs one position instead of all.

use burn::tensor::{Int, Tensor};

/// Keys (already rotated) and values of every layer: `[batch, kv_heads, slots, head_dim]` each.
///
/// A *slot* is a place in the cache, a *position* the angle a key was rotated by: with right padding the two
/// differ, which is why the caller passes positions and a bias that hides empty slots.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of slots filled (padding included).
    pub fn slots(&self) -> usize {
        self.layers.first().map_or(0, |(k, _)| k.dims()[2])
    }

    /// Appends keys and values to a layer and returns everything that layer has seen.
    pub(crate) fn append(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let full = match self.layers.get(layer) {
            Some((old_k, old_v)) => (Tensor::cat(vec![old_k.clone(), k], 2), Tensor::cat(vec![old_v.clone(), v], 2)),
            None => (k, v),
        };
        match self.layers.get_mut(layer) {
            Some(slot) => *slot = full.clone(),
            None => self.layers.push(full.clone()),
        }
        full
    }

    /// A cache whose row `i` is a copy of this cache's row `rows[i]`: one image's prefix for all its questions,
    /// or the rows that are not finished yet.
    ///
    /// `rows`: `[n]`, each below the batch size.
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        let pick = |t: &Tensor<4>| t.clone().select(0, rows.clone());
        Self { layers: self.layers.iter().map(|(k, v)| (pick(k), pick(v))).collect() }
    }
}
