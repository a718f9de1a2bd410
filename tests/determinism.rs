//! The bits of a run are a function of the configuration, the data and the seed: not of the threads that compute them.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, kinds, losses, rules, together};
use common::hash;
use std::path::Path;
use wordmill::blas::Precision;
use wordmill::kernels::activation::Activation;
use wordmill::layers::cells::Cell;
use wordmill::models::language_model::Window;
use wordmill::models::{Init, LanguageModel};
use wordmill::params::Arena;
use wordmill::text::batches::{Lanes, Windows};
use wordmill::train::optimizer::{Optimizer, Rule};

const STEPS: usize = 20;

/// Numbers of threads that are compared: `WORDMILL_TEST_THREADS` names others, as 1,2,16.
fn threads() -> Vec<usize> {
    let given = std::env::var("WORDMILL_TEST_THREADS").unwrap_or_else(|_| "1,2,3,8".into());
    given.split(',').map(|n| n.parse().expect("numbers")).collect()
}

/// Trains for some steps and returns the hash of weights, optimizer states and carried states, and the last loss. With three
/// threads everything but what a checkpoint holds is made anew on the way, as by a run that is resumed.
fn train(case: &Case, rule: Rule, threads: usize) -> (u64, f64) {
    let (words, tau, stride) = (case.config.words as u64, case.steps, case.steps - case.loss_from);
    // Words as in text: few are frequent. 101 positions a lane: the windows' ends differ from lane to lane's end.
    let ids: Vec<u32> = (0..101 * case.lanes as u64 + 1)
        .map(|i| {
            let x = (i * i * 2_654_435_761 + i * 40_503) % 1009;
            (x * x * words / (1009 * 1009)) as u32
        })
        .collect();
    let lanes = Lanes::new(Path::new("a text"), &ids, case.lanes, tau).expect("the text is long enough");
    let windows = Windows::new(lanes.length(), tau, stride).expect("the stride fits");
    wordmill::pool::pool(threads).expect("a pool").install(|| {
        let mut w = Arena::<f32>::zeros(case.model().layout());
        Init::Orthogonal.fill(&mut w, case.seed);
        let optimizer = |model: &LanguageModel| Optimizer::new(rule, 0.3, 1e-4, model.layout());
        let mut run = case.training(w, 0, optimizer);
        let mut last = f64::NAN;
        for step in 0..STEPS {
            let at = windows.get(step % windows.count());
            run.model.carry(&mut run.space, at.carry_from);
            if threads == 3 && step == STEPS / 3 {
                run.stepper.catch_up_all();
                let before = run;
                run = case.training(before.stepper.w, step as u64, optimizer);
                let states = run.stepper.optimizer.states_mut(step as u64).iter_mut();
                states
                    .zip(before.stepper.optimizer.states())
                    .for_each(|(to, from)| to.all_mut().copy_from_slice(from.all()));
                run.space.states_mut().zip(before.space.states()).for_each(|(to, from)| to.copy_from_slice(from));
            }
            let (mut inputs, mut targets) = (vec![0; at.len() * case.lanes], vec![0; at.len() * case.lanes]);
            lanes.fill(at.positions(), &mut inputs, &mut targets);
            last = run.step(Window { inputs: &inputs, targets: &targets, loss_from: at.loss_from }, 0.05).outcome;
        }
        run.model.carry(&mut run.space, 1);
        run.stepper.catch_up_all();
        let mut all = run.stepper.w.all().to_vec();
        run.stepper.optimizer.states().iter().for_each(|state| all.extend_from_slice(state.all()));
        run.space.states().for_each(|state| all.extend_from_slice(state));
        assert!(all.iter().all(|x| x.is_finite()));
        (hash(&all), last)
    })
}

fn check(case: &Case, rule: Rule) -> u64 {
    let threads = threads();
    let alone = train(case, rule, threads[0]);
    for &many in &threads[1..] {
        assert_eq!(train(case, rule, many), alone, "{case:?}, {rule:?}: {many} threads against {}", threads[0]);
    }
    alone.0
}

fn plain() -> Case {
    Case::large(Cell::Rnn(Activation::Tanh), 601).layers(1).keep(1.0)
}

/// Every cell with every optimizer: with and without dropout, a stride, and tied weights.
#[test]
fn same_bits_for_every_cell() {
    let mut hashes = Vec::new();
    for cell in cells() {
        for rule in rules() {
            for (layers, keep, loss_from) in [(1, 1.0, 0), (2, 0.8, 4)] {
                let case = Case::large(cell, 601).layers(layers).keep(keep).with(|case| case.loss_from = loss_from);
                hashes.push(check(&case, rule));
                hashes.push(check(&case.tied(), rule));
            }
        }
    }
    let runs = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    // Of tied weights no step touches few rows only: a sum for each row is one for each weight.
    let alike = 2 * cells().len();
    assert_eq!(hashes.len(), runs - alike, "different runs have different weights");
}

/// Several blocks in a group of words, and pieces of the optimizer's loops.
#[test]
fn same_bits_for_every_loss() {
    for loss in losses(5003) {
        for rule in rules() {
            check(&Case::large(Cell::Rnn(Activation::Tanh), 5003).layers(1).loss(loss.clone()), rule);
        }
    }
}

#[test]
fn same_bits_for_every_cell_with_every_loss() {
    for (i, cell) in kinds().into_iter().enumerate() {
        for (loss, rule) in together(&losses(601), &rules()[i..]) {
            check(&Case::large(cell, 601).loss(loss).keep(0.9), rule);
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
    for (cell, loss) in together(&kinds(), &losses(5003)) {
        let case = Case::large(cell, 5003).loss(loss);
        assert_ne!(check(&case.rounded(), Rule::Adam), train(&case, Rule::Adam, 1).0);
    }
}

#[test]
fn same_bits_for_many_words() {
    for rule in rules() {
        check(&Case::large(Cell::Rnn(Activation::Tanh), 9001).keep(0.9).with(|case| case.loss_from = 2), rule);
    }
}

/// The same again is the same; another seed is not, be it of the weights or of the masks.
#[test]
fn seeds() {
    let run = |seed, keep| train(&plain().keep(keep).with(|case| case.seed = seed), Rule::Adam, 2);
    assert_eq!(run(1, 0.8), run(1, 0.8));
    assert_ne!(run(1, 0.8), run(2, 0.8));
    assert_ne!(run(1, 1.0), run(2, 1.0));
    assert_ne!(run(1, 0.8), run(1 << 32 | 1, 0.8));
}
