//! Siamese and pseudo-Siamese nets: gradients against finite differences and PyTorch (fixtures/torch/make_pairs.py),
//! the collapse of the source's loss, the penalty of dropout, and the commands.

mod common;

use common::{assert_all_close, assert_close, check_gradient, fill_uniform, hash, uniform, widened};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use wordmill::Real;
use wordmill::layers::losses::DropoutPenalty;
use wordmill::models::pseudo_siamese::{Input, PseudoSiamese};
use wordmill::models::siamese::{Batch, Loss, Siamese};
use wordmill::models::{Init, SoftmaxRegression, pseudo_siamese, siamese, softmax_regression};
use wordmill::params::{Arena, Gradients};
use wordmill::sys::memory::Room;
use wordmill::text::ranking::roc;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

type Tensors = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Sizes {
    words: usize,
    embed: usize,
    hidden: usize,
    labels: usize,
}

#[derive(Deserialize)]
struct Case {
    weights: Tensors,
    loss: f64,
    gradients: Tensors,
}

#[derive(Deserialize)]
struct Fixture {
    sizes: Sizes,
    first: Vec<u32>,
    second: Vec<u32>,
    alike: Vec<f32>,
    targets: Vec<u32>,
    margin: f64,
    contrastive: Case,
    source: Case,
    pseudo_siamese: Case,
}

fn fixture() -> Fixture {
    let path = format!("{}/tests/fixtures/torch/pairs.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn put<R: Real>(w: &mut Arena<R>, tensors: &Tensors) {
    let layout = w.layout().clone();
    assert_eq!(layout.tensors().count(), tensors.len());
    for (p, tensor) in layout.tensors() {
        let values = &tensors[&tensor.name];
        assert_eq!(values.len(), tensor.rows * tensor.columns, "{}", tensor.name);
        w.slice_mut(p).iter_mut().zip(values).for_each(|(x, &value)| *x = R::of(value));
    }
}

fn compare<R: Real>(case: &Case, loss: f64, gradient: &Arena<R>, tolerance: f64) {
    assert_close("loss", loss, case.loss, tolerance, 0.1);
    for (p, tensor) in gradient.layout().tensors() {
        let got = widened(gradient.slice(p));
        assert_all_close(&tensor.name, &got, &case.gradients[&tensor.name], tolerance);
    }
}

fn against_pytorch<R: Real>(tolerance: f64) {
    let f = fixture();
    let Sizes { words, embed, hidden, labels } = f.sizes;
    let batch = Batch { first: &f.first, second: &f.second, alike: &f.alike };
    for (case, loss) in [(&f.contrastive, Loss::Contrastive { margin: f.margin }), (&f.source, Loss::Source)] {
        let net = Siamese::new(siamese::Config { words, embed, hidden, loss, freeze: false });
        let mut w = Arena::<R>::zeros(net.layout());
        put(&mut w, &case.weights);
        let mut g = Gradients::zeros(net.trained(), 2 * f.first.len());
        let loss = net.step(&mut g, &mut net.space(f.first.len()), batch, &w);
        compare(case, loss, &g.dense(net.trained()), tolerance);
    }
    let config =
        pseudo_siamese::Config { words: Some(words), embed, hidden, labels, freeze: false, dropout_penalty: 0.0 };
    let net = PseudoSiamese::new(config);
    let mut w = Arena::<R>::zeros(net.layout());
    put(&mut w, &f.pseudo_siamese.weights);
    let mut g = Gradients::zeros(net.trained(), f.first.len());
    let loss = net.step(&mut g, &mut net.space(f.first.len()), Input::Words(&f.first), &f.targets, &w);
    compare(&f.pseudo_siamese, loss, &g.dense(net.trained()), tolerance);
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    against_pytorch::<f64>(1e-11);
    against_pytorch::<f32>(2e-4);
}

/// Several shards, words that come again and beside themselves, grades.
fn pairs(n: usize, words: usize) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
    let id = |i: usize, by: usize| ((i * i * by + i / 3) % (words - 1)) as u32;
    let first = (0..n).map(|i| id(i, 5)).collect();
    let second = (0..n).map(|i| id(i, 7)).collect();
    (first, second, (0..n).map(|i| [0.0, 1.0, 0.0, 0.25][i % 4]).collect())
}

