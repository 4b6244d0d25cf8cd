//! Attention with bf16 products and an f32 softmax, which writes the heads side by side as rows of bf16.
//!
//! The keys and values of each head are first packed (and the keys rotated). Then a task takes some queries of a head,
//! twelve at a time: scores, bias, softmax and weighted values stay in the cache.

use super::packed::{Line, PANEL, pack_panel};
use super::product::{Bf16Rows, Output};
use super::tile::{LeftTile, TILE_ROWS, tile};
use super::{round, rounded};
use crate::kernel::Strides;
use crate::kernel::attention::{Added, Angles, View, rotate};
use crate::kernel::simd::{exp, max, sum2, with_simd};
use crate::operands::{Bias, Rotation};
use burn::tensor::Tensor;
use half::bf16;
use rayon::prelude::*;

/// Maximum number of queries of a task.
const QUERIES: usize = 8 * TILE_ROWS;

/// Keys and values of all heads, packed as right operands.
struct Packed {
    keys: Vec<Line>,
    values: Vec<Line>,
    /// Lines of a panel of keys, `[channels / 2, 32 keys]`.
    key_panel: usize,
    /// Lines of a panel of values, `[keys / 2, 32 channels]`.
    value_panel: usize,
    /// Lines of the keys and of the values of a head.
    per_head: [usize; 2],
}

impl Packed {
    fn new(k: &View, v: &View, angles: Option<(&[f32], &[f32])>, [batch, heads, count, width]: [usize; 4]) -> Self {
        let (key_panel, value_panel) = (2 * width.div_ceil(2), 2 * count.div_ceil(2));
        let per_head = [count.div_ceil(PANEL) * key_panel, width.div_ceil(PANEL) * value_panel];
        let [mut keys, mut values] = per_head.map(|lines| vec![Line([0; 16]); batch * heads * lines]);
        let tasks = keys.par_chunks_mut(per_head[0]).zip(values.par_chunks_mut(per_head[1])).enumerate();
        tasks.for_each_init(Vec::new, |rotated: &mut Vec<f32>, (i, (keys, values))| {
            let (from, step) = (k.head(i / heads, i % heads), k.step());
            let (from, step) = match angles {
                None => (from, step),
                Some((cos, sin)) => {
                    rotated.resize(count * width, 0.0);
                    for (key, to) in rotated.chunks_exact_mut(width).enumerate() {
                        to.copy_from_slice(&from[key * step..][..width]);
                        rotate(to, &cos[key * width..][..width], &sin[key * width..][..width]);
                    }
                    (rotated.as_slice(), width)
                }
            };
            let by_key = Strides { rows: 1, columns: step };
            let (v_from, by_value) = (v.head(i / heads, i % heads), Strides::row_major(v.step()));
            with_simd(
                #[inline(always)]
                || {
                    for (panel, lines) in keys.chunks_exact_mut(key_panel).enumerate() {
                        let shape = [width, PANEL.min(count - panel * PANEL)];
                        pack_panel(&from[panel * PANEL * step..], by_key, shape, lines);
                    }
                    for (panel, lines) in values.chunks_exact_mut(value_panel).enumerate() {
                        let shape = [count, PANEL.min(width - panel * PANEL)];
                        pack_panel(&v_from[panel * PANEL..], by_value, shape, lines);
                    }
                },
            );
        });
        Self { keys, values, key_panel, value_panel, per_head }
    }

    /// The panels of the keys of a head.
    fn keys(&self, head: usize) -> impl Iterator<Item = &[Line]> {
        self.keys[head * self.per_head[0]..][..self.per_head[0]].chunks_exact(self.key_panel)
    }

    /// The panels of the values of a head.
    fn values(&self, head: usize) -> impl Iterator<Item = &[Line]> {
        self.values[head * self.per_head[1]..][..self.per_head[1]].chunks_exact(self.value_panel)
    }
}

/// What a task needs for twelve queries.
struct Buffers {
    queries: Vec<bf16>,
    scores: Vec<f32>,
    weights: Vec<bf16>,
    out: Vec<f32>,
    row: Vec<f32>,
}

