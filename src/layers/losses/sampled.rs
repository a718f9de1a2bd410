//! Losses over a sample of the vocabulary (equations, section 10): their cost does not depend on its size.
//!
//! S words are drawn from q and shared by all tokens of a step. With oᵢ = h·Uᵢ + bᵢ and the expected count cᵢ of word i:
//!
//! *sampled softmax* (Jean et al. 2015): J = −ln softmax(o − ln c) of the target k among k and the sample. Two recipes are
//! consistent, and mixtures of them are not: S draws, all of them kept, the target too if drawn, cᵢ = S qᵢ, which is exact; or the
//! distinct words of S draws, without the target, cᵢ = 1 − (1 − qᵢ)^S, the probability that i is among them, which is as exact as
//! the words' inclusions are independent: very nearly so for samples of more than a few.
//!
//! *noise-contrastive estimation* (Mnih and Teh 2012): J = −ln σ(Δₖ) − Σ ln(1 − σ(Δᵢ)) with Δᵢ = oᵢ − ln Z − ln(S qᵢ), for a fixed
//! ln Z to which the model normalises itself.
//!
//! The rows that a step needs are gathered, the loss is an exact one over these, and the rows' gradients go back to the tables.

use super::full_softmax::{FullSoftmax, Gradient, NEVER, Own, Tile};
use super::sampler::Sampler;
use crate::kernels::Buffer;
use crate::kernels::rows::gather;
use crate::kernels::softmax::{add_scaled_rows, dot_rows, scaled_rows};
use crate::profile::{Part, span};
use crate::real::Real;
use crate::rng::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is learned from a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Which word of the sample and the target is the target.
    Softmax,
    /// Which of them are noise; with ln Z.
    Nce(f64),
}

/// How a sample is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Draws {
    /// S draws; accidental hits of the target are kept
    WithReplacement,
    /// The distinct words of S draws; accidental hits are left out
    Unique,
}

/// Rows gathered, or tokens worked on, by one task.
const PIECE: usize = 64;

/// A sampled output layer with its working memory.
pub struct Sampled<R> {
    objective: Objective,
    draws: Draws,
    sampler: Arc<Sampler>,
    units: usize,
    softmax: FullSoftmax<R>,
    /// The words drawn, ascending.
    ids: Vec<u32>,
    /// Their rows of U, and b less ln c: \[S, H\], \[S\]; and the gradients of these.
    rows: Buffer<R>,
    bias: Buffer<R>,
    drows: Buffer<R>,
    dbias: Buffer<R>,
    /// The targets' rows of U \[N, H\] and logits \[N\], later ∂J/∂ of them.
    target_rows: Buffer<R>,
    logits: Buffer<R>,
    hits: Vec<(u32, u32)>,
}

impl<R: Real> Sampled<R> {
    /// Room for `tokens` at a time and samples of `samples`.
    pub fn new(
        objective: Objective,
        draws: Draws,
        sampler: Arc<Sampler>,
        samples: usize,
        tokens: usize,
        units: usize,
    ) -> Self {
        assert!(samples > 0 && (objective == Objective::Softmax || draws == Draws::WithReplacement));
        Sampled {
            objective,
            draws,
            sampler,
            units,
            softmax: FullSoftmax::new(tokens, units, samples),
            ids: Vec::with_capacity(samples),
            rows: Buffer::zeros(samples * units),
            bias: Buffer::zeros(samples),
            drows: Buffer::zeros(samples * units),
            dbias: Buffer::zeros(samples),
            target_rows: Buffer::zeros(tokens * units),
            logits: Buffer::zeros(tokens),
            hits: Vec::with_capacity(tokens),
        }
    }

    /// Bytes of [`Sampled::new`], but for a little.
    pub fn bytes(samples: usize, tokens: usize, units: usize) -> usize {
        (2 * samples + tokens) * (units + 1) * size_of::<R>()
            + FullSoftmax::<R>::bytes(tokens, units, samples, Tile::default())
    }

