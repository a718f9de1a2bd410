//! Measures the time of the parts of an adaptive softmax on this machine, and prints the constants of the model in
//! `src/layers/output/clusters.rs` that fit it best: `cargo run --release --example clusters`.

use std::time::Instant;
use wordmill::layers::output::{FullSoftmax, Gradient};
use wordmill::params::{Arena, Gradients, Layout, Role};
use wordmill::pool::pool;
use wordmill::sys::memory::Buffer;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

/// The minimum nanoseconds of the loss, its gradient and an Adagrad update of `words` words with `width` units, for `tokens` tokens.
fn measure(words: usize, width: usize, tokens: usize) -> f64 {
    let mut layout = Layout::default();
    let u = layout.add("output", words, width, Role::Output);
    let b = layout.add("bias", 1, words, Role::Bias);
    let layout = std::sync::Arc::new(layout);
    let mut w = Arena::<f32>::zeros(&layout);
    w.all_mut().iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7919 % 1013) as f32 / 1013.0 - 0.5);
    let g = Gradients::zeros(&layout, 0);
    let mut stepper = Stepper::new(w, g, Optimizer::new(Rule::Adagrad, 5.0, 0.0, &layout), 0);
    let (mut h, mut dh) = (Buffer::zeros(tokens * width), Buffer::zeros(tokens * width));
    h.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 104_729 % 997) as f32 / 997.0 - 0.5);
    let targets: Vec<u32> = (0..tokens).map(|t| (t * 7919 % words) as u32).collect();
    let mut layer = FullSoftmax::new(tokens, width, words);
    let times = (1..=9).map(|_| {
        let start = Instant::now();
        let step = stepper.touch(|_, _| ()).step(|g, (), w| {
            let [output, bias] = g.arena.slices_mut([u, b]);
            let gradient = Gradient { h: &mut dh, output, bias };
            layer.scaled_loss(1e-3, gradient, &h, &targets, w.slice(u), w.slice(b))
        });
        step.update(0.1);
        start.elapsed().as_nanos() as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

/// The x that minimises ‖(Ax − y) / y‖², by elimination in the normal equations.
fn fit<const N: usize>(rows: &[([f64; N], f64)]) -> [f64; N] {
    let mut m = [[0.0; N]; N];
    let mut x = [0.0; N];
    for (a, y) in rows {
        for i in 0..N {
            (0..N).for_each(|j| m[i][j] += a[i] * a[j] / (y * y));
            x[i] += a[i] / y;
        }
    }
    for i in 0..N {
        for j in 0..N {
            if j != i {
                let factor = m[j][i] / m[i][i];
                (0..N).for_each(|k| m[j][k] -= factor * m[i][k]);
                x[j] -= factor * x[i];
            }
        }
    }
    std::array::from_fn(|i| x[i] / m[i][i])
}

fn main() {
    let pool = pool(0).expect("threads can be had");
    let mut rows = Vec::new();
    for (words, width) in
        [(2000, 256), (8000, 256), (2000, 100), (20_000, 64), (60_000, 64), (60_000, 25), (60_000, 16), (400_000, 16)]
    {
        for tokens in [16, 64, 200, 640] {
            if words * tokens <= 40_000_000 {
                let time = pool.install(|| measure(words, width, tokens));
                let (k, d, n) = (words as f64, width as f64, tokens as f64);
                rows.push(([1.0, n * k, n * k * d, k * d], time));
            }
        }
    }
    let found = fit(&rows);
    for (a, time) in &rows {
        let predicted: f64 = a.iter().zip(&found).map(|(a, x)| a * x).sum();
        println!(
            "words × units {:9}  tokens {:4.0}: {:8.0} µs, predicted {:8.0}",
            a[3],
            a[2] / a[3],
            time / 1e3,
            predicted / 1e3
        );
    }
    let [fixed, logit, unit, weight] = found;
    println!("FIXED {fixed:.0}  LOGIT {logit:.3}  UNIT {unit:.4}  WEIGHT {weight:.3} (nanoseconds)");
}