/// Computes attention as [`crate::attention::attend`] does, in bf16: `[batch * queries, heads * head_dim]`. `None` for
/// differentiated tensors and other backends.
pub fn attention(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    bias: &Bias,
    rotation: Option<&Rotation>,
) -> Option<Bf16Rows> {
    let ([batch, heads, queries, width], [_, _, keys, _]) = (q.dims(), k.dims());
    if batch * heads * queries * keys * width == 0 || k.dims() != [batch, heads, keys, width] || v.dims() != k.dims() {
        return None;
    }
    let (q, k, v) = (View::of(q)?, View::of(k)?, View::of(v)?);
    let added = Added::of(bias, [batch, heads, queries, keys])?;
    let angles = Angles::of(rotation, [queries, keys, width])?;
    let angles = angles.slices();
    let packed = Packed::new(&k, &v, angles, [batch, heads, keys, width]);
    let scale = 1.0 / (width as f32).sqrt();

    let [row_of_keys, row_of_channels] = [keys, width].map(|n| n.next_multiple_of(PANEL));
    let [weights_step, queries_step] = [keys, width].map(Bf16Rows::stride);
    let parts = queries.div_ceil(QUERIES);
    let per_part = queries.div_ceil(parts).next_multiple_of(TILE_ROWS);
    let fill = |output: Output<'_, bf16>| {
        (0..batch * heads * parts).into_par_iter().for_each_init(
            || Buffers {
                queries: vec![bf16::ZERO; TILE_ROWS * queries_step],
                scores: vec![0.0; TILE_ROWS * row_of_keys],
                weights: vec![bf16::ZERO; TILE_ROWS * weights_step],
                out: vec![0.0; TILE_ROWS * row_of_channels],
                row: vec![0.0; width],
            },
            |buffers, task| {
                let (head, part) = (task / parts, task % parts);
                let (image, column) = (head / heads, head % heads * width);
                let from = q.head(image, head % heads);
                for first in (part * per_part..((part + 1) * per_part).min(queries)).step_by(TILE_ROWS) {
                    let count = TILE_ROWS.min(queries - first);
                    with_simd(
                        #[inline(always)]
                        || {
                            for (i, to) in buffers.queries.chunks_exact_mut(queries_step).take(count).enumerate() {
                                let query = first + i;
                                buffers.row.copy_from_slice(&from[query * q.step()..][..width]);
                                if let Some((cos, sin)) = angles {
                                    let at = query * width..(query + 1) * width;
                                    rotate(&mut buffers.row, &cos[at.clone()], &sin[at]);
                                }
                                for (to, x) in to.iter_mut().zip(&buffers.row) {
                                    *to = rounded(x * scale);
                                }
                            }
                        },
                    );
                    for (panel, lines) in packed.keys(head).enumerate() {
                        let out = &mut buffers.scores[panel * PANEL..];
                        tile(count, LeftTile::Rows(&buffers.queries, queries_step), lines, out, row_of_keys, false);
                    }
                    let mut sums = [0f32; TILE_ROWS];
                    with_simd(
                        #[inline(always)]
                        || {
                            let rows = buffers.scores.chunks_exact_mut(row_of_keys);
                            let rows = rows.zip(buffers.weights.chunks_exact_mut(weights_step)).take(count);
                            for (i, ((scores, weights), sum)) in rows.zip(&mut sums).enumerate() {
                                let scores = &mut scores[..keys];
                                added.add(scores, [image, head % heads, first + i], [heads, queries]);
                                *sum = exponentials(scores, weights);
                            }
                        },
                    );
                    for (panel, lines) in packed.values(head).enumerate() {
                        let out = &mut buffers.out[panel * PANEL..];
                        tile(count, LeftTile::Rows(&buffers.weights, weights_step), lines, out, row_of_channels, false);
                    }
                    with_simd(
                        #[inline(always)]
                        || {
                            let rows = buffers.out.chunks_exact_mut(row_of_channels).zip(&sums).take(count);
                            for (i, (row, sum)) in rows.enumerate() {
                                let row = &mut row[..width];
                                for x in row.iter_mut() {
                                    *x /= sum;
                                }
                                let to = image * queries + first + i;
                                // SAFETY: each query of each head is in one task.
                                round(row, unsafe { output.at(to, column..column + width) });
                            }
                        },
                    );
                }
            },
        );
    };
    // SAFETY: all queries of all heads are written.
    Some(unsafe { Bf16Rows::filled([batch * queries, heads * width], fill) })
}

/// Writes the exponentials of the scores, less their maximum, as bf16; returns their sum.
#[inline(always)]
fn exponentials(scores: &mut [f32], weights: &mut [bf16]) -> f32 {
    let most = max(scores);
    for (x, weight) in scores.iter_mut().zip(weights) {
        *x = exp(*x - most);
        *weight = rounded(*x);
    }
    sum2(scores, scores, |x, _| x)
}
