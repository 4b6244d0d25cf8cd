//! Attention on `flex` that reads queries, keys and values without copying and writes the heads side by side.
//!
//! The keys of each head are first transposed, scaled (and rotated). Then each block of queries of one image is a task:
//! for each head it computes scores, bias, softmax and weighted values into the head's columns of the output. The
//! scores of a block stay in the cache, and no result depends on the number of images in the batch.

use super::product::{Matrix, Strides, product};
use super::simd::{exp, max, sum2, with_simd};
use super::{plain, slice, tensor};
use crate::operands::{Bias, Rotation};
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Maximum number of scores of a block of queries with one head's keys: 256 KiB.
const BLOCK_SCORES: usize = 64 * 1024;
/// Maximum number of queries in a block.
const BLOCK: usize = 64;

/// A view of `[batch, heads, tokens, head_dim]` with any strides, except that channels are contiguous.
pub(super) struct View {
    held: FlexTensor,
    offset: usize,
    /// Strides of batch, heads and tokens.
    strides: [usize; 3],
}

impl View {
    pub(super) fn of(tensor: &Tensor<4>) -> Option<Self> {
        let held = plain(tensor)?;
        let readable = |t: &FlexTensor| {
            let strides = t.layout().strides();
            strides.last() == Some(&1) && strides.iter().all(|s| *s >= 0)
        };
        let held = if readable(&held) { held } else { held.to_contiguous() };
        let strides: Vec<usize> = held.layout().strides().iter().filter_map(|s| usize::try_from(*s).ok()).collect();
        let [b, h, t, 1] = strides[..] else { return None };
        let view = Self { offset: held.layout().start_offset(), strides: [b, h, t], held };
        let [batch, heads, tokens, channels] = tensor.dims();
        let last = (batch - 1) * b + (heads - 1) * h + (tokens - 1) * t + channels - 1;
        (view.offset + last < view.held.storage::<f32>().len()).then_some(view)
    }

    /// The storage from the first element of one head on.
    pub(super) fn head(&self, batch: usize, head: usize) -> &[f32] {
        let from = self.offset + batch * self.strides[0] + head * self.strides[1];
        self.held.storage::<f32>().get(from..).unwrap_or_default()
    }

    pub(super) fn step(&self) -> usize {
        self.strides[2]
    }
}

/// A bias added to the scores, in its own memory layout.
pub(super) enum Added {
    Nothing,
    /// A bias per query and key, with the strides of batch and head (0 where it is broadcast).
    Full(FlexTensor, [usize; 2]),
    /// A bias by axis, `[batch, heads, queries, rows]` and `[.., columns]`, contiguous, with rows and columns.
    ByAxis(FlexTensor, FlexTensor, [usize; 2]),
}

impl Added {
    pub(super) fn of(bias: &Bias, [batch, heads, queries, keys]: [usize; 4]) -> Option<Self> {
        match bias {
            Bias::None => Some(Self::Nothing),
            Bias::Full(bias) => {
                let [b, h, q, k] = bias.dims();
                if ![1, batch].contains(&b) || ![1, heads].contains(&h) || [q, k] != [queries, keys] {
                    return None;
                }
                let step = |n: usize, size: usize| if n == 1 { 0 } else { size };
                Some(Self::Full(plain(bias)?.to_contiguous(), [step(b, h * q * k), step(h, q * k)]))
            }
            Bias::ByAxis { down, across } => {
                let ([_, _, _, rows], [_, _, _, columns]) = (down.dims(), across.dims());
                let whole = |n| [batch, heads, queries, n];
                if down.dims() != whole(rows) || across.dims() != whole(columns) || rows * columns != keys {
                    return None;
                }
                Some(Self::ByAxis(plain(down)?.to_contiguous(), plain(across)?.to_contiguous(), [rows, columns]))
            }
        }
    }

    /// Adds the bias of query `query` of head `head` (of `heads`) of image `batch` to its scores.
    #[inline(always)]
    pub(super) fn add(&self, scores: &mut [f32], [batch, head, query]: [usize; 3], [heads, queries]: [usize; 2]) {
        match self {
            Self::Nothing => {}
            Self::Full(bias, [b, h]) => {
                let from = batch * b + head * h + query * scores.len();
                for (s, b) in scores.iter_mut().zip(slice(bias).get(from..).unwrap_or_default()) {
                    *s += b;
                }
            }
            Self::ByAxis(down, across, [rows, columns]) => {
                let place = (batch * heads + head) * queries + query;
                let down = slice(down).get(place * rows..(place + 1) * rows).unwrap_or_default();
                let across = slice(across).get(place * columns..(place + 1) * columns).unwrap_or_default();
                for (scores, d) in scores.chunks_exact_mut(*columns).zip(down) {
                    for (s, a) in scores.iter_mut().zip(across) {
                        *s += d + a;
                    }
                }
            }
        }
    }
}

/// The cosines and sines of a rotation, contiguous, if there is one.
pub(super) struct Angles(Option<(FlexTensor, FlexTensor)>);

