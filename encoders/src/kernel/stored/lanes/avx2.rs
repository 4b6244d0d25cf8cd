//! Sixteen lanes in two registers of AVX2 with fused multiply-add, optionally with dot products of bytes (AVX-VNNI).

use super::{Kernel, Lanes, Quads};
use crate::number_format::{Codes, GgmlBlock};
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

/// Exists only in functions that are compiled for AVX2, and for AVX-VNNI if `VNNI`, which run only if the processor has
/// them.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2<const VNNI: bool>(());

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2::<false>(()))
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) fn run_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2::<true>(()))
}

/// Converts a 16-bit float.
#[inline]
#[target_feature(enable = "f16c")]
pub(super) fn half(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn read_rows(block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
    block.read_rows(rows, chunk, out, |bits| half(bits));
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
    block.unpack(bytes, out, |bits| half(bits));
}

/// Puts the bytes of a number into a register.
#[inline(always)]
pub(super) fn vector(bytes: u128) -> __m128i {
    // SAFETY: both types are 16 bytes, of which any value is valid.
    unsafe { std::mem::transmute(bytes) }
}

/// Joins two times 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn join(low: &[u8; 16], high: &[u8; 16]) -> __m256i {
    // SAFETY: the loads are unaligned and as long as the arrays.
    unsafe { _mm256_set_m128i(_mm_loadu_si128(high.as_ptr().cast()), _mm_loadu_si128(low.as_ptr().cast())) }
}

/// Adds to each lane the dot product of four unsigned with four signed bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_exact(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // Not `maddubs`, whose sums of two products saturate at 16 bits.
    let (even, odd) = (_mm256_and_si256(unsigned, _mm256_set1_epi16(255)), _mm256_srli_epi16::<8>(unsigned));
    let signed_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(signed));
    let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(even, signed_even));
    _mm256_add_epi32(sums, _mm256_madd_epi16(odd, _mm256_srai_epi16::<8>(signed)))
}

/// The highest byte of each lane, as a signed number.
#[inline]
#[target_feature(enable = "avx2")]
fn highest(v: [__m256i; 2]) -> [__m256; 2] {
    [_mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(v[0])), _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(v[1]))]
}

