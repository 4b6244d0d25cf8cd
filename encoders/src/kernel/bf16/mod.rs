//! Matrix products of operands rounded to bf16 with sums in f32, for processors with AVX-512 BF16.
//!
//! A bf16 number is the upper half of an f32. The instruction `vdpbf16ps` adds the products of two pairs of them to an
//! f32 sum, so that a product takes less than half the time and the operands half the memory. The right operand, a
//! layer's weight, is rounded and reordered once ([`PackedMatrix`]); the left operand is written as rows of bf16
//! ([`Bf16Rows`]) by the operation before it (a norm, an activation, attention). Biases, activations, residuals and
//! norms are computed in f32 while a strip of the result is in the cache.
//!
//! The gradients of a linear layer are such products too: that of its input has the gradient of the output on the left and
//! the transposed weight on the right; that of its weight sums over rows, with the input as [`Bf16Transposed`] on the left
//! and the gradient, packed like a weight, on the right. Neither has to be transposed in memory.
//!
//! Every element is summed over its inputs in the same order, so that results depend neither on the number of threads
//! nor on the other rows. [`is_supported`] says whether the processor has the instruction; without it the same products
//! are computed in f32 arithmetic from the same rounded operands, which is slow and meant for tests.

#[allow(unsafe_code, reason = "tasks write disjoint parts of one result")]
mod attention;
mod layers;
#[allow(unsafe_code, reason = "sets the length of a vector that tasks have written")]
mod packed;
#[allow(unsafe_code, reason = "tasks write disjoint strips of one result")]
mod product;
#[allow(unsafe_code, reason = "calls SIMD instructions on slices whose lengths are checked before")]
mod tile;
#[allow(unsafe_code, reason = "sets the length of a vector that tasks have written")]
mod transposed;
mod weights;

pub(super) use attention::attention;
pub(super) use layers::{linear, linear_activation, norm, residual, weight_of};
pub use packed::PackedMatrix;
pub use product::{Bf16Rows, LeftOperand, product, products, sum_of_products};
pub use transposed::Bf16Transposed;
pub use weights::{PackedWeight, pack_weights};

use half::bf16;

/// Whether this processor multiplies bf16 numbers (AVX-512 BF16).
pub fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The bits of `x` rounded to the nearest bf16 (ties to even), in the upper half; the lower half is arbitrary. NaN
/// stays NaN.
#[inline(always)]
fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let nan = bits & 0x7fff_ffff > 0x7f80_0000;
    if nan { bits | 0x0040_0000 } else { bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) }
}

/// Rounds `x` to the nearest bf16.
#[inline(always)]
fn rounded(x: f32) -> bf16 {
    bf16::from_bits((rounded_bits(x) >> 16) as u16)
}

/// Rounds two numbers to bf16 and joins them to a pair, the first in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    rounded_bits(first) >> 16 | rounded_bits(second) & 0xffff_0000
}

/// Joins the numbers of two rows in the columns from `first` on to pairs; beyond the end of a row stand zeros.
#[inline(always)]
fn joined<const N: usize>(rows: [&[f32]; 2], first: usize) -> [u32; N] {
    let mut out = [0; N];
    let [above, below] = rows.map(|row| row.get(first..).unwrap_or_default());
    if let (Some(above), Some(below)) = (above.first_chunk::<N>(), below.first_chunk::<N>()) {
        for ((out, a), b) in out.iter_mut().zip(above).zip(below) {
            *out = pair(*a, *b);
        }
    } else {
        for (k, out) in out.iter_mut().enumerate() {
            let [a, b] = [above, below].map(|row| row.get(k).copied().unwrap_or(0.0));
            *out = pair(a, b);
        }
    }
    out
}

/// Rounds a slice to bf16.
#[inline(always)]
fn round(from: &[f32], to: &mut [bf16]) {
    for (to, x) in to.iter_mut().zip(from) {
        *to = rounded(*x);
    }
}