#[test]
fn gradients_of_the_siamese_net() {
    let (n, words) = (siamese::SHARD + 13, 23);
    let (first, second, alike) = pairs(n, words);
    let batch = Batch { first: &first, second: &second, alike: &alike };
    for loss in [Loss::Contrastive { margin: 0.9 }, Loss::Source] {
        let net = |freeze| Siamese::new(siamese::Config { words, embed: 5, hidden: 7, loss, freeze });
        let trained = net(false);
        let mut w = Arena::<f64>::zeros(trained.layout());
        fill_uniform(&mut w, 0.9, 5);
        let mut space = trained.space(n);
        let mut g = Gradients::zeros(trained.trained(), 2 * n);
        trained.step(&mut g, &mut space, batch, &w);
        let gradient = g.dense(trained.trained());
        check_gradient(&gradient, &w, 1e-6, |w| {
            g.clear_tables();
            trained.step(&mut g, &mut space, batch, w)
        });
        // Where vectors stay as they are, the other gradients are the same.
        let frozen = net(true);
        let mut g = Gradients::zeros(frozen.trained(), 0);
        frozen.step(&mut g, &mut frozen.space(n), batch, &w);
        assert_eq!(frozen.trained().tensors().count(), 2);
        assert!(g.arena.all() == &gradient.all()[..g.arena.all().len()]);
    }
}

#[test]
fn gradients_of_the_pseudo_siamese_net() {
    let (n, words, labels) = (pseudo_siamese::SHARD + 9, 19, 4);
    let (ids, targets) = (pairs(n, words).0, (0..n).map(|i| ((i * 7 + i / 3) % labels) as u32).collect::<Vec<u32>>());
    for dropout_penalty in [0.0, 0.3] {
        let config =
            |words, freeze| pseudo_siamese::Config { words, embed: 5, hidden: 7, labels, freeze, dropout_penalty };
        let (net, ids) = (PseudoSiamese::new(config(Some(words), false)), Input::Words(&ids));
        let mut w = Arena::<f64>::zeros(net.layout());
        fill_uniform(&mut w, 0.9, 5);
        let mut space = net.space(n);
        let mut g = Gradients::zeros(net.trained(), n);
        let loss = net.step(&mut g, &mut space, ids, &targets, &w);
        let gradient = g.dense(net.trained());
        check_gradient(&gradient, &w, 1e-6, |w| {
            g.clear_tables();
            net.step(&mut g, &mut space, ids, &targets, w)
        });
        let frozen = PseudoSiamese::new(config(Some(words), true));
        let mut g = Gradients::zeros(frozen.trained(), 0);
        frozen.step(&mut g, &mut frozen.space(n), ids, &targets, &w);
        assert!(g.arena.all() == &gradient.all()[..g.arena.all().len()]);
        // Rows of numbers that are the words' vectors are seen as the words are.
        let of_rows = PseudoSiamese::new(config(None, true));
        let (mut g, mut v) = (Gradients::zeros(of_rows.trained(), 0), Arena::zeros(of_rows.layout()));
        let dense = v.all().len();
        v.all_mut().copy_from_slice(&w.all()[..dense]);
        let Input::Words(numbers) = ids else { unreachable!() };
        let rows = Input::Rows(numbers, w.slice(net.words().unwrap()));
        assert_eq!(of_rows.step(&mut g, &mut of_rows.space(n), rows, &targets, &v), loss);
        assert!(g.arena.all() == &gradient.all()[..dense]);
        assert_eq!(of_rows.probabilities(rows, &v), net.probabilities(ids, &w));
        // What is predicted is what is learnt: the loss without the penalty is that of the probabilities.
        if dropout_penalty == 0.0 {
            let y = net.probabilities(ids, &w);
            let loss = -y.chunks_exact(labels).zip(&targets).map(|(y, &k)| y[k as usize].ln()).sum::<f64>() / n as f64;
            assert_close("loss", loss, net.step(&mut g_of(&net, n), &mut space, ids, &targets, &w), 1e-12, 0.1);
        }
    }
}

fn g_of(net: &PseudoSiamese, n: usize) -> Gradients<f64> {
    Gradients::zeros(net.trained(), n)
}

/// Words of two kinds, whose vectors differ in the mean, and all pairs of them.
fn two_kinds(words: usize) -> (Vec<f32>, [Vec<u32>; 2], Vec<f32>) {
    const D: usize = 6;
    let mut vectors = uniform::<f32>(words * D, 1.0, 3);
    for (word, row) in vectors.chunks_exact_mut(D).enumerate() {
        row[0] += if word % 2 == 0 { 0.8 } else { -0.8 };
    }
    let all = (0..words as u32).flat_map(|i| (0..i).map(move |j| (i, j)));
    let (first, second): (Vec<u32>, Vec<u32>) = all.unzip();
    let alike = first.iter().zip(&second).map(|(i, j)| if (i + j) % 2 == 0 { 1.0 } else { 0.0 }).collect();
    (vectors, [first, second], alike)
}

