//! Every hand-written gradient against finite differences, in f64, at sizes that are all distinct and with biases that are not zero.

mod common;

use common::{check_gradient, fill_uniform};
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Noise, Space, Window};
use wordmill::params::{Arena, Gradients};

const WORDS: usize = 11;
const STEPS: usize = 4;

struct Case {
    activation: Activation,
    layers: usize,
    lanes: usize,
    loss_from: usize,
    keep: f64,
    reset_at: Option<u32>,
    words: usize,
}

fn ids(n: usize, words: usize, salt: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 7 + i * 3 + salt) % words) as u32).collect()
}

fn check(case: Case) {
    let Case { activation, layers, lanes, loss_from, keep, reset_at, words } = case;
    let model = LanguageModel::new(Config { words, embed: 3, hidden: 5, layers, activation, reset_at });
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 0.9, 5);
    let (inputs, targets) = (ids(STEPS * lanes, words, 1), ids(STEPS * lanes, words, 2));
    if let Some(word) = reset_at {
        assert!(inputs[lanes..].contains(&word), "no state is reset after the first step");
    }
    let window = Window { inputs: &inputs, targets: &targets, loss_from };
    let noise = Noise { keep: Keep::inverted(keep), seed: 3, step: 9 };
    // A state that is not zero is carried in.
    let start = |space: &mut Space<f64>| {
        for (i, state) in space.states_mut().enumerate() {
            state.iter_mut().enumerate().for_each(|(j, x)| *x = ((i + 2) * (j + 3) % 7) as f64 / 7.0 - 0.3);
        }
    };
    let mut space = model.space(STEPS, lanes);
    let mut g = Gradients::zeros(model.layout(), STEPS * lanes);
    start(&mut space);
    model.step(&mut g, &mut space, window, noise, &w);
    let gradient = g.arena.clone();
    check_gradient(&gradient, &w, 1e-6, |w| {
        g.clear_tables();
        start(&mut space);
        model.step(&mut g, &mut space, window, noise, w)
    });
}

const PLAIN: Case =
    Case { activation: Activation::Tanh, layers: 1, lanes: 2, loss_from: 0, keep: 1.0, reset_at: None, words: WORDS };

#[test]
fn simple_cells() {
    for activation in [Activation::Sigmoid, Activation::Tanh] {
        check(Case { activation, ..PLAIN });
    }
}

/// Relu is not differentiable at 0: the weights of this test keep clear of it, which the small steps show.
#[test]
fn relu_cell() {
    check(Case { activation: Activation::Relu, lanes: 1, ..PLAIN });
}

#[test]
fn stacked_layers() {
    check(Case { layers: 2, ..PLAIN });
    check(Case { layers: 3, activation: Activation::Sigmoid, ..PLAIN });
}

#[test]
fn lanes_beyond_one_shard() {
    check(Case { lanes: 19, ..PLAIN });
}

#[test]
fn stride_below_tau() {
    check(Case { loss_from: 3, ..PLAIN });
    check(Case { loss_from: 1, layers: 2, keep: 0.7, ..PLAIN });
}

#[test]
fn dropout() {
    check(Case { keep: 0.6, layers: 2, ..PLAIN });
}

#[test]
fn states_reset_at_a_word() {
    check(Case { reset_at: Some(2), layers: 2, lanes: 3, ..PLAIN });
}

/// More words than one group of the output layer, and more tokens than one of its chunks.
#[test]
fn vocabulary_in_groups() {
    check(Case { words: 137, ..PLAIN });
    check(Case { words: 23, lanes: 37, ..PLAIN });
}
