//! A tagger as a task of the training loop.

use super::{Encoded, Tagged, evaluate};
use crate::kernels::dropout::Keep;
use crate::models::Ner;
use crate::models::ner::{Batch, Noise, Objective, Space};
use crate::params::{Arena, Gradients, Layout};
use crate::pool;
use crate::profile::{Part, span};
use crate::rng::{Place, Purpose};
use crate::tasks::epochs::Batches;
use crate::tasks::memory::{self, Needs};
use crate::text::tags::{Kinds, Labels, Tag};
use crate::text::words::UNKNOWN;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use std::sync::Arc;

/// A model and its training sentences.
pub struct NerTask<'a> {
    /// Its parts.
    data: NerData<'a>,
    order: Batches,
    space: Space<f32>,
    inputs: Vec<Vec<u32>>,
    targets: Vec<u32>,
    ends: Vec<usize>,
}

/// The parts of a [`NerTask`].
pub struct NerData<'a> {
    /// The network.
    pub net: &'a Ner,
    /// The labels.
    pub labels: &'a Labels,
    /// The training sentences.
    pub train: Encoded,
    /// Their labels.
    pub targets: Vec<u32>,
    /// The validation sentences, and the names of their entity types.
    pub valid: Option<(Encoded, &'a Tagged, &'a Kinds)>,
    /// Batch size: tokens per step.
    pub batch: usize,
    /// Dropout.
    pub keep: Keep,
    /// For each word, the probability in units of 2⁻³² that training replaces it by `<unk>`.
    pub unknown: Vec<u32>,
    /// Whether the word vectors are frozen.
    pub freeze: bool,
    /// The random seed of the run.
    pub seed: u64,
    /// The small files of a checkpoint.
    pub files: Vec<SmallFile>,
}

/// The number of examples, the number per step, and the maximum number of tokens per step.
fn batches(train: &Encoded, objective: Objective, batch: usize) -> (usize, usize, usize) {
    let (tokens, sentences) = (train.tokens(), train.ends.len());
    match objective {
        Objective::Window => (tokens, batch.min(tokens), batch.min(tokens)),
        // As many sentences as contain this many tokens on average: every epoch then has the same number of steps.
        Objective::Sentence => {
            let a_batch = ((batch * sentences + tokens / 2) / tokens).clamp(1, sentences);
            let mut lengths: Vec<usize> = (0..sentences).map(|i| train.sentence(i).len()).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            (sentences, a_batch, lengths[..a_batch].iter().sum())
        }
    }
}

impl<'a> NerTask<'a> {
    /// Bytes that training `net` takes, including its weights.
    pub fn bytes(net: &Ner, train: &Encoded, valid: Option<&Encoded>, needs: Needs) -> usize {
        let (examples, _, most) = batches(train, net.config().objective, needs.batch);
        let places = most * net.config().window;
        let evaluation = valid.map_or(0, |valid| valid.label_bytes(net, pool::threads()));
        memory::learning_bytes(net.layout(), net.layout(), needs.rule, places, evaluation)
            + net.space_bytes::<f32>(most, true)
            + (places * train.rows.len() + examples + train.tokens() + 2 * most) * size_of::<u32>()
    }

    /// Allocates the working memory.
    pub fn new(data: NerData<'a>) -> Self {
        let (examples, a_batch, most) = batches(&data.train, data.net.config().objective, data.batch);
        let places = most * data.net.config().window;
        NerTask {
            order: Batches::new(examples, a_batch, data.seed),
            space: data.net.space(most, true),
            // A cloned vector would have no spare capacity.
            inputs: data.train.rows.iter().map(|_| Vec::with_capacity(places)).collect(),
            targets: Vec::with_capacity(most),
            ends: Vec::with_capacity(a_batch),
            data,
        }
    }

    /// Loads the examples of a step.
    fn fill(&mut self, step: u64) {
        self.inputs.iter_mut().for_each(Vec::clear);
        self.targets.clear();
        self.ends.clear();
        let NerData { train, targets, .. } = &self.data;
        for &example in self.order.of_step(step) {
            let tokens = match self.data.net.config().objective {
                Objective::Window => example as usize..example as usize + 1,
                Objective::Sentence => train.sentence(example as usize),
            };
            self.targets.extend_from_slice(&targets[tokens.clone()]);
            tokens.for_each(|token| train.push(&mut self.inputs, token));
            self.ends.push(self.targets.len());
        }
        let place = Place::new(self.data.seed, Purpose::Unknown, step, 0);
        for (block, words) in (0..).zip(self.inputs[0].chunks_mut(4)) {
            for (word, drawn) in words.iter_mut().zip(place.block(block)) {
                if drawn < self.data.unknown[*word as usize] {
                    *word = UNKNOWN;
                }
            }
        }
    }
}

impl Task for NerTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.data.net.layout()
    }

    fn rows(&self) -> usize {
        self.inputs[0].capacity()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.order.count()
    }

    /// For sentences, the average of this many steps.
    fn targets_before(&self, steps: u64) -> u64 {
        self.data.train.tokens() as u64 * self.order.examples_before(steps) / self.order.examples()
    }

    type Touched = ();

    fn touch(&mut self, _g: &mut Gradients<f32>, _step: u64) {}

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, (): (), w: &Arena<f32>) -> Outcome {
        let data = span(Part::Data);
        self.fill(step);
        drop(data);
        let NerData { net, keep, seed, freeze, .. } = self.data;
        let noise = Noise { keep, seed, step, freeze };
        let batch = Batch { inputs: &self.inputs, ends: &self.ends };
        let loss = net.step(g, &mut self.space, batch, &self.targets, noise, w);
        Outcome { loss, targets: self.targets.len() as u64 }
    }

    fn classes(&self) -> Option<usize> {
        Some(self.data.labels.count())
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let (encoded, tagged, kinds) = self.data.valid.as_ref()?;
        let labels = encoded.label(self.data.net, w);
        let predicted: Vec<Tag> = labels.into_iter().map(|label| self.data.labels.tag(label as usize)).collect();
        Some(Score::f1(evaluate(&predicted, tagged, kinds).conlleval.overall.f1))
    }

    fn measure(&self) -> Measure {
        Measure::F1
    }

    fn files(&self) -> &[SmallFile] {
        &self.data.files
    }
}
