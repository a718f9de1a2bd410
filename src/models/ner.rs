//! The window net for named entities (equations, section 3; Collobert et al. 2011).
//!
//! x⁽ᵗ⁾ = [e⁽ᵗ⁻ᶜ⁾ … e⁽ᵗ⁺ᶜ⁾]    h = tanh(xW + b₁)    θ = hUᵀ + b₂    J = −Σ log softmax(θ)_y / N, or that of whole sentences
//!
//! e is a word's vector and those of its features, side by side. Dropout on x and on h. Tokens are divided into shards, which
//! the work is parallel over; their gradients are added in their order, and the tables' rows are gathered after that. What is kept of tokens
//! are matrices of a row each, of which a shard has its own rows: memory for so many tokens is enough for sentences of any length.

use crate::blas::{add_product, product};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::{Keep, factors, multiply};
use crate::layers::losses::{LabelSoftmax, Lattice, Sentences, Transitions, largest};
use crate::layers::matrix::{
    Matrix, Rows, add_rows, fill_rows, sum_rows, transpose, transpose_columns, view, view_mut,
};
use crate::layers::shards::{self, Split};
use crate::layers::window::{Slot, Uses, gather};
use crate::params::{Arena, Gradients, Layout, Role, TensorId};
use crate::profile::{self, span, task};
use crate::real::Real;
use crate::rng::{Place, Purpose};
use crate::sys::memory::{Buffer, Room};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What is learned to be likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
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
    hidden: TensorId,
    hidden_bias: TensorId,
    output: TensorId,
    output_bias: TensorId,
    transitions: Option<TensorId>,
    tables: Vec<TensorId>,
    parts: Vec<Slot>,
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

/// What one shard of tokens keeps of a step, beside the rows of its tokens.
struct Shard<R: Real> {
    /// Its tokens within the batch, and its sentences.
    tokens: Range<usize>,
    sentences: Range<usize>,
    softmax: LabelSoftmax<R>,
    sentence: Sentences,
    gradients: Arena<R>,
    loss: f64,
}

impl<R: Real> Shard<R> {
    fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// Makes a struct of matrices, and one of some rows of each.
macro_rules! matrices {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// What is kept of the tokens of a batch.
        struct Kept<R> {
            $($(#[$doc])* $name: Matrix<$type>,)*
        }

        /// What is kept of some of them.
        struct Tokens<'a, R> {
            $($name: Rows<'a, $type>,)*
        }

        impl<R: Real> Kept<R> {
            /// The first tokens.
            fn tokens(&mut self, count: usize) -> Tokens<'_, R> {
                Tokens { $($name: self.$name.rows(count),)* }
            }
        }

        impl<R: Real> Split for Tokens<'_, R> {
            fn split_at(self, count: usize) -> (Self, Self) {
                $(let $name = self.$name.split_at(count);)*
                (Tokens { $($name: $name.0,)* }, Tokens { $($name: $name.1,)* })
            }
        }
    };
}

