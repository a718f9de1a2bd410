//! The `gemm` crate: f32 and f64 with any strides, including packing. Always available.

use crate::real::Real;
use ndarray::{ArrayView2, ArrayViewMut2};

/// c = a · b, or c ← c + a · b.
pub fn product<R: Real>(mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let ((m, n), k) = (c.dim(), a.ncols());
    let (cs, rs) = (c.strides()[1], c.strides()[0]);
    let (a_strides, b_strides) = (a.strides(), b.strides());
    let alpha = if add { R::one() } else { R::zero() };
    // SAFETY: pointers, shapes and strides are those of views, and the shapes fit (asserted by the caller); `c` is borrowed
    // mutably, so it overlaps neither operand. `gemm` takes f32 and f64.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            cs,
            rs,
            add,
            a.as_ptr(),
            a_strides[1],
            a_strides[0],
            b.as_ptr(),
            b_strides[1],
            b_strides[0],
            alpha,
            R::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
