//! The tensors of a pseudo-Siamese network.

use super::Config;
use crate::params::{Layout, Role, TensorId};
use std::sync::Arc;

/// The network: its configuration and its tensors.
pub struct PseudoSiamese {
    pub(super) config: Config,
    pub(super) layout: Arc<Layout>,
    /// The tensors without the word vectors.
    pub(super) dense: Arc<Layout>,
    /// W₁, b₁
    pub(super) sigmoid: (TensorId, TensorId),
    /// W₂, b₂
    pub(super) relu: (TensorId, TensorId),
    /// W₃, b₃
    pub(super) output: (TensorId, TensorId),
    pub(super) words: Option<TensorId>,
    pub(super) towers: [TensorId; 2],
}

impl PseudoSiamese {
    /// The network of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, labels, freeze, .. } = config;
        assert!(words != Some(0) && embed > 0 && hidden > 0 && labels > 0);
        assert!(words.is_some() || freeze, "numbers that are given do not learn");
        let mut layout = Layout::default();
        let mut tower = |name: &str| {
            let weight = layout.add(name, embed, hidden, Role::Weight);
            (weight, layout.add(format!("{name}.bias"), 1, hidden, Role::Bias))
        };
        let (sigmoid, relu) = (tower("sigmoid"), tower("relu"));
        let weight = layout.add("output", labels, hidden, Role::Output);
        let output = (weight, layout.add("output.bias", 1, labels, Role::Bias));
        let dense = Arc::new(layout.clone());
        let words = words.map(|words| layout.add("embedding", words, embed, Role::Table));
        let (layout, towers) = (Arc::new(layout), [sigmoid.0, relu.0]);
        PseudoSiamese { layout, dense, sigmoid, relu, output, words, towers, config }
    }

    /// The tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The tensors that a step has gradients of, the first ones of all: frozen word vectors come last.
    pub fn trained(&self) -> &Arc<Layout> {
        if self.config.freeze { &self.dense } else { &self.layout }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The table of word vectors, of a network of words.
    pub fn words(&self) -> Option<TensorId> {
        self.words
    }

    /// W₁ and W₂.
    pub fn towers(&self) -> &[TensorId; 2] {
        &self.towers
    }
}