/// The mean distance of the pairs, and how well distances tell those that are alike.
fn trained_on(loss: Loss, steps: u64) -> (f64, f64) {
    let words = 24;
    let (vectors, [first, second], alike) = two_kinds(words);
    let net = Siamese::new(siamese::Config { words, embed: 6, hidden: 10, loss, freeze: true });
    let mut w = Arena::<f32>::zeros(net.layout());
    Init::Xavier.fill(&mut w, 1);
    w.slice_mut(net.words()).copy_from_slice(&vectors);
    let mut space = net.space(first.len());
    // λ/2 ‖W‖² is part of the source's loss.
    let sgd = Optimizer::new(Rule::Sgd, f64::INFINITY, 0.02, net.trained()).lazy();
    let mut stepper = Stepper::new(w, Gradients::zeros(net.trained(), 0), sgd, 0);
    for _ in 0..steps {
        let batch = Batch { first: &first, second: &second, alike: &alike };
        stepper.touch(|_, _| ()).step(|g, (), w| net.step(g, &mut space, batch, w)).update(1.0);
    }
    let distances = widened(&net.distances(&first, &second, &stepper.w));
    let alike: Vec<bool> = alike.iter().map(|&y| y == 1.0).collect();
    (distances.iter().sum::<f64>() / distances.len() as f64, roc(&distances, &alike).unwrap().auc)
}

/// The loss of the source makes all words one; with pairs that are not alike, they part by kind.
#[test]
fn the_source_loss_alone_collapses() {
    let (before, auc_before) = trained_on(Loss::Source, 0);
    let (distance, auc) = trained_on(Loss::Source, 2000);
    println!("source: mean distance {before:.4}, AUC {auc_before:.4} at first, {distance:.2e}, {auc:.4} in the end");
    assert!(before > 0.1 && distance < 1e-6 * before, "{before} {distance}");
    assert!((auc - 0.5).abs() < 0.05, "{auc}");
    let (distance, auc) = trained_on(Loss::Contrastive { margin: 1.0 }, 2000);
    println!("contrastive: mean distance {distance:.4}, AUC {auc:.4}");
    assert!(distance > 0.3 && auc > 0.9, "{distance} {auc}");
}

/// All masks of `d` inputs, each kept with probability 1 − p and then scaled by 1/(1 − p): probability and factors.
fn masks(d: usize, p: f64) -> impl Iterator<Item = (f64, Vec<f64>)> {
    (0..1usize << d).map(move |mask| {
        let kept: Vec<f64> = (0..d).map(|j| if mask >> j & 1 == 1 { 1.0 / (1.0 - p) } else { 0.0 }).collect();
        let count = mask.count_ones() as i32;
        ((1.0 - p).powi(count) * p.powi(d as i32 - count), kept)
    })
}

/// Σ over masks of what dropout adds to `loss`, a function of x, on average.
fn enumerated(x: &[f64], p: f64, loss: impl Fn(&[f64]) -> f64) -> f64 {
    let masked = |kept: Vec<f64>| loss(&x.iter().zip(kept).map(|(x, m)| x * m).collect::<Vec<_>>());
    masks(x.len(), p).map(|(probability, kept)| probability * masked(kept)).sum::<f64>() - loss(x)
}

/// R = ½ q Σⱼ xⱼ² uⱼᵀCuⱼ for the curvature C of the loss in θ = Ux.
fn quadratic(x: &[f64], u: &[f64], curvature: &dyn Fn(usize, usize) -> f64, p: f64) -> f64 {
    let (d, k) = (x.len(), u.len() / x.len());
    let form = |j: usize| {
        let pairs = (0..k).flat_map(|a| (0..k).map(move |b| (a, b)));
        pairs.map(|(a, b)| u[a * d + j] * curvature(a, b) * u[b * d + j]).sum::<f64>()
    };
    0.5 * p / (1.0 - p) * (0..d).map(|j| x[j] * x[j] * form(j)).sum::<f64>()
}

/// What the penalty adds to the loss of a softmax regression on one example, u: [K, D].
fn penalty_of_softmax_regression(x: &[f64], u: &[f64], bias: &[f64], class: u32, dropout_penalty: f64) -> f64 {
    let (features, classes) = (x.len(), bias.len());
    let net = SoftmaxRegression::new(softmax_regression::Config { features, classes, dropout_penalty });
    let mut w = Arena::<f64>::zeros(net.layout());
    let tensors: Vec<_> = net.layout().tensors().map(|(p, _)| p).collect();
    w.matrix_mut(tensors[0]).assign(&ndarray::ArrayView2::from_shape((classes, features), u).unwrap().t());
    w.slice_mut(tensors[1]).copy_from_slice(bias);
    let (mut g, mut space) = (Gradients::zeros(net.layout(), 0), net.space(1));
    let x = ndarray::ArrayView2::from_shape((1, features), x).unwrap();
    net.step(&mut g, &mut space, x, &[class], &w) - net.scores(&mut space, x, &[class], &w).1
}

