//! Against PyTorch (fixtures/torch, made by make.py there) in f64, and f32 against f64.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::cells;
use common::{assert_all_close, assert_close, fill_uniform, uniform, widened};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use wordmill::Real;
use wordmill::blas::Precision;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::{Cell, Kind, Unit};
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Noise, Number, Space, Window};
use wordmill::params::{Arena, Gradients, Layout, Role};
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

/// |got − want| / |want| of vectors.
fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied())
}

type Tensors = BTreeMap<String, Vec<f64>>;

fn fixture<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/tests/fixtures/torch/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn put<R: Real>(arena: &mut Arena<R>, tensors: &Tensors) {
    let layout = arena.layout().clone();
    assert_eq!(layout.tensors().count(), tensors.len());
    for (p, tensor) in layout.tensors() {
        let values = &tensors[&tensor.name];
        assert_eq!(values.len(), tensor.rows * tensor.columns, "{}", tensor.name);
        arena.slice_mut(p).iter_mut().zip(values).for_each(|(x, &value)| *x = R::of(value));
    }
}

fn compare<R: Real>(what: &str, got: &Arena<R>, want: &Tensors, tolerance: f64) {
    for (p, tensor) in got.layout().tensors() {
        assert_all_close(&format!("{what}: {}", tensor.name), &widened(got.slice(p)), &want[&tensor.name], tolerance);
    }
}

#[derive(Deserialize)]
struct Sizes {
    steps: usize,
    lanes: usize,
    embed: usize,
    hidden: usize,
    words: usize,
}

#[derive(Deserialize)]
struct ModelCase {
    cell: Kind,
    activation: Activation,
    layers: usize,
    loss_from: usize,
    sizes: Sizes,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    states: Vec<Vec<f64>>,
    last_states: Vec<Vec<f64>>,
    weights: Tensors,
    loss: f64,
    gradients: Tensors,
}

fn check_model<R: Number>(case: &ModelCase, tolerance: f64) {
    let Sizes { steps, lanes, embed, hidden, words } = case.sizes;
    let ModelCase { cell, activation, layers, loss_from, .. } = *case;
    let what = format!("{cell:?} {activation:?}, {layers} layers, {}", R::NAME);
    let cell = Cell::new(cell, activation, Unit::Gru);
    let model = LanguageModel::new(Config { words, embed, hidden, layers, cell, ..Config::default() });
    let mut w = Arena::<R>::zeros(model.layout());
    put(&mut w, &case.weights);
    let mut space = model.space::<R>(steps, lanes);
    // One shard, so a slice of states is a layer.
    for (state, values) in space.states_mut().zip(&case.states) {
        state.iter_mut().zip(values).for_each(|(x, &value)| *x = R::of(value));
    }
    let mut g = Gradients::zeros(model.layout(), steps * lanes);
    let window = Window { inputs: &case.inputs, targets: &case.targets, loss_from };
    let noise = Noise { keep: Keep::inverted(1.0), seed: 0, step: 1 };
    let loss = model.loss_and_gradient(&mut g, &mut space, window, noise, &w);
    assert_close(format_args!("{what}: loss"), loss, case.loss, tolerance, 0.0);
    compare(&what, &g.dense(model.layout()), &case.gradients, tolerance);
    model.carry(&mut space, steps);
    for (l, (got, want)) in space.states().zip(&case.last_states).enumerate() {
        assert_all_close(&format!("{what}: last state {l}"), &widened(got), want, tolerance);
    }
}

#[test]
fn language_model_as_pytorch() {
    let cases = fixture::<ModelCase>("language_model.json");
    assert_eq!(cases.len(), 12);
    for case in &cases {
        check_model::<f64>(case, 1e-12);
        check_model::<f32>(case, 1e-5);
    }
}

#[derive(Deserialize)]
struct TensorCase {
    name: String,
    rows: usize,
    columns: usize,
    role: String,
}

#[derive(Deserialize)]
struct StepCase {
    touched: Vec<u32>,
    gradients: Tensors,
    norm: f64,
    weights: Tensors,
}

#[derive(Deserialize)]
struct OptimizerCase {
    rule: Rule,
    rate: f64,
    clip: f64,
    l2: f64,
    tensors: Vec<TensorCase>,
    start: Tensors,
    steps: Vec<StepCase>,
}

