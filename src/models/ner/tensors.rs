//! The tensors of the window network.

use super::{Config, Objective, Table};
use crate::layers::losses::Transitions;
use crate::layers::window::Slot;
use crate::params::{Layout, Role, TensorId};
use std::sync::Arc;

/// The network: its configuration and its tensors.
pub struct Ner {
    pub(super) config: Config,
    pub(super) layout: Arc<Layout>,
    pub(super) hidden: TensorId,
    pub(super) hidden_bias: TensorId,
    pub(super) output: TensorId,
    pub(super) output_bias: TensorId,
    pub(super) transitions: Option<TensorId>,
    pub(super) tables: Vec<TensorId>,
    pub(super) parts: Vec<Slot>,
}

impl Ner {
    /// The network of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { window, hidden, labels, objective, .. } = config;
        assert!(window % 2 == 1 && hidden > 0 && labels > 0 && !config.tables.is_empty());
        let place = config.tables.iter().map(|table| table.width).sum();
        let mut layout = Layout::default();
        // The tensors that every step writes wholly come first: a shard's gradients are an arena of just those.
        let hidden_weight = layout.add("hidden", window * place, hidden, Role::Weight);
        let hidden_bias = layout.add("hidden.bias", 1, hidden, Role::Bias);
        let output = layout.add("output", labels, hidden, Role::Output);
        let output_bias = layout.add("output.bias", 1, labels, Role::Bias);
        let transitions = (objective == Objective::Sentence)
            .then(|| layout.add("transitions", Transitions::rows(labels), labels, Role::Bias));
        let tables = config.tables.iter().map(|t| layout.add(&t.name, t.rows, t.width, Role::Table)).collect();
        let mut offset = 0;
        let part = |table: &Table| {
            offset += table.width;
            Slot { width: table.width, offset: offset - table.width, place }
        };
        let parts = config.tables.iter().map(part).collect();
        let layout = Arc::new(layout);
        Ner { layout, hidden: hidden_weight, hidden_bias, output, output_bias, transitions, tables, parts, config }
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
        self.tables[0]
    }

    /// Number of columns of x.
    pub(super) fn width(&self) -> usize {
        self.config.window * self.parts[0].place
    }
}
