//! Whole training steps of language models: forward, backward, clipping and update of one window.

use crate::cases::{Case, Training};
use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::Sampler;
use wordmill::models::language_model::{Config, Loss, Window};
use wordmill::params::Arena;
use wordmill::rng::{Purpose, Stream};
use wordmill::train::optimizer::{Optimizer, Rule};

/// How a window is read.
#[derive(Clone, Copy)]
pub struct Walk {
    /// τ
    pub tau: usize,
    /// Steps that the window advances.
    pub stride: usize,
    /// Parallel streams of the text.
    pub lanes: usize,
}

/// A model in training, on words distributed by Zipf's law.
pub struct Step {
    training: Training,
    ids: Vec<u32>,
}

impl Step {
    /// The model of a configuration, after one step; the optimizer is lazy unless the loss is the full softmax.
    pub fn new(config: Config, Walk { tau, stride, lanes }: Walk, rule: Rule) -> Self {
        let (words, full) = (config.words, config.loss == Loss::Full);
        let keep = Keep::inverted(0.9);
        let case = Case { config, steps: tau, lanes, loss_from: tau - stride, keep, seed: 1 };
        let mut w = Arena::zeros(case.model().layout());
        // No random initialisation: it would take longer than the steps of a large model.
        w.all_mut().iter_mut().enumerate().for_each(|(i, w)| *w = (i * 7919 % 1009) as f32 * 1e-4 - 0.05);
        let training = case.training(w, 0, |model| {
            let optimizer = Optimizer::new(rule, 5.0, 0.0, model.layout());
            if full { optimizer } else { optimizer.lazy() }
        });
        let mut step = Step { training, ids: ids((tau + 1) * lanes, words) };
        // The first step touches its memory for the first time.
        step.run();
        step
    }

    /// One step, on the threads of the pool that it is called in.
    pub fn run(&mut self) {
        let Step { training, ids } = self;
        let Case { steps, lanes, loss_from, .. } = training.case;
        training.step(Window { inputs: &ids[..steps * lanes], targets: &ids[lanes..], loss_from }, 1e-3);
        training.model.carry(&mut training.space, steps - loss_from);
    }
}

/// `n` words drawn log-uniformly from `words`.
pub fn ids(n: usize, words: usize) -> Vec<u32> {
    let sampler = Sampler::log_uniform(words);
    let mut stream = Stream::new(7, Purpose::Synth, 0, 0);
    (0..n).map(|_| sampler.draw(&mut stream)).collect()
}
