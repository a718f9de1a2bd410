//! What the two source documents say, number by number. docs/claims.md has a row for each of their equations and questions, and
//! names the tests that prove it; those that are nowhere else are here, named after the documents' sections: *midterm* is the
//! practice midterm of CS 224N (2017), *assignment* the second assignment of CS 224D (2016), *erratum* where one of them errs.

mod common;

use common::{assert_all_close, assert_close, fill_uniform, uniform};
use ndarray::{Array1, Array2, ArrayView2, Axis, array, s};
use rayon::prelude::*;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wordmill::graph::{Builder, Feed, Id, Node, Session};
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::{Keep, factors};
use wordmill::kernels::gates;
use wordmill::layers::cells::{Cell, Unit};
use wordmill::layers::recurrence::Masks;
use wordmill::models::language_model::{Config, LanguageModel, Noise, Window};
use wordmill::models::{Ner, PseudoSiamese, Siamese, ner, pseudo_siamese, siamese};
use wordmill::params::{Arena, Gradients, Layout, Role, TensorId};
use wordmill::profile::{self, Part};
use wordmill::rng::{Place, Purpose};
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

/// Nothing is dropped.
fn no_noise() -> Noise {
    Noise { keep: Keep::inverted(1.0), seed: 1, step: 0 }
}

/// Products are counted for the whole process: tests that make some take turns.
fn products() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Floats that are worked on together, all of one exponent.
const BLOCK: u32 = 1 << 13;

/// The largest; NaN counts as ∞.
fn largest(x: impl Iterator<Item = f32>) -> f32 {
    x.fold(0.0, |most, x| most.max(if x.is_nan() { f32::INFINITY } else { x }))
}

/// tanh(z) = 2σ(2z) − 1 and σ(−z) = 1 − σ(z) for every float, as the kernels compute them.
#[test]
fn midterm_3_1_and_assignment_2a_identities_over_all_floats() {
    let apply = |f: Activation, z: &[f32], scale: f32| {
        let mut h: Vec<f32> = z.iter().map(|z| scale * z).collect();
        f.apply(&mut h);
        h
    };
    let reflected = |plus: &[f32], minus: &[f32]| largest(plus.iter().zip(minus).map(|(p, m)| (m - (1.0 - p)).abs()));
    let worst = |first: u32| {
        // Positive floats, each of which comes with its negative; the last block ends with ∞.
        let z: Vec<f32> = (first..(first + BLOCK).min(0x7F80_0001)).map(f32::from_bits).collect();
        // 2z is every float but the lowest, which are odd multiples of the least one.
        let [plus, minus] = [2.0, -2.0].map(|scale| apply(Activation::Sigmoid, &z, scale));
        let [tanh, below] = [1.0, -1.0].map(|scale| apply(Activation::Tanh, &z, scale));
        let mut sigma = reflected(&plus, &minus);
        if first < 0x0100_0000 {
            let [plus, minus] = [1.0, -1.0].map(|scale| apply(Activation::Sigmoid, &z, scale));
            sigma = sigma.max(reflected(&plus, &minus));
        }
        let off = |tanh: &[f32], sigma: &[f32]| {
            largest(tanh.iter().zip(sigma).map(|(tanh, sigma)| (tanh - (2.0 * sigma - 1.0)).abs()))
        };
        [sigma, off(&tanh, &plus).max(off(&below, &minus))]
    };
    let blocks = (0..0x7F80_0000 / BLOCK + 1).into_par_iter().map(|block| worst(block * BLOCK));
    let [sigma, tanh] = blocks.reduce(|| [0.0; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])]);
    println!("|σ(−z) − (1 − σ(z))| ≤ {sigma:e}, |tanh z − (2σ(2z) − 1)| ≤ {tanh:e}");
    // Where both are near 1, floats lie 6e-8 apart.
    assert!(sigma <= 9e-8 && tanh <= 1.8e-7, "{sigma:e} {tanh:e}");
}

/// tanh' = 1 − tanh² and σ' = σ(1 − σ), against differences.
#[test]
fn assignment_2a_derivatives_of_tanh_and_sigma() {
    let z: Vec<f64> = (-600..=600).map(|i| f64::from(i) / 100.0 + 0.003).collect();
    type Case = (Activation, fn(f64) -> f64);
    let cases: [Case; 3] = [
        (Activation::Tanh, |h| 1.0 - h * h),
        (Activation::Sigmoid, |h| h * (1.0 - h)),
        (Activation::Relu, |h| f64::from(u8::from(h > 0.0))),
    ];
    for (f, derivative) in cases {
        let at = |offset: f64| {
            let mut h: Vec<f64> = z.iter().map(|z| z + offset).collect();
            f.apply(&mut h);
            h
        };
        let (h, above, below) = (at(0.0), at(1e-5), at(-1e-5));
        let numeric: Vec<f64> = above.iter().zip(&below).map(|(a, b)| (a - b) / 2e-5).collect();
        let mut kernel = vec![1.0; z.len()];
        f.backward(&mut kernel, &h);
        assert_all_close(&format!("{f:?}'"), &kernel, &numeric, 1e-8);
        assert_all_close(
            &format!("{f:?}' by its formula"),
            &kernel,
            &h.iter().map(|&h| derivative(h)).collect::<Vec<_>>(),
            1e-14,
        );
    }
}

