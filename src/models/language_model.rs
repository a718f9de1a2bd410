//! The recurrent language model (equations, section 4).
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = f(h⁽ᵗ⁻¹⁾U + e⁽ᵗ⁾W + b₁), layer on layer    ŷ⁽ᵗ⁾ = softmax(h⁽ᵗ⁾Uₒᵀ + b₂)    J = −Σ log ŷ_{x(t+1)} / N
//!
//! Dropout on e and on every layer's output. The lanes of a batch are divided into shards, which the recurrent part is parallel
//! over; the output layer is parallel over the vocabulary. Tokens lie shard by shard, in a shard step by step.

use crate::kernels::Buffer;
use crate::kernels::activation::Activation;
use crate::kernels::dropout::{Keep, dropout, dropout_backward};
use crate::kernels::update::add;
use crate::layers::cells::{Cell, Simple};
use crate::layers::embedding::{Order, lookup};
use crate::layers::losses::{FullSoftmax, Gradient};
use crate::layers::recurrent::{Transposed, Unrolled, Weights, view, view_mut};
use crate::params::{Arena, Gradients, Layout, P, Role};
use crate::real::Real;
use crate::rng::{Place, Purpose};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a language model is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words in the vocabulary.
    pub words: usize,
    /// D: width of a word vector.
    pub embed: usize,
    /// H: units of a layer.
    pub hidden: usize,
    /// Recurrent layers.
    pub layers: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Where set, the state begins at zero whenever this word comes in: sentences do not see each other.
    pub reset_at: Option<u32>,
}

/// The model: its configuration and where its tensors are.
pub struct LanguageModel {
    config: Config,
    layout: Arc<Layout>,
    recurrent: Vec<Weights>,
    embedding: P,
    output: P,
    output_bias: P,
    cell: Simple,
}

/// One window of text for B lanes: inputs and targets are \[T, B\], step by step.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// x⁽ᵗ⁾
    pub inputs: &'a [u32],
    /// x⁽ᵗ⁺¹⁾
    pub targets: &'a [u32],
    /// The first step whose targets count.
    pub loss_from: usize,
}

/// What dropout needs to know of a step.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The kept share.
    pub keep: Keep,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
}

/// Lanes that the recurrent part works on together.
pub const SHARD: usize = 16;

/// What one shard of lanes keeps of a window.
struct Shard<R: Real> {
    lanes: usize,
    /// The lane of the batch that it begins with.
    first: usize,
    inputs: Vec<u32>,
    /// The input of layer 0, then of layer 1 …, after dropout: [T·b, width].
    x: Vec<Buffer<R>>,
    /// The states of each layer: [T·b, H].
    h: Vec<Buffer<R>>,
    unrolled: Vec<Unrolled<R>>,
    /// The states that the next window begins with: [b, H] a layer.
    state: Vec<Buffer<R>>,
    /// ∂J of each layer's output, [T·b, H], and of the word vectors, [T·b, D].
    dh: Buffer<R>,
    dx: Buffer<R>,
    gradients: Arena<R>,
}

/// Working memory for windows of up to T steps and B lanes.
pub struct Space<R: Real> {
    lanes: usize,
    shards: Vec<Shard<R>>,
    transposed: Vec<Transposed<R>>,
    softmax: FullSoftmax<R>,
    /// The output layer's side, tokens that count only: [N, H], [N].
    top: Buffer<R>,
    dtop: Buffer<R>,
    targets: Vec<u32>,
    /// Word vectors' gradients and their words, shard by shard.
    words: Vec<u32>,
    de: Buffer<R>,
    order: Order,
}

