//! Attention of new tokens to themselves and to cached tokens, separately for each row.
//!
//! Each row stores keys and values of its own real tokens only, contiguously, so padding takes no cache slot and a
//! row's results do not depend on the other rows of the batch.

use super::attention::{ScoreBlock, masked_softmax, product, rotate};
use super::{Input, slice, tensor};
use crate::llm::kernel::AttentionSpec;
use crate::llm::rope::Rope;
use burgess_encoders::kernel::simd::{sum2, with_simd};
use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Number of queries per block.
const BLOCK: usize = 32;

/// Keys (already rotated) and values of one layer: for each row and each key/value head, `[tokens, width]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedRows {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl CachedRows {
    /// An empty cache for one layer; `None` if the tensor is tracked by autodiff or belongs to another backend.
    pub(crate) fn of(qkv: &Tensor<2>, s: AttentionSpec) -> Option<Self> {
        match Input::of(qkv)? {
            Input::Plain(_) => {
                let empty = vec![Vec::new(); s.batch * s.kv];
                Some(Self { keys: empty.clone(), values: empty })
            }
            Input::Tracked(_) => None,
        }
    }

    /// Appends the first `real[r]` tokens of each row and returns their attention output, `[batch · tokens, query ·
    /// width]`; padding gets zeros.
    pub(crate) fn attend(
        &mut self,
        qkv: &Tensor<2>,
        rope: &Rope,
        s: AttentionSpec,
        real: &[usize],
    ) -> Option<Tensor<2>> {
        let input = Input::of(qkv)?.values();
        let [cos, sin] = [Input::of(&rope.cos)?.values(), Input::of(&rope.sin)?.values()];
        let (x, cos, sin) = (slice(&input), slice(&cos), slice(&sin));
        let (rows, half) = (rope.cos.dims()[0], rope.cos.dims()[2]);
        let (t, w, columns) = (s.tokens, s.width, s.columns());
        let fits = self.keys.len() == s.batch * s.kv && real.len() == s.batch && real.iter().all(|n| *n <= t);
        if !fits || x.len() != s.batch * t * columns || (rows != 1 && rows != s.batch) || 2 * half > w || w * t == 0 {
            return None;
        }
        let angles = |row: usize, i: usize| {
            let at = (if rows == 1 { i } else { row * t + i }) * half;
            (&cos[at..at + half], &sin[at..at + half])
        };
        let place = |row: usize, i: usize, head: usize| {
            let at = (row * t + i) * columns + head * w;
            &x[at..at + w]
        };
        self.keys.par_iter_mut().zip(&mut self.values).enumerate().for_each(|(at, (keys, values))| {
            let (row, kv) = (at / s.kv, at % s.kv);
            for i in 0..real[row] {
                let start = keys.len();
                keys.resize(start + w, 0.0);
                let (cos, sin) = angles(row, i);
                rotate(place(row, i, s.query + kv), cos, sin, 1.0, s.interleaved, &mut keys[start..]);
                values.extend_from_slice(place(row, i, s.query + s.kv + kv));
            }
        });
        // One task per row and query head.
        let mut heads = vec![0f32; s.batch * s.query * t * w];
        heads.par_chunks_mut(t * w).enumerate().for_each(|(at, out)| {
            let (row, head) = (at / s.query, at % s.query);
            let cached = row * s.kv + head / s.group();
            let (keys, values) = (&self.keys[cached], &self.values[cached]);
            with_simd(
                #[inline(always)]
                || {
                    let old = keys.len() / w - real[row];
                    let (mut q, mut p) = (vec![0f32; BLOCK.min(real[row]) * w], Vec::new());
                    for from in (0..real[row]).step_by(BLOCK) {
                        let n = BLOCK.min(real[row] - from);
                        for (i, q) in q.chunks_exact_mut(w).take(n).enumerate() {
                            let (cos, sin) = angles(row, from + i);
                            rotate(place(row, from + i, head), cos, sin, s.scale as f32, s.interleaved, q);
                        }
                        let (first, last) = (old + from, old + from + n);
                        let block = ScoreBlock { first: s.first_key(first), from: first, to: last };
                        let count = last - block.first;
                        let span = block.first * w..last * w;
                        p.resize(n * count, 0.0);
                        let (keys, values) = (&keys[span.clone()], &values[span]);
                        let out = &mut out[from * w..(from + n) * w];
                        if n == 1 {
                            // One query, as in decoding, has no use for the blocks of a matrix product.
                            for (score, key) in p.iter_mut().zip(keys.chunks_exact(w)) {
                                *score = sum2(&q[..w], key, |a, b| a * b);
                            }
                            masked_softmax(&mut p, block, s, None);
                            for (weight, value) in p.iter().zip(values.chunks_exact(w)) {
                                out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
                            }
                            continue;
                        }
                        product(&mut p, &q[..n * w], keys, [n, count, w], [w, 1], [1, w], false);
                        masked_softmax(&mut p, block, s, None);
                        product(out, &p, values, [n, w, count], [count, 1], [w, 1], false);
                    }
                },
            );
        });
        // Transpose from one head after another to all heads of a token side by side.
        let mut out = vec![0f32; heads.len()];
        out.par_chunks_mut(s.query * w).enumerate().for_each(|(at, out)| {
            let (row, i) = (at / t, at % t);
            for (head, out) in out.chunks_exact_mut(w).enumerate() {
                let at = ((row * s.query + head) * t + i) * w;
                out.copy_from_slice(&heads[at..at + w]);
            }
        });
        Some(Tensor::from_primitive::<Flex>(tensor(out, [s.batch * t, s.query * w])))
    }

    /// A cache with copies of the given rows, in this order; `kv` is the number of key/value heads.
    pub(crate) fn select(&self, rows: &[usize], kv: usize) -> Self {
        let pick = |all: &[Vec<f32>]| {
            let heads = rows.iter().flat_map(|r| r * kv..(r + 1) * kv);
            heads.map(|at| all.get(at).cloned().unwrap_or_default()).collect()
        };
        Self { keys: pick(&self.keys), values: pick(&self.values) }
    }

    /// Appends the rows of another cache of the same layer.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.keys.append(&mut other.keys);
        self.values.append(&mut other.values);
    }

    /// Number of bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(|head| head.len() * size_of::<f32>()).sum()
    }
}
