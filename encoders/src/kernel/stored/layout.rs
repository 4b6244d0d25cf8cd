//! The blocks of ggml as vectors: 64 codes at a time with the scales of their groups, in registers.

use super::lanes::Lanes;
use crate::number_format::GgmlBlock;

/// Weights of one row that are read at a time: one block of the `K` types, or eight of the others.
pub(super) const CHUNK: usize = 256;

/// 256 weights of one row, `SIZE` bytes, as f32 in registers: numbers, with a factor and an addend per group.
pub(super) trait Layout<const SIZE: usize> {
    /// What is read once for the four quarters of a chunk.
    type Head<L: Lanes>: Copy;

    fn head<L: Lanes>(lanes: L, chunk: &[u8; SIZE]) -> Self::Head<L>;
    /// The `Q`th 64 numbers: lane `j` of item `k` is number `4 j + k` if they are codes, and number `16 k + j` otherwise.
    fn numbers<L: Lanes, const Q: usize>(lanes: L, chunk: &[u8; SIZE]) -> [L::F; 4];
    /// The factor of every four of the `Q`th 64 numbers; `None` if weights are the numbers.
    fn factors<L: Lanes, const Q: usize>(lanes: L, head: Self::Head<L>) -> Option<L::F>;
    /// The addends of all groups, in the lanes that [`Coding`] says; `None` in types without.
    fn addends<L: Lanes>(head: Self::Head<L>) -> Option<L::F>;
}

/// 256 weights of one row as codes with a scale, and in some types an addend, per group: a weight is
/// `(code − offset) · scale + addend`.
pub(super) trait Coded<const SIZE: usize>: Layout<SIZE> {
    const CODING: Coding;

    /// The `Q`th 64 codes.
    fn codes<L: Lanes, const Q: usize>(lanes: L, chunk: &[u8; SIZE]) -> L::B;
}

/// How a type of blocks is read as codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// Codes with the same scale: 16 or 32.
    pub(super) group: usize,
    /// Bits of a code.
    pub(super) bits: usize,
    /// What is subtracted from the codes, which are unsigned.
    pub(super) offset: u8,
    /// The distance of two groups' scales in the first vector of the head, in lanes.
    step: usize,
    /// The vector of the head with the addends, and the lane of the first of them.
    addends: Option<(usize, usize)>,
}

impl Coding {
    pub(super) const fn of(block: GgmlBlock) -> Self {
        let (bits, offset, step, addends) = match block {
            GgmlBlock::Q4_0 => (4, 8, 1, None),
            GgmlBlock::Q5_0 => (5, 16, 1, None),
            GgmlBlock::Q8_0 => (8, 128, 1, None),
            GgmlBlock::Q4_1 => (4, 0, 2, Some((0, 1))),
            GgmlBlock::Q5_1 => (5, 0, 2, Some((0, 1))),
            GgmlBlock::Q2K => (2, 0, 1, Some((1, 0))),
            GgmlBlock::Q3K => (3, 4, 1, None),
            GgmlBlock::Q4K => (4, 0, 1, Some((0, 8))),
            GgmlBlock::Q5K => (5, 0, 1, Some((0, 8))),
            GgmlBlock::Q6K => (6, 32, 1, None),
        };
        Self { group: block.group(), bits, offset, step, addends }
    }

    /// The lane of the head with the addend of a group; `None` in types without.
    pub(super) fn addend(self, group: usize) -> Option<usize> {
        self.addends.map(|(_, first)| first + self.step * group)
    }

    /// For every four of the `quarter`th 64 codes, the lane of the first vector of the head with their scale.
    const fn lanes(self, quarter: usize) -> [i32; 16] {
        let mut out = [0; 16];
        let mut i = 0;
        while i < 16 {
            out[i] = (self.step * ((64 * quarter + 4 * i) / self.group)) as i32;
            i += 1;
        }
        out
    }
}

/// 16-bit floats of IEEE 754.
pub(super) struct F16;
/// 16-bit floats with the exponent range of f32.
pub(super) struct Bf16;

