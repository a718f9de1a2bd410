//! The adaptive softmax: its gradients, that it is the full softmax where it can be, that its probabilities are probabilities, and
//! PyTorch's of the same weights.

mod common;

use common::{assert_all_close, assert_close, check_gradient, fill_uniform, uniform, widened};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use wordmill::Real;
use wordmill::blas::Precision;
use wordmill::kernels::Room;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::{AdaptiveSoftmax, FullSoftmax, Gradient, Tables, Tail};
use wordmill::layers::recurrence::Cell;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Loss, Noise, Window};
use wordmill::params::{Arena, Gradients, Layout};

fn tails(tails: &[(usize, usize)]) -> Vec<Tail> {
    tails.iter().map(|&(first, width)| Tail { first, width }).collect()
}

#[test]
fn gradients() {
    let (words, steps, lanes) = (29, 3, 7);
    for cuts in [&[(6, 4)][..], &[(4, 2), (11, 3), (26, 1)], &[]] {
        let loss = Loss::Adaptive { tails: tails(cuts) };
        let model =
            LanguageModel::new(Config { words, embed: 3, hidden: 5, cell: Cell::Gru, loss, ..Config::default() });
        let mut w = Arena::<f64>::zeros(model.layout());
        fill_uniform(&mut w, 0.9, 5);
        let ids = |salt: usize| -> Vec<u32> {
            (0..steps * lanes).map(|i| ((i * i * 7 + i * 3 + salt) % words) as u32).collect()
        };
        let (inputs, targets) = (ids(1), ids(2));
        let window = Window { inputs: &inputs, targets: &targets, loss_from: 1 };
        let noise = Noise { keep: Keep::inverted(0.8), seed: 3, step: 9 };
        let mut space = model.space(steps, lanes);
        let mut g = Gradients::zeros(model.layout(), steps * lanes);
        // What the gradient's buffers hold before must not matter.
        g.arena.slice_mut(model.tables()[1]).fill(f64::NAN);
        model.step(&mut g, &mut space, window, noise, &w);
        let gradient = g.dense(model.layout());
        check_gradient(&gradient, &w, 1e-6, |w| {
            g.clear_tables();
            model.step(&mut g, &mut space, window, noise, w)
        });
    }
}

/// Weights, states and targets of one layer.
struct Case<R: Real> {
    tails: Vec<Tail>,
    words: usize,
    units: usize,
    tables: Tables,
    w: Arena<R>,
    h: Vec<R>,
    targets: Vec<u32>,
}

impl<R: Real> Case<R> {
    fn new(cuts: &[(usize, usize)], words: usize, units: usize, tokens: usize) -> Self {
        let tails = tails(cuts);
        let mut layout = Layout::default();
        let tables = Tables::add(&mut layout, words, units, &tails);
        let mut w = Arena::<R>::zeros(&Arc::new(layout));
        fill_uniform(&mut w, 0.7, 3);
        w.all_mut().iter_mut().for_each(|x| *x = R::of(f64::from(x.f64() as f32)));
        let targets = (0..tokens).map(|t| ((t * t * 31 + t * 7 + 5) % words) as u32).collect();
        Case { tails, words, units, tables, w, h: uniform(tokens * units, 1.0, 1), targets }
    }

    fn layer(&self, tokens: usize, training: bool) -> AdaptiveSoftmax<R> {
        let Case { units, words, tails, .. } = self;
        Room::make(|room| AdaptiveSoftmax::within(room, tokens, *units, *words, tails, training, Precision::F32))
    }

    /// Loss, ∂h, the gradients of the tensors, and ln ŷ of the targets.
    fn run(&self) -> (f64, Vec<f64>, Arena<R>, Vec<f64>) {
        let tokens = self.targets.len();
        let mut layer = self.layer(tokens, true);
        let mut g = Arena::zeros(self.w.layout());
        g.layout().clone().tensors().for_each(|(p, _)| g.slice_mut(p).fill(R::of(f64::NAN)));
        let mut dh = vec![R::of(f64::NAN); self.h.len()];
        let loss = layer.loss(&mut g, &mut dh, &self.h, &self.targets, &self.tables, &self.w);
        let mut reader = self.layer(tokens, false);
        let mut log_probabilities = vec![f64::NAN; tokens];
        reader.log_probabilities(&mut log_probabilities, &self.h, &self.targets, &self.tables, &self.w);
        (loss, widened(&dh), g, log_probabilities)
    }
}

