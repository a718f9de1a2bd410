//! The pseudo-Siamese network (equations, section 9): two layers that see the same input, one of sigmoid and one of rectified linear
//! units, and a softmax of their sum.
//!
//! h₁ = σ(xW₁ + b₁)    h₂ = relu(xW₂ + b₂)    θ = (h₁ + h₂)W₃ᵀ + b₃    J = −log softmax(θ)_y
//!
//! and back: δ₁ = ∂θ = ŷ − y    ∂W₃ = δ₁ᵀ(h₁ + h₂)    ∂b₃ = Σ δ₁    δ₂ = δ₁W₃    δ₃ = δ₂ ∘ h₁ ∘ (1 − h₁)    δ₄ = δ₂ ∘ 1{h₂ > 0}
//! ∂W₁ = xᵀδ₃    ∂b₁ = Σ δ₃    ∂W₂ = xᵀδ₄    ∂b₂ = Σ δ₄    ∂x = δ₃W₁ᵀ + δ₄W₂ᵀ
//!
//! x is a word's vector, which learns too, or a row of numbers that are given. Shards of examples are what the work is parallel over;
//! their gradients are added as a tree, and the table's rows are gathered after that.

mod config;
mod memory;
mod probabilities;
mod tensors;

pub use config::Config;
pub use memory::{SHARD, Space};
pub use tensors::PseudoSiamese;

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::update::add;
use crate::layers::embedding::lookup;
use crate::layers::matrix::{fill_rows, sum_rows, transpose, view};
use crate::layers::shards;
use crate::layers::window::Slot;
use crate::params::{Arena, Gradients};
use crate::real::Real;
use crate::tree;
use memory::Shard;

/// The input of a network: N examples.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, R> {
    /// Words.
    Words(&'a [u32]),
    /// Rows of a matrix with D columns.
    Rows(&'a [u32], &'a [R]),
}

impl PseudoSiamese {
    /// The mean loss per example, penalty included, and its gradient.
    pub fn step<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        input: Input<R>,
        targets: &[u32],
        w: &Arena<R>,
    ) -> f64 {
        let examples = targets.len();
        let (ids, table) = self.table(input, w);
        assert!(examples > 0 && ids.len() == examples);
        assert!(examples <= space.examples, "a batch of {examples} examples, and memory for {}", space.examples);
        if !self.config.freeze {
            transpose(&mut space.sigmoid, w.matrix(self.sigmoid.0));
            transpose(&mut space.relu, w.matrix(self.relu.0));
        }
        transpose(&mut space.output, w.matrix(self.output.0));
        let scale = 1.0 / examples as f64;
        let Space { shards, sigmoid, relu, output, uses, .. } = space;
        let shards = &mut shards[..examples.div_ceil(SHARD)];
        shards::each(
            shards,
            (),
            |_| 0,
            |i, shard, ()| {
                shard.examples = i * SHARD..examples.min((i + 1) * SHARD);
                self.forward(shard, ids, table, output, w);
                self.loss(shard, targets, scale, w);
                self.backward(shard, scale, [sigmoid, relu], w);
            },
        );
        let shards = &*shards;
        shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        if let Some(words) = self.words.filter(|_| !self.config.freeze) {
            let table = g.table_mut(words);
            let embed = self.config.embed;
            let of = |i: usize| (&ids[shards[i].examples.clone()], shards[i].dx.first(shards[i].examples.len()));
            uses.scatter(shards.len(), of, table, Slot { width: embed, offset: 0, place: embed });
        }
        tree::sum(shards.iter().map(|shard| shard.loss)) * scale
    }

    /// The rows of the examples in a table, and the table.
    fn table<'a, R: Real>(&self, input: Input<'a, R>, w: &'a Arena<R>) -> (&'a [u32], &'a [R]) {
        match (input, self.words) {
            (Input::Words(ids), Some(words)) => (ids, w.slice(words)),
            (Input::Rows(ids, table), None) => (ids, table),
            _ => panic!("a net of words sees words, another one rows of numbers"),
        }
    }

    /// From the table to the scores θ, without their bias.
    fn forward<R: Real>(&self, shard: &mut Shard<R>, ids: &[u32], table: &[R], output: &[R], w: &Arena<R>) {
        let Config { embed, hidden, labels, .. } = self.config;
        let n = shard.examples.len();
        let (x, mut h1, mut h2) = (shard.x.rows(n), shard.h1.rows(n), shard.h2.rows(n));
        lookup(x.values, &ids[shard.examples.clone()], table, embed);
        let towers = [(self.sigmoid, Activation::Sigmoid, &mut h1), (self.relu, Activation::Relu, &mut h2)];
        for ((weight, bias), f, h) in towers {
            fill_rows(h.values, w.slice(bias));
            add_product(h.view_mut(), x.view(), w.matrix(weight));
            f.apply(h.values);
        }
        let sum = shard.sum.rows(n);
        sum.values.copy_from_slice(h1.values);
        add(sum.values, h2.values);
        product(shard.theta.rows(n).view_mut(), sum.view(), view(output, hidden, labels));
    }

    /// The loss of the scores, ∂θ and ∂b₃, penalty included.
    fn loss<R: Real>(&self, shard: &mut Shard<R>, targets: &[u32], scale: f64, w: &Arena<R>) {
        let n = shard.examples.len();
        let (theta, sum, targets) = (shard.theta.rows(n).values, shard.sum.first(n), &targets[shard.examples.clone()]);
        let (weight, bias) = self.output;
        let dbias = shard.gradients.slice_mut(bias);
        shard.loss = shard.softmax.loss(theta, dbias, w.slice(bias), targets, scale);
        shard.loss += shard.penalty.loss(theta, dbias, sum, targets, scale, w.matrix(weight));
    }

    /// The backward pass from δ₁ = ∂θ: δ₂ = δ₁W₃ to both layers, ∂x from both.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, scale: f64, transposed: [&[R]; 2], w: &Arena<R>) {
        let Config { embed, hidden, freeze, .. } = self.config;
        let n = shard.examples.len();
        let (theta, mut sum, mut delta) = (shard.theta.rows(n), shard.sum.rows(n), shard.delta.rows(n));
        let (g, u) = (&mut shard.gradients, w.matrix(self.output.0));
        product(g.matrix_mut(self.output.0), theta.view().t(), sum.view());
        product(delta.view_mut(), theta.view(), u);
        shard.penalty.backward(delta.values, g.matrix_mut(self.output.0), sum.values, scale, u);
        sum.values.copy_from_slice(delta.values);

        let (x, mut dx) = (shard.x.rows(n), shard.dx.rows(n));
        dx.values.fill(R::zero());
        let towers = [
            (self.sigmoid, Activation::Sigmoid, shard.h1.first(n), &mut delta, transposed[0]),
            (self.relu, Activation::Relu, shard.h2.first(n), &mut sum, transposed[1]),
        ];
        for ((weight, bias), f, h, delta, transposed) in towers {
            f.backward(delta.values, h);
            product(g.matrix_mut(weight), x.view().t(), delta.view());
            sum_rows(g.slice_mut(bias), delta.values);
            if !freeze {
                add_product(dx.view_mut(), delta.view(), view(transposed, hidden, embed));
            }
        }
    }
}
