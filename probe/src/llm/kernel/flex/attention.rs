//! Fused rotary causal attention of whole sequences; reads the joint projection in place.
//!
//! Per head, queries and keys are rotated while they are copied into small buffers. Blocks of [`BLOCK`] queries then
//! are multiplied only by the keys that they may attend to, so the masked half of the score matrix is never computed.
//! The backward pass recomputes the probabilities instead of storing them.

use super::{Input, record, slice, tensor};
use crate::llm::kernel::{AttentionSpec, PaddingMask};
use crate::llm::rope::Rope;
use burgess_encoders::kernel::simd::{exp, max, sum2, with_simd};
use burgess_encoders::kernel::{self, Matrix, Strides};
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Number of queries per block.
const BLOCK: usize = 32;

/// Fused form of [`crate::llm::kernel::portable::causal_attention`]; `None` if the inputs do not fit.
pub fn causal_attention(
    qkv: &Tensor<2>,
    rope: &Rope,
    s: AttentionSpec,
    padding_mask: PaddingMask<'_>,
) -> Option<Tensor<2>> {
    let input = Input::of(qkv)?;
    // The backward pass below does not support a soft cap.
    if s.softcap.is_some() && matches!(input, Input::Tracked(_)) {
        return None;
    }
    let angles = [Input::of(&rope.cos)?.values(), Input::of(&rope.sin)?.values()];
    let [rows, tokens, half] = rope.cos.dims();
    if (rows != 1 && rows != s.batch) || tokens != s.tokens || 2 * half > s.width {
        return None;
    }
    if s.batch * s.tokens == 0 || qkv.dims() != [s.batch * s.tokens, s.columns()] {
        return None;
    }
    let padding_mask: Option<Vec<Vec<bool>>> = padding_mask.map(<[Vec<bool>]>::to_vec);
    if padding_mask.as_ref().is_some_and(|h| h.len() != s.batch || h.iter().any(|row| row.len() != s.tokens)) {
        return None;
    }
    // The range of a sequence's cosines and sines, and its index for the padding mask.
    let around = move |row: usize| {
        let at = if rows == 1 { 0 } else { row * tokens * half };
        (at..at + tokens * half, row)
    };
    let values = input.values();
    let out_columns = s.query * s.width;
    let mut out = vec![0f32; s.batch * s.tokens * out_columns];
    out.par_chunks_mut(s.tokens * out_columns)
        .zip(slice(&values).par_chunks(s.tokens * s.columns()))
        .enumerate()
        .for_each_init(
            || Scratch::new(s),
            |scratch, (row, (out, x))| {
                let (range, row) = around(row);
                let (cos, sin) = (&slice(&angles[0])[range.clone()], &slice(&angles[1])[range]);
                let padding_mask = padding_mask.as_ref().map(|h| h[row].as_slice());
                with_simd(
                    #[inline(always)]
                    || forward(x, cos, sin, s, padding_mask, scratch, out),
                );
            },
        );
    let saved = tensor(out, [s.batch * s.tokens, out_columns]);
    let output = saved.clone();
    Some(record([input], output, move || {
        Arc::new(move |grad, _| {
            let mut d = vec![0f32; s.batch * s.tokens * s.columns()];
            d.par_chunks_mut(s.tokens * s.columns())
                .zip(slice(&values).par_chunks(s.tokens * s.columns()))
                .zip(grad.par_chunks(s.tokens * out_columns).zip(slice(&saved).par_chunks(s.tokens * out_columns)))
                .enumerate()
                .for_each_init(
                    || Scratch::new(s),
                    |scratch, (row, ((d, x), (grad, out)))| {
                        let (range, row) = around(row);
                        let (cos, sin) = (&slice(&angles[0])[range.clone()], &slice(&angles[1])[range]);
                        let padding_mask = padding_mask.as_ref().map(|h| h[row].as_slice());
                        with_simd(
                            #[inline(always)]
                            || backward(x, cos, sin, s, padding_mask, scratch, grad, out, d),
                        );
                    },
                );
            [Some(tensor(d, [s.batch * s.tokens, s.columns()]))]
        })
    }))
}

/// Buffers for one sequence, reused for the next.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    o: Vec<f32>,
    p: Vec<f32>,
    dp: Vec<f32>,
}

impl Scratch {
    fn new(s: AttentionSpec) -> Self {
        let (rows, square) = (vec![0f32; s.tokens * s.width], vec![0f32; BLOCK * s.tokens]);
        Self {
            q: rows.clone(),
            k: rows.clone(),
            v: rows.clone(),
            dq: rows.clone(),
            dk: rows.clone(),
            dv: rows.clone(),
            o: rows,
            p: square.clone(),
            dp: square,
        }
    }
}

