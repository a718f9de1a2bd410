//! The pseudo-Siamese net (equations, section 9): two layers that see the same input, one of sigmoid and one of rectified linear
//! units, and a softmax of their sum.
//!
//! h₁ = σ(xW₁ + b₁)    h₂ = relu(xW₂ + b₂)    θ = (h₁ + h₂)W₃ᵀ + b₃    J = −log softmax(θ)_y
//!
//! x is a word's vector, which learns too, or a row of numbers that are given. Shards of examples are what the work is parallel over;
//! their gradients are added in their order, and the table's rows are gathered after that.

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::update::add;
use crate::layers::embedding::lookup;
use crate::layers::losses::{DropoutPenalty, LabelSoftmax};
use crate::layers::matrix::{fill_rows, sum_rows, transpose, view, view_mut};
use crate::layers::shards;
use crate::layers::window::{Slot, Uses};
use crate::params::{Arena, Gradients, Layout, Role, TensorId};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What a net is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words; none where x is given as numbers.
    pub words: Option<usize>,
    /// D: width of x.
    pub embed: usize,
    /// H: units of each of the two layers.
    pub hidden: usize,
    /// K: labels.
    pub labels: usize,
    /// Whether x stays as it is, as given numbers do.
    pub freeze: bool,
    /// p: the dropout of h₁ + h₂ whose quadratic penalty is added to the loss in training.
    pub dropout_penalty: f64,
}

/// The net: its configuration and where its tensors are.
pub struct PseudoSiamese {
    config: Config,
    layout: Arc<Layout>,
    /// Without the words.
    dense: Arc<Layout>,
    /// W₁, b₁
    sigmoid: (TensorId, TensorId),
    /// W₂, b₂
    relu: (TensorId, TensorId),
    /// W₃, b₃
    output: (TensorId, TensorId),
    words: Option<TensorId>,
    towers: [TensorId; 2],
}

/// What a net sees: N examples.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, R> {
    /// Words.
    Words(&'a [u32]),
    /// Rows of a matrix of D columns.
    Rows(&'a [u32], &'a [R]),
}

/// Examples that are worked on together.
pub const SHARD: usize = 64;

/// What one shard of examples keeps of a step.
struct Shard<R: Real> {
    /// Its examples within the batch.
    examples: Range<usize>,
    /// x, and ∂x: [n, D].
    x: Buffer<R>,
    dx: Buffer<R>,
    /// h₁, h₂, and their sum, later δ₂: [n, H].
    h1: Buffer<R>,
    h2: Buffer<R>,
    sum: Buffer<R>,
    /// δ₂ on its way into the one layer, then the other: [n, H].
    delta: Buffer<R>,
    /// θ, later δ₁: [n, K].
    theta: Buffer<R>,
    softmax: LabelSoftmax<R>,
    penalty: DropoutPenalty<R>,
    gradients: Arena<R>,
    loss: f64,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// The most examples of a batch.
    examples: usize,
    shards: Vec<Shard<R>>,
    /// W₁, W₂ and W₃ transposed.
    sigmoid: Buffer<R>,
    relu: Buffer<R>,
    output: Buffer<R>,
    uses: Uses,
}

impl PseudoSiamese {
    /// The net of a configuration.
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

