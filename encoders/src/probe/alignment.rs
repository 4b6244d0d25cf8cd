//! The alignment of two representations of the same items: kernel alignment and shared neighbours.
//!
//! K and L are the matrices of inner products of the two representations, without self in neighbours. The formulas,
//! with their constants, are those of platonic-rep's `metrics.py` (Huh et al. 2024, arXiv:2405.07987), which adds 1e-6
//! to denominators.

use super::vectors::Vectors;
use burgess_base::{Error, Result};

/// Added to the denominator of kernel alignment, as in platonic-rep.
const EPSILON: f64 = 1e-6;
/// Smallest number of items for which the unbiased HSIC is defined.
const FEWEST: usize = 4;

/// A representation of some items, with what is computed once for comparisons with others.
#[derive(Debug, Clone)]
pub struct Representation {
    n: usize,
    /// Inner products of all pairs, `[n, n]`.
    kernel: Vec<f64>,
    /// The inner products without the means of row and column.
    centred: Vec<f64>,
    /// The `k` nearest neighbours of each item, nearest first, `[n, k]`.
    neighbours: Vec<usize>,
    k: usize,
    /// HSIC of the representation with itself: biased, unbiased, and unbiased over its neighbours.
    own: [f64; 3],
}

/// How well two representations agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// Centred kernel alignment with the biased HSIC, 0 to 1.
    pub cka: f64,
    /// Centred kernel alignment with the unbiased HSIC (Song et al. 2012), at most 1.
    pub cka_unbiased: f64,
    /// Kernel alignment over the pairs that are neighbours in both (unbiased).
    pub cknna: f64,
    /// Mean fraction of the neighbours of an item that are its neighbours in both, 0 to 1.
    pub mutual_knn: f64,
    /// Gromov-Wasserstein discrepancy of the identity coupling: the mean over all pairs of items of the squared
    /// difference of their Euclidean distances in the two representations. 0 for isometric representations.
    pub gromov_wasserstein: f64,
}

impl Representation {
    /// Computes inner products and the `k` nearest neighbours of L2-normalised vectors.
    ///
    /// # Errors
    /// There are fewer than four vectors, or not more than `k`, or `k` is below 2.
    pub fn new(vectors: &Vectors, k: usize) -> Result<Self> {
        let n = vectors.len();
        if n < FEWEST || k < 2 || n <= k {
            return Err(Error::failed(format!(
                "{n} items are too few for the alignment over {k} neighbours, expected at least {} and 2 neighbours",
                (k + 1).max(FEWEST)
            )));
        }
        let kernel = vectors.normalised().gram();
        let mut neighbours = Vec::with_capacity(n * k);
        for (i, row) in kernel.chunks_exact(n).enumerate() {
            let mut order: Vec<usize> = (0..n).filter(|j| *j != i).collect();
            // Ties are resolved in favour of the earlier item.
            let nearer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
            order.select_nth_unstable_by(k - 1, nearer);
            order.truncate(k);
            order.sort_unstable_by(nearer);
            neighbours.extend(order);
        }
        let mut new = Self { n, centred: centred(&kernel, n), kernel, neighbours, k, own: [0.0; 3] };
        new.own = [dot(&new.centred, &new.centred), unbiased(&new.kernel, &new.kernel, n), new.local(&new)];
        Ok(new)
    }

