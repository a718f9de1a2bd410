//! The Siamese network (equations, section 9; Bromley et al. 1993): one layer, used twice, maps similar words close to each other.
//!
//! h₁ = σ(x₁W + b)    h₂ = σ(x₂W + b)    D = ‖h₁ − h₂‖
//! contrastive: J = ½ y D² + ½ (1 − y) max(0, m − D)²    (Hadsell et al. 2006)
//! source:      J = ½ D²
//!
//! and back: ∂h₁ = c (h₁ − h₂) = −∂h₂    δ = ∂h ∘ h ∘ (1 − h)    ∂W = x₁ᵀδ₁ + x₂ᵀδ₂    ∂b = Σ δ₁ + δ₂    ∂x = δWᵀ
//! contrastive: c = y − (1 − y) max(0, m − D) / D    source: c = 1
//!
//! x is a word's vector, y how alike the two are, 0 to 1. The words of a shard of pairs are the rows of one matrix, the first ones
//! above, the second ones below. Shards are what the work is parallel over; their gradients are added as a tree.

mod config;
mod distances;
mod memory;
mod tensors;

pub use config::{Config, Loss};
pub use memory::{SHARD, Space};
pub use tensors::Siamese;

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::pairs::{squared_distances, squared_distances_backward};
use crate::layers::embedding::lookup;
use crate::layers::matrix::{Rows, fill_rows, sum_rows, transpose, view};
use crate::layers::shards;
use crate::layers::window::Slot;
use crate::params::{Arena, Gradients};
use crate::real::Real;
use crate::tree;
use memory::Shard;

/// The pairs of a step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The first word of each pair.
    pub first: &'a [u32],
    /// The second word of each pair.
    pub second: &'a [u32],
    /// y: how alike they are, 0 to 1.
    pub alike: &'a [f32],
}

impl Siamese {
    /// The mean loss per pair, and its gradient.
    pub fn step<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, batch: Batch, w: &Arena<R>) -> f64 {
        let pairs = batch.alike.len();
        assert!(pairs > 0 && batch.first.len() == pairs && batch.second.len() == pairs);
        assert!(pairs <= space.pairs, "a batch of {pairs} pairs, and memory for {}", space.pairs);
        space.in_use = pairs.div_ceil(SHARD);
        if !self.config.freeze {
            transpose(&mut space.hidden, w.matrix(self.hidden));
        }
        let (shards, transposed) = (&mut space.shards[..space.in_use], &space.hidden);
        shards::each(
            shards,
            (),
            |_| 0,
            |i, shard, ()| {
                shard.pairs = i * SHARD..pairs.min((i + 1) * SHARD);
                self.forward(shard, batch, w);
                self.loss(shard, batch, 1.0 / pairs as f64);
                self.backward(shard, transposed);
            },
        );
        let shards = &*shards;
        shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        if !self.config.freeze {
            let table = g.table_mut(self.words);
            let embed = self.config.embed;
            let of = |i: usize| (shards[i].ids.as_slice(), shards[i].dx.first(shards[i].ids.len()));
            let part = Slot { width: embed, offset: 0, place: embed };
            space.uses.scatter(shards.len(), of, table, part);
        }
        tree::sum(shards.iter().map(|shard| shard.loss)) / pairs as f64
    }

    /// From the table to h₁ and h₂.
    fn forward<R: Real>(&self, shard: &mut Shard<R>, batch: Batch, w: &Arena<R>) {
        shard.ids.clear();
        shard.ids.extend_from_slice(&batch.first[shard.pairs.clone()]);
        shard.ids.extend_from_slice(&batch.second[shard.pairs.clone()]);
        let n = shard.ids.len();
        self.hidden(shard.h.rows(n), shard.x.rows(n), &shard.ids, w);
    }

    /// h = σ(xW + b) of the words `ids`, whose vectors are copied to `x`.
    fn hidden<R: Real>(&self, mut h: Rows<R>, x: Rows<R>, ids: &[u32], w: &Arena<R>) {
        lookup(x.values, ids, w.slice(self.words), self.config.embed);
        fill_rows(h.values, w.slice(self.hidden_bias));
        add_product(h.view_mut(), x.view(), w.matrix(self.hidden));
        Activation::Sigmoid.apply(h.values);
    }

    /// The loss of each pair from its distance, which is replaced by c in ∂h₁ = c (h₁ − h₂) = −∂h₂.
    fn loss<R: Real>(&self, shard: &mut Shard<R>, batch: Batch, scale: f64) {
        let n = shard.pairs.len();
        let (h1, h2) = shard.h.rows(2 * n).split_at(n);
        let d = &mut shard.d[..n];
        squared_distances(d, h1.values, h2.values);
        shard.loss = 0.0;
        for (d, &y) in d.iter_mut().zip(&batch.alike[shard.pairs.clone()]) {
            let squared = d.f64();
            let (loss, c) = match self.config.loss {
                Loss::Source => (0.5 * squared, 1.0),
                Loss::Contrastive { margin } => {
                    let (y, distance) = (f64::from(y), squared.sqrt());
                    let lacking = margin - distance;
                    // Words at the same point have no direction to move apart. NaN stays NaN.
                    let part = if lacking <= 0.0 || distance == 0.0 { 0.0 } else { lacking / distance };
                    let lacking = if lacking <= 0.0 { 0.0 } else { lacking };
                    (0.5 * (y * squared + (1.0 - y) * lacking * lacking), y - (1.0 - y) * part)
                }
            };
            shard.loss += loss;
            *d = R::of(scale * c);
        }
    }

    /// The backward pass from c: ∂W, ∂b and ∂x.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, transposed: &[R]) {
        let Config { embed, hidden, freeze, .. } = self.config;
        let (n, g) = (shard.pairs.len(), &mut shard.gradients);
        let (h1, h2) = shard.h.rows(2 * n).split_at(n);
        squared_distances_backward(h1.values, h2.values, &shard.d[..n]);
        let (x, delta) = (shard.x.rows(2 * n), shard.h.rows(2 * n));
        product(g.matrix_mut(self.hidden), x.view().t(), delta.view());
        sum_rows(g.slice_mut(self.hidden_bias), delta.values);
        if !freeze {
            product(shard.dx.rows(2 * n).view_mut(), delta.view(), view(transposed, hidden, embed));
        }
    }
}
