//! Shared by the groups: timing, and the limits of this machine, measured in the same run.

use criterion::Bencher;
use std::hint::black_box;
use std::time::{Duration, Instant};
use wordmill::kernels::dropout::multiply;
use wordmill::kernels::isa::run_on;
use wordmill::kernels::{Isa, isa};
use wordmill::real::{Kernel, LANES, Simd};
use wordmill::sys::memory::Buffer;

/// The shortest time of a call, in seconds.
pub struct Best(pub f64);

impl Best {
    /// Nothing yet.
    pub fn new() -> Self {
        Best(f64::INFINITY)
    }

    /// Times `f` for criterion, and remembers the shortest mean of the runs that were long enough to be timed.
    pub fn time(&mut self, b: &mut Bencher, mut f: impl FnMut()) {
        b.iter_custom(|n| {
            let start = Instant::now();
            (0..n).for_each(|_| f());
            let time = start.elapsed();
            if time > Duration::from_micros(100) {
                self.0 = self.0.min(time.as_secs_f64() / n as f64);
            }
            time
        });
    }

    /// Whether it was measured, not left out by a filter.
    pub fn is_there(&self) -> bool {
        self.0.is_finite()
    }
}

/// The shortest time of a call of `f` in 0.2 s of calls, in seconds.
pub fn shortest(mut f: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(200) {
        let call = Instant::now();
        f();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

/// Multiplications and additions in registers, for `N` independent sums.
struct Fma<const N: usize>;

/// Rounds of [`Fma`].
const ROUNDS: usize = 1 << 16;

impl<const N: usize> Kernel<f32> for Fma<N> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<R = f32>>(self, s: S) -> f32 {
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut sums = [s.splat(black_box(1.0)); N];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.fma(a, *sum, b);
            }
        }
        sums.into_iter().map(|sum| s.sum(sum)).sum()
    }
}

/// GFLOP/s of one core on registers.
pub fn peak() -> f64 {
    let (seconds, sums) = if isa() == Isa::Avx512 {
        (shortest(|| _ = black_box(run_on(isa(), Fma::<12>))), 12)
    } else {
        (shortest(|| _ = black_box(run_on(isa(), Fma::<6>))), 6)
    };
    2.0 * (ROUNDS * sums * LANES) as f64 / seconds / 1e9
}

/// GB/s that one core reads and writes in buffers of `len` floats: the better of a copy, and of a product in place, which need not
/// fetch what it overwrites.
pub fn bandwidth(len: usize) -> f64 {
    let (from, mut to) = (filled(len), Buffer::<f32>::zeros(len));
    let repeats = (1 << 20) / len.min(1 << 20);
    let copy = || (0..repeats).for_each(|_| black_box(&mut to).copy_from_slice(black_box(&from)));
    let copied = (8 * len * repeats) as f64 / shortest(copy) / 1e9;
    let scale = || (0..repeats).for_each(|_| multiply(black_box(&mut to), black_box(&from)));
    copied.max((12 * len * repeats) as f64 / shortest(scale) / 1e9)
}

/// A buffer of numbers around zero.
pub fn filled(len: usize) -> Buffer<f32> {
    let mut x = Buffer::zeros(len);
    x.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7919 % 1009) as f32 * 2e-3 - 1.0);
    x
}
