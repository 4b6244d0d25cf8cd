//! Unpacks ggml's quantised blocks: a few bits per value, a scale per block and, in some types, a minimum. In the `K`
//! types, 16 or 32 values share a scale of 4, 6 or 8 bits, and 256 values share a scale of these scales.
//!
//! The order of the multiplications is that of gguf-py's `quants.py`, so that results are equal to the last bit.

use half::f16;

/// Values per block of the `K` types.
const LONG: usize = 256;
/// Values per block of the other types.
const SHORT: usize = 32;

/// A quantisation type of ggml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgmlBlock {
    /// 4 bits, symmetric around zero.
    Q4_0,
    /// 4 bits, with a minimum.
    Q4_1,
    /// 5 bits, symmetric around zero.
    Q5_0,
    /// 5 bits, with a minimum.
    Q5_1,
    /// 8 bits, symmetric around zero.
    Q8_0,
    /// 2 bits, with a scale and a minimum per 16 values.
    Q2K,
    /// 3 bits, symmetric around zero, with a scale per 16 values.
    Q3K,
    /// 4 bits, with a scale and a minimum per 32 values.
    Q4K,
    /// 5 bits, with a scale and a minimum per 32 values.
    Q5K,
    /// 6 bits, symmetric around zero, with a scale per 16 values.
    Q6K,
}

impl GgmlBlock {
    /// Returns the number of values in a block, and its size in bytes.
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

    /// Unpacks whole blocks into `out`, whose length must be their number of values.
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

/// Reads the 16-bit float at byte `at`.
fn half<const B: usize>(block: &[u8; B], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Reads the 4 bytes at `at`, one bit per value of a short block.
fn bits<const B: usize>(block: &[u8; B], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Layout: scale; 16 bytes with values 0 to 15 in the low halves and 16 to 31 in the high halves.
fn q4_0(block: &[u8; 18], out: &mut [f32; SHORT]) {
    let d = half(block, 0);
    for i in 0..16 {
        let pair = block[2 + i];
        out[i] = d * (f32::from(pair & 15) - 8.0);
        out[16 + i] = d * (f32::from(pair >> 4) - 8.0);
    }
}

/// Layout: scale; minimum; 16 bytes as in [`q4_0`].
fn q4_1(block: &[u8; 20], out: &mut [f32; SHORT]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        let pair = block[4 + i];
        out[i] = d * f32::from(pair & 15) + m;
        out[16 + i] = d * f32::from(pair >> 4) + m;
    }
}

/// Assembles the 5-bit values `i` and `16 + i`, whose fifth bits are stored separately.
fn fives(pair: u8, high: u32, i: usize) -> [f32; 2] {
    let [low, top] = [(high >> i << 4) as u8 & 16, (high >> (16 + i) << 4) as u8 & 16];
    [f32::from(pair & 15 | low), f32::from(pair >> 4 | top)]
}

/// Layout: scale; 32 fifth bits; 16 bytes as in [`q4_0`].
fn q5_0(block: &[u8; 22], out: &mut [f32; SHORT]) {
    let (d, high) = (half(block, 0), bits(block, 2));
    for i in 0..16 {
        let [a, b] = fives(block[6 + i], high, i);
        out[i] = d * (a - 16.0);
        out[16 + i] = d * (b - 16.0);
    }
}

/// Layout: scale; minimum; 32 fifth bits; 16 bytes as in [`q4_0`].
fn q5_1(block: &[u8; 24], out: &mut [f32; SHORT]) {
    let (d, m, high) = (half(block, 0), half(block, 2), bits(block, 4));
    for i in 0..16 {
        let [a, b] = fives(block[8 + i], high, i);
        out[i] = d * a + m;
        out[16 + i] = d * b + m;
    }
}

/// Layout: scale; 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; SHORT]) {
    let d = half(block, 0);
    for i in 0..SHORT {
        out[i] = d * f32::from(block[2 + i].cast_signed());
    }
}

/// Layout: 16 bytes, each with a 4-bit scale and a 4-bit minimum; 64 bytes, each with four values that are 32 apart;
/// scale of the scales; scale of the minima.
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

/// Layout: 32 bytes with the third bits (bit `n` of each belongs to the `n`th 32 values); 64 bytes as in [`q2_k`]; 16
/// scales of 6 bits, their low 4 bits before the others; scale of the scales.
fn q3_k(block: &[u8; 110], out: &mut [f32; LONG]) {
    let d = half(block, 108);
    for group in 0..16 {
        let low = block[96 + group % 8] >> (4 * (group / 8)) & 15;
        let high = block[104 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let (bytes, shift) = (32 + 32 * (group / 8) + 16 * (group % 2), 2 * (group % 8 / 2));
        for i in 0..16 {
            let third = block[16 * (group % 2) + i] >> (group / 2) & 1;
            // Four is subtracted if the bit is not set.
            let number = f32::from(block[bytes + i] >> shift & 3) - f32::from((third ^ 1) << 2);
            out[16 * group + i] = scale * number;
        }
    }
}

/// Reads the `n`th of 8 pairs of a 6-bit scale and a 6-bit minimum, packed in 12 bytes.
fn scale_and_least(packed: &[u8], n: usize) -> (f32, f32) {
    if n < 4 {
        return (f32::from(packed[n] & 63), f32::from(packed[n + 4] & 63));
    }
    let scale = packed[n + 4] & 15 | packed[n - 4] >> 2 & 48;
    let least = packed[n + 4] >> 4 | packed[n] >> 2 & 48;
    (f32::from(scale), f32::from(least))
}

/// Layout: scale of the scales; scale of the minima; scales and minima in 12 bytes; 128 bytes, of which every 32 hold
/// 64 values, the low halves before the high ones.
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

/// Layout: as [`q4_k`], with 32 bytes of fifth bits (bit `n` of each belongs to the `n`th 32 values) after the scales.
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

/// Layout: 128 bytes with the low 4 bits; 64 bytes with the high 2 bits; 16 signed scales; scale of the scales.
fn q6_k(block: &[u8; 210], out: &mut [f32; LONG]) {
    let d = half(block, 208);
    for group in 0..16 {
        let scale = d * f32::from(block[192 + group].cast_signed());
        // Of each 128 values, the low halves of 64 bytes come before the high halves; the high bits are four to a byte.
        let (low, shift) = (64 * (group / 8) + 16 * (group % 4), 4 * (group % 8 / 4));
        let (high, up) = (128 + 32 * (group / 8) + 16 * (group % 2), 2 * (group % 8 / 2));
        for i in 0..16 {
            let number = block[low + i] >> shift & 15 | (block[high + i] >> up & 3) << 4;
            out[16 * group + i] = scale * (f32::from(number) - 32.0);
        }
    }
}
