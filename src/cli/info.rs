//! `wordmill info`

use super::inputs::print;
use crate::blas;
use crate::error::{Result, counted};
use crate::kernels::{Isa, isa};
use crate::tasks::speed::measure;
use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::time::Duration;

/// Show this build's version and features, and the speed of matrix products on this machine
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Seconds per measurement
    #[arg(long, default_value = "2", value_parser = super::values::positive, value_name = "SECONDS")]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
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

impl Info {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let doubling = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < cores);
        let mut sgemm = Vec::new();
        let time = Duration::from_secs_f64(self.seconds.min(3600.0));
        for threads in doubling.chain([cores]) {
            for backend in blas::Backend::all() {
                let gflops = measure(backend, threads, time)?;
                sgemm.push(Speed { backend: format!("{backend:?}").to_lowercase(), threads, gflops });
            }
        }
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            git: env!("WORDMILL_GIT_HASH"),
            isa: isa().to_string(),
            isa_available: Isa::available().map(|isa| isa.to_string()).collect(),
            gemm: blas::description(),
            cores,
            sgemm,
        };
        print(out, self.json, &report, || report.to_string())
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
