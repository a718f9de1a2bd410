//! The tensors of a language model, and its initial weights.

use super::config::Config;
use crate::layers::output::{Recipe, Tables};
use crate::layers::recurrence::{Net, Shape, Weights};
use crate::models::initial::{Init, shares};
use crate::params::{Arena, Layout, Role, TensorId};
use crate::real::Real;
use std::sync::Arc;

/// The model: its configuration and its tensors.
pub struct LanguageModel {
    pub(super) config: Config,
    pub(super) layout: Arc<Layout>,
    pub(super) net: Net,
    pub(super) embedding: TensorId,
    pub(super) output: Tables,
}

impl LanguageModel {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, layers, cell, tie, .. } = config;
        assert!(words > 0 && embed > 0 && hidden > 0 && layers > 0, "every size is at least 1");
        assert!(!tie || embed == hidden, "tied weights have one width");
        let mut layout = Layout::default();
        // The recurrent tensors come first: a shard's gradients are an arena of just those.
        let net = Net::add(&mut layout, Shape { cell, inputs: embed, units: hidden, layers });
        let table = (!tie).then(|| layout.add("embedding", words, embed, Role::Table));
        let output = config.loss.add(&mut layout, words, hidden, tie);
        let embedding = table.unwrap_or(output.output);
        LanguageModel { layout: Arc::new(layout), net, embedding, output, config }
    }

    /// The tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The table of word vectors.
    pub fn words(&self) -> TensorId {
        self.embedding
    }

    /// L \[V, D\], the output weights \[V, H\] and their bias \[V\]; with [`super::Loss::Adaptive`] the latter two are the head's.
    pub fn tables(&self) -> [TensorId; 3] {
        [self.embedding, self.output.output, self.output.bias]
    }

    /// The tensors of each layer of a stack; empty with gated feedback.
    pub fn stack(&self) -> &[Weights] {
        self.net.stack()
    }

    /// Words drawn in a training step of `lanes` lanes.
    pub fn samples(&self, lanes: usize) -> usize {
        self.config.loss.recipe().map_or(0, |recipe| recipe.words(lanes))
    }

    /// Initial weights by `init`, with biases from the words' counts.
    pub fn begin<R: Real>(&self, init: Init, seed: u64, counts: &[u64]) -> Arena<R> {
        let mut w = Arena::zeros(&self.layout);
        init.fill(&mut w, seed);
        self.net.begin(&mut w);
        shares(&mut w, &self.output, counts, self.ln_z().unwrap_or(0.0));
        w
    }

    /// The sampled objective and the samples, if the loss uses samples.
    pub fn recipe(&self) -> Option<Recipe> {
        self.config.loss.recipe()
    }

    /// The ln Z that the model is trained to have in every state, if any: o − ln Z of a word is then about ln ŷ.
    pub fn ln_z(&self) -> Option<f64> {
        self.config.loss.ln_z()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::cells::Cell;

    /// The biases of the gates of a first step: only an LSTM's forget gate is open.
    #[test]
    fn forget_gates_begin_open() {
        for cell in Cell::all() {
            let model =
                LanguageModel::new(Config { words: 7, embed: 3, hidden: 5, layers: 2, cell, ..Config::default() });
            let w: Arena<f32> = model.begin(Init::Xavier, 1, &[1; 7]);
            for layer in model.stack() {
                let open = |unit: usize| cell == Cell::Lstm && (5..10).contains(&unit);
                let bias = w.slice(layer.bias);
                assert!(
                    bias.iter().enumerate().all(|(unit, &bias)| bias == f32::from(u8::from(open(unit)))),
                    "{bias:?}"
                );
            }
        }
    }
}
