//! The microkernel of the product: up to 12 rows times 32 columns of sums, kept in registers.

use super::packed::{Line, PANEL};
use half::bf16;

/// Maximum number of rows of a tile: with two vectors of sums per row, 24 of the 32 registers.
pub const TILE_ROWS: usize = 12;

/// Up to [`TILE_ROWS`] rows of a left operand, as pairs of inputs.
#[derive(Debug, Clone, Copy)]
pub enum LeftTile<'a> {
    /// The pairs of row `i` start at `i` times the second number.
    Rows(&'a [bf16], usize),
    /// [`TILE_ROWS`] pairs stand side by side, one of each row: `[pairs, TILE_ROWS]`.
    Columns(&'a [u32]),
}

/// Computes a tile of a product, `[rows, PANEL]`: rows of the left operand times a panel of the right operand, `[pairs,
/// PANEL]` pairs; with `add` the product is added to `out`. Rows of `out` are `width` apart.
///
/// # Panics
/// A slice is too short, or there are more than [`TILE_ROWS`] rows.
pub fn tile(rows: usize, a: LeftTile<'_>, panel: &[Line], out: &mut [f32], width: usize, add: bool) {
    if rows == 0 {
        return;
    }
    let pairs = panel.len() / 2;
    assert!(rows <= TILE_ROWS, "a tile has too many rows");
    let is_whole = match a {
        LeftTile::Rows(values, stride) => (rows - 1) * stride + 2 * pairs <= values.len(),
        LeftTile::Columns(values) => pairs * TILE_ROWS <= values.len(),
    };
    assert!(is_whole, "rows are cut too short");
    assert!((rows - 1) * width + PANEL <= out.len(), "the result is cut too short");
    #[cfg(target_arch = "x86_64")]
    if super::is_supported() {
        let target = simd::Target { pairs, panel: panel.as_ptr(), out: out.as_mut_ptr(), width, add };
        // SAFETY: the processor has AVX-512 BF16, and the slices reach as far as the loops read and write (asserted).
        unsafe {
            match a {
                LeftTile::Rows(values, stride) => simd::tile::<false>(rows, values.as_ptr(), stride, target),
                LeftTile::Columns(values) => simd::tile::<true>(rows, values.as_ptr().cast(), 0, target),
            }
        }
        return;
    }
    portable(rows, a, panel, out, width, add);
}

/// Computes [`tile`] in f32 arithmetic, on any processor.
pub fn portable(rows: usize, a: LeftTile<'_>, panel: &[Line], out: &mut [f32], width: usize, add: bool) {
    let (lines, _) = panel.as_chunks::<2>();
    for row in 0..rows {
        let mut sums = [0f32; PANEL];
        let out = &mut out[row * width..][..PANEL];
        if add {
            sums.copy_from_slice(out);
        }
        for (i, lines) in lines.iter().enumerate() {
            let [first, second] = match a {
                LeftTile::Rows(values, stride) => [0, 1].map(|k| values[row * stride + 2 * i + k].to_f32()),
                LeftTile::Columns(values) => unpaired(values[i * TILE_ROWS + row]),
            };
            for (sum, pair) in sums.iter_mut().zip(lines.iter().flat_map(|line| &line.0)) {
                let pair = unpaired(*pair);
                *sum += first * pair[0] + second * pair[1];
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// The two numbers of a pair.
fn unpaired(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::{Line, TILE_ROWS, bf16};
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    /// The right operand and the result of a tile.
    #[derive(Clone, Copy)]
    pub struct Target {
        /// Number of pairs of inputs.
        pub pairs: usize,
        /// The panel, `2 · pairs` lines.
        pub panel: *const Line,
        /// The result.
        pub out: *mut f32,
        /// Distance of two rows of the result.
        pub width: usize,
        /// Whether the product is added to the result.
        pub add: bool,
    }

    /// Computes a tile of 1 to 12 rows; `COLUMNS` says whether the left operand is [`super::LeftTile::Columns`].
    ///
    /// # Safety
    /// The processor has AVX-512 BF16; the left operand has `pairs` pairs in each of the rows, `panel` holds `2 · pairs`
    /// lines, and `out` has room for `rows` rows of two vectors, which are initialised if `add` is set.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn tile<const COLUMNS: bool>(rows: usize, a: *const bf16, stride: usize, to: Target) {
        // SAFETY: the caller guarantees what `rows_of` needs.
        unsafe {
            match rows {
                1 => rows_of::<1, COLUMNS>(a, stride, to),
                2 => rows_of::<2, COLUMNS>(a, stride, to),
                3 => rows_of::<3, COLUMNS>(a, stride, to),
                4 => rows_of::<4, COLUMNS>(a, stride, to),
                5 => rows_of::<5, COLUMNS>(a, stride, to),
                6 => rows_of::<6, COLUMNS>(a, stride, to),
                7 => rows_of::<7, COLUMNS>(a, stride, to),
                8 => rows_of::<8, COLUMNS>(a, stride, to),
                9 => rows_of::<9, COLUMNS>(a, stride, to),
                10 => rows_of::<10, COLUMNS>(a, stride, to),
                11 => rows_of::<11, COLUMNS>(a, stride, to),
                _ => rows_of::<12, COLUMNS>(a, stride, to),
            }
        }
    }

    /// Computes a tile of `R` rows.
    ///
    /// # Safety
    /// As [`tile`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn rows_of<const R: usize, const COLUMNS: bool>(a: *const bf16, stride: usize, to: Target) {
        let Target { pairs, panel, out, width, add } = to;
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        // SAFETY: reads `pairs` pairs of `R` rows and `2 · pairs` aligned lines, and reads and writes `R` rows of two
        // vectors, as the caller guarantees. All bit patterns are valid vectors of bf16.
        unsafe {
            let as_bf16 = |bits: __m512i| std::mem::transmute::<__m512i, __m512bh>(bits);
            if add {
                for (row, sums) in sums.iter_mut().enumerate() {
                    *sums = [0, 16].map(|column| _mm512_loadu_ps(out.add(row * width + column)));
                }
            }
            for pair in 0..pairs {
                let lines = panel.add(2 * pair);
                let columns = [0, 1].map(|half| as_bf16(_mm512_load_si512(lines.add(half).cast())));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = if COLUMNS { 2 * (pair * TILE_ROWS + row) } else { row * stride + 2 * pair };
                    let inputs = a.add(at).cast::<i32>().read_unaligned();
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
    use super::super::{PackedMatrix, pair, rounded};
    use super::*;
    use crate::kernel::{Matrix, Strides};

    #[test]
    fn the_instruction_computes_what_f32_arithmetic_does() {
        let number = |i: usize| ((i * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0;
        for (inputs, stride) in [(2, 2), (34, 40), (128, 128)] {
            let weight: Vec<f32> = (0..inputs * PANEL).map(|i| number(3 * i)).collect();
            let packed = PackedMatrix::new(Matrix(&weight, Strides::row_major(PANEL)), [inputs, PANEL]);
            let by_row: Vec<bf16> = (0..TILE_ROWS * stride).map(|i| rounded(number(i))).collect();
            let by_pair: Vec<u32> = (0..inputs / 2 * TILE_ROWS)
                .map(|i| {
                    let at = i % TILE_ROWS * stride + i / TILE_ROWS * 2;
                    pair(by_row[at].to_f32(), by_row[at + 1].to_f32())
                })
                .collect();
            for rows in 1..=TILE_ROWS {
                for add in [false, true] {
                    let [mut found, mut columns, mut wanted] = [(); 3].map(|()| vec![7f32; rows * 40]);
                    tile(rows, LeftTile::Rows(&by_row, stride), packed.panel(0), &mut found, 40, add);
                    tile(rows, LeftTile::Columns(&by_pair), packed.panel(0), &mut columns, 40, add);
                    assert_eq!(found, columns);
                    portable(rows, LeftTile::Rows(&by_row, stride), packed.panel(0), &mut wanted, 40, add);
                    let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(off < 1e-5, "{rows}x{inputs}: {off}");
                    portable(rows, LeftTile::Columns(&by_pair), packed.panel(0), &mut columns, 40, false);
                    portable(rows, LeftTile::Rows(&by_row, stride), packed.panel(0), &mut wanted, 40, false);
                    assert_eq!(columns, wanted);
                }
            }
        }
    }
}