/// Forward pass of one sequence: `x` `[t, columns]` → `out` `[t, query · width]`.
#[inline(always)]
fn forward(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    s: AttentionSpec,
    padding_mask: Option<&[bool]>,
    b: &mut Scratch,
    out: &mut [f32],
) {
    let (t, w) = (s.tokens, s.width);
    for kv in 0..s.kv {
        load_rotated(x, (s.query + kv) * w, cos, sin, s, 1.0, &mut b.k);
        load(x, (s.query + s.kv + kv) * w, s, &mut b.v);
        for h in kv * s.group()..(kv + 1) * s.group() {
            load_rotated(x, h * w, cos, sin, s, s.scale as f32, &mut b.q);
            for from in (0..t).step_by(BLOCK) {
                let to = (from + BLOCK).min(t);
                let block = ScoreBlock { first: s.first_key(from), from, to };
                let (rows, keys) = (to - from, to - block.first);
                let p = &mut b.p[..rows * keys];
                let (k, v) = (&b.k[block.first * w..to * w], &b.v[block.first * w..to * w]);
                product(p, &b.q[from * w..to * w], k, [rows, keys, w], [w, 1], [1, w], false);
                masked_softmax(p, block, s, padding_mask);
                product(&mut b.o[..rows * w], p, v, [rows, w, keys], [keys, 1], [w, 1], false);
                store(&b.o[..rows * w], out, h * w, s.query * w, w, from);
            }
        }
    }
}

/// Backward pass of one sequence: gradient `grad` of `out` (both `[t, query · width]`) → `d` `[t, columns]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    s: AttentionSpec,
    padding_mask: Option<&[bool]>,
    b: &mut Scratch,
    grad: &[f32],
    out: &[f32],
    d: &mut [f32],
) {
    let (t, w) = (s.tokens, s.width);
    let scale = s.scale as f32;
    let columns = s.query * w;
    for kv in 0..s.kv {
        load_rotated(x, (s.query + kv) * w, cos, sin, s, 1.0, &mut b.k);
        load(x, (s.query + s.kv + kv) * w, s, &mut b.v);
        b.dk.fill(0.0);
        b.dv.fill(0.0);
        for h in kv * s.group()..(kv + 1) * s.group() {
            load_rotated(x, h * w, cos, sin, s, scale, &mut b.q);
            for from in (0..t).step_by(BLOCK) {
                let to = (from + BLOCK).min(t);
                let block = ScoreBlock { first: s.first_key(from), from, to };
                let (rows, keys) = (to - from, to - block.first);
                let (p, dp) = (&mut b.p[..rows * keys], &mut b.dp[..rows * keys]);
                let q = &b.q[from * w..to * w];
                let span = block.first * w..to * w;
                product(p, q, &b.k[span.clone()], [rows, keys, w], [w, 1], [1, w], false);
                masked_softmax(p, block, s, padding_mask);
                let go = &mut b.o[..rows * w];
                for (i, go) in go.chunks_exact_mut(w).enumerate() {
                    let at = (from + i) * columns + h * w;
                    go.copy_from_slice(&grad[at..at + w]);
                }
                product(dp, go, &b.v[span.clone()], [rows, keys, w], [w, 1], [1, w], false);
                // dv += pᵀ · go
                product(&mut b.dv[span.clone()], p, go, [keys, w, rows], [1, keys], [w, 1], true);
                // ds = p · (dp − go·out), stored in place of dp.
                for (i, ((dp, p), go)) in
                    dp.chunks_exact_mut(keys).zip(p.chunks_exact(keys)).zip(go.chunks_exact(w)).enumerate()
                {
                    let at = (from + i) * columns + h * w;
                    let inner = sum2(go, &out[at..at + w], |a, b| a * b);
                    for (dp, p) in dp.iter_mut().zip(p) {
                        *dp = p * (*dp - inner);
                    }
                }
                let dq = &mut b.dq[from * w..to * w];
                product(dq, dp, &b.k[span.clone()], [rows, w, keys], [keys, 1], [w, 1], false);
                // dk += dsᵀ · q; q already includes the scale.
                product(&mut b.dk[span], dp, q, [keys, w, rows], [1, keys], [w, 1], true);
            }
            store_rotated(&b.dq, d, h * w, cos, sin, s, scale);
        }
        store_rotated(&b.dk, d, (s.query + kv) * w, cos, sin, s, 1.0);
        store(&b.dv, d, (s.query + s.kv + kv) * w, s.columns(), w, 0);
    }
}

/// Copies one head's columns out of `x` into `to`, `[t, width]`.
#[inline(always)]
fn load(x: &[f32], column: usize, s: AttentionSpec, to: &mut [f32]) {
    for (x, to) in x.chunks_exact(s.columns()).zip(to.chunks_exact_mut(s.width)) {
        to.copy_from_slice(&x[column..column + s.width]);
    }
}

/// As [`load`], with each row rotated by its angles and scaled.
#[inline(always)]
fn load_rotated(x: &[f32], column: usize, cos: &[f32], sin: &[f32], s: AttentionSpec, scale: f32, to: &mut [f32]) {
    let half = cos.len() / s.tokens;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for ((x, to), (cos, sin)) in x.chunks_exact(s.columns()).zip(to.chunks_exact_mut(s.width)).zip(angles) {
        rotate(&x[column..column + s.width], cos, sin, scale, s.interleaved, to);
    }
}

