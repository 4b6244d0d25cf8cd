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
