//! The BLAS library that a feature links (OpenBLAS, BLIS, MKL, Accelerate), through CBLAS.

use super::is_f32;
use crate::real::Real;
use cblas_sys::{CBLAS_LAYOUT, CBLAS_TRANSPOSE, cblas_dgemm, cblas_sgemm};
use ndarray::{ArrayView2, ArrayViewMut2};

// Links the library: without this line its symbols are lost.
extern crate blas_src;

/// An operand as CBLAS describes it: transposed or not, and the distance between its rows (or columns).
fn operand<R>(x: &ArrayView2<R>) -> Option<(CBLAS_TRANSPOSE, i32)> {
    let ((rows, columns), strides) = (x.dim(), x.strides());
    let leading = |stride: isize, least: usize| i32::try_from(stride).ok().filter(|&s| s >= least.max(1) as i32);
    // A dimension of 1 may have any stride.
    if strides[1] == 1 || columns == 1 {
        let stride = if rows == 1 { columns as isize } else { strides[0] };
        return leading(stride, columns).map(|l| (CBLAS_TRANSPOSE::CblasNoTrans, l));
    }
    if strides[0] == 1 || rows == 1 {
        return leading(strides[1], rows).map(|l| (CBLAS_TRANSPOSE::CblasTrans, l));
    }
    None
}

/// Whether CBLAS accepts these strides and sizes.
pub fn takes<R: Real>(c: &ArrayViewMut2<R>, a: &ArrayView2<R>, b: &ArrayView2<R>) -> bool {
    let fits = |n: usize| i32::try_from(n).is_ok();
    matches!(operand(&c.view()), Some((CBLAS_TRANSPOSE::CblasNoTrans, _)))
        && operand(a).is_some()
        && operand(b).is_some()
        && fits(c.nrows())
        && fits(c.ncols())
        && fits(a.ncols())
}

/// c = a · b, or c ← c + a · b; requires [`takes`].
pub fn product<R: Real>(mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let (m, n, k) = (c.nrows() as i32, c.ncols() as i32, a.ncols() as i32);
    let ((ta, lda), (tb, ldb), (_, ldc)) = match (operand(&a), operand(&b), operand(&c.view())) {
        (Some(a), Some(b), Some(c)) => (a, b, c),
        _ => unreachable!("`takes` was asked"),
    };
    let beta = if add { 1.0 } else { 0.0 };
    let row_major = CBLAS_LAYOUT::CblasRowMajor;
    // SAFETY: R is f32 or f64 as tested; pointers, shapes and leading dimensions are those of views whose shapes fit (asserted
    // by the caller); `c` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        if is_f32::<R>() {
            let (a, b, c) = (a.as_ptr().cast(), b.as_ptr().cast(), c.as_mut_ptr().cast());
            cblas_sgemm(row_major, ta, tb, m, n, k, 1.0, a, lda, b, ldb, beta as f32, c, ldc);
        } else {
            let (a, b, c) = (a.as_ptr().cast(), b.as_ptr().cast(), c.as_mut_ptr().cast());
            cblas_dgemm(row_major, ta, tb, m, n, k, 1.0, a, lda, b, ldb, beta, c, ldc);
        }
    }
}

#[cfg(feature = "linked-openblas")]
unsafe extern "C" {
    fn openblas_set_num_threads(threads: std::ffi::c_int);
    fn openblas_get_config() -> *const std::ffi::c_char;
    fn openblas_get_corename() -> *const std::ffi::c_char;
}

/// OpenBLAS has one global number of threads; its threads would compete with ours for the cores.
#[cfg(feature = "linked-openblas")]
pub fn single_thread() {
    // SAFETY: sets a number.
    unsafe { openblas_set_num_threads(1) }
}

/// The processor whose kernels the library has taken, where it says so.
pub fn processor() -> String {
    #[cfg(feature = "linked-openblas")]
    {
        // SAFETY: returns a static C string.
        let name = unsafe { std::ffi::CStr::from_ptr(openblas_get_corename()) };
        format!(" with its kernels for {}", name.to_string_lossy())
    }
    #[cfg(not(feature = "linked-openblas"))]
    String::new()
}

/// Name and version of the library.
pub fn description() -> String {
    #[cfg(feature = "linked-openblas")]
    {
        // SAFETY: returns a static C string.
        let config = unsafe { std::ffi::CStr::from_ptr(openblas_get_config()) };
        format!("linked: {}", config.to_string_lossy().trim())
    }
    #[cfg(all(feature = "blis", not(feature = "linked-openblas")))]
    return "linked: BLIS".into();
    #[cfg(all(feature = "mkl", not(any(feature = "linked-openblas", feature = "blis"))))]
    return "linked: MKL".into();
    #[cfg(all(feature = "accelerate", not(any(feature = "linked-openblas", feature = "blis", feature = "mkl"))))]
    return "linked: Accelerate".into();
}
