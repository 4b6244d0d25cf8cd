//! Sixteen lanes in plain Rust.

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
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; 16]
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
    fn float_codes(self, codes: &[i8; 16]) -> Self::F {
        codes.map(f32::from)
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
    fn dot_signed(self, codes: &[i8; 64], bytes: &[i8; 64], _start: &[i32; 16]) -> Self::I {
        from_fn(|i| (4 * i..4 * i + 4).map(|j| i32::from(codes[j]) * i32::from(bytes[j])).sum())
    }

    #[inline(always)]
    fn dot_unsigned(self, codes: &[i8; 64], bytes: &[u8; 64]) -> Self::I {
        from_fn(|i| (4 * i..4 * i + 4).map(|j| i32::from(codes[j]) * i32::from(bytes[j])).sum())
    }

    #[inline(always)]
    fn repeat<const GROUP: usize>(self, scales: &[f32; 16], quarter: usize) -> Self::F {
        from_fn(|i| scales[(64 * quarter + 4 * i) / GROUP])
    }

    #[inline(always)]
    fn float_integers(self, values: Self::I) -> Self::F {
        values.map(|v| v as f32)
    }

    #[inline(always)]
    fn columns(self, codes: &Quads) -> [Self::F; 4] {
        from_fn(|j| codes.map(|codes| f32::from(codes[j])))
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

/// Compiled once, and not into every kernel.
#[inline(never)]
fn read_rows(block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]) {
    block.read_rows(rows, chunk, out, |bits| f16::from_bits(bits).to_f32());
}

#[inline(never)]
fn unpack(block: GgmlBlock, bytes: &[u8], out: &mut [f32]) {
    block.unpack(bytes, out, |bits| f16::from_bits(bits).to_f32());
}
