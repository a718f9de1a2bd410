//! This build, this machine, and the speed of matrix products on it.

use crate::blas;
use crate::error::{Result, counted};
use crate::kernels::{Isa, isa};
use crate::layers::matrix::{view, view_mut};
use crate::pool::{self, pool};
use crate::sys::memory::Buffer;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// A build and its speed.
#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    git: &'static str,
    isa: String,
    isa_available: Vec<String>,
    gemm: String,
    cores: usize,
    /// GFLOP/s of f32 products of 1,024 × 1,024 matrices, one per thread, for 1, 2, 4 … threads; *bf16* rounds the operands.
    sgemm: Vec<Speed>,
}

#[derive(Serialize)]
struct Speed {
    backend: String,
    threads: usize,
    gflops: f64,
}

impl Report {
    /// Each measurement takes `time`.
    pub fn measure(time: Duration) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let doubling = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < cores);
        let mut sgemm = Vec::new();
        for threads in doubling.chain([cores]) {
            for backend in blas::Backend::all() {
                let gflops = measure(backend, threads, time)?;
                sgemm.push(Speed { backend: format!("{backend:?}").to_lowercase(), threads, gflops });
            }
        }
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            git: env!("WORDMILL_GIT_HASH"),
            isa: isa().to_string(),
            isa_available: Isa::available().map(|isa| isa.to_string()).collect(),
            gemm: blas::description(),
            cores,
            sgemm,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        writeln!(out, "wordmill {} ({})", self.version, self.git)?;
        writeln!(out, "instructions  {} (of {}; WORDMILL_ISA chooses)", self.isa, self.isa_available.join(", "))?;
        writeln!(out, "products      {}", self.gemm)?;
        writeln!(out, "cores         {}", self.cores)?;
        for Speed { backend, threads, gflops } in &self.sgemm {
            let threads = counted(threads, "thread");
            writeln!(out, "sgemm         {gflops:.0} GFLOP/s on {threads} by {backend}")?;
        }
        Ok(())
    }
}

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
