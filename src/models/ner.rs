//! The window network for named entities (equations, section 3; Collobert et al. 2011).
//!
//! x⁽ᵗ⁾ = [e⁽ᵗ⁻ᶜ⁾ … e⁽ᵗ⁺ᶜ⁾]    h = tanh((m ∘ x)W + b₁)    θ = (m ∘ h)Uᵀ + b₂    J = −Σ log softmax(θ)_y / N, or that of whole sentences
//!
//! and back: ∂U = ∂θᵀ(m ∘ h)    ∂b₂ = Σ ∂θ    δ = (1 − h²) ∘ m ∘ ∂θU    ∂W = (m ∘ x)ᵀδ    ∂b₁ = Σ δ    ∂x = m ∘ δWᵀ
//!
//! e is a word's vector and those of its features, side by side; the gradient of a table's row is the sum of its parts of ∂x. m is
//! the dropout mask.

mod batch;
mod config;
mod memory;
mod tensors;

pub use batch::{Batch, Noise};
pub use config::{Config, Objective, Table};
pub use memory::{SHARD, Space};
pub use tensors::Ner;

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::multiply;
use crate::layers::losses::{Lattice, Transitions};
use crate::layers::matrix::{add_rows, fill_rows, sum_rows, view};
use crate::layers::window::gather;
use crate::params::Arena;
use crate::real::Real;
use memory::{Shard, Tokens};

impl Ner {
    /// From the tables to the scores θ, without their bias.
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

    /// The loss of the scores, which are replaced by their gradient; the gradients of b₂ and of the transitions.
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

    /// The backward pass from ∂θ: ∂U, ∂h, ∂W, ∂b₁ and ∂x.
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
