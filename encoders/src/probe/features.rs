//! Computes feature vectors for probes, of a whole image or of one cell of it.

use crate::encoder::Features;

/// Iterates over the patch tokens of image `image`, in row-major order, without the class token.
fn patches(features: &Features, image: usize) -> impl Iterator<Item = &[f32]> {
    let length = features.tokens * features.width;
    let prefix = features.tokens.saturating_sub(features.grid[0] * features.grid[1]);
    let all = features.values.get(image * length..(image + 1) * length).unwrap_or_default();
    all.chunks_exact(features.width.max(1)).skip(prefix)
}

/// Returns the feature vector of a whole image, `[2 · width]`: the mean over its patches, then the maximum over its
/// patches.
pub fn image(features: &Features, image: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; features.width];
    let mut most = vec![f32::NEG_INFINITY; features.width];
    let mut count = 0;
    for patch in patches(features, image) {
        count += 1;
        for ((sum, most), value) in sum.iter_mut().zip(&mut most).zip(patch) {
            *sum += f64::from(*value);
            *most = most.max(*value);
        }
    }
    let mean = sum.iter().map(|s| (s / f64::from(count.max(1))) as f32);
    mean.chain(most.iter().map(|m| if m.is_finite() { *m } else { 0.0 })).collect()
}

/// Returns the feature vector of cell `[row, column]` of `cells` × `cells` over an image, `[width]`.
///
/// It is the mean of the patches whose centre lies in the cell, or the patch that covers the cell's centre if the
/// encoder's grid is coarser than the cells. On a grid of `cells` × `cells` it is the patch itself.
pub fn cell(features: &Features, image: usize, cells: usize, [row, column]: [usize; 2]) -> Vec<f32> {
    let (rows, columns) = (span(features.grid[0], cells, row), span(features.grid[1], cells, column));
    let mut sum = vec![0.0_f64; features.width];
    let mut count = 0;
    for (i, patch) in patches(features, image).enumerate() {
        let across = features.grid[1].max(1);
        if rows.contains(&(i / across)) && columns.contains(&(i % across)) {
            count += 1;
            sum.iter_mut().zip(patch).for_each(|(s, v)| *s += f64::from(*v));
        }
    }
    sum.iter().map(|s| (s / f64::from(count.max(1))) as f32).collect()
}

/// Returns the patches of a side of `patches` whose centre lies in cell `cell` of `cells`, or the one that covers the
/// cell's centre.
fn span(patches: usize, cells: usize, cell: usize) -> std::ops::Range<usize> {
    // Centre (i + ½) / patches in [cell / cells, (cell + 1) / cells), in integers.
    let inside = |i: usize| {
        let middle = (2 * i + 1) * cells;
        middle >= 2 * cell * patches && middle < 2 * (cell + 1) * patches
    };
    let first = (0..patches).find(|&i| inside(i));
    match first {
        Some(first) => first..first + (first..patches).take_while(|&i| inside(i)).count(),
        None => {
            let covering = (2 * cell + 1) * patches / (2 * cells.max(1));
            covering.min(patches.saturating_sub(1))..covering.min(patches.saturating_sub(1)) + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(grid: [usize; 2], prefix: usize) -> Features {
        let tokens = prefix + grid[0] * grid[1];
        let values = (0..2 * tokens).flat_map(|t| [t as f32, -(t as f32)]).collect();
        Features { values, images: 2, tokens, width: 2, grid }
    }

    #[test]
    fn an_image_is_the_mean_and_the_maximum_of_its_patches() {
        // The class token, token 5 of all, is ignored.
        let features = ramp([2, 2], 1);
        assert_eq!(image(&features, 1), [7.5, -7.5, 9.0, -6.0]);
        assert_eq!(image(&features, 0), [2.5, -2.5, 4.0, -1.0]);
    }

    #[test]
    fn a_cell_is_its_patch_or_the_mean_of_its_patches() {
        assert_eq!(cell(&ramp([6, 6], 0), 0, 6, [1, 2]), [8.0, -8.0]);
        assert_eq!(cell(&ramp([6, 6], 1), 0, 6, [5, 5]), [36.0, -36.0]);
        // Patches 26, 27, 38, 39 of a grid of 12 × 12.
        assert_eq!(cell(&ramp([12, 12], 0), 0, 6, [1, 1]), [32.5, -32.5]);
        // A grid of 3 × 3 is coarser: cells 2 and 3 lie in its middle row and column.
        assert_eq!(cell(&ramp([3, 3], 0), 0, 6, [2, 3]), [4.0, -4.0]);
        for patches in 1..40 {
            let mut all: Vec<usize> = (0..6).flat_map(|c| span(patches, 6, c)).collect();
            assert!(all.is_sorted() && all.iter().all(|i| *i < patches));
            all.dedup();
            assert!(patches < 6 || all.len() == patches, "{patches}: {all:?}");
        }
    }
}