matrices! {
    /// x after dropout, its mask, and ∂x: [N, window·D].
    x: R,
    kept_x: R,
    dx: R,
    /// tanh, its mask, and what dropout leaves of it, later ∂h: [N, H].
    h: R,
    kept_h: R,
    dropped: R,
    /// Scores, later their gradient: [N, K].
    theta: R,
    /// Of sentences ([`Lattice`]): [N, K], [N, 1], [N, K].
    forward: f64,
    shifts: f64,
    before: u32,
    /// What was predicted: [N, 1].
    labels: u32,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// The most tokens of a batch.
    tokens: usize,
    shards: Vec<Shard<R>>,
    in_use: usize,
    kept: Kept<R>,
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

    /// Working memory for batches of up to `tokens`, in sentences of any length; without `training` for [`Ner::predict`] alone.
    pub fn space<R: Real>(&self, tokens: usize, training: bool) -> Space<R> {
        Room::make(|room| self.space_in(room, tokens, training))
    }

    /// Bytes of [`Ner::space`], but for a little.
    pub fn space_bytes<R: Real>(&self, tokens: usize, training: bool) -> usize {
        Room::count(|room| self.space_in::<R>(room, tokens, training))
    }

    fn space_in<R: Real>(&self, room: &mut Room, tokens: usize, training: bool) -> Space<R> {
        let Config { hidden, labels, window, objective, .. } = self.config;
        let (width, sentence) = (self.width(), objective == Objective::Sentence);
        let local = Arc::new(if training { self.layout.before(self.tables[0]) } else { Layout::default() });
        let scored = if training && !sentence { SHARD.min(tokens) } else { 0 };
        let shard = |room: &mut Room| Shard {
            tokens: 0..0,
            sentences: 0..0,
            softmax: LabelSoftmax::new(room, scored, labels),
            sentence: Sentences::new(room, if sentence { labels } else { 0 }),
            gradients: Arena::within(room, &local),
            loss: 0.0,
        };
        let if_training = |width| if training { width } else { 0 };
        let if_sentence = |width| if sentence { width } else { 0 };
        Space {
            tokens,
            shards: room.many(tokens.div_ceil(SHARD), shard),
            in_use: 0,
            kept: Kept {
                x: Matrix::new(room, tokens, width),
                kept_x: Matrix::new(room, tokens, if_training(width)),
                dx: Matrix::new(room, tokens, if_training(width)),
                h: Matrix::new(room, tokens, hidden),
                kept_h: Matrix::new(room, tokens, if_training(hidden)),
                dropped: Matrix::new(room, tokens, if_training(hidden)),
                theta: Matrix::new(room, tokens, labels),
                forward: Matrix::new(room, tokens, if_training(if_sentence(labels))),
                shifts: Matrix::new(room, tokens, if_training(if_sentence(1))),
                before: Matrix::new(room, tokens, if_sentence(labels)),
                labels: Matrix::new(room, tokens, 1),
            },
            hidden: room.zeros(if_training(width * hidden)),
            output: room.zeros(labels * hidden),
            transitions: Transitions::new(room, if_sentence(labels)),
            uses: Uses::new(room, if_training(tokens * window)),
        }
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
        shards::blocks(&mut space.hidden, self.width(), STRIP, |columns, strip| {
            transpose_columns(strip, w.matrix(self.hidden), columns);
        });
        let scale = 1.0 / tokens as f64;
        let Space { shards, kept, hidden, output, transitions, .. } = space;
        let shards = &mut shards[..space.in_use];
        shards::each(shards, kept.tokens(tokens), Shard::rows, |i, shard, mut own| {
            let _task = task(profile::Part::Net);
            self.forward(i, shard, &mut own, batch, Some(noise), output, w);
            self.loss(shard, &mut own, batch, targets, scale, transitions, w);
            self.backward(shard, own, hidden, w);
        });
        shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        drop(net);
        let _span = span(profile::Part::Rows);
        let dx = &*kept.dx.rows(tokens).values;
        for ((&p, &part), ids) in self.tables.iter().zip(&self.parts).zip(batch.inputs) {
            if noise.freeze && p == self.words() {
                continue;
            }
            space.uses.scatter(1, |_| (ids, dx), g.table_mut(p), part);
        }
        shards.iter().map(|shard| shard.loss).sum::<f64>() * scale
    }

    /// The labels of a batch, \[N\].
    pub fn predict<R: Real>(&self, labels: &mut [u32], space: &mut Space<R>, batch: Batch, w: &Arena<R>) {
        let n = labels.len();
        self.prepare(space, batch, n, w);
        let Space { shards, in_use, kept, output, transitions, .. } = space;
        let k = self.config.labels;
        shards::each(&mut shards[..*in_use], kept.tokens(n), Shard::rows, |i, shard, mut own| {
            self.forward(i, shard, &mut own, batch, None, output, w);
            let Tokens { theta, labels, before, .. } = &mut own;
            match self.config.objective {
                Objective::Window => {
                    let bias = w.slice(self.output_bias);
                    for (label, theta) in labels.values.iter_mut().zip(theta.values.chunks_exact(k)) {
                        *label = largest(theta.iter().zip(bias).map(|(&theta, &b)| theta + b)) as u32;
                    }
                }
                Objective::Sentence => {
                    add_rows(theta.values, w.slice(self.output_bias));
                    for (_, own) in sentences(batch.ends, &shard.sentences, &shard.tokens) {
                        let lattice = Lattice { forward: &mut [], shifts: &mut [], before: before.part(&own) };
                        shard.sentence.decode(lattice, labels.part(&own), theta.part(&own), transitions);
                    }
                }
            }
        });
        labels.copy_from_slice(kept.labels.rows(n).values);
    }

    /// Divides a batch into shards, and takes the weights that all of them need in another form.
    fn prepare<R: Real>(&self, space: &mut Space<R>, batch: Batch, tokens: usize, w: &Arena<R>) {
        assert!(tokens > 0 && batch.inputs.len() == self.tables.len());
        assert!(tokens <= space.tokens, "a batch of {tokens} tokens, and memory for {}", space.tokens);
        assert!(batch.inputs.iter().all(|ids| ids.len() == tokens * self.config.window));
        transpose(&mut space.output, w.matrix(self.output));
        space.in_use = 0;
        let mut add = |tokens: Range<usize>, sentences: Range<usize>| {
            let shard = &mut space.shards[space.in_use];
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
        let (n, width) = (shard.tokens.len(), self.width());
        let places = shard.tokens.start * window..shard.tokens.end * window;
        let x = &mut *own.x.values;
        for ((&p, &part), ids) in self.tables.iter().zip(&self.parts).zip(batch.inputs) {
            gather(x, &ids[places.clone()], w.slice(p), part);
        }
        let h = &mut *own.h.values;
        fill_rows(h, w.slice(self.hidden_bias));
        if let Some(noise) = noise {
            let kept = &mut *own.kept_x.values;
            factors(noise.keep, self.place(noise, 0, index), kept);
            multiply(x, kept);
        }
        add_product(view_mut(h, n, hidden), view(x, n, width), w.matrix(self.hidden));
        Activation::Tanh.apply(h);
        let top = match noise {
            None => h,
            Some(noise) => {
                let dropped = &mut *own.dropped.values;
                dropped.copy_from_slice(h);
                let kept = &mut *own.kept_h.values;
                factors(noise.keep, self.place(noise, 1, index), kept);
                multiply(dropped, kept);
                dropped
            }
        };
        let theta = view_mut(own.theta.values, n, labels);
        product(theta, view(top, n, hidden), view(output, hidden, labels));
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
        for (range, own) in sentences(batch.ends, &shard.sentences, &shard.tokens) {
            let lattice = Lattice { forward: forward.part(&own), shifts: shifts.part(&own), before: &mut [] };
            shard.loss += shard.sentence.loss(lattice, theta.part(&own), transitions, &targets[range], scale);
        }
        shard.sentence.gradient(shard.gradients.slice_mut(p), scale);
        sum_rows(shard.gradients.slice_mut(self.output_bias), theta.values);
    }

    /// The way back from ∂θ: ∂U, ∂h, ∂W, ∂b₁ and ∂x.
    fn backward<R: Real>(&self, shard: &mut Shard<R>, own: Tokens<R>, transposed: &[R], w: &Arena<R>) {
        let Config { hidden, labels, .. } = self.config;
        let (n, width) = (shard.tokens.len(), self.width());
        let (x, dx) = (&*own.x.values, own.dx.values);
        let (h, dh) = (&*own.h.values, own.dropped.values);
        let theta = view(own.theta.values, n, labels);
        let g = &mut shard.gradients;
        product(g.matrix_mut(self.output), theta.t(), view(dh, n, hidden));
        product(view_mut(dh, n, hidden), theta, w.matrix(self.output));
        multiply(dh, own.kept_h.values);
        Activation::Tanh.backward(dh, h);
        product(g.matrix_mut(self.hidden), view(x, n, width).t(), view(dh, n, hidden));
        sum_rows(g.slice_mut(self.hidden_bias), dh);
        product(view_mut(dx, n, width), view(dh, n, hidden), view(transposed, hidden, width));
        multiply(dx, own.kept_x.values);
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
