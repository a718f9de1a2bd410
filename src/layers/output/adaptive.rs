//! The adaptive softmax (Grave et al. 2017): an exact softmax in which rare words are cheap.
//!
//! Words are sorted by decreasing frequency. The most frequent, and one class for each tail of the others, form the
//! *head*; a word of tail i is distinguished from the others of its tail by fewer units, hPᵢ:
//!
//! ln ŷ_w = ln softmax(hU₀ᵀ + b₀)_w                                       w in the head
//! ln ŷ_w = ln softmax(hU₀ᵀ + b₀)_{tail i} + ln softmax(hPᵢUᵢᵀ + bᵢ)_w    w in tail i
//!
//! The probabilities of all words sum to 1, so evaluation is exact, and a word costs the head and one tail. In a step
//! each tail processes the tokens whose targets it holds, in order. The softmax of a tail gives all its rows a
//! gradient, so the whole table is updated in every step; but tails are narrow: with
//! 641,611 words and 256 units the four tables have a tenth of the parameters of one output matrix.

use super::OutputLayer;
use super::clusters::Tail;
use super::full::{FullSoftmax, Gradient, Tile};
use super::tables::Tables;
use crate::blas::{Packed, Precision};
use crate::kernels::update::add;
use crate::layers::matrix::{view, view_mut};
use crate::params::{Arena, Gradients};
use crate::pool;
use crate::profile::{Part, span};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::s;
use std::ops::Range;

/// Tokens, or rows of a projection, per task.
const PIECE: usize = 32;

/// One tail's working memory.
struct TailLayer<R> {
    words: Range<usize>,
    width: usize,
    softmax: FullSoftmax<R>,
    /// The tokens whose targets are in this tail, in order, and their targets, relative to its first word.
    tokens: Vec<u32>,
    targets: Vec<u32>,
    /// hP and its gradient: \[N, width\].
    projected: Buffer<R>,
    dprojected: Buffer<R>,
    /// Pᵀ
    back: Packed<R>,
    precision: Precision,
}

/// The layer with its working memory.
pub struct AdaptiveSoftmax<R> {
    units: usize,
    head: FullSoftmax<R>,
    tails: Vec<TailLayer<R>>,
    /// The class of each token's target in the head: a word or a tail.
    classes: Vec<u32>,
    /// h and ∂h of one tail's tokens: \[N, H\].
    h: Buffer<R>,
    dh: Buffer<R>,
    within: Vec<f64>,
}

impl<R: Real> AdaptiveSoftmax<R> {
    /// Allocates memory in `room` for `tokens` tokens at a time, with gradients if `training`; products are in `precision`.
    pub fn within(
        room: &mut Room,
        tokens: usize,
        units: usize,
        words: usize,
        tails: &[Tail],
        training: bool,
        precision: Precision,
    ) -> Self {
        let precision = if training { precision } else { Precision::F32 };
        let back = |n: usize| if training { n } else { 0 };
        let layer = |room: &mut Room, units, words| {
            FullSoftmax::within(room, tokens, units, words, Tile::default(), training, precision)
        };
        let head = layer(room, units, tails.first().map_or(words, |tail| tail.first) + tails.len());
        let part = |(words, tail): (Range<usize>, &Tail)| TailLayer {
            width: tail.width,
            softmax: layer(room, tail.width, words.len()),
            words,
            tokens: room.vec(tokens),
            targets: room.vec(tokens),
            projected: room.zeros(tokens * tail.width),
            dprojected: room.zeros(back(tokens * tail.width)),
            back: Packed::new(room, back(tail.width), units, precision),
            precision,
        };
        AdaptiveSoftmax {
            units,
            head,
            tails: Tail::ranges(tails, words).zip(tails).map(part).collect(),
            classes: room.vec(tokens),
            h: room.zeros(tokens * units),
            dh: room.zeros(back(tokens * units)),
            within: room.vec(tokens),
        }
    }

