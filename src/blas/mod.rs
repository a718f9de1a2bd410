//! Matrix products of ndarray views. A transposed operand is a transposed view (`a.t()`).
//!
//! *Tiles*, our own register tiles, compute all of them: an element of c is one chain of fused multiply-adds over ascending k, begun from
//! what c holds or from zero, so that its bits are the same on every processor, however a product is divided. Two other backends make no
//! such promise. With a BLAS feature products go to that *library*, single-threaded, as the parallelism is around the products; and where
//! operands are rounded to bfloat16 ([`Precision`]), there are tiles of other instructions. The choice depends on shapes only, never on
//! threads.

mod bf16;
#[cfg(feature = "linked-blas")]
mod linked;
pub mod peak;
mod tiles;

use crate::profile;
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::{ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};
use std::any::TypeId;

/// The implementation of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Register tiles of our own.
    Tiles,
    /// The BLAS library linked by a feature.
    #[cfg(feature = "linked-blas")]
    Library,
    /// Our own register tiles, for f32 operands rounded to bfloat16.
    Bf16,
}

impl Backend {
    /// All backends available in this build and on this machine.
    pub fn all() -> impl Iterator<Item = Backend> {
        let all = [
            Backend::Tiles,
            #[cfg(feature = "linked-blas")]
            Backend::Library,
            Backend::Bf16,
        ];
        all.into_iter().filter(|backend| backend.precision().available())
    }

    /// The type that it rounds operands to.
    pub fn precision(self) -> Precision {
        if self == Backend::Bf16 { Precision::Bf16 } else { Precision::F32 }
    }
}

/// The type that operands of products are rounded to; sums are accumulated in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32
    #[default]
    F32,
    /// bfloat16, of processors with AVX-512 BF16
    Bf16,
}

impl Precision {
    /// Whether this machine supports it.
    pub fn available(self) -> bool {
        self == Precision::F32 || bf16::available()
    }

    /// [`product`]. Operands are not rounded if they are not f32, if neither their rows nor their columns are contiguous, or if the
    /// precision is not [`Precision::available`].
    pub fn product<R: Real>(self, c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
        self.product_or_add(c, a, b, false);
    }

    /// [`add_product`], with the same rounding.
    pub fn add_product<R: Real>(self, c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
        self.product_or_add(c, a, b, true);
    }

    fn product_or_add<R: Real>(self, c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
        let backend = if self.rounds::<R>() { Backend::Bf16 } else { UNROUNDED };
        product_on(backend, c, a, b, add);
    }

    /// Whether it is f32, the default.
    pub fn is_f32(&self) -> bool {
        *self == Precision::F32
    }

    /// Allocates the buffers that the threads of the current pool need for products, so that training steps allocate nothing.
    pub fn begin_threads<R: Real>(self) {
        if self.rounds::<R>() {
            rayon::broadcast(|_| bf16::begin_thread());
        }
    }

    /// Bytes that the threads of the current pool have for products.
    pub fn thread_bytes(self) -> usize {
        let rounded = if self == Precision::Bf16 { bf16::ROOM_BYTES } else { 0 };
        rayon::current_num_threads() * (tiles::ROOM_BYTES + rounded)
    }

    /// Whether numbers of type `R` are rounded on this machine.
    fn rounds<R: Real>(self) -> bool {
        self == Precision::Bf16 && is_f32::<R>() && bf16::available()
    }
}

/// c = a · b. `c`: [m, n] `a`: [m, k] `b`: [k, n]; what `c` holds before is not read, and its rows are contiguous.
pub fn product<R: Real>(c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
    Precision::F32.product(c, a, b);
}

/// c ← c + a · b; shapes as for [`product`].
pub fn add_product<R: Real>(c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>) {
    Precision::F32.add_product(c, a, b);
}

/// What multiplies operands that are not rounded, if it can.
#[cfg(feature = "linked-blas")]
const UNROUNDED: Backend = Backend::Library;
#[cfg(not(feature = "linked-blas"))]
const UNROUNDED: Backend = Backend::Tiles;

/// c = a · b, or c ← c + a · b, by a named backend, for tests and measurements; by tiles where that one cannot.
pub fn product_on<R: Real>(backend: Backend, mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let ((m, n), k) = (c.dim(), a.ncols());
    assert!(a.nrows() == m && b.dim() == (k, n), "shapes: {:?} = {:?} · {:?}", c.dim(), a.dim(), b.dim());
    if nothing(&mut c, k, add) {
        return;
    }
    let _counted = profile::products(m, n, k);
    multiply(backend, c, a, b, add);
}

/// Whether there is nothing to multiply; if so, the result is written.
fn nothing<R: Real>(c: &mut ArrayViewMut2<R>, k: usize, add: bool) -> bool {
    if k == 0 && !add {
        c.fill(R::zero());
    }
    k == 0 || c.is_empty()
}

