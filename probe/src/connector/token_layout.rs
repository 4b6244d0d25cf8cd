//! The layout of image tokens in a sequence: the grid row by row, an optional newline token after each row, and the
//! padding mask.
//!
//! Encoders get images padded to squares. Which tokens are padding follows from the image size by Cambrian-1's rule
//! (`get_padding_offset` in training, `unpad_image` at inference), which rounds separately for each grid.

use burgess_base::{Error, Result};
use burn::tensor::Tensor;
use std::ops::Range;

/// Width and height of an image before it was padded to a square, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// The region of a grid that the image covers; the rest is padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRegion {
    /// Range of rows that the image covers.
    pub rows: Range<usize>,
    /// Range of columns that the image covers.
    pub columns: Range<usize>,
}

impl ImageRegion {
    /// Computes the region of a grid `[rows, columns]` that an image of this size covers.
    ///
    /// # Errors
    /// When a dimension of the image or of the grid is 0.
    pub fn of(size: ImageSize, [rows, columns]: [usize; 2]) -> Result<Self> {
        if [size.width, size.height, rows, columns].contains(&0) {
            return Err(Error::failed(format!(
                "an image of {}x{} pixels on a grid of {rows}x{columns} tokens: all four must be at least 1",
                size.width, size.height
            )));
        }
        let (width, height) = (size.width as f64, size.height as f64);
        // The order of operations is upstream's, because it determines the rounding of the last bit.
        let margin = |cells: usize, across: usize, other: f64, side: f64| {
            let covered = (other * (across as f64 / side)) as usize;
            cells.saturating_sub(covered) / 2
        };
        let (top, left) = if width / height > columns as f64 / rows as f64 {
            (margin(rows, columns, height, width), 0)
        } else {
            (0, margin(columns, rows, width, height))
        };
        Ok(Self { rows: top..rows - top, columns: left..columns - left })
    }

    /// Whether the image covers the cell at this row and column.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        self.rows.contains(&row) && self.columns.contains(&column)
    }
}

/// The layout of the tokens of one image in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLayout {
    /// Number of rows of the grid.
    pub rows: usize,
    /// Number of columns of the grid.
    pub columns: usize,
    /// Whether a newline token follows each row.
    pub newline: bool,
}

impl TokenLayout {
    /// Returns the number of tokens of a whole image, newlines included.
    pub fn token_count(&self) -> usize {
        self.rows * self.stride()
    }

    fn stride(&self) -> usize {
        self.columns + usize::from(self.newline)
    }

    /// Returns the cell of the grid (counted row by row) of the token at `position`, counted from the first token of
    /// the image; `None` for a newline.
    pub fn cell(&self, position: usize) -> Option<usize> {
        let (row, column) = (position / self.stride().max(1), position % self.stride().max(1));
        (row < self.rows && column < self.columns).then(|| row * self.columns + column)
    }

    /// Returns for each token whether it covers a part of the image, or is the newline of a row that does.
    ///
    /// # Errors
    /// As [`ImageRegion::of`].
    pub fn visible(&self, size: ImageSize) -> Result<Vec<bool>> {
        let region = ImageRegion::of(size, [self.rows, self.columns])?;
        let positions = (0..self.token_count()).map(|p| {
            let (row, column) = (p / self.stride(), p % self.stride());
            region.contains(row, column) || (column == self.columns && region.rows.contains(&row))
        });
        Ok(positions.collect())
    }

    /// Inserts `newline` `[width]` after each row: `[images, rows * columns, width]` → `[images, tokens, width]`.
    pub(super) fn arrange(&self, cells: Tensor<3>, newline: Option<Tensor<1>>) -> Tensor<3> {
        let Some(newline) = newline else {
            return cells;
        };
        let [images, _, width] = cells.dims();
        let cells = cells.reshape([images, self.rows, self.columns, width]);
        let newline = newline.reshape([1, 1, 1, width]).expand([images, self.rows, 1, width]);
        Tensor::cat(vec![cells, newline], 2).reshape([images, self.token_count(), width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(width: usize, height: usize, side: usize) -> Result<(Range<usize>, Range<usize>)> {
        ImageRegion::of(ImageSize { width, height }, [side, side]).map(|r| (r.rows, r.columns))
    }

    #[test]
    fn margins_are_those_of_the_padded_square() -> Result<()> {
        assert_eq!(region(640, 640, 24)?, (0..24, 0..24));
        assert_eq!(region(640, 480, 24)?, (3..21, 0..24));
        assert_eq!(region(480, 640, 24)?, (0..24, 3..21));
        // 24 · 100 / 110 = 21.8: a margin of (24 − 21) / 2 cells, rounded down.
        assert_eq!(region(110, 100, 24)?, (1..23, 0..24));
        assert_eq!(region(1000, 1, 4)?, (2..2, 0..4));
        assert!(region(0, 4, 4).is_err());
        Ok(())
    }

    #[test]
    fn newlines_end_the_rows_that_show_something() -> Result<()> {
        let layout = TokenLayout { rows: 4, columns: 4, newline: true };
        assert_eq!(layout.token_count(), 20);
        assert_eq!((layout.cell(3), layout.cell(4), layout.cell(5)), (Some(3), None, Some(4)));
        let wide = layout.visible(ImageSize { width: 8, height: 4 })?;
        assert_eq!(wide.iter().filter(|v| **v).count(), 10);
        assert!(!wide[4] && wide[9] && wide[14] && !wide[19]);
        let tall = layout.visible(ImageSize { width: 4, height: 8 })?;
        assert_eq!(tall.iter().filter(|v| **v).count(), 12);
        assert_eq!(&tall[..5], [false, true, true, false, true]);
        Ok(())
    }
}