/// Rotates and scales one head at one position; channels beyond the rotated ones are only scaled.
#[inline(always)]
pub(super) fn rotate(x: &[f32], cos: &[f32], sin: &[f32], scale: f32, interleaved: bool, to: &mut [f32]) {
    let half = cos.len();
    if interleaved {
        let (rotated, unrotated) = to.split_at_mut(2 * half);
        let pairs = rotated.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(cos.iter().zip(sin));
        for ((to, x), (cos, sin)) in pairs {
            to[0] = (x[0] * cos - x[1] * sin) * scale;
            to[1] = (x[1] * cos + x[0] * sin) * scale;
        }
        for (to, x) in unrotated.iter_mut().zip(&x[2 * half..]) {
            *to = x * scale;
        }
        return;
    }
    let ((a, b), rest) = (x[..2 * half].split_at(half), &x[2 * half..]);
    let (rotated, unrotated) = to.split_at_mut(2 * half);
    let (to_a, to_b) = rotated.split_at_mut(half);
    for i in 0..half {
        to_a[i] = (a[i] * cos[i] - b[i] * sin[i]) * scale;
        to_b[i] = (b[i] * cos[i] + a[i] * sin[i]) * scale;
    }
    for (to, x) in unrotated.iter_mut().zip(rest) {
        *to = x * scale;
    }
}

/// Copies rows of width `w` into a column range of a wider matrix, from row `first` on.
#[inline(always)]
fn store(from: &[f32], to: &mut [f32], column: usize, columns: usize, w: usize, first: usize) {
    for (from, to) in from.chunks_exact(w).zip(to.chunks_exact_mut(columns).skip(first)) {
        to[column..column + w].copy_from_slice(from);
    }
}

/// The gradient of [`load_rotated`]: rotates by the opposite angles, scales and stores.
#[inline(always)]
fn store_rotated(from: &[f32], to: &mut [f32], column: usize, cos: &[f32], sin: &[f32], s: AttentionSpec, scale: f32) {
    let half = cos.len() / s.tokens;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for ((from, to), (cos, sin)) in from.chunks_exact(s.width).zip(to.chunks_exact_mut(s.columns())).zip(angles) {
        if s.interleaved {
            // The opposite angle has the opposite sine.
            let back: Vec<f32> = sin.iter().map(|sin| -sin).collect();
            rotate(from, cos, &back, scale, true, &mut to[column..column + s.width]);
            continue;
        }
        let ((a, b), rest) = (from[..2 * half].split_at(half), &from[2 * half..]);
        let (rotated, unrotated) = to[column..column + s.width].split_at_mut(2 * half);
        let (to_a, to_b) = rotated.split_at_mut(half);
        for i in 0..half {
            to_a[i] = (a[i] * cos[i] + b[i] * sin[i]) * scale;
            to_b[i] = (b[i] * cos[i] - a[i] * sin[i]) * scale;
        }
        for (to, x) in unrotated.iter_mut().zip(rest) {
            *to = x * scale;
        }
    }
}

/// A block of scores: queries `from..to` against keys `first..to`, all as positions in the sequence.
#[derive(Clone, Copy)]
pub(super) struct ScoreBlock {
    /// Position of the first key.
    pub first: usize,
    /// Position of the first query.
    pub from: usize,
    /// Position after the last query and the last key.
    pub to: usize,
}

/// Softmax of each row of a block over the keys that its query attends to; masked entries become 0.
#[inline(always)]
pub(super) fn masked_softmax(p: &mut [f32], block: ScoreBlock, s: AttentionSpec, padding_mask: Option<&[bool]>) {
    for (i, row) in p.chunks_exact_mut(block.to - block.first).enumerate() {
        let query = block.from + i;
        if let Some(cap) = s.softcap {
            let cap = cap as f32;
            row.iter_mut().for_each(|score| *score = (*score / cap).tanh() * cap);
        }
        if let Some(padding_mask) = padding_mask {
            for (score, padding) in row[..query - block.first].iter_mut().zip(&padding_mask[block.first..]) {
                if *padding {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        let (before, rest) = row.split_at_mut(s.first_key(query) - block.first);
        let (allowed, after) = rest.split_at_mut(query + 1 - s.first_key(query));
        let most = max(allowed);
        for x in allowed.iter_mut() {
            *x = exp(*x - most);
        }
        let scale = 1.0 / sum2(allowed, allowed, |a, _| a);
        for x in allowed.iter_mut() {
            *x *= scale;
        }
        before.fill(0.0);
        after.fill(0.0);
    }
}

/// Computes `c (+)= a · b` for `[m, n, k]`; `a` and `b` have the given `[row, column]` strides, `c` is row-major.
pub(super) fn product(
    c: &mut [f32],
    a: &[f32],
    b: &[f32],
    [m, n, k]: [usize; 3],
    sa: [usize; 2],
    sb: [usize; 2],
    add: bool,
) {
    let strides = |[rows, columns]: [usize; 2]| Strides { rows, columns };
    let (a, b) = (Matrix(a, strides(sa)), Matrix(b, strides(sb)));
    kernel::product::product([m, n, k], c, Strides::row_major(n), a, b, add);
}