    /// The mean cross-entropy of `targets` \[N\] given states `h` \[N, H\], in nats. ∂J/∂h goes to `dh`, the gradients
    /// of the tensors `p` to `g`; all are overwritten.
    pub fn loss(&mut self, g: &mut Arena<R>, dh: &mut [R], h: &[R], targets: &[u32], p: &Tables, w: &Arena<R>) -> f64 {
        let (units, scale) = (self.units, 1.0 / targets.len() as f64);
        self.sort(targets);
        let [output, bias] = g.slices_mut([p.output, p.bias]);
        let gradient = Gradient { h: &mut *dh, output, bias };
        let mut loss = self.head.loss(gradient, h, &self.classes, w.slice(p.output), w.slice(p.bias));
        for (tail, p) in self.tails.iter_mut().zip(&p.tails) {
            let [dprojection, output, bias] = g.slices_mut([p.projection, p.output, p.bias]);
            let (n, width) = (tail.tokens.len(), tail.width);
            if n == 0 {
                [dprojection, output, bias].into_iter().for_each(|g| g.fill(R::zero()));
                continue;
            }
            tail.project(&mut self.h, h, units, w.slice(p.projection));
            let (projected, dprojected) = (&tail.projected[..n * width], &mut tail.dprojected[..n * width]);
            let gradient = Gradient { h: &mut *dprojected, output, bias };
            let tables = (w.slice(p.output), w.slice(p.bias));
            loss += tail.softmax.scaled_loss(scale, gradient, projected, &tail.targets, tables.0, tables.1);
            let _span = span(Part::States);
            // ∂P = hᵀ ∂(hP), ∂h += ∂(hP) Pᵀ
            let precision = tail.precision;
            let (own, dprojected) = (view(&self.h[..n * units], n, units), view(dprojected, n, width));
            pool::each(pool::chunks_mut(dprojection, PIECE * width), |i, dp| {
                let rows = dp.len() / width;
                precision.product(
                    view_mut(dp, rows, width),
                    own.slice(s![.., i * PIECE..i * PIECE + rows]).t(),
                    dprojected,
                );
            });
            tail.back.pack(w.matrix(p.projection).t());
            let back = &tail.back;
            pool::each(pool::chunks_mut(&mut self.dh[..n * units], PIECE * units), |i, dh| {
                let rows = dh.len() / units;
                back.product(view_mut(dh, rows, units), dprojected.slice(s![i * PIECE..i * PIECE + rows, ..]));
            });
            for (&t, more) in tail.tokens.iter().zip(self.dh.chunks_exact(units)) {
                add(&mut dh[t as usize * units..][..units], more);
            }
        }
        loss
    }

    /// ln ŷₖ of each of `targets` \[N\], given states `h` \[N, H\].
    pub fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], p: &Tables, w: &Arena<R>) {
        self.sort(targets);
        self.head.log_probabilities(out, h, &self.classes, w.slice(p.output), w.slice(p.bias));
        for (tail, p) in self.tails.iter_mut().zip(&p.tails) {
            let n = tail.tokens.len();
            if n == 0 {
                continue;
            }
            tail.project(&mut self.h, h, self.units, w.slice(p.projection));
            self.within.resize(n, 0.0);
            let projected = &tail.projected[..n * tail.width];
            let (u, b) = (w.slice(p.output), w.slice(p.bias));
            tail.softmax.log_probabilities(&mut self.within, projected, &tail.targets, u, b);
            for (&t, within) in tail.tokens.iter().zip(&self.within) {
                out[t as usize] += within;
            }
        }
    }

    /// Finds each token's class in the head, and the tokens of each tail.
    fn sort(&mut self, targets: &[u32]) {
        let head = self.tails.first().map_or(u32::MAX, |tail| tail.words.start as u32);
        for tail in &mut self.tails {
            tail.tokens.clear();
            tail.targets.clear();
        }
        self.classes.clear();
        for (&target, t) in targets.iter().zip(0..) {
            let class = if target < head {
                target
            } else {
                let i = self.tails.partition_point(|tail| tail.words.end <= target as usize);
                let tail = self.tails.get_mut(i).expect("a target is a word of the vocabulary");
                tail.tokens.push(t);
                tail.targets.push(target - tail.words.start as u32);
                head + i as u32
            };
            self.classes.push(class);
        }
    }
}

impl<R: Real> TailLayer<R> {
    /// Copies h of the tail's tokens to `own`, and computes hP.
    fn project(&mut self, own: &mut [R], h: &[R], units: usize, projection: &[R]) {
        let _span = span(Part::Logits);
        let (n, width, precision) = (self.tokens.len(), self.width, self.precision);
        let projection = view(projection, units, width);
        let own = pool::chunks_mut(&mut own[..n * units], PIECE * units);
        let projected = pool::chunks_mut(&mut self.projected[..n * width], PIECE * width);
        pool::each((own, pool::chunks(&self.tokens, PIECE), projected), |_, (own, tokens, projected)| {
            for (own, &t) in own.chunks_exact_mut(units).zip(tokens) {
                own.copy_from_slice(&h[t as usize * units..][..units]);
            }
            precision.product(view_mut(projected, tokens.len(), width), view(own, tokens.len(), units), projection);
        });
    }
}

/// The [`OutputLayer`] of a model.
pub(super) struct Adaptive<R> {
    pub tables: Tables,
    pub layer: AdaptiveSoftmax<R>,
}

impl<R: Real> OutputLayer<R> for Adaptive<R> {
    fn loss(&mut self, g: &mut Gradients<R>, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) -> f64 {
        self.layer.loss(&mut g.arena, dh, h, targets, &self.tables, w)
    }

    fn states_gradient(&mut self, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) {
        self.layer.loss(&mut Arena::zeros(w.layout()), dh, h, targets, &self.tables, w);
    }

    fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], w: &Arena<R>) {
        self.layer.log_probabilities(out, h, targets, &self.tables, w);
    }
}
