//! Whole training steps, in words/s.

use crate::step::{Step, Walk, ids};
use criterion::{Criterion, Throughput};
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::Kind;
use wordmill::layers::output::{Draws, Negatives, Objective};
use wordmill::models::language_model::{Config, Loss};
use wordmill::models::ner::{self, Batch, Noise, Table};
use wordmill::models::{Init, Ner};
use wordmill::params::{Arena, Gradients};
use wordmill::pool::pool;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

const SAMPLED: Loss = Loss::Sampled {
    objective: Objective::Softmax,
    draws: Draws::WithReplacement,
    negatives: Negatives::Shared,
    samples: 1024,
    power: None,
};

/// A language model's name, V, D, H, τ, cell, loss and update rule.
type Case = (&'static str, usize, usize, usize, usize, Kind, Loss, Rule);
const CASES: [Case; 3] = [
    ("rnn", 10_000, 50, 100, 10, Kind::Rnn, Loss::Full, Rule::Adam),
    ("gru", 10_000, 256, 256, 20, Kind::Gru, Loss::Full, Rule::Adam),
    ("gru, sampled", 100_000, 256, 256, 20, Kind::Gru, SAMPLED, Rule::Adagrad),
];
const LANES: usize = 64;

/// The group.
pub fn group(c: &mut Criterion) {
    let mut group = c.benchmark_group("throughput");
    for (name, words, embed, hidden, tau, cell, loss, rule) in CASES {
        for threads in [1, 2] {
            let pool = pool(threads).expect("two threads can be had");
            let mut step = None;
            group.throughput(Throughput::Elements((tau * LANES) as u64));
            group.bench_function(format!("{name} V {words} H {hidden} tau {tau}, {threads} threads"), |b| {
                let step = step.get_or_insert_with(|| {
                    let config =
                        Config { words, embed, hidden, cell: cell.into(), loss: loss.clone(), ..Config::default() };
                    Step::new(config, Walk { tau, stride: tau, lanes: LANES }, rule)
                });
                b.iter(|| pool.install(|| step.run()));
            });
        }
    }
    for threads in [1, 2] {
        let pool = pool(threads).expect("two threads can be had");
        let mut tagger = None;
        group.throughput(Throughput::Elements(LANES as u64));
        group.bench_function(format!("tagger V 20000 H 100, {threads} threads"), |b| {
            let tagger = tagger.get_or_insert_with(Tagger::new);
            b.iter(|| pool.install(|| tagger.run()));
        });
    }
}

/// A window tagger in training.
struct Tagger {
    net: Ner,
    stepper: Stepper<f32>,
    space: ner::Space<f32>,
    inputs: Vec<Vec<u32>>,
    targets: Vec<u32>,
}

impl Tagger {
    fn new() -> Self {
        const WORDS: usize = 20_000;
        const WINDOW: usize = 3;
        let net = Ner::new(ner::Config {
            tables: vec![Table { name: "embedding".into(), rows: WORDS, width: 50 }],
            window: WINDOW,
            hidden: 100,
            labels: 9,
            objective: ner::Objective::Window,
        });
        let mut w = Arena::zeros(net.layout());
        Init::Xavier.fill(&mut w, 1);
        let g = Gradients::zeros(net.layout(), LANES * WINDOW);
        let optimizer = Optimizer::new(Rule::Adam, f64::INFINITY, 0.001, net.layout()).lazy();
        Tagger {
            stepper: Stepper::new(w, g, optimizer, 0),
            space: net.space(LANES, true),
            inputs: vec![ids(LANES * WINDOW, WORDS)],
            targets: ids(LANES, 9),
            net,
        }
    }

    fn run(&mut self) {
        let noise = |step| Noise { keep: Keep::inverted(0.9), seed: 1, step, freeze: false };
        let batch = Batch { inputs: &self.inputs, ends: &[] };
        let touched = self.stepper.touch(|_, step| noise(step));
        touched.step(|g, noise, w| self.net.step(g, &mut self.space, batch, &self.targets, noise, w)).update(1e-3);
    }
}
