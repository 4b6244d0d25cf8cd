//! Fused steps that work row by row: norm, gated activation, loss.

use super::{Input, record, record_nodes, slice, tensor};
use burgess_encoders::kernel::simd::{exp, max, sigmoid, sum2, with_simd};
use burn::backend::Flex;
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Number of rows per parallel task.
const ROWS: usize = 64;

/// Fused form of [`crate::llm::kernel::portable::rms_norm`]; `None` if a tensor does not fit or is empty.
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<1>, eps: f64) -> Option<Tensor<2>> {
    let [n, d] = x.dims();
    let inputs = [Input::of(x)?, Input::of(weight)?];
    let (x, weight) = (inputs[0].values(), inputs[1].values());
    if n * d == 0 {
        return None;
    }
    let mut y = vec![0f32; n * d];
    let mut inverse = vec![0f32; n];
    y.par_chunks_mut(ROWS * d).zip(inverse.par_chunks_mut(ROWS)).zip(slice(&x).par_chunks(ROWS * d)).for_each(
        |((y, inverse), x)| {
            let w = slice(&weight);
            with_simd(
                #[inline(always)]
                || {
                    for ((y, r), x) in y.chunks_exact_mut(d).zip(inverse).zip(x.chunks_exact(d)) {
                        *r = 1.0 / (sum2(x, x, |a, b| a * b) / d as f32 + eps as f32).sqrt();
                        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                            *y = x * *r * w;
                        }
                    }
                },
            );
        },
    );
    Some(record(inputs, tensor(y, [n, d]), move || {
        Arc::new(move |grad, [x_wanted, weight_wanted]| {
            let mut dx = vec![0f32; if x_wanted { n * d } else { 0 }];
            // One row of partial sums per task, added in order, so that threads do not change the result.
            let tasks = n.div_ceil(ROWS);
            let mut dw = vec![0f32; if weight_wanted { tasks * d } else { 0 }];
            let (x, w) = (slice(&x), slice(&weight));
            if x_wanted {
                dx.par_chunks_mut(ROWS * d)
                    .zip(inverse.par_chunks(ROWS))
                    .zip(x.par_chunks(ROWS * d).zip(grad.par_chunks(ROWS * d)))
                    .for_each_init(
                        || vec![0f32; d],
                        |scaled, ((dx, inverse), (x, g))| {
                            with_simd(
                                #[inline(always)]
                                || {
                                    let rows = x.chunks_exact(d).zip(g.chunks_exact(d));
                                    for ((dx, r), (x, g)) in dx.chunks_exact_mut(d).zip(inverse).zip(rows) {
                                        for ((s, g), w) in scaled.iter_mut().zip(g).zip(w) {
                                            *s = g * w;
                                        }
                                        let pull = sum2(scaled, x, |a, b| a * b) * r * r / d as f32;
                                        for ((dx, s), x) in dx.iter_mut().zip(scaled.iter()).zip(x) {
                                            *dx = r * (s - x * pull);
                                        }
                                    }
                                },
                            );
                        },
                    );
            }
            if weight_wanted {
                dw.par_chunks_mut(d)
                    .zip(inverse.par_chunks(ROWS))
                    .zip(x.par_chunks(ROWS * d).zip(grad.par_chunks(ROWS * d)))
                    .for_each(|((dw, inverse), (x, g))| {
                        with_simd(
                            #[inline(always)]
                            || {
                                for ((r, x), g) in inverse.iter().zip(x.chunks_exact(d)).zip(g.chunks_exact(d)) {
                                    for ((dw, x), g) in dw.iter_mut().zip(x).zip(g) {
                                        *dw += g * x * r;
                                    }
                                }
                            },
                        );
                    });
            }
            let dw = weight_wanted.then(|| {
                let mut sum = vec![0f32; d];
                for part in dw.chunks_exact(d) {
                    for (s, p) in sum.iter_mut().zip(part) {
                        *s += p;
                    }
                }
                tensor(sum, [d])
            });
            [x_wanted.then(|| tensor(dx, [n, d])), dw]
        })
    }))
}

