//! Losses over a sample of the vocabulary (equations, section 10): their cost does not depend on its size.
//!
//! S words are drawn from q, for all tokens of a step or for each lane. With oᵢ = h·Uᵢ + bᵢ and the expected
//! count cᵢ of word i:
//!
//! *sampled softmax* (Jean et al. 2015): J = −ln softmax(o − ln c) of the target k among k and the sample. Two recipes are
//! consistent, mixtures of them are not: keep all S draws, the target too if drawn, with cᵢ = S qᵢ, which is exact; or
//! keep the distinct words of S draws except the target, with cᵢ = 1 − (1 − qᵢ)^S, the probability that i is among them,
//! which is exact if the words' inclusions are independent: they very nearly are in samples of more than a few.
//!
//! *noise-contrastive estimation* (Mnih and Teh 2012): J = −ln σ(Δₖ) − Σ ln(1 − σ(Δᵢ)) with Δᵢ = oᵢ − ln Z − ln(S qᵢ),
//! for a fixed ln Z to which the model normalises itself.
//!
//! The rows that a step needs are gathered, an exact loss over them is computed, and their gradients are scattered to
//! the tables. With one sample per lane there is a product of τ tokens for each lane instead of one for all, and there
//! are B times as many rows to gather and update, B·S, while the arithmetic is the same. The samples are independent, so
//! a step's gradient has less noise.

use super::full::{FullSoftmax, Gradient, Own, Tile};
use super::sampler::Sampler;
use super::{OutputLayer, Tables};
use crate::blas::Precision;
use crate::kernels::softmax::{add_scaled_rows, dot_rows, scaled_rows};
use crate::layers::embedding::{Order, lookup};
use crate::layers::shards::Division;
use crate::math::{exp_m1, ln, ln_1p};
use crate::params::{Arena, Gradients};
use crate::pool;
use crate::profile::{Part, span};
use crate::real::Real;
use crate::rng::Stream;
use crate::sys::memory::{Buffer, Room};
use crate::tree;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The sampled objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Sampled softmax: to find the target among itself and the sample.
    Softmax,
    /// Noise-contrastive estimation with this ln Z: to tell target and noise apart, word by word.
    Nce(f64),
}

/// How a sample is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Draws {
    /// S draws; accidental hits of the target are kept
    WithReplacement,
    /// The distinct words of S draws; accidental hits are left out
    Unique,
}

/// Whether a sample is shared, or drawn per lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// All tokens of a step have the same sample
    #[default]
    Shared,
    /// Each lane of a batch draws its own
    PerLane,
}

/// The sampled objective and its samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// The objective.
    pub objective: Objective,
    /// How a sample is drawn.
    pub draws: Draws,
    /// Whether the sample is shared or drawn per lane.
    pub negatives: Negatives,
    /// S: words per sample.
    pub samples: usize,
}

/// Rows gathered, or tokens processed, per task.
const PIECE: usize = 64;

/// A sampled output layer with its working memory.
pub struct Sampled<R> {
    samples: Samples<R>,
    /// The lanes of the batch, whose tokens are stored shard by shard, step by step within a shard; none if all share a sample.
    lanes: Option<Division>,
    /// The targets' rows of U \[N, H\] and logits \[N\], later their gradients.
    target_rows: Buffer<R>,
    logits: Buffer<R>,
    lane: Lane<R>,
}

/// One lane's h, ∂h, targets and their logits: \[T, H\], \[T\].
struct Lane<R> {
    h: Buffer<R>,
    dh: Buffer<R>,
    targets: Vec<u32>,
    logits: Buffer<R>,
}

/// The samples of a step.
struct Samples<R> {
    recipe: Recipe,
    sampler: Arc<Sampler>,
    units: usize,
    softmax: FullSoftmax<R>,
    /// The words drawn, ascending within each sample; if there are fewer than S, the last one fills the other
    /// places, which are not used.
    ids: Vec<u32>,
    /// Distinct words of each sample.
    drawn: Vec<usize>,
    /// How many times each of the words was drawn.
    counts: Vec<u32>,
    /// The rows of U of one sample, and b − ln c: \[S, H\], \[S\]; and the gradients of both for all samples.
    rows: Buffer<R>,
    bias: Buffer<R>,
    drows: Buffer<R>,
    dbias: Buffer<R>,
    /// Targets that are among the words drawn.
    hits: Vec<(u32, u32)>,
}