    /// The tensors that a step has gradients of, the first ones of all: vectors that stay as they are come last.
    pub fn trained(&self) -> &Arc<Layout> {
        if self.config.freeze { &self.dense } else { &self.layout }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The words' table, of a net of words.
    pub fn words(&self) -> Option<TensorId> {
        self.words
    }

    /// W₁ and W₂.
    pub fn towers(&self) -> &[TensorId; 2] {
        &self.towers
    }

    /// Working memory for batches of up to so many `examples`.
    pub fn space<R: Real>(&self, examples: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, examples))
    }

    /// Bytes of [`PseudoSiamese::space`], but for a little.
    pub fn space_bytes<R: Real>(&self, examples: usize) -> usize {
        Room::count(|room| self.space_in::<R>(room, examples))
    }

    fn space_in<R: Real>(&self, room: &mut Room, examples: usize) -> Space<R> {
        let Config { embed, hidden, labels, freeze, dropout_penalty, .. } = self.config;
        let (n, back) = (SHARD.min(examples), if freeze { 0 } else { embed });
        let shard = |room: &mut Room| Shard {
            examples: 0..0,
            x: room.zeros(n * embed),
            dx: room.zeros(n * back),
            h1: room.zeros(n * hidden),
            h2: room.zeros(n * hidden),
            sum: room.zeros(n * hidden),
            delta: room.zeros(n * hidden),
            theta: room.zeros(n * labels),
            softmax: LabelSoftmax::new(room, n, labels),
            penalty: DropoutPenalty::new(room, n, hidden, labels, dropout_penalty),
            gradients: Arena::within(room, &self.dense),
            loss: 0.0,
        };
        Space {
            examples,
            shards: room.many(examples.div_ceil(SHARD), shard),
            sigmoid: room.zeros(back * hidden),
            relu: room.zeros(back * hidden),
            output: room.zeros(labels * hidden),
            uses: Uses::new(room, if freeze { 0 } else { examples }),
        }
    }

    /// Bytes that [`PseudoSiamese::probabilities`] of so many `examples` takes, by as many threads.
    pub fn probabilities_bytes<R: Real>(&self, examples: usize, threads: usize) -> usize {
        examples * self.config.labels * size_of::<R>()
            + threads.min(examples.div_ceil(SHARD)) * self.space_bytes::<R>(SHARD.min(examples))
    }

    /// The mean loss an example, penalty included, and its gradient.
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
                self.backward(shard, targets, scale, [sigmoid, relu], w);
            },
        );
        let shards = &*shards;
        shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        if let Some(words) = self.words.filter(|_| !self.config.freeze) {
            let table = g.table_mut(words);
            let embed = self.config.embed;
            let of = |i: usize| (&ids[shards[i].examples.clone()], &shards[i].dx[..shards[i].examples.len() * embed]);
            uses.scatter(shards.len(), of, table, Slot { width: embed, offset: 0, place: embed });
        }
        shards.iter().map(|shard| shard.loss).sum::<f64>() * scale
    }

    /// The rows of a table that the examples are, and the table.
    fn table<'a, R: Real>(&self, input: Input<'a, R>, w: &'a Arena<R>) -> (&'a [u32], &'a [R]) {
        match (input, self.words) {
            (Input::Words(ids), Some(words)) => (ids, w.slice(words)),
            (Input::Rows(ids, table), None) => (ids, table),
            _ => panic!("a net of words sees words, another one rows of numbers"),
        }
    }

    /// From the table to the scores θ, their bias not yet added.
    fn forward<R: Real>(&self, shard: &mut Shard<R>, ids: &[u32], table: &[R], output: &[R], w: &Arena<R>) {
        let Config { embed, hidden, labels, .. } = self.config;
        let n = shard.examples.len();
        let x = &mut shard.x[..n * embed];
        lookup(x, &ids[shard.examples.clone()], table, embed);
        let (h1, h2) = (&mut shard.h1[..n * hidden], &mut shard.h2[..n * hidden]);
        let towers = [(self.sigmoid, Activation::Sigmoid, &mut *h1), (self.relu, Activation::Relu, &mut *h2)];
        for ((weight, bias), f, h) in towers {
            fill_rows(h, w.slice(bias));
            add_product(view_mut(h, n, hidden), view(x, n, embed), w.matrix(weight));
            f.apply(h);
        }
        let sum = &mut shard.sum[..n * hidden];
        sum.copy_from_slice(h1);
        add(sum, h2);
        let theta = &mut shard.theta[..n * labels];
        product(view_mut(theta, n, labels), view(sum, n, hidden), view(output, hidden, labels));
    }

    /// The loss, and the way back from it: δ₁ = ŷ − y, δ₂ = δ₁W₃ to both layers, ∂x from both.
    fn backward<R: Real>(
        &self,
        shard: &mut Shard<R>,
        targets: &[u32],
        scale: f64,
        transposed: [&[R]; 2],
        w: &Arena<R>,
    ) {
        let Config { embed, hidden, labels, freeze, .. } = self.config;
        let n = shard.examples.len();
        let targets = &targets[shard.examples.clone()];
        let (theta, sum) = (&mut shard.theta[..n * labels], &mut shard.sum[..n * hidden]);
        let (g, u) = (&mut shard.gradients, w.matrix(self.output.0));
        let dbias = g.slice_mut(self.output.1);
        shard.loss = shard.softmax.loss(theta, dbias, w.slice(self.output.1), targets, scale);
        shard.loss += shard.penalty.loss(theta, dbias, sum, targets, scale, u);
        product(g.matrix_mut(self.output.0), view(theta, n, labels).t(), view(sum, n, hidden));
        let delta = &mut shard.delta[..n * hidden];
        product(view_mut(delta, n, hidden), view(theta, n, labels), u);
        shard.penalty.backward(delta, g.matrix_mut(self.output.0), sum, scale, u);
        sum.copy_from_slice(delta);

        let (x, dx) = (&shard.x[..n * embed], &mut shard.dx[..if freeze { 0 } else { n * embed }]);
        dx.fill(R::zero());
        let towers = [
            (self.sigmoid, Activation::Sigmoid, &shard.h1, delta, transposed[0]),
            (self.relu, Activation::Relu, &shard.h2, sum, transposed[1]),
        ];
        for ((weight, bias), f, h, delta, transposed) in towers {
            f.backward(delta, &h[..n * hidden]);
            let delta = &*delta;
            product(g.matrix_mut(weight), view(x, n, embed).t(), view(delta, n, hidden));
            sum_rows(g.slice_mut(bias), delta);
            if !freeze {
                add_product(view_mut(dx, n, embed), view(delta, n, hidden), view(transposed, hidden, embed));
            }
        }
    }

    /// ŷ of examples: \[N, K\].
    pub fn probabilities<R: Real>(&self, input: Input<R>, w: &Arena<R>) -> Vec<R> {
        let Config { labels, .. } = self.config;
        let (ids, table) = self.table(input, w);
        let mut output = Buffer::zeros(self.config.hidden * labels);
        transpose(&mut output, w.matrix(self.output.0));
        let mut y = vec![R::zero(); ids.len() * labels];
        shards::blocks(&mut y, labels, SHARD, |rows, y| {
            let ids = &ids[rows];
            let mut space = self.space::<R>(ids.len());
            let shard = &mut space.shards[0];
            shard.examples = 0..ids.len();
            self.forward(shard, ids, table, &output, w);
            let theta = shard.theta[..y.len()].chunks_exact(labels);
            for (y, theta) in y.chunks_exact_mut(labels).zip(theta) {
                y.iter_mut().zip(theta).zip(w.slice(self.output.1)).for_each(|((y, &theta), &b)| *y = theta + b);
                let largest = y.iter().copied().fold(R::neg_infinity(), R::max);
                y.iter_mut().for_each(|y| *y = (*y - largest).exp());
                let sum: R = y.iter().copied().sum();
                y.iter_mut().for_each(|y| *y /= sum);
            }
        });
        y
    }
}
