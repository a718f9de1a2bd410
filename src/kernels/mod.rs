//! Fused SIMD kernels, each written once over [`crate::real::Simd`] and compiled for every instruction set; each forward is directly
//! above its backward. All operate on slices, and none uses a shape beyond a row.

pub mod activation;
pub mod dropout;
pub mod gates;
pub mod isa;
pub mod math;
pub mod pairs;
pub mod rows;
pub mod softmax;
pub mod update;

pub use isa::{Isa, isa};

use crate::real::{LANES, Simd};

/// x ← f(x), sixteen lanes at a time.
#[inline(always)]
fn map<S: Simd>(s: S, x: &mut [S::R], f: impl Fn(S::V) -> S::V) {
    let mut chunks = x.chunks_exact_mut(LANES);
    for x in &mut chunks {
        s.store(f(s.load(x)), x);
    }
    let x = chunks.into_remainder();
    if !x.is_empty() {
        s.store_part(f(s.load_part(x)), x);
    }
}

/// Reads up to sixteen elements from `at`.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[S::R], at: usize) -> S::V {
    match x[at..].first_chunk::<LANES>() {
        Some(whole) => s.load(whole),
        None => s.load_part(&x[at..]),
    }
}

/// Writes up to sixteen elements from `at`.
#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, x: &mut [S::R], at: usize) {
    match x[at..].first_chunk_mut::<LANES>() {
        Some(whole) => s.store(v, whole),
        None => s.store_part(v, &mut x[at..]),
    }
}

/// x ← f(x, y), sixteen lanes at a time.
#[inline(always)]
fn zip<S: Simd>(s: S, x: &mut [S::R], y: &[S::R], f: impl Fn(S::V, S::V) -> S::V) {
    assert_eq!(x.len(), y.len());
    let (mut xs, mut ys) = (x.chunks_exact_mut(LANES), y.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        s.store(f(s.load(x), s.load(y)), x);
    }
    let (x, y) = (xs.into_remainder(), ys.remainder());
    if !x.is_empty() {
        s.store_part(f(s.load_part(x), s.load_part(y)), x);
    }
}

/// A [`crate::real::Kernel`] from a signature and a body: `kernel! { fn name(field: type, …) -> out |s| { body } }` makes
/// the function `name`, generic over `R`, that runs the body on the instruction set in use. The body is compiled here for f32 and f64.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$l:lifetime>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? { |$s:ident| $body:expr }) => {
        $(#[$doc])*
        $vis fn $name<$l, R: crate::real::Real>($($arg: $type),*) $(-> $out)? {
            struct Body<$l, R>($($type,)* std::marker::PhantomData<&$l R>);
            impl<$l, R: crate::real::Real> crate::real::Kernel<R> for Body<$l, R> {
                type Output = kernel!(@out $($out)?);
                #[inline(always)]
                fn run<S: crate::real::Simd<R = R>>(self, $s: S) -> Self::Output {
                    let Body($($arg,)* _) = self;
                    $body
                }
            }
            enum Both {}
            crate::kernels::compiled!(Both, Body<'k, R>);
            R::dispatch::<Both>(Body($($arg,)* std::marker::PhantomData))
        }
    };
    (@out $out:ty) => { $out };
    (@out) => { () };
}
use kernel;

/// `compiled!(Name, Body<'k, R>)` implements [`crate::real::Compiled`] for a type `Name`, whose kernel is `Body`.
macro_rules! compiled {
    ($name:ident, $kernel:ty) => {
        impl crate::real::Compiled for $name {
            type Kernel<'k, R: crate::real::Real> = $kernel;

            #[inline(never)]
            fn single<'k>(kernel: Self::Kernel<'k, f32>) -> crate::real::Output<Self::Kernel<'k, f32>, f32> {
                crate::kernels::isa::single(kernel)
            }

            #[inline(never)]
            fn double<'k>(kernel: Self::Kernel<'k, f64>) -> crate::real::Output<Self::Kernel<'k, f64>, f64> {
                crate::kernels::isa::double(kernel)
            }
        }
    };
}
pub(crate) use compiled;