/// Implements [`Layout`] for a type of 16-bit floats.
macro_rules! floats {
    ($type:ty, $convert:ident) => {
        impl Layout<512> for $type {
            type Head<L: Lanes> = ();

            #[inline(always)]
            fn head<L: Lanes>(_lanes: L, _chunk: &[u8; 512]) {}

            #[inline(always)]
            fn numbers<L: Lanes, const Q: usize>(lanes: L, chunk: &[u8; 512]) -> [L::F; 4] {
                let numbers = &chunk.as_chunks::<2>().0.as_chunks::<16>().0[4 * Q..4 * Q + 4];
                [
                    lanes.$convert(&numbers[0]),
                    lanes.$convert(&numbers[1]),
                    lanes.$convert(&numbers[2]),
                    lanes.$convert(&numbers[3]),
                ]
            }

            #[inline(always)]
            fn factors<L: Lanes, const Q: usize>(_lanes: L, (): ()) -> Option<L::F> {
                None
            }

            #[inline(always)]
            fn addends<L: Lanes>((): ()) -> Option<L::F> {
                None
            }
        }
    };
}

floats!(F16, float_f16);
floats!(Bf16, float_bf16);

/// The `N` bytes at `at`, which must be there.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; N])
}

/// The first two bytes of each of eight blocks.
#[inline(always)]
fn first_halves<const B: usize>(blocks: &[[u8; B]]) -> u128 {
    let half = |i: usize| u64::from(u16::from_le_bytes(*array(&blocks[i], 0)));
    let four = |i: usize| half(i) | half(i + 1) << 16 | half(i + 2) << 32 | half(i + 3) << 48;
    u128::from(four(0)) | u128::from(four(4)) << 64
}

/// The first four bytes of each of eight blocks.
#[inline(always)]
fn first_words<const B: usize>(blocks: &[[u8; B]]) -> [u128; 2] {
    let word = |i: usize| u64::from(u32::from_le_bytes(*array(&blocks[i], 0)));
    let two = |i: usize| u128::from(word(i) | word(i + 1) << 32);
    [two(0) | two(2) << 64, two(4) | two(6) << 64]
}

/// The codes of 4 bits of two blocks, which begin at `at`: the low halves of 16 bytes before the high halves.
#[inline(always)]
fn nibbles<L: Lanes, const B: usize>(lanes: L, blocks: &[[u8; B]], at: usize) -> L::B {
    let (a, b) = (array(&blocks[0], at), array(&blocks[1], at));
    lanes.bits(lanes.four([a, a, b, b]), [0, 4, 0, 4], 15)
}

/// As [`nibbles`], after the 32 fifth bits of each block.
#[inline(always)]
fn fives<L: Lanes, const B: usize>(lanes: L, blocks: &[[u8; B]], at: usize) -> L::B {
    let bits = |i: usize| u64::from(u32::from_le_bytes(*array(&blocks[i], at)));
    lanes.set_bits(nibbles(lanes, blocks, at + 4), bits(0) | bits(1) << 32, 16)
}

/// Blocks `2 · quarter` and `2 · quarter + 1`.
#[inline(always)]
fn two<const B: usize>(chunk: &[u8], quarter: usize) -> &[[u8; B]] {
    &chunk.as_chunks().0[2 * quarter..2 * quarter + 2]
}

/// The scales of eight blocks, which begin with them.
#[inline(always)]
fn scales<L: Lanes, const B: usize>(lanes: L, chunk: &[u8]) -> [L::F; 2] {
    [lanes.halves([first_halves::<B>(chunk.as_chunks().0), 0]); 2]
}

/// The scales and addends of eight blocks, which begin with them, by turns.
#[inline(always)]
fn scales_and_minima<L: Lanes, const B: usize>(lanes: L, chunk: &[u8]) -> [L::F; 2] {
    [lanes.halves(first_words::<B>(chunk.as_chunks().0)); 2]
}