#[test]
fn the_penalty_is_what_all_masks_cost() {
    for (d, k, p) in [(12, 3, 0.5), (9, 2, 0.2), (11, 5, 0.35)] {
        let (x, u) = (uniform::<f64>(d, 1.0, 1), uniform::<f64>(k * d, 1.0, 2));
        // Linear regression, one output: the loss is ½(y − xβ)², and the penalty exact.
        let beta = &u[..d];
        let squared = |x: &[f64]| 0.5 * (0.7 - x.iter().zip(beta).map(|(x, b)| x * b).sum::<f64>()).powi(2);
        let linear = quadratic(&x, beta, &|_, _| 1.0, p);
        assert_close("linear regression", enumerated(&x, p, squared), linear, 1e-12, 1e-3);

        // The softmax: to second order, so that the error of ever smaller weights falls faster than the penalty.
        let mut errors = Vec::new();
        for shrink in [1.0, 0.1, 0.01] {
            let u: Vec<f64> = u.iter().map(|u| u * shrink).collect();
            let bias = uniform::<f64>(k, 1.0, 3);
            let theta = |x: &[f64]| -> Vec<f64> {
                (0..k).map(|a| bias[a] + x.iter().zip(&u[a * d..]).map(|(x, u)| x * u).sum::<f64>()).collect()
            };
            let log_sum = |x: &[f64]| theta(x).iter().map(|t| t.exp()).sum::<f64>().ln();
            // y is linear in θ and costs nothing on average.
            let cost = enumerated(&x, p, log_sum);
            let y: Vec<f64> = theta(&x).iter().map(|t| (t - log_sum(&x)).exp()).collect();
            let by_hand = quadratic(&x, &u, &|a, b| if a == b { y[a] - y[a] * y[a] } else { -y[a] * y[b] }, p);
            // The layer, from what the softmax leaves: ŷ − y, twice the same row at a scale.
            let target = k as u32 - 1;
            let mut delta: Vec<f64> = y.iter().map(|y| 0.25 * y).collect();
            delta[k - 1] -= 0.25;
            let (mut delta, x2) = ([delta.clone(), delta].concat(), [x.clone(), x.clone()].concat());
            let mut penalty = Room::make(|room| DropoutPenalty::new(room, 2, d, k, p));
            let weights = ndarray::ArrayView2::from_shape((k, d), &u).unwrap();
            let found = penalty.loss(&mut delta, &mut vec![0.0; k], &x2, &[target; 2], 0.25, weights);
            assert_close("the layer", 0.5 * found, by_hand, 1e-9, 1e-9);
            let of_graph = penalty_of_softmax_regression(&x, &u, &bias, target, p);
            assert_close("softmax regression", of_graph, by_hand, 1e-9, 1e-9);
            if k == 2 {
                // Of a logistic regression with β = u₁ − u₀: ½ q ŷ(1 − ŷ) Σ xⱼ² βⱼ².
                let squares: f64 = (0..d).map(|j| (x[j] * (u[d + j] - u[j])).powi(2)).sum();
                assert_close("logistic", by_hand, 0.5 * p / (1.0 - p) * y[0] * y[1] * squares, 1e-12, 1e-9);
            }
            errors.push((cost - by_hand).abs() / by_hand);
        }
        println!("{d} inputs, {k} labels, p {p}: relative errors {errors:?} as the weights shrink");
        assert!(errors[0] < 0.5 && errors[1] < 0.2 * errors[0] && errors[2] < 0.2 * errors[1], "{errors:?}");
    }
}

/// The least value of a convex function of one number, by thirds.
fn minimiser(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-50.0, 50.0);
    for _ in 0..400 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if f(a) < f(b) { high = b } else { low = a }
    }
    0.5 * (low + high)
}

