//! The window net for named entities (equations, section 3; Collobert et al. 2011).
//!
//! x⁽ᵗ⁾ = [e⁽ᵗ⁻ᶜ⁾ … e⁽ᵗ⁺ᶜ⁾]    h = tanh((m ∘ x)W + b₁)    θ = (m ∘ h)Uᵀ + b₂    J = −Σ log softmax(θ)_y / N, or that of whole sentences
//!
//! and back: ∂U = ∂θᵀ(m ∘ h)    ∂b₂ = Σ ∂θ    δ = (1 − h²) ∘ m ∘ ∂θU    ∂W = (m ∘ x)ᵀδ    ∂b₁ = Σ δ    ∂x = m ∘ δWᵀ
//!
//! e is a word's vector and those of its features, side by side; a row of a table gets the sum of its shares of ∂x. m is dropout.

mod batch;
mod config;
mod memory;

pub use batch::{Batch, Noise};
pub use config::{Config, Objective, Table};
pub use memory::{SHARD, Space};

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::multiply;
use crate::layers::losses::{Lattice, Transitions};
use crate::layers::matrix::{add_rows, fill_rows, sum_rows, view};
use crate::layers::window::{Slot, gather};
use crate::params::{Arena, Layout, Role, TensorId};
use crate::real::Real;
use memory::{Shard, Tokens};
use std::sync::Arc;

/// The net: its configuration and where its tensors are.
pub struct Ner {
    config: Config,
    layout: Arc<Layout>,
    hidden: TensorId,
    hidden_bias: TensorId,
    output: TensorId,
    output_bias: TensorId,
    transitions: Option<TensorId>,
    tables: Vec<TensorId>,
    parts: Vec<Slot>,
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
    fn width(&self) -> usize {
        self.config.window * self.parts[0].place
    }

    /// From the tables to the scores θ, their bias not yet added.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn forward<R: Real>(
        &self,
        index: usize,
        shard: &Shard<R>,
        own: &mut Tokens<R>,
        batch: Batch,
        noise: Option<Noise>,
        output: &[R],
        w: &Arena<R>,
    ) {
        let Config { window, hidden, labels, .. } = self.config;
        let Tokens { x, kept_x, h, kept_h, dropped, theta, .. } = own;
        let places = shard.tokens.start * window..shard.tokens.end * window;
        for ((&p, &part), ids) in self.tables.iter().zip(&self.parts).zip(batch.inputs) {
            gather(x.values, &ids[places.clone()], w.slice(p), part);
        }
        if let Some(noise) = noise {
            noise.mask(x.values, kept_x.values, 0, index);
        }
        fill_rows(h.values, w.slice(self.hidden_bias));
        add_product(h.view_mut(), x.view(), w.matrix(self.hidden));
        Activation::Tanh.apply(h.values);
        let mut top = h;
        if let Some(noise) = noise {
            dropped.values.copy_from_slice(top.values);
            noise.mask(dropped.values, kept_h.values, 1, index);
            top = dropped;
        }
        product(theta.view_mut(), top.view(), view(output, hidden, labels));
    }

    /// The loss of the scores, which become its gradient; that of b₂ and of the transitions.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn loss<R: Real>(
        &self,
        shard: &mut Shard<R>,
        own: &mut Tokens<R>,
        batch: Batch,
        targets: &[u32],
        scale: f64,
        transitions: &Transitions,
        w: &Arena<R>,
    ) {
        let Tokens { theta, forward, shifts, .. } = own;
        let bias = w.slice(self.output_bias);
        let Some(p) = self.transitions else {
            let dbias = shard.gradients.slice_mut(self.output_bias);
            shard.loss = shard.softmax.loss(theta.values, dbias, bias, &targets[shard.tokens.clone()], scale);
            return;
        };
        add_rows(theta.values, bias);
        shard.loss = 0.0;
        shard.sentence.clear();
        for (range, own) in batch.sentences(&shard.sentences, &shard.tokens) {
            let lattice = Lattice { forward: forward.part(&own), shifts: shifts.part(&own), before: &mut [] };
            shard.loss += shard.sentence.loss(lattice, theta.part(&own), transitions, &targets[range], scale);
        }
        shard.sentence.gradient(shard.gradients.slice_mut(p), scale);
        sum_rows(shard.gradients.slice_mut(self.output_bias), theta.values);
    }

    /// The way back from ∂θ: ∂U, ∂h, ∂W, ∂b₁ and ∂x.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, own: Tokens<R>, transposed: &[R], w: &Arena<R>) {
        let Tokens { x, kept_x, mut dx, h, kept_h, dropped: mut dh, theta, .. } = own;
        let g = &mut shard.gradients;
        product(g.matrix_mut(self.output), theta.view().t(), dh.view());
        product(dh.view_mut(), theta.view(), w.matrix(self.output));
        multiply(dh.values, kept_h.values);
        Activation::Tanh.backward(dh.values, h.values);
        product(g.matrix_mut(self.hidden), x.view().t(), dh.view());
        sum_rows(g.slice_mut(self.hidden_bias), dh.values);
        product(dx.view_mut(), dh.view(), view(transposed, self.config.hidden, self.width()));
        multiply(dx.values, kept_x.values);
    }
}
