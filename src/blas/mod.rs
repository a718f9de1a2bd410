//! Matrix products on ndarray views: the GEMM core. A transposed operand is a transposed view (`a.t()`).
//!
//! Three backends. *Tiles*, our own register tiles without packing, is the fastest where the operands stay in cache, as those of
//! a minibatch do; the `gemm` crate packs, and takes everything else; with a BLAS feature every product goes to that *library*,
//! single-threaded, as the parallelism is around the products. The choice depends on shapes only, never on threads.

mod embedded;
#[cfg(feature = "linked-blas")]
mod linked;
mod tiles;

use crate::kernels::{Isa, isa};
use crate::real::Real;
use ndarray::{ArrayView2, ArrayViewMut2};
#[cfg(feature = "linked-blas")]
use std::any::TypeId;

/// Who computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Register tiles of our own, on operands in cache.
    Tiles,
    /// The `gemm` crate.
    Gemm,
    /// The BLAS library linked by a feature.
    #[cfg(feature = "linked-blas")]
    Library,
}

impl Backend {
    /// All that are in this build.
    pub const ALL: &[Backend] = &[
        Backend::Tiles,
        Backend::Gemm,
        #[cfg(feature = "linked-blas")]
        Backend::Library,
    ];
}

/// c = a · b. `c`: [m, n] `a`: [m, k] `b`: [k, n]; what `c` holds before is not read.
pub fn product<R: Real>(c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
    let backend = choose::<R>(&c, &a, &b);
    product_on(backend, c, a, b, false);
}

/// c ← c + a · b; shapes as for [`product`].
pub fn add_product<R: Real>(c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
    let backend = choose::<R>(&c, &a, &b);
    product_on(backend, c, a, b, true);
}

/// The larger operand that the tiles may walk unpacked, in elements: what stays in a core's L2 cache.
const UNPACKED: usize = 1 << 18;

fn choose<R: Real>(c: &ArrayViewMut2<R>, a: &ArrayView2<R>, b: &ArrayView2<R>) -> Backend {
    #[cfg(feature = "linked-blas")]
    if linked::takes(c, a, b) {
        return Backend::Library;
    }
    let small = b.len() <= UNPACKED || a.nrows() <= 16;
    if small && isa() > Isa::Scalar && tiles::takes(c, a, b) { Backend::Tiles } else { Backend::Gemm }
}

/// c = a · b, or c ← c + a · b, by a named backend, for tests and measurements; the `gemm` crate where that one cannot.
pub fn product_on<R: Real>(backend: Backend, mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let ((m, n), k) = (c.dim(), a.ncols());
    assert!(a.nrows() == m && b.dim() == (k, n), "shapes: {:?} = {:?} · {:?}", c.dim(), a.dim(), b.dim());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            c.fill(R::zero());
        }
        return;
    }
    match backend {
        Backend::Tiles if tiles::takes(&c, &a, &b) => tiles::product(c, a, b, add),
        #[cfg(feature = "linked-blas")]
        Backend::Library if linked::takes(&c, &a, &b) => linked::product(c, a, b, add),
        _ => embedded::product(c, a, b, add),
    }
}

/// Name and version of what computes large products.
pub fn description() -> String {
    #[cfg(feature = "linked-blas")]
    return linked::description();
    #[cfg(not(feature = "linked-blas"))]
    format!("embedded: {} tiles and the gemm crate {}", isa(), env!("WORDMILL_GEMM_VERSION"))
}

/// Makes a linked library leave parallelism to us; called once, before any product.
pub fn initialise() {
    #[cfg(feature = "openblas")]
    linked::single_thread();
}

#[cfg(feature = "linked-blas")]
fn is_f32<R: Real>() -> bool {
    TypeId::of::<R>() == TypeId::of::<f32>()
}