/// Each update is where J + ∇Jᵀ(w − wₜ) + (w − wₜ)²·metric/(2α) + λ₁|w| + λ₂w²/2 is least: SGD with the metric 1,
/// Adagrad with √Σg² + ε.
#[test]
fn updates_minimise_what_they_stand_for() {
    let net = Siamese::new(siamese::Config { words: 3, embed: 4, hidden: 5, loss: Loss::Source, freeze: true });
    let rate = 0.3;
    for rule in [Rule::Sgd, Rule::Adagrad] {
        for [l1, l2] in [[0.0, 0.0], [0.4, 0.0], [0.0, 0.7], [0.4, 0.7]] {
            let optimizer = Optimizer::<f64>::new(rule, f64::INFINITY, 0.0, net.trained()).lazy().proximal(l1, l2);
            let mut w = Arena::zeros(net.layout());
            fill_uniform(&mut w, 0.5, 4);
            let mut stepper = Stepper::new(w, Gradients::zeros(net.trained(), 0), optimizer, 0);
            let mut sums = vec![0.0; net.trained().len()];
            let mut zeros = 0;
            for step in 1..=3 {
                let before = stepper.w.clone();
                let step = stepper.touch(|_, _| ()).step(|g, (), _| {
                    fill_uniform(&mut g.arena, 1.0, 10 + step);
                    g.arena.clone()
                });
                let gradient = step.update(rate).outcome;
                for (p, tensor) in net.trained().tensors() {
                    let weight = tensor.name == "hidden";
                    let [l1, l2] = if weight { [l1, l2] } else { [0.0, 0.0] };
                    for (i, at) in tensor.range().enumerate() {
                        let (now, was, g) = (stepper.w.slice(p)[i], before.slice(p)[i], gradient.slice(p)[i]);
                        sums[at] += g * g;
                        let metric: f64 = if rule == Rule::Sgd { 1.0 } else { f64::sqrt(sums[at]) + 1e-8 };
                        let model = |x: f64| {
                            let moved = x - was;
                            g * moved + metric * moved * moved / (2.0 * rate) + l1 * x.abs() + 0.5 * l2 * x * x
                        };
                        let best = minimiser(model);
                        assert!((now - best).abs() < 1e-6, "{rule:?} {l1} {l2}: {now}, least at {best}");
                        assert!(now != 0.0 || best.abs() < 1e-6);
                        zeros += usize::from(now == 0.0);
                    }
                }
            }
            assert_eq!(zeros > 0, l1 > 0.0, "{rule:?} {l1}: {zeros} weights are exactly zero");
        }
    }
}

/// The same bits for any threads: the library, over several shards and steps.
#[test]
fn bits_do_not_depend_on_threads() {
    let (n, words) = (3 * siamese::SHARD + 5, 301);
    let (first, second, alike) = pairs(n, words);
    let targets: Vec<u32> = (0..n as u32).map(|i| i % 5).collect();
    let run = |threads: usize| {
        wordmill::pool::pool(threads).unwrap().install(|| {
            let loss = Loss::Contrastive { margin: 1.0 };
            let net = Siamese::new(siamese::Config { words, embed: 12, hidden: 20, loss, freeze: false });
            let config = pseudo_siamese::Config {
                words: Some(words),
                embed: 12,
                hidden: 20,
                labels: 5,
                freeze: false,
                dropout_penalty: 0.2,
            };
            let pseudo = PseudoSiamese::new(config);
            let (mut w, mut v) = (Arena::<f32>::zeros(net.layout()), Arena::<f32>::zeros(pseudo.layout()));
            Init::Xavier.fill(&mut w, 1);
            Init::Xavier.fill(&mut v, 2);
            let (mut space, mut pseudo_space) = (net.space(n), pseudo.space(n));
            let adam = Optimizer::new(Rule::Adam, f64::INFINITY, 1e-4, net.trained()).lazy();
            let mut adam = Stepper::new(w, Gradients::zeros(net.trained(), 2 * n), adam, 0);
            let adagrad =
                Optimizer::new(Rule::Adagrad, f64::INFINITY, 0.0, pseudo.trained()).lazy().proximal(1e-3, 1e-3);
            let mut adagrad = Stepper::new(v, Gradients::zeros(pseudo.trained(), n), adagrad, 0);
            for _ in 0..8 {
                let batch = Batch { first: &first, second: &second, alike: &alike };
                adam.touch(|_, _| ()).step(|g, (), w| net.step(g, &mut space, batch, w)).update(0.01);
                let words = Input::Words(&first);
                let step = adagrad.touch(|_, _| ());
                step.step(|g, (), w| pseudo.step(g, &mut pseudo_space, words, &targets, w)).update(0.05);
            }
            let (w, v) = (adam.w, adagrad.w);
            let distances = net.distances(&first, &second, &w);
            (hash(w.all()), hash(v.all()), hash(&distances), hash(&pseudo.probabilities(Input::Words(&first), &v)))
        })
    };
    let alone = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/softmax/iris.csv");

fn wordmill(args: &str) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_wordmill")).args(args.split_whitespace()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn done(args: &str) -> String {
    let (out, error, code) = wordmill(args);
    assert!(code == 0, "{args}: {error}");
    out
}

