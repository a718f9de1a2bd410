//! The window net for named entities (equations, section 3; Collobert et al. 2011).
//!
//! x⁽ᵗ⁾ = [e⁽ᵗ⁻ᶜ⁾ … e⁽ᵗ⁺ᶜ⁾]    h = tanh(xW + b₁)    θ = hUᵀ + b₂    J = −Σ log softmax(θ)_y / N, or that of whole sentences
//!
//! e is a word's vector and those of its features, side by side. Dropout on x and on h. Tokens are divided into shards, which
//! the work is parallel over; their gradients are added in their order, and the tables' rows are gathered after that.

use crate::blas::{add_product, product};
use crate::kernels::Buffer;
use crate::kernels::activation::Activation;
use crate::kernels::dropout::{Keep, factors, multiply};
use crate::kernels::update::add;
use crate::layers::losses::{LabelSoftmax, Sentences, Transitions, largest};
use crate::layers::recurrent::{fill_rows, sum_rows, transpose, transpose_columns, view, view_mut};
use crate::layers::window::{Part, Uses, gather};
use crate::params::{Arena, Gradients, Layout, P, Role};
use crate::profile::{self, span, task};
use crate::real::Real;
use crate::rng::{Place, Purpose};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What is learned to be likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Each token's label by itself (softmax).
    Window,
    /// The labels of a sentence together: scores of tags that follow each other, decoded by Viterbi.
    Sentence,
}

/// A table whose rows stand for words, or for one of their features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The tensor's name, as `embedding`.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
}

/// What a tagger is: saved with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The words' table, then those of their features.
    pub tables: Vec<Table>,
    /// Places of a window, odd.
    pub window: usize,
    /// H: hidden units.
    pub hidden: usize,
    /// K: labels.
    pub labels: usize,
    /// What is learned to be likely.
    pub objective: Objective,
}

/// The net: its configuration and where its tensors are.
pub struct Ner {
    config: Config,
    layout: Arc<Layout>,
    hidden: P,
    hidden_bias: P,
    output: P,
    output_bias: P,
    transitions: Option<P>,
    tables: Vec<P>,
    parts: Vec<Part>,
}

/// Tokens of a step with their windows.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// For each table, the rows that the places of every token's window hold: \[N, window\].
    pub inputs: &'a [Vec<u32>],
    /// Where each sentence ends, in tokens. The window objective does not look at it.
    pub ends: &'a [usize],
}

/// What a training step needs to know beside its batch.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The share that dropout keeps.
    pub keep: Keep,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// Whether the words' vectors get no gradient, and so stay as they are.
    pub freeze: bool,
}

/// Tokens that are worked on together: a shard has so many, or the sentences that reach so far.
pub const SHARD: usize = 32;

/// Columns of W that are transposed together.
const STRIP: usize = 64;

/// What one shard of tokens keeps of a step.
struct Shard<R: Real> {
    /// Its tokens within the batch, and its sentences.
    tokens: Range<usize>,
    sentences: Range<usize>,
    /// Tokens that there is room for.
    room: usize,
    /// x after dropout, its mask, and ∂x: [n, window·D].
    x: Buffer<R>,
    kept_x: Buffer<R>,
    dx: Buffer<R>,
    /// tanh, its mask, and what dropout leaves of it, later ∂h: [n, H].
    h: Buffer<R>,
    kept_h: Buffer<R>,
    dropped: Buffer<R>,
    /// Scores, later their gradient: [n, K].
    theta: Buffer<R>,
    softmax: LabelSoftmax<R>,
    sentence: Sentences,
    gradients: Arena<R>,
    loss: f64,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    shards: Vec<Shard<R>>,
    in_use: usize,
    /// W and U transposed: backward and forward products want contiguous rows.
    hidden: Buffer<R>,
    output: Buffer<R>,
    transitions: Transitions,
    uses: Uses,
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
            Part { width: table.width, offset: offset - table.width, place }
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
    pub fn words(&self) -> P {
        self.tables[0]
    }

    /// Columns of x.
    fn width(&self) -> usize {
        self.config.window * self.parts[0].place
    }