    /// Compares two representations of the same items.
    ///
    /// # Errors
    /// They have different numbers of items or neighbours.
    pub fn compare(&self, other: &Self) -> Result<Alignment> {
        if (self.n, self.k) != (other.n, other.k) {
            return Err(Error::failed(format!(
                "representations of {} and {} items with {} and {} neighbours cannot be compared",
                self.n, other.n, self.k, other.k
            )));
        }
        let ratio = |cross: f64, which: usize| cross / ((self.own[which] * other.own[which]).sqrt() + EPSILON);
        let n = self.n;
        let shared = self.shared().zip(other.shared()).map(|(a, b)| a.iter().filter(|i| b.contains(i)).count());
        let distance = |kernel: &[f64], i: usize, j: usize| {
            // |x − y|² of vectors of norm 1, or of 0.
            (kernel[i * n + i] + kernel[j * n + j] - 2.0 * kernel[i * n + j]).max(0.0).sqrt()
        };
        let mut apart = 0.0;
        for i in 0..n {
            let row = (0..n).filter(|j| *j != i);
            apart += row.map(|j| (distance(&self.kernel, i, j) - distance(&other.kernel, i, j)).powi(2)).sum::<f64>();
        }
        Ok(Alignment {
            cka: ratio(dot(&self.centred, &other.centred), 0),
            cka_unbiased: ratio(unbiased(&self.kernel, &other.kernel, n), 1),
            cknna: ratio(self.local(other), 2),
            mutual_knn: shared.sum::<usize>() as f64 / (n * self.k) as f64,
            gromov_wasserstein: apart / (n * n) as f64,
        })
    }

    fn shared(&self) -> impl Iterator<Item = &[usize]> {
        self.neighbours.chunks_exact(self.k)
    }

    /// The unbiased HSIC of both kernels, each set to 0 except for the pairs (i, j) where j is among the neighbours of
    /// i in both representations. The masked kernels are not symmetric.
    fn local(&self, other: &Self) -> f64 {
        let n = self.n;
        let both = self.shared().zip(other.shared()).enumerate();
        let pairs: Vec<(usize, usize)> =
            both.flat_map(|(i, (a, b))| a.iter().filter(|j| b.contains(j)).map(move |j| (i, *j))).collect();
        let mut sorted = pairs.clone();
        sorted.sort_unstable();
        let is_pair = |i: usize, j: usize| sorted.binary_search(&(i, j)).is_ok();
        let (mut product, mut sums) = (0.0, (0.0, 0.0));
        let (mut columns, mut rows) = (vec![0.0; n], vec![0.0; n]);
        for &(i, j) in &pairs {
            let (k, l) = (self.kernel[i * n + j], other.kernel[i * n + j]);
            if is_pair(j, i) {
                product += k * other.kernel[j * n + i];
            }
            sums.0 += k;
            sums.1 += l;
            columns[j] += k;
            rows[i] += l;
        }
        song(product, sums, dot(&columns, &rows), n)
    }
}

/// The unbiased HSIC (Song et al. 2012, equation 5) from Σ K̃ᵢⱼL̃ⱼᵢ, the sums of K̃ and L̃, and
/// 1ᵀK̃L̃1.
fn song(product: f64, (k, l): (f64, f64), chained: f64, n: usize) -> f64 {
    let m = n as f64;
    (product + k * l / ((m - 1.0) * (m - 2.0)) - 2.0 * chained / (m - 2.0)) / (m * (m - 3.0))
}

/// The unbiased HSIC of two symmetric kernels, whose diagonals do not count.
fn unbiased(k: &[f64], l: &[f64], n: usize) -> f64 {
    let (mut product, mut sums, mut chained) = (0.0, (0.0, 0.0), 0.0);
    for i in 0..n {
        let (a, b) = (&k[i * n..(i + 1) * n], &l[i * n..(i + 1) * n]);
        let (row_k, row_l) = (a.iter().sum::<f64>() - a[i], b.iter().sum::<f64>() - b[i]);
        product += dot(a, b) - a[i] * b[i];
        sums = (sums.0 + row_k, sums.1 + row_l);
        chained += row_k * row_l;
    }
    song(product, sums, chained, n)
}

/// HKH: the kernel without the means of its rows and columns.
fn centred(kernel: &[f64], n: usize) -> Vec<f64> {
    let means: Vec<f64> = kernel.chunks_exact(n).map(|row| row.iter().sum::<f64>() / n as f64).collect();
    let all = means.iter().sum::<f64>() / n as f64;
    let rows = kernel.chunks_exact(n).zip(&means);
    rows.flat_map(|(row, mean)| row.iter().zip(&means).map(move |(v, other)| v - mean - other + all)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