fn refused(args: &str, part: &str) {
    let (_, error, code) = wordmill(args);
    let told = error.lines().filter(|line| line.starts_with("wordmill: ") && !line.contains("warning")).count();
    assert!(code != 0 && told == 1 && error.contains(part), "{args}: {code} {error}");
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    /// Vectors of the words in the bundled lists: something of the kind of a word, and noise.
    fn vectors(&self) -> String {
        let rows = |file: &str| std::fs::read_to_string(format!("{DATA}/{file}")).unwrap();
        let parts = ["train", "valid", "test"];
        let lists: String = parts.iter().map(|part| rows(&format!("words/{part}.tsv"))).collect();
        let pairs: String = parts.iter().map(|part| rows(&format!("pairs/{part}.tsv"))).collect();
        let kinds: BTreeMap<&str, &str> = lists.lines().filter_map(|row| row.split_once('\t')).collect();
        let mut words: Vec<&str> =
            kinds.keys().copied().chain(pairs.lines().flat_map(|row| row.split('\t').take(2))).collect();
        words.sort_unstable();
        words.dedup();
        let noise = uniform::<f32>(words.len() * 8, 0.5, 9);
        let rows = words.iter().zip(noise.chunks_exact(8)).map(|(word, noise)| {
            let kind = kinds
                .get(word)
                .map_or(7, |kind| ["LOC", "MISC", "O", "ORG", "PER"].iter().position(|k| k == kind).unwrap());
            let numbers = noise.iter().enumerate().map(|(i, x)| (x + if i == kind { 1.0 } else { 0.0 }).to_string());
            format!("{word} {}\n", numbers.collect::<Vec<_>>().join(" "))
        });
        self.file("vectors.txt", &rows.collect::<String>())
    }
}

/// The tensors of the newest checkpoint, weights and optimizer states.
fn tensors(dir: &Path) -> Vec<Vec<u8>> {
    let steps = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let newest = steps.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-")).max().unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|name| std::fs::read(newest.join(name)).unwrap()).to_vec()
}

#[test]
fn resumed_runs_come_to_the_same_bits_on_any_threads() {
    let place = Place::new();
    let vectors = place.vectors();
    let kinds = [
        format!(
            "siamese --pairs {DATA}/pairs/valid.tsv --valid {DATA}/pairs/test.tsv --train-vectors --hidden 12 --batch 150"
        ),
        format!("siamese --pairs {DATA}/pairs/valid.tsv --hidden 12 --optimizer adagrad --prox-l1 0.001"),
        format!(
            "pseudo-siamese --train {DATA}/words/valid.tsv --valid {DATA}/words/test.tsv --hidden 12 --dropout-penalty 0.3 --batch 20"
        ),
    ]
    .map(|kind| format!("{kind} --vectors {vectors}"));
    let csv = format!("pseudo-siamese --train {IRIS} --valid {IRIS} --hidden 12 --batch 40 --scale none");
    for kind in kinds.into_iter().chain([csv]) {
        let verb = kind.split(' ').next().unwrap();
        let run = |name: &str, options: &str| {
            let out = place.path(name);
            done(&format!("train {options} --quiet --out {}", out.display()));
            tensors(&out)
        };
        let options = format!("{kind} --schedule plateau --epochs 5 --force");
        let whole = run("whole", &format!("{options} --threads 1"));
        let stopped = run("parts", &format!("{options} --max-steps 7 --threads 2"));
        assert!(whole != stopped);
        assert!(whole == run("parts", &format!("{verb} --resume --max-steps 1000000 --threads 3")), "{kind}");
    }
    // With another label it is another run.
    let text = std::fs::read_to_string(format!("{DATA}/pairs/valid.tsv")).unwrap();
    let pairs = place.file("pairs.tsv", &text);
    let out = place.path("edited").display().to_string();
    done(&format!("train siamese --pairs {pairs} --vectors {vectors} --quiet --max-steps 3 --out {out}"));
    place.file("pairs.tsv", &text.replacen("\t1\n", "\t0\n", 1));
    let expected = "pairs.tsv: found different contents, expected those that the run to resume was started with";
    refused(&format!("train siamese --resume --max-steps 5 --out {out}"), expected);
}