    /// Working memory for batches of up to `tokens` of which no sentence has more than `longest`; without `training` for
    /// [`Ner::predict`] alone.
    pub fn space<R: Real>(&self, tokens: usize, longest: usize, training: bool) -> Space<R> {
        let Config { hidden, labels, window, objective, .. } = self.config;
        let local = Arc::new(if training { self.layout.before(self.tables[0]) } else { Layout::default() });
        let (way_back, uses) = if training { (1, tokens * window) } else { (0, 0) };
        let (n, sentences) = self.room(tokens, longest);
        let shard = |_| {
            let mut shard = Shard {
                tokens: 0..0,
                sentences: 0..0,
                room: 0,
                x: Buffer::zeros(0),
                kept_x: Buffer::zeros(0),
                dx: Buffer::zeros(0),
                h: Buffer::zeros(0),
                kept_h: Buffer::zeros(0),
                dropped: Buffer::zeros(0),
                theta: Buffer::zeros(0),
                softmax: LabelSoftmax::new(if objective == Objective::Window { way_back * n } else { 0 }, labels),
                sentence: Sentences::new(sentences, labels),
                gradients: Arena::zeros(&local),
                loss: 0.0,
            };
            self.make_room(&mut shard, n, training);
            shard
        };
        Space {
            shards: (0..tokens.div_ceil(SHARD)).map(shard).collect(),
            in_use: 0,
            hidden: Buffer::zeros(self.width() * hidden),
            output: Buffer::zeros(labels * hidden),
            transitions: Transitions::new(labels),
            uses: Uses::new(uses),
        }
    }

    /// Tokens that a shard has room for at first, and those of its longest sentence.
    fn room(&self, tokens: usize, longest: usize) -> (usize, usize) {
        match self.config.objective {
            Objective::Window => (SHARD.min(tokens), 0),
            // Few shards have the longest sentence: room for it is made where it comes.
            Objective::Sentence => ((2 * SHARD).min(SHARD - 1 + longest).min(tokens), longest.min(2 * SHARD)),
        }
    }

    /// Bytes of [`Ner::space`], but for a little.
    pub fn space_bytes<R: Real>(&self, tokens: usize, longest: usize, training: bool) -> usize {
        let Config { hidden, labels, window, objective, .. } = self.config;
        let (n, sentences) = self.room(tokens, longest);
        let forward = n * (self.width() + hidden + labels);
        let backward = 2 * n * (self.width() + hidden) + self.layout.before(self.tables[0]).len();
        let softmax = if training && objective == Objective::Window { LabelSoftmax::<R>::bytes(n, labels) } else { 0 };
        let a_shard = (forward + if training { backward } else { 0 }) * size_of::<R>()
            + softmax
            + Sentences::bytes(sentences, labels);
        tokens.div_ceil(SHARD) * a_shard
            + (self.width() + labels) * hidden * size_of::<R>()
            + if training { Uses::bytes(tokens * window) } else { 0 }
    }

    /// Makes room for `n` tokens in a shard.
    fn make_room<R: Real>(&self, shard: &mut Shard<R>, n: usize, training: bool) {
        let Config { hidden, labels, .. } = self.config;
        let back = if training { n } else { 0 };
        shard.room = n;
        shard.x = Buffer::zeros(n * self.width());
        shard.kept_x = Buffer::zeros(back * self.width());
        shard.dx = Buffer::zeros(back * self.width());
        shard.h = Buffer::zeros(n * hidden);
        shard.kept_h = Buffer::zeros(back * hidden);
        shard.dropped = Buffer::zeros(back * hidden);
        shard.theta = Buffer::zeros(n * labels);
    }

