//! Size of an image, and the grid of cells that its ground truth is stated on.

/// Width and height of every image, in pixels.
pub const SIZE: u32 = 96;

/// Number of cells along each side of an image; a cell is one patch of the nano encoders.
pub const CELLS: usize = 4;

/// Width and height of a cell, in pixels.
pub const CELL_SIDE: u8 = (SIZE / CELLS as u32) as u8;

/// Returns the index, row by row, of the cell that contains a point given in pixels from the left and from the top.
pub fn cell_at(x: f32, y: f32) -> usize {
    let at = |v: f32| ((v / SIZE as f32 * CELLS as f32) as usize).min(CELLS - 1);
    at(y) * CELLS + at(x)
}

/// Returns the middle of a cell, in pixels from the left and from the top.
pub fn cell_middle(cell: usize) -> (f32, f32) {
    let side = f32::from(CELL_SIDE);
    (((cell % CELLS) as f32 + 0.5) * side, ((cell / CELLS) as f32 + 0.5) * side)
}