/// m ∘ f(z) = f(m ∘ z) for tanh and relu, where f(0) = 0, and not for σ, where it is ½.
#[test]
fn midterm_2_1_masks_move_through_tanh_and_relu_but_not_sigma() {
    let z = uniform::<f32>(5003, 9.0, 1);
    let mut mask = vec![0.0f32; z.len()];
    factors(Keep::inverted(0.5), Place::new(1, Purpose::Dropout, 0, 0), &mut mask);
    mask.iter_mut().for_each(|m| *m = f32::from(u8::from(*m > 0.0)));
    let masked = |x: &[f32]| -> Vec<f32> { x.iter().zip(&mask).map(|(x, m)| x * m).collect() };
    for f in [Activation::Tanh, Activation::Relu, Activation::Sigmoid] {
        let (mut outside, mut inside) = (z.clone(), masked(&z));
        f.apply(&mut outside);
        f.apply(&mut inside);
        let outside = masked(&outside);
        let differ = (0..z.len()).filter(|&i| outside[i] != inside[i]).count();
        let dropped = mask.iter().filter(|m| **m == 0.0).count();
        assert!(dropped > 2000 && dropped < 3000);
        if f == Activation::Sigmoid {
            assert_eq!(differ, dropped, "σ differs wherever a unit is dropped");
            assert!((0..z.len()).filter(|&i| mask[i] == 0.0).all(|i| outside[i] == 0.0 && inside[i] == 0.5));
        } else {
            assert_eq!(differ, 0, "{f:?}");
        }
    }
}

/// A layout of tensors, with uniform values.
fn tensors(shapes: &[(&str, usize, usize)], seed: u64) -> (Arc<Layout>, Vec<TensorId>, Arena<f64>) {
    let mut layout = Layout::default();
    let all = shapes.iter().map(|&(name, rows, columns)| layout.add(name, rows, columns, Role::Weight)).collect();
    let layout = Arc::new(layout);
    let mut w = Arena::zeros(&layout);
    fill_uniform(&mut w, 0.9, seed);
    (layout, all, w)
}

/// A matrix of uniform numbers.
fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    Array2::from_shape_vec((rows, columns), uniform(rows * columns, 0.9, seed)).unwrap()
}

/// ∂L/∂W = xᵀ(∂L/∂h̃ ∘ (1 − h̃²) ∘ m) for h̃ = tanh(m ∘ (xW + b)), and for h̃ = m ∘ tanh(xW + b), which is the same.
#[test]
fn midterm_2_2_gradient_through_a_mask() {
    let _turn = products();
    let (layout, p, w) = tensors(&[("w", 4, 5), ("b", 1, 5)], 2);
    let (x, g) = (matrix(3, 4, 3), matrix(3, 5, 4));
    let m = Array2::from_shape_fn((3, 5), |(i, j)| f64::from(u8::from((i * 5 + j * 3) % 4 != 0)));
    let z = &m * &(x.dot(&w.matrix(p[0])) + w.matrix(p[1]));
    let h = z.mapv(f64::tanh);
    let formula = x.t().dot(&(&g * &(1.0 - &h * &h) * &m));
    for outside in [false, true] {
        let b = Builder::default();
        let dw = {
            let [x, g, m] = [("x", 3, 4), ("g", 3, 5), ("m", 3, 5)].map(|(name, r, c)| b.placeholder(name, r, c));
            let (w, bias) = (b.variable(&layout, p[0]), b.variable(&layout, p[1]));
            let z = x.dot(w) + bias;
            let h = if outside { m * z.tanh() } else { (m * z).tanh() };
            b.gradients((h * g).sum(), &[w])[0].id()
        };
        let graph = b.finish().unwrap();
        let mut session = Session::new(&graph);
        let feed = [("x", &x), ("g", &g), ("m", &m)].map(|(name, x)| (name, Feed::Matrix(x.view())));
        session.run(&graph, &feed, &w, &[dw]).unwrap();
        assert_all_close("∂W", session.value(dw).as_slice().unwrap(), formula.as_slice().unwrap(), 1e-13);
    }
}

/// A matrix of the layout's tensors with one row: a vector.
fn row(x: Array1<f64>) -> Array2<f64> {
    x.insert_axis(Axis(0))
}

fn sigmoid(z: &Array2<f64>) -> Array2<f64> {
    z.mapv(|z| 1.0 / (1.0 + (-z).exp()))
}

/// W is 10 × 5 and b has 10 numbers: 60 parameters, as they are shared.
#[test]
fn midterm_1_3_a_siamese_net_of_sixty_parameters() {
    let config = siamese::Config { words: 4, embed: 5, hidden: 10, loss: siamese::Loss::Source, freeze: true };
    assert_eq!(Siamese::new(config).trained().parameters(), 50 + 10);
}