    /// The mean loss a token, in nats, and its gradient.
    pub fn step<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        batch: Batch,
        targets: &[u32],
        noise: Noise,
        w: &Arena<R>,
    ) -> f64 {
        let tokens = targets.len();
        let net = span(profile::Part::Net);
        self.prepare(space, batch, tokens, w);
        let columns = |i: usize| i * STRIP..self.config.hidden.min((i + 1) * STRIP);
        let strips = space.hidden.par_chunks_mut(STRIP * self.width()).enumerate();
        strips.for_each(|(i, strip)| transpose_columns(strip, w.matrix(self.hidden), columns(i)));
        let scale = 1.0 / tokens as f64;
        let Space { shards, hidden, output, transitions, .. } = space;
        let shards = &mut shards[..space.in_use];
        shards.par_iter_mut().with_max_len(1).enumerate().for_each(|(i, shard)| {
            let _task = task(profile::Part::Net);
            self.forward(i, shard, batch, Some(noise), output, w);
            self.loss(shard, batch, targets, scale, transitions, w);
            self.backward(shard, hidden, w);
        });

        // Shards are added in their order, whoever computed them.
        let dense = &mut g.arena.all_mut()[..self.layout.before(self.tables[0]).len()];
        dense.copy_from_slice(shards[0].gradients.all());
        for shard in &shards[1..] {
            add(dense, shard.gradients.all());
        }
        drop(net);
        let shards = &*shards;
        let _span = span(profile::Part::Rows);
        for ((&p, &part), ids) in self.tables.iter().zip(&self.parts).zip(batch.inputs) {
            if noise.freeze && p == self.words() {
                continue;
            }
            let table = g.table_mut(p);
            let of = |i: usize| {
                let Shard { tokens, dx, .. } = &shards[i];
                let places = tokens.start * self.config.window..tokens.end * self.config.window;
                (&ids[places], &dx[..tokens.len() * self.width()])
            };
            space.uses.scatter(shards.len(), of, table, part);
        }
        shards.iter().map(|shard| shard.loss).sum::<f64>() * scale
    }

    /// The labels of a batch, \[N\].
    pub fn predict<R: Real>(&self, labels: &mut [u32], space: &mut Space<R>, batch: Batch, w: &Arena<R>) {
        self.prepare(space, batch, labels.len(), w);
        let Space { shards, in_use, output, transitions, .. } = space;
        let (mut rest, k) = (labels, self.config.labels);
        let mut parts = Vec::with_capacity(*in_use);
        for shard in &mut shards[..*in_use] {
            let (own, after) = rest.split_at_mut(shard.tokens.len());
            parts.push((shard, own));
            rest = after;
        }
        parts.into_par_iter().with_max_len(1).enumerate().for_each(|(i, (shard, labels))| {
            self.forward(i, shard, batch, None, output, w);
            match self.config.objective {
                Objective::Window => {
                    let bias = w.slice(self.output_bias);
                    for (label, theta) in labels.iter_mut().zip(shard.theta.chunks_exact(k)) {
                        *label = largest(theta.iter().zip(bias).map(|(&theta, &b)| theta + b)) as u32;
                    }
                }
                Objective::Sentence => {
                    add_rows(&mut shard.theta[..labels.len() * k], w.slice(self.output_bias));
                    for (_, own) in sentences(batch.ends, &shard.sentences, &shard.tokens) {
                        let theta = &shard.theta[own.start * k..own.end * k];
                        shard.sentence.decode(&mut labels[own], theta, transitions);
                    }
                }
            }
        });
    }

    /// Divides a batch into shards, and takes the weights that all of them need in another form.
    fn prepare<R: Real>(&self, space: &mut Space<R>, batch: Batch, tokens: usize, w: &Arena<R>) {
        assert!(tokens > 0 && batch.inputs.len() == self.tables.len());
        assert!(batch.inputs.iter().all(|ids| ids.len() == tokens * self.config.window));
        transpose(&mut space.output, w.matrix(self.output));
        space.in_use = 0;
        let mut add = |tokens: Range<usize>, sentences: Range<usize>| {
            let shard = &mut space.shards[space.in_use];
            if tokens.len() > shard.room {
                self.make_room(shard, tokens.len().next_power_of_two(), !shard.dx.is_empty());
                let longest =
                    sentences.clone().map(|i| batch.ends[i] - if i == 0 { 0 } else { batch.ends[i - 1] }).max();
                shard.sentence = Sentences::new(longest.unwrap_or(0).next_power_of_two(), self.config.labels);
            }
            (shard.tokens, shard.sentences) = (tokens, sentences);
            space.in_use += 1;
        };
        let Some(p) = self.transitions else {
            for start in (0..tokens).step_by(SHARD) {
                add(start..tokens.min(start + SHARD), 0..0);
            }
            return;
        };
        assert_eq!(batch.ends.last(), Some(&tokens), "the sentences are those of the batch");
        let (mut start, mut first) = (0, 0);
        for (i, &end) in batch.ends.iter().enumerate() {
            if end - start >= SHARD || end == tokens {
                add(start..end, first..i + 1);
                (start, first) = (end, i + 1);
            }
        }
        space.transitions.refresh(w.slice(p));
    }

    /// From the tables to the scores θ, their bias not yet added.
    fn forward<R: Real>(
        &self,
        index: usize,
        shard: &mut Shard<R>,
        batch: Batch,
        noise: Option<Noise>,
        output: &[R],
        w: &Arena<R>,
    ) {
        let Config { window, hidden, labels, .. } = self.config;
        let (n, width) = (shard.tokens.len(), self.width());
        let places = shard.tokens.start * window..shard.tokens.end * window;
        let x = &mut shard.x[..n * width];
        for ((&p, &part), ids) in self.tables.iter().zip(&self.parts).zip(batch.inputs) {
            gather(x, &ids[places.clone()], w.slice(p), part);
        }
        let h = &mut shard.h[..n * hidden];
        fill_rows(h, w.slice(self.hidden_bias));
        if let Some(noise) = noise {
            let kept = &mut shard.kept_x[..n * width];
            factors(noise.keep, self.place(noise, 0, index), kept);
            multiply(x, kept);
        }
        add_product(view_mut(h, n, hidden), view(x, n, width), w.matrix(self.hidden));
        Activation::Tanh.apply(h);
        let top = match noise {
            None => h,
            Some(noise) => {
                let dropped = &mut shard.dropped[..n * hidden];
                dropped.copy_from_slice(h);
                let kept = &mut shard.kept_h[..n * hidden];
                factors(noise.keep, self.place(noise, 1, index), kept);
                multiply(dropped, kept);
                dropped
            }
        };
        let theta = view_mut(&mut shard.theta[..n * labels], n, labels);
        product(theta, view(top, n, hidden), view(output, hidden, labels));
    }

    /// The loss of the scores, which become its gradient; that of b₂ and of the transitions.
    fn loss<R: Real>(
        &self,
        shard: &mut Shard<R>,
        batch: Batch,
        targets: &[u32],
        scale: f64,
        transitions: &Transitions,
        w: &Arena<R>,
    ) {
        let k = self.config.labels;
        let theta = &mut shard.theta[..shard.tokens.len() * k];
        let bias = w.slice(self.output_bias);
        let Some(p) = self.transitions else {
            let dbias = shard.gradients.slice_mut(self.output_bias);
            shard.loss = shard.softmax.loss(theta, dbias, bias, &targets[shard.tokens.clone()], scale);
            return;
        };
        add_rows(theta, bias);
        shard.loss = 0.0;
        shard.sentence.clear();
        for (range, own) in sentences(batch.ends, &shard.sentences, &shard.tokens) {
            let theta = &mut theta[own.start * k..own.end * k];
            shard.loss += shard.sentence.loss(theta, transitions, &targets[range], scale);
        }
        shard.sentence.gradient(shard.gradients.slice_mut(p), scale);
        sum_rows(shard.gradients.slice_mut(self.output_bias), theta);
    }

    /// The way back from ∂θ: ∂U, ∂h, ∂W, ∂b₁ and ∂x.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, transposed: &[R], w: &Arena<R>) {
        let Config { hidden, labels, .. } = self.config;
        let (n, width) = (shard.tokens.len(), self.width());
        let (x, dx) = (&shard.x[..n * width], &mut shard.dx[..n * width]);
        let (h, dh) = (&shard.h[..n * hidden], &mut shard.dropped[..n * hidden]);
        let theta = view(&shard.theta[..n * labels], n, labels);
        let g = &mut shard.gradients;
        product(g.matrix_mut(self.output), theta.t(), view(dh, n, hidden));
        product(view_mut(dh, n, hidden), theta, w.matrix(self.output));
        multiply(dh, &shard.kept_h[..n * hidden]);
        Activation::Tanh.backward(dh, h);
        product(g.matrix_mut(self.hidden), view(x, n, width).t(), view(dh, n, hidden));
        sum_rows(g.slice_mut(self.hidden_bias), dh);
        product(view_mut(dx, n, width), view(dh, n, hidden), view(transposed, hidden, width));
        multiply(dx, &shard.kept_x[..n * width]);
    }

    /// Where the mask of x (layer 0) or h (1) of a shard is drawn.
    fn place(&self, noise: Noise, layer: u32, shard: usize) -> Place {
        Place::new(noise.seed, Purpose::Dropout, noise.step, layer << 16 | shard as u32)
    }
}

/// The sentences of a shard: their tokens within the batch, and within the shard.
fn sentences<'a>(
    ends: &'a [usize],
    sentences: &Range<usize>,
    tokens: &Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<'a> {
    let first = tokens.start;
    sentences.clone().scan(first, move |start, i| {
        let range = *start..ends[i];
        *start = ends[i];
        Some((range.clone(), range.start - first..range.end - first))
    })
}

/// Adds `row` to every row of `x`.
fn add_rows<R: Real>(x: &mut [R], row: &[R]) {
    x.chunks_exact_mut(row.len()).for_each(|x| add(x, row));
}