fn check_optimizer<R: Real>(case: &OptimizerCase, tolerance: f64) {
    let mut layout = Layout::default();
    for TensorCase { name, rows, columns, role } in &case.tensors {
        let role = match role.as_str() {
            "weight" => Role::Weight,
            "recurrent" => Role::Recurrent,
            "output" => Role::Output,
            "bias" => Role::Bias,
            "table" => Role::Table,
            other => panic!("no role {other}"),
        };
        layout.add(name, *rows, *columns, role);
    }
    let layout = Arc::new(layout);
    let mut w = Arena::<R>::zeros(&layout);
    put(&mut w, &case.start);
    let optimizer = Optimizer::new(case.rule, case.clip, case.l2, &layout);
    let mut stepper = Stepper::new(w, Gradients::zeros(&layout, 6), optimizer, 0);
    for (step, want) in (1..).zip(&case.steps) {
        let what = format!("{:?}, {}, step {step}", case.rule, R::NAME);
        let tables = layout.tensors().filter(|(_, tensor)| tensor.role == Role::Table).map(|(p, _)| p);
        let touched = stepper.touch(|g, _| tables.for_each(|p| g.table_mut(p).list().extend(&want.touched)));
        let computed = touched.step(|g, (), _| {
            for (p, tensor) in layout.tensors() {
                let values = want.gradients[&tensor.name].iter().map(|&x| R::of(x));
                if tensor.role == Role::Table {
                    let (ids, part) = g.table_mut(p).parts_mut();
                    let all: Vec<R> = values.collect();
                    for (&id, row) in ids.iter().zip(part.chunks_exact_mut(tensor.columns)) {
                        row.copy_from_slice(&all[id as usize * tensor.columns..][..tensor.columns]);
                    }
                } else {
                    g.arena.slice_mut(p).iter_mut().zip(values).for_each(|(x, value)| *x = value);
                }
            }
        });
        let norm = computed.update(case.rate).norm;
        assert_close(format_args!("{what}: norm"), norm, want.norm, tolerance, 0.0);
        // PyTorch moves all rows in every step.
        stepper.catch_up_all();
        compare(&what, &stepper.w, &want.weights, tolerance);
        assert!(stepper.g.tables().iter().all(|rows| rows.ids().is_empty()));
    }
}

#[test]
fn optimizers_as_pytorch() {
    let cases = fixture::<OptimizerCase>("optimizer.json");
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let clipped = case.steps.iter().filter(|step| step.norm > case.clip).count();
        assert!(case.clip > 1e6 || (clipped > 0 && clipped < case.steps.len()), "some steps are clipped, some not");
        // PyTorch clips to norm + 1e-6: see make.py.
        check_optimizer::<f64>(case, if case.clip > 1e6 { 1e-12 } else { 1e-6 });
        check_optimizer::<f32>(case, 1e-5);
    }
}

/// A whole step at sizes where the fast paths are taken: shards, groups, whole vectors and their remainders. With operands of eight
/// bits it is as near as these are, and not nearer.
#[test]
fn f32_as_f64() {
    fn step<R: Number>(model: &LanguageModel, keep: f64) -> (f64, Vec<Vec<f64>>) {
        const STEPS: usize = 7;
        const LANES: usize = 37;
        let words = model.config().words as u32;
        let mut w = Arena::<R>::zeros(model.layout());
        fill_uniform(&mut w, 0.25, 5);
        // The same f32 values in both.
        w.all_mut().iter_mut().for_each(|x| *x = R::of(f64::from(x.f64() as f32)));
        let mut space: Space<R> = model.space(STEPS, LANES);
        for (i, state) in space.states_mut().enumerate() {
            state.copy_from_slice(&uniform(state.len(), 0.8, i as u64));
        }
        let ids = |salt| (0..(STEPS * LANES) as u32).map(|i| (i * i * 7 + i * 13 + salt) % words).collect::<Vec<_>>();
        let window = Window { inputs: &ids(1), targets: &ids(2), loss_from: 2 };
        let noise = Noise { keep: Keep::inverted(keep), seed: 3, step: 9 };
        let mut g = Gradients::zeros(model.layout(), STEPS * LANES);
        let loss = model.loss_and_gradient(&mut g, &mut space, window, noise, &w);
        (loss, model.layout().tensors().map(|(p, _)| widened(g.dense(model.layout()).slice(p))).collect())
    }
    for cell in cells() {
        for (layers, words, keep) in [(1, 1201, 1.0), (2, 997, 0.75)] {
            let sizes = Config { words, embed: 50, hidden: 67, layers, ..Config::default() };
            let config = Config { cell, reset_at: Some(5), ..sizes };
            let model = LanguageModel::new(config.clone());
            let ((single, got), (double, want)) = (step::<f32>(&model, keep), step::<f64>(&model, keep));
            assert_close("loss", single, double, 1e-5, 0.0);
            let what = format!("{cell:?}, {layers} layers");
            for (((_, tensor), got), want) in model.layout().tensors().zip(&got).zip(&want) {
                assert_all_close(&format!("{what}: {}", tensor.name), got, want, 1e-5);
            }
            if !Precision::Bf16.available() {
                println!("skipped: {what} in bf16, which this processor does not have");
                continue;
            }
            let model = LanguageModel::new(Config { precision: Precision::Bf16, ..config });
            let (rounded, got) = step::<f32>(&model, keep);
            assert_close("loss", rounded, double, 1e-3, 0.0);
            // The gradient of a rectifier is another one where rounding changes the sign.
            let most = if cell == Cell::Rnn(Activation::Relu) { 0.2 } else { 0.015 };
            for (((_, tensor), got), want) in model.layout().tensors().zip(&got).zip(&want) {
                let error = relative_error(got, want);
                assert!((1e-5..most).contains(&error), "{what}: {} is off by a relative {error:.1e}", tensor.name);
            }
        }
    }
}
