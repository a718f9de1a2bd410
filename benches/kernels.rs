//! The fused kernels, in time per element: compared with libm in cache, and with the time to move as many bytes.

use crate::measure::{Best, bandwidth, filled};
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::{Keep, dropout_backward, factors};
use wordmill::kernels::softmax::{exp_columns, scale_columns};
use wordmill::kernels::update::{AdamStep, Step, adagrad, adam, add, sgd, sum_of_squares};
use wordmill::rng::{Place, Purpose};
use wordmill::sys::memory::Buffer;

/// Numbers of elements that stay in cache, and that do not.
const SIZES: [(&str, usize); 2] = [("in cache", 1 << 13), ("in memory", 1 << 23)];
/// Columns of a block of a softmax.
const COLUMNS: usize = 320;

/// Name, bytes moved per element, and the body over four buffers.
type Body = fn(&mut [Buffer<f32>; 4]);
const KERNELS: [(&str, f64, Body); 13] = [
    ("exp", 8.0, |[x, bias, largest, sums]| {
        let rows = x.len() / COLUMNS;
        let (largest, sums) = (&mut largest[..COLUMNS], &mut sums[..COLUMNS]);
        exp_columns(&mut x[..rows * COLUMNS], COLUMNS, &bias[..rows], largest, sums);
    }),
    ("exp of libm", 8.0, |[x, y, ..]| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = x.exp())),
    ("tanh", 8.0, |[x, y, ..]| Activation::Tanh.forward(x, y)),
    ("tanh of libm", 8.0, |[x, y, ..]| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = x.tanh())),
    ("sigmoid", 8.0, |[x, y, ..]| Activation::Sigmoid.forward(x, y)),
    ("scale of softmax", 8.0, |[x, scale, sums, _]| {
        let rows = x.len() / COLUMNS;
        scale_columns(&mut x[..rows * COLUMNS], COLUMNS, &scale[..COLUMNS], &mut sums[..rows]);
    }),
    ("dropout, its factors", 4.0, |[x, ..]| factors(Keep::inverted(0.9), place(), x)),
    ("dropout in place", 8.0, |[x, ..]| dropout_backward(Keep::inverted(0.9), place(), x)),
    ("sum of squares", 4.0, |[x, ..]| _ = black_box(sum_of_squares::<f32>(x, 800))),
    ("add", 12.0, |[x, y, ..]| add(y, x)),
    ("sgd", 12.0, |[w, g, ..]| _ = black_box(sgd::<f32>(w, g, STEP))),
    ("adagrad", 20.0, |[w, g, a, _]| _ = black_box(adagrad::<f32>(w, g, a, STEP, 1e-8))),
    ("adam", 28.0, |[w, g, m, v]| {
        adam(
            w,
            g,
            m,
            v,
            STEP,
            AdamStep {
                decay1: 0.9,
                decay2: 0.999,
                gain1: 0.1,
                gain2: 1e-3,
                rate: 1e-3,
                correction: 1.0,
                epsilon: 1e-8,
            },
        );
    }),
];

const STEP: Step<f32> = Step { rate: 1e-3, scale: 1.0, decay: 0.0 };

fn place() -> Place {
    Place::new(1, Purpose::Dropout, 1, 1)
}

/// The group.
pub fn group(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    for (place, len) in SIZES {
        let mut rows = Vec::new();
        for (name, bytes, body) in KERNELS {
            let mut buffers = None;
            let mut best = Best::new();
            group.throughput(Throughput::Elements(len as u64));
            group.bench_function(format!("{name}, {place}"), |b| {
                let buffers = buffers.get_or_insert_with(|| {
                    let mut all = [filled(len), filled(len), filled(len), filled(len)];
                    // Second moments and sums of squares are not negative.
                    all[2..].iter_mut().for_each(|x| x.iter_mut().for_each(|x| *x = x.abs() + 1.0));
                    all
                });
                best.time(b, || body(black_box(buffers)));
            });
            if best.is_there() {
                rows.push((name, best.0 / len as f64 * 1e9, bytes));
            }
        }
        if !rows.is_empty() {
            let speed = bandwidth(len);
            println!("kernels {place}, one core, which moves {speed:.0} GB/s");
            println!("{:40}{:>12}{:>12}{:>12}", "", "ns/element", "limit, ns", "of limit");
            for (name, ns, bytes) in rows {
                let limit = bytes / speed;
                println!("{name:40}{ns:>12.3}{limit:>12.3}{:>10.0} %", 100.0 * limit / ns);
            }
        }
    }
}
