//! The bits of a run are a function of the configuration, the data and the seed: not of the threads that compute them.

mod common;

use common::hash;
use std::path::Path;
use wordmill::blas::Precision;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::{Draws, Negatives, Objective, Tail};
use wordmill::layers::recurrence::{Cell, Kind, Unit};
use wordmill::models::language_model::{Config, Loss, Noise, Window};
use wordmill::models::{Init, LanguageModel};
use wordmill::params::{Arena, Gradients};
use wordmill::text::batches::{Lanes, Windows};
use wordmill::train::optimizer::{Optimizer, Rule};

const TAU: usize = 6;
const LANES: usize = 37;
const STEPS: usize = 20;

/// Numbers of threads that are compared: `WORDMILL_TEST_THREADS` names others, as 1,2,16.
fn threads() -> Vec<usize> {
    let given = std::env::var("WORDMILL_TEST_THREADS").unwrap_or_else(|_| "1,2,3,8".into());
    given.split(',').map(|n| n.parse().expect("numbers")).collect()
}

#[derive(Clone, Debug)]
struct Case {
    cell: Kind,
    unit: Unit,
    tie: bool,
    loss: Loss,
    activation: Activation,
    rule: Rule,
    layers: usize,
    keep: f64,
    stride: usize,
    words: usize,
    precision: Precision,
    seed: u64,
}

/// Trains for some steps and returns the hash of weights, optimizer states and carried states, and the last loss. With three
/// threads everything but what a checkpoint holds is made anew on the way, as by a run that is resumed.
fn train(case: Case, threads: usize) -> (u64, f64) {
    let Case { cell, unit, tie, loss, activation, rule, layers, keep, stride, words, precision, seed } = case;
    let embed = if tie { 12 } else { 9 };
    let reset_at = Some(3);
    let cell = Cell::new(cell, activation, unit);
    let kinds = Config { cell, tie, loss, reset_at, precision, ..Config::default() };
    let model = LanguageModel::new(Config { words, embed, hidden: 12, layers, ..kinds });
    // Words as in text: few are frequent. 101 positions a lane: the windows' ends differ from lane to lane's end.
    let ids: Vec<u32> = (0..101 * LANES as u64 + 1)
        .map(|i| {
            let x = (i * i * 2_654_435_761 + i * 40_503) % 1009;
            (x * x * words as u64 / (1009 * 1009)) as u32
        })
        .collect();
    let lanes = Lanes::new(Path::new("a text"), &ids, LANES, TAU).expect("the text is long enough");
    let windows = Windows::new(lanes.length(), TAU, stride).expect("the stride fits");
    wordmill::pool::pool(threads).expect("a pool").install(|| {
        let mut w = Arena::<f32>::zeros(model.layout());
        Init::Orthogonal.fill(&mut w, seed);
        let counts: Vec<u64> = (0..words as u64).map(|k| 1000 / (k + 1)).collect();
        let mut space = model.training_space::<f32>(TAU, LANES, &counts);
        let mut g = Gradients::zeros(model.layout(), TAU * LANES + model.samples(LANES));
        let mut optimizer = Optimizer::new(rule, 0.3, 1e-4, model.layout());
        let mut last = f64::NAN;
        for step in 0..STEPS {
            let at = windows.get(step % windows.count());
            model.carry(&mut space, at.carry_from);
            if threads == 3 && step == STEPS / 3 {
                optimizer.catch_up_all(&mut w, step as u64);
                let (old, before) = (optimizer, space);
                optimizer = Optimizer::new(rule, 0.3, 1e-4, model.layout());
                for (to, from) in optimizer.states_mut(step as u64).iter_mut().zip(old.states()) {
                    to.all_mut().copy_from_slice(from.all());
                }
                space = model.training_space(TAU, LANES, &counts);
                space.states_mut().zip(before.states()).for_each(|(to, from)| to.copy_from_slice(from));
            }
            let (mut inputs, mut targets) = (vec![0; at.len() * LANES], vec![0; at.len() * LANES]);
            lanes.fill(at.positions(), &mut inputs, &mut targets);
            let window = Window { inputs: &inputs, targets: &targets, loss_from: at.loss_from };
            let noise = Noise { keep: Keep::inverted(keep), seed, step: step as u64 };
            model.touch(&mut g, &mut space, window, noise);
            optimizer.catch_up(&mut w, &g, step as u64 + 1);
            last = model.step(&mut g, &mut space, window, noise, &w);
            let norm = optimizer.norm(&g);
            optimizer.update(&mut w, &mut g, norm, 0.05, step as u64 + 1);
        }
        model.carry(&mut space, 1);
        optimizer.catch_up_all(&mut w, STEPS as u64);
        let mut all = w.all().to_vec();
        optimizer.states().iter().for_each(|state| all.extend_from_slice(state.all()));
        space.states().for_each(|state| all.extend_from_slice(state));
        assert!(all.iter().all(|x| x.is_finite()));
        (hash(&all), last)
    })
}

fn check(case: Case) -> u64 {
    let threads = threads();
    let alone = train(case.clone(), threads[0]);
    for &many in &threads[1..] {
        assert_eq!(train(case.clone(), many), alone, "{case:?}: {many} threads against {}", threads[0]);
    }
    alone.0
}

