//! The right operand of a product: a layer's weight, rounded to bf16 and reordered for the microkernel.

use super::{joined, pair};
use crate::kernel::simd::with_simd;
use crate::kernel::{Matrix, Strides};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Number of columns of a panel: two vectors.
pub const PANEL: usize = 32;

/// Number of panels that a task packs.
const GROUP: usize = 8;

/// Pairs of bf16 of sixteen columns, aligned as a vector: the upper and lower half hold the weights of two inputs.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

/// A matrix `[inputs, outputs]` of bf16, as panels of 32 columns: `[outputs / 32, inputs / 2, 32]` pairs, padded with
/// zeros.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    lines: Vec<Line>,
    inputs: usize,
    outputs: usize,
}

impl PackedMatrix {
    /// Rounds and reorders a matrix `[inputs, outputs]` of any memory layout.
    ///
    /// # Panics
    /// The slice is shorter than the matrix.
    pub fn new(matrix: Matrix<'_>, [inputs, outputs]: [usize; 2]) -> Self {
        let Matrix(values, Strides { rows, columns }) = matrix;
        let (per_panel, panels) = (2 * inputs.div_ceil(2), outputs.div_ceil(PANEL));
        let mut lines: Vec<Line> = Vec::with_capacity(panels * per_panel);
        if inputs * outputs > 0 {
            assert!((inputs - 1) * rows + (outputs - 1) * columns < values.len(), "the matrix is cut too short");
            let tasks = lines.spare_capacity_mut()[..panels * per_panel].par_chunks_mut(GROUP * per_panel).enumerate();
            tasks.for_each(|(task, lines)| {
                let first = task * GROUP * PANEL;
                let shape = [inputs, (GROUP * PANEL).min(outputs - first)];
                with_simd(
                    #[inline(always)]
                    || pack_panels(&values[first * columns..], matrix.1, shape, lines),
                );
            });
            // SAFETY: the tasks cover all panels, and each writes all lines of its panel.
            unsafe { lines.set_len(panels * per_panel) };
        }
        Self { lines, inputs, outputs }
    }

    /// Number of inputs (rows) and outputs (columns).
    pub fn shape(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// The lines of the panel with the columns from `32 · index` on: two per pair of inputs.
    pub(super) fn panel(&self, index: usize) -> &[Line] {
        let per_panel = 2 * self.inputs.div_ceil(2);
        self.lines.get(index * per_panel..(index + 1) * per_panel).unwrap_or_default()
    }

    /// The rounded matrix in f32, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.inputs * self.outputs];
        if out.is_empty() {
            return out;
        }
        out.par_chunks_mut(self.outputs).enumerate().for_each(|(input, out)| {
            for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                let lines = self.panel(panel).get(input / 2 * 2..).unwrap_or_default();
                for (out, pair) in out.iter_mut().zip(lines.iter().flat_map(|line| line.0)) {
                    *out = f32::from_bits(if input % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 });
                }
            }
        });
        out
    }
}

/// Packs neighbouring panels of a matrix `[inputs, columns]`.
#[inline(always)]
fn pack_panels(values: &[f32], strides: Strides, [inputs, count]: [usize; 2], lines: &mut [MaybeUninit<Line>]) {
    let per_panel = 2 * inputs.div_ceil(2);
    if strides.columns != 1 {
        for (panel, lines) in lines.chunks_exact_mut(per_panel).enumerate() {
            let first = panel * PANEL;
            pack_panel(&values[first * strides.columns..], strides, [inputs, PANEL.min(count - first)], zeros(lines));
        }
        return;
    }
    // Row by row through all panels, since rows may be far apart.
    for i in 0..inputs.div_ceil(2) {
        let first = &values[2 * i * strides.rows..][..count];
        let second = if 2 * i + 1 < inputs { &values[(2 * i + 1) * strides.rows..][..count] } else { &[] };
        for (panel, lines) in lines.chunks_exact_mut(per_panel).enumerate() {
            for (half, line) in lines.iter_mut().skip(2 * i).take(2).enumerate() {
                let from = panel * PANEL + half * 16;
                let joined = joined([first, second], from);
                line.write(Line(joined));
            }
        }
    }
}

/// Fills memory with zeros.
#[inline(always)]
fn zeros(lines: &mut [MaybeUninit<Line>]) -> &mut [Line] {
    lines.fill(MaybeUninit::new(Line([0; 16])));
    // SAFETY: every line has just been written.
    unsafe { lines.assume_init_mut() }
}

/// Packs a panel of up to 32 columns of a matrix `[inputs, columns]`; `lines` are zero before.
#[inline(always)]
pub(super) fn pack_panel(values: &[f32], strides: Strides, [inputs, count]: [usize; 2], lines: &mut [Line]) {
    let Strides { rows, columns } = strides;
    let (pairs, _) = lines.as_chunks_mut::<2>();
    if columns == 1 {
        for (i, out) in pairs.iter_mut().enumerate() {
            let first = &values[2 * i * rows..][..count];
            let out = out.iter_mut().flat_map(|line| &mut line.0);
            if 2 * i + 1 < inputs {
                let second = &values[(2 * i + 1) * rows..][..count];
                for ((out, first), second) in out.zip(first).zip(second) {
                    *out = pair(*first, *second);
                }
            } else {
                for (out, first) in out.zip(first) {
                    *out = pair(*first, 0.0);
                }
            }
        }
        return;
    }
    // Blocks of sixteen pairs of every column, so that the lines of a block stay in the cache.
    let whole = if rows == 1 { inputs / 32 } else { 0 };
    for (block, out) in pairs.as_chunks_mut::<16>().0.iter_mut().take(whole).enumerate() {
        for column in 0..count {
            let from = &values[column * columns + block * 32..];
            let Some(from) = from.first_chunk::<32>() else { continue };
            let mut together = [0; 16];
            for (pair, from) in together.iter_mut().zip(from.as_chunks::<2>().0) {
                *pair = super::pair(from[0], from[1]);
            }
            for (out, pair) in out.iter_mut().zip(together) {
                out[column / 16].0[column % 16] = pair;
            }
        }
    }
    for column in 0..count {
        let values = &values[column * columns..];
        for (i, out) in pairs.iter_mut().enumerate().skip(16 * whole) {
            let second = if 2 * i + 1 < inputs { values[(2 * i + 1) * rows] } else { 0.0 };
            out[column / 16].0[column % 16] = pair(values[2 * i * rows], second);
        }
    }
}
