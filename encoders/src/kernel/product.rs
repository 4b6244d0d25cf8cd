//! Matrix products on slices.

/// How a matrix lies in a slice: element `(row, column)` is at `row * rows + column * columns`.
#[derive(Debug, Clone, Copy)]
pub struct Strides {
    /// From one row to the next.
    pub rows: usize,
    /// From one column to the next.
    pub columns: usize,
}

impl Strides {
    /// Rows of `width` numbers, one after the other.
    pub fn row_major(width: usize) -> Self {
        Self { rows: width, columns: 1 }
    }

    /// The matrix turned over.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows }
    }

    fn reach(self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.rows + (columns - 1) * self.columns
    }
}

/// `c = a · b`, or `c += a · b` with `add`, for `c` of `m` × `n` and `a` of `m` × `k`, on this thread or on all.
///
/// # Panics
/// A slice is shorter than its matrix.
#[allow(clippy::too_many_arguments)]
pub fn product(
    [m, n, k]: [usize; 3],
    c: &mut [f32],
    c_strides: Strides,
    a: &[f32],
    a_strides: Strides,
    b: &[f32],
    b_strides: Strides,
    add: bool,
    threads: Threads,
) {
    if m * n == 0 {
        return;
    }
    assert!(c_strides.reach(m, n) < c.len(), "the result is cut too short");
    if k > 0 {
        assert!(a_strides.reach(m, k) < a.len() && b_strides.reach(k, n) < b.len(), "matrices are cut too short");
    }
    // SAFETY: the slices are live and reach as far as the strides do (asserted above), and `c` is borrowed exclusively.
    unsafe { raw([m, n, k], c.as_mut_ptr(), c_strides, a, a_strides, b, b_strides, add, threads) }
}

/// `a · b` for `a` of `m` × `k` and `b` of `k` × `n`, row by row, on all threads. The result's memory is written once.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn product_of(
    [m, n, k]: [usize; 3],
    a: &[f32],
    a_strides: Strides,
    b: &[f32],
    b_strides: Strides,
    threads: Threads,
) -> Vec<f32> {
    if m * n * k == 0 {
        return vec![0.0; m * n];
    }
    assert!(a_strides.reach(m, k) < a.len() && b_strides.reach(k, n) < b.len(), "matrices are cut too short");
    let mut c: Vec<f32> = Vec::with_capacity(m * n);
    // SAFETY: `a` and `b` reach as far as their strides do (asserted above); `c` has room for m · n numbers, and without
    // `add` the product reads none of them and writes all.
    unsafe {
        raw([m, n, k], c.as_mut_ptr(), Strides::row_major(n), a, a_strides, b, b_strides, false, threads);
        c.set_len(m * n);
    }
    c
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread.
    One,
    /// All of the pool.
    All,
}

#[allow(clippy::too_many_arguments)]
unsafe fn raw(
    [m, n, k]: [usize; 3],
    c: *mut f32,
    c_strides: Strides,
    a: &[f32],
    a_strides: Strides,
    b: &[f32],
    b_strides: Strides,
    add: bool,
    threads: Threads,
) {
    let threads = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            c_strides.columns as isize,
            c_strides.rows as isize,
            add,
            a.as_ptr(),
            a_strides.columns as isize,
            a_strides.rows as isize,
            b.as_ptr(),
            b_strides.columns as isize,
            b_strides.rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}