/// The 16-bit float at byte `at`.
#[inline(always)]
fn half<L: Lanes>(lanes: L, chunk: &[u8], at: usize) -> f32 {
    lanes.half(u16::from_le_bytes(*array(chunk, at)))
}

/// The 32 bytes at `at`, twice.
#[inline(always)]
fn half_twice<L: Lanes>(lanes: L, chunk: &[u8], at: usize) -> L::B {
    lanes.two([array(chunk, at); 2])
}

/// Shifts of the two halves of 64 bytes.
#[inline(always)]
fn double([a, b]: [u8; 2]) -> [u8; 4] {
    [a, a, b, b]
}

/// The `quarter`th 64 codes of 2 bits: every 32 bytes from `at` on hold four codes each, which are 32 apart.
#[inline(always)]
fn twos<L: Lanes>(lanes: L, chunk: &[u8], at: usize, quarter: usize) -> L::B {
    let shift = 4 * (quarter % 2) as u8;
    lanes.bits(half_twice(lanes, chunk, at + 32 * (quarter / 2)), double([shift, shift + 2]), 3)
}

/// The 8 scales, and the negatives of the 8 minima, of `Q4_K` and `Q5_K`; see `number_format`.
#[inline(always)]
fn long_scales_and_minima<L: Lanes>(lanes: L, chunk: &[u8]) -> [L::F; 2] {
    let word = |at: usize| u32::from_le_bytes(*array(chunk, at));
    let (s, m, low) = (word(4), word(8), word(12));
    let both = |first: u32, second: u32| u128::from(u64::from(second) << 32 | u64::from(first));
    let scales = both(s & 0x3f3f_3f3f, low & 0x0f0f_0f0f | s >> 2 & 0x3030_3030);
    let minima = both(m & 0x3f3f_3f3f, low >> 4 & 0x0f0f_0f0f | m >> 2 & 0x3030_3030);
    let scale = lanes.pair([half(lanes, chunk, 0), -half(lanes, chunk, 2)]);
    [lanes.mul(lanes.bytes(scales | minima << 64), scale); 2]
}

/// Implements [`Coded`] for a type of blocks: its name and the size of a chunk, its head (two vectors with the scales and
/// the addends of all groups, in the lanes that [`Coding`] says) and its codes.
macro_rules! coded {
    ($type:ident, $size:literal, |$lanes:ident, $chunk:ident| $head:expr, |$quarter:ident| $codes:expr) => {
        pub(super) struct $type;

        impl Layout<$size> for $type {
            type Head<L: Lanes> = [L::F; 2];

            #[inline(always)]
            fn head<L: Lanes>($lanes: L, $chunk: &[u8; $size]) -> [L::F; 2] {
                $head
            }

            #[inline(always)]
            fn numbers<L: Lanes, const Q: usize>(lanes: L, chunk: &[u8; $size]) -> [L::F; 4] {
                let Coding { offset, bits, .. } = Self::CODING;
                let codes = Self::codes::<L, Q>(lanes, chunk);
                match bits {
                    ..=4 => lanes.columns_of_nibbles(codes, offset),
                    _ => lanes.columns(lanes.add_bytes(codes, offset.wrapping_neg())),
                }
            }

            #[inline(always)]
            fn factors<L: Lanes, const Q: usize>(lanes: L, head: [L::F; 2]) -> Option<L::F> {
                Some(lanes.pick(head[0], const { &Self::CODING.lanes(Q) }))
            }

            #[inline(always)]
            fn addends<L: Lanes>(head: [L::F; 2]) -> Option<L::F> {
                Self::CODING.addends.map(|(vector, _)| head[vector])
            }
        }

        impl Coded<$size> for $type {
            const CODING: Coding = Coding::of(GgmlBlock::$type);

            #[inline(always)]
            fn codes<L: Lanes, const Q: usize>($lanes: L, $chunk: &[u8; $size]) -> L::B {
                let $quarter = Q;
                $codes
            }
        }
    };
}