impl Recipe {
    /// Words drawn in a step, for a batch of `lanes` lanes.
    pub fn words(self, lanes: usize) -> usize {
        self.samples * if self.negatives == Negatives::PerLane { lanes } else { 1 }
    }
}

impl<R: Real> Sampled<R> {
    /// Allocates memory in `room` for `tokens` tokens at a time of a batch with `lanes`; products are in `precision`.
    pub fn within(
        room: &mut Room,
        recipe: Recipe,
        sampler: Arc<Sampler>,
        tokens: usize,
        units: usize,
        lanes: Division,
        precision: Precision,
    ) -> Self {
        let Recipe { objective, draws, negatives, samples } = recipe;
        assert!(samples > 0 && (objective == Objective::Softmax || draws == Draws::WithReplacement));
        let all = recipe.words(lanes.all);
        let lane = if negatives == Negatives::PerLane { tokens / lanes.all } else { 0 };
        let at_once = if lane > 0 { lane } else { tokens };
        let samples = Samples {
            recipe,
            sampler,
            units,
            softmax: FullSoftmax::within(room, at_once, units, samples, Tile::default(), true, precision),
            ids: room.vec(all),
            drawn: room.vec(all / samples),
            counts: room.vec(all),
            rows: room.zeros(samples * units),
            bias: room.zeros(samples),
            drows: room.zeros(all * units),
            dbias: room.zeros(all),
            hits: room.vec(at_once),
        };
        Sampled {
            samples,
            lanes: (lane > 0).then_some(lanes),
            target_rows: room.zeros(tokens * units),
            logits: room.zeros(tokens),
            lane: Lane {
                h: room.zeros(lane * units),
                dh: room.zeros(lane * units),
                targets: room.vec(lane),
                logits: room.zeros(lane),
            },
        }
    }

    /// Draws the samples of a step: `stream` returns the random numbers of a sample by its number, which is 0 if it is
    /// shared, otherwise the lane.
    pub fn draw(&mut self, stream: impl Fn(u32) -> Stream) {
        self.samples.ids.clear();
        self.samples.drawn.clear();
        self.samples.counts.clear();
        let count = self.lanes.map_or(1, |lanes| lanes.all);
        (0..count as u32).for_each(|sample| self.samples.draw(stream(sample)));
    }

    /// The mean loss of `targets` \[N\] given states `h` \[N, H\], in nats, for the samples that were drawn; ∂J/∂h goes
    /// to `dh`. `u`: \[V, H\], `b`: \[V\].
    pub fn loss(&mut self, dh: &mut [R], h: &[R], targets: &[u32], u: &[R], b: &[R]) -> f64 {
        let (units, tokens) = (self.samples.units, targets.len());
        let drawing = span(Part::Sample);
        let correction = self.samples.correction();
        let pieces = (
            pool::chunks_mut(&mut self.target_rows[..tokens * units], PIECE * units),
            pool::chunks_mut(&mut self.logits[..tokens], PIECE),
            pool::chunks(targets, PIECE),
            pool::chunks(h, PIECE * units),
        );
        pool::each(pieces, |_, (rows, logits, targets, h)| {
            lookup(rows, targets, u, units);
            dot_rows(logits, h, rows, units);
            for (logit, &target) in logits.iter_mut().zip(targets) {
                *logit = *logit + b[target as usize] - R::of(correction(target));
            }
        });
        drop(drawing);
        let loss = match self.lanes {
            None => self.samples.loss(0, tokens, dh, h, targets, &mut self.logits[..tokens], u, b),
            Some(lanes) => self.lanes_losses(lanes, dh, h, targets, u, b),
        };
        let _span = span(Part::States);
        let pieces = (
            pool::chunks_mut(&mut self.target_rows[..tokens * units], PIECE * units),
            pool::chunks(&self.logits[..tokens], PIECE),
            pool::chunks_mut(dh, PIECE * units),
            pool::chunks(h, PIECE * units),
        );
        pool::each(pieces, |_, (rows, dlogits, dh, h)| {
            add_scaled_rows(dh, dlogits, rows, units);
            scaled_rows(rows, dlogits, h, units);
        });
        loss
    }

