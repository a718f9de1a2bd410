//! The arithmetic of all computations: [`Real`] is `f32` (trains) or `f64` (verifies the same code); [`Simd`] is sixteen lanes of one,
//! implemented for every instruction set; a [`Kernel`] is a body written once over them.

use ndarray::NdFloat;

/// Lanes of a [`Simd`] vector, on every instruction set, so that sums have the same order everywhere.
pub const LANES: usize = 16;

/// `f32` or `f64`.
pub trait Real: NdFloat + Default + Send + Sync + std::iter::Sum {
    /// "f32" or "f64", as used in files and messages.
    const NAME: &'static str;

    /// The nearest value to `x`.
    fn of(x: f64) -> Self;

    /// The same value in f64.
    fn f64(self) -> f64;

    /// Runs `kernel`, compiled for the instruction set in use.
    fn dispatch<'a, C: Compiled>(kernel: C::Kernel<'a, Self>) -> Output<C::Kernel<'a, Self>, Self>;
}

/// A body compiled for each instruction set; `run` must be `#[inline(always)]` to be compiled with its instructions.
pub trait Kernel<R: Real> {
    /// What the body returns.
    type Output;

    /// The body.
    fn run<S: Simd<R = R>>(self, s: S) -> Self::Output;
}

/// What a kernel returns.
pub type Output<K, R> = <K as Kernel<R>>::Output;

/// A [`Kernel`] compiled in this crate: two functions that are not generic, so that other crates do not compile it again when they call
/// it through a generic function. `kernels::compiled!` implements it.
pub trait Compiled {
    /// The kernel.
    type Kernel<'a, R: Real>: Kernel<R>;

    /// Runs it on f32.
    fn single<'a>(kernel: Self::Kernel<'a, f32>) -> Output<Self::Kernel<'a, f32>, f32>;

    /// Runs it on f64.
    fn double<'a>(kernel: Self::Kernel<'a, f64>) -> Output<Self::Kernel<'a, f64>, f64>;
}

/// Sixteen lanes of `R`. Every operation rounds as IEEE 754 specifies, so that results are bit-identical on every implementation.
pub trait Simd: Copy {
    /// The element type.
    type R: Real;
    /// A vector of sixteen elements.
    type V: Copy;

    /// Rows and vectors of the tile that matrix products keep in registers.
    const TILE: (usize, usize);
    /// Whether the rows of a tile are gathered first, if they are walked by columns: worth it for narrow tiles, which walk them often.
    const GATHER: bool;

    /// All lanes set to `x`.
    fn splat(self, x: Self::R) -> Self::V;
    /// The first sixteen elements of `x`.
    fn load(self, x: &[Self::R]) -> Self::V;
    /// Up to sixteen elements; the other lanes are zero.
    fn load_part(self, x: &[Self::R]) -> Self::V;
    /// Writes to the first sixteen elements of `x`.
    fn store(self, v: Self::V, x: &mut [Self::R]);
    /// Writes the first `x.len()` ≤ 16 lanes.
    fn store_part(self, v: Self::V, x: &mut [Self::R]);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|
    fn abs(self, a: Self::V) -> Self::V;
    /// |a| with the sign of b.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// The integer nearest to a, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// a · 2ⁿ for integers |n| ≤ 150 in `n`.
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V;
    /// Lane by lane: `x` where a > b, else `y` (also where a or b is NaN).
    fn if_greater(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The lanes as an array.
    fn array(self, a: Self::V) -> [Self::R; LANES];
    /// eˣ; see `kernels::math` for the errors.
    fn exp(self, x: Self::V) -> Self::V;
    /// tanh x
    fn tanh(self, x: Self::V) -> Self::V;
    /// σ(x) = 1 / (1 + e⁻ˣ)
    fn sigmoid(self, x: Self::V) -> Self::V;

    /// Prefetches the cache line of `p`, which may be any address; nothing is read.
    fn prefetch(self, p: *const Self::R);
    /// Sixteen elements from `p`.
    ///
    /// # Safety
    /// `p` is valid for reading sixteen elements.
    unsafe fn load_at(self, p: *const Self::R) -> Self::V;
    /// The first `n` ≤ 16 elements from `p`, the other lanes zero.
    ///
    /// # Safety
    /// `n` ≤ 16, and `p` is valid for reading `n` elements.
    unsafe fn load_part_at(self, p: *const Self::R, n: usize) -> Self::V;
    /// Writes sixteen elements to `p`.
    ///
    /// # Safety
    /// `p` is valid for writing sixteen elements.
    unsafe fn store_at(self, v: Self::V, p: *mut Self::R);
    /// Writes the first `n` ≤ 16 lanes to `p`.
    ///
    /// # Safety
    /// `n` ≤ 16, and `p` is valid for writing `n` elements.
    unsafe fn store_part_at(self, v: Self::V, p: *mut Self::R, n: usize);

    /// The larger of a and b. A NaN in `a` is dropped: for reference values, not for data.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        self.if_greater(a, b, a, b)
    }

    /// The sum of the lanes, as a tree: lanes 8 apart first, then 4, 2 and 1.
    #[inline(always)]
    fn sum(self, a: Self::V) -> Self::R {
        let mut x = self.array(a);
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                x[i] += x[i + width];
            }
        }
        x[0]
    }
}
