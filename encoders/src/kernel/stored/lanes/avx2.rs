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
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(value); 2] }
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
    fn float_codes(self, codes: &[i8; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(codes.as_ptr().cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(codes[8..].as_ptr().cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
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
            let codes = self.load_bytes(codes);
            let mut out = sums;
            for half in 0..2 {
                if VNNI {
                    out[half] = _mm256_dpbusd_avx_epi32(sums[half], bytes, codes[half]);
                    continue;
                }
                // Not `maddubs`, whose sums of two products saturate at 16 bits: codes of 8 bits go beyond.
                let (even, odd) = (_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16::<8>(bytes));
                let codes_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes[half]));
                let codes_odd = _mm256_srai_epi16::<8>(codes[half]);
                let sums = _mm256_add_epi32(sums[half], _mm256_madd_epi16(even, codes_even));
                out[half] = _mm256_add_epi32(sums, _mm256_madd_epi16(odd, codes_odd));
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
    fn dot_signed(self, codes: &[i8; 64], bytes: &[i8; 64], start: &[i32; 16]) -> Self::I {
        // SAFETY: as above.
        unsafe {
            let mut out = self.load_integers(start);
            for half in 0..2 {
                let codes = _mm256_loadu_si256(codes[32 * half..].as_ptr().cast());
                let bytes = _mm256_loadu_si256(bytes[32 * half..].as_ptr().cast());
                if VNNI {
                    let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                    out[half] = _mm256_dpbusd_avx_epi32(out[half], codes, bytes);
                    continue;
                }
                // The sign of a code moves to the byte. Sums of two products are at most 2 · 128 · 127 < 2¹⁵.
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(bytes, codes));
                out[half] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            }
            out
        }
    }

    #[inline(always)]
    fn dot_unsigned(self, codes: &[i8; 64], bytes: &[u8; 64]) -> Self::I {
        // SAFETY: as above.
        unsafe {
            let mut out = [_mm256_setzero_si256(); 2];
            for half in 0..2 {
                let codes = _mm256_loadu_si256(codes[32 * half..].as_ptr().cast());
                let bytes = _mm256_loadu_si256(bytes[32 * half..].as_ptr().cast());
                if VNNI {
                    out[half] = _mm256_dpbusd_avx_epi32(out[half], bytes, codes);
                    continue;
                }
                // Sums of two products are at most 2 · 127 · 128 < 2¹⁵.
                out[half] = _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, codes), _mm256_set1_epi16(1));
            }
            out
        }
    }

    #[inline(always)]
    fn repeat<const GROUP: usize>(self, scales: &[f32; 16], quarter: usize) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let mut out = [_mm256_setzero_ps(); 2];
            for half in 0..2 {
                let first = (64 * quarter + 32 * half) / GROUP;
                let (low, high) = (_mm_set1_ps(scales[first]), _mm_set1_ps(scales[first + (32 / GROUP - 1)]));
                out[half] = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
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
    fn columns(self, codes: &Quads) -> [Self::F; 4] {
        // SAFETY: as above.
        unsafe {
            let [a, b] = self.load_bytes(codes);
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

impl<const VNNI: bool> Avx2<VNNI> {
    #[inline(always)]
    fn load_bytes(self, codes: &Quads) -> [__m256i; 2] {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(codes.as_ptr().cast()), _mm256_loadu_si256(codes[8..].as_ptr().cast())] }
    }
}
