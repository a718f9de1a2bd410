//! The Siamese net (equations, section 9; Bromley et al. 1993): one layer, used twice, brings words that are alike near each other.
//!
//! h₁ = σ(x₁W + b)    h₂ = σ(x₂W + b)    D = ‖h₁ − h₂‖
//! contrastive: J = ½ y D² + ½ (1 − y) max(0, m − D)²    (Hadsell et al. 2006)
//! source:      J = ½ D²
//!
//! x is a word's vector, y how alike the two are, 0 to 1. The words of a shard of pairs are the rows of one matrix, the first ones
//! above, the second ones below. Shards are what the work is parallel over; their gradients are added in their order.

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::pairs::{squared_distances, squared_distances_backward};
use crate::layers::embedding::lookup;
use crate::layers::matrix::{fill_rows, sum_rows, transpose, view, view_mut};
use crate::layers::shards;
use crate::layers::window::{Slot, Uses};
use crate::params::{Arena, Gradients, Layout, Role, TensorId};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Loss {
    /// Pairs that are alike come near, the others go away from each other up to the margin.
    Contrastive {
        /// m: the distance that pairs which are not alike are to have.
        margin: f64,
    },
    /// All pairs come near: the loss of the source, which a constant h makes zero.
    Source,
}

/// What a net is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words.
    pub words: usize,
    /// D: width of a word's vector.
    pub embed: usize,
    /// H: hidden units.
    pub hidden: usize,
    /// What is made small.
    pub loss: Loss,
    /// Whether the words' vectors stay as they are.
    pub freeze: bool,
}

/// The net: its configuration and where its tensors are.
pub struct Siamese {
    config: Config,
    layout: Arc<Layout>,
    trained: Arc<Layout>,
    hidden: TensorId,
    hidden_bias: TensorId,
    words: TensorId,
}

/// Pairs of a step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The first word of each.
    pub first: &'a [u32],
    /// The second.
    pub second: &'a [u32],
    /// y: how alike they are, 0 to 1.
    pub alike: &'a [f32],
}

/// Pairs that are worked on together.
pub const SHARD: usize = 64;

/// What one shard of pairs keeps of a step.
struct Shard<R: Real> {
    /// Its pairs within the batch.
    pairs: Range<usize>,
    /// The words' rows, the first ones before the second ones.
    ids: Vec<u32>,
    /// x, and ∂x: [2n, D].
    x: Buffer<R>,
    dx: Buffer<R>,
    /// h, later ∂ of what σ was taken of: [2n, H].
    h: Buffer<R>,
    /// D², later what h₁ − h₂ is multiplied by to be ∂h₁: [n].
    d: Buffer<R>,
    gradients: Arena<R>,
    loss: f64,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// The most pairs of a batch.
    pairs: usize,
    shards: Vec<Shard<R>>,
    in_use: usize,
    /// W transposed, for ∂x.
    hidden: Buffer<R>,
    uses: Uses,
}

impl Siamese {
    /// The net of a configuration.
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