// SAFETY of all blocks below: the processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`, because `self` exists; loads
// and stores are unaligned and stay within the arrays, whose sizes are those of two registers.
impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn pair(self, values: [f32; 2]) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(values[0]), _mm256_set1_ps(values[1])] }
    }

    #[inline(always)]
    fn load(self, values: &[f32; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values[8..].as_ptr())] }
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; 16]) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), values[0]);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), values[1]);
        }
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn float_f16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let low = _mm_loadu_si128(numbers.as_ptr().cast());
            let high = _mm_loadu_si128(numbers[8..].as_ptr().cast());
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    fn float_bf16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers[8..].as_ptr().cast()));
            let (low, high) = (_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high));
            [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
        }
    }

    #[inline(always)]
    fn load_integers(self, values: &[i32; 16]) -> Self::I {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(values.as_ptr().cast()), _mm256_loadu_si256(values[8..].as_ptr().cast())] }
    }

    #[inline(always)]
    fn store_integers(self, values: Self::I, to: &mut [i32; 16]) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), values[0]);
            _mm256_storeu_si256(to[8..].as_mut_ptr().cast(), values[1]);
        }
    }

    #[inline(always)]
    fn dot(self, sums: Self::I, bytes: [u8; 4], codes: &Quads) -> Self::I {
        // SAFETY: as above.
        unsafe {
            let bytes = _mm256_set1_epi32(i32::from_le_bytes(bytes));
            let codes = self.quads(codes);
            let mut out = sums;
            for half in 0..2 {
                if VNNI {
                    out[half] = _mm256_dpbusd_avx_epi32(sums[half], bytes, codes[half]);
                    continue;
                }
                out[half] = dot_exact(sums[half], bytes, codes[half]);
            }
            out
        }
    }

    #[inline(always)]
    fn join(self, high: Self::I, low: Self::I) -> Self::I {
        // SAFETY: as above.
        unsafe {
            [
                _mm256_add_epi32(_mm256_slli_epi32::<7>(high[0]), low[0]),
                _mm256_add_epi32(_mm256_slli_epi32::<7>(high[1]), low[1]),
            ]
        }
    }

    #[inline(always)]
    fn dot_codes(self, sums: Self::I, codes: Self::B, bytes: &[i8; 64], large: bool) -> Self::I {
        // SAFETY: as above.
        unsafe {
            let mut out = sums;
            for half in 0..2 {
                let bytes = _mm256_loadu_si256(bytes[32 * half..].as_ptr().cast());
                out[half] = if VNNI {
                    _mm256_dpbusd_avx_epi32(sums[half], codes[half], bytes)
                } else if large {
                    dot_exact(sums[half], codes[half], bytes)
                } else {
                    // Sums of two products are at most 2 · 63 · 127 < 2¹⁵.
                    let pairs = _mm256_maddubs_epi16(codes[half], bytes);
                    _mm256_add_epi32(sums[half], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                };
            }
            out
        }
    }

    #[inline(always)]
    fn float_integers(self, values: Self::I) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_cvtepi32_ps(values[0]), _mm256_cvtepi32_ps(values[1])] }
    }

    #[inline(always)]
    fn pick(self, values: Self::F, indices: &[i32; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let mut out = values;
            for (out, indices) in out.iter_mut().zip(indices.as_chunks::<8>().0) {
                let from = if indices[0] < 8 { values[0] } else { values[1] };
                *out = _mm256_permutevar8x32_ps(from, _mm256_loadu_si256(indices.as_ptr().cast()));
            }
            out
        }
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: as above.
        unsafe { half(bits) }
    }

    #[inline(always)]
    fn halves(self, bits: [u128; 2]) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_cvtph_ps(vector(bits[0])), _mm256_cvtph_ps(vector(bits[1]))] }
    }

    #[inline(always)]
    fn bytes(self, bytes: u128) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_cvtepi8_epi32(vector(bytes)), _mm256_cvtepi8_epi32(vector(bytes >> 64)));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    fn two(self, parts: [&[u8; 32]; 2]) -> Self::B {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(parts[0].as_ptr().cast()), _mm256_loadu_si256(parts[1].as_ptr().cast())] }
    }

    #[inline(always)]
    fn four(self, parts: [&[u8; 16]; 4]) -> Self::B {
        // SAFETY: as above.
        unsafe { [join(parts[0], parts[1]), join(parts[2], parts[3])] }
    }

    #[inline(always)]
    fn bits(self, bytes: Self::B, shifts: [u8; 4], mask: u8) -> Self::B {
        let mut out = bytes;
        // SAFETY: as above.
        unsafe {
            for (out, shifts) in out.iter_mut().zip(shifts.as_chunks::<2>().0) {
                let (a, b) = (_mm_set1_epi32(i32::from(shifts[0])), _mm_set1_epi32(i32::from(shifts[1])));
                let shifted = _mm256_srlv_epi32(*out, _mm256_set_m128i(b, a));
                *out = _mm256_and_si256(shifted, _mm256_set1_epi8(mask.cast_signed()));
            }
        }
        out
    }

    #[inline(always)]
    fn merge(self, low: Self::B, high: Self::B, by: u8) -> Self::B {
        // SAFETY: as above.
        unsafe {
            let mut out = low;
            for (out, high) in out.iter_mut().zip(high) {
                *out = _mm256_or_si256(*out, _mm256_sllv_epi32(high, _mm256_set1_epi32(i32::from(by))));
            }
            out
        }
    }

    #[inline(always)]
    fn set_bits(self, bytes: Self::B, which: u64, value: u8) -> Self::B {
        // SAFETY: as above.
        unsafe {
            let mut out = bytes;
            for (half, out) in out.iter_mut().enumerate() {
                // Every byte gets the byte of `which` that has its bit, and keeps that bit.
                let which = _mm256_set1_epi32((which >> (32 * half)) as i32);
                let place = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(which, place), bit), bit);
                *out = _mm256_or_si256(*out, _mm256_and_si256(set, _mm256_set1_epi8(value.cast_signed())));
            }
            out
        }
    }

    #[inline(always)]
    fn add_bytes(self, bytes: Self::B, value: u8) -> Self::B {
        // SAFETY: as above.
        unsafe {
            let value = _mm256_set1_epi8(value.cast_signed());
            [_mm256_add_epi8(bytes[0], value), _mm256_add_epi8(bytes[1], value)]
        }
    }

    #[inline(always)]
    fn quads(self, codes: &Quads) -> Self::B {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(codes.as_ptr().cast()), _mm256_loadu_si256(codes[8..].as_ptr().cast())] }
    }

    #[inline(always)]
    fn columns(self, bytes: Self::B) -> [Self::F; 4] {
        // SAFETY: as above.
        unsafe {
            let [a, b] = bytes;
            let (a24, b24) = (_mm256_slli_epi32::<24>(a), _mm256_slli_epi32::<24>(b));
            let (a16, b16) = (_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b));
            let (a8, b8) = (_mm256_slli_epi32::<8>(a), _mm256_slli_epi32::<8>(b));
            [highest([a24, b24]), highest([a16, b16]), highest([a8, b8]), highest([a, b])]
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: as above; a prefetch of any address has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn read_rows(self, block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
        // SAFETY: as above.
        unsafe { read_rows(block, rows, chunk, out) }
    }

    #[inline(always)]
    fn unpack(self, block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { unpack(block, bytes, out) }
    }
}
