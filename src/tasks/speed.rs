//! The speed of matrix products on this machine.

use crate::blas;
use crate::error::Result;
use crate::layers::matrix::{view, view_mut};
use crate::pool::{self, pool};
use crate::sys::memory::Buffer;
use std::time::{Duration, Instant};

/// GFLOP/s of `threads` threads, each multiplying its own matrices.
pub fn measure(backend: blas::Backend, threads: usize, time: Duration) -> Result<f64> {
    const N: usize = 1024;
    let rate: f64 = pool(threads)?.install(|| {
        let work = |_: usize| {
            let (mut a, mut b, mut c) = (Buffer::zeros(N * N), Buffer::zeros(N * N), Buffer::zeros(N * N));
            a.iter_mut()
                .zip(b.iter_mut())
                .enumerate()
                .for_each(|(i, (a, b))| (*a, *b) = ((i % 7) as f32, (i % 5) as f32));
            let start = Instant::now();
            let mut done = 0;
            // At least one, even on a busy machine.
            while done == 0 || start.elapsed() < time {
                blas::product_on(backend, view_mut(&mut c, N, N), view(&a, N, N), view(&b, N, N), false);
                done += 1;
            }
            f64::from(done) / start.elapsed().as_secs_f64()
        };
        pool::map(0..threads, work).iter().sum()
    });
    Ok(2.0 * (N * N * N) as f64 * rate / 1e9)
}