/// ∇W = δ₃x₁ᵀ + δ₄x₂ᵀ + λW and ∇b = δ₃ + δ₄, and W − α∇W is what a step of gradient descent leaves.
#[test]
fn midterm_1_1_and_1_2_gradients_and_a_step_of_the_siamese_net() {
    let _turn = products();
    let config = siamese::Config { words: 4, embed: 5, hidden: 10, loss: siamese::Loss::Source, freeze: true };
    let net = Siamese::new(config);
    let mut w = Arena::<f64>::zeros(net.layout());
    fill_uniform(&mut w, 0.9, 5);
    let mut g = Gradients::zeros(net.trained(), 0);
    let batch = siamese::Batch { first: &[2], second: &[0], alike: &[1.0] };
    let loss = net.step(&mut g, &mut net.space(1), batch, &w);

    let (weight, bias) = (tensor(&w, "hidden").to_owned(), tensor(&w, "hidden.bias"));
    let [x1, x2] = [2, 0].map(|word| rows(tensor(&w, "embedding"), &[word]));
    let [h1, h2] = [&x1, &x2].map(|x| sigmoid(&(x.dot(&weight) + bias)));
    let apart = &h1 - &h2;
    assert_close("J", loss, 0.5 * apart.mapv(|x| x * x).sum(), 1e-13, 0.0);
    let delta3 = &apart * &h1 * (1.0 - &h1);
    let delta4 = -&apart * &h2 * (1.0 - &h2);
    let dw = x1.t().dot(&delta3) + x2.t().dot(&delta4);
    same(&g.arena, "hidden", &dw);
    same(&g.arena, "hidden.bias", &(&delta3 + &delta4));

    let (rate, lambda) = (0.3, 0.01);
    let descent = Optimizer::new(Rule::Sgd, f64::INFINITY, lambda, net.trained());
    let mut stepper = Stepper::new(w.clone(), g, descent, 0);
    stepper.touch(|_, _| ()).step(|_, (), _| ()).update(rate);
    same(&stepper.w, "hidden", &(&weight - rate * (&dw + lambda * &weight)));
    same(&stepper.w, "hidden.bias", &(&bias - rate * (delta3 + delta4)));
}

/// ∇h₁ = ∇h₂ = W₃ᵀ(ŷ − y) go into both layers, and ∇x is the sum of what comes out below: with the source's N examples, their mean.
#[test]
fn midterm_1_5_gradients_of_the_pseudo_siamese_net() {
    let _turn = products();
    let (words, labels) = (6, 3);
    let net = PseudoSiamese::new(pseudo_siamese::Config {
        words: Some(words),
        embed: 5,
        hidden: 7,
        labels,
        freeze: false,
        dropout_penalty: 0.0,
    });
    let mut w = Arena::<f64>::zeros(net.layout());
    fill_uniform(&mut w, 0.9, 5);
    let (ids, y) = ([4, 1, 2, 5], [2, 0, 1, 1]);
    let n = ids.len();
    let mut g = Gradients::zeros(net.layout(), n);
    let loss = net.step(&mut g, &mut net.space(n), pseudo_siamese::Input::Words(&ids), &y, &w);

    let g = g.dense(net.layout());
    let x = rows(tensor(&w, "embedding"), &ids);
    let z = |name: &str| x.dot(&tensor(&w, name)) + tensor(&w, &format!("{name}.bias"));
    let (h1, z2) = (sigmoid(&z("sigmoid")), z("relu"));
    let h2 = z2.mapv(|z| z.max(0.0));
    // W₃ is kept with a row a label.
    let w3 = tensor(&w, "output");
    let hat = softmax(&((&h1 + &h2).dot(&w3.t()) + tensor(&w, "output.bias")));
    let j = (0..n).map(|i| -hat[[i, y[i] as usize]].ln()).sum::<f64>() / n as f64;
    assert_close("J", loss, j, 1e-13, 0.0);
    let delta1 = (hat - one_hot(&y, labels)) / n as f64;
    let delta2 = delta1.dot(&w3);
    let delta3 = &delta2 * &h1 * (1.0 - &h1);
    let delta4 = &delta2 * z2.mapv(|z| f64::from(u8::from(z > 0.0)));
    let dx = delta3.dot(&tensor(&w, "sigmoid").t()) + delta4.dot(&tensor(&w, "relu").t());
    same(&g, "output", &delta1.t().dot(&(&h1 + &h2)));
    same(&g, "output.bias", &row(delta1.sum_axis(Axis(0))));
    same(&g, "sigmoid", &x.t().dot(&delta3));
    same(&g, "relu", &x.t().dot(&delta4));
    same(&g, "sigmoid.bias", &row(delta3.sum_axis(Axis(0))));
    same(&g, "relu.bias", &row(delta4.sum_axis(Axis(0))));
    let mut table = Array2::<f64>::zeros((words, 5));
    ids.iter().zip(dx.rows()).for_each(|(&id, dx)| table.row_mut(id as usize).assign(&dx));
    same(&g, "embedding", &table);
}

/// A language model without weights takes any word for as likely as another.
fn loss_at_random(words: usize) -> f64 {
    let model = LanguageModel::new(Config { words, embed: 3, hidden: 4, ..Config::default() });
    let w = Arena::<f64>::zeros(model.layout());
    let (inputs, targets): (Vec<u32>, Vec<u32>) =
        (0..24).map(|i| (i * 61 % words as u32, i * 83 % words as u32)).unzip();
    let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
    let mut g = Gradients::zeros(model.layout(), 24);
    model.loss_and_gradient(&mut g, &mut model.space(6, 4), window, no_noise(), &w)
}

