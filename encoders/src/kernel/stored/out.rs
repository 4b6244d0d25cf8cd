//! The columns of a row-major result, of which each task writes its own.

use std::marker::PhantomData;
use std::ops::Range;

/// A range of columns of a row-major matrix, borrowed exclusively.
pub(super) struct Columns<'a> {
    data: *mut f32,
    stride: usize,
    rows: usize,
    columns: Range<usize>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a value gives access to its own columns only, which no other value does (`new` borrows the whole matrix,
// `split` divides the columns), so that it can move to another thread as a `&mut [f32]` can.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// Borrows columns of `out`, whose rows are `stride` apart.
    ///
    /// # Panics
    /// The columns reach beyond a row, or the rows beyond the slice.
    pub(super) fn new(out: &'a mut [f32], rows: usize, stride: usize, columns: Range<usize>) -> Self {
        assert!(columns.end <= stride, "the outputs reach beyond a row of the result");
        assert!(rows == 0 || (rows - 1) * stride + columns.end <= out.len(), "the result is too short");
        Self { data: out.as_mut_ptr(), stride, rows, columns, borrowed: PhantomData }
    }

    /// Divides the columns into parts of these widths; columns beyond the last part are left out, and widths beyond the
    /// last column are cut.
    pub(super) fn split(self, widths: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let Range { mut start, end } = self.columns;
        let part = |width: usize| {
            let from = start;
            start = end.min(from + width);
            Self { columns: from..start, ..self }
        };
        widths.into_iter().map(part).collect()
    }

    /// This task's columns of a row.
    ///
    /// # Panics
    /// There is no such row.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "the result has no such row");
        // SAFETY: the row is in the slice (checked here and in `new`), and `self` has these columns for itself.
        unsafe {
            let first = self.data.add(row * self.stride + self.columns.start);
            std::slice::from_raw_parts_mut(first, self.columns.len())
        }
    }
}