impl LanguageModel {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, layers, .. } = config;
        assert!(words > 0 && embed > 0 && hidden > 0 && layers > 0, "every size is at least 1");
        let mut layout = Layout::default();
        let recurrent = (0..layers)
            .map(|l| Weights::add(&mut layout, &format!("layer{l}"), if l == 0 { embed } else { hidden }, hidden, 1))
            .collect();
        // The recurrent tensors come first: a shard's gradients are an arena of just those.
        let embedding = layout.add("embedding", words, embed, Role::Table);
        let output = layout.add("output", words, hidden, Role::Output);
        let output_bias = layout.add("output.bias", 1, words, Role::Bias);
        let cell = Simple(config.activation);
        LanguageModel { layout: Arc::new(layout), recurrent, embedding, output, output_bias, cell, config }
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
    pub fn words(&self) -> P {
        self.embedding
    }

    /// Working memory for windows of up to `steps` × `lanes`; the states are zero.
    pub fn space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        assert!(steps > 0 && lanes > 0);
        let Config { words, embed, hidden, layers, .. } = self.config;
        let local = Arc::new(self.layout.before(self.embedding));
        let shard = |first: usize| {
            let b = SHARD.min(lanes - first);
            let rows = steps * b;
            Shard {
                lanes: b,
                first,
                inputs: Vec::with_capacity(rows),
                x: (0..layers).map(|l| Buffer::zeros(rows * if l == 0 { embed } else { hidden })).collect(),
                h: (0..layers).map(|_| Buffer::zeros(rows * hidden)).collect(),
                unrolled: (0..layers).map(|_| Unrolled::new(steps, b, hidden, Cell::<R>::gates(&self.cell))).collect(),
                state: (0..layers).map(|_| Buffer::zeros(b * hidden)).collect(),
                dh: Buffer::zeros(rows * hidden),
                dx: Buffer::zeros(rows * embed.max(hidden)),
                gradients: Arena::zeros(&local),
            }
        };
        let tokens = steps * lanes;
        Space {
            lanes,
            shards: (0..lanes).step_by(SHARD).map(shard).collect(),
            transposed: self.recurrent.iter().map(|p| Transposed::new(&self.layout, p)).collect(),
            softmax: FullSoftmax::new(tokens, hidden, words),
            top: Buffer::zeros(tokens * hidden),
            dtop: Buffer::zeros(tokens * hidden),
            targets: Vec::with_capacity(tokens),
            words: Vec::with_capacity(tokens),
            de: Buffer::zeros(tokens * embed),
            order: Order::new(tokens),
        }
    }

    /// The mean loss of a window's counted targets, in nats, and its gradient.
    pub fn step<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        window: Window,
        noise: Noise,
        w: &Arena<R>,
    ) -> f64 {
        self.forward(space, window, Some(noise), w);

        let (hidden, embed) = (self.config.hidden, self.config.embed);
        let tokens = space.targets.len();
        let [output, bias] = g.arena.slices_mut([self.output, self.output_bias]);
        let gradient = Gradient { h: &mut space.dtop[..tokens * hidden], output, bias };
        let (u, b) = (w.slice(self.output), w.slice(self.output_bias));
        let loss = space.softmax.loss(gradient, &space.top[..tokens * hidden], &space.targets, u, b);

        for (transposed, p) in space.transposed.iter_mut().zip(&self.recurrent) {
            transposed.refresh(w, p);
        }
        let steps = window.inputs.len() / space.lanes;
        let counted = steps - window.loss_from;
        let shards = space.shards.par_iter_mut().with_max_len(1).enumerate();
        let dtop = space.dtop[..tokens * hidden].par_chunks(counted * SHARD * hidden);
        let de = space.de[..window.inputs.len() * embed].par_chunks_mut(steps * SHARD * embed);
        let transposed = &space.transposed;
        shards
            .zip(dtop)
            .zip(de)
            .for_each(|(((i, shard), dtop), de)| self.backward(i, shard, dtop, de, window, noise, transposed));

        // Shards are added in their order, whoever computed them.
        let recurrent = g.arena.all_mut().split_at_mut(self.layout.tensor(self.embedding).range().start).0;
        recurrent.fill(R::zero());
        space.words.clear();
        for shard in &space.shards {
            add(recurrent, shard.gradients.all());
            space.words.extend_from_slice(&shard.inputs);
        }
        let (table, rows) = g.table_mut(self.embedding);
        space.order.lookup_backward(&space.words, &space.de[..space.words.len() * embed], table, rows, embed);
        loss
    }

    /// ln ŷ of every counted target of a window, \[counted steps, B\], step by step.
    pub fn log_probabilities<R: Real>(&self, out: &mut [f64], space: &mut Space<R>, window: Window, w: &Arena<R>) {
        self.forward(space, window, None, w);
        let tokens = space.targets.len();
        assert_eq!(out.len(), tokens);
        let mut by_shard = vec![0.0; tokens];
        let (u, b) = (w.slice(self.output), w.slice(self.output_bias));
        space.softmax.log_probabilities(&mut by_shard, &space.top[..tokens * self.config.hidden], &space.targets, u, b);
        let counted = tokens / space.lanes;
        let mut from = 0;
        for shard in &space.shards {
            for t in 0..counted {
                out[t * space.lanes + shard.first..][..shard.lanes]
                    .copy_from_slice(&by_shard[from..from + shard.lanes]);
                from += shard.lanes;
            }
        }
    }

    /// Runs the recurrent part over a window; the counted tokens of its top layer go to `space.top`.
    fn forward<R: Real>(&self, space: &mut Space<R>, window: Window, noise: Option<Noise>, w: &Arena<R>) {
        let (lanes, hidden) = (space.lanes, self.config.hidden);
        let steps = window.inputs.len() / lanes;
        assert!(window.inputs.len() == steps * lanes && window.targets.len() == window.inputs.len());
        assert!(window.loss_from < steps, "a window has a target that counts");
        let counted = steps - window.loss_from;
        space.targets.clear();
        for shard in &space.shards {
            for t in window.loss_from..steps {
                space.targets.extend_from_slice(&window.targets[t * lanes + shard.first..][..shard.lanes]);
            }
        }
        let tops = space.top[..counted * lanes * hidden].par_chunks_mut(counted * SHARD * hidden);
        let shards = space.shards.par_iter_mut().with_max_len(1).enumerate().zip(tops);
        shards.for_each(|((i, shard), top)| {
            shard.inputs.clear();
            for t in 0..steps {
                shard.inputs.extend_from_slice(&window.inputs[t * lanes + shard.first..][..shard.lanes]);
            }
            let rows = shard.inputs.len();
            let mut width = self.config.embed;
            lookup(&mut shard.x[0][..rows * width], &shard.inputs, w.slice(self.embedding), width);
            if let Some(noise) = noise {
                dropout_backward(noise.keep, self.place(noise, 0, i), &mut shard.x[0][..rows * width]);
            }
            for (l, p) in self.recurrent.iter().enumerate() {
                let (h, reset) =
                    (&mut shard.h[l][..rows * hidden], |row: usize| Some(shard.inputs[row]) == self.config.reset_at);
                let x = view(&shard.x[l][..rows * width], rows, width);
                shard.unrolled[l].forward(h, x, &shard.state[l], reset, &self.cell, w, p);
                width = hidden;
                let last = l + 1 == self.config.layers;
                let from = if last { window.loss_from * shard.lanes * hidden } else { 0 };
                let out = if last { &mut *top } else { &mut shard.x[l + 1][..rows * hidden] };
                match noise {
                    Some(noise) => dropout(noise.keep, self.place(noise, l + 1, i), &h[from..], out),
                    None => out.copy_from_slice(&h[from..]),
                }
            }
        });
    }

    /// The way back through one shard, from the counted tokens of its top to its word vectors.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn backward<R: Real>(
        &self,
        index: usize,
        shard: &mut Shard<R>,
        dtop: &[R],
        de: &mut [R],
        window: Window,
        noise: Noise,
        transposed: &[Transposed<R>],
    ) {
        let (rows, hidden, embed) = (shard.inputs.len(), self.config.hidden, self.config.embed);
        let from = window.loss_from * shard.lanes * hidden;
        let dh = &mut shard.dh[..rows * hidden];
        dh[..from].fill(R::zero());
        dh[from..].copy_from_slice(dtop);
        dropout_backward(noise.keep, self.place(noise, self.config.layers, index), &mut dh[from..]);
        for l in (0..self.config.layers).rev() {
            let width = if l == 0 { embed } else { hidden };
            let (x, h) = (view(&shard.x[l][..rows * width], rows, width), &shard.h[l][..rows * hidden]);
            let reset = |row: usize| Some(shard.inputs[row]) == self.config.reset_at;
            let dx = &mut shard.dx[..rows * width];
            let (g, p) = (&mut shard.gradients, &self.recurrent[l]);
            shard.unrolled[l].backward(view_mut(dx, rows, width), dh, h, x, reset, &self.cell, &transposed[l], g, p);
            dropout_backward(noise.keep, self.place(noise, l, index), dx);
            if l > 0 { dh.copy_from_slice(dx) } else { de.copy_from_slice(dx) }
        }
    }

    /// Where the mask of a layer's input (or, after the last, the output layer's) is drawn.
    fn place(&self, noise: Noise, layer: usize, shard: usize) -> Place {
        Place::new(noise.seed, Purpose::Dropout, noise.step, (layer << 16 | shard) as u32)
    }

    /// ln-unnormalised scores of the word after those seen so far by lane 0: one step on `word`, \[V\].
    pub fn next_logits<R: Real>(&self, out: &mut [R], space: &mut Space<R>, word: u32, w: &Arena<R>) {
        assert_eq!(space.lanes, 1);
        self.forward(space, Window { inputs: &[word], targets: &[0], loss_from: 0 }, None, w);
        self.carry(space, 1);
        let (u, b) = (w.matrix(self.output), w.slice(self.output_bias));
        crate::blas::product(
            view_mut(out, 1, b.len()),
            view(&space.top[..self.config.hidden], 1, self.config.hidden),
            u.t(),
        );
        add(out, b);
    }

    /// Reads `inputs` \[T, B\] without predicting: the next window begins after them.
    pub fn advance<R: Real>(&self, space: &mut Space<R>, inputs: &[u32], w: &Arena<R>) {
        let steps = inputs.len() / space.lanes;
        self.forward(space, Window { inputs, targets: inputs, loss_from: steps - 1 }, None, w);
        self.carry(space, steps);
    }

    /// Makes the state of one lane zero.
    pub fn forget_lane<R: Real>(&self, space: &mut Space<R>, lane: usize) {
        let (shard, hidden) = (&mut space.shards[lane / SHARD], self.config.hidden);
        for state in &mut shard.state {
            state[lane % SHARD * hidden..][..hidden].fill(R::zero());
        }
    }

    /// Bytes of [`LanguageModel::space`].
    pub fn space_bytes<R: Real>(&self, steps: usize, lanes: usize) -> usize {
        let Config { words, embed, hidden, layers, .. } = self.config;
        let (tokens, shards) = (steps * lanes, lanes.div_ceil(SHARD));
        let recurrent = self.layout.before(self.embedding).len();
        let inputs = embed + (layers - 1) * hidden;
        // x, h, the state before and the pre-activations of each layer; ∂h, ∂x; top, ∂top, ∂e.
        let a_token = inputs + 3 * layers * hidden + hidden + embed.max(hidden) + 2 * hidden + embed;
        let floats = tokens * a_token + 2 * layers * lanes * hidden + (shards + 1) * recurrent;
        floats * size_of::<R>() + tokens * 20 + FullSoftmax::<R>::bytes(tokens, hidden, words)
    }

    /// Makes the state after the first `steps` of the last window the one that the next window begins with.
    pub fn carry<R: Real>(&self, space: &mut Space<R>, steps: usize) {
        if steps == 0 {
            return;
        }
        for shard in &mut space.shards {
            let row = shard.lanes * self.config.hidden;
            for (state, h) in shard.state.iter_mut().zip(&shard.h) {
                state.copy_from_slice(&h[(steps - 1) * row..][..row]);
            }
        }
    }
}

impl<R: Real> Space<R> {
    /// Forgets all states: the next window begins at zero.
    pub fn reset(&mut self) {
        self.states_mut().for_each(|state| state.fill(R::zero()));
    }

    /// The states that the next window begins with, a slice for each shard and layer.
    pub fn states(&self) -> impl Iterator<Item = &[R]> {
        self.shards.iter().flat_map(|shard| shard.state.iter().map(|state| &state[..]))
    }

    /// The same, to be restored.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut [R]> {
        self.shards.iter_mut().flat_map(|shard| shard.state.iter_mut().map(|state| &mut state[..]))
    }
}