/// At random ŷ = 1/|V|, so J = ln |V| and PP = |V|: 7.6009 for 2,000 words and 9.2103 for 10,000. The 3.30 and 4 of the source
/// are base-10 logarithms.
#[test]
fn assignment_3a_loss_at_random_and_erratum_1() {
    let _turn = products();
    for (words, natural, source) in [(2000, 7.6009, 3.30), (10_000, 9.2103, 4.0)] {
        let loss = loss_at_random(words);
        assert_close(words, loss, (words as f64).ln(), 1e-13, 0.0);
        assert_close("perplexity", loss.exp(), words as f64, 1e-12, 0.0);
        assert!((loss - natural).abs() < 5e-5 && (loss - source).abs() > 4.0);
        assert!(((words as f64).log10() - source).abs() < 5e-3, "what the source has is the logarithm of base 10");
    }
}

/// PP = 1/ŷₖ = exp(J), which is not proportional to J; the mean of J is the logarithm of the geometric mean of PP.
#[test]
fn assignment_3a_perplexity_and_erratum_2() {
    let _turn = products();
    let model = LanguageModel::new(Config { words: 13, embed: 3, hidden: 5, ..Config::default() });
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 2.0, 5);
    let ids = |salt: u32| -> Vec<u32> { (0..40).map(|i| (i * i * 7 + i + salt) % 13).collect() };
    let (inputs, targets) = (ids(1), ids(2));
    let mut logs = vec![0.0; 40];
    let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
    model.log_probabilities(&mut logs, &mut model.space(10, 4), window, &w);
    let losses: Vec<f64> = logs.iter().map(|log| -log).collect();
    let perplexities: Vec<f64> = logs.iter().map(|log| 1.0 / log.exp()).collect();
    let exponentials: Vec<f64> = losses.iter().map(|loss| loss.exp()).collect();
    assert_all_close("PP", &perplexities, &exponentials, 1e-12);
    let ratios: Vec<f64> = losses.iter().zip(&perplexities).map(|(j, pp)| pp / j).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
    println!("PP / J is from {least:.2} to {most:.2}");
    assert!(most / least > 2.0, "PP is not proportional to J");
    // Monotone: the order is the same.
    let mut order: Vec<usize> = (0..40).collect();
    order.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]));
    assert!(order.is_sorted_by(|&a, &b| perplexities[a] <= perplexities[b]));
    let mut g = Gradients::zeros(model.layout(), 40);
    let mean = model.loss_and_gradient(&mut g, &mut model.space(10, 4), window, no_noise(), &w);
    assert_close("mean J", mean, perplexities.iter().product::<f64>().powf(1.0 / 40.0).ln(), 1e-12, 0.0);
}

fn softmax(theta: &Array2<f64>) -> Array2<f64> {
    let e = theta.mapv(f64::exp);
    &e / &e.sum_axis(Axis(1)).insert_axis(Axis(1))
}

/// The rows of y that are one-hot.
fn one_hot(y: &[u32], classes: usize) -> Array2<f64> {
    Array2::from_shape_fn((y.len(), classes), |(i, k)| f64::from(u8::from(y[i] as usize == k)))
}

fn rows(table: ArrayView2<f64>, ids: &[u32]) -> Array2<f64> {
    table.select(Axis(0), &ids.iter().map(|&id| id as usize).collect::<Vec<_>>())
}

fn tensor<'a>(arena: &'a Arena<f64>, name: &str) -> ArrayView2<'a, f64> {
    let found = arena.layout().tensors().find(|(_, tensor)| tensor.name == name);
    arena.matrix(found.unwrap_or_else(|| panic!("no {name}")).0)
}

/// A gradient of the model against that of a formula.
fn same(g: &Arena<f64>, name: &str, formula: &Array2<f64>) {
    let own = tensor(g, name);
    assert_eq!(own.dim(), formula.dim(), "{name}");
    assert_all_close(name, own.as_slice().unwrap(), formula.as_standard_layout().as_slice().unwrap(), 1e-12);
}

