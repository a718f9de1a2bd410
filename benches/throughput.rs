//! `cargo bench`: whole training steps, in words a second, and the output layer's products beside a large square one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wordmill::blas::{add_product, product};
use wordmill::kernels::Buffer;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::recurrent::{view, view_mut};
use wordmill::models::language_model::{Config, Noise, Window};
use wordmill::models::{Init, LanguageModel};
use wordmill::params::{Arena, Gradients};
use wordmill::pool::pool;
use wordmill::train::optimizer::{Optimizer, Rule};

/// Sizes of a language model's step: V, D, H, τ, lanes.
const STEPS: [(usize, usize, usize, usize, usize); 2] = [(10_000, 50, 100, 10, 64), (10_000, 256, 256, 20, 64)];

/// Forward, backward, clipping and Adam of one window, full softmax.
fn training_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("throughput");
    group.sample_size(20);
    for (words, embed, hidden, tau, lanes) in STEPS {
        for threads in [1, 2] {
            let config = Config { words, embed, hidden, ..Config::default() };
            let model = LanguageModel::new(config);
            let mut w = Arena::zeros(model.layout());
            Init::Xavier.fill(&mut w, 1);
            let mut g = Gradients::zeros(model.layout(), tau * lanes);
            let mut optimizer = Optimizer::new(Rule::Adam, 5.0, 0.0, model.layout());
            let mut space = model.space::<f32>(tau, lanes);
            let ids: Vec<u32> = (0..(tau + 1) * lanes).map(|i| (i * 104_729 % words) as u32).collect();
            let window = Window { inputs: &ids[..tau * lanes], targets: &ids[lanes..], loss_from: 0 };
            let pool = pool(threads).expect("two threads can be had");
            let mut step = 0;
            group.throughput(Throughput::Elements((tau * lanes) as u64));
            group.bench_function(format!("rnn V {words} H {hidden} tau {tau}, {threads} threads"), |b| {
                b.iter(|| {
                    pool.install(|| {
                        let noise = Noise { keep: Keep::inverted(0.9), seed: 1, step };
                        model.step(&mut g, &mut space, window, noise, &w);
                        step += 1;
                        let norm = optimizer.norm(&g);
                        optimizer.update(&mut w, &mut g, norm, 1e-3, step);
                        model.carry(&mut space, tau);
                    });
                });
            });
        }
    }
}

/// The three products of the output layer on one block of 160 words and 320 tokens, and a square one of 1,024. Elements are
/// floating-point operations: Gelem/s is GFLOP/s.
fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    for hidden in [100, 256] {
        let (words, tokens, stride) = (160, 320, 336);
        let filled = |n: usize| {
            let mut x = Buffer::zeros(n);
            x.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 7) as f32);
            x
        };
        let (u, h, ht) = (filled(words * hidden), filled(tokens * hidden), filled(hidden * stride));
        let (mut du, mut dht, mut logits) = (filled(words * hidden), filled(hidden * stride), filled(words * stride));
        let columns = ndarray::s![.., ..tokens];
        group.throughput(Throughput::Elements((2 * words * tokens * hidden) as u64));
        group.bench_function(format!("logits, H {hidden}"), |b| {
            b.iter(|| {
                let mut x = view_mut(&mut logits, words, stride);
                product(x.slice_mut(columns), view(&u, words, hidden), view(&ht, hidden, stride).slice(columns));
            });
        });
        let x = view(&logits, words, stride);
        group.bench_function(format!("gradient of U, H {hidden}"), |b| {
            b.iter(|| add_product(view_mut(&mut du, words, hidden), x.slice(columns), view(&h, tokens, hidden)));
        });
        group.bench_function(format!("gradient of h, H {hidden}"), |b| {
            b.iter(|| {
                let mut share = view_mut(&mut dht, hidden, stride);
                add_product(share.slice_mut(columns), view(&u, words, hidden).t(), x.slice(columns));
            });
        });
        black_box((&du, &dht));
    }
    let n = 1024;
    let (a, b, mut c) = (Buffer::<f32>::zeros(n * n), Buffer::zeros(n * n), Buffer::zeros(n * n));
    group.throughput(Throughput::Elements(2 * (n as u64).pow(3)));
    group.bench_function("square, 1024", |bench| {
        bench.iter(|| product(view_mut(&mut c, n, n), view(&a, n, n), view(&b, n, n)));
    });
}

criterion_group!(benches, training_step, products);
criterion_main!(benches);
