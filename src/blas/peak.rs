//! What a core can do at most: fused multiply-adds on registers alone, in as many independent chains as a tile has.

use crate::kernels::compiled;
use crate::real::{Kernel, LANES, Real, Simd};

/// Makes `rounds` of fused multiply-adds; returns how many floating-point operations they were.
pub fn registers(rounds: usize) -> u64 {
    f32::dispatch::<Peaks>(Peak { rounds, factor: 0.5 })
}

enum Peaks {}
compiled!(Peaks, Peak<R>);

struct Peak<R> {
    rounds: usize,
    factor: R,
}

impl<R: Real> Kernel<R> for Peak<R> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd<R = R>>(self, s: S) -> u64 {
        match S::TILE {
            (8.., _) => self.chains::<S, 24>(s),
            (6.., _) => self.chains::<S, 6>(s),
            _ => self.chains::<S, 2>(s),
        }
    }
}

impl<R: Real> Peak<R> {
    #[inline(always)]
    fn chains<S: Simd<R = R>, const N: usize>(self, s: S) -> u64 {
        let factor = s.splat(std::hint::black_box(self.factor));
        let mut sums = [s.splat(R::one()); N];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = s.fma(factor, *sum, factor);
            }
        }
        for sum in sums {
            std::hint::black_box(s.sum(sum));
        }
        (2 * LANES * N * self.rounds) as u64
    }
}