/// The gradients of the window net as the source writes them, and ∂J/∂L: slices of ∂J/∂x for the words of a window, a word that
/// is there twice getting both, and zero for every other word.
#[test]
fn assignment_2a_gradients_of_the_window_net() {
    let _turn = products();
    let (words, width, window, hidden, labels) = (11, 4, 3, 7, 5);
    let table = ner::Table { name: "embedding".into(), rows: words, width };
    let net = Ner::new(ner::Config { tables: vec![table], window, hidden, labels, objective: ner::Objective::Window });
    let mut w = Arena::<f64>::zeros(net.layout());
    fill_uniform(&mut w, 0.9, 5);
    // The second window holds word 3 twice.
    let (ids, y) = ([0, 3, 5, 3, 5, 3, 5, 3, 8], [2u32, 0, 4]);
    let n = y.len();
    let mut g = Gradients::zeros(net.layout(), ids.len());
    let batch = ner::Batch { inputs: &[ids.to_vec()], ends: &[n] };
    let noise = ner::Noise { keep: Keep::inverted(1.0), seed: 1, step: 0, freeze: false };
    let loss = net.step(&mut g, &mut net.space(n, true), batch, &y, noise, &w);

    let g = g.dense(net.layout());
    let x = rows(tensor(&w, "embedding"), &ids).into_shape_with_order((n, window * width)).unwrap();
    let h = (x.dot(&tensor(&w, "hidden")) + tensor(&w, "hidden.bias")).mapv(f64::tanh);
    // U is kept transposed.
    let u = tensor(&w, "output").t().to_owned();
    let theta = h.dot(&u) + tensor(&w, "output.bias");
    let hat = softmax(&theta);
    let j = (0..n).map(|i| -hat[[i, y[i] as usize]].ln()).sum::<f64>() / n as f64;
    assert_close("J", loss, j, 1e-13, 0.0);
    let delta2 = (hat - one_hot(&y, labels)) / n as f64;
    let delta1 = delta2.dot(&u.t()) * (1.0 - &h * &h);
    let dx = delta1.dot(&tensor(&w, "hidden").t());
    same(&g, "output", &delta2.t().dot(&h));
    same(&g, "output.bias", &row(delta2.sum_axis(Axis(0))));
    same(&g, "hidden", &x.t().dot(&delta1));
    same(&g, "hidden.bias", &row(delta1.sum_axis(Axis(0))));
    let mut dl = Array2::<f64>::zeros((words, width));
    for (place, &id) in ids.iter().enumerate() {
        let from = place % window * width;
        let mut row = dl.row_mut(id as usize);
        row += &dx.slice(s![place / window, from..from + width]);
    }
    same(&g, "embedding", &dl);
    let own = tensor(&g, "embedding");
    for id in 0..words {
        let within = ids.contains(&(id as u32));
        assert_eq!(own.row(id).iter().any(|x| *x != 0.0), within, "∂J/∂L of word {id}, within a window: {within}");
    }
}

/// The gradients of J⁽ᵗ⁾ at the steps t and t − 1 as the source writes them; the model's are their sums over the steps.
#[test]
fn assignment_3b_and_3c_gradients_of_the_recurrent_net() {
    let _turn = products();
    let (words, embed, hidden) = (9, 3, 5);
    let config = Config { words, embed, hidden, cell: Cell::Rnn(Activation::Sigmoid), ..Config::default() };
    let model = LanguageModel::new(config);
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 0.9, 5);
    let (inputs, targets) = ([4, 7], [7, 2]);
    let start: Vec<f64> = (0..hidden).map(|i| 0.1 + 0.17 * i as f64).collect();
    let mut space = model.space(2, 1);
    space.states_mut().for_each(|state| state.copy_from_slice(&start));
    let mut g = Gradients::zeros(model.layout(), 2);
    // Only the loss of the second step counts: J⁽ᵗ⁾.
    let window = Window { inputs: &inputs, targets: &targets, loss_from: 1 };
    let loss = model.loss_and_gradient(&mut g, &mut space, window, no_noise(), &w);

    let g = g.dense(model.layout());
    let [table, input, recurrent, b1] =
        ["embedding", "layer0.input", "layer0.recurrent", "layer0.bias"].map(|name| tensor(&w, name));
    let (u, b2) = (tensor(&w, "output").reversed_axes(), tensor(&w, "output.bias"));
    let step = |before: &Array2<f64>, word: u32| {
        let e = rows(table, &[word]);
        let z = before.dot(&recurrent) + e.dot(&input) + b1;
        (e, z.mapv(|z| 1.0 / (1.0 + (-z).exp())))
    };
    let h0 = Array2::from_shape_vec((1, hidden), start).unwrap();
    let (e1, h1) = step(&h0, inputs[0]);
    let (e2, h2) = step(&h1, inputs[1]);
    let hat = softmax(&(h2.dot(&u) + b2));
    assert_close("J", loss, -hat[[0, targets[1] as usize]].ln(), 1e-13, 0.0);
    let error = hat - one_hot(&targets[1..], words);
    let at_t = (1.0 - &h2) * &h2 * error.dot(&u.t());
    // δ⁽ᵗ⁻¹⁾ = ∂J⁽ᵗ⁾/∂h⁽ᵗ⁻¹⁾
    let at_before = (1.0 - &h1) * &h1 * at_t.dot(&recurrent.t());
    same(&g, "output", &error.t().dot(&h2));
    same(&g, "output.bias", &error);
    same(&g, "layer0.input", &(e2.t().dot(&at_t) + e1.t().dot(&at_before)));
    same(&g, "layer0.recurrent", &(h1.t().dot(&at_t) + h0.t().dot(&at_before)));
    same(&g, "layer0.bias", &(&at_t + &at_before));
    let mut dl = Array2::<f64>::zeros((words, embed));
    dl.row_mut(inputs[1] as usize).assign(&at_t.dot(&input.t()).row(0));
    dl.row_mut(inputs[0] as usize).assign(&at_before.dot(&input.t()).row(0));
    same(&g, "embedding", &dl);
}

