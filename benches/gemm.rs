//! Matrix products at the shapes of training, by each backend, and the peak of a core on registers. Elements are floating-point
//! operations: Gelem/s is GFLOP/s.

use crate::measure::{Best, filled, peak};
use criterion::{Criterion, Throughput};
use wordmill::blas::{Backend, product_on};
use wordmill::layers::matrix::{view, view_mut};

/// Name, m, n, k, whether a is transposed, and whether c is added to.
const SHAPES: [(&str, usize, usize, usize, bool, bool); 9] = [
    // The output layer's block of 160 words and 320 tokens.
    ("logits, H 100", 160, 320, 100, false, false),
    ("gradient of U, H 100", 160, 100, 320, false, true),
    ("gradient of h, H 100", 100, 320, 160, true, true),
    ("logits, H 256", 160, 320, 256, false, false),
    ("gradient of U, H 256", 160, 256, 320, false, true),
    ("gradient of h, H 256", 256, 320, 160, true, true),
    // A step of a GRU's 32 lanes, and the gradient of its weights.
    ("state, GRU of 256", 32, 768, 256, false, true),
    ("gradient of W, GRU of 256", 256, 768, 640, true, false),
    ("square, 1024", 1024, 1024, 1024, false, false),
];

/// The group.
pub fn group(c: &mut Criterion) {
    let mut rows = Vec::new();
    let mut group = c.benchmark_group("gemm");
    for (name, m, n, k, transposed, add) in SHAPES {
        for backend in Backend::all() {
            let (a, b, mut c) = (filled(m * k), filled(k * n), filled(m * n));
            let flop = 2 * (m * n * k) as u64;
            let mut best = Best::new();
            group.throughput(Throughput::Elements(flop));
            group.bench_function(format!("{name}, {backend:?}"), |bench| {
                best.time(bench, || {
                    let a = if transposed { view(&a, k, m).reversed_axes() } else { view(&a, m, k) };
                    product_on(backend, view_mut(&mut c, m, n), a, view(&b, k, n), add);
                });
            });
            if best.is_there() {
                rows.push((format!("{name}, {backend:?}"), flop as f64 / best.0 / 1e9));
            }
        }
    }
    group.finish();
    if !rows.is_empty() {
        let peak = peak();
        println!("{:40}{:>10}{:>10}", "gemm, one core", "GFLOP/s", "of f32");
        println!("{:40}{peak:>10.1}{:>10}", "registers alone", "100 %");
        rows.iter().for_each(|(name, speed)| println!("{name:40}{speed:>10.1}{:>8.0} %", 100.0 * speed / peak));
    }
}
