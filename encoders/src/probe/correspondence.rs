//! Zero-shot semantic correspondence of patch features: the C score of the Law of Vision Representation
//! (arXiv:2408.16357), PCK with window soft-argmax as in its `C_score/`.

use burgess_base::{Error, Result};

/// Half the side of the window around the best match: the window has 2 · 5 + 1 cells per side.
pub const WINDOW: usize = 5;
/// Temperature of the soft-argmax.
const TEMPERATURE: f64 = 0.02;

/// Patch features of an image, `[rows · columns, width]`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct PatchGrid<'a> {
    /// The features.
    pub values: &'a [f32],
    /// Grid, `[rows, columns]`.
    pub grid: [usize; 2],
}

impl PatchGrid<'_> {
    /// The features scaled to L2 norm 1, and their width.
    fn normalised(&self) -> Result<(Vec<f64>, usize)> {
        let patches = self.grid[0] * self.grid[1];
        if patches == 0 || self.values.is_empty() || !self.values.len().is_multiple_of(patches) {
            return Err(Error::failed(format!(
                "{} feature values are no patch features of a grid of {} × {}",
                self.values.len(),
                self.grid[0],
                self.grid[1]
            )));
        }
        let width = self.values.len() / patches;
        let mut out: Vec<f64> = self.values.iter().map(|v| f64::from(*v)).collect();
        for patch in out.chunks_exact_mut(width) {
            let length = patch.iter().map(|v| v * v).sum::<f64>().sqrt() + 1e-10;
            patch.iter_mut().for_each(|v| *v /= length);
        }
        Ok((out, width))
    }
}

/// Finds the points in `target` that correspond to `points` in `source`. Points are `[x, y]` in pixels of a square
/// image of
/// `side` pixels to which both images are scaled.
///
/// The patch of a point is compared with all patches of the target by cosine similarity. Similarities outside the
/// window of [`WINDOW`] cells around the highest are set to 0, and the expected position under their softmax is the
/// match.
///
/// # Errors
/// The features are no grid, or their widths differ.
pub fn correspond(
    source: PatchGrid<'_>,
    target: PatchGrid<'_>,
    points: &[[f64; 2]],
    side: f64,
) -> Result<Vec<[f64; 2]>> {
    let ((from, width), (to, other)) = (source.normalised()?, target.normalised()?);
    if width != other {
        return Err(Error::failed(format!("features of width {width} and {other} cannot be compared")));
    }
    let [rows, columns] = target.grid;
    let cell = |at: f64, count: usize| ((count as f64 / side * at).max(0.0) as usize).min(count.saturating_sub(1));
    let matched = points.iter().map(|[x, y]| {
        let patch = cell(*y, source.grid[0]) * source.grid[1] + cell(*x, source.grid[1]);
        let query = &from[patch * width..(patch + 1) * width];
        let mut similarity: Vec<f64> =
            to.chunks_exact(width).map(|p| p.iter().zip(query).map(|(a, b)| a * b).sum()).collect();
        let best = (1..similarity.len()).fold(0, |best, i| if similarity[i] > similarity[best] { i } else { best });
        let (row, column) = (best / columns, best % columns);
        for (i, value) in similarity.iter_mut().enumerate() {
            if (i / columns).abs_diff(row) > WINDOW || (i % columns).abs_diff(column) > WINDOW {
                *value = 0.0;
            }
        }
        let most = similarity.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = similarity.iter().map(|v| ((v - most) / TEMPERATURE).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |index: &dyn Fn(usize) -> usize| {
            weights.iter().enumerate().map(|(i, w)| w * index(i) as f64).sum::<f64>() / total
        };
        let (u, v) = (mean(&|i| i % columns), mean(&|i| i / columns));
        // The middle of a cell is rounded down to a whole pixel, as in the reference.
        let pixel = |at: f64, count: usize| at * side / count as f64 + (side / count as f64 / 2.0).floor();
        [pixel(u, columns), pixel(v, rows)]
    });
    Ok(matched.collect())
}

/// Returns the fraction of `matched` points whose distance to the right ones is below `alpha` · `extent`, where
/// `extent` is the longer side of the object's box in the target; `None` without points.
pub fn pck(matched: &[[f64; 2]], right: &[[f64; 2]], extent: f64, alpha: f64) -> Option<f64> {
    let near = matched.iter().zip(right).filter(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]) < alpha * extent).count();
    (!matched.is_empty() && matched.len() == right.len()).then(|| near as f64 / matched.len() as f64)
}

/// Returns the A score of one image: the mean over its tokens of the highest cosine similarity with a token of the
/// reference, both `[tokens, width]`; as `A_score/compute.py`. `None` without tokens or for different widths.
pub fn a_score(tokens: &[f32], reference: &[f32], width: usize) -> Option<f64> {
    if width == 0 || tokens.is_empty() || reference.is_empty() {
        return None;
    }
    if !tokens.len().is_multiple_of(width) || !reference.len().is_multiple_of(width) {
        return None;
    }
    let unit = |values: &[f32]| -> Vec<f64> {
        let rows = values.chunks_exact(width).flat_map(|row| {
            let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() + 1e-10;
            row.iter().map(move |v| f64::from(*v) / length)
        });
        rows.collect()
    };
    let (a, b) = (unit(tokens), unit(reference));
    let best = a.chunks_exact(width).map(|u| {
        let cosines = b.chunks_exact(width).map(|v| u.iter().zip(v).map(|(a, b)| a * b).sum::<f64>());
        cosines.fold(f64::NEG_INFINITY, f64::max)
    });
    Some(best.sum::<f64>() / (a.len() / width) as f64)
}
