//! Tests of products with stored matrices against the unpacked ones.

use super::*;
use crate::number_format::GgmlBlock;

const FORMATS: [NumberFormat; 12] = [
    NumberFormat::F16,
    NumberFormat::Bf16,
    NumberFormat::Block(GgmlBlock::Q4_0),
    NumberFormat::Block(GgmlBlock::Q4_1),
    NumberFormat::Block(GgmlBlock::Q5_0),
    NumberFormat::Block(GgmlBlock::Q5_1),
    NumberFormat::Block(GgmlBlock::Q8_0),
    NumberFormat::Block(GgmlBlock::Q2K),
    NumberFormat::Block(GgmlBlock::Q3K),
    NumberFormat::Block(GgmlBlock::Q4K),
    NumberFormat::Block(GgmlBlock::Q5K),
    NumberFormat::Block(GgmlBlock::Q6K),
];

/// A matrix of pseudo-random bytes whose 16-bit floats (scales, or the values themselves) are moderate.
fn matrix(format: NumberFormat, [rows, columns]: [usize; 2]) -> StoredMatrix {
    let (elements, size) = format.unit();
    let count = rows * columns / elements * size;
    let mut state = 12_345u32;
    let mut bytes: Vec<u8> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let scales = match format {
        NumberFormat::Block(block) => block.scales(),
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(size) {
        for at in scales {
            // The exponents of 2⁻⁷ to 2¹ of f16, of 2⁻³¹ to 2 of bf16.
            block[at + 1] =
                if format == NumberFormat::Bf16 { 0x30 + block[at + 1] % 16 } else { 0x20 + block[at + 1] % 32 };
        }
    }
    StoredMatrix::new(SharedBytes::new(Arc::new(bytes), 0..count).unwrap(), format, [rows, columns]).unwrap()
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// The relative distance of two vectors.
fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let off: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    (off / size).sqrt()
}

/// The product of `[n, k]` with the transposed matrix `[m, k]`.
fn plain_product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| dot(x, w))).collect()
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// A few more columns than a chunk, if blocks allow it.
fn columns(format: NumberFormat) -> usize {
    match format.unit().0 {
        1 => 277,
        32 => 288,
        _ => 512,
    }
}

#[test]
fn products_are_those_of_the_unpacked_matrix() {
    for format in FORMATS {
        let (rows, columns) = (19, columns(format));
        let stored = matrix(format, [rows, columns]);
        let w = stored.unpack();
        for n in [3, FEW + 1] {
            let x = numbers(n * columns);
            let wanted = plain_product(&x, &w, columns);
            for level in levels() {
                for (activations, bound) in
                    [(Activations::F32, 2e-6), (Activations::Int16, 2e-4), (Activations::Int8, 2e-2)]
                {
                    let mut out = vec![0.0; n * rows];
                    let to = Columns::new(&mut out, n, rows, 0..rows);
                    products_at(level, &x, &[(&stored, activations)], to);
                    let off = distance(&out, &wanted);
                    assert!(off <= bound, "{format:?} {n} {level:?} {activations:?}: {off}");
                }
            }
        }
    }
}

#[test]
fn results_of_a_row_do_not_depend_on_the_other_rows() {
    for format in FORMATS {
        let columns = columns(format);
        let stored = matrix(format, [19, columns]);
        let x = numbers((FEW + 13) * columns);
        for activations in [Activations::F32, Activations::Int8, Activations::Int16] {
            let many = stored.product_with(&x, activations);
            assert_eq!(stored.product_with(&x[..(FEW + 1) * columns], activations), many[..(FEW + 1) * 19]);
            let few = stored.product_with(&x[..15 * columns], activations);
            for n in [1, 3, 4, 8, 13] {
                assert_eq!(stored.product_with(&x[..n * columns], activations), few[..n * 19], "{format:?} {n}");
            }
        }
    }
}

#[test]
fn transposed_products_are_those_of_the_unpacked_matrix() {
    for format in FORMATS {
        let (rows, columns) = (42, columns(format));
        let stored = matrix(format, [rows, columns]).with_row_order(RowOrder::InterleavedHeads(6)).unwrap();
        let w = stored.unpack();
        let by_column: Vec<f32> = (0..columns * rows).map(|i| w[i % rows * columns + i / rows]).collect();
        for n in [1, 13] {
            let y = numbers(n * rows);
            let off = distance(&stored.product_transposed(&y), &plain_product(&y, &by_column, rows));
            assert!(off <= 2e-6, "{format:?} {n}: {off}");
        }
    }
}

#[test]
fn products_of_several_matrices_are_those_one_by_one() {
    let (a, b) = (matrix(NumberFormat::Block(GgmlBlock::Q5_1), [70, 64]), matrix(NumberFormat::F16, [3, 64]));
    for n in [1, FEW + 1] {
        let x = numbers(n * 64);
        let all = products(&x, &[(&a, Activations::F32), (&b, Activations::F32), (&a, Activations::Int8)]);
        let parts = [a.product(&x), b.product(&x), a.product_with(&x, Activations::Int8)];
        for (i, all) in all.chunks(143).enumerate() {
            let [first, second, third] =
                [&parts[0][i * 70..][..70], &parts[1][i * 3..][..3], &parts[2][i * 70..][..70]];
            assert_eq!((&all[..70], &all[70..73], &all[73..]), (first, second, third));
        }
    }
}

/// Every instruction set unpacks to the same bits as the plain conversion, which equals gguf-py's.
#[test]
fn unpacked_values_are_those_of_the_plain_conversion() {
    for format in FORMATS {
        let columns = columns(format);
        let stored = matrix(format, [1, columns]);
        let mut wanted = vec![0.0; columns];
        number_format::convert(format, stored.row_bytes(0), &mut wanted);
        for level in levels() {
            let mut out = vec![0.0; columns];
            level.run(Unpack { format, bytes: stored.row_bytes(0), out: &mut out });
            assert_eq!(out, wanted, "{format:?} {level:?}");
        }
    }
}

#[test]
fn rows_of_interleaved_heads_are_read_in_the_order_of_rotate_half() {
    let plain = matrix(NumberFormat::F16, [8, 4]);
    let w = plain.unpack();
    let ordered = plain.with_row_order(RowOrder::InterleavedHeads(4)).unwrap();
    let wanted: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].iter().flat_map(|r| w[4 * r..4 * r + 4].to_vec()).collect();
    assert_eq!(ordered.unpack(), wanted);
    assert!(ordered.clone().with_row_order(RowOrder::InterleavedHeads(3)).is_none());
    assert!(ordered.with_row_order(RowOrder::InterleavedHeads(16)).is_none());
}

#[test]
fn ill_shaped_matrices_are_refused() {
    let bytes = |n: usize| SharedBytes::new(Arc::new(vec![0u8; n]), 0..n).unwrap();
    assert!(SharedBytes::new(Arc::new(vec![0u8; 3]), 0..4).is_none());
    let q8 = NumberFormat::Block(GgmlBlock::Q8_0);
    assert!(StoredMatrix::new(bytes(68), q8, [2, 32]).is_some());
    assert!(StoredMatrix::new(bytes(67), q8, [2, 32]).is_none());
    assert!(StoredMatrix::new(bytes(68), q8, [4, 16]).is_none());
    assert!(StoredMatrix::new(bytes(16), NumberFormat::F32, [2, 2]).is_none());
}