impl Angles {
    /// Reads a rotation of queries and keys; `None` if it has another shape or is not plain.
    pub(super) fn of(rotation: Option<&Rotation>, [queries, keys, width]: [usize; 3]) -> Option<Self> {
        let Some(r) = rotation else { return Some(Self(None)) };
        if r.cos.dims() != [queries, width] || r.sin.dims() != [queries, width] || queries != keys {
            return None;
        }
        Some(Self(Some((plain(&r.cos)?.to_contiguous(), plain(&r.sin)?.to_contiguous()))))
    }

    /// The cosines and sines, `[tokens, head_dim]` each.
    pub(super) fn slices(&self) -> Option<(&[f32], &[f32])> {
        self.0.as_ref().map(|(cos, sin)| (slice(cos), slice(sin)))
    }
}

/// Computes [`crate::attention::attend`] on `flex`; `None` for other backends, differentiated or ill-shaped tensors.
pub fn attention(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    bias: &Bias,
    rotation: Option<&Rotation>,
) -> Option<Tensor<3>> {
    let ([batch, heads, queries, width], [_, _, keys, _]) = (q.dims(), k.dims());
    if batch * heads * queries * keys * width == 0 || k.dims() != [batch, heads, keys, width] || v.dims() != k.dims() {
        return None;
    }
    let (q, k, v) = (View::of(q)?, View::of(k)?, View::of(v)?);
    let added = Added::of(bias, [batch, heads, queries, keys])?;
    let angles = Angles::of(rotation, [queries, keys, width])?;
    let angles = angles.slices();

    // The transposed keys, `[batch * heads, width, keys]`.
    let scale = 1.0 / (width as f32).sqrt();
    let mut turned = vec![0f32; batch * heads * width * keys];
    turned.par_chunks_mut(width * keys).enumerate().for_each_init(
        || vec![0f32; width],
        |row, (i, out)| {
            let from = k.head(i / heads, i % heads);
            with_simd(
                #[inline(always)]
                || turn(from, k.step(), angles, scale, row, out),
            );
        },
    );

    let blocks = queries.div_ceil((BLOCK_SCORES / keys).clamp(8, BLOCK));
    let rows = queries.div_ceil(blocks);
    let columns = heads * width;
    let mut out = vec![0f32; batch * queries * columns];
    let tasks = out.par_chunks_mut(queries * columns).enumerate().flat_map(|(b, image)| {
        image.par_chunks_mut(rows * columns).enumerate().map(move |(block, out)| (b, block * rows, out))
    });
    tasks.for_each_init(
        || (vec![0f32; rows * keys], vec![0f32; rows * width]),
        |(scores, rotated), (b, first, out)| {
            let count = out.len() / columns;
            let scores = &mut scores[..count * keys];
            for head in 0..heads {
                let from = q.head(b, head).get(first * q.step()..).unwrap_or_default();
                let asking = match angles {
                    None => Matrix(from, Strides::row_major(q.step())),
                    Some((cos, sin)) => {
                        let places =
                            from.chunks(q.step()).zip(cos.chunks_exact(width).zip(sin.chunks_exact(width)).skip(first));
                        for (to, (x, (cos, sin))) in rotated.chunks_exact_mut(width).zip(places).take(count) {
                            to.copy_from_slice(&x[..width]);
                            rotate(to, cos, sin);
                        }
                        Matrix(rotated.as_slice(), Strides::row_major(width))
                    }
                };
                let keys_of = &turned[(b * heads + head) * width * keys..][..width * keys];
                let by_key = Strides::row_major(keys);
                product([count, keys, width], scores, by_key, asking, Matrix(keys_of, by_key), false);
                with_simd(
                    #[inline(always)]
                    || {
                        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
                            added.add(row, [b, head, first + i], [heads, queries]);
                            softmax(row);
                        }
                    },
                );
                let to = &mut out[head * width..];
                let values = Matrix(v.head(b, head), Strides::row_major(v.step()));
                let weights = Matrix(scores, by_key);
                product([count, width, keys], to, Strides::row_major(columns), weights, values, false);
            }
        },
    );
    Some(tensor(out, [batch, queries, columns]))
}

/// Transposes one head's keys, `[keys, width]` with stride `step`, into `[width, keys]`; rotates and scales them.
#[inline(always)]
fn turn(from: &[f32], step: usize, angles: Option<(&[f32], &[f32])>, scale: f32, row: &mut [f32], out: &mut [f32]) {
    let width = row.len();
    let keys = out.len() / width;
    for key in 0..keys {
        row.copy_from_slice(&from[key * step..key * step + width]);
        if let Some((cos, sin)) = angles {
            rotate(row, &cos[key * width..(key + 1) * width], &sin[key * width..(key + 1) * width]);
        }
        for (to, x) in out.iter_mut().skip(key).step_by(keys).zip(row.iter()) {
            *to = x * scale;
        }
    }
}

/// Rotates pairs of neighbouring channels: `(a, b)` becomes `(a cos − b sin, b cos + a sin)`.
#[inline(always)]
pub(super) fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (pairs, _) = x.as_chunks_mut::<2>();
    for ((pair, cos), sin) in pairs.iter_mut().zip(cos.as_chunks::<2>().0).zip(sin.as_chunks::<2>().0) {
        let [a, b] = *pair;
        *pair = [a * cos[0] - b * sin[0], b * cos[1] + a * sin[1]];
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let most = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - most);
    }
    let scale = 1.0 / sum2(row, row, |a, _| a);
    for x in row.iter_mut() {
        *x *= scale;
    }
}
