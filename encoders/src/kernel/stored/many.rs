//! Products with many rows of inputs, as in prompts: the weights of 32 outputs at a time become a panel, which is
//! multiplied with tiles of inputs in registers. A row's result does not depend on the other rows.

use super::StoredMatrix;
use super::inputs::{Floats, Integers, LARGE, SMALL};
use super::lanes::{Kernel, Lanes};
use super::layout::CHUNK;
use super::out::Columns;
use super::panel::{Outputs, Panel, WIDTH, unpack_floats};
use crate::number_format::NumberFormat;

/// The inputs of a product.
pub(super) enum Inputs {
    Floats(Floats),
    /// Integers of one byte.
    Bytes(Integers),
    /// Integers of two bytes.
    Words(Integers),
}

/// Computes up to 32 outputs from `first` on for all inputs.
pub(super) struct Many<'a> {
    pub(super) matrix: &'a StoredMatrix,
    pub(super) inputs: &'a Inputs,
    pub(super) n: usize,
    pub(super) first: usize,
    pub(super) out: Columns<'a>,
    pub(super) buffers: &'a mut Buffers,
}

/// The memory of a task.
pub(super) struct Buffers {
    panel: Panel,
    unpacked: Vec<Outputs<f32>>,
    sums: Vec<Outputs<f32>>,
}

impl Buffers {
    pub(super) fn new(n: usize) -> Self {
        Self {
            panel: Panel::new(),
            unpacked: vec![[[0.0; 16]; 2]; CHUNK],
            sums: vec![[[0.0; 16]; 2]; n.next_multiple_of(LARGE)],
        }
    }
}

impl Kernel for Many<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let Buffers { panel, unpacked, sums } = self.buffers;
        sums.fill([[0.0; 16]; 2]);
        let quads = match self.matrix.format {
            NumberFormat::Block(block) => block.group() / 4,
            _ => 4,
        };
        let minima = matches!(self.matrix.format, NumberFormat::Block(block) if block.has_minima());
        for chunk in 0..self.matrix.columns.div_ceil(CHUNK) {
            let groups = panel.read(lanes, self.matrix, self.first, chunk);
            match self.inputs {
                Inputs::Floats(inputs) => {
                    if groups.is_some() {
                        panel.unpack(lanes, quads, unpacked);
                    } else {
                        unpack_floats(lanes, self.matrix, self.first, chunk, unpacked);
                    }
                    let columns = CHUNK.min(self.matrix.columns - chunk * CHUNK);
                    floats(lanes, &unpacked[..columns], inputs, chunk, sums);
                }
                Inputs::Bytes(inputs) => {
                    panel.offset(lanes, quads);
                    let shape = Groups { count: groups.unwrap_or_default(), quads, minima };
                    integers::<L, 1, 12, 4>(lanes, panel, shape, inputs, chunk, sums);
                }
                Inputs::Words(inputs) => {
                    panel.offset(lanes, quads);
                    let shape = Groups { count: groups.unwrap_or_default(), quads, minima };
                    integers::<L, 2, 6, 2>(lanes, panel, shape, inputs, chunk, sums);
                }
            }
        }
        for (i, sums) in sums.iter().take(self.n).enumerate() {
            let out = self.out.row(i);
            let count = out.len().min(WIDTH);
            out[..count].copy_from_slice(&sums.as_flattened()[..count]);
        }
    }
}

/// Multiplies a panel with all inputs.
#[inline(always)]
fn floats<L: Lanes>(lanes: L, panel: &[Outputs<f32>], inputs: &Floats, chunk: usize, sums: &mut [Outputs<f32>]) {
    for &(first, rows) in &inputs.tiles {
        let x = &inputs.values[first * inputs.columns + rows * chunk * CHUNK..][..rows * CHUNK];
        if L::REGISTERS >= 32 && rows == LARGE {
            float_tile::<L, LARGE, 2>(lanes, panel, 0, x, &mut sums[first..]);
        } else if L::REGISTERS >= 32 {
            float_tile::<L, SMALL, 2>(lanes, panel, 0, x, &mut sums[first..]);
        } else {
            float_tile::<L, SMALL, 1>(lanes, panel, 0, x, &mut sums[first..]);
            float_tile::<L, SMALL, 1>(lanes, panel, 1, x, &mut sums[first..]);
        }
    }
}

/// Loads `P` vectors of outputs.
#[inline(always)]
fn loads<L: Lanes, const P: usize>(lanes: L, half: usize, from: &Outputs<f32>) -> [L::F; P] {
    // A loop, because closures that are not inlined would not be compiled for the vector instructions.
    let mut out = [lanes.splat(0.0); P];
    for (p, out) in out.iter_mut().enumerate() {
        *out = lanes.load(&from[half + p]);
    }
    out
}

/// Loads the accumulators of a tile.
#[inline(always)]
fn load<L: Lanes, const A: usize, const P: usize>(lanes: L, half: usize, sums: &[Outputs<f32>; A]) -> [[L::F; P]; A] {
    let mut tile = [[lanes.splat(0.0); P]; A];
    for (tile, sums) in tile.iter_mut().zip(sums) {
        *tile = loads(lanes, half, sums);
    }
    tile
}

