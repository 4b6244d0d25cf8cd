//! Matrix products on slices, in any memory layout.

/// Memory layout of a matrix in a slice: element `(row, column)` is at `row * rows + column * columns`.
#[derive(Debug, Clone, Copy)]
pub struct Strides {
    /// Distance from one row to the next, in elements.
    pub rows: usize,
    /// Distance from one column to the next, in elements.
    pub columns: usize,
}

impl Strides {
    /// The layout of contiguous rows of `width` elements.
    pub fn row_major(width: usize) -> Self {
        Self { rows: width, columns: 1 }
    }

    /// The layout of the transposed matrix.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows }
    }

    fn reach(self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.rows + (columns - 1) * self.columns
    }
}

/// A read-only matrix: a slice and its memory layout.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T = f32>(pub &'a [T], pub Strides);

impl<T: Copy> Matrix<'_, T> {
    fn holds(self, rows: usize, columns: usize) -> bool {
        self.1.reach(rows, columns) < self.0.len()
    }
}

/// Computes `c = a · b`, or `c += a · b` with `add`, for `c` of `m` × `n` and `a` of `m` × `k`, on this thread.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn product([m, n, k]: [usize; 3], c: &mut [f32], c_strides: Strides, a: Matrix<'_>, b: Matrix<'_>, add: bool) {
    if m * n == 0 {
        return;
    }
    assert!(c_strides.reach(m, n) < c.len(), "the result is cut too short");
    assert!(k == 0 || a.holds(m, k) && b.holds(k, n), "matrices are cut too short");
    // SAFETY: the slices are live and reach as far as the strides do (asserted above), and `c` is borrowed exclusively.
    unsafe { raw([m, n, k], c.as_mut_ptr(), c_strides, a, b, add, gemm::Parallelism::None) }
}

/// Computes [`product`] in double precision, on this thread.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn product_f64(
    [m, n, k]: [usize; 3],
    c: &mut [f64],
    c_strides: Strides,
    a: Matrix<'_, f64>,
    b: Matrix<'_, f64>,
    add: bool,
) {
    if m * n == 0 {
        return;
    }
    assert!(c_strides.reach(m, n) < c.len(), "the result is cut too short");
    assert!(k == 0 || a.holds(m, k) && b.holds(k, n), "matrices are cut too short");
    // SAFETY: as in `product`.
    unsafe { raw([m, n, k], c.as_mut_ptr(), c_strides, a, b, add, gemm::Parallelism::None) }
}

/// Returns `a · b`, row-major, for `a` of `m` × `k` and `b` of `k` × `n`, computed on all threads. The result's
/// memory is written only once.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn product_of([m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    if m * n * k == 0 {
        return vec![0.0; m * n];
    }
    assert!(a.holds(m, k) && b.holds(k, n), "matrices are cut too short");
    let mut c: Vec<f32> = Vec::with_capacity(m * n);
    // SAFETY: `a` and `b` reach as far as their strides do (asserted above); `c` has room for m · n elements, and
    // without `add` the product reads none of them and writes all.
    unsafe {
        raw([m, n, k], c.as_mut_ptr(), Strides::row_major(n), a, b, false, gemm::Parallelism::Rayon(0));
        c.set_len(m * n);
    }
    c
}

/// Returns `a · [b₁ b₂ …]`, row-major, for `a` of `m` × `k` and `parts` of `(n, b)` with `b` of `k` × `n`,
/// computed on all threads: the outputs of several layers side by side. The result's memory is written only once.
///
/// # Panics
/// A slice is shorter than its matrix, or a matrix has no elements.
pub fn products_of([m, k]: [usize; 2], a: Matrix<'_>, parts: &[(usize, Matrix<'_>)]) -> Vec<f32> {
    let total: usize = parts.iter().map(|(n, _)| n).sum();
    assert!(m * k > 0 && parts.iter().all(|(n, _)| *n > 0), "matrices without elements");
    assert!(a.holds(m, k) && parts.iter().all(|(n, b)| b.holds(k, *n)), "matrices are cut too short");
    let mut c: Vec<f32> = Vec::with_capacity(m * total);
    let mut first = 0;
    for &(n, b) in parts {
        // SAFETY: `a` and `b` reach as far as their strides do (asserted above); `c` has room for `m` rows of `total`
        // elements, of which columns `first..first + n` are written and none is read.
        unsafe {
            let to = c.as_mut_ptr().add(first);
            raw([m, n, k], to, Strides::row_major(total), a, b, false, gemm::Parallelism::Rayon(0));
        }
        first += n;
    }
    // SAFETY: the parts cover all columns of all rows, so that every element is written.
    unsafe { c.set_len(m * total) };
    c
}

/// Returns `a₁ · b₁ + a₂ · b₂ + …`, row-major, for terms of `(k, a, b)` with `a` of `m` × `k` and `b` of
/// `k` × `n`, computed on all threads. The sum is zero without terms.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn sum_of_products([m, n]: [usize; 2], terms: &[(usize, Matrix<'_>, Matrix<'_>)]) -> Vec<f32> {
    let Some((&(k, a, b), rest)) = terms.split_first() else { return vec![0.0; m * n] };
    let mut c = product_of([m, n, k], a, b);
    for &(k, a, b) in rest {
        add_product([m, n, k], &mut c, a, b);
    }
    c
}

/// Computes `c += a · b` for a row-major `c` of `m` × `n`, on all threads.
///
/// # Panics
/// A slice is shorter than its matrix.
pub fn add_product([m, n, k]: [usize; 3], c: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    if m * n * k == 0 {
        return;
    }
    assert!(c.len() >= m * n, "the result is cut too short");
    assert!(a.holds(m, k) && b.holds(k, n), "matrices are cut too short");
    // SAFETY: as in `product`.
    unsafe { raw([m, n, k], c.as_mut_ptr(), Strides::row_major(n), a, b, true, gemm::Parallelism::Rayon(0)) }
}

/// A number type in which products are computed.
trait Number: Copy + 'static {
    const ONE: Self;
}

impl Number for f32 {
    const ONE: Self = 1.0;
}

impl Number for f64 {
    const ONE: Self = 1.0;
}

unsafe fn raw<T: Number>(
    [m, n, k]: [usize; 3],
    c: *mut T,
    c_strides: Strides,
    Matrix(a, a_strides): Matrix<'_, T>,
    Matrix(b, b_strides): Matrix<'_, T>,
    add: bool,
    threads: gemm::Parallelism,
) {
    // SAFETY: the caller guarantees that the slices reach as far as their strides do.
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
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            threads,
        );
    }
}
