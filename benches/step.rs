//! Whole training steps of language models: forward, backward, clipping and update of one window.

use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::Sampler;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Loss, Noise, Space, Window};
use wordmill::params::{Arena, Gradients};
use wordmill::rng::{Purpose, Stream};
use wordmill::train::optimizer::{Optimizer, Rule};

/// How a window is read.
#[derive(Clone, Copy)]
pub struct Walk {
    /// τ
    pub tau: usize,
    /// Targets that count, a lane.
    pub stride: usize,
    /// Places of the text that are read side by side.
    pub lanes: usize,
}

/// A model in training, on words that fall as Zipf's law says.
pub struct Step {
    model: LanguageModel,
    w: Arena<f32>,
    g: Gradients<f32>,
    optimizer: Optimizer<f32>,
    space: Space<f32>,
    ids: Vec<u32>,
    walk: Walk,
    step: u64,
}

impl Step {
    /// The model of a configuration; with a sampled loss the optimizer is lazy. One step is made.
    pub fn new(config: Config, walk: Walk, rule: Rule) -> Self {
        let Walk { tau, lanes, .. } = walk;
        let words = config.words;
        let full = config.loss == Loss::Full;
        let model = LanguageModel::new(config);
        let mut w = Arena::zeros(model.layout());
        // Not an initialisation that draws: it would take longer than the steps of a large model.
        w.all_mut().iter_mut().enumerate().for_each(|(i, w)| *w = (i * 7919 % 1009) as f32 * 1e-4 - 0.05);
        let g = Gradients::zeros(model.layout(), tau * lanes + model.samples(lanes));
        let optimizer = Optimizer::new(rule, 5.0, 0.0, model.layout());
        let optimizer = if full { optimizer } else { optimizer.lazy() };
        let space = model.training_space(tau, lanes, &vec![1; words]);
        let mut step = Step { w, g, optimizer, space, ids: ids((tau + 1) * lanes, words), walk, step: 0, model };
        // The first touches memory that was never used.
        step.run();
        step
    }

    /// One step, on the threads of the pool that it is called in.
    pub fn run(&mut self) {
        let Walk { tau, stride, lanes } = self.walk;
        let window = Window { inputs: &self.ids[..tau * lanes], targets: &self.ids[lanes..], loss_from: tau - stride };
        let noise = Noise { keep: Keep::inverted(0.9), seed: 1, step: self.step };
        self.model.touch(&mut self.g, &mut self.space, window, noise);
        self.optimizer.catch_up(&mut self.w, &self.g, self.step + 1);
        self.model.step(&mut self.g, &mut self.space, window, noise, &self.w);
        self.step += 1;
        let norm = self.optimizer.norm(&self.g);
        self.optimizer.update(&mut self.w, &mut self.g, norm, 1e-3, self.step);
        self.model.carry(&mut self.space, stride);
    }
}

/// `n` words of `words`, the frequent ones first.
pub fn ids(n: usize, words: usize) -> Vec<u32> {
    let sampler = Sampler::log_uniform(words);
    let mut stream = Stream::new(7, Purpose::Synth, 0, 0);
    (0..n).map(|_| sampler.draw(&mut stream)).collect()
}
