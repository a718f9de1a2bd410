//! Batches of the window network: a training step, and prediction. The work is parallel over shards of tokens.

use super::memory::{SHARD, Shard, Space, Tokens};
use super::{Ner, Objective};
use crate::kernels::dropout::{Keep, factors, multiply};
use crate::layers::losses::{Lattice, largest};
use crate::layers::matrix::{add_rows, transpose, transpose_columns};
use crate::layers::shards;
use crate::params::{Arena, Gradients};
use crate::profile::{self, span, task};
use crate::real::Real;
use crate::rng::{Place, Purpose};
use crate::tree;
use std::ops::Range;

/// Tokens of a step with their windows.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// For each table, the rows that the places of every token's window hold: \[N, window\].
    pub inputs: &'a [Vec<u32>],
    /// Where each sentence ends, in tokens; not used by the window objective.
    pub ends: &'a [usize],
}

impl<'a> Batch<'a> {
    /// The sentences of a shard: their tokens within the batch, and within the shard.
    pub(super) fn sentences(
        self,
        sentences: &Range<usize>,
        tokens: &Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<'a> {
        let first = tokens.start;
        sentences.clone().scan(first, move |start, i| {
            let range = *start..self.ends[i];
            *start = range.end;
            Some((range.clone(), range.start - first..range.end - first))
        })
    }
}

/// What a training step depends on besides its batch.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The share that dropout keeps.
    pub keep: Keep,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// Whether word vectors are frozen: they get no gradient.
    pub freeze: bool,
}

impl Noise {
    /// Applies dropout to x (layer 0) or h (layer 1) of a shard, and stores the mask.
    pub(super) fn mask<R: Real>(&self, x: &mut [R], mask: &mut [R], layer: u32, shard: usize) {
        factors(self.keep, Place::new(self.seed, Purpose::Dropout, self.step, layer << 16 | shard as u32), mask);
        multiply(x, mask);
    }
}

/// Columns of W transposed per task.
const STRIP: usize = 64;

impl Ner {
    /// The mean loss per token, in nats, and its gradient.
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
        tree::sum(shards.iter().map(|shard| shard.loss)) * scale
    }

    /// Predicts the labels of a batch, \[N\].
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
                    for (_, own) in batch.sentences(&shard.sentences, &shard.tokens) {
                        let lattice = Lattice { forward: &mut [], shifts: &mut [], before: before.part(&own) };
                        shard.sentence.decode(lattice, labels.part(&own), theta.part(&own), transitions);
                    }
                }
            }
        });
        labels.copy_from_slice(kept.labels.rows(n).values);
    }

    /// Divides a batch into shards, and prepares the weights that all of them need in another form.
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
}
