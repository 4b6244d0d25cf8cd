//! Sixteen lanes in two registers of AVX2 with fused multiply-add, optionally with dot products of bytes (AVX-VNNI).

use super::{Kernel, Lanes, Quads};
use crate::number_format::{Codes, GgmlBlock};
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;
use std::array::from_fn;

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
fn half(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn read_rows(block: GgmlBlock, rows: &[&[u8]], out: &mut [Codes]) {
    block.read_rows(rows, out, |bits| half(bits));
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
    block.unpack(bytes, out, |bits| half(bits));
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
            [low, high].map(|half| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half)))
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
            let codes = [codes.as_ptr(), codes[8..].as_ptr()].map(|half| _mm256_loadu_si256(half.cast()));
            from_fn(|half| {
                if VNNI {
                    return _mm256_dpbusd_avx_epi32(sums[half], bytes, codes[half]);
                }
                // Not `maddubs`, whose sums of two products saturate at 16 bits: codes of 8 bits go beyond.
                let (even, odd) = (_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16::<8>(bytes));
                let codes_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes[half]));
                let codes_odd = _mm256_srai_epi16::<8>(codes[half]);
                let sums = _mm256_add_epi32(sums[half], _mm256_madd_epi16(even, codes_even));
                _mm256_add_epi32(sums, _mm256_madd_epi16(odd, codes_odd))
            })
        }
    }

    #[inline(always)]
    fn join(self, high: Self::I, low: Self::I) -> Self::I {
        // SAFETY: as above.
        unsafe { from_fn(|half| _mm256_add_epi32(_mm256_slli_epi32::<8>(high[half]), low[half])) }
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
            let float = |v| _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(v));
            [
                [float(_mm256_slli_epi32::<24>(a)), float(_mm256_slli_epi32::<24>(b))],
                [float(_mm256_slli_epi32::<16>(a)), float(_mm256_slli_epi32::<16>(b))],
                [float(_mm256_slli_epi32::<8>(a)), float(_mm256_slli_epi32::<8>(b))],
                [float(a), float(b)],
            ]
        }
    }

    #[inline(always)]
    fn transpose_quads(self, rows: [&Quads; 16]) -> [Quads; 16] {
        from_fn(|k| from_fn(|row| rows[row][k]))
    }

    #[inline(always)]
    fn transpose(self, rows: [&[f32; 16]; 16]) -> [[f32; 16]; 16] {
        from_fn(|k| from_fn(|row| rows[row][k]))
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8]) {
        for line in bytes.chunks(64) {
            // SAFETY: as above; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }

    #[inline(always)]
    fn read_rows<const N: usize>(self, block: GgmlBlock, rows: [&[u8]; N], out: &mut [Codes; N]) {
        // SAFETY: as above.
        unsafe { read_rows(block, &rows, out) }
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