/// z → 0 keeps the state of a GRU; z → 1 with r → 0 drops it: what comes depends on the input only.
#[test]
fn midterm_3_2_and_3_3_gates_of_a_gru() {
    let units = 6;
    let state =
        |salt: usize| -> Vec<f64> { (0..units).map(|i| ((i * 5 + salt * 7) % 11) as f64 / 6.0 - 0.9).collect() };
    // [q | r | z | n]: products with the state and the input.
    let step = |before: &[f64], reset: f64, update: f64, input: f64| {
        let mut a: Vec<f64> = before.iter().map(|x| 2.0 * x).collect();
        a.extend([reset, update, input].into_iter().flat_map(|x| (0..units).map(move |i| x + 0.01 * i as f64)));
        let mut h = vec![0.0; units];
        gates::gru(&mut h, &mut a, before, units);
        h
    };
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    let (one, other) = (state(1), state(2));
    assert!(far(&step(&one, 0.3, -40.0, 0.7), &one) < 1e-15, "z = 0: the state stays");
    assert!(far(&step(&one, -40.0, 40.0, 0.7), &step(&other, -40.0, 40.0, 0.7)) < 1e-15, "z = 1, r = 0: it is dropped");
    assert!(far(&step(&one, -40.0, 40.0, 0.7), &step(&one, -40.0, 40.0, -0.7)) > 0.5, "and the input is what counts");
    assert!(far(&step(&one, 40.0, 40.0, 0.7), &step(&other, 40.0, 40.0, 0.7)) > 0.1, "z = 1, r = 1: it is used");
}

/// Multiply-adds of products, by the part of a step that they belong to.
struct MultiplyAdds([usize; Part::ALL.len()]);

impl MultiplyAdds {
    /// All in `work`.
    fn count(work: impl FnOnce()) -> Self {
        profile::start();
        work();
        let profile = profile::finish().expect("it was started");
        MultiplyAdds(profile.totals.map(|total| total.flop as usize / 2))
    }

    fn of(&self, part: Part) -> usize {
        self.0[part as usize]
    }
}

/// A step of a language model of V words, B lanes, T steps: its products by part.
fn counted(config: Config, steps: usize, lanes: usize, loss_from: usize) -> MultiplyAdds {
    let model = LanguageModel::new(config);
    let mut w = Arena::<f32>::zeros(model.layout());
    fill_uniform(&mut w, 0.1, 1);
    let words = model.config().words;
    let ids: Vec<u32> = (0..steps * lanes).map(|i| (i * i * 7 % words) as u32).collect();
    let (mut space, mut g) = (model.space(steps, lanes), Gradients::zeros(model.layout(), ids.len()));
    let window = Window { inputs: &ids, targets: &ids, loss_from };
    MultiplyAdds::count(|| _ = model.loss_and_gradient(&mut g, &mut space, window, no_noise(), &w))
}

/// A product of A × B and B × C takes A·B·C multiply-adds: with them counted where they are made, the passes of every model take
/// what their formulas say, to the last one. A forward pass is O(dH + H²) a token and O(H|V|) a target, a backward pass
/// O(H|V|) a target and τ·O(H² + dH).
#[test]
fn assignment_3d_multiply_adds_are_those_of_the_formulas() {
    let _turn = products();
    // Tokens in sixteens: then the vocabulary's products have no padding.
    let (words, d, h, steps, lanes) = (104, 6, 10, 4, 16);
    let config = |cell, layers| Config { words, embed: d, hidden: h, cell, layers, ..Config::default() };
    for (cell, gates) in [(Cell::Rnn(Activation::Tanh), 1), (Cell::Gru, 3), (Cell::Lstm, 4)] {
        for layers in [1, 2] {
            for loss_from in [0, steps - 1] {
                let made = counted(config(cell, layers), steps, lanes, loss_from);
                let (tokens, targets) = (steps * lanes, (steps - loss_from) * lanes);
                let inputs = d + (layers - 1) * h;
                let forward = tokens * gates * h * (inputs + layers * h);
                assert_eq!(made.of(Part::Forward), forward, "{cell:?} forward");
                // ∂W and ∂x, ∂U, and what goes back to the step before, which the first does not do.
                let back = (steps - 1) * lanes * gates * layers * h * h;
                assert_eq!(made.of(Part::Backward), forward + tokens * gates * h * inputs + back, "{cell:?} backward");
                assert_eq!(made.of(Part::Logits), targets * h * words, "forward through the vocabulary");
                assert_eq!(made.of(Part::Gradients), 2 * targets * h * words, "∂U and ∂h");
            }
        }
    }
    let layers = 3;
    for (unit, width, own) in [(Unit::Tanh, h, 0), (Unit::Gru, 3 * h, 2 * h)] {
        let made = counted(config(Cell::GatedFeedback(unit), layers), steps, lanes, 0);
        let (tokens, inputs, sent) = (steps * lanes, d + (layers - 1) * h, layers * h + own);
        // xW, x w_g; h*U and h* u_g.
        let (below, before) = (inputs * (width + layers), layers * h * (sent + layers * layers));
        assert_eq!(made.of(Part::Forward), tokens * (below + before), "{unit:?} forward");
        let back = (steps - 1) * lanes * before;
        assert_eq!(made.of(Part::Backward), tokens * (2 * below + before) + back, "{unit:?} backward");
    }

    let (window, width, labels, n) = (3, 5, 4, 70);
    let table = ner::Table { name: "embedding".into(), rows: 9, width };
    let net =
        Ner::new(ner::Config { tables: vec![table], window, hidden: h, labels, objective: ner::Objective::Window });
    let mut w = Arena::<f32>::zeros(net.layout());
    fill_uniform(&mut w, 0.1, 1);
    let (mut space, mut g) = (net.space(n, true), Gradients::zeros(net.layout(), n * window));
    let (ids, y) = (vec![(0..n * window).map(|i| i as u32 % 9).collect::<Vec<u32>>()], vec![1; n]);
    let noise = ner::Noise { keep: Keep::inverted(1.0), seed: 1, step: 0, freeze: false };
    let made = MultiplyAdds::count(|| {
        _ = net.step(&mut g, &mut space, ner::Batch { inputs: &ids, ends: &[n] }, &y, noise, &w)
    });
    // Forward, the gradients of the weights, and those of their inputs.
    assert_eq!(made.of(Part::Net), 3 * n * (window * width * h + h * labels), "window net");
}

