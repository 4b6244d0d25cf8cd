//! Unpacks ggml's quantised blocks: a few bits per value, a scale per block and, in some types, a minimum. In the `K`
//! types, 16 or 32 values share a scale of 4, 6 or 8 bits, and 256 values share a scale of these scales.
//!
//! Every type is read as integer codes with a scale and a minimum per group of values, which is what integer kernels
//! multiply. The order of the multiplications is that of gguf-py's `quants.py`, so that unpacked values are equal to
//! the last bit.

/// Values per block of the `K` types.
pub(crate) const LONG: usize = 256;
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

/// Reads the blocks of each row. A macro, because a function as an argument would not be inlined, and thus not be
/// compiled for the caller's vector instructions.
macro_rules! each {
    ($rows:expr, $chunk:expr, $out:expr, $unit:expr, $half:expr, $read:ident) => {{
        let size = LONG / $unit.0 * $unit.1;
        for (row, out) in $rows.iter().zip($out) {
            let from = ($chunk * size).min(row.len());
            let row = &row[from..row.len().min(from + size)];
            if row.len() < size {
                *out = Codes::default();
            }
            let (codes, scales) = (out.codes.as_chunks_mut().0, out.scales.as_chunks_mut().0);
            let groups = scales.iter_mut().zip(out.minima.as_chunks_mut().0);
            for ((block, codes), (scales, minima)) in row.as_chunks().0.iter().zip(codes).zip(groups) {
                $read(block, codes, scales, minima, $half);
            }
        }
    }};
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

    /// Returns the positions in a block of its 16-bit scales. All values of a block are finite if these are.
    pub(crate) const fn scales(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
        }
    }

    /// Returns the number of values that share a scale and a minimum: 16 or 32.
    pub(crate) const fn group(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Q4K | Self::Q5K => SHORT,
        }
    }

    /// Whether groups have a minimum; the codes of types without are symmetric around zero.
    pub(crate) const fn has_minima(self) -> bool {
        match self {
            Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K => true,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Q3K | Self::Q6K => false,
        }
    }

    /// Reads the `chunk`th 256 values of each row; values beyond a row's bytes become zeros. `half` converts the bits
    /// of a 16-bit float. Inlined, to be compiled for the caller's vector instructions.
    #[inline(always)]
    pub(crate) fn read_rows(self, rows: &[&[u8]], chunk: usize, out: &mut [Codes], half: impl Fn(u16) -> f32 + Copy) {
        match self {
            Self::Q4_0 => each!(rows, chunk, out, self.unit(), half, q4_0),
            Self::Q4_1 => each!(rows, chunk, out, self.unit(), half, q4_1),
            Self::Q5_0 => each!(rows, chunk, out, self.unit(), half, q5_0),
            Self::Q5_1 => each!(rows, chunk, out, self.unit(), half, q5_1),
            Self::Q8_0 => each!(rows, chunk, out, self.unit(), half, q8_0),
            Self::Q2K => each!(rows, chunk, out, self.unit(), half, q2_k),
            Self::Q3K => each!(rows, chunk, out, self.unit(), half, q3_k),
            Self::Q4K => each!(rows, chunk, out, self.unit(), half, q4_k),
            Self::Q5K => each!(rows, chunk, out, self.unit(), half, q5_k),
            Self::Q6K => each!(rows, chunk, out, self.unit(), half, q6_k),
        }
    }

    /// Unpacks whole blocks into `out`, whose length must be their number of values. Inlined as [`Self::read_rows`].
    #[inline(always)]
    pub(crate) fn unpack(self, blocks: &[u8], out: &mut [f32], half: impl Fn(u16) -> f32 + Copy) {
        let (values, size) = self.unit();
        let mut codes = [Codes::default()];
        for (blocks, out) in blocks.chunks(LONG / values * size).zip(out.chunks_mut(LONG)) {
            self.read_rows(&[blocks], 0, &mut codes, half);
            match self.group() {
                16 => codes[0].unpack::<16>(out),
                _ => codes[0].unpack::<SHORT>(out),
            }
        }
    }
}

/// Up to 256 consecutive values of a row: value `i` is `scales[g] · codes[i] − minima[g]` for group `g = i / group`
/// of 16 or 32 values ([`GgmlBlock::group`]). Minima are 0 in types without.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Codes {
    pub(crate) codes: [i8; LONG],
    pub(crate) scales: [f32; 16],
    pub(crate) minima: [f32; 16],
}

impl Default for Codes {
    fn default() -> Self {
        Self { codes: [0; LONG], scales: [0.0; 16], minima: [0.0; 16] }
    }
}

impl Codes {
    #[inline(always)]
    fn unpack<const GROUP: usize>(&self, out: &mut [f32]) {
        let (out, codes) = (out.as_chunks_mut::<GROUP>().0, self.codes.as_chunks::<GROUP>().0);
        for (((out, codes), scale), minimum) in out.iter_mut().zip(codes).zip(&self.scales).zip(&self.minima) {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(*code) - minimum;
            }
        }
    }
}

