//! Preconditioned L-BFGS for smooth convex functions (Nocedal and Wright, Numerical Optimization, algorithm 7.5).

use std::collections::VecDeque;

/// Number of pairs of steps and gradient differences that are kept.
const MEMORY: usize = 12;
/// Required decrease, as a fraction of the decrease that the slope predicts (Armijo condition).
const DECREASE: f64 = 1e-4;
/// Maximum number of halvings of a step in the line search; after as many, no decrease is possible at this precision.
const HALVINGS: usize = 40;

/// Stopping criteria of the solver.
#[derive(Debug, Clone, Copy)]
pub struct LbfgsLimits {
    /// Largest absolute entry of the gradient at convergence.
    pub tolerance: f64,
    /// Maximum number of iterations.
    pub iterations: usize,
}

/// A step and the change of the gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 / (step · change).
    rho: f64,
}

/// Minimises a function, starting from `x`; returns the number of iterations.
///
/// `value(x, gradient)` returns the function's value at `x` and fills in its gradient. `precondition(v)` replaces `v`
/// by an approximation of the inverse Hessian times `v`; it must be symmetric and positive definite.
pub fn minimise(
    x: &mut Vec<f64>,
    limits: LbfgsLimits,
    mut value: impl FnMut(&[f64], &mut [f64]) -> f64,
    precondition: impl Fn(&mut [f64]),
) -> usize {
    let mut gradient = vec![0.0; x.len()];
    let mut now = value(x, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut scale = 1.0;
    for iteration in 0..limits.iterations {
        if gradient.iter().all(|g| g.abs() <= limits.tolerance) {
            return iteration;
        }
        let direction = direction(&gradient, &pairs, scale, &precondition);
        let slope = dot(&direction, &gradient);
        let (mut length, mut halvings) = (1.0, 0);
        let (next, next_gradient, next_value) = loop {
            let candidate: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let mut candidate_gradient = vec![0.0; x.len()];
            let found = value(&candidate, &mut candidate_gradient);
            if found <= now + DECREASE * length * slope {
                break (candidate, candidate_gradient, found);
            }
            halvings += 1;
            if halvings > HALVINGS {
                return iteration;
            }
            length /= 2.0;
        };
        let step: Vec<f64> = next.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-300 {
            let mut smoothed = change.clone();
            precondition(&mut smoothed);
            scale = curvature / dot(&change, &smoothed).max(1e-300);
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
        }
        (*x, gradient, now) = (next, next_gradient, next_value);
    }
    limits.iterations
}

/// Returns minus the approximate inverse Hessian times the gradient, by the two-loop recursion.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>, scale: f64, precondition: &impl Fn(&mut [f64])) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.rho * dot(&pair.step, &q);
        add(&mut q, -share, &pair.change);
        shares.push(share);
    }
    precondition(&mut q);
    q.iter_mut().for_each(|v| *v *= scale);
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = pair.rho * dot(&pair.change, &q);
        add(&mut q, share - back, &pair.step);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Adds `factor · b` to `a`.
fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_function_is_minimised() {
        // Σ cᵢ (xᵢ − i)² + (x₀ − x₁)⁴ with c from 1 to 10⁶: the minimum has a zero gradient.
        let c: Vec<f64> = (0..7).map(|i| 10_f64.powi(i)).collect();
        let value = |x: &[f64], g: &mut [f64]| {
            let quartic = x[0] - x[1];
            for i in 0..7 {
                g[i] = 2.0 * c[i] * (x[i] - i as f64);
            }
            g[0] += 4.0 * quartic.powi(3);
            g[1] -= 4.0 * quartic.powi(3);
            (0..7).map(|i| c[i] * (x[i] - i as f64).powi(2)).sum::<f64>() + quartic.powi(4)
        };
        let limits = LbfgsLimits { tolerance: 1e-8, iterations: 200 };
        for preconditioned in [false, true] {
            let mut x = vec![3.0; 7];
            let used = minimise(&mut x, limits, value, |v| {
                if preconditioned {
                    v.iter_mut().zip(&c).for_each(|(v, c)| *v /= 2.0 * c);
                }
            });
            let mut g = vec![0.0; 7];
            value(&x, &mut g);
            assert!(g.iter().all(|g| g.abs() <= 1e-6), "{preconditioned}: {g:?} after {used}");
            assert!(!preconditioned || used < 20, "{used}");
            assert!((x[6] - 6.0).abs() < 1e-9);
        }
    }
}
