//! The tensors of a Siamese network.

use super::Config;
use crate::params::{Layout, Role, TensorId};
use std::sync::Arc;

/// The network: its configuration and its tensors.
pub struct Siamese {
    pub(super) config: Config,
    pub(super) layout: Arc<Layout>,
    pub(super) trained: Arc<Layout>,
    pub(super) hidden: TensorId,
    pub(super) hidden_bias: TensorId,
    pub(super) words: TensorId,
}

impl Siamese {
    /// The network of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, freeze, .. } = config;
        assert!(words > 0 && embed > 0 && hidden > 0);
        let mut layout = Layout::default();
        let weight = layout.add("hidden", embed, hidden, Role::Weight);
        let hidden_bias = layout.add("hidden.bias", 1, hidden, Role::Bias);
        let words = layout.add("embedding", words, embed, Role::Table);
        let layout = Arc::new(layout);
        let trained = if freeze { Arc::new(layout.before(words)) } else { layout.clone() };
        Siamese { layout, trained, hidden: weight, hidden_bias, words, config }
    }

    /// The tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The tensors that a step has gradients of, the first ones of all: frozen word vectors come last.
    pub fn trained(&self) -> &Arc<Layout> {
        &self.trained
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The table of word vectors.
    pub fn words(&self) -> TensorId {
        self.words
    }
}
