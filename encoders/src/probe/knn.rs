//! The k-NN probe of DINO (arXiv:2104.14294): a weighted vote of the most similar training vectors.

use super::{ProbeSamples, largest};
use crate::kernel::product::product_f64;
use crate::kernel::{Matrix, Strides};

/// Number of test vectors whose similarities are computed together.
const ROWS: usize = 256;

/// Predicts the class of each test vector of `values`, `[n, width]`.
///
/// The `neighbours` training vectors of highest cosine similarity c vote for their class, each with weight exp(c /
/// `temperature`). Ties of similarity are resolved in favour of the earlier training vector, ties of votes in favour of
/// the smaller class.
pub fn predict(
    train: &ProbeSamples,
    values: &[f32],
    classes: usize,
    neighbours: usize,
    temperature: f64,
) -> Vec<usize> {
    votes(train, values, classes, neighbours, temperature).chunks_exact(classes.max(1)).map(largest).collect()
}

/// Returns the sum of votes for each class, `[n, classes]`.
pub fn votes(train: &ProbeSamples, values: &[f32], classes: usize, neighbours: usize, temperature: f64) -> Vec<f64> {
    let (n, width) = (train.len(), train.width.max(1));
    let references = normalised(&train.values, width);
    let mut out = Vec::with_capacity(values.len() / width * classes);
    for block in values.chunks(ROWS * width) {
        let (rows, queries) = (block.len() / width, normalised(block, width));
        let mut similarities = vec![0.0; rows * n];
        let by_row = Strides::row_major(width);
        let (a, b) = (Matrix(queries.as_slice(), by_row), Matrix(references.as_slice(), by_row.transposed()));
        product_f64([rows, n, width], &mut similarities, Strides::row_major(n), a, b, false);
        for row in similarities.chunks_exact(n.max(1)) {
            let mut order: Vec<usize> = (0..n).collect();
            let closer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
            let k = neighbours.clamp(1, n);
            order.select_nth_unstable_by(k - 1, closer);
            order.truncate(k);
            // The order of summation must not depend on the selection.
            order.sort_unstable_by(closer);
            let mut votes = vec![0.0_f64; classes];
            for i in order {
                votes[train.labels[i]] += (row[i] / temperature).exp();
            }
            out.append(&mut votes);
        }
    }
    out
}

/// Scales vectors to L2 norm 1; zero vectors stay zero.
fn normalised(values: &[f32], width: usize) -> Vec<f64> {
    let mut out: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    for row in out.chunks_exact_mut(width) {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v /= length);
    }
    out
}
