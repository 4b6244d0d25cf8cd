//! SIMD loops over slices, compiled for the vector instructions that this processor has.

/// Runs `f` compiled for AVX-512, or for AVX2 with fused multiply-add, if the processor has them.
///
/// `f` and everything it calls must be `#[inline(always)]`: other functions are compiled for the baseline processor.
#[inline]
pub fn with_simd<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn run<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn run_avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            let avx512 = std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512dq");
            // SAFETY: the processor has the features, as checked above.
            return unsafe { if avx512 { run_avx512(f) } else { run(f) } };
        }
    }
    f()
}

/// Number of partial sums: two vectors of eight.
const LANES: usize = 16;

/// Sums `f(a, b)` over two slices in sixteen partial sums; the order does not depend on the processor.
#[inline(always)]
pub fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a16, a_rest) = a.as_chunks::<LANES>();
    let (b16, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a16.iter().zip(b16) {
        for ((l, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *l += f(*x, *y);
        }
    }
    let mut total = 0.0;
    for (x, y) in a_rest.iter().zip(b_rest) {
        total += f(*x, *y);
    }
    lanes.iter().sum::<f32>() + total
}

/// The largest value; −∞ for an empty slice.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (a16, rest) = a.as_chunks::<LANES>();
    for x in a16 {
        for (l, x) in lanes.iter_mut().zip(x) {
            *l = if *x > *l { *x } else { *l };
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

/// Computes eˣ to about one unit in the last place, for x up to 88 (0 below −87), by range reduction and a
/// polynomial as in Cephes. Unlike the standard library's it has no branch, so that loops over it are vectorised.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with few enough bits to make n · part exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let dead = x < -87.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    if dead { 0.0 } else { y * scale }
}

/// The logistic function, `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Computes the error function to about four units in the last place: x · P(x²) / Q(x²) on −4..4, beyond which it
/// is ±1 in f32 (the rational function of XLA and Eigen).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let s = x * x;
    let p = -2.726_142_3e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_4e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exp() {
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let e = f64::from(x).exp();
            assert!((f64::from(exp(x)) - e).abs() / e < 3e-7, "{x}: {} {e}", exp(x));
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    /// The expected values are from tables, at multiples of one half.
    #[test]
    fn erf_is_erf() {
        let known = [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (1.5, 0.966_105_146_5)];
        for (x, y) in known.into_iter().chain([(2.0, 0.995_322_265_0), (3.0, 0.999_977_909_5), (5.0, 1.0)]) {
            assert!((f64::from(erf(x)) - y).abs() < 5e-7, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }

    #[test]
    fn sums_and_maxima_take_every_element() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(with_simd(|| sum2(&a, &a, |x, _| x)), 666.0);
        assert_eq!(max(&a), 36.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }
}
