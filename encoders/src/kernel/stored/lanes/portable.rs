//! Portable implementation of [`Lanes`] with arrays, for processors without a vector kernel.

use super::{Lanes, Quads};
use crate::number_format::{Codes, GgmlBlock};
use half::{bf16, f16};
use std::array::from_fn;

/// Arrays of sixteen numbers.
#[derive(Clone, Copy)]
pub(in super::super) struct Portable;

impl Lanes for Portable {
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    // Arrays are not registers: kernels use their smallest tiles.
    const REGISTERS: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; 16]
    }

    #[inline(always)]
    fn pair(self, values: [f32; 2]) -> Self::F {
        from_fn(|i| values[i / 8])
    }

    #[inline(always)]
    fn load(self, values: &[f32; 16]) -> Self::F {
        *values
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; 16]) {
        *to = values;
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn float_f16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        numbers.map(|bytes| f16::from_le_bytes(bytes).to_f32())
    }

    #[inline(always)]
    fn float_bf16(self, numbers: &[[u8; 2]; 16]) -> Self::F {
        numbers.map(|bytes| bf16::from_le_bytes(bytes).to_f32())
    }

    #[inline(always)]
    fn load_integers(self, values: &[i32; 16]) -> Self::I {
        *values
    }

    #[inline(always)]
    fn store_integers(self, values: Self::I, to: &mut [i32; 16]) {
        *to = values;
    }

    #[inline(always)]
    fn dot(self, sums: Self::I, bytes: [u8; 4], codes: &Quads) -> Self::I {
        from_fn(|i| sums[i] + (0..4).map(|j| i32::from(bytes[j]) * i32::from(codes[i][j])).sum::<i32>())
    }

    #[inline(always)]
    fn join(self, high: Self::I, low: Self::I) -> Self::I {
        from_fn(|i| 128 * high[i] + low[i])
    }

    #[inline(always)]
    fn dot_codes(self, sums: Self::I, codes: Self::B, bytes: &[i8; 64], _large: bool) -> Self::I {
        from_fn(|i| sums[i] + (4 * i..4 * i + 4).map(|j| i32::from(codes[j]) * i32::from(bytes[j])).sum::<i32>())
    }

    #[inline(always)]
    fn float_integers(self, values: Self::I) -> Self::F {
        values.map(|v| v as f32)
    }

    #[inline(always)]
    fn pick(self, values: Self::F, indices: &[i32; 16]) -> Self::F {
        indices.map(|i| values[i as usize % 16])
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }

    #[inline(always)]
    fn halves(self, bits: [u128; 2]) -> Self::F {
        from_fn(|i| self.half((bits[i / 8] >> (16 * (i % 8))) as u16))
    }

    #[inline(always)]
    fn bytes(self, bytes: u128) -> Self::F {
        bytes.to_le_bytes().map(|byte| f32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn two(self, parts: [&[u8; 32]; 2]) -> Self::B {
        from_fn(|i| parts[i / 32][i % 32])
    }

    #[inline(always)]
    fn four(self, parts: [&[u8; 16]; 4]) -> Self::B {
        from_fn(|i| parts[i / 16][i % 16])
    }

    #[inline(always)]
    fn bits(self, bytes: Self::B, shifts: [u8; 4], mask: u8) -> Self::B {
        from_fn(|i| bytes[i] >> shifts[i / 16] & mask)
    }

    #[inline(always)]
    fn merge(self, low: Self::B, high: Self::B, by: u8) -> Self::B {
        from_fn(|i| low[i] | high[i] << by)
    }

    #[inline(always)]
    fn set_bits(self, bytes: Self::B, which: u64, value: u8) -> Self::B {
        from_fn(|i| if which >> i & 1 == 1 { bytes[i] | value } else { bytes[i] })
    }

    #[inline(always)]
    fn add_bytes(self, bytes: Self::B, value: u8) -> Self::B {
        bytes.map(|byte| byte.wrapping_add(value))
    }

    #[inline(always)]
    fn quads(self, codes: &Quads) -> Self::B {
        from_fn(|i| codes[i / 4][i % 4].cast_unsigned())
    }

    #[inline(always)]
    fn columns(self, bytes: Self::B) -> [Self::F; 4] {
        from_fn(|k| from_fn(|i| f32::from(bytes[4 * i + k].cast_signed())))
    }

    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}

    #[inline(always)]
    fn read_rows(self, block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
        read_rows(block, rows, chunk, out);
    }

    #[inline(always)]
    fn unpack(self, block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
        unpack(block, bytes, out);
    }
}

/// Reads rows of blocks. Not inlined, so that it is compiled once and not once per kernel.
#[inline(never)]
fn read_rows(block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
    block.read_rows(rows, chunk, out, |bits| f16::from_bits(bits).to_f32());
}

/// Unpacks blocks. Not inlined, for the same reason.
#[inline(never)]
fn unpack(block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
    block.unpack(bytes, out, |bits| f16::from_bits(bits).to_f32());
}
