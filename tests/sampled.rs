//! Losses over samples: their gradients, that they expect no change at the true model, and that they tend to the full softmax.

mod common;

use common::{assert_all_close, assert_close, check_gradient, fill_uniform};
use std::sync::Arc;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::losses::{Draws, Objective, Sampled, Sampler};
use wordmill::layers::net::Kind;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Loss, Noise, Window};
use wordmill::params::{Arena, Gradients};
use wordmill::rng::{Purpose, Stream};

const RECIPES: [(Objective, Draws); 3] = [
    (Objective::Softmax, Draws::WithReplacement),
    (Objective::Softmax, Draws::Unique),
    (Objective::Nce(1.5), Draws::WithReplacement),
];

#[test]
fn gradients() {
    for (objective, draws) in RECIPES {
        for power in [None, Some(0.75)] {
            let (words, steps, lanes) = (23, 3, 7);
            let loss = Loss::Sampled { objective, draws, samples: 11, power };
            let config = Config { words, embed: 3, hidden: 5, cell: Kind::Gru, loss, ..Config::default() };
            let model = LanguageModel::new(config);
            let mut w = Arena::<f64>::zeros(model.layout());
            fill_uniform(&mut w, 0.9, 5);
            let counts: Vec<u64> = (0..words as u64).map(|k| 100 / (k + 1)).collect();
            let ids = |salt: usize| -> Vec<u32> {
                (0..steps * lanes).map(|i| ((i * i * 7 + i * 3 + salt) % words) as u32).collect()
            };
            let (inputs, targets) = (ids(1), ids(2));
            let window = Window { inputs: &inputs, targets: &targets, loss_from: 1 };
            let noise = Noise { keep: Keep::inverted(0.8), seed: 3, step: 9 };
            let mut space = model.training_space(steps, lanes, &counts);
            let mut g = Gradients::zeros(model.layout(), steps * lanes + 11);
            model.step(&mut g, &mut space, window, noise, &w);
            let gradient = g.dense(model.layout());
            check_gradient(&gradient, &w, 1e-6, |w| {
                g.clear_tables();
                model.step(&mut g, &mut space, window, noise, w)
            });
        }
    }
}

const WORDS: usize = 12;

/// The mean gradient of b over many samples and targets drawn from p, at the model whose probabilities are those of `bias`.
fn expected(objective: Objective, draws: Draws, samples: usize, bias: &[f64], p: &[f64]) -> Vec<f64> {
    const ROUNDS: u64 = 40_000;
    const TOKENS: usize = 32;
    let sampler = Arc::new(Sampler::log_uniform(WORDS));
    let mut layer = Sampled::<f64>::new(objective, draws, sampler, samples, TOKENS, 1);
    let (u, h) = (vec![0.0; WORDS], vec![1.0; TOKENS]);
    let mut dh = vec![0.0; TOKENS];
    let mut mean = vec![0.0; WORDS];
    // Targets in proportion to p, evenly: only the samples are random.
    let mut at = 0.0;
    for round in 0..ROUNDS {
        let targets: Vec<u32> = (0..TOKENS)
            .map(|_| {
                at = (at + 0.618_033_988_749_895) % 1.0;
                let mut rest = at;
                p.iter()
                    .position(|p| {
                        rest -= p;
                        rest < 0.0
                    })
                    .unwrap_or(WORDS - 1) as u32
            })
            .collect();
        layer.draw(Stream::new(5, Purpose::Negatives, round, 0));
        layer.loss(&mut dh, &h, &targets, &u, bias);
        let (ids, _, [drawn, own]) = layer.gradients(TOKENS);
        for (&id, g) in ids.iter().chain(&targets).zip(drawn.iter().chain(own)) {
            mean[id as usize] += g / ROUNDS as f64;
        }
    }
    mean
}

/// At the true model no recipe expects a change; what mixes two, or corrects nothing, does.
#[test]
fn the_true_model_stays() {
    let raw: Vec<f64> = (0..WORDS).map(|k| 1.0 / (1.0 + ((k * 7) % WORDS) as f64)).collect();
    let p: Vec<f64> = raw.iter().map(|x| x / raw.iter().sum::<f64>()).collect();
    let truth: Vec<f64> = p.iter().map(|p| p.ln()).collect();
    let q = |k: usize| Sampler::log_uniform(WORDS).probability(k as u32);
    for samples in [3, 8] {
        let s = samples as f64;
        let (softmax, replaced, unique) = (Objective::Softmax, Draws::WithReplacement, Draws::Unique);
        let size = |objective, draws, bias: &dyn Fn(usize) -> f64| {
            let bias: Vec<f64> = (0..WORDS).map(bias).collect();
            expected(objective, draws, samples, &bias, &p).iter().fold(0.0f64, |a, x| a.max(x.abs()))
        };
        let right = [
            size(softmax, replaced, &|k| truth[k]),
            size(softmax, unique, &|k| truth[k]),
            // ln Z is 2 for a model that sums to e².
            size(Objective::Nce(2.0), replaced, &|k| truth[k] + 2.0),
        ];
        let included = |k: usize| 1.0 - (1.0 - q(k)).powf(s);
        let wrong = [
            // No correction.
            size(softmax, replaced, &|k| truth[k] + (s * q(k)).ln()),
            // Hits left out under the correction of draws with replacement, and the other way round.
            size(softmax, unique, &|k| truth[k] + included(k).ln() - (s * q(k)).ln()),
            size(softmax, replaced, &|k| truth[k] + (s * q(k)).ln() - included(k).ln()),
        ];
        println!("{samples} samples: expected gradient {right:.5?}, of wrong mixtures {wrong:.5?}");
        // Of distinct words the inclusion of one is not quite independent of the others'.
        let within = right.iter().zip([0.003, 0.008, 0.003]).all(|(&x, limit)| x < limit);
        assert!(within && wrong.iter().all(|&x| x > 0.01), "{right:?} {wrong:?}");
    }
}

/// With a sample that holds every word, the sampled softmax is the full one.
#[test]
fn all_words_are_the_full_softmax() {
    let (steps, lanes) = (4, 5);
    let ids =
        |salt: usize| -> Vec<u32> { (0..steps * lanes).map(|i| ((i * i * 7 + i + salt) % WORDS) as u32).collect() };
    let (inputs, targets) = (ids(1), ids(5));
    let step = |loss: Loss| {
        let model = LanguageModel::new(Config { words: WORDS, embed: 3, hidden: 4, loss, ..Config::default() });
        let mut w = Arena::<f64>::zeros(model.layout());
        fill_uniform(&mut w, 0.9, 5);
        let mut space = model.training_space(steps, lanes, &[1; WORDS]);
        let mut g = Gradients::zeros(model.layout(), 2000);
        let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
        let noise = Noise { keep: Keep::inverted(1.0), seed: 3, step: 9 };
        (model.step(&mut g, &mut space, window, noise, &w), g.dense(model.layout()))
    };
    let (full, exact) = step(Loss::Full);
    let sampled = Loss::Sampled { objective: Objective::Softmax, draws: Draws::Unique, samples: 1500, power: None };
    let (loss, got) = step(sampled);
    assert_close("loss", loss, full, 1e-9, 0.0);
    for (p, tensor) in exact.layout().tensors() {
        assert_all_close(&tensor.name, got.slice(p), exact.slice(p), 1e-9);
    }
}
