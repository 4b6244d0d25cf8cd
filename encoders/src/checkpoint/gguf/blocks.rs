//! Numbers packed in blocks, as ggml quantises them: a few bits each, and for each block a scale, in some types also a
//! smallest value. In the `K` types 16 or 32 numbers share a scale of 4, 6 or 8 bits, and 256 a scale of those scales.
//!
//! The order of the multiplications is that of gguf-py's `quants.py`, so the results are equal to the last bit.

use half::f16;

/// Numbers in a block of the `K` types.
const LONG: usize = 256;
/// Numbers in a block of the others.
const SHORT: usize = 32;

/// A type of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// 4 bits around zero.
    Q4_0,
    /// 4 bits above a smallest value.
    Q4_1,
    /// 5 bits around zero.
    Q5_0,
    /// 5 bits above a smallest value.
    Q5_1,
    /// 8 bits.
    Q8_0,
    /// 2 bits above a smallest value for every 16.
    Q2K,
    /// 3 bits around zero.
    Q3K,
    /// 4 bits above a smallest value for every 32.
    Q4K,
    /// 5 bits above a smallest value for every 32.
    Q5K,
    /// 6 bits around zero.
    Q6K,
}

impl Block {
    /// How many numbers a block holds, and in how many bytes.
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (SHORT, 18),
            Self::Q4_1 => (SHORT, 20),
            Self::Q5_0 => (SHORT, 22),
            Self::Q5_1 => (SHORT, 24),
            Self::Q8_0 => (SHORT, 34),
            Self::Q2K => (LONG, 84),
            Self::Q3K => (LONG, 110),
            Self::Q4K => (LONG, 144),
            Self::Q5K => (LONG, 176),
            Self::Q6K => (LONG, 210),
        }
    }

    /// Unpacks whole blocks into `out`, which has room for just as many numbers.
    pub fn unpack(self, blocks: &[u8], out: &mut [f32]) {
        match self {
            Self::Q4_0 => each(blocks, out, q4_0),
            Self::Q4_1 => each(blocks, out, q4_1),
            Self::Q5_0 => each(blocks, out, q5_0),
            Self::Q5_1 => each(blocks, out, q5_1),
            Self::Q8_0 => each(blocks, out, q8_0),
            Self::Q2K => each(blocks, out, q2_k),
            Self::Q3K => each(blocks, out, q3_k),
            Self::Q4K => each(blocks, out, q4_k),
            Self::Q5K => each(blocks, out, q5_k),
            Self::Q6K => each(blocks, out, q6_k),
        }
    }
}

fn each<const B: usize, const N: usize>(blocks: &[u8], out: &mut [f32], unpack: impl Fn(&[u8; B], &mut [f32; N])) {
    for (block, out) in blocks.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        unpack(block, out);
    }
}

/// The 16-bit float at byte `at`.
fn half<const B: usize>(block: &[u8; B], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 4 bytes at `at`, one bit for each number of a short block.
fn bits<const B: usize>(block: &[u8; B], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Scale; 16 bytes, the low halves of which are the first 16 numbers, the high halves the others.
fn q4_0(block: &[u8; 18], out: &mut [f32; SHORT]) {
    let d = half(block, 0);
    for i in 0..16 {
        let pair = block[2 + i];
        out[i] = d * (f32::from(pair & 15) - 8.0);
        out[16 + i] = d * (f32::from(pair >> 4) - 8.0);
    }
}

/// Scale, smallest value; 16 bytes as in [`q4_0`].
fn q4_1(block: &[u8; 20], out: &mut [f32; SHORT]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        let pair = block[4 + i];
        out[i] = d * f32::from(pair & 15) + m;
        out[16 + i] = d * f32::from(pair >> 4) + m;
    }
}

/// The `i`th and the `16 + i`th number of 5 bits: the fifth bits stand apart.
fn fives(pair: u8, high: u32, i: usize) -> [f32; 2] {
    let [low, top] = [(high >> i << 4) as u8 & 16, (high >> (16 + i) << 4) as u8 & 16];
    [f32::from(pair & 15 | low), f32::from(pair >> 4 | top)]
}

/// Scale; 32 fifth bits; 16 bytes as in [`q4_0`].
fn q5_0(block: &[u8; 22], out: &mut [f32; SHORT]) {
    let (d, high) = (half(block, 0), bits(block, 2));
    for i in 0..16 {
        let [a, b] = fives(block[6 + i], high, i);
        out[i] = d * (a - 16.0);
        out[16 + i] = d * (b - 16.0);
    }
}

/// Scale, smallest value; 32 fifth bits; 16 bytes as in [`q4_0`].
fn q5_1(block: &[u8; 24], out: &mut [f32; SHORT]) {
    let (d, m, high) = (half(block, 0), half(block, 2), bits(block, 4));
    for i in 0..16 {
        let [a, b] = fives(block[8 + i], high, i);
        out[i] = d * a + m;
        out[16 + i] = d * b + m;
    }
}

/// Scale; 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; SHORT]) {
    let d = half(block, 0);
    for i in 0..SHORT {
        out[i] = d * f32::from(block[2 + i].cast_signed());
    }
}

