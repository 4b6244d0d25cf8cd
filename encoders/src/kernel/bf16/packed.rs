//! The right operand of a product: a layer's weight, rounded to bf16 and reordered for the microkernel.

use super::pair;
use crate::kernel::simd::with_simd;
use crate::kernel::{Matrix, Strides};
use burn::module::{Module, ModuleVisitor, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;

/// Number of columns of a panel: two vectors.
pub const PANEL: usize = 32;

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
        let per_panel = 2 * inputs.div_ceil(2);
        let mut lines = vec![Line([0; 16]); outputs.div_ceil(PANEL) * per_panel];
        if inputs * outputs == 0 {
            return Self { lines, inputs, outputs };
        }
        assert!((inputs - 1) * rows + (outputs - 1) * columns < values.len(), "the matrix is cut too short");
        lines.par_chunks_mut(per_panel).enumerate().for_each(|(panel, lines)| {
            let first = panel * PANEL;
            let shape = [inputs, PANEL.min(outputs - first)];
            with_simd(
                #[inline(always)]
                || pack_panel(&values[first * columns..], matrix.1, shape, lines),
            );
        });
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
    for column in 0..count {
        let values = &values[column * columns..];
        let (line, place) = (column / 16, column % 16);
        let whole = if rows == 1 { inputs / 32 * 16 } else { 0 };
        for (out, from) in pairs[..whole].as_chunks_mut::<16>().0.iter_mut().zip(values.as_chunks::<32>().0) {
            let together: [u32; 16] = std::array::from_fn(
                #[inline(always)]
                |i| pair(from[2 * i], from[2 * i + 1]),
            );
            for (out, pair) in out.iter_mut().zip(together) {
                out[line].0[place] = pair;
            }
        }
        for (i, out) in pairs.iter_mut().enumerate().skip(whole) {
            let second = if 2 * i + 1 < inputs { values[(2 * i + 1) * rows] } else { 0.0 };
            out[line].0[place] = pair(values[2 * i * rows], second);
        }
    }
}

/// The packed weight of a linear layer, attached to its parameter. The parameter itself is unpacked (to rounded f32
/// values) only if something reads it.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    matrix: Arc<PackedMatrix>,
}

impl PackedWeight {
    /// The packed matrix of a linear layer's weight, if it has one.
    pub(super) fn of(weight: &Param<Tensor<2>>) -> Option<&PackedMatrix> {
        weight.reparameterization::<Self>().map(|packed| &*packed.matrix)
    }
}

impl Reparameterization for PackedWeight {
    const NAME: &'static str = "bf16";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        base
    }
}

/// Returns `module` with the weights of all its linear layers held as packed bf16 only.
pub fn pack_weights<M: Module>(module: M) -> M {
    let mut found = LinearWeights::default();
    module.visit(&mut found);
    module.apply_reparameterization(Packer { linear: found.paths })
}

/// Lists the paths of the weights of all linear layers.
#[derive(Default)]
struct LinearWeights {
    names: Vec<String>,
    containers: Vec<String>,
    paths: HashSet<String>,
}

impl ModuleVisitor for LinearWeights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        let linear = self.containers.last().is_some_and(|container| container == "Struct:Linear");
        if D == 2 && linear && self.names.last().is_some_and(|name| name == "weight") {
            self.paths.insert(self.names.join("."));
        }
    }
}

/// Packs the weights at the given paths.
struct Packer {
    linear: HashSet<String>,
}

impl Reparameterizer for Packer {
    type Reparam = PackedWeight;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<PackedWeight>) {
        if !self.linear.contains(path) {
            return (param, None);
        }
        let (id, device, shape) = (param.id, param.lazy_device(), param.lazy_shape());
        let &[inputs, outputs] = shape.as_slice() else { return (param, None) };
        let Ok(values) = param.val().into_data().try_into_vec_as::<f32>() else { return (param, None) };
        drop(param);
        let matrix = Arc::new(PackedMatrix::new(Matrix(&values, Strides::row_major(outputs)), [inputs, outputs]));
        let packed = Arc::clone(&matrix);
        let unpack = move |device: &burn::tensor::Device, _: bool| {
            Tensor::from_data(TensorData::new(packed.unpack(), [inputs, outputs]), device)
        };
        (Param::uninitialized(id, unpack, device, false, shape), Some(PackedWeight { matrix }))
    }
}
