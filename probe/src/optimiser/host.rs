//! The update of parameters in host memory, on the CPU backend: one pass per parameter, shared by all threads.

use super::{EPSILON, MOMENTUM, Moments, StepFactors, muon_step_size, newton_schulz};
use burgess_encoders::kernel::simd::with_simd;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Number of elements per parallel task.
const ELEMENTS: usize = 1 << 15;
/// Number of elements that are summed in single precision.
const BLOCK: usize = 4096;

/// Returns the elements of a tensor of the CPU backend in row-major order, without a copy between devices; NaN if they
/// cannot be read, which the next norm or loss reports.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let count = tensor.shape().num_elements();
    tensor.try_into_vec_as::<f32>().unwrap_or_else(|_| vec![f32::NAN; count])
}

/// Returns the moments before the first update of a parameter of `count` elements.
pub(super) fn no_moments(count: usize, muon: bool) -> Moments {
    Moments { first: vec![0.0; count], second: if muon { Vec::new() } else { vec![0.0; count] } }
}

/// Returns the sum of the squares of a gradient; threads do not change the result.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let blocks: Vec<[f64; 2]> = values
        .par_chunks(BLOCK)
        .with_min_len(ELEMENTS / BLOCK)
        .map(|block| {
            with_simd(
                #[inline(always)]
                || {
                    // Eight independent sums, so that the loop is vectorised.
                    let mut lanes = [0f32; 8];
                    let (whole, rest) = block.as_chunks::<8>();
                    for c in whole {
                        for (l, v) in lanes.iter_mut().zip(c) {
                            *l += v * v;
                        }
                    }
                    let rest = rest.iter().map(|v| f64::from(v * v)).sum::<f64>();
                    [rest, lanes.iter().map(|l| f64::from(*l)).sum::<f64>()]
                },
            )
        })
        .collect();
    blocks.as_flattened().iter().sum()
}

/// Applies one AdamW step to a parameter with this number of axes.
pub(super) fn adamw_step(
    values: &mut [f32],
    grad: &[f32],
    moments: &mut Moments,
    axes: usize,
    factors: &StepFactors,
    rate: f64,
) {
    let decay = factors.decay(axes, rate);
    let [b1, b2] = factors.betas;
    let [step_size, root] = factors.adamw(rate);
    let (scale, eps) = (factors.scale, EPSILON as f32);
    let moments = moments.first.par_chunks_mut(ELEMENTS).zip(moments.second.par_chunks_mut(ELEMENTS));
    let all = values.par_chunks_mut(ELEMENTS).zip(grad.par_chunks(ELEMENTS)).zip(moments);
    all.for_each(|((values, grad), (first, second))| {
        with_simd(
            #[inline(always)]
            || {
                for ((p, g), (m, v)) in values.iter_mut().zip(grad).zip(first.iter_mut().zip(second)) {
                    let g = g * scale;
                    *m += (1.0 - b1) * (g - *m);
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *p = *p * decay - step_size * *m / (v.sqrt() / root + eps);
                }
            },
        );
    });
}

/// Applies one Muon step to a matrix of `shape`.
pub(super) fn muon_step(
    values: &mut [f32],
    grad: &[f32],
    moments: &mut Moments,
    shape: [usize; 2],
    factors: &StepFactors,
    rate: f64,
) {
    let grad: Vec<f32> = grad.iter().map(|g| g * factors.scale).collect();
    muon(values, &grad, &mut moments.first, shape, rate, factors.weight_decay);
}

/// Applies one Muon step to a matrix of `shape`, in PyTorch's order of operations.
pub(super) fn muon(
    values: &mut [f32],
    grad: &[f32],
    momentum: &mut [f32],
    shape: [usize; 2],
    rate: f64,
    weight_decay: f64,
) {
    let ahead: Vec<f32> = (momentum.iter_mut().zip(grad))
        .map(|(m, g)| {
            *m += (1.0 - MOMENTUM) * (g - *m);
            g + MOMENTUM * (*m - g)
        })
        .collect();
    let ahead = Tensor::<2>::from_data(TensorData::new(ahead, shape), &Device::flex());
    let direction = self::values(newton_schulz(ahead));
    let decay = (1.0 - rate * weight_decay) as f32;
    let step_size = muon_step_size(shape, rate);
    for (p, d) in values.iter_mut().zip(direction) {
        *p = *p * decay - step_size * d;
    }
}
