//! `cargo bench`: all benchmarks, in groups, in one program. `cargo bench -- --quick` takes few samples,
//! `cargo bench -- gemm` runs one group; reports are in `target/criterion/report/index.html`, and `wordmill complexity` judges
//! the group `complexity`.

#[path = "../tests/common/cases.rs"]
mod cases;
mod cells;
mod complexity;
mod gemm;
mod kernels;
mod measure;
mod softmax;
mod step;
mod throughput;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

fn config() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    times.sample_size(10).nresamples(10_000)
}

criterion_group! {
    name = all;
    config = config();
    targets = gemm::group, kernels::group, cells::group, softmax::group, throughput::group, complexity::group
}
criterion_main!(all);
