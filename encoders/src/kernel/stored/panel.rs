//! Weights of 32 outputs, transposed so that the lanes of a vector hold outputs.

use super::lanes::{Lanes, Quads};
use super::layout::CHUNK;
use super::{StoredMatrix, part};
use crate::number_format::{self, Codes, NumberFormat};
use std::array::from_fn;

/// Outputs of a panel: two vectors.
pub(super) const WIDTH: usize = 32;

/// One value for each output of a panel.
pub(super) type Outputs<T> = [[T; 16]; 2];

/// A chunk of the codes of 32 outputs. Codes, scales and minima beyond the last row of the matrix are 0.
pub(super) struct Panel {
    /// Every four consecutive codes of all outputs.
    pub(super) quads: Vec<[Quads; 2]>,
    /// Scales per group.
    pub(super) scales: Vec<Outputs<f32>>,
    /// Minima per group.
    pub(super) minima: Vec<Outputs<f32>>,
    /// The sum of the codes per group, times −128: what integer products start from if 128 was added to the inputs.
    pub(super) offsets: Vec<Outputs<i32>>,
    rows: Box<[Codes; 16]>,
}

impl Panel {
    pub(super) fn new() -> Self {
        Self {
            quads: vec![[[[0; 4]; 16]; 2]; CHUNK / 4],
            scales: vec![[[0.0; 16]; 2]; 16],
            minima: vec![[[0.0; 16]; 2]; 16],
            offsets: vec![[[0; 16]; 2]; 16],
            rows: Box::new(from_fn(|_| Codes::default())),
        }
    }

    /// Reads a chunk of up to 32 outputs from `first` on and returns the number of its groups; `None` if the matrix
    /// has no codes.
    #[inline(always)]
    pub(super) fn read<L: Lanes>(
        &mut self,
        lanes: L,
        matrix: &StoredMatrix,
        first: usize,
        chunk: usize,
    ) -> Option<usize> {
        let NumberFormat::Block(block) = matrix.format else { return None };
        let groups = CHUNK.min(matrix.columns - chunk * CHUNK) / block.group();
        for half in 0..2 {
            let from: [&[u8]; 16] = from_fn(|i| matrix.row_bytes(first + 16 * half + i));
            lanes.read_rows(block, &from, chunk, self.rows.as_mut_slice());
            for sixteenth in 0..4 {
                let columns: [&Quads; 16] = from_fn(|i| quads(&self.rows[i], sixteenth));
                for (k, quads) in lanes.transpose_quads(columns).into_iter().enumerate() {
                    self.quads[16 * sixteenth + k][half] = quads;
                }
            }
            let (scales, minima) = (self.rows.each_ref().map(|r| &r.scales), self.rows.each_ref().map(|r| &r.minima));
            for (to, scales) in self.scales.iter_mut().zip(lanes.transpose(scales)) {
                to[half] = scales;
            }
            for (to, minima) in self.minima.iter_mut().zip(lanes.transpose(minima)) {
                to[half] = minima;
            }
        }
        Some(groups)
    }

    /// Computes the offsets of groups of `quads` times four codes.
    #[inline(always)]
    pub(super) fn offset<L: Lanes>(&mut self, lanes: L, quads: usize) {
        for (offsets, quads) in self.offsets.iter_mut().zip(self.quads.chunks_exact(quads)) {
            for half in 0..2 {
                let mut sums = lanes.load_integers(&[0; 16]);
                for quads in quads {
                    sums = lanes.dot(sums, [128; 4], &quads[half]);
                }
                lanes.store_integers(sums, &mut offsets[half]);
                offsets[half] = offsets[half].map(|v| -v);
            }
        }
    }

    /// Unpacks the panel to f32, column by column.
    #[inline(always)]
    pub(super) fn unpack<L: Lanes>(&self, lanes: L, quads: usize, out: &mut [Outputs<f32>]) {
        let groups = self.quads.chunks_exact(quads).zip(out.chunks_exact_mut(4 * quads));
        for ((quads, out), (scales, minima)) in groups.zip(self.scales.iter().zip(&self.minima)) {
            for half in 0..2 {
                let (scale, minimum) = (lanes.load(&scales[half]), lanes.load(&minima[half].map(|m| -m)));
                for (quads, out) in quads.iter().zip(out.as_chunks_mut::<4>().0) {
                    for (column, out) in lanes.columns(lanes.quads(&quads[half])).into_iter().zip(out) {
                        lanes.store(lanes.mul_add(column, scale, minimum), &mut out[half]);
                    }
                }
            }
        }
    }
}

/// 64 codes of a row, from `64 · index` on.
#[inline(always)]
fn quads(row: &Codes, index: usize) -> &Quads {
    &row.codes.as_chunks::<4>().0.as_chunks::<16>().0[index]
}

/// Unpacks a chunk of up to 32 outputs from `first` on to f32, column by column, for matrices without codes.
#[inline(always)]
pub(super) fn unpack_floats<L: Lanes>(
    lanes: L,
    matrix: &StoredMatrix,
    first: usize,
    chunk: usize,
    out: &mut [Outputs<f32>],
) {
    let mut rows = [[[0f32; 16]; CHUNK / 16]; 16];
    for half in 0..2 {
        for (i, row) in rows.iter_mut().enumerate() {
            let output = first + 16 * half + i;
            row.as_flattened_mut().fill(0.0);
            if output < matrix.rows {
                let bytes = part(matrix.row_bytes(output), matrix.chunk_size(), chunk);
                let row = &mut row.as_flattened_mut()[..bytes.len() / 2];
                convert(lanes, matrix.format, bytes, row);
            }
        }
        for (at, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let columns = lanes.transpose(from_fn(|i| &rows[i][at]));
            for (out, column) in out.iter_mut().zip(columns) {
                out[half] = column;
            }
        }
    }
}

/// Converts whole elements or blocks to f32, equal to [`number_format::convert`] to the last bit.
#[inline(always)]
pub(super) fn convert<L: Lanes>(lanes: L, format: NumberFormat, bytes: &[u8], out: &mut [f32]) {
    let sixteens = |out: &mut [f32], f: &dyn Fn(&[[u8; 2]; 16]) -> L::F| {
        let (sixteens, rest) = bytes.as_chunks::<2>().0.as_chunks::<16>();
        let (out, out_rest) = out.as_chunks_mut::<16>();
        for (out, numbers) in out.iter_mut().zip(sixteens) {
            lanes.store(f(numbers), out);
        }
        number_format::convert(format, rest.as_flattened(), out_rest);
    };
    match format {
        NumberFormat::Block(block) => lanes.unpack(block, bytes, out),
        NumberFormat::F16 => sixteens(out, &|numbers| lanes.float_f16(numbers)),
        NumberFormat::Bf16 => sixteens(out, &|numbers| lanes.float_bf16(numbers)),
        _ => number_format::convert(format, bytes, out),
    }
}