/// 16 pairs of a scale and a smallest value of 4 bits; 64 bytes, each with four numbers that lie 32 apart; the scales of
/// the scales and of the smallest values.
fn q2_k(block: &[u8; 84], out: &mut [f32; LONG]) {
    let (d, m) = (half(block, 80), half(block, 82));
    for group in 0..16 {
        let pair = block[group];
        let (scale, least) = (d * f32::from(pair & 15), m * f32::from(pair >> 4));
        let (bytes, shift) = (16 + 32 * (group / 8) + 16 * (group % 2), 2 * (group % 8 / 2));
        for i in 0..16 {
            out[16 * group + i] = scale * f32::from(block[bytes + i] >> shift & 3) - least;
        }
    }
}

/// 32 bytes with the third bits, bit `n` of each for the `n`th 32 numbers; 64 bytes as in [`q2_k`]; 16 scales of 6 bits,
/// low halves first, then the rest; the scale of the scales.
fn q3_k(block: &[u8; 110], out: &mut [f32; LONG]) {
    let d = half(block, 108);
    for group in 0..16 {
        let low = block[96 + group % 8] >> (4 * (group / 8)) & 15;
        let high = block[104 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let (bytes, shift) = (32 + 32 * (group / 8) + 16 * (group % 2), 2 * (group % 8 / 2));
        for i in 0..16 {
            let third = block[16 * (group % 2) + i] >> (group / 2) & 1;
            // Four is taken off where the bit is not set.
            let number = f32::from(block[bytes + i] >> shift & 3) - f32::from((third ^ 1) << 2);
            out[16 * group + i] = scale * number;
        }
    }
}

/// The `n`th of 8 scales and smallest values of 6 bits in 12 bytes.
fn scale_and_least(packed: &[u8], n: usize) -> (f32, f32) {
    if n < 4 {
        return (f32::from(packed[n] & 63), f32::from(packed[n + 4] & 63));
    }
    let scale = packed[n + 4] & 15 | packed[n - 4] >> 2 & 48;
    let least = packed[n + 4] >> 4 | packed[n] >> 2 & 48;
    (f32::from(scale), f32::from(least))
}

/// The scales of the scales and of the smallest values; these in 12 bytes; 128 bytes, of each 32 of which the low halves
/// come before the high ones.
fn q4_k(block: &[u8; 144], out: &mut [f32; LONG]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for group in 0..8 {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (bytes, shift) = (16 + 32 * (group / 2), 4 * (group % 2));
        for i in 0..32 {
            out[32 * group + i] = scale * f32::from(block[bytes + i] >> shift & 15) - least;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits (bit `n` of each for the `n`th 32 numbers) after the scales.
fn q5_k(block: &[u8; 176], out: &mut [f32; LONG]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for group in 0..8 {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (bytes, shift) = (48 + 32 * (group / 2), 4 * (group % 2));
        for i in 0..32 {
            let fifth = (block[16 + i] >> group & 1) << 4;
            out[32 * group + i] = scale * f32::from(block[bytes + i] >> shift & 15 | fifth) - least;
        }
    }
}

/// 128 bytes with the low 4 bits, 64 with the other 2; 16 signed scales; the scale of the scales.
fn q6_k(block: &[u8; 210], out: &mut [f32; LONG]) {
    let d = half(block, 208);
    for group in 0..16 {
        let scale = d * f32::from(block[192 + group].cast_signed());
        // Of each 128 numbers, the low halves of 64 bytes come before the high ones; of the other bits, four by four.
        let (low, shift) = (64 * (group / 8) + 16 * (group % 4), 4 * (group % 8 / 4));
        let (high, up) = (128 + 32 * (group / 8) + 16 * (group % 2), 2 * (group % 8 / 2));
        for i in 0..16 {
            let number = block[low + i] >> shift & 15 | (block[high + i] >> up & 3) << 4;
            out[16 * group + i] = scale * (f32::from(number) - 32.0);
        }
    }
}
