//! Every hand-written gradient against finite differences, in f64, at sizes that are all distinct and with biases that are not zero.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, fill_states, kinds, losses};
use common::{check_gradient, fill_uniform};
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::Cell;
use wordmill::models::language_model::Window;
use wordmill::params::Arena;

fn check(case: &Case) {
    let model = case.model();
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 0.9, 5);
    let (inputs, targets) = (case.ids(1), case.ids(2));
    if let Some(word) = case.config.reset_at {
        assert!(inputs[case.lanes..].contains(&word), "no state is reset after the first step");
    }
    let window = Window { inputs: &inputs, targets: &targets, loss_from: case.loss_from };
    let (mut space, mut g) = (case.space(&model), case.gradients(&model));
    // What the gradient's buffers hold before must not matter.
    model.layout().tensors().for_each(|(p, _)| g.arena.slice_mut(p).fill(f64::NAN));
    // A state that is not zero is carried in.
    fill_states(&mut space);
    model.loss_and_gradient(&mut g, &mut space, window, case.noise(9), &w);
    let gradient = g.dense(model.layout());
    println!("{case:?}");
    check_gradient(&gradient, &w, 1e-6, |w| {
        g.clear_tables();
        fill_states(&mut space);
        model.loss_and_gradient(&mut g, &mut space, window, case.noise(9), w)
    });
}

/// Every cell but relu, which is not differentiable at 0: it has a test of its own.
fn smooth() -> impl Iterator<Item = Case> {
    cells().into_iter().filter(|&cell| cell != Cell::Rnn(Activation::Relu)).map(Case::small)
}

#[test]
fn every_cell_in_one_to_three_layers_tau_and_stride() {
    for case in smooth() {
        for layers in 1..=3 {
            for (steps, loss_from) in [(1, 0), (4, 0), (4, 3)] {
                check(&case.layers(layers).with(|case| (case.steps, case.loss_from) = (steps, loss_from)));
            }
        }
    }
}

/// The weights of this test keep clear of 0, which the small steps show.
#[test]
fn relu_cell() {
    check(&Case::small(Cell::Rnn(Activation::Relu)).with(|case| case.lanes = 1));
}

/// Every loss, with lanes that have samples of their own, and more words than are drawn.
#[test]
fn every_loss_with_every_cell() {
    for cell in kinds() {
        for loss in losses(23) {
            let case = Case::small(cell).loss(loss).keep(0.8);
            check(&case.with(|case| (case.config.words, case.lanes, case.loss_from) = (23, 7, 1)));
        }
    }
}

#[test]
fn lanes_beyond_one_shard() {
    for cell in kinds() {
        check(&Case::small(cell).with(|case| case.lanes = 19));
    }
}

#[test]
fn stride_below_tau_with_dropout() {
    for case in smooth() {
        check(&case.layers(2).keep(0.7).with(|case| case.loss_from = 1));
    }
}

#[test]
fn dropout() {
    for case in smooth() {
        let case = case.keep(0.6);
        check(&case.layers(2));
        check(&case.layers(2).with(|case| case.config.variational = true));
        check(&case.layers(3).with(|case| case.keep = Keep::unscaled(0.6)));
    }
}

#[test]
fn tied_weights() {
    for case in smooth() {
        check(&case.tied().keep(0.8));
    }
}

#[test]
fn states_reset_at_a_word() {
    for case in smooth() {
        check(&case.layers(2).with(|case| (case.config.reset_at, case.lanes) = (Some(2), 3)));
    }
}

/// More words than one group of the output layer, and more tokens than one of its chunks.
#[test]
fn vocabulary_in_groups() {
    let case = Case::small(Cell::Rnn(Activation::Tanh));
    check(&case.with(|case| case.config.words = 137));
    check(&case.with(|case| (case.config.words, case.lanes) = (23, 37)));
}
