//! The left operand of a product that sums over the rows of a matrix, as the gradient of a weight does.

use super::joined;
use super::product::LeftOperand;
use super::tile::{LeftTile, TILE_ROWS};
use crate::kernel::simd::with_simd;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Number of tiles whose columns fill whole vectors.
const GROUP: usize = 4;
/// Number of columns of such a group: three vectors.
const WIDE: usize = GROUP * TILE_ROWS;
/// Number of tiles that a task packs.
const TILES: usize = 3 * GROUP;

/// The left operand `xᵀ` for a row-major matrix `x`, rounded to bf16: `[columns / 12, rows / 2, 12]` pairs, padded with
/// zeros. A pair joins two rows of `x`, so that nothing is transposed.
#[derive(Debug, Clone)]
pub struct Bf16Transposed {
    pairs: Vec<u32>,
    /// Number of columns of `x`: the rows of the operand.
    columns: usize,
    /// Number of rows of `x`: the inputs.
    rows: usize,
}

impl Bf16Transposed {
    /// Rounds and reorders contiguous rows of `width` numbers.
    ///
    /// # Panics
    /// `width` is 0.
    pub fn new(values: &[f32], width: usize) -> Self {
        let rows = values.len() / width;
        let per_tile = rows.div_ceil(2) * TILE_ROWS;
        let count = width.div_ceil(TILE_ROWS) * per_tile;
        let mut pairs: Vec<u32> = Vec::with_capacity(count);
        let tasks = pairs.spare_capacity_mut()[..count].par_chunks_mut((TILES * per_tile).max(1)).enumerate();
        tasks.for_each(|(task, out)| {
            with_simd(
                #[inline(always)]
                || pack_tiles(&values[..rows * width], width, task * TILES, per_tile, out),
            );
        });
        // SAFETY: the tasks cover all tiles, and each writes all pairs of its tiles.
        unsafe { pairs.set_len(count) };
        Self { pairs, columns: width, rows }
    }
}

impl LeftOperand for Bf16Transposed {
    fn shape(&self) -> [usize; 2] {
        [self.columns, self.rows]
    }

    fn tile(&self, row: usize) -> LeftTile<'_> {
        let per_tile = self.rows.div_ceil(2) * TILE_ROWS;
        LeftTile::Columns(self.pairs.get(row / TILE_ROWS * per_tile..).unwrap_or_default())
    }
}

/// Writes the tiles from `first` on.
#[inline(always)]
fn pack_tiles(values: &[f32], width: usize, first: usize, per_tile: usize, out: &mut [MaybeUninit<u32>]) {
    for (i, two) in values.chunks(2 * width).enumerate() {
        let (above, below) = two.split_at(width);
        for (group, out) in out.chunks_mut(GROUP * per_tile).enumerate() {
            let column = first * TILE_ROWS + group * WIDE;
            let joined: [u32; WIDE] = joined([above, below], column);
            for (out, joined) in out.chunks_exact_mut(per_tile).zip(joined.as_chunks::<TILE_ROWS>().0) {
                if let Some(out) = out.get_mut(i * TILE_ROWS..).and_then(|out| out.first_chunk_mut::<TILE_ROWS>()) {
                    *out = joined.map(MaybeUninit::new);
                }
            }
        }
    }
}
