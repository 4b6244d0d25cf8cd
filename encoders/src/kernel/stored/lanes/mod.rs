//! Vectors of sixteen numbers in the vector instructions of the processor, behind one interface.
//!
//! A kernel is written once, generic in [`Lanes`], and [`Level::run`] compiles it for every instruction set. A value of a
//! type that implements [`Lanes`] exists only if the processor has its instructions, so that its methods are safe.

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "several arrays are indexed by one number, in registers")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::number_format::{Codes, GgmlBlock};
use portable::Portable;
use std::array::from_fn;

/// Four consecutive codes of each of sixteen rows (or 64 codes of one row).
pub(super) type Quads = [[i8; 4]; 16];

/// Sixteen f32 or i32 lanes in the registers of one instruction set.
///
/// All methods are `#[inline(always)]`: they are compiled for the function that they end up in.
pub(super) trait Lanes: Copy + Send + Sync {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// 64 unsigned bytes.
    type B: Copy;
    /// Number of registers of sixteen lanes: 32 suffice for 24 accumulators beside the operands, 8 for four.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::F;
    /// Eight lanes of one value and eight of another.
    fn pair(self, values: [f32; 2]) -> Self::F;
    fn load(self, values: &[f32; 16]) -> Self::F;
    fn store(self, values: Self::F, to: &mut [f32; 16]);
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// Computes `a · b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn float_f16(self, numbers: &[[u8; 2]; 16]) -> Self::F;
    fn float_bf16(self, numbers: &[[u8; 2]; 16]) -> Self::F;
    fn load_integers(self, values: &[i32; 16]) -> Self::I;
    fn store_integers(self, values: Self::I, to: &mut [i32; 16]);
    /// Adds to each lane the dot product of its row's four codes with four unsigned bytes.
    fn dot(self, sums: Self::I, bytes: [u8; 4], codes: &Quads) -> Self::I;
    /// Computes `128 · high + low`.
    fn join(self, high: Self::I, low: Self::I) -> Self::I;
    /// Adds to each lane the dot product of its four codes with four signed bytes. `large`: codes may be above 63.
    fn dot_codes(self, sums: Self::I, codes: Self::B, bytes: &[i8; 64], large: bool) -> Self::I;
    fn float_integers(self, values: Self::I) -> Self::F;
    /// The lanes of `values` at these indices; those of each eight lanes must be either all below 8 or all above.
    fn pick(self, values: Self::F, indices: &[i32; 16]) -> Self::F;
    /// Converts a 16-bit float.
    fn half(self, bits: u16) -> f32;
    /// Converts sixteen 16-bit floats, of which the first is in the lowest bits.
    fn halves(self, bits: [u128; 2]) -> Self::F;
    /// Converts sixteen signed bytes, of which the first is in the lowest bits.
    fn bytes(self, bytes: u128) -> Self::F;
    /// Joins two times 32 bytes.
    fn two(self, parts: [&[u8; 32]; 2]) -> Self::B;
    /// Joins four times 16 bytes.
    fn four(self, parts: [&[u8; 16]; 4]) -> Self::B;
    /// Shifts the bytes of each quarter to the right and keeps the bits of `mask`, which has no bit that another byte
    /// is shifted into.
    fn bits(self, bytes: Self::B, shifts: [u8; 4], mask: u8) -> Self::B;
    /// Computes `low | high << by`, where no bit leaves its byte.
    fn merge(self, low: Self::B, high: Self::B, by: u8) -> Self::B;
    /// Sets the bits of `value` in the bytes whose bit in `which` is set.
    fn set_bits(self, bytes: Self::B, which: u64, value: u8) -> Self::B;
    /// Adds a number to each byte, without carry.
    fn add_bytes(self, bytes: Self::B, value: u8) -> Self::B;
    fn quads(self, codes: &Quads) -> Self::B;
    /// The first of every four bytes as signed numbers, then the second, and so on.
    fn columns(self, bytes: Self::B) -> [Self::F; 4];
    /// As [`Lanes::columns`], of bytes below 16 minus `offset`.
    #[inline(always)]
    fn columns_of_nibbles(self, bytes: Self::B, offset: u8) -> [Self::F; 4] {
        self.columns(self.add_bytes(bytes, offset.wrapping_neg()))
    }
    /// Transposes 64 codes of each of sixteen rows: item `k` has the `k`th four codes of all rows.
    #[inline(always)]
    fn transpose_quads(self, rows: [&Quads; 16]) -> [Quads; 16] {
        from_fn(|k| from_fn(|row| rows[row][k]))
    }
    #[inline(always)]
    fn transpose(self, rows: [&[f32; 16]; 16]) -> [[f32; 16]; 16] {
        from_fn(|k| from_fn(|row| rows[row][k]))
    }
    /// Asks for the bytes at an address, which need not be valid, because they will be read soon.
    fn prefetch(self, at: *const u8);
    /// Reads the `chunk`th 256 values of each row; values beyond a row's bytes become zeros.
    fn read_rows(self, block: GgmlBlock, rows: &[&[u8]], chunk: usize, out: &mut [Codes]);
    /// Unpacks whole blocks, equal to gguf-py's values to the last bit.
    fn unpack(self, block: GgmlBlock, bytes: &[u8], out: &mut [f32]);
}

/// Sums sixteen lanes in an order that does not depend on the processor.
#[inline(always)]
pub(super) fn sum<L: Lanes>(lanes: L, values: L::F) -> f32 {
    let mut sums = [0f32; 16];
    lanes.store(values, &mut sums);
    let eight: [f32; 8] = from_fn(|i| sums[i] + sums[i + 8]);
    let four: [f32; 4] = from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// A kernel. Its `run` and all that it calls are `#[inline(always)]`.
pub(super) trait Kernel {
    type Output;
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// An instruction set, from the plainest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Whatever the compiler assumes of every processor of this architecture.
    Portable,
    /// AVX2 with fused multiply-add and conversion of 16-bit floats.
    Avx2,
    /// AVX2 with dot products of bytes.
    AvxVnni,
    /// AVX-512 with dot products of bytes.
    Avx512Vnni,
}

impl Level {
    /// All levels, from the plainest on.
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];

    /// Whether this processor has the instructions.
    pub(super) fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Portable => true,
            Self::Avx2 => avx2::is_available(),
            Self::AvxVnni => avx2::is_available() && std::arch::is_x86_feature_detected!("avxvnni"),
            Self::Avx512Vnni => avx2::is_available() && avx512::is_available(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The best level that this processor has.
    pub(super) fn best() -> Self {
        let from_best = [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2];
        from_best.into_iter().find(|level| level.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether [`Lanes::REGISTERS`] is at least 32.
    pub(super) fn has_many_registers(self) -> bool {
        self == Self::Avx512Vnni
    }

    /// Runs a kernel compiled for this level, or for [`Level::Portable`] if the processor does not have it.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if self.is_available() {
            // SAFETY: the processor has the instructions, as checked above.
            unsafe {
                match self {
                    Self::Portable => {}
                    Self::Avx2 => return avx2::run(kernel),
                    Self::AvxVnni => return avx2::run_vnni(kernel),
                    Self::Avx512Vnni => return avx512::run(kernel),
                }
            }
        }
        kernel.run(Portable)
    }
}
