//! Losses over vocabularies of many sizes: one loss and gradient of 640 tokens at H 128, in tokens/s. Sampled losses
//! cost the same for every vocabulary; the adaptive softmax is exact, and cheap for rare words.

use crate::measure::filled;
use crate::step::ids;
use criterion::{Criterion, Throughput};
use std::sync::Arc;
use wordmill::blas::Precision;
use wordmill::layers::output::clusters::choose;
use wordmill::layers::output::{
    AdaptiveSoftmax, Draws, FullSoftmax, Gradient, Negatives, Objective, Recipe, Sampled, Sampler, Tables,
};
use wordmill::layers::shards::Division;
use wordmill::models::Init;
use wordmill::params::{Arena, Layout};
use wordmill::pool::pool;
use wordmill::rng::{Purpose, Stream};
use wordmill::sys::memory::{Buffer, Room};

const TOKENS: usize = 640;
const UNITS: usize = 128;
const SAMPLES: usize = 1024;

/// The states and the output layer's weights.
struct Data {
    h: Buffer<f32>,
    dh: Buffer<f32>,
    u: Buffer<f32>,
    b: Buffer<f32>,
    targets: Vec<u32>,
}

impl Data {
    fn new(words: usize) -> Self {
        let (h, u) = (filled(TOKENS * UNITS), filled(words * UNITS));
        Data { h, dh: filled(TOKENS * UNITS), u, b: Buffer::zeros(words), targets: ids(TOKENS, words) }
    }
}

/// The group.
pub fn group(c: &mut Criterion) {
    let mut group = c.benchmark_group("softmax");
    let pool = pool(2).expect("two threads can be had");
    group.throughput(Throughput::Elements(TOKENS as u64));
    for words in [10_000, 100_000, 1_000_000] {
        // A million words take seconds per step, as the group `complexity` measures.
        if words <= 100_000 {
            let mut full = None;
            group.bench_function(format!("full, V {words}"), |b| {
                let (softmax, data, du, db) = full.get_or_insert_with(|| {
                    let gradients = (Buffer::zeros(words * UNITS), Buffer::zeros(words));
                    (FullSoftmax::new(TOKENS, UNITS, words), Data::new(words), gradients.0, gradients.1)
                });
                b.iter(|| {
                    let gradient = Gradient { h: &mut data.dh, output: du, bias: db };
                    pool.install(|| softmax.loss(gradient, &data.h, &data.targets, &data.u, &data.b))
                });
            });
        }
        let mut adaptive = None;
        group.bench_function(format!("adaptive, V {words}"), |b| {
            let (softmax, tables, w, g, data) = adaptive.get_or_insert_with(|| {
                let counts: Vec<u64> = (1..=words as u64).map(|rank| 1_000_000_000 / rank).collect();
                let tails = choose(&counts, UNITS, 4, TOKENS);
                let mut layout = Layout::default();
                let tables = Tables::add(&mut layout, words, UNITS, &tails);
                let layout = Arc::new(layout);
                let (mut w, g) = (Arena::zeros(&layout), Arena::zeros(&layout));
                Init::Uniform.fill(&mut w, 1);
                (
                    Room::make(|room| {
                        AdaptiveSoftmax::within(room, TOKENS, UNITS, words, &tails, true, Precision::F32)
                    }),
                    tables,
                    w,
                    g,
                    Data::new(words),
                )
            });
            b.iter(|| pool.install(|| softmax.loss(g, &mut data.dh, &data.h, &data.targets, tables, w)));
        });
        for (name, objective) in [("sampled", Objective::Softmax), ("nce", Objective::Nce(9.0))] {
            let mut sampled = None;
            group.bench_function(format!("{name}, V {words}"), |b| {
                let (loss, data, step) = sampled.get_or_insert_with(|| {
                    let sampler = Arc::new(Sampler::log_uniform(words));
                    let (draws, negatives) = (Draws::WithReplacement, Negatives::Shared);
                    let recipe = Recipe { objective, draws, negatives, samples: SAMPLES };
                    let lanes = Division { all: TOKENS, each: TOKENS };
                    let loss =
                        Room::make(|room| Sampled::within(room, recipe, sampler, TOKENS, UNITS, lanes, Precision::F32));
                    (loss, Data::new(words), 0)
                });
                b.iter(|| {
                    *step += 1;
                    let stream = |sample| Stream::new(1, Purpose::Negatives, *step, sample);
                    pool.install(|| {
                        loss.draw(stream);
                        loss.loss(&mut data.dh, &data.h, &data.targets, &data.u, &data.b)
                    })
                });
            });
        }
    }
}