// The layouts of the blocks are those of `number_format`.
coded!(Q4_0, 144, |lanes, chunk| scales::<L, 18>(lanes, chunk), |q| nibbles(lanes, two::<18>(chunk, q), 2));
coded!(Q5_0, 176, |lanes, chunk| scales::<L, 22>(lanes, chunk), |q| fives(lanes, two::<22>(chunk, q), 2));
coded!(Q4_1, 160, |lanes, chunk| scales_and_minima::<L, 20>(lanes, chunk), |q| nibbles(lanes, two::<20>(chunk, q), 4));
coded!(Q5_1, 192, |lanes, chunk| scales_and_minima::<L, 24>(lanes, chunk), |q| fives(lanes, two::<24>(chunk, q), 4));
coded!(Q8_0, 272, |lanes, chunk| scales::<L, 34>(lanes, chunk), |q| {
    let blocks = two::<34>(chunk, q);
    lanes.add_bytes(lanes.two([array(&blocks[0], 2), array(&blocks[1], 2)]), 128)
});
coded!(
    Q2K,
    84,
    |lanes, chunk| {
        let bytes = u128::from_le_bytes(*array(chunk, 0));
        let (low, nibbles) = (half(lanes, chunk, 82), u128::from_le_bytes([15; 16]));
        let scales = lanes.mul(lanes.bytes(bytes & nibbles), lanes.splat(half(lanes, chunk, 80)));
        [scales, lanes.mul(lanes.bytes(bytes >> 4 & nibbles), lanes.splat(-low))]
    },
    |q| twos(lanes, chunk, 16, q)
);
coded!(
    Q3K,
    110,
    |lanes, chunk| {
        // Scales 0 to 7 have their low 4 bits in the low halves of 8 bytes, the others in the high halves. The high 2
        // bits of every four scales are in the same 4 bytes.
        let (low, high) = (u64::from_le_bytes(*array(chunk, 96)), u64::from(u32::from_le_bytes(*array(chunk, 104))));
        let scale = |low: u64, high: u64| {
            let high = high & 0x0303_0303 | high << 30 & 0x0303_0303_0000_0000;
            u128::from(low & 0x0f0f_0f0f_0f0f_0f0f | high << 4)
        };
        let scales = lanes.bytes(scale(low, high) | scale(low >> 4, high >> 4) << 64);
        let d = lanes.splat(half(lanes, chunk, 108));
        [lanes.mul_add(scales, d, lanes.mul(lanes.splat(-32.0), d)); 2]
    },
    |q| {
        let thirds = lanes.bits(half_twice(lanes, chunk, 0), double([2 * q as u8, 2 * q as u8 + 1]), 1);
        lanes.merge(twos(lanes, chunk, 32, q), thirds, 2)
    }
);
coded!(Q4K, 144, |lanes, chunk| long_scales_and_minima(lanes, chunk), |q| {
    lanes.bits(half_twice(lanes, chunk, 16 + 32 * q), [0, 0, 4, 4], 15)
});
coded!(Q5K, 176, |lanes, chunk| long_scales_and_minima(lanes, chunk), |q| {
    let low = lanes.bits(half_twice(lanes, chunk, 48 + 32 * q), [0, 0, 4, 4], 15);
    lanes.merge(low, lanes.bits(half_twice(lanes, chunk, 16), double([2 * q as u8, 2 * q as u8 + 1]), 1), 4)
});
coded!(
    Q6K,
    210,
    |lanes, chunk| {
        let scales = lanes.bytes(u128::from_le_bytes(*array(chunk, 192)));
        [lanes.mul(scales, lanes.splat(half(lanes, chunk, 208))); 2]
    },
    |q| {
        let (low, up) = (64 * (q / 2), 4 * (q % 2) as u8);
        let low = lanes.bits(lanes.two([array(chunk, low), array(chunk, low + 32)]), [up; 4], 15);
        lanes.merge(low, lanes.bits(half_twice(lanes, chunk, 128 + 32 * (q / 2)), double([up, up + 2]), 3), 4)
    }
);
