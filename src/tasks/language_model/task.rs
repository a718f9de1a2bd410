//! A language model as a task of the training loop.

use super::evaluate::Evaluator;
use crate::kernels::dropout::Keep;
use crate::math::exp;
use crate::models::LanguageModel;
use crate::models::language_model::{Loaded, Noise, Space, Window};
use crate::params::{Arena, Gradients, Layout};
use crate::profile::{Part, span};
use crate::rng::{Purpose, Stream};
use crate::sys::signals::Signals;
use crate::text::{Lanes, Windows};
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use rand::RngExt;
use std::sync::Arc;

/// Number of words on which a model trained on samples is checked at the end of its run: fewer for a large vocabulary.
fn checked(model: &LanguageModel) -> usize {
    (1_usize << 24).div_ceil(model.config().words).clamp(32, 512)
}

/// A language model and its training text.
pub struct LmTask<'a> {
    model: &'a LanguageModel,
    lanes: Lanes<'a>,
    windows: Windows,
    valid: Option<(&'a [u32], Evaluator)>,
    /// For the check at the end, if the model is trained on samples.
    check: Option<Evaluator>,
    special: [u32; 2],
    space: Space<f32>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    keep: Keep,
    forget: f64,
    seed: u64,
    files: Vec<SmallFile>,
}

/// The parts of an [`LmTask`].
pub struct LmData<'a> {
    /// The model.
    pub model: &'a LanguageModel,
    /// The training text in lanes.
    pub lanes: Lanes<'a>,
    /// Its windows.
    pub windows: Windows,
    /// τ
    pub tau: usize,
    /// The validation text.
    pub valid: Option<&'a [u32]>,
    /// The words' counts in the training text.
    pub counts: &'a [u64],
    /// The ids of `<unk>` and `<eos>`.
    pub special: [u32; 2],
    /// Dropout.
    pub keep: Keep,
    /// Probability that the state of a lane is reset to zero before a window.
    pub forget: f64,
    /// The random seed of the run.
    pub seed: u64,
    /// The small files of a checkpoint.
    pub files: Vec<SmallFile>,
}

impl<'a> LmTask<'a> {
    /// Bytes of memory for evaluation, on a validation text of `valid` words and at the end.
    pub fn evaluation_bytes(model: &LanguageModel, valid: Option<usize>) -> usize {
        let checked = model.recipe().map(|_| checked(model));
        [valid, checked].into_iter().flatten().map(|words| Evaluator::bytes(model, words)).sum()
    }

    /// Allocates the working memory.
    pub fn new(data: LmData<'a>) -> Self {
        let LmData { model, lanes, windows, tau, valid, counts, special, keep, forget, seed, files } = data;
        let tokens = tau * lanes.lanes();
        LmTask {
            model,
            lanes,
            windows,
            valid: valid.map(|ids| (ids, Evaluator::new(model, ids.len()))),
            check: model.recipe().is_some().then(|| Evaluator::new(model, checked(model))),
            special,
            space: model.training_space(tau, lanes.lanes(), counts),
            inputs: vec![0; tokens],
            targets: vec![0; tokens],
            keep,
            forget,
            seed,
            files,
        }
    }
}

impl Task for LmTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn rows(&self) -> usize {
        self.inputs.len() + self.model.samples(self.lanes.lanes())
    }

    fn is_cross_entropy(&self) -> bool {
        self.model.recipe().is_none()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.windows.count() as u64
    }

    fn targets_before(&self, steps: u64) -> u64 {
        let position = steps.checked_sub(1).map_or(0, |last| self.windows.get(last as usize).end);
        (position * self.lanes.lanes()) as u64
    }

    type Touched = Loaded;

    fn touch(&mut self, g: &mut Gradients<f32>, step: u64) -> Loaded {
        let filling = span(Part::Data);
        let index = (step % self.steps_per_epoch()) as usize;
        if index == 0 {
            self.space.reset();
        }
        let mut stream = Stream::new(self.seed, Purpose::Forget, step, 0);
        for lane in 0..self.lanes.lanes() {
            if stream.random::<f64>() < self.forget {
                self.model.forget_lane(&mut self.space, lane);
            }
        }
        let window = self.windows.get(index);
        let n = window.len() * self.lanes.lanes();
        self.lanes.fill(window.positions(), &mut self.inputs[..n], &mut self.targets[..n]);
        drop(filling);
        let data = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: window.loss_from };
        self.model.touch(g, &mut self.space, data, Noise { keep: self.keep, seed: self.seed, step })
    }

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, loaded: Loaded, w: &Arena<f32>) -> Outcome {
        let index = (step % self.steps_per_epoch()) as usize;
        let window = self.windows.get(index);
        let loss = self.model.step(g, &mut self.space, loaded, w);
        if index + 1 < self.windows.count() {
            self.model.carry(&mut self.space, self.windows.get(index + 1).carry_from);
        }
        Outcome { loss, targets: ((window.len() - window.loss_from) * self.lanes.lanes()) as u64 }
    }

    /// Over all words, even if the loss of a step is computed on a sample, where it may be low for a diverged model.
    fn loss_after(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> f64 {
        let window = self.windows.get((step % self.steps_per_epoch()) as usize);
        let lanes = self.lanes.lanes();
        if let Some(evaluator) = &mut self.check {
            let mut ids = Vec::with_capacity(window.len() * lanes);
            for lane in 0..lanes {
                ids.extend(self.targets[..window.len() * lanes].iter().skip(lane).step_by(lanes));
            }
            ids.truncate(checked(self.model));
            return evaluator.evaluate(self.model, w, &ids, self.special).loss;
        }
        let states: Vec<Vec<f32>> = self.space.states().map(<[f32]>::to_vec).collect();
        let n = window.len() * lanes;
        let data = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: window.loss_from };
        let noise = Noise { keep: self.keep, seed: self.seed, step };
        let loss = self.model.loss_and_gradient(g, &mut self.space, data, noise, w);
        self.space.states_mut().zip(&states).for_each(|(state, before)| state.copy_from_slice(before));
        loss
    }

    fn classes(&self) -> Option<usize> {
        Some(self.model.config().words)
    }

    fn heed(&mut self, signals: &Signals) {
        self.valid.iter_mut().for_each(|(_, evaluator)| evaluator.signals = Some(signals.clone()));
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let (ids, evaluator) = self.valid.as_mut()?;
        Some(Score::perplexity(exp(evaluator.evaluate(self.model, w, ids, self.special).loss)))
    }

    fn measure(&self) -> Measure {
        Measure::Perplexity
    }

    fn files(&self) -> &[SmallFile] {
        &self.files
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        self.space.states_mut().collect()
    }
}