fn multiply<R: Real>(backend: Backend, c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    match backend {
        #[cfg(feature = "linked-blas")]
        Backend::Library if linked::takes(&c, &a, &b) => linked::product(c, a, b, add),
        Backend::Bf16 if Precision::Bf16.rounds::<R>() && bf16::takes(&c, &a, &b) => {
            bf16::product(f32s_mut(c), f32s(a), f32s(b), add);
        }
        _ => tiles::product(c, a, b, add),
    }
}

/// The right operand b \[k, n\] of many products, laid out once in the order in which its backend reads it.
pub struct Packed<R> {
    shape: (usize, usize),
    data: Laid<R>,
}

/// How a packed operand lies in memory.
enum Laid<R> {
    /// In panels of tiles.
    #[cfg(not(feature = "linked-blas"))]
    Panels(Buffer<R>),
    /// In panels of pairs.
    Pairs(Buffer<u32>),
    /// As it is, for a library.
    #[cfg(feature = "linked-blas")]
    Rows(Buffer<R>),
}

impl<R: Real> Packed<R> {
    /// Allocates memory for operands of up to `k` rows and `n` columns.
    pub fn new(room: &mut Room, k: usize, n: usize, precision: Precision) -> Self {
        if precision.rounds::<R>() {
            return Packed { shape: (k, n), data: Laid::Pairs(room.zeros(bf16::packed_len(k, n))) };
        }
        #[cfg(feature = "linked-blas")]
        let data = Laid::Rows(room.zeros(k * n));
        #[cfg(not(feature = "linked-blas"))]
        let data = Laid::Panels(room.zeros(tiles::packed_len(k, n)));
        Packed { shape: (k, n), data }
    }

    /// Packs the values of `b`, with any strides; if they are rounded, its rows or its columns must be contiguous.
    pub fn pack(&mut self, b: ArrayView2<R>) {
        self.shape = b.dim();
        let (k, n) = self.shape;
        match &mut self.data {
            #[cfg(not(feature = "linked-blas"))]
            Laid::Panels(data) => tiles::pack(&mut data[..tiles::packed_len(k, n)], b),
            Laid::Pairs(data) => bf16::pack(&mut data[..bf16::packed_len(k, n)], f32s(b)),
            #[cfg(feature = "linked-blas")]
            Laid::Rows(data) => data[..k * n].iter_mut().zip(b).for_each(|(place, x)| *place = *x),
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

    /// c = a · b, or c ← c + a · b.
    pub fn product_or_add(&self, mut c: ArrayViewMut2<R>, a: ArrayView2<R>, add: bool) {
        let ((m, n), k) = (c.dim(), a.ncols());
        assert!(a.nrows() == m && self.shape == (k, n), "shapes: {:?} = {:?} · {:?}", c.dim(), a.dim(), self.shape);
        if nothing(&mut c, k, add) {
            return;
        }
        let _counted = profile::products(m, n, k);
        match &self.data {
            #[cfg(not(feature = "linked-blas"))]
            Laid::Panels(b) => tiles::packed_product(c, a, &b[..tiles::packed_len(k, n)], add),
            Laid::Pairs(b) => bf16::packed_product(f32s_mut(c), f32s(a), &b[..bf16::packed_len(k, n)], add),
            #[cfg(feature = "linked-blas")]
            Laid::Rows(b) => {
                let b = ArrayView2::from_shape(self.shape, &b[..k * n]).expect("the matrix fills its room");
                multiply(UNROUNDED, c, a, b, add)
            }
        }
    }
}

/// What multiplies operands that are not rounded; its version, if it is a library.
pub fn description() -> String {
    #[cfg(feature = "linked-blas")]
    return linked::description();
    #[cfg(not(feature = "linked-blas"))]
    format!("own tiles, {}", crate::kernels::isa())
}

/// Whether a linked library computes products, and the processor that it takes this one for, where it says so.
pub fn linked() -> Option<String> {
    #[cfg(feature = "linked-blas")]
    return Some(linked::processor());
    #[cfg(not(feature = "linked-blas"))]
    None
}

/// Leaves parallelism to us rather than to a linked library; called once, before any product.
pub fn initialise() {
    #[cfg(feature = "linked-openblas")]
    linked::single_thread();
}

fn is_f32<R: Real>() -> bool {
    TypeId::of::<R>() == TypeId::of::<f32>()
}

/// The same view, where [`is_f32`] holds.
fn f32s<R: Real>(x: ArrayView2<R>) -> ArrayView2<f32> {
    assert!(is_f32::<R>());
    // SAFETY: it is of this type, as asserted.
    unsafe { std::mem::transmute::<ArrayView2<R>, ArrayView2<f32>>(x) }
}

/// The same view, where [`is_f32`] holds.
fn f32s_mut<R: Real>(x: ArrayViewMut2<R>) -> ArrayViewMut2<f32> {
    assert!(is_f32::<R>());
    // SAFETY: it is of this type, as asserted.
    unsafe { std::mem::transmute::<ArrayViewMut2<R>, ArrayViewMut2<f32>>(x) }
}
