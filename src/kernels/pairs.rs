//! Distances between the rows of two matrices, and their backward through σ (equations, section 9).

use super::kernel;
use crate::real::{LANES, Real, Simd};

kernel! {
    /// dᵢ = ‖aᵢ − bᵢ‖². `a`, `b`: \[n, H\]; `d`: \[n\].
    pub fn squared_distances<'a>(d: &'a mut [R], a: &'a [R], b: &'a [R]) {
        |s| {
            let width = a.len() / d.len().max(1);
            assert!(a.len() == d.len() * width && a.len() == b.len());
            for ((d, a), b) in d.iter_mut().zip(a.chunks_exact(width)).zip(b.chunks_exact(width)) {
                let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
                let rest = s.sub(s.load_part(a.remainder()), s.load_part(b.remainder()));
                let mut sum = s.mul(rest, rest);
                for (a, b) in a.zip(b) {
                    let difference = s.sub(s.load(a), s.load(b));
                    sum = s.fma(difference, difference, sum);
                }
                *d = s.sum(sum);
            }
        }
    }
}

kernel! {
    /// a ← cᵢ (a − b) ∘ a ∘ (1 − a), b ← −cᵢ (a − b) ∘ b ∘ (1 − b): the backward of ½ cᵢ ‖a − b‖² through a = σ(·), b = σ(·).
    pub fn squared_distances_backward<'a>(a: &'a mut [R], b: &'a mut [R], c: &'a [R]) {
        |s| {
            let width = a.len() / c.len().max(1);
            assert!(a.len() == c.len() * width && a.len() == b.len());
            for ((&c, a), b) in c.iter().zip(a.chunks_exact_mut(width)).zip(b.chunks_exact_mut(width)) {
                let c = s.splat(c);
                let (mut a, mut b) = (a.chunks_exact_mut(LANES), b.chunks_exact_mut(LANES));
                for (a, b) in (&mut a).zip(&mut b) {
                    let (da, db) = back(s, c, s.load(a), s.load(b));
                    s.store(da, a);
                    s.store(db, b);
                }
                let (a, b) = (a.into_remainder(), b.into_remainder());
                if !a.is_empty() {
                    let (da, db) = back(s, c, s.load_part(a), s.load_part(b));
                    s.store_part(da, a);
                    s.store_part(db, b);
                }
            }
        }
    }
}

/// g ∘ a(1 − a) and −g ∘ b(1 − b), for g = c (a − b).
#[inline(always)]
fn back<S: Simd>(s: S, c: S::V, a: S::V, b: S::V) -> (S::V, S::V) {
    let (zero, one) = (s.splat(S::R::of(0.0)), s.splat(S::R::of(1.0)));
    let g = s.mul(c, s.sub(a, b));
    (s.mul(g, s.mul(a, s.sub(one, a))), s.mul(s.sub(zero, g), s.mul(b, s.sub(one, b))))
}
