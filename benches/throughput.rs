//! `cargo bench`: whole training steps, in words a second, and the output layer's products beside a large square one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use std::hint::black_box;
use std::sync::Arc;
use wordmill::blas::{add_product, product};
use wordmill::kernels::Buffer;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::kernels::update::add;
use wordmill::layers::net::{Kind, Masks, Net, Shape, Unit};
use wordmill::layers::recurrent::{view, view_mut};
use wordmill::models::language_model::{Config, Noise, Window, shard_lanes};
use wordmill::models::{Init, LanguageModel};
use wordmill::params::{Arena, Gradients, Layout};
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

/// Forward and backward of one recurrent layer over 20 steps, D = H, without an output layer: rows (steps × lanes) a second.
fn cells(c: &mut Criterion) {
    const TAU: usize = 20;
    const PIECE: usize = 1 << 14;
    let mut group = c.benchmark_group("cells");
    for (units, lanes) in [(128, 32), (128, 64), (256, 32), (256, 64), (512, 32), (512, 64)] {
        for (kind, threads) in [(Kind::Rnn, 2), (Kind::Gru, 1), (Kind::Gru, 2)] {
            let (activation, unit) = (Activation::Tanh, Unit::Gru);
            let mut layout = Layout::default();
            let net = Net::add(&mut layout, Shape { kind, activation, unit, inputs: units, units, layers: 1 });
            let layout = Arc::new(layout);
            let (mut w, mut g) = (Arena::<f32>::zeros(&layout), Arena::zeros(&layout));
            Init::Uniform.fill(&mut w, 1);
            let mut prepared = net.prepared(&layout);
            let shard = shard_lanes(lanes);
            let mut shards: Vec<_> =
                (0..lanes / shard).map(|_| (net.memory::<f32>(TAU, shard), Arena::zeros(&layout))).collect();
            for (memory, _) in &mut shards {
                let x = memory.inputs(TAU * shard, units);
                x.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 13) as f32 * 0.1 - 0.6);
            }
            let pool = pool(threads).expect("two threads can be had");
            group.throughput(Throughput::Elements((TAU * lanes) as u64));
            group.bench_function(format!("{kind:?} H {units}, {lanes} lanes, {threads} threads"), |b| {
                b.iter(|| {
                    pool.install(|| {
                        net.prepare(&mut prepared, &w, true);
                        let masks = Masks { training: None, at_test: 1.0, variational: false, shard: 0 };
                        shards.par_iter_mut().with_max_len(1).for_each(|(memory, g)| {
                            let rows = TAU * shard;
                            net.forward(memory, rows, &|_| false, masks, &w, &prepared);
                            memory.dh.fill(1.0);
                            black_box(net.backward(memory, rows, &|_| false, masks, &prepared, g, None));
                        });
                        g.all_mut().par_chunks_mut(PIECE).enumerate().for_each(|(i, sum)| {
                            let piece = i * PIECE..i * PIECE + sum.len();
                            sum.copy_from_slice(&shards[0].1.all()[piece.clone()]);
                            shards[1..].iter().for_each(|(_, of)| add(sum, &of.all()[piece.clone()]));
                        });
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

criterion_group!(benches, training_step, cells, products);
criterion_main!(benches);
