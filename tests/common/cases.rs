//! The registry of cases: all cells, losses and optimizers, and small language models made of them. Tests and benchmarks
//! take their lists from here; a cell, loss or optimizer without its case does not compile.

#![allow(dead_code, reason = "each test binary uses its part of what is shared")]

use wordmill::blas::Precision;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::Cell;
use wordmill::layers::output::{Draws, Negatives, Objective, Tail};
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Loss, Noise, Number, Sizes, Space, Window};
use wordmill::params::{Arena, Gradients};
use wordmill::real::Real;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::{Done, Stepper};

/// Defines a function that lists the cases of a type, by patterns that must cover it.
macro_rules! registry {
    ($(#[$doc:meta])* $name:ident($($parameter:ident: $of:ty)?) -> $type:ty { $($pattern:pat => [$($case:expr),+ $(,)?],)+ }) => {
        $(#[$doc])*
        pub fn $name($($parameter: $of)?) -> Vec<$type> {
            // A variant without a line in the registry does not compile.
            fn _is_complete(value: &$type) {
                match value { $($pattern => (),)+ }
            }
            let mut all = Vec::new();
            $(for case in [$($case),+] {
                assert!(matches!(case, $pattern), "{case:?} is not {}", stringify!($pattern));
                all.push(case);
            })+
            all
        }
    };
}

/// Every cell with each of its options.
pub fn cells() -> Vec<Cell> {
    Cell::all().collect()
}

registry! {
    /// Every loss over a vocabulary, with its kinds of samples and tails: NCE only with draws with replacement.
    losses(words: usize) -> Loss {
        Loss::Full => [Loss::Full],
        Loss::Sampled {
            objective: Objective::Softmax | Objective::Nce(_),
            draws: Draws::WithReplacement | Draws::Unique,
            negatives: Negatives::Shared | Negatives::PerLane,
            ..
        } => [
            sampled(words, Objective::Softmax, Draws::WithReplacement, Negatives::Shared, None),
            sampled(words, Objective::Softmax, Draws::WithReplacement, Negatives::PerLane, Some(0.75)),
            sampled(words, Objective::Softmax, Draws::Unique, Negatives::Shared, Some(0.75)),
            sampled(words, Objective::Softmax, Draws::Unique, Negatives::PerLane, None),
            sampled(words, Objective::Nce(1.5), Draws::WithReplacement, Negatives::Shared, Some(0.75)),
            sampled(words, Objective::Nce(1.5), Draws::WithReplacement, Negatives::PerLane, None),
        ],
        Loss::Adaptive { .. } => [
            adaptive(&[(words / 3, 4)]),
            adaptive(&[(words / 7, 4), (words / 3, 2), (words - 3, 1)]),
        ],
    }
}

registry! {
    /// Every optimizer.
    rules() -> Rule {
        Rule::Sgd => [Rule::Sgd],
        Rule::Adagrad => [Rule::Adagrad],
        Rule::AdagradRowwise => [Rule::AdagradRowwise],
        Rule::Adam => [Rule::Adam],
    }
}

fn sampled(words: usize, objective: Objective, draws: Draws, negatives: Negatives, power: Option<f64>) -> Loss {
    let samples = (words / 2).min(if negatives == Negatives::Shared { 300 } else { 30 });
    Loss::Sampled { objective, draws, negatives, samples, power }
}

fn adaptive(tails: &[(usize, usize)]) -> Loss {
    Loss::Adaptive { tails: tails.iter().map(|&(first, width)| Tail { first, width }).collect() }
}

/// One cell of each kind: the first of its choices.
pub fn kinds() -> Vec<Cell> {
    let mut all = cells();
    all.dedup_by_key(|cell| cell.kind());
    all
}

/// Pairs in which each of `a` and each of `b` appears at least once.
pub fn together<A: Clone, B: Clone>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    (0..a.len().max(b.len())).map(|i| (a[i % a.len()].clone(), b[i % b.len()].clone())).collect()
}

/// A language model, and windows that it reads.
#[derive(Clone, Debug)]
pub struct Case {
    /// The model.
    pub config: Config,
    /// T
    pub steps: usize,
    /// B
    pub lanes: usize,
    /// The first step whose targets count.
    pub loss_from: usize,
    /// The share that dropout keeps.
    pub keep: Keep,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Case {
    /// One layer of a cell under the full softmax, for gradients that are checked element by element; all sizes are distinct.
    pub fn small(cell: Cell) -> Case {
        let config = Config { words: 11, embed: 3, hidden: 5, cell, ..Config::default() };
        Case { config, steps: 4, lanes: 2, loss_from: 0, keep: Keep::inverted(1.0), seed: 3 }
    }

    /// Three shards of lanes and several blocks of words, with dropout and sentences; all sizes are distinct.
    pub fn large(cell: Cell, words: usize) -> Case {
        // With two shards the order of a sum would not matter.
        let sizes = Sizes { shard: Some(13), ..Sizes::default() };
        let (embed, hidden, reset_at) = (9, 12, Some(3));
        let config = Config { words, embed, hidden, layers: 2, cell, reset_at, sizes, ..Config::default() };
        Case { config, steps: 6, lanes: 37, loss_from: 0, keep: Keep::inverted(0.8), seed: 1 }
    }

    /// The same, changed by `change`.
    pub fn with(&self, change: impl FnOnce(&mut Case)) -> Case {
        let mut case = self.clone();
        change(&mut case);
        case
    }

    /// With this number of layers.
    pub fn layers(&self, layers: usize) -> Case {
        self.with(|case| case.config.layers = layers)
    }

    /// With another loss.
    pub fn loss(&self, loss: Loss) -> Case {
        self.with(|case| case.config.loss = loss)
    }

    /// With dropout.
    pub fn keep(&self, probability: f64) -> Case {
        self.with(|case| case.keep = Keep::inverted(probability))
    }

    /// With word vectors that are also the output weights.
    pub fn tied(&self) -> Case {
        self.with(|case| (case.config.tie, case.config.embed) = (true, case.config.hidden))
    }

    /// With products of operands rounded to bfloat16.
    pub fn rounded(&self) -> Case {
        self.with(|case| case.config.precision = Precision::Bf16)
    }

    /// The model.
    pub fn model(&self) -> LanguageModel {
        LanguageModel::new(self.config.clone())
    }

    /// Counts of the words, the frequent ones first.
    pub fn counts(&self) -> Vec<u64> {
        (0..self.config.words as u64).map(|k| 1000 / (k + 1)).collect()
    }

    /// Working memory for training.
    pub fn space<R: Number>(&self, model: &LanguageModel) -> Space<R> {
        model.training_space(self.steps, self.lanes, &self.counts())
    }

    /// Memory for the gradient of a step.
    pub fn gradients<R: Real>(&self, model: &LanguageModel) -> Gradients<R> {
        Gradients::zeros(model.layout(), self.steps * self.lanes + model.samples(self.lanes))
    }

    /// The words of a window, without a pattern.
    pub fn ids(&self, salt: usize) -> Vec<u32> {
        (0..self.steps * self.lanes).map(|i| ((i * i * 7 + i * 3 + salt) % self.config.words) as u32).collect()
    }

    /// The random choices of a step.
    pub fn noise(&self, step: u64) -> Noise {
        Noise { keep: self.keep, seed: self.seed, step }
    }

    /// A run that has made `steps` steps and has the weights `w`.
    pub fn training(
        &self,
        w: Arena<f32>,
        steps: u64,
        optimizer: impl Fn(&LanguageModel) -> Optimizer<f32>,
    ) -> Training {
        let model = self.model();
        let stepper = Stepper::new(w, self.gradients(&model), optimizer(&model), steps);
        Training { space: self.space(&model), stepper, model, case: self.clone() }
    }
}

/// Fills the states with non-zero numbers.
pub fn fill_states(space: &mut Space<f64>) {
    for (i, state) in space.states_mut().enumerate() {
        state.iter_mut().enumerate().for_each(|(j, x)| *x = ((i + 2) * (j + 3) % 7) as f64 / 7.0 - 0.3);
    }
}

/// The model of a case in training.
pub struct Training {
    /// The case.
    pub case: Case,
    /// Its model.
    pub model: LanguageModel,
    /// Weights, gradient and optimizer.
    pub stepper: Stepper<f32>,
    /// Working memory.
    pub space: Space<f32>,
}

impl Training {
    /// A whole step on a window; which state the next one begins with is left to the caller.
    pub fn step(&mut self, window: Window, rate: f64) -> Done<f64> {
        let Training { case, model, stepper, space } = self;
        let touched = stepper.touch(|g, step| model.touch(g, space, window, case.noise(step)));
        touched.step(|g, loaded, w| model.step(g, space, loaded, w)).update(rate)
    }
}