#[test]
fn siamese_from_the_command_line() {
    let place = Place::new();
    let vectors = place.vectors();
    let dir = place.path("twins").display().to_string();
    let train =
        format!("train siamese --pairs {DATA}/pairs/train.tsv --valid {DATA}/pairs/valid.tsv --vectors {vectors}");
    let summary: serde_json::Value =
        serde_json::from_str(&done(&format!("{train} --out {dir} --epochs 8 --json --quiet"))).unwrap();
    assert_eq!(summary["best_valid"]["measure"], "auc");
    let valid = summary["best_valid"]["value"].as_f64().unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&done(&format!("eval {dir} {DATA}/pairs/valid.tsv --json"))).unwrap();
    assert_eq!(report["auc"].as_f64().unwrap(), valid, "{report}");
    assert!(valid > 0.65, "{report}");
    let text = done(&format!("eval {dir} {DATA}/pairs/test.tsv"));
    assert!(
        text.contains("ROC AUC 0.") && text.contains("at the best threshold") && text.contains("of similar pairs"),
        "{text}"
    );
    let near = done(&format!("neighbors {dir} Monday --count 3"));
    assert!(near.starts_with("Monday\n  ") && near.lines().count() == 4 && !near.contains('<'), "{near}");
    let metrics = std::fs::read_to_string(place.path("twins/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"valid\":{\"measure\":\"auc\""));
    assert!(std::fs::read_to_string(place.path("twins/curves.svg")).unwrap().contains("pairs/s"));

    // Labels with grades are measured by their ranks, and words without a vector are told of.
    let graded = std::fs::read_to_string(format!("{DATA}/pairs/train.tsv")).unwrap();
    let graded: String = graded
        .lines()
        .zip([9.5, 8.0, 3.25].iter().cycle())
        .map(|(row, grade)| {
            let (words, label) = row.rsplit_once('\t').unwrap();
            format!("{words}\t{}\n", if label == "1" { *grade } else { 0.5 })
        })
        .collect();
    let graded = place.file("graded.tsv", &(graded + "Monday\tzzqx\t4\n"));
    let (_, said, code) = wordmill(&format!(
        "train siamese --pairs {graded} --valid {graded} --vectors {vectors} --out {dir} --epochs 2 --force"
    ));
    assert!(
        code == 0 && said.contains("1 of 3201 pairs with words that have no vector, the first is `zzqx`; left out"),
        "{said}"
    );
    assert!(said.contains("valid Spearman correlation 0."), "{said}");
    assert!(done(&format!("eval {dir} {graded}")).contains("Spearman correlation 0."));

    // The vectors go out as they came in.
    let exported = place.path("exported.txt").display().to_string();
    done(&format!("export {dir} --to word2vec {exported}"));
    let (before, after) = (std::fs::read_to_string(&vectors).unwrap(), std::fs::read_to_string(&exported).unwrap());
    assert!(after.split_once('\n').unwrap().1 == before, "{}", &after[..200]);

    let out = place.path("none").display().to_string();
    let fails = |pairs: &str, more: &str, part: &str| {
        refused(&format!("train siamese --pairs {pairs} --vectors {vectors} --out {out} {more}"), part);
        assert!(!place.path("none").exists());
    };
    fails(
        &place.file("one.tsv", "Monday\tFriday\t1\n"),
        "",
        "found only the label 1, expected both similar and dissimilar",
    );
    fails(
        &place.file("two.tsv", "Monday\tFriday\n"),
        "",
        "two.tsv:1: found 2 columns, expected word TAB word TAB label",
    );
    fails(
        &place.file("alien.tsv", "zzqx\tqqxz\t1\nxqzz\tzxqq\t0\n"),
        "",
        "alien.tsv:1: found `zzqx`, which has no vector",
    );
    let good = format!("{DATA}/pairs/valid.tsv");
    fails(&good, "--prox-l1 0.1", "--prox-l1 and --prox-l2 need --optimizer sgd or adagrad");
    fails(&good, "--margin 0", "--margin");
    fails(&format!("{DATA}/pairs"), "", "found a directory, expected a file");
    refused(&format!("eval {dir} {DATA}/lm/test.txt"), "test.txt:1: found");
    refused(&format!("eval {dir} {DATA}/pairs/test.tsv --repair"), "is a Siamese net");
    refused(&format!("neighbors {dir} zzqx"), "`zzqx` is not in the vocabulary");
    refused(&format!("generate {dir}"), "is a Siamese net; this command is for language models");
    refused(&format!("train siamese --resume --out {dir} --hidden 7"), "--hidden 7: the run to resume has 100");
}

