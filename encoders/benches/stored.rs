//! Products with matrices that stay as their file stores them: `cargo bench -p burgess-encoders --bench stored`.
//!
//! `decode` reports bytes of weights per second, at 1 and 8 rows of inputs; `prompt` and `gradient` report
//! multiplications and additions per second, at 512 rows. Several copies of a matrix take turns, so that none stays in
//! the cache.

use burgess_encoders::kernel::stored::{Activations, SharedBytes, StoredMatrix};
use burgess_encoders::number_format::{GgmlBlock, NumberFormat};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::sync::Arc;

fn main() {
    // On a thread of the pool, as the language model decodes: products begin without waking one up.
    rayon::scope(|_| divan::main());
}

/// The size of all copies of a matrix, in bytes: several times that of a processor's cache.
const TOTAL: usize = 128 << 20;
/// `[rows, columns]`: an attention projection and the last layer of an MLP of a language model of 7 B parameters.
const SHAPES: [[usize; 2]; 2] = [[4096, 4096], [4096, 11008]];
const FORMATS: [(&str, NumberFormat); 4] = [
    ("Q4_K", NumberFormat::Block(GgmlBlock::Q4K)),
    ("Q6_K", NumberFormat::Block(GgmlBlock::Q6K)),
    ("Q8_0", NumberFormat::Block(GgmlBlock::Q8_0)),
    ("F16", NumberFormat::F16),
];

/// Copies of a matrix of pseudo-random bytes.
struct Case {
    matrices: Vec<StoredMatrix>,
    shape: [usize; 2],
    turn: usize,
}

impl Case {
    fn new(format: &str, shape: [usize; 2]) -> Option<Self> {
        let (_, format) = FORMATS.into_iter().find(|(name, _)| *name == format)?;
        let (together, unit) = format.unit();
        let size = shape[0] * shape[1] / together * unit;
        let copies = TOTAL.div_ceil(size);
        let mut state = 12_345u64;
        let mut bytes: Vec<u8> = (0..copies * size)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        // 16-bit floats (scales, or the values themselves) become moderate, at whatever byte of a block they are.
        let scales: &[usize] = match format {
            NumberFormat::Block(GgmlBlock::Q4K) => &[0, 2],
            NumberFormat::Block(GgmlBlock::Q6K) => &[208],
            _ => &[0],
        };
        for block in bytes.chunks_exact_mut(unit) {
            for at in scales {
                block[at + 1] = 0x20 + block[at + 1] % 8;
            }
        }
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(bytes);
        let copy =
            |i: usize| StoredMatrix::new(SharedBytes::new(owner.clone(), i * size..(i + 1) * size)?, format, shape);
        Some(Self { matrices: (0..copies).filter_map(copy).collect(), shape, turn: 0 })
    }

    fn next(&mut self) -> &StoredMatrix {
        self.turn = (self.turn + 1) % self.matrices.len();
        &self.matrices[self.turn]
    }
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// Names of the cases: format, shape, number of rows of inputs and precision of the activations.
fn cases(rows: &[usize], activations: &[&str]) -> Vec<String> {
    let mut names = vec![];
    for (format, _) in FORMATS {
        for [outputs, inputs] in SHAPES {
            for n in rows {
                for activations in activations {
                    if format != "F16" || *activations == "f32" {
                        names.push(format!("{format} {outputs}x{inputs} {n} {activations}"));
                    }
                }
            }
        }
    }
    names
}

/// Reads a name of [`cases`].
fn case(name: &str) -> Option<(Case, usize, Activations)> {
    let mut parts = name.split(' ');
    let (format, shape) = (parts.next()?, parts.next()?.split_once('x')?);
    let n = parts.next()?.parse().ok()?;
    let activations = parts.next()?.parse().ok()?;
    Some((Case::new(format, [shape.0.parse().ok()?, shape.1.parse().ok()?])?, n, activations))
}

#[divan::bench(args = cases(&[1, 8], &["f32", "int8", "int16"]), sample_count = 30, sample_size = 3)]
fn decode(bencher: Bencher, name: &str) {
    let Some((mut case, n, activations)) = case(name) else { return };
    let x = numbers(n * case.shape[1]);
    let size = case.matrices[0].size();
    bencher.counter(BytesCount::new(size)).bench_local(|| case.next().product_with(&x, activations));
}

#[divan::bench(args = cases(&[512], &["f32", "int8", "int16"]), sample_count = 5)]
fn prompt(bencher: Bencher, name: &str) {
    let Some((mut case, n, activations)) = case(name) else { return };
    let [rows, columns] = case.shape;
    let x = numbers(n * columns);
    bencher.counter(ItemsCount::new(2 * n * rows * columns)).bench_local(|| case.next().product_with(&x, activations));
}

#[divan::bench(args = cases(&[512], &["f32"]), sample_count = 5)]
fn gradient(bencher: Bencher, name: &str) {
    let Some((mut case, n, _)) = case(name) else { return };
    let [rows, columns] = case.shape;
    let y = numbers(n * rows);
    bencher.counter(ItemsCount::new(2 * n * rows * columns)).bench_local(|| case.next().product_transposed(&y));
}
