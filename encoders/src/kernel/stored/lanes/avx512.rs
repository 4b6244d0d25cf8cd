//! Sixteen lanes in one register of AVX-512, with its dot products of bytes (VNNI).

use super::avx2::{half, join, vector};
use super::{Kernel, Lanes, Quads};
use crate::number_format::{Codes, GgmlBlock};
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;
use std::array::from_fn;

/// Exists only in functions that are compiled for AVX-512, which run only if the processor has it.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512(());

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
fn read_rows(block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
    block.read_rows(rows, chunk, out, |bits| half(bits));
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
fn unpack(block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
    block.unpack(bytes, out, |bits| half(bits));
}

/// Transposes sixteen rows of sixteen numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // Squares of 2 and of 4 within each quarter of the registers, then the quarters.
    let mut pairs = rows;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Quarter `q` of `fours[4 b + i]` holds column `4 q + i` of rows `4 b` to `4 b + 3`.
    let mut fours = pairs;
    for b in [0, 4, 8, 12] {
        fours[b] = _mm512_unpacklo_epi64(pairs[b], pairs[b + 2]);
        fours[b + 1] = _mm512_unpackhi_epi64(pairs[b], pairs[b + 2]);
        fours[b + 2] = _mm512_unpacklo_epi64(pairs[b + 1], pairs[b + 3]);
        fours[b + 3] = _mm512_unpackhi_epi64(pairs[b + 1], pairs[b + 3]);
    }
    let mut out = rows;
    for i in 0..4 {
        let (low, high) = ([fours[i], fours[i + 4]], [fours[i + 8], fours[i + 12]]);
        let even = [_mm512_shuffle_i32x4::<0x88>(low[0], low[1]), _mm512_shuffle_i32x4::<0x88>(high[0], high[1])];
        let odd = [_mm512_shuffle_i32x4::<0xdd>(low[0], low[1]), _mm512_shuffle_i32x4::<0xdd>(high[0], high[1])];
        out[i] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        out[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    out
}

/// Transposes sixteen rows of sixteen items of four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed<T: Copy>(rows: [&[T; 16]; 16]) -> [[T; 16]; 16] {
    const { assert!(size_of::<T>() == 4) };
    let mut out = rows.map(|row| *row);
    // SAFETY: rows are as large as the registers, and items are moved as a whole; loads and stores are unaligned.
    unsafe {
        let mut loaded = [_mm512_setzero_si512(); 16];
        for (loaded, row) in loaded.iter_mut().zip(rows) {
            *loaded = _mm512_loadu_si512(row.as_ptr().cast());
        }
        for (out, column) in out.iter_mut().zip(transpose(loaded)) {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), column);
        }
    }
    out
}

// SAFETY of all blocks below: the processor has AVX-512 with VNNI, because `self` exists; loads and stores are unaligned
// and stay within the arrays, whose sizes are those of the registers.
impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn pair(self, values: [f32; 2]) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(values[0]), _mm512_set1_ps(values[1])) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; 16]) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn float_f16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(numbers.as_ptr().cast())) }
    }

    #[inline(always)]
    fn float_bf16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe {
            let numbers = _mm512_cvtepu16_epi32(_mm256_loadu_si256(numbers.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(numbers))
        }
    }

    #[inline(always)]
    fn load_integers(self, values: &[i32; 16]) -> Self::I {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_integers(self, values: Self::I, to: &mut [i32; 16]) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) }
    }

    #[inline(always)]
    fn dot(self, sums: Self::I, bytes: [u8; 4], codes: &Quads) -> Self::I {
        // SAFETY: as above.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(i32::from_le_bytes(bytes)), codes)
        }
    }

    #[inline(always)]
    fn join(self, high: Self::I, low: Self::I) -> Self::I {
        // SAFETY: as above.
        unsafe { _mm512_add_epi32(_mm512_slli_epi32::<7>(high), low) }
    }

    #[inline(always)]
    fn dot_codes(self, sums: Self::I, codes: Self::B, bytes: &[i8; 64], _large: bool) -> Self::I {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sums, codes, _mm512_loadu_si512(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn float_integers(self, values: Self::I) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(values) }
    }

    #[inline(always)]
    fn pick(self, values: Self::F, indices: &[i32; 16]) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_permutexvar_ps(_mm512_loadu_si512(indices.as_ptr().cast()), values) }
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: as above.
        unsafe { half(bits) }
    }

    #[inline(always)]
    fn halves(self, bits: [u128; 2]) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_set_m128i(vector(bits[1]), vector(bits[0]))) }
    }

    #[inline(always)]
    fn bytes(self, bytes: u128) -> Self::F {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(vector(bytes))) }
    }

    #[inline(always)]
    fn two(self, parts: [&[u8; 32]; 2]) -> Self::B {
        // SAFETY: as above.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(parts[0].as_ptr().cast()));
            _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(parts[1].as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn four(self, parts: [&[u8; 16]; 4]) -> Self::B {
        // SAFETY: as above.
        unsafe {
            let low = _mm512_castsi256_si512(join(parts[0], parts[1]));
            _mm512_inserti64x4::<1>(low, join(parts[2], parts[3]))
        }
    }

    #[inline(always)]
    fn bits(self, bytes: Self::B, shifts: [u8; 4], mask: u8) -> Self::B {
        let shifts: [i32; 16] = from_fn(|i| i32::from(shifts[i / 4]));
        // SAFETY: as above.
        unsafe {
            let shifted = _mm512_srlv_epi32(bytes, _mm512_loadu_si512(shifts.as_ptr().cast()));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    fn merge(self, low: Self::B, high: Self::B, by: u8) -> Self::B {
        // SAFETY: as above.
        unsafe { _mm512_or_si512(low, _mm512_sllv_epi32(high, _mm512_set1_epi32(i32::from(by)))) }
    }

    #[inline(always)]
    fn set_bits(self, bytes: Self::B, which: u64, value: u8) -> Self::B {
        // SAFETY: as above.
        unsafe { _mm512_or_si512(bytes, _mm512_maskz_set1_epi8(which, value.cast_signed())) }
    }

    #[inline(always)]
    fn add_bytes(self, bytes: Self::B, value: u8) -> Self::B {
        // SAFETY: as above.
        unsafe { _mm512_add_epi8(bytes, _mm512_set1_epi8(value.cast_signed())) }
    }

    #[inline(always)]
    fn quads(self, codes: &Quads) -> Self::B {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn columns(self, bytes: Self::B) -> [Self::F; 4] {
        // SAFETY: as above.
        unsafe {
            [
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(bytes))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(bytes))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(bytes))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(bytes)),
            ]
        }
    }

    #[inline(always)]
    fn columns_of_nibbles(self, bytes: Self::B, offset: u8) -> [Self::F; 4] {
        let table: [f32; 16] = from_fn(|i| i as f32 - f32::from(offset));
        // SAFETY: as above.
        unsafe {
            // A table's index is the lowest 4 bits of a lane.
            let table = _mm512_loadu_ps(table.as_ptr());
            [
                _mm512_permutexvar_ps(bytes, table),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<8>(bytes), table),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<16>(bytes), table),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<24>(bytes), table),
            ]
        }
    }

    #[inline(always)]
    fn transpose_quads(self, rows: [&Quads; 16]) -> [Quads; 16] {
        // SAFETY: as above.
        unsafe { transposed(rows) }
    }

    #[inline(always)]
    fn transpose(self, rows: [&[f32; 16]; 16]) -> [[f32; 16]; 16] {
        // SAFETY: as above.
        unsafe { transposed(rows) }
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