    /// The losses lane by lane: a lane's tokens are gathered from the steps, and the gradients scattered to their places.
    fn lanes_losses(&mut self, lanes: Division, dh: &mut [R], h: &[R], targets: &[u32], u: &[R], b: &[R]) -> f64 {
        let Sampled { samples, logits, lane, .. } = self;
        let (units, tokens) = (samples.units, targets.len());
        let steps = tokens / lanes.all;
        let add = |a: f64, b: f64| a + b;
        let (mut total, mut sample, mut first) = (tree::Sum::new(0.0), 0, 0);
        for lanes in lanes.shards().map(|shard| shard.len()) {
            for place in 0..lanes {
                let token = |t: usize| first + t * lanes + place;
                lane.targets.clear();
                for (t, (h_t, logit)) in (0..steps).zip(lane.h.chunks_exact_mut(units).zip(&mut *lane.logits)) {
                    h_t.copy_from_slice(&h[token(t) * units..][..units]);
                    *logit = logits[token(t)];
                    lane.targets.push(targets[token(t)]);
                }
                let (h, dh_lane) = (&lane.h[..steps * units], &mut lane.dh[..steps * units]);
                let own = &mut lane.logits[..steps];
                total.add(samples.loss(sample, tokens, dh_lane, h, &lane.targets, own, u, b), add);
                for (t, dh_t) in (0..steps).zip(lane.dh.chunks_exact(units)) {
                    dh[token(t) * units..][..units].copy_from_slice(dh_t);
                    logits[token(t)] = lane.logits[t];
                }
                sample += 1;
            }
            first += steps * lanes;
        }
        total.total(add).expect("a batch has a lane")
    }

    /// The words drawn.
    pub fn ids(&self) -> &[u32] {
        &self.samples.ids
    }

    /// After the last [`Sampled::loss`], the gradients of U, for the words drawn and for its targets, and those of b.
    pub fn gradients(&self, targets: usize) -> ([&[R]; 2], [&[R]; 2]) {
        let Samples { units, drows, dbias, .. } = &self.samples;
        ([drows, &self.target_rows[..targets * units]], [dbias, &self.logits[..targets]])
    }
}

impl<R: Real> Samples<R> {
    /// Draws one more sample.
    fn draw(&mut self, mut stream: Stream) {
        let (samples, first) = (self.recipe.samples, self.ids.len());
        self.ids.extend((0..samples).map(|_| self.sampler.draw(&mut stream)));
        let ids = &mut self.ids[first..];
        ids.sort_unstable();
        let mut drawn = samples;
        self.counts.resize(first + samples, 1);
        // In a softmax, n draws of a word are one with n times its exponential: products need only the distinct words.
        if self.recipe.objective == Objective::Softmax {
            let counts = &mut self.counts[first..];
            drawn = 1;
            for i in 1..samples {
                if ids[i] == ids[drawn - 1] {
                    counts[drawn - 1] += 1;
                } else {
                    ids[drawn] = ids[i];
                    drawn += 1;
                }
            }
            let last = ids[drawn - 1];
            ids[drawn..].fill(last);
        }
        self.drawn.push(drawn);
    }

    /// ln c of a word, plus ln Z, if any.
    fn correction(&self) -> impl Fn(u32) -> f64 + Sync + use<R> {
        let (Recipe { objective, draws, samples, .. }, sampler) = (self.recipe, self.sampler.clone());
        move |word| {
            let (q, s) = (sampler.probability(word), samples as f64);
            match (objective, draws) {
                (Objective::Softmax, Draws::Unique) => ln(-exp_m1(s * ln_1p(-q))),
                (Objective::Softmax, Draws::WithReplacement) => ln(s * q),
                (Objective::Nce(ln_z), _) => ln(s * q) + ln_z,
            }
        }
    }

