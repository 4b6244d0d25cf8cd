//! The microkernel of the product: up to 12 rows times 32 columns of sums, kept in registers.

use super::packed::{Line, PANEL};
use half::bf16;

/// Maximum number of rows of a tile: with two vectors of sums per row, 24 of the 32 registers.
pub const TILE_ROWS: usize = 12;

/// Computes a tile of a product, `[rows, PANEL]`: row `i` of the left operand, whose pairs start at `a[i * stride]`,
/// times a panel of the right operand, `[pairs, PANEL]` pairs. Rows of `out` are `width` apart.
///
/// # Panics
/// A slice is too short, or there are more than [`TILE_ROWS`] rows.
pub fn tile(rows: usize, a: &[bf16], stride: usize, panel: &[Line], out: &mut [f32], width: usize) {
    if rows == 0 {
        return;
    }
    let pairs = panel.len() / 2;
    assert!(rows <= TILE_ROWS && (rows - 1) * stride + 2 * pairs <= a.len(), "rows are cut too short");
    assert!((rows - 1) * width + PANEL <= out.len(), "the result is cut too short");
    #[cfg(target_arch = "x86_64")]
    if super::is_supported() {
        // SAFETY: the processor has AVX-512 BF16, and the slices reach as far as the loops read and write (asserted).
        unsafe { simd::tile(rows, a.as_ptr(), stride, pairs, panel.as_ptr(), out.as_mut_ptr(), width) };
        return;
    }
    portable(rows, a, stride, panel, out, width);
}

/// Computes [`tile`] in f32 arithmetic, on any processor.
pub fn portable(rows: usize, a: &[bf16], stride: usize, panel: &[Line], out: &mut [f32], width: usize) {
    let (lines, _) = panel.as_chunks::<2>();
    for row in 0..rows {
        let mut sums = [0f32; PANEL];
        let (pairs, _) = a[row * stride..][..2 * lines.len()].as_chunks::<2>();
        for ([first, second], lines) in pairs.iter().zip(lines) {
            let (first, second) = (first.to_f32(), second.to_f32());
            for (sum, pair) in sums.iter_mut().zip(lines.iter().flat_map(|line| &line.0)) {
                *sum += first * f32::from_bits(pair << 16) + second * f32::from_bits(pair & 0xffff_0000);
            }
        }
        out[row * width..][..PANEL].copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::{Line, bf16};
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// Computes a tile of 1 to 12 rows.
    ///
    /// # Safety
    /// The processor has AVX-512 BF16; rows of `a` hold `pairs` pairs, `panel` holds `2 · pairs` lines, and `out` has
    /// room for `rows` rows of two vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn tile(
        rows: usize,
        a: *const bf16,
        stride: usize,
        pairs: usize,
        panel: *const Line,
        out: *mut f32,
        width: usize,
    ) {
        // SAFETY: the caller guarantees what `rows_of` needs.
        unsafe {
            match rows {
                1 => rows_of::<1>(a, stride, pairs, panel, out, width),
                2 => rows_of::<2>(a, stride, pairs, panel, out, width),
                3 => rows_of::<3>(a, stride, pairs, panel, out, width),
                4 => rows_of::<4>(a, stride, pairs, panel, out, width),
                5 => rows_of::<5>(a, stride, pairs, panel, out, width),
                6 => rows_of::<6>(a, stride, pairs, panel, out, width),
                7 => rows_of::<7>(a, stride, pairs, panel, out, width),
                8 => rows_of::<8>(a, stride, pairs, panel, out, width),
                9 => rows_of::<9>(a, stride, pairs, panel, out, width),
                10 => rows_of::<10>(a, stride, pairs, panel, out, width),
                11 => rows_of::<11>(a, stride, pairs, panel, out, width),
                _ => rows_of::<12>(a, stride, pairs, panel, out, width),
            }
        }
    }

    /// Computes a tile of `R` rows.
    ///
    /// # Safety
    /// As [`tile`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn rows_of<const R: usize>(
        a: *const bf16,
        stride: usize,
        pairs: usize,
        panel: *const Line,
        out: *mut f32,
        width: usize,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        // SAFETY: reads `pairs` pairs of `R` rows and `2 · pairs` aligned lines, and writes `R` rows of two vectors, as
        // the caller guarantees. All bit patterns are valid vectors of bf16.
        unsafe {
            let as_bf16 = |bits: __m512i| std::mem::transmute::<__m512i, __m512bh>(bits);
            for pair in 0..pairs {
                let lines = panel.add(2 * pair);
                let columns = [0, 1].map(|half| as_bf16(_mm512_load_si512(lines.add(half).cast())));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let inputs = a.add(row * stride + 2 * pair).cast::<i32>().read_unaligned();
                    let inputs = as_bf16(_mm512_set1_epi32(inputs));
                    sums[0] = _mm512_dpbf16_ps(sums[0], inputs, columns[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], inputs, columns[1]);
                }
            }
            for (row, [left, right]) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(out.add(row * width), left);
                _mm512_storeu_ps(out.add(row * width + 16), right);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PackedMatrix, rounded};
    use super::*;
    use crate::kernel::{Matrix, Strides};

    #[test]
    fn the_instruction_computes_what_f32_arithmetic_does() {
        let number = |i: usize| ((i * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0;
        for (inputs, stride) in [(2, 2), (34, 40), (128, 128)] {
            let weight: Vec<f32> = (0..inputs * PANEL).map(|i| number(3 * i)).collect();
            let packed = PackedMatrix::new(Matrix(&weight, Strides::row_major(PANEL)), [inputs, PANEL]);
            let a: Vec<bf16> = (0..TILE_ROWS * stride).map(|i| rounded(number(i))).collect();
            for rows in 1..=TILE_ROWS {
                let (mut found, mut wanted) = (vec![7f32; rows * 40], vec![7f32; rows * 40]);
                tile(rows, &a, stride, packed.panel(0), &mut found, 40);
                portable(rows, &a, stride, packed.panel(0), &mut wanted, 40);
                let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-5, "{rows}x{inputs}: {off}");
            }
        }
    }
}