const CUTS: [&[(usize, usize)]; 4] = [&[], &[(90, 11)], &[(31, 17), (400, 3)], &[(5, 6), (6, 2), (800, 19)]];

#[test]
fn probabilities_sum_to_one() {
    for cuts in CUTS {
        let case = Case::<f64>::new(cuts, 901, 23, 40);
        let mut all = vec![f64::NAN; 901];
        for t in 0..3 {
            let h = &case.h[t * 23..][..23];
            case.tables.distribution(&mut all, h, &case.w);
            assert_close("Σ ŷ", all.iter().map(|x| x.exp()).sum::<f64>(), 1.0, 1e-12, 0.0);
            // The same for each word as a target.
            let mut reader = case.layer(901, false);
            let (h, targets): (Vec<f64>, Vec<u32>) = (h.repeat(901), (0..901).rev().collect());
            let mut each = vec![f64::NAN; 901];
            reader.log_probabilities(&mut each, &h, &targets, &case.tables, &case.w);
            each.reverse();
            assert_all_close("ln ŷ", &each, &all, 1e-12);
        }
        let (loss, _, _, log_probabilities) = case.run();
        assert_close("J", loss, -log_probabilities.iter().sum::<f64>() / 40.0, 1e-12, 0.0);
    }
}

#[test]
fn f32_as_f64() {
    for cuts in CUTS {
        for tokens in [1, 40, 333] {
            let (single, double) = (Case::<f32>::new(cuts, 901, 23, tokens), Case::<f64>::new(cuts, 901, 23, tokens));
            let (got, want) = (single.run(), double.run());
            assert_close("J", got.0, want.0, 1e-5, 0.0);
            assert_all_close("∂h", &got.1, &want.1, 1e-5);
            assert_all_close("ln ŷ", &got.3, &want.3, 1e-5);
            for (p, tensor) in single.w.layout().tensors() {
                let (got, want) = (widened(got.2.slice(p)), widened(want.2.slice(p)));
                if want.iter().any(|&x| x != 0.0) {
                    assert_all_close(&tensor.name, &got, &want, 1e-5);
                } else {
                    assert!(got.iter().all(|&x| x == 0.0), "{}", tensor.name);
                }
            }
        }
    }
}

/// Without tails it is the full softmax.
#[test]
fn no_tails_are_the_full_softmax() {
    let case = Case::<f32>::new(&[], 300, 23, 50);
    let (loss, dh, g, _) = case.run();
    let (u, b) = (case.w.slice(case.tables.output), case.w.slice(case.tables.bias));
    let (mut h, mut output, mut bias) = (vec![0.0; case.h.len()], vec![0.0; u.len()], vec![0.0; b.len()]);
    let gradient = Gradient { h: &mut h, output: &mut output, bias: &mut bias };
    let full = FullSoftmax::new(50, 23, 300).loss(gradient, &case.h, &case.targets, u, b);
    assert_eq!((loss, dh), (full, widened(&h)));
    assert!(g.slice(case.tables.output) == output && g.slice(case.tables.bias) == bias);
}

#[derive(Deserialize)]
struct Reference {
    units: usize,
    words: usize,
    cutoffs: Vec<usize>,
    widths: Vec<usize>,
    h: Vec<f64>,
    targets: Vec<u32>,
    weights: BTreeMap<String, Vec<f64>>,
    loss: f64,
    log_probabilities: Vec<f64>,
    dh: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[test]
fn as_pytorch() {
    let path = format!("{}/tests/fixtures/torch/adaptive.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Reference> =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("the fixture is there")).expect("it is JSON");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let cuts: Vec<(usize, usize)> = case.cutoffs.iter().copied().zip(case.widths.iter().copied()).collect();
        let mut ours = Case::<f64>::new(&cuts, case.words, case.units, case.targets.len());
        let layout = ours.w.layout().clone();
        assert_eq!(layout.tensors().count(), case.weights.len());
        layout.tensors().for_each(|(p, tensor)| ours.w.slice_mut(p).copy_from_slice(&case.weights[&tensor.name]));
        ours.h = case.h;
        ours.targets = case.targets;
        let (loss, dh, g, log_probabilities) = ours.run();
        assert_close("J", loss, case.loss, 1e-12, 0.0);
        assert_all_close("ln ŷ", &log_probabilities, &case.log_probabilities, 1e-12);
        assert_all_close("∂h", &dh, &case.dh, 1e-12);
        for (p, tensor) in layout.tensors() {
            assert_all_close(&tensor.name, g.slice(p), &case.gradients[&tensor.name], 1e-12);
        }
    }
}