/// The bits of the 16-bit float at byte `at`.
#[inline(always)]
fn bits<const B: usize>(block: &[u8; B], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// Reads the 4 bytes at `at` as an integer.
#[inline(always)]
fn word<const B: usize>(block: &[u8; B], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// A small unsigned number as a code.
#[inline(always)]
fn code(number: u8) -> i8 {
    number.cast_signed()
}

/// Layout: scale; 16 bytes with values 0 to 15 in the low halves and 16 to 31 in the high halves.
#[inline(always)]
fn q4_0(
    block: &[u8; 18],
    codes: &mut [i8; SHORT],
    scale: &mut [f32; 1],
    minimum: &mut [f32; 1],
    half: impl Fn(u16) -> f32,
) {
    (*scale, *minimum) = ([half(bits(block, 0))], [0.0]);
    for i in 0..16 {
        let pair = block[2 + i];
        codes[i] = code(pair & 15) - 8;
        codes[16 + i] = code(pair >> 4) - 8;
    }
}

/// Layout: scale; the negative of the minimum; 16 bytes as in [`q4_0`].
#[inline(always)]
fn q4_1(
    block: &[u8; 20],
    codes: &mut [i8; SHORT],
    scale: &mut [f32; 1],
    minimum: &mut [f32; 1],
    half: impl Fn(u16) -> f32,
) {
    (*scale, *minimum) = ([half(bits(block, 0))], [-half(bits(block, 2))]);
    for i in 0..16 {
        let pair = block[4 + i];
        codes[i] = code(pair & 15);
        codes[16 + i] = code(pair >> 4);
    }
}

/// Assembles the 5-bit values `i` and `16 + i`, whose fifth bits are stored separately.
#[inline(always)]
fn fives(pair: u8, high: u32, i: usize) -> [i8; 2] {
    let [low, top] = [(high >> i << 4) as u8 & 16, (high >> (16 + i) << 4) as u8 & 16];
    [code(pair & 15 | low), code(pair >> 4 | top)]
}

/// Layout: scale; 32 fifth bits; 16 bytes as in [`q4_0`].
#[inline(always)]
fn q5_0(
    block: &[u8; 22],
    codes: &mut [i8; SHORT],
    scale: &mut [f32; 1],
    minimum: &mut [f32; 1],
    half: impl Fn(u16) -> f32,
) {
    (*scale, *minimum) = ([half(bits(block, 0))], [0.0]);
    let high = word(block, 2);
    for i in 0..16 {
        let [a, b] = fives(block[6 + i], high, i);
        codes[i] = a - 16;
        codes[16 + i] = b - 16;
    }
}

/// Layout: scale; the negative of the minimum; 32 fifth bits; 16 bytes as in [`q4_0`].
#[inline(always)]
fn q5_1(
    block: &[u8; 24],
    codes: &mut [i8; SHORT],
    scale: &mut [f32; 1],
    minimum: &mut [f32; 1],
    half: impl Fn(u16) -> f32,
) {
    (*scale, *minimum) = ([half(bits(block, 0))], [-half(bits(block, 2))]);
    let high = word(block, 4);
    for i in 0..16 {
        [codes[i], codes[16 + i]] = fives(block[8 + i], high, i);
    }
}

/// Layout: scale; 32 signed bytes.
#[inline(always)]
fn q8_0(
    block: &[u8; 34],
    codes: &mut [i8; SHORT],
    scale: &mut [f32; 1],
    minimum: &mut [f32; 1],
    half: impl Fn(u16) -> f32,
) {
    (*scale, *minimum) = ([half(bits(block, 0))], [0.0]);
    for i in 0..SHORT {
        codes[i] = block[2 + i].cast_signed();
    }
}

/// Layout: 16 bytes, each with a 4-bit scale and a 4-bit minimum; 64 bytes, each with four values that are 32 apart;
/// scale of the scales; scale of the minima.
#[inline(always)]
fn q2_k(
    block: &[u8; 84],
    codes: &mut [i8; LONG],
    scales: &mut [f32; 16],
    minima: &mut [f32; 16],
    half: impl Fn(u16) -> f32,
) {
    let (d, m) = (half(bits(block, 80)), half(bits(block, 82)));
    for group in 0..16 {
        scales[group] = d * f32::from(block[group] & 15);
        minima[group] = m * f32::from(block[group] >> 4);
    }
    for n in 0..8 {
        let (bytes, shift) = (16 + 32 * (n / 4), 2 * (n % 4));
        for i in 0..32 {
            codes[32 * n + i] = code(block[bytes + i] >> shift & 3);
        }
    }
}

/// Layout: 32 bytes with the third bits (bit `n` of each belongs to the `n`th 32 values); 64 bytes as in [`q2_k`]; 16
/// scales of 6 bits, their low 4 bits before the others; scale of the scales.
#[inline(always)]
fn q3_k(
    block: &[u8; 110],
    codes: &mut [i8; LONG],
    scales: &mut [f32; 16],
    minima: &mut [f32; 16],
    half: impl Fn(u16) -> f32,
) {
    let d = half(bits(block, 108));
    for group in 0..16 {
        let low = block[96 + group % 8] >> (4 * (group / 8)) & 15;
        let high = block[104 + group % 4] >> (2 * (group / 4)) & 3;
        scales[group] = d * f32::from(code(low | high << 4) - 32);
    }
    *minima = [0.0; 16];
    for n in 0..8 {
        let (bytes, shift) = (32 + 32 * (n / 4), 2 * (n % 4));
        for i in 0..32 {
            // Four is subtracted if the bit is not set.
            let third = (block[i] >> n & 1) << 2;
            codes[32 * n + i] = code(block[bytes + i] >> shift & 3 | third) - 4;
        }
    }
}

/// Reads 8 pairs of a 6-bit scale and a 6-bit minimum, packed in 12 bytes at byte 4, times their scales at 0 and 2.
#[inline(always)]
fn scales_and_minima<const B: usize>(
    block: &[u8; B],
    scales: &mut [f32; 8],
    minima: &mut [f32; 8],
    half: impl Fn(u16) -> f32,
) {
    // The first four are the low 6 bits of bytes 0 to 7; the others have their low 4 bits in bytes 8 to 11 (minima in
    // the high halves), and their high 2 bits above those of the first four.
    let (s, m, low) = (word(block, 4), word(block, 8), word(block, 12));
    let pack = |first: u32, second: u32| (u64::from(second) << 32 | u64::from(first)).to_le_bytes();
    let scale_bytes = pack(s & 0x3f3f_3f3f, low & 0x0f0f_0f0f | s >> 2 & 0x3030_3030);
    let minimum_bytes = pack(m & 0x3f3f_3f3f, low >> 4 & 0x0f0f_0f0f | m >> 2 & 0x3030_3030);
    let (d, least) = (half(bits(block, 0)), half(bits(block, 2)));
    for group in 0..8 {
        scales[group] = d * f32::from(scale_bytes[group]);
        minima[group] = least * f32::from(minimum_bytes[group]);
    }
}

/// Layout: scale of the scales; scale of the minima; scales and minima in 12 bytes; 128 bytes, of which every 32 hold
/// 64 values, the low halves before the high ones.
#[inline(always)]
fn q4_k(
    block: &[u8; 144],
    codes: &mut [i8; LONG],
    scales: &mut [f32; 8],
    minima: &mut [f32; 8],
    half: impl Fn(u16) -> f32,
) {
    scales_and_minima(block, scales, minima, half);
    for n in 0..4 {
        for i in 0..32 {
            let pair = block[16 + 32 * n + i];
            codes[64 * n + i] = code(pair & 15);
            codes[64 * n + 32 + i] = code(pair >> 4);
        }
    }
}

/// Layout: as [`q4_k`], with 32 bytes of fifth bits (bit `n` of each belongs to the `n`th 32 values) after the scales.
#[inline(always)]
fn q5_k(
    block: &[u8; 176],
    codes: &mut [i8; LONG],
    scales: &mut [f32; 8],
    minima: &mut [f32; 8],
    half: impl Fn(u16) -> f32,
) {
    scales_and_minima(block, scales, minima, half);
    for n in 0..4 {
        for i in 0..32 {
            let (pair, fifths) = (block[48 + 32 * n + i], block[16 + i] >> (2 * n));
            codes[64 * n + i] = code(pair & 15 | (fifths & 1) << 4);
            codes[64 * n + 32 + i] = code(pair >> 4 | (fifths & 2) << 3);
        }
    }
}

/// Layout: 128 bytes with the low 4 bits; 64 bytes with the high 2 bits; 16 signed scales; scale of the scales.
#[inline(always)]
fn q6_k(
    block: &[u8; 210],
    codes: &mut [i8; LONG],
    scales: &mut [f32; 16],
    minima: &mut [f32; 16],
    half: impl Fn(u16) -> f32,
) {
    let d = half(bits(block, 208));
    for group in 0..16 {
        scales[group] = d * f32::from(block[192 + group].cast_signed());
    }
    *minima = [0.0; 16];
    for n in 0..8 {
        // Of each 128 values, the low halves of 64 bytes come before the high halves; the high bits are four to a byte.
        let (low, shift) = (64 * (n / 4) + 32 * (n % 2), 4 * (n % 4 / 2));
        let (high, up) = (128 + 32 * (n / 4), 2 * (n % 4));
        for i in 0..32 {
            codes[32 * n + i] = code(block[low + i] >> shift & 15 | (block[high + i] >> up & 3) << 4) - 32;
        }
    }
}