/// A tile of `A` inputs and `P` vectors of outputs.
#[inline(always)]
fn float_tile<L: Lanes, const A: usize, const P: usize>(
    lanes: L,
    panel: &[Outputs<f32>],
    half: usize,
    x: &[f32],
    sums: &mut [Outputs<f32>],
) {
    let Some(sums) = sums.first_chunk_mut::<A>() else { return };
    let mut tile = load::<L, A, P>(lanes, half, sums);
    for (weights, x) in panel.iter().zip(x.as_chunks::<A>().0) {
        let weights = loads::<L, P>(lanes, half, weights);
        for i in 0..A {
            let x = lanes.splat(x[i]);
            for p in 0..P {
                tile[i][p] = lanes.mul_add(weights[p], x, tile[i][p]);
            }
        }
    }
    for i in 0..A {
        for p in 0..P {
            lanes.store(tile[i][p], &mut sums[i][half + p]);
        }
    }
}

/// The groups of a panel.
#[derive(Clone, Copy)]
struct Groups {
    count: usize,
    /// A quarter of the number of codes in a group.
    quads: usize,
    minima: bool,
}

/// The inputs of a tile for one panel.
#[derive(Clone, Copy)]
struct Tile<'a> {
    quads: &'a [[u8; 4]],
    scales: &'a [f32],
    sums: &'a [f32],
}

/// Multiplies a panel with all inputs; `B` and `S` are the numbers of rows of large and small tiles.
#[inline(always)]
fn integers<L: Lanes, const PLANES: usize, const B: usize, const S: usize>(
    lanes: L,
    panel: &Panel,
    groups: Groups,
    inputs: &Integers,
    chunk: usize,
    sums: &mut [Outputs<f32>],
) {
    let per_chunk = CHUNK / (4 * groups.quads);
    for &(first, rows) in &inputs.tiles {
        // Of every vector, the items of a tile of `rows` rows, and within them those of this chunk.
        let part = |per_chunk: usize| {
            let from = (first * (inputs.columns / CHUNK) + rows * chunk) * per_chunk;
            from..from + rows * per_chunk
        };
        let tile = Tile {
            quads: &inputs.quads[part(PLANES * CHUNK / 4)],
            scales: &inputs.scales[part(CHUNK / 32)],
            sums: &inputs.sums[part(per_chunk)],
        };
        let sums = &mut sums[first..];
        if L::REGISTERS >= 32 && rows == B {
            integer_tile::<L, PLANES, B, 2>(lanes, panel, groups, 0, tile, sums);
        } else if L::REGISTERS >= 32 {
            integer_tile::<L, PLANES, S, 2>(lanes, panel, groups, 0, tile, sums);
        } else {
            integer_tile::<L, PLANES, S, 1>(lanes, panel, groups, 0, tile, sums);
            integer_tile::<L, PLANES, S, 1>(lanes, panel, groups, 1, tile, sums);
        }
    }
}

/// A tile of `A` inputs and `P` vectors of outputs.
#[inline(always)]
fn integer_tile<L: Lanes, const PLANES: usize, const A: usize, const P: usize>(
    lanes: L,
    panel: &Panel,
    groups: Groups,
    half: usize,
    tile: Tile<'_>,
    sums: &mut [Outputs<f32>],
) {
    let Some(sums) = sums.first_chunk_mut::<A>() else { return };
    let mut totals = load::<L, A, P>(lanes, half, sums);
    let (quads, scales, input_sums) =
        (tile.quads.as_chunks::<A>().0, tile.scales.as_chunks::<A>().0, tile.sums.as_chunks::<A>().0);
    let zero = lanes.load_integers(&[0; 16]);
    for group in 0..groups.count {
        let mut offsets = [zero; P];
        for p in 0..P {
            offsets[p] = lanes.load_integers(&panel.offsets[group][half + p]);
        }
        let mut dots = [[[zero; P]; A]; PLANES];
        dots[0] = [offsets; A];
        let part = group * groups.quads..(group + 1) * groups.quads;
        for (codes, bytes) in panel.quads[part.clone()].iter().zip(quads[PLANES * part.start..].chunks_exact(PLANES)) {
            for plane in 0..PLANES {
                for i in 0..A {
                    for p in 0..P {
                        dots[plane][i][p] = lanes.dot(dots[plane][i][p], bytes[plane][i], &codes[half + p]);
                    }
                }
            }
        }
        let weights = loads::<L, P>(lanes, half, &panel.scales[group]);
        let scales = &scales[group * groups.quads / 8];
        for i in 0..A {
            let scale = lanes.splat(scales[i]);
            for p in 0..P {
                let dot = if PLANES == 2 { lanes.join(dots[0][i][p], dots[PLANES - 1][i][p]) } else { dots[0][i][p] };
                let product = lanes.mul(lanes.float_integers(dot), weights[p]);
                totals[i][p] = lanes.mul_add(product, scale, totals[i][p]);
            }
        }
        if groups.minima {
            let minima = loads::<L, P>(lanes, half, &panel.minima[group]);
            for i in 0..A {
                let sum = lanes.splat(-input_sums[group][i]);
                for p in 0..P {
                    totals[i][p] = lanes.mul_add(minima[p], sum, totals[i][p]);
                }
            }
        }
    }
    for i in 0..A {
        for p in 0..P {
            lanes.store(totals[i][p], &mut sums[i][half + p]);
        }
    }
}