/// SwiGLU: the fused form of [`crate::llm::kernel::portable::gated`] for SiLU; `None` if the tensor does not fit.
pub fn swiglu(gate_up: &Tensor<2>) -> Option<Tensor<2>> {
    let [n, two_f] = gate_up.dims();
    let f = two_f / 2;
    let input = Input::of(gate_up)?;
    let both = input.values();
    if n * f == 0 {
        return None;
    }
    let mut out = vec![0f32; n * f];
    out.par_chunks_mut(ROWS * f).zip(slice(&both).par_chunks(ROWS * two_f)).for_each(|(out, both)| {
        with_simd(
            #[inline(always)]
            || {
                for (out, both) in out.chunks_exact_mut(f).zip(both.chunks_exact(two_f)) {
                    let (gate, up) = both.split_at(f);
                    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
                        *o = g * sigmoid(*g) * u;
                    }
                }
            },
        );
    });
    Some(record([input], tensor(out, [n, f]), move || {
        Arc::new(move |grad, _| {
            let mut d = vec![0f32; n * two_f];
            d.par_chunks_mut(ROWS * two_f)
                .zip(slice(&both).par_chunks(ROWS * two_f).zip(grad.par_chunks(ROWS * f)))
                .for_each(|(d, (both, grad))| {
                    with_simd(
                        #[inline(always)]
                        || {
                            let rows = both.chunks_exact(two_f).zip(grad.chunks_exact(f));
                            for (d, (both, grad)) in d.chunks_exact_mut(two_f).zip(rows) {
                                let (gate, up) = both.split_at(f);
                                let (d_gate, d_up) = d.split_at_mut(f);
                                let inner = gate.iter().zip(up).zip(grad);
                                for ((dg, du), ((g, u), o)) in d_gate.iter_mut().zip(d_up).zip(inner) {
                                    let s = sigmoid(*g);
                                    *du = o * g * s;
                                    *dg = o * u * s * (1.0 + g * (1.0 - s));
                                }
                            }
                        },
                    );
                });
            [Some(tensor(d, [n, two_f]))]
        })
    }))
}

/// Fused form of [`crate::llm::kernel::portable::cross_entropy`], which writes the gradient over the logits; returns
/// the logits unchanged if they do not fit or a target is outside the vocabulary.
#[expect(clippy::result_large_err, reason = "the logits are given back to the portable implementation")]
pub fn cross_entropy(logits: Tensor<2>, targets: &Tensor<1, Int>) -> Result<Tensor<1>, Tensor<2>> {
    let [n, v] = logits.dims();
    let targets: Vec<usize> =
        targets.clone().try_into_vec_as::<i32>().unwrap_or_default().into_iter().map(|t| t as usize).collect();
    if n * v == 0 || targets.len() != n || targets.iter().any(|t| *t >= v) {
        return Err(logits);
    }
    let Some(input) = Input::of(&logits) else { return Err(logits) };
    drop(logits);
    let (logits, node) = input.into_parts();
    let mut pull = logits.to_contiguous();
    // Without another owner the logits are overwritten in place.
    drop(logits);
    let mut losses = vec![0f64; n];
    // The gradient is known in the forward pass already: (softmax − one-hot target) / n.
    let rows = pull.storage_mut::<f32>().par_chunks_mut(v);
    rows.zip(losses.par_iter_mut().zip(&targets)).for_each(|(p, (loss, target))| {
        with_simd(
            #[inline(always)]
            || {
                let most = max(p);
                // `n` and the target were checked above, so both look-ups succeed.
                let of_target = p.get(*target).copied().unwrap_or(most);
                for p in p.iter_mut() {
                    *p = exp(*p - most);
                }
                let sum = sum2(p, p, |a, _| a);
                let scale = 1.0 / (sum * n as f32);
                for p in p.iter_mut() {
                    *p *= scale;
                }
                if let Some(p) = p.get_mut(*target) {
                    *p -= 1.0 / n as f32;
                }
                *loss = f64::from(sum.ln()) - f64::from(of_target - most);
            },
        );
    });
    let loss = (losses.iter().sum::<f64>() / n as f64) as f32;
    // A graph is differentiated once, so that the gradient is moved out.
    let pull = Mutex::new(Some(pull));
    let loss = tensor(vec![loss], [1]);
    let Some(node) = node else { return Ok(Tensor::from_primitive::<Flex>(loss)) };
    Ok(record_nodes([node], loss, move || {
        Arc::new(move |grad, _| {
            let g = grad.first().copied().unwrap_or(0.0);
            let mut pull = pull.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(pull) = pull.as_mut().filter(|_| g != 1.0) {
                pull.storage_mut::<f32>().par_chunks_mut(v).for_each(|row| row.iter_mut().for_each(|p| *p *= g));
            }
            [pull]
        })
    }))
}