/// The forward cost of a step is O(H² + dH): twice the width of word vectors makes the product with I twice as dear, where the
/// O(d²H) of the source would make it four times so.
#[test]
fn erratum_3_the_forward_pass_is_linear_in_the_width_of_word_vectors() {
    let _turn = products();
    let forward = |embed: usize| {
        counted(Config { words: 24, embed, hidden: 10, ..Config::default() }, 4, 16, 0).of(Part::Forward) / 64 - 10 * 10
    };
    assert_eq!([8, 16, 32].map(forward), [8 * 10, 16 * 10, 32 * 10]);
}

/// Loss, gradients of the nine gates and of the states of the last step: of three layers of tanh units, unrolled from a state
/// that is not zero, under gates that are the same in all steps, as the source has them.
struct Feedback {
    w: Arena<f64>,
    handles: Vec<TensorId>,
    states: Vec<Vec<Array1<f64>>>,
    dgates: Array2<f64>,
    dstates: Vec<Array1<f64>>,
}

const LAYERS: usize = 3;
const UNITS: usize = 4;

impl Feedback {
    fn u(&self, i: usize, j: usize) -> ArrayView2<'_, f64> {
        self.w.matrix(self.handles[1 + i * LAYERS + j])
    }

    fn run(steps: usize) -> Feedback {
        let names: Vec<String> = (0..LAYERS * LAYERS).map(|ij| format!("u{ij}")).collect();
        let mut shapes = vec![("g", LAYERS, LAYERS)];
        shapes.extend(names.iter().map(|name| (name.as_str(), UNITS, UNITS)));
        shapes.extend([
            ("w0", 2, UNITS),
            ("w1", UNITS, UNITS),
            ("w2", UNITS, UNITS),
            ("start", LAYERS, UNITS),
            ("out", UNITS, 1),
        ]);
        let (layout, handles, w) = tensors(&shapes, 7);
        let b = Builder::default();
        let (dgates, states, dstates) = {
            let v: Vec<Node> = handles.iter().map(|&p| b.variable(&layout, p)).collect();
            let (inputs, start, out) = (&v[10..13], v[13], v[14]);
            let mut h: Vec<Node> = (0..LAYERS).map(|j| start.rows(j..j + 1)).collect();
            let mut states = vec![h.clone()];
            for t in 0..steps {
                let before = h.clone();
                let mut x = b.fill(0.3 + 0.2 * t as f64, (1, 2));
                for (j, &input) in inputs.iter().enumerate() {
                    let sent = |i: usize| v[0].rows(i..i + 1).columns(j..j + 1) * before[i].dot(v[1 + i * LAYERS + j]);
                    h[j] = (x.dot(input) + sent(0) + sent(1) + sent(2)).tanh();
                    x = h[j];
                }
                states.push(h.clone());
            }
            let wanted = [&v[..1], &h[..]].concat();
            let gradients: Vec<Id> =
                b.gradients(h[LAYERS - 1].dot(out), &wanted).iter().map(|node| node.id()).collect();
            let ids = |h: &Vec<Node>| h.iter().map(|node| node.id()).collect::<Vec<Id>>();
            (gradients[0], states.iter().map(ids).collect::<Vec<_>>(), gradients[1..].to_vec())
        };
        let graph = b.finish().unwrap();
        let mut session = Session::new(&graph);
        let fetches: Vec<Id> = states.iter().flatten().chain([&dgates]).chain(&dstates).copied().collect();
        session.run(&graph, &[], &w, &fetches).unwrap();
        let row = |id: &Id| session.value(*id).row(0).to_owned();
        Feedback {
            states: states.iter().map(|h| h.iter().map(row).collect()).collect(),
            dgates: session.value(dgates).to_owned(),
            dstates: dstates.iter().map(row).collect(),
            w,
            handles,
        }
    }

    /// ∂J/∂gⁱʲ = (∂J/∂hⱼ ∘ (1 − hⱼ²)) · (hᵢU + gʲʲ U ∂hⱼ₋/∂gⁱʲ), with the source's 0 for how the other layers' states depend on it.
    fn source(&self, i: usize, j: usize) -> f64 {
        let g = self.w.matrix(self.handles[0]);
        let mut dh = Array1::<f64>::zeros(UNITS);
        for t in 1..self.states.len() {
            let h = &self.states[t][j];
            let through = self.states[t - 1][i].dot(&self.u(i, j)) + g[[j, j]] * dh.dot(&self.u(j, j));
            dh = through * (1.0 - h * h);
        }
        self.dstates[j].dot(&dh)
    }
}

