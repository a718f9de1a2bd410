//! The tensors of the window net.

use super::{Config, Objective, Table};
use crate::layers::losses::Transitions;
use crate::layers::window::Slot;
use crate::params::{Layout, Role, TensorId};
use std::sync::Arc;

/// The net: its configuration and where its tensors are.
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
    /// The net of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { window, hidden, labels, objective, .. } = config;
        assert!(window % 2 == 1 && hidden > 0 && labels > 0 && !config.tables.is_empty());
        let place = config.tables.iter().map(|table| table.width).sum();
        let mut layout = Layout::default();
        // What every step writes wholly comes first: a shard's gradients are an arena of just that.
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

    /// The words' table.
    pub fn words(&self) -> TensorId {
        self.tables[0]
    }

    /// Columns of x.
    pub(super) fn width(&self) -> usize {
        self.config.window * self.parts[0].place
    }
}
