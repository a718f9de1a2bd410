//! The adaptive softmax: that it is the full softmax where it can be, that its probabilities are probabilities, and
//! PyTorch's of the same weights.

mod common;

use common::{assert_all_close, assert_close, fill_uniform, uniform, widened};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use wordmill::Real;
use wordmill::blas::Precision;
use wordmill::layers::output::{AdaptiveSoftmax, FullSoftmax, Gradient, Tables, Tail};
use wordmill::params::{Arena, Layout};
use wordmill::sys::memory::Room;

fn tails(tails: &[(usize, usize)]) -> Vec<Tail> {
    tails.iter().map(|&(first, width)| Tail { first, width }).collect()
}

/// Weights, states and targets of one layer.
struct Layer<R: Real> {
    tails: Vec<Tail>,
    words: usize,
    units: usize,
    tables: Tables,
    w: Arena<R>,
    h: Vec<R>,
    targets: Vec<u32>,
}

impl<R: Real> Layer<R> {
    fn new(cuts: &[(usize, usize)], words: usize, units: usize, tokens: usize) -> Self {
        let tails = tails(cuts);
        let mut layout = Layout::default();
        let tables = Tables::add(&mut layout, words, units, &tails);
        let mut w = Arena::<R>::zeros(&Arc::new(layout));
        fill_uniform(&mut w, 0.7, 3);
        w.all_mut().iter_mut().for_each(|x| *x = R::of(f64::from(x.f64() as f32)));
        let targets = (0..tokens).map(|t| ((t * t * 31 + t * 7 + 5) % words) as u32).collect();
        Layer { tails, words, units, tables, w, h: uniform(tokens * units, 1.0, 1), targets }
    }

    fn layer(&self, tokens: usize, training: bool) -> AdaptiveSoftmax<R> {
        let Layer { units, words, tails, .. } = self;
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
        let case = Layer::<f64>::new(cuts, 901, 23, 40);
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
            let (single, double) = (Layer::<f32>::new(cuts, 901, 23, tokens), Layer::<f64>::new(cuts, 901, 23, tokens));
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
    let case = Layer::<f32>::new(&[], 300, 23, 50);
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
        let mut ours = Layer::<f64>::new(&cuts, case.words, case.units, case.targets.len());
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
