//! Row-major matrices in buffers: views, and loops over their rows.

use crate::kernels::update::add;
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// A matrix that is allocated once, for its maximum number of rows.
pub struct Matrix<T> {
    width: usize,
    values: Buffer<T>,
}

impl<T: Copy + Default> Matrix<T> {
    /// Zeros, allocated in `room`.
    pub fn new(room: &mut Room, rows: usize, width: usize) -> Self {
        Matrix { width, values: room.zeros(rows * width) }
    }

    /// The first `rows` rows.
    pub fn first(&self, rows: usize) -> &[T] {
        &self.values[..rows * self.width]
    }

    /// The first `rows` rows, mutable.
    pub fn rows(&mut self, rows: usize) -> Rows<'_, T> {
        Rows { width: self.width, values: &mut self.values[..rows * self.width] }
    }
}

/// Some rows of a matrix.
pub struct Rows<'a, T> {
    width: usize,
    /// Their elements.
    pub values: &'a mut [T],
}

impl<'a, T> Rows<'a, T> {
    /// A slice as rows of `width` elements.
    pub fn new(values: &'a mut [T], width: usize) -> Self {
        Rows { width, values }
    }

    /// The first `rows` rows, and the others.
    pub fn split_at(self, rows: usize) -> (Self, Self) {
        let (first, second) = self.values.split_at_mut(rows * self.width);
        (Rows { width: self.width, values: first }, Rows { width: self.width, values: second })
    }

    /// The elements of some of the rows.
    pub fn part(&mut self, rows: &Range<usize>) -> &mut [T] {
        &mut self.values[rows.start * self.width..rows.end * self.width]
    }

    /// As a matrix.
    pub fn view(&self) -> ArrayView2<'_, T> {
        view(self.values, self.values.len() / self.width, self.width)
    }

    /// As a mutable matrix.
    pub fn view_mut(&mut self) -> ArrayViewMut2<'_, T> {
        view_mut(self.values, self.values.len() / self.width, self.width)
    }
}

/// Sets the rows to zero for which `which` holds.
pub fn clear_rows<R: Real>(x: &mut [R], width: usize, which: impl Fn(usize) -> bool) {
    for (i, row) in x.chunks_exact_mut(width).enumerate() {
        if which(i) {
            row.fill(R::zero());
        }
    }
}

/// `sum` = the sum of the rows of `x`.
pub fn sum_rows<R: Real>(sum: &mut [R], x: &[R]) {
    sum.fill(R::zero());
    for row in x.chunks_exact(sum.len()) {
        add(sum, row);
    }
}

/// Every row of `x` becomes `row`.
pub fn fill_rows<R: Real>(x: &mut [R], row: &[R]) {
    x.chunks_exact_mut(row.len()).for_each(|x| x.copy_from_slice(row));
}

/// A slice as a matrix.
pub fn view<R>(x: &[R], rows: usize, columns: usize) -> ArrayView2<'_, R> {
    ArrayView2::from_shape((rows, columns), x).expect("the slice has rows × columns elements")
}

/// A mutable slice as a matrix.
pub fn view_mut<R>(x: &mut [R], rows: usize, columns: usize) -> ArrayViewMut2<'_, R> {
    ArrayViewMut2::from_shape((rows, columns), x).expect("the slice has rows × columns elements")
}

/// `out` = xᵀ, in blocks that stay in L1.
pub fn transpose<R: Real>(out: &mut [R], x: ArrayView2<R>) {
    transpose_columns(out, x, 0..x.ncols());
}

/// `out` = the columns `of` of `x`, transposed: one row per column.
pub fn transpose_columns<R: Real>(out: &mut [R], x: ArrayView2<R>, of: Range<usize>) {
    const BLOCK: usize = 16;
    let (rows, columns) = x.dim();
    let x = x.as_slice().expect("the matrix is contiguous");
    assert!(of.end <= columns && out.len() == rows * of.len());
    for i0 in (0..rows).step_by(BLOCK) {
        for j0 in (0..of.len()).step_by(BLOCK) {
            for j in j0..(j0 + BLOCK).min(of.len()) {
                for i in i0..(i0 + BLOCK).min(rows) {
                    out[j * rows + i] = x[i * columns + of.start + j];
                }
            }
        }
    }
}

/// Adds `row` to every row of `x`.
pub fn add_rows<R: Real>(x: &mut [R], row: &[R]) {
    x.chunks_exact_mut(row.len()).for_each(|x| add(x, row));
}