    /// The tensors that a step has gradients of, the first ones of all: vectors that stay as they are come last.
    pub fn trained(&self) -> &Arc<Layout> {
        &self.trained
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The words' table.
    pub fn words(&self) -> TensorId {
        self.words
    }

    /// Working memory for batches of up to `pairs`.
    pub fn space<R: Real>(&self, pairs: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, pairs))
    }

    /// Bytes of [`Siamese::space`], but for a little.
    pub fn space_bytes<R: Real>(&self, pairs: usize) -> usize {
        Room::count(|room| self.space_in::<R>(room, pairs))
    }

    fn space_in<R: Real>(&self, room: &mut Room, pairs: usize) -> Space<R> {
        let Config { embed, hidden, freeze, .. } = self.config;
        let local = Arc::new(self.layout.before(self.words));
        let (n, back) = (SHARD.min(pairs), usize::from(!freeze));
        let shard = |room: &mut Room| Shard {
            pairs: 0..0,
            ids: room.vec(2 * n),
            x: room.zeros(2 * n * embed),
            dx: room.zeros(back * 2 * n * embed),
            h: room.zeros(2 * n * hidden),
            d: room.zeros(n),
            gradients: Arena::within(room, &local),
            loss: 0.0,
        };
        Space {
            pairs,
            shards: room.many(pairs.div_ceil(SHARD), shard),
            in_use: 0,
            hidden: room.zeros(back * embed * hidden),
            uses: Uses::new(room, back * 2 * pairs),
        }
    }

    /// Bytes that [`Siamese::distances`] of `pairs` takes, by as many threads.
    pub fn distances_bytes<R: Real>(&self, pairs: usize, threads: usize) -> usize {
        let Config { embed, hidden, .. } = self.config;
        (pairs + threads.min(pairs.div_ceil(BLOCK)) * BLOCK.min(pairs) * (embed + 2 * hidden)) * size_of::<R>()
    }

    /// The mean loss a pair, and its gradient.
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
            let of = |i: usize| (shards[i].ids.as_slice(), &shards[i].dx[..shards[i].ids.len() * embed]);
            let part = Slot { width: embed, offset: 0, place: embed };
            space.uses.scatter(shards.len(), of, table, part);
        }
        shards.iter().map(|shard| shard.loss).sum::<f64>() / pairs as f64
    }

    /// From the table to h₁ and h₂.
    fn forward<R: Real>(&self, shard: &mut Shard<R>, batch: Batch, w: &Arena<R>) {
        shard.ids.clear();
        shard.ids.extend_from_slice(&batch.first[shard.pairs.clone()]);
        shard.ids.extend_from_slice(&batch.second[shard.pairs.clone()]);
        let n = shard.ids.len();
        let (x, h) = (&mut shard.x[..n * self.config.embed], &mut shard.h[..n * self.config.hidden]);
        self.hidden(h, x, &shard.ids, w);
    }

    /// h = σ(xW + b) of the words `ids`, whose vectors are copied to `x`.
    fn hidden<R: Real>(&self, h: &mut [R], x: &mut [R], ids: &[u32], w: &Arena<R>) {
        let Config { embed, hidden, .. } = self.config;
        lookup(x, ids, w.slice(self.words), embed);
        fill_rows(h, w.slice(self.hidden_bias));
        add_product(view_mut(h, ids.len(), hidden), view(x, ids.len(), embed), w.matrix(self.hidden));
        Activation::Sigmoid.apply(h);
    }

    /// The loss of each pair from its distance, which becomes c in ∂h₁ = c (h₁ − h₂) = −∂h₂.
    fn loss<R: Real>(&self, shard: &mut Shard<R>, batch: Batch, scale: f64) {
        let n = shard.pairs.len();
        let (first, second) = shard.h[..2 * n * self.config.hidden].split_at(n * self.config.hidden);
        let d = &mut shard.d[..n];
        squared_distances(d, first, second);
        shard.loss = 0.0;
        for (d, &y) in d.iter_mut().zip(&batch.alike[shard.pairs.clone()]) {
            let squared = d.f64();
            let (loss, c) = match self.config.loss {
                Loss::Source => (0.5 * squared, 1.0),
                Loss::Contrastive { margin } => {
                    let (y, distance) = (f64::from(y), squared.sqrt());
                    let lacking = margin - distance;
                    // Words in one place have no direction to part in. A NaN stays one.
                    let part = if lacking <= 0.0 || distance == 0.0 { 0.0 } else { lacking / distance };
                    let lacking = if lacking <= 0.0 { 0.0 } else { lacking };
                    (0.5 * (y * squared + (1.0 - y) * lacking * lacking), y - (1.0 - y) * part)
                }
            };
            shard.loss += loss;
            *d = R::of(scale * c);
        }
    }

    /// The way back from c: ∂W, ∂b and ∂x.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, transposed: &[R]) {
        let Config { embed, hidden, freeze, .. } = self.config;
        let n = shard.pairs.len();
        let (first, second) = shard.h[..2 * n * hidden].split_at_mut(n * hidden);
        squared_distances_backward(first, second, &shard.d[..n]);
        let (x, delta) = (&shard.x[..2 * n * embed], &shard.h[..2 * n * hidden]);
        let g = &mut shard.gradients;
        product(g.matrix_mut(self.hidden), view(x, 2 * n, embed).t(), view(delta, 2 * n, hidden));
        sum_rows(g.slice_mut(self.hidden_bias), delta);
        if !freeze {
            let dx = view_mut(&mut shard.dx[..2 * n * embed], 2 * n, embed);
            product(dx, view(delta, 2 * n, hidden), view(transposed, hidden, embed));
        }
    }

    /// h of the words `ids`: \[N, H\].
    pub fn encode<R: Real>(&self, ids: &[u32], w: &Arena<R>) -> Vec<R> {
        let Config { embed, hidden, .. } = self.config;
        let mut h = vec![R::zero(); ids.len() * hidden];
        shards::blocks(&mut h, hidden, BLOCK, |rows, h| {
            self.hidden(h, &mut vec![R::zero(); rows.len() * embed], &ids[rows], w);
        });
        h
    }

    /// The distance of each pair of words: ‖h₁ − h₂‖.
    pub fn distances<R: Real>(&self, first: &[u32], second: &[u32], w: &Arena<R>) -> Vec<R> {
        assert_eq!(first.len(), second.len());
        let mut distances = vec![R::zero(); first.len()];
        shards::blocks(&mut distances, 1, BLOCK, |pairs, d| {
            squared_distances(d, &self.encode(&first[pairs.clone()], w), &self.encode(&second[pairs], w));
            d.iter_mut().for_each(|d| *d = d.sqrt());
        });
        distances
    }
}

/// Words that are encoded at a time.
const BLOCK: usize = 512;
