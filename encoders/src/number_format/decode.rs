//! Converts stored values of any floating-point format to f32, in one parallel pass.

use super::NumberFormat;
use half::{bf16, f16};
use rayon::prelude::*;

/// Values per task: a multiple of every block's length, and few enough to stay in the cache.
const TASK: usize = 1 << 16;

/// Decodes all values in `bytes` and returns whether all are finite; `None` if the format is not floating-point.
pub(crate) fn decode(stored: NumberFormat, bytes: &[u8]) -> Option<(Vec<f32>, bool)> {
    if !stored.is_float() {
        return None;
    }
    let (numbers, size) = stored.unit();
    let mut values = vec![0.0; bytes.len() / size * numbers];
    let convert = |(out, bytes): (&mut [f32], &[u8])| {
        convert(stored, bytes, out);
        // Without short-circuit evaluation, so that the loop is vectorised.
        out.iter().fold(true, |finite, v| finite & v.is_finite())
    };
    let finite = match values.len() <= TASK {
        true => convert((&mut values, bytes)),
        false => {
            let parts = values.par_chunks_mut(TASK).zip(bytes.par_chunks(TASK / numbers * size));
            parts.map(convert).reduce(|| true, |a, b| a & b)
        }
    };
    Some((values, finite))
}

/// Whether all values in `bytes` are finite, for 16-bit floats and quantised blocks: only exponents are read, of the
/// values or of the scales of blocks. `false` for other formats.
pub(crate) fn is_finite(stored: NumberFormat, bytes: &[u8]) -> bool {
    let (size, high) = (stored.size(), |block: &[u8], at: usize| block.get(at + 1).copied().unwrap_or(u8::MAX));
    let tasks = bytes.par_chunks(size * (TASK / size));
    // Without short-circuit evaluation, so that the loops are vectorised.
    match stored {
        NumberFormat::F16 => tasks
            .map(|values| values.as_chunks::<2>().0.iter().fold(true, |all, [_, high]| all & (high & 0x7c != 0x7c)))
            .reduce(|| true, |a, b| a & b),
        NumberFormat::Bf16 => tasks
            .map(|values| {
                let exponent = |value: [u8; 2]| u16::from_le_bytes(value) & 0x7f80;
                values.as_chunks::<2>().0.iter().fold(true, |all, value| all & (exponent(*value) != 0x7f80))
            })
            .reduce(|| true, |a, b| a & b),
        NumberFormat::Block(block) => tasks
            .map(|blocks| {
                blocks.chunks(size).all(|bytes| block.scales().iter().all(|at| high(bytes, *at) & 0x7c != 0x7c))
            })
            .reduce(|| true, |a, b| a & b),
        NumberFormat::F64 | NumberFormat::F32 | NumberFormat::Other { .. } => false,
    }
}

/// Converts the values in `bytes`, which are whole elements or blocks, into `out`, whose length must be their number.
pub(crate) fn convert(stored: NumberFormat, bytes: &[u8], out: &mut [f32]) {
    match stored {
        NumberFormat::F32 => each(bytes, out, f32::from_le_bytes),
        NumberFormat::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        NumberFormat::Bf16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        #[allow(clippy::cast_possible_truncation)]
        NumberFormat::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        NumberFormat::Block(block) => block.unpack(bytes, out, |bits| f16::from_bits(bits).to_f32()),
        NumberFormat::Other { .. } => {}
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = number(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number_format::GgmlBlock;

    #[test]
    fn exponents_tell_whether_all_values_are_finite() {
        use GgmlBlock::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        let blocks = [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K].map(NumberFormat::Block);
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for format in blocks.into_iter().chain([NumberFormat::F16, NumberFormat::Bf16]) {
            let mut seen = [0; 2];
            for _ in 0..500 {
                let bytes: Vec<u8> = (0..2 * format.size()).map(|_| byte()).collect();
                let finite = decode(format, &bytes).is_some_and(|(_, finite)| finite);
                assert_eq!(is_finite(format, &bytes), finite, "{format:?} {bytes:?}");
                seen[usize::from(finite)] += 1;
            }
            assert!(seen.iter().all(|n| *n > 0), "{format:?}: {seen:?}");
        }
        assert!(!is_finite(NumberFormat::F32, &1f32.to_le_bytes()));
    }
}
