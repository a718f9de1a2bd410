//! This build, this machine, and the speed of matrix products on it.

use crate::blas;
use crate::error::{Result, counted};
use crate::kernels::{Isa, isa};
use crate::layers::matrix::{view, view_mut};
use crate::notices::Notice;
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
    /// GFLOP/s of f32 operations on registers alone, for 1, 2, 4 … threads: what products can reach at most.
    registers: Vec<Speed>,
    /// GFLOP/s of f32 products of 1,000 × 1,000 matrices, one per thread, for as many threads; *bf16* rounds the operands.
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
        let (mut registers, mut sgemm) = (Vec::new(), Vec::new());
        for threads in doubling.chain([cores]) {
            let gflops = measure_registers(threads, time)?;
            registers.push(Speed { backend: "registers alone".into(), threads, gflops });
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
            registers,
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
        for (name, speeds) in [("fma  ", &self.registers), ("sgemm", &self.sgemm)] {
            for Speed { backend, threads, gflops } in speeds {
                let threads = counted(threads, "thread");
                writeln!(out, "{name}         {gflops:.0} GFLOP/s on {threads} by {backend}")?;
            }
        }
        Ok(())
    }
}

/// GFLOP/s of `threads` threads that each do one thing over and over for `time`; `begin` makes it, and it returns how many operations it was.
fn rate<W: FnMut() -> u64>(threads: usize, time: Duration, begin: impl Fn() -> W + Sync) -> Result<f64> {
    let of_thread = |_: usize| {
        let mut work = begin();
        let start = Instant::now();
        let mut done = 0;
        // At least once, even on a busy machine.
        while done == 0 || start.elapsed() < time {
            done += work();
        }
        done as f64 / start.elapsed().as_secs_f64()
    };
    let rates = pool(threads)?.install(|| pool::map(0..threads, of_thread));
    Ok(rates.iter().sum::<f64>() / 1e9)
}

/// GFLOP/s of `threads` threads on registers alone.
pub fn measure_registers(threads: usize, time: Duration) -> Result<f64> {
    rate(threads, time, || || blas::peak::registers(10_000))
}

/// GFLOP/s of `threads` threads, each multiplying its own matrices.
pub fn measure(backend: blas::Backend, threads: usize, time: Duration) -> Result<f64> {
    // Not a power of two: rows would share their places in the cache.
    const N: usize = 1000;
    rate(threads, time, || {
        let (mut a, mut b, mut c) = (Buffer::zeros(N * N), Buffer::zeros(N * N), Buffer::zeros(N * N));
        let places = a.iter_mut().zip(b.iter_mut()).enumerate();
        places.for_each(|(i, (a, b))| (*a, *b) = ((i % 7) as f32, (i % 5) as f32));
        move || {
            blas::product_on(backend, view_mut(&mut c, N, N), view(&a, N, N), view(&b, N, N), false);
            2 * (N * N * N) as u64
        }
    })
}

/// A warning if a linked library multiplies more slowly than the tiles that are there without it.
pub fn slow_library() -> Result<Option<Notice>> {
    let Some(kernels) = blas::linked() else { return Ok(None) };
    let of = |name: &str| blas::Backend::all().find(|backend| format!("{backend:?}") == name);
    let (Some(library), Some(tiles)) = (of("Library"), of("Tiles")) else { return Ok(None) };
    const TIME: Duration = Duration::from_millis(20);
    let [library, tiles] = [measure(library, 1, TIME)?, measure(tiles, 1, TIME)?];
    Ok((library < 0.8 * tiles).then(|| {
        let found = format!("the linked BLAS{kernels} multiplies at {library:.0} GFLOP/s, the built-in products at {tiles:.0}");
        Notice::new(found).done("OPENBLAS_CORETYPE=Haswell or SkylakeX chooses other kernels of OpenBLAS; a build without the feature uses the built-in products")
    }))
}
