//! The tagger's gradients against finite differences, in f64, at sizes that are all distinct and with biases that are not zero.

mod common;

use common::{assert_all_close, check_gradient, fill_uniform};
use wordmill::kernels::dropout::Keep;
use wordmill::models::Ner;
use wordmill::models::ner::{Batch, Config, Noise, Objective, Table};
use wordmill::params::{Arena, Gradients, Role};
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

struct Case {
    objective: Objective,
    window: usize,
    labels: usize,
    /// Rows and width of each table.
    tables: &'static [(usize, usize)],
    /// Tokens of each sentence.
    sentences: &'static [usize],
    keep: f64,
}

const PLAIN: Case =
    Case { objective: Objective::Window, window: 3, labels: 4, tables: &[(11, 5)], sentences: &[3, 1, 6], keep: 1.0 };

fn net(case: &Case) -> Ner {
    let table = |(i, &(rows, width)): (usize, &(usize, usize))| Table { name: format!("table{i}"), rows, width };
    Ner::new(Config {
        tables: case.tables.iter().enumerate().map(table).collect(),
        window: case.window,
        hidden: 7,
        labels: case.labels,
        objective: case.objective,
    })
}

/// Windows that hold the same rows several times, and targets.
fn data(case: &Case) -> (Vec<Vec<u32>>, Vec<u32>, Vec<usize>) {
    let tokens: usize = case.sentences.iter().sum();
    let ids = |rows: usize| (0..tokens * case.window).map(|i| ((i * i * 5 + i / 4) % (rows - 1)) as u32).collect();
    let inputs = case.tables.iter().map(|&(rows, _)| ids(rows)).collect();
    let targets = (0..tokens).map(|i| ((i * 7 + i / 3) % case.labels) as u32).collect();
    let ends = case.sentences.iter().scan(0, |end, n| {
        *end += n;
        Some(*end)
    });
    (inputs, targets, ends.collect())
}

fn check(case: Case) {
    let net = net(&case);
    let (inputs, targets, ends) = data(&case);
    let batch = Batch { inputs: &inputs, ends: &ends };
    let mut w = Arena::<f64>::zeros(net.layout());
    fill_uniform(&mut w, 0.9, 5);
    let noise = Noise { keep: Keep::inverted(case.keep), seed: 3, step: 9, freeze: false };
    let mut space = net.space(targets.len(), true);
    let mut g = Gradients::zeros(net.layout(), targets.len() * case.window);
    net.step(&mut g, &mut space, batch, &targets, noise, &w);
    let gradient = g.dense(net.layout());
    for rows in g.tables() {
        let last = net.layout().tensor(rows.p()).rows - 1;
        assert!(!rows.ids().contains(&(last as u32)) && rows.ids().is_sorted_by(|a, b| a < b), "{:?}", rows.ids());
    }
    check_gradient(&gradient, &w, 1e-6, |w| {
        g.clear_tables();
        net.step(&mut g, &mut space, batch, &targets, noise, w)
    });
}

#[test]
fn window_objective() {
    check(PLAIN);
    check(Case { window: 1, ..PLAIN });
    check(Case { window: 5, labels: 2, ..PLAIN });
}

#[test]
fn sentence_objective() {
    check(Case { objective: Objective::Sentence, ..PLAIN });
    check(Case { objective: Objective::Sentence, labels: 3, sentences: &[1], ..PLAIN });
}

#[test]
fn features_and_dropout() {
    let tables = &[(11, 5), (6, 2), (9, 3)];
    check(Case { tables, keep: 0.6, ..PLAIN });
    check(Case { tables, keep: 0.6, objective: Objective::Sentence, ..PLAIN });
}

/// More tokens than a shard, and sentences that end within, at and beyond its end.
#[test]
fn several_shards() {
    check(Case { sentences: &[40, 33], ..PLAIN });
    check(Case { sentences: &[20, 12, 31, 1, 5, 40], objective: Objective::Sentence, keep: 0.7, ..PLAIN });
}

/// λ/2 (ΣW² + ΣU²): one step of gradient descent with λ differs from one without by −αλ times the weights, on W and U only.
/// The rows outside the batch stay as they are to the bit.
#[test]
fn l2_on_w_and_u_only() {
    let case = Case { objective: Objective::Sentence, tables: &[(11, 5), (6, 2)], ..PLAIN };
    let net = net(&case);
    let (inputs, targets, ends) = data(&case);
    let mut w = Arena::<f64>::zeros(net.layout());
    fill_uniform(&mut w, 0.9, 5);
    for rule in [Rule::Sgd, Rule::Adagrad, Rule::Adam] {
        let after = |l2: f64| {
            let g = Gradients::zeros(net.layout(), targets.len() * case.window);
            let mut space = net.space(targets.len(), true);
            let noise = Noise { keep: Keep::inverted(1.0), seed: 3, step: 9, freeze: false };
            let batch = Batch { inputs: &inputs, ends: &ends };
            let optimizer = Optimizer::new(rule, f64::INFINITY, l2, net.layout()).lazy();
            let mut stepper = Stepper::new(w.clone(), g, optimizer, 0);
            let step = stepper.touch(|_, _| ());
            step.step(|g, (), w| net.step(g, &mut space, batch, &targets, noise, w)).update(0.1);
            stepper.w
        };
        let (plain, decayed) = (after(0.0), after(0.01));
        for (p, tensor) in net.layout().tensors() {
            let (plain, decayed, w) = (plain.slice(p), decayed.slice(p), w.slice(p));
            match tensor.role {
                Role::Weight | Role::Output if rule == Rule::Sgd => {
                    let pull: Vec<f64> = plain.iter().zip(decayed).map(|(a, b)| a - b).collect();
                    let expected: Vec<f64> = w.iter().map(|w| 0.1 * 0.01 * w).collect();
                    assert_all_close(&tensor.name, &pull, &expected, 1e-9);
                }
                Role::Weight | Role::Output => assert_ne!(plain, decayed, "{}", tensor.name),
                _ => assert_eq!(plain, decayed, "{}", tensor.name),
            }
            if tensor.role == Role::Table {
                let last = tensor.range().len() - tensor.columns;
                assert_eq!(plain[last..], w[last..], "{}: the last row is in no window", tensor.name);
                assert_ne!(plain[..last], w[..last]);
            }
        }
    }
}
