//! Losses over samples: that they expect no change at the true model, and that they tend to the full softmax.

mod common;

use common::{assert_all_close, assert_close, fill_uniform};
use std::sync::Arc;
use wordmill::blas::Precision;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::{Draws, Negatives, Objective, Recipe, Sampled, Sampler};
use wordmill::layers::shards::Division;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Loss, Noise, Window};
use wordmill::params::{Arena, Gradients};
use wordmill::rng::{Purpose, Stream};
use wordmill::sys::memory::Room;

const WORDS: usize = 12;

/// The mean gradient of b over many samples and targets drawn from p, at the model whose probabilities are those of `bias`.
fn expected(objective: Objective, draws: Draws, samples: usize, bias: &[f64], p: &[f64]) -> Vec<f64> {
    mean_gradient(Recipe { objective, draws, negatives: Negatives::Shared, samples }, 40_000, bias, p)
}

/// The same of some rounds.
fn mean_gradient(recipe: Recipe, rounds: u64, bias: &[f64], p: &[f64]) -> Vec<f64> {
    const TOKENS: usize = 32;
    let sampler = Arc::new(Sampler::log_uniform(WORDS));
    let mut layer = Room::make(|room| {
        let lanes = Division { all: TOKENS, each: TOKENS };
        Sampled::<f64>::within(room, recipe, sampler, TOKENS, 1, lanes, Precision::F32)
    });
    let (u, h) = (vec![0.0; WORDS], vec![1.0; TOKENS]);
    let mut dh = vec![0.0; TOKENS];
    let mut mean = vec![0.0; WORDS];
    // Targets in proportion to p, evenly: only the samples are random.
    let mut at = 0.0;
    for round in 0..rounds {
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
        layer.draw(|sample| Stream::new(5, Purpose::Negatives, round, sample));
        layer.loss(&mut dh, &h, &targets, &u, bias);
        let (_, [drawn, own]) = layer.gradients(TOKENS);
        for (&id, g) in layer.ids().iter().chain(&targets).zip(drawn.iter().chain(own)) {
            mean[id as usize] += g / rounds as f64;
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

/// The more samples, the nearer the gradient of one step is to that of the full softmax, for any model; by NCE for one that is
/// normalised. Its error falls with the root of their number.
#[test]
fn many_samples_tend_to_the_full_gradient() {
    let share = |weight: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let raw: Vec<f64> = (0..WORDS).map(weight).collect();
        raw.iter().map(|x| x / raw.iter().sum::<f64>()).collect()
    };
    let text = share(&|k| 1.0 / (1.0 + ((k * 7) % WORDS) as f64));
    let model = share(&|k| 1.0 + ((k * 5 + 3) % WORDS) as f64);
    let bias: Vec<f64> = model.iter().map(|p| p.ln()).collect();
    let full: Vec<f64> = model.iter().zip(&text).map(|(model, text)| model - text).collect();
    for (objective, draws, negatives) in [
        (Objective::Softmax, Draws::WithReplacement, Negatives::Shared),
        (Objective::Softmax, Draws::WithReplacement, Negatives::PerLane),
        (Objective::Nce(0.0), Draws::WithReplacement, Negatives::Shared),
        (Objective::Nce(0.0), Draws::WithReplacement, Negatives::PerLane),
    ] {
        let error = |samples: usize| {
            // The targets of a step are those of the text but for a little, which rounds take away.
            let error = |round: u64| -> f64 {
                let got = mean_gradient(Recipe { objective, draws, negatives, samples }, 1 + round, &bias, &text);
                got.iter().zip(&full).map(|(got, full)| (got - full).powi(2)).sum::<f64>().sqrt()
            };
            (150..160).map(error).sum::<f64>() / 10.0
        };
        let errors = [4, 64, 1024].map(error);
        println!("{objective:?} {negatives:?}: {errors:.5?}");
        assert!(errors[0] > 2.0 * errors[1] && errors[1] > 2.0 * errors[2] && errors[2] < 5e-3, "{errors:?}");
    }
}

/// With a sample that holds every word, the sampled softmax is the full one, whoever draws it.
#[test]
fn all_words_are_the_full_softmax() {
    // Two shards, which have different numbers of lanes.
    let (steps, lanes) = (4, 19);
    let ids =
        |salt: usize| -> Vec<u32> { (0..steps * lanes).map(|i| ((i * i * 7 + i + salt) % WORDS) as u32).collect() };
    let (inputs, targets) = (ids(1), ids(5));
    let step = |loss: Loss| {
        let model = LanguageModel::new(Config { words: WORDS, embed: 3, hidden: 4, loss, ..Config::default() });
        let mut w = Arena::<f64>::zeros(model.layout());
        fill_uniform(&mut w, 0.9, 5);
        let mut space = model.training_space(steps, lanes, &[1; WORDS]);
        let mut g = Gradients::zeros(model.layout(), 2000 * lanes);
        let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
        let noise = Noise { keep: Keep::inverted(1.0), seed: 3, step: 9 };
        (model.loss_and_gradient(&mut g, &mut space, window, noise, &w), g.dense(model.layout()))
    };
    let (full, exact) = step(Loss::Full);
    for negatives in [Negatives::Shared, Negatives::PerLane] {
        let (objective, draws) = (Objective::Softmax, Draws::Unique);
        let (loss, got) = step(Loss::Sampled { objective, draws, negatives, samples: 1500, power: None });
        assert_close("loss", loss, full, 1e-9, 0.0);
        for (p, tensor) in exact.layout().tensors() {
            assert_all_close(&tensor.name, got.slice(p), exact.slice(p), 1e-9);
        }
    }
}