/// The source's gradient of a gate leaves out how the states of other layers depend on it: for one step that is right, for
/// six it is not. (The gates of the library are functions of t; tests/gradcheck.rs proves their gradients.)
#[test]
fn midterm_3_4_gradient_of_a_gate_and_erratum_4() {
    let _turn = products();
    let error = |steps: usize| {
        let net = Feedback::run(steps);
        let source = Array2::from_shape_fn((LAYERS, LAYERS), |(i, j)| net.source(i, j));
        ((&source - &net.dgates).mapv(|x| x * x).sum() / net.dgates.mapv(|x| x * x).sum()).sqrt()
    };
    let (one, six) = (error(1), error(6));
    println!("the source's gradient of the gates errs by {one:.1e} for one step, {six:.2} for six");
    assert!(one < 1e-13 && six > 0.1, "{one:e} {six}");
}

/// With masks that are not scaled, the mean over all masks is m_keep times what the units give without one: so at test time they
/// have to be scaled by it, which the source leaves out; inverted dropout scales in training instead.
#[test]
fn erratum_5_unscaled_dropout_is_scaled_at_test_time() {
    let (h, u) = (array![0.3, -0.8, 1.2, 0.5, -0.1, 0.9], array![1.1, 0.4, -0.7, 0.2, 0.9, -1.3]);
    let keep = 0.7f64;
    let expected = |scale: f64| -> f64 {
        (0..1u32 << h.len())
            .map(|mask| {
                let kept = mask.count_ones() as i32;
                let probability = keep.powi(kept) * (1.0 - keep).powi(h.len() as i32 - kept);
                let sum = (0..h.len()).filter(|i| mask >> i & 1 == 1).map(|i| u[i] * h[i] * scale).sum::<f64>();
                probability * sum
            })
            .sum()
    };
    let whole = u.dot(&h);
    assert_close("unscaled", expected(1.0), keep * whole, 1e-14, 0.0);
    assert_close("inverted", expected(1.0 / keep), whole, 1e-14, 0.0);
    // The library's masks: values, their mean, and the factor at test time.
    let n = 200_000;
    for (keep, value, at_test) in [(Keep::unscaled(0.7), 1.0, 0.7), (Keep::inverted(0.7), 1.0 / 0.7, 1.0)] {
        let masks = Masks { training: Some((keep, 1, 0)), at_test: 1.0, variational: false, shard: 0 };
        let mut x = vec![1.0f64; n];
        masks.apply(0, n, &mut x);
        assert!(x.iter().all(|&x| x == 0.0 || (x - value).abs() < 1e-9));
        let mean = x.iter().sum::<f64>() / n as f64;
        let mut test = vec![1.0];
        Masks { training: None, at_test, ..masks }.apply(0, 1, &mut test);
        // Five standard deviations.
        assert!((mean - test[0]).abs() < 5.0 * value * (0.7f64 * 0.3 / n as f64).sqrt(), "{mean} {test:?}");
    }
}

/// What a row of docs/claims.md names in its column of tests: `tests/file.rs::name` or `src/file.rs::name`.
fn named(row: &str) -> Vec<(String, String)> {
    let quoted = row.split('`').skip(1).step_by(2);
    let tests =
        quoted.filter_map(|text| text.split_once(".rs::").map(|(file, name)| (format!("{file}.rs"), name.to_owned())));
    tests.collect()
}

/// Whether a file has a test of that name.
fn has_test(file: &str, name: &str) -> bool {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
    let mut attributes = String::new();
    source.lines().map(str::trim).any(|line| {
        if line.starts_with("#[") {
            attributes += line;
            return false;
        }
        let is_test = attributes.contains("#[test]");
        attributes.clear();
        is_test && line.starts_with(&format!("fn {name}("))
    })
}

/// Every row of the tables names tests, and all of them are there.
#[test]
fn every_claim_names_a_test_that_is_there() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/claims.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #"));
    let mut missing = Vec::new();
    let mut count = 0;
    for row in rows {
        count += 1;
        let tests = named(row);
        if tests.is_empty() {
            missing.push(format!("no test: {row}"));
        }
        missing.extend(
            tests.iter().filter(|(file, name)| !has_test(file, name)).map(|(file, name)| format!("{file}::{name}")),
        );
    }
    assert!(count > 40, "only {count} rows are found");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// The check above can fail.
#[test]
fn names_of_tests_are_looked_up() {
    let row = "| 1 | x | `src/graph` | `tests/claims.rs::names_of_tests_are_looked_up`, `tests/claims.rs::named` | |";
    let found: Vec<bool> = named(row).iter().map(|(file, name)| has_test(file, name)).collect();
    assert_eq!(found, [true, false]);
    assert!(!has_test("tests/none.rs", "names_of_tests_are_looked_up"));
}
