//! Ground truth of pictures, cell by cell.

/// Cells along each side of a picture's ground truth: 6, so a cell is 16×16 pixels.
pub const CELLS: usize = 6;