    /// Draws a sample, and returns its words, ascending.
    pub fn draw(&mut self, mut stream: Stream) -> &[u32] {
        let _span = span(Part::Sample);
        self.ids.clear();
        self.ids.extend((0..self.bias.len()).map(|_| self.sampler.draw(&mut stream)));
        self.ids.sort_unstable();
        if self.draws == Draws::Unique {
            self.ids.dedup();
        }
        &self.ids
    }

    /// The mean loss of `targets` \[N\] given states `h` \[N, H\], in nats, for the sample that was drawn; ∂J/∂h goes to `dh`.
    /// `u`: \[V, H\], `b`: \[V\].
    pub fn loss(&mut self, dh: &mut [R], h: &[R], targets: &[u32], u: &[R], b: &[R]) -> f64 {
        let (units, samples) = (self.units, self.bias.len());
        let gathering = span(Part::Sample);
        let (objective, draws, sampler) = (self.objective, self.draws, &*self.sampler);
        let correction = |word: u32| {
            let (q, s) = (sampler.probability(word), samples as f64);
            match (objective, draws) {
                (Objective::Softmax, Draws::Unique) => (-(s * (-q).ln_1p()).exp_m1()).ln(),
                (Objective::Softmax, Draws::WithReplacement) => (s * q).ln(),
                (Objective::Nce(ln_z), _) => (s * q).ln() + ln_z,
            }
        };
        // Rows beyond the distinct words stay zero, and never happen.
        let drawn = self.ids.len();
        self.rows[drawn * units..].fill(R::zero());
        self.bias[drawn..].fill(R::of(NEVER));
        let pieces = self.rows.par_chunks_mut(PIECE * units).zip(self.bias.par_chunks_mut(PIECE));
        pieces.zip(self.ids.par_chunks(PIECE)).for_each(|((rows, bias), ids)| {
            gather(&mut rows[..ids.len() * units], ids, u, units);
            bias.iter_mut().zip(ids).for_each(|(bias, &id)| *bias = b[id as usize] - R::of(correction(id)));
        });
        let tokens = targets.len();
        let pieces = self.target_rows[..tokens * units].par_chunks_mut(PIECE * units);
        let pieces = pieces.zip(self.logits[..tokens].par_chunks_mut(PIECE)).zip(targets.par_chunks(PIECE));
        pieces.zip(h.par_chunks(PIECE * units)).for_each(|(((rows, logits), targets), h)| {
            gather(rows, targets, u, units);
            dot_rows(logits, h, rows, units);
            for (logit, &target) in logits.iter_mut().zip(targets) {
                *logit = *logit + b[target as usize] - R::of(correction(target));
            }
        });
        self.hits.clear();
        if draws == Draws::Unique {
            let ids = &self.ids;
            let hit = |(t, target): (usize, &u32)| Some((t as u32, ids.binary_search(target).ok()? as u32));
            self.hits.extend(targets.iter().enumerate().filter_map(hit));
        }
        let logits = &mut self.logits[..tokens];
        let logistic = objective != Objective::Softmax;
        drop(gathering);
        let gradient = Gradient { h: &mut *dh, output: &mut self.drows, bias: &mut self.dbias };
        let own = Own { logits: &mut *logits, hits: &self.hits, logistic };
        let loss = self.softmax.own_loss(gradient, h, own, &self.rows, &self.bias);
        let _span = span(Part::States);
        let pieces = self.target_rows[..tokens * units].par_chunks_mut(PIECE * units).zip(logits.par_chunks(PIECE));
        pieces.zip(dh.par_chunks_mut(PIECE * units)).zip(h.par_chunks(PIECE * units)).for_each(
            |(((rows, dlogits), dh), h)| {
                add_scaled_rows(dh, dlogits, rows, units);
                scaled_rows(rows, dlogits, h, units);
            },
        );
        loss
    }

    /// The words drawn by the last [`Sampled::loss`], ∂J/∂ of their rows of U and of b, and the same of its targets.
    pub fn gradients(&self, targets: usize) -> (&[u32], [&[R]; 2], [&[R]; 2]) {
        let (drawn, units) = (self.ids.len(), self.units);
        (
            &self.ids,
            [&self.drows[..drawn * units], &self.target_rows[..targets * units]],
            [&self.dbias[..drawn], &self.logits[..targets]],
        )
    }
}