    /// The sum of the losses of the targets that share one sample, divided by `tokens`; their logits are replaced by their
    /// gradients. `dh` lacks the targets' part.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn loss(
        &mut self,
        sample: usize,
        tokens: usize,
        dh: &mut [R],
        h: &[R],
        targets: &[u32],
        logits: &mut [R],
        u: &[R],
        b: &[R],
    ) -> f64 {
        let drawing = span(Part::Sample);
        let (Recipe { objective, draws, samples, .. }, units) = (self.recipe, self.units);
        let drawn = self.drawn[sample];
        let ids = &self.ids[sample * samples..][..drawn];
        let correction = self.correction();
        let (rows, bias) = (&mut self.rows[..drawn * units], &mut self.bias[..drawn]);
        let counts = &self.counts[sample * samples..][..drawn];
        let pieces = (
            pool::chunks_mut(rows, PIECE * units),
            pool::chunks_mut(bias, PIECE),
            pool::chunks(counts, PIECE),
            pool::chunks(ids, PIECE),
        );
        pool::each(pieces, |_, (rows, bias, counts, ids)| {
            lookup(rows, ids, u, units);
            for ((bias, &id), &count) in bias.iter_mut().zip(ids).zip(counts) {
                let times = if draws == Draws::WithReplacement { ln(f64::from(count)) } else { 0.0 };
                *bias = b[id as usize] + R::of(times - correction(id));
            }
        });
        self.hits.clear();
        if draws == Draws::Unique {
            let hit = |(t, target): (usize, &u32)| Some((t as u32, ids.binary_search(target).ok()? as u32));
            self.hits.extend(targets.iter().enumerate().filter_map(hit));
        }
        drop(drawing);
        // Places that are not used have no gradient.
        let (output, none) = self.drows[sample * samples * units..][..samples * units].split_at_mut(drawn * units);
        none.fill(R::zero());
        let (bias, none) = self.dbias[sample * samples..][..samples].split_at_mut(drawn);
        none.fill(R::zero());
        let gradient = Gradient { h: dh, output, bias };
        self.softmax.set_words(drawn);
        let own = Own { logits, hits: &self.hits, logistic: objective != Objective::Softmax };
        self.softmax.own_loss(1.0 / tokens as f64, gradient, h, own, &self.rows[..drawn * units], &self.bias[..drawn])
    }
}

/// The [`OutputLayer`] of a model.
pub(super) struct OverSample<R> {
    tables: Tables,
    layer: Sampled<R>,
    /// The words drawn and the targets, sorted by word; and the list of distinct words.
    order: Order,
    rows: Vec<u32>,
}

impl<R: Real> OverSample<R> {
    /// Allocates memory for `tokens` tokens and `drawn` words drawn.
    pub fn new(room: &mut Room, tables: &Tables, layer: Sampled<R>, tokens: usize, drawn: usize) -> Self {
        OverSample {
            tables: tables.clone(),
            layer,
            order: Order::new(room, tokens + drawn),
            rows: room.vec(tokens + drawn),
        }
    }
}

impl<R: Real> OutputLayer<R> for OverSample<R> {
    fn touch(&mut self, g: &mut Gradients<R>, targets: &[u32], stream: &dyn Fn(u32) -> Stream) {
        self.layer.draw(stream);
        self.order.sort(self.layer.ids().iter().chain(targets).copied(), &mut self.rows);
        for p in [self.tables.output, self.tables.bias] {
            self.rows.clone_into(g.table_mut(p).list());
        }
    }

    fn loss(&mut self, g: &mut Gradients<R>, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) -> f64 {
        let (Tables { output, bias, .. }, units) = (&self.tables, self.layer.samples.units);
        let loss = self.layer.loss(dh, h, targets, w.slice(*output), w.slice(*bias));
        let (drawn, (rows, biases)) = (self.layer.ids().len(), self.layer.gradients(targets.len()));
        for (&p, width, [drawn_rows, own]) in [(output, units, rows), (bias, 1, biases)] {
            let of = |i: usize| match i.checked_sub(drawn) {
                None => &drawn_rows[i * width..][..width],
                Some(token) => &own[token * width..][..width],
            };
            self.order.lookup_backward(g.table_mut(p).parts_mut().1, width, of);
        }
        loss
    }

    fn states_gradient(&mut self, _dh: &mut [R], _h: &[R], _targets: &[u32], _w: &Arena<R>) {
        panic!("a model is looked at over the whole vocabulary");
    }

    fn log_probabilities(&mut self, _out: &mut [f64], _h: &[R], _targets: &[u32], _w: &Arena<R>) {
        panic!("a model is evaluated over the whole vocabulary");
    }
}
