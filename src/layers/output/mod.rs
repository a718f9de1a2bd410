//! The output layer of a language model: from states h to the losses of the next words, over the whole
//! vocabulary, over a sample of it, or with fewer units for rare words.

mod adaptive;
pub mod clusters;
mod full;
mod sampled;
mod sampler;
mod tables;

pub use adaptive::AdaptiveSoftmax;
pub use clusters::Tail;
pub use full::{FullSoftmax, Gradient, Own, Tile};
pub use sampled::{Draws, Negatives, Objective, Recipe, Sampled};
pub use sampler::Sampler;
pub use tables::Tables;

use super::shards::Division;
use crate::blas::Precision;
use crate::params::{Arena, Gradients, Layout, Role};
use crate::real::Real;
use crate::rng::Stream;
use crate::sys::memory::Room;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An output layer with its working memory. It knows where its tensors are.
pub trait OutputLayer<R: Real>: Send {
    /// Draws the samples of the next step, if any, with the random numbers that `stream` returns for each, and lists in `g` the rows
    /// of its tables that a step with these targets touches.
    fn touch(&mut self, _g: &mut Gradients<R>, _targets: &[u32], _stream: &dyn Fn(u32) -> Stream) {}

    /// The mean loss of `targets` \[N\] given states `h` \[N, H\], in nats; ∂J/∂h goes to `dh`, the gradients of its
    /// tensors to `g`.
    fn loss(&mut self, g: &mut Gradients<R>, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) -> f64;

    /// ∂J/∂h only, by a layer with buffers for gradients. It allocates: for the inspection of models.
    fn states_gradient(&mut self, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>);

    /// ln ŷₖ of each of `targets`, given states `h`.
    fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], w: &Arena<R>);
}

/// The training loss of a model; evaluation is always over all words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The cross-entropy over the whole vocabulary.
    Full,
    /// A loss over a sample of it: steps touch few rows of the output weights.
    Sampled {
        /// The sampled objective.
        objective: Objective,
        /// How the sample is drawn.
        draws: Draws,
        /// Whether the sample is shared or drawn per lane.
        #[serde(default)]
        negatives: Negatives,
        /// S: words per sample.
        samples: usize,
        /// Words are drawn in proportion to their counts raised to this power; if none, log-uniformly by rank.
        power: Option<f64>,
    },
    /// The cross-entropy over the whole vocabulary, with fewer units for rare words.
    Adaptive {
        /// The rare words.
        tails: Vec<Tail>,
    },
}

/// Sizes of an output layer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// V
    pub words: usize,
    /// H
    pub units: usize,
    /// T: steps of a window.
    pub steps: usize,
    /// B: lanes of a batch, and their division into shards.
    pub lanes: Division,
    /// The block of logits that a full softmax processes at a time.
    pub tile: Tile,
}

impl Loss {
    /// Adds the tensors of its layer. `tie`: the output weights are also the word vectors.
    pub fn add(&self, layout: &mut Layout, words: usize, units: usize, tie: bool) -> Tables {
        assert!(!tie || *self == Loss::Full, "word vectors are tied to output weights that every step writes wholly");
        match self {
            Loss::Full => Tables::add(layout, words, units, &[]),
            Loss::Adaptive { tails } => Tables::add(layout, words, units, tails),
            Loss::Sampled { .. } => {
                let output = layout.add("output", words, units, Role::OutputTable);
                Tables::whole(output, layout.add("output.bias", words, 1, Role::BiasTable))
            }
        }
    }

    /// The layer over the whole vocabulary, with gradients if `training`.
    pub fn over_all_words<R: Real>(
        &self,
        room: &mut Room,
        tables: &Tables,
        sizes: Sizes,
        training: bool,
        precision: Precision,
    ) -> Box<dyn OutputLayer<R>> {
        let Sizes { words, units, steps, lanes, tile } = sizes;
        let tokens = steps * lanes.all;
        match self {
            Loss::Adaptive { tails } => {
                let layer = AdaptiveSoftmax::within(room, tokens, units, words, tails, training, precision);
                Box::new(adaptive::Adaptive { tables: tables.clone(), layer })
            }
            Loss::Full | Loss::Sampled { .. } => {
                let layer = FullSoftmax::within(room, tokens, units, words, tile, training, precision);
                Box::new(full::Full { tables: tables.clone(), layer })
            }
        }
    }

    /// The layer to train with. `counts`: the words' counts, for samples drawn by count; empty when memory is only counted.
    pub fn in_training<R: Real>(
        &self,
        room: &mut Room,
        tables: &Tables,
        sizes: Sizes,
        counts: &[u64],
        precision: Precision,
    ) -> Box<dyn OutputLayer<R>> {
        let (Some(recipe), &Loss::Sampled { power, .. }) = (self.recipe(), self) else {
            return self.over_all_words(room, tables, sizes, true, precision);
        };
        let sampler = match power.filter(|_| !counts.is_empty()) {
            Some(power) => Sampler::unigram(counts, power),
            None => Sampler::log_uniform(sizes.words),
        };
        let Sizes { units, steps, lanes, .. } = sizes;
        let layer = Sampled::within(room, recipe, Arc::new(sampler), steps * lanes.all, units, lanes, precision);
        Box::new(sampled::OverSample::new(room, tables, layer, steps * lanes.all, recipe.words(lanes.all)))
    }

    /// Bytes of the distribution that words are drawn from in training.
    pub fn sampler_bytes(&self, words: usize) -> usize {
        if let Loss::Sampled { power: Some(_), .. } = self { words * 12 } else { 0 }
    }

    /// The sampled objective and the samples, if the loss uses samples.
    pub fn recipe(&self) -> Option<Recipe> {
        match *self {
            Loss::Sampled { objective, draws, negatives, samples, .. } => {
                Some(Recipe { objective, draws, negatives, samples })
            }
            _ => None,
        }
    }

    /// The ln Z that a model is trained to have in every state, if any: o − ln Z of a word is then about ln ŷ.
    pub fn ln_z(&self) -> Option<f64> {
        match self.recipe()?.objective {
            Objective::Nce(ln_z) => Some(ln_z),
            Objective::Softmax => None,
        }
    }
}
