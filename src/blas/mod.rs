//! Matrix products on ndarray views: the GEMM core. A transposed operand is a transposed view (`a.t()`).
//!
//! Three backends. *Tiles*, our own register tiles, take whatever has contiguous rows, or was packed before; the `gemm` crate takes
//! other strides, and machines without AVX2; with a BLAS feature every product goes to that *library*,
//! single-threaded, as the parallelism is around the products. The choice depends on shapes only, never on threads.

mod embedded;
#[cfg(feature = "linked-blas")]
mod linked;
mod tiles;

use crate::kernels::{Buffer, Isa, isa};
use crate::profile;
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

fn choose<R: Real>(c: &ArrayViewMut2<R>, a: &ArrayView2<R>, b: &ArrayView2<R>) -> Backend {
    #[cfg(feature = "linked-blas")]
    if linked::takes(c, a, b) {
        return Backend::Library;
    }
    if isa() > Isa::Scalar && tiles::takes(c, a, b) { Backend::Tiles } else { Backend::Gemm }
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
    let _counted = profile::products(m, n, k);
    match backend {
        Backend::Tiles if tiles::takes(&c, &a, &b) => tiles::product(c, a, b, add),
        #[cfg(feature = "linked-blas")]
        Backend::Library if linked::takes(&c, &a, &b) => linked::product(c, a, b, add),
        _ => embedded::product(c, a, b, add),
    }
}

/// The right operand b \[k, n\] of many products, laid out once as their backend walks it.
pub struct Packed<R> {
    shape: (usize, usize),
    /// In panels of tiles, or as it is for the other backends.
    panels: bool,
    data: Buffer<R>,
}

impl<R: Real> Packed<R> {
    /// Room for a matrix \[k, n\].
    pub fn new(k: usize, n: usize) -> Self {
        #[cfg(feature = "linked-blas")]
        let linked = true;
        #[cfg(not(feature = "linked-blas"))]
        let linked = false;
        let panels = isa() > Isa::Scalar && !linked;
        let len = if panels { tiles::packed_len(k, n) } else { k * n };
        Packed { shape: (k, n), panels, data: Buffer::zeros(len) }
    }

    /// Takes the values of `b`, of any strides.
    pub fn pack(&mut self, b: ArrayView2<R>) {
        assert_eq!(b.dim(), self.shape);
        if self.panels {
            tiles::pack(&mut self.data, b);
        } else {
            self.data.iter_mut().zip(b).for_each(|(place, x)| *place = *x);
        }
    }

    /// c = a · b
    pub fn product(&self, c: ArrayViewMut2<R>, a: ArrayView2<R>) {
        self.product_or_add(c, a, false);
    }

    /// c ← c + a · b
    pub fn add_product(&self, c: ArrayViewMut2<R>, a: ArrayView2<R>) {
        self.product_or_add(c, a, true);
    }

    fn product_or_add(&self, c: ArrayViewMut2<R>, a: ArrayView2<R>, add: bool) {
        let ((m, n), k) = (c.dim(), a.ncols());
        assert!(a.nrows() == m && self.shape == (k, n), "shapes: {:?} = {:?} · {:?}", c.dim(), a.dim(), self.shape);
        if self.panels && m > 0 && n > 0 && k > 0 {
            let _counted = profile::products(m, n, k);
            return tiles::packed_product(c, a, &self.data, add);
        }
        let b = ArrayView2::from_shape(self.shape, &self.data[..k * n]).expect("the matrix fills its room");
        if add { add_product(c, a, b) } else { product(c, a, b) }
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
    #[cfg(feature = "linked-openblas")]
    linked::single_thread();
}

#[cfg(feature = "linked-blas")]
fn is_f32<R: Real>() -> bool {
    TypeId::of::<R>() == TypeId::of::<f32>()
}