const PLAIN: Case = Case {
    cell: Kind::Rnn,
    unit: Unit::Tanh,
    tie: false,
    loss: Loss::Full,
    activation: Activation::Tanh,
    rule: Rule::Adam,
    layers: 1,
    keep: 1.0,
    stride: TAU,
    words: 601,
    precision: Precision::F32,
    seed: 1,
};

/// Every choice with every other, and no two runs of different choices alike.
#[test]
fn same_bits_for_any_threads() {
    let mut hashes = Vec::new();
    for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Relu] {
        for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
            for layers in [1, 2] {
                for keep in [1.0, 0.8] {
                    for stride in [TAU, 2] {
                        hashes.push(check(Case { activation, rule, layers, keep, stride, ..PLAIN }));
                    }
                }
            }
        }
    }
    let runs = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), runs, "different runs have different weights");
}

#[test]
fn same_bits_for_every_cell() {
    let gated = [(Kind::Gru, Unit::Tanh), (Kind::GatedFeedback, Unit::Tanh), (Kind::GatedFeedback, Unit::Gru)];
    for (cell, unit) in gated {
        for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
            for (layers, keep, stride) in [(1, 1.0, TAU), (2, 0.8, 2)] {
                check(Case { cell, unit, rule, layers, keep, stride, ..PLAIN });
                check(Case { cell, unit, rule, layers, keep, stride, tie: true, ..PLAIN });
            }
        }
    }
}

#[test]
fn same_bits_for_every_loss() {
    for (objective, draws) in [
        (Objective::Softmax, Draws::WithReplacement),
        (Objective::Softmax, Draws::Unique),
        (Objective::Nce(3.0), Draws::WithReplacement),
    ] {
        for power in [None, Some(0.75)] {
            for rule in [Rule::Sgd, Rule::Adagrad, Rule::AdagradRowwise, Rule::Adam] {
                let loss = Loss::Sampled { objective, draws, negatives: Negatives::Shared, samples: 300, power };
                check(Case { loss, rule, keep: 0.8, words: 5003, ..PLAIN });
            }
        }
        let loss = Loss::Sampled { objective, draws, negatives: Negatives::PerLane, samples: 30, power: None };
        check(Case { loss, keep: 0.8, words: 5003, ..PLAIN });
    }
    for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
        let tails = [(700, 7), (1500, 5)].map(|(first, width)| Tail { first, width });
        check(Case { loss: Loss::Adaptive { tails: tails.to_vec() }, rule, keep: 0.8, words: 5003, ..PLAIN });
    }
}

/// The cells that the tests above have not with losses over a sample.
#[test]
fn same_bits_for_every_cell_with_a_sample() {
    for (cell, unit) in [(Kind::Gru, Unit::Tanh), (Kind::GatedFeedback, Unit::Gru)] {
        for objective in [Objective::Softmax, Objective::Nce(3.0)] {
            for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
                let loss = Loss::Sampled {
                    objective,
                    draws: Draws::WithReplacement,
                    negatives: Negatives::Shared,
                    samples: 40,
                    power: None,
                };
                check(Case { cell, unit, loss, rule, keep: 0.9, layers: 2, ..PLAIN });
            }
        }
    }
}

/// Products of rounded operands, in every cell and loss.
#[test]
fn same_bits_in_bf16() {
    if !Precision::Bf16.available() {
        println!("skipped: this processor has no AVX-512 BF16");
        return;
    }
    let (objective, draws, negatives) = (Objective::Nce(3.0), Draws::WithReplacement, Negatives::Shared);
    let sampled = Loss::Sampled { objective, draws, negatives, samples: 300, power: None };
    let tails = [(700, 7), (1500, 5)].map(|(first, width)| Tail { first, width });
    for loss in [Loss::Full, sampled, Loss::Adaptive { tails: tails.to_vec() }] {
        for (cell, unit) in [(Kind::Rnn, Unit::Tanh), (Kind::Gru, Unit::Tanh), (Kind::GatedFeedback, Unit::Gru)] {
            let case = Case { cell, unit, loss: loss.clone(), words: 5003, layers: 2, keep: 0.8, ..PLAIN };
            assert_ne!(check(Case { precision: Precision::Bf16, ..case.clone() }), train(case, 1).0);
        }
    }
}

/// Several blocks in a group of words, and pieces of the optimizer's loops.
#[test]
fn same_bits_for_many_words() {
    for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
        check(Case { words: 9001, rule, keep: 0.9, layers: 2, stride: 4, ..PLAIN });
    }
}

/// The same again is the same; another seed is not, be it of the weights or of the masks.
#[test]
fn seeds() {
    let run = |seed, keep| train(Case { seed, keep, ..PLAIN }, 2);
    assert_eq!(run(1, 0.8), run(1, 0.8));
    assert_ne!(run(1, 0.8), run(2, 0.8));
    assert_ne!(run(1, 1.0), run(2, 1.0));
    assert_ne!(run(1, 0.8), run(1 << 32 | 1, 0.8));
}
