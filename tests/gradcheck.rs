//! Every hand-written gradient against finite differences, in f64, at sizes that are all distinct and with biases that are not zero.

mod common;

use clap::ValueEnum;
use common::{check_gradient, fill_uniform};
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::recurrence::{Cell, Kind, Unit};
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Noise, Space, Window};
use wordmill::params::{Arena, Gradients};

const WORDS: usize = 11;

#[derive(Clone, Copy)]
struct Case {
    cell: Kind,
    unit: Unit,
    activation: Activation,
    layers: usize,
    steps: usize,
    lanes: usize,
    loss_from: usize,
    keep: f64,
    reset_at: Option<u32>,
    words: usize,
    tie: bool,
    variational: bool,
    unscaled: bool,
}

fn ids(n: usize, words: usize, salt: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 7 + i * 3 + salt) % words) as u32).collect()
}

fn check(case: Case) {
    let Case { cell, unit, activation, layers, steps, lanes, loss_from, keep, reset_at, .. } = case;
    let Case { words, tie, variational, unscaled, .. } = case;
    let embed = if tie { 5 } else { 3 };
    let cell = Cell::new(cell, activation, unit);
    let kinds = Config { cell, tie, variational, ..Config::default() };
    let config = Config { words, embed, hidden: 5, layers, reset_at, ..kinds };
    let model = LanguageModel::new(config);
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 0.9, 5);
    let (inputs, targets) = (ids(steps * lanes, words, 1), ids(steps * lanes, words, 2));
    if let Some(word) = reset_at {
        assert!(inputs[lanes..].contains(&word), "no state is reset after the first step");
    }
    let window = Window { inputs: &inputs, targets: &targets, loss_from };
    let keep = if unscaled { Keep::unscaled(keep) } else { Keep::inverted(keep) };
    let noise = Noise { keep, seed: 3, step: 9 };
    // A state that is not zero is carried in.
    let start = |space: &mut Space<f64>| {
        for (i, state) in space.states_mut().enumerate() {
            state.iter_mut().enumerate().for_each(|(j, x)| *x = ((i + 2) * (j + 3) % 7) as f64 / 7.0 - 0.3);
        }
    };
    let mut space = model.space(steps, lanes);
    let mut g = Gradients::zeros(model.layout(), steps * lanes);
    start(&mut space);
    model.step(&mut g, &mut space, window, noise, &w);
    let gradient = g.dense(model.layout());
    check_gradient(&gradient, &w, 1e-6, |w| {
        g.clear_tables();
        start(&mut space);
        model.step(&mut g, &mut space, window, noise, w)
    });
}

const PLAIN: Case = Case {
    cell: Kind::Rnn,
    unit: Unit::Tanh,
    activation: Activation::Tanh,
    layers: 1,
    steps: 4,
    lanes: 2,
    loss_from: 0,
    keep: 1.0,
    reset_at: None,
    words: WORDS,
    tie: false,
    variational: false,
    unscaled: false,
};

/// Every cell: one that is not in this list does not compile.
fn cells() -> Vec<Case> {
    let mut all = Vec::new();
    for cell in Kind::value_variants() {
        match cell {
            Kind::Rnn => {
                all.extend([Activation::Sigmoid, Activation::Tanh].map(|activation| Case { activation, ..PLAIN }))
            }
            Kind::Gru => all.push(Case { cell: Kind::Gru, ..PLAIN }),
            Kind::GatedFeedback => {
                all.extend(Unit::value_variants().iter().map(|&unit| Case {
                    cell: Kind::GatedFeedback,
                    unit,
                    ..PLAIN
                }));
            }
        }
    }
    all
}

#[test]
fn every_cell_in_one_to_three_layers_tau_and_stride() {
    for case in cells() {
        for layers in 1..=3 {
            for (steps, loss_from) in [(1, 0), (4, 0), (4, 3)] {
                check(Case { layers, steps, loss_from, ..case });
            }
        }
    }
}

/// Relu is not differentiable at 0: the weights of this test keep clear of it, which the small steps show.
#[test]
fn relu_cell() {
    check(Case { activation: Activation::Relu, lanes: 1, ..PLAIN });
}

#[test]
fn lanes_beyond_one_shard() {
    check(Case { lanes: 19, ..PLAIN });
    check(Case { lanes: 19, cell: Kind::Gru, ..PLAIN });
}

#[test]
fn stride_below_tau_with_dropout() {
    for case in cells() {
        check(Case { loss_from: 1, layers: 2, keep: 0.7, ..case });
    }
}

#[test]
fn dropout() {
    for case in cells() {
        check(Case { keep: 0.6, layers: 2, ..case });
        check(Case { keep: 0.6, layers: 2, variational: true, ..case });
        check(Case { keep: 0.6, layers: 3, unscaled: true, ..case });
    }
}

#[test]
fn tied_weights() {
    for case in cells() {
        check(Case { tie: true, keep: 0.8, ..case });
    }
}

#[test]
fn states_reset_at_a_word() {
    for case in cells() {
        check(Case { reset_at: Some(2), layers: 2, lanes: 3, ..case });
    }
}

/// More words than one group of the output layer, and more tokens than one of its chunks.
#[test]
fn vocabulary_in_groups() {
    check(Case { words: 137, ..PLAIN });
    check(Case { words: 23, lanes: 37, ..PLAIN });
}