#[test]
fn pseudo_siamese_from_the_command_line() {
    let place = Place::new();
    let vectors = place.vectors();
    let dir = place.path("kinds").display().to_string();
    let train = format!(
        "train pseudo-siamese --train {DATA}/words/train.tsv --valid {DATA}/words/valid.tsv --vectors {vectors}"
    );
    let summary: serde_json::Value =
        serde_json::from_str(&done(&format!("{train} --out {dir} --epochs 10 --json --quiet"))).unwrap();
    assert_eq!(summary["best_valid"]["measure"], "accuracy");
    let valid = summary["best_valid"]["value"].as_f64().unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&done(&format!("eval {dir} {DATA}/words/valid.tsv --json"))).unwrap();
    assert!(report["accuracy"].as_f64().unwrap() == valid && valid > 0.8, "{report}");
    assert!(done(&format!("eval {dir} {DATA}/words/test.tsv")).contains("\nlabel   words  precision    recall\nLOC"));

    // The gradients of the two layers over the training, as numbers and as a drawing.
    let svg = place.path("gradients.svg");
    let text = done(&format!("inspect {dir} --svg {}", svg.display()));
    assert!(text.contains("epoch       relu    sigmoid") && text.contains("over the whole training: relu "), "{text}");
    assert!(std::fs::read_to_string(svg).unwrap().contains("Gradient norms of the two layers"));
    let report: serde_json::Value = serde_json::from_str(&done(&format!("inspect {dir} --json"))).unwrap();
    let mean = |name: &str| {
        let norms: Vec<f64> =
            report["training"]["norms"][name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        norms.iter().sum::<f64>() / norms.len() as f64
    };
    println!("mean norm of the gradient: relu {:.4}, sigmoid {:.4}", mean("relu"), mean("sigmoid"));
    assert!(mean("relu") > mean("sigmoid"), "relu does not saturate");

    // Vectors that are frozen stay; others learn.
    let export = |name: &str| {
        let file = place.path(name).display().to_string();
        done(&format!("export {dir} --to word2vec {file}"));
        std::fs::read_to_string(file).unwrap().split_once('\n').unwrap().1.to_owned()
    };
    assert!(export("learnt.txt") != std::fs::read_to_string(&vectors).unwrap());
    done(&format!("{train} --out {dir} --epochs 1 --quiet --force --freeze-vectors"));
    assert!(export("frozen.txt") == std::fs::read_to_string(&vectors).unwrap());

    let alien = place.file("alien.tsv", "Monday\tO\nFriday\tNEW\n");
    let (out, said, code) = wordmill(&format!("eval {dir} {alien}"));
    assert!(
        code == 0 && said.contains("1 word with labels that do not occur in training, the first is `NEW`"),
        "{said}"
    );
    assert!(out.starts_with("2 words, "), "{out}");
    let out = place.path("none").display().to_string();
    let one = place.file("one.tsv", "Monday\tO\n");
    refused(&format!("train pseudo-siamese --train {one} --vectors {vectors} --out {out}"), "found only the label O");
    refused(&format!("inspect {dir} {DATA}/lm/test.txt"), "is a pseudo-Siamese net: it has no states");
    assert!(!place.path("none").exists());
}

/// The same net on the rows of a CSV file, measured as a softmax classifier on it is; it tells irises as well as that one.
#[test]
fn pseudo_siamese_on_rows_of_numbers() {
    let place = Place::new();
    let dir = place.path("irises").display().to_string();
    let train = format!("train pseudo-siamese --train {IRIS} --label species --out {dir}");
    done(&format!("{train} --valid {IRIS} --epochs 20 --batch 30 --lr 0.01 --quiet"));
    let report: serde_json::Value = serde_json::from_str(&done(&format!("eval {dir} {IRIS} --json"))).unwrap();
    let of = |name: &str| report[name].as_f64().unwrap();
    assert!(of("accuracy") > 0.95 && of("cross_entropy") < 0.2 && report["examples"] == 150, "{report}");
    let metrics = std::fs::read_to_string(place.path("irises/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(last["valid"]["measure"], "accuracy");
    // Columns are found by their names, in any order.
    let rows = std::fs::read_to_string(IRIS).unwrap();
    let turned: String = rows.lines().map(|row| row.split(',').rev().collect::<Vec<_>>().join(",") + "\n").collect();
    let turned = place.file("turned.csv", &turned);
    assert_eq!(done(&format!("eval {dir} {turned}")), done(&format!("eval {dir} {IRIS}")));
    let svg = place.path("confusion.svg");
    done(&format!("eval {dir} {IRIS} --svg {}", svg.display()));
    assert!(std::fs::read_to_string(svg).unwrap().contains("versicolor"));
    assert!(done(&format!("inspect {dir}")).contains("over the whole training: relu "));

    refused(&format!("neighbors {dir} Monday"), "is a pseudo-Siamese net: it has no words");
    refused(&format!("export {dir} --to word2vec {dir}.txt"), "is a pseudo-Siamese net: it has no words");
    refused(&format!("eval {dir} {DATA}/words/test.tsv"), "test.tsv:1: found the columns ");
    let lilies = place.file("lilies.csv", &rows.replacen("setosa", "lily", 1));
    let report: serde_json::Value = serde_json::from_str(&done(&format!("eval {dir} {lilies} --json"))).unwrap();
    assert!(report["unknown_class"] == 1 && report["examples"] == 150, "{report}");
    refused(&format!("train pseudo-siamese --resume --out {dir} --scale none"), "--scale \"none\": the run");
    let none = place.path("none");
    let fails = |options: &str, part: &str| {
        refused(&format!("train pseudo-siamese --out {} {options}", none.display()), part);
        assert!(!none.exists());
    };
    let words = format!("--train {DATA}/words/train.tsv");
    fails(&words, "(or --vectors, for words with labels)");
    fails(&format!("{words} --vectors {IRIS} --label species"), "--keep-index, --scale are only for CSV files");
    fails(
        &format!("--train {IRIS} --freeze-vectors"),
        "--max-vocab, --freeze-vectors and --columns are only for words",
    );
    let one = place.file("one.csv", "a,b,c\n1,2,x\n1,2,x\n");
    fails(&format!("--train {one}"), "one.csv: found the class x only, expected at least two classes in column c");
}
