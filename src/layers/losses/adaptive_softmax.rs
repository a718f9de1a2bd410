//! The adaptive softmax (Grave et al. 2017): the exact softmax of a vocabulary whose rare words are cheap.
//!
//! Words stand in the order of falling frequency. The most frequent, and one class for each tail of the others, make the *head*; a
//! word of tail i is told from the others of its tail by fewer units, hPᵢ:
//!
//! ln ŷ_w = ln softmax(hU₀ᵀ + b₀)_w                                       w in the head
//! ln ŷ_w = ln softmax(hU₀ᵀ + b₀)_{tail i} + ln softmax(hPᵢUᵢᵀ + bᵢ)_w    w in tail i
//!
//! These are probabilities of all words that sum to 1, so evaluation is exact, and a word costs the head and one tail. In a step each
//! tail works on the tokens whose targets it holds, in the order of the tokens. A softmax within a tail gives all its rows a gradient,
//! so the tables are dense, and their updates walk them; but they are narrow: with 641,611 words and 256 units the four tables have
//! a tenth of the parameters of one output matrix.

use super::clusters::Tail;
use super::full_softmax::{FullSoftmax, Gradient, Tile};
use crate::blas::{Packed, Precision, add_product, product};
use crate::kernels::Buffer;
use crate::kernels::update::add;
use crate::layers::matrix::{view, view_mut};
use crate::params::{Arena, Layout, P, Role};
use crate::profile::{Part as Of, span};
use crate::real::Real;
use ndarray::s;
use rayon::prelude::*;
use std::ops::Range;

/// Tokens, or rows of a projection, that one task works on.
const PIECE: usize = 32;

/// Where the tensors are.
#[derive(Clone, Debug)]
pub struct AdaptiveTables {
    /// U₀: \[words of the head + tails, H\]
    pub output: P,
    /// b₀
    pub bias: P,
    tails: Vec<TailTables>,
}

/// Of one tail.
#[derive(Clone, Copy, Debug)]
struct TailTables {
    /// Pᵢ: \[H, width\]
    projection: P,
    /// Uᵢ: \[words, width\]
    output: P,
    /// bᵢ
    bias: P,
}

impl AdaptiveTables {
    /// Adds the tensors for `words` words on `units` units.
    pub fn add(layout: &mut Layout, words: usize, units: usize, tails: &[Tail]) -> Self {
        let classes = tails.first().map_or(words, |tail| tail.first) + tails.len();
        let output = layout.add("output", classes, units, Role::Output);
        let bias = layout.add("output.bias", 1, classes, Role::Bias);
        let tail = |(i, range): (usize, Range<usize>)| TailTables {
            projection: layout.add(format!("tail{i}.projection"), units, tails[i].width, Role::Weight),
            output: layout.add(format!("tail{i}.output"), range.len(), tails[i].width, Role::Output),
            bias: layout.add(format!("tail{i}.bias"), 1, range.len(), Role::Bias),
        };
        AdaptiveTables { output, bias, tails: Tail::ranges(tails, words).enumerate().map(tail).collect() }
    }

    /// The tails' biases.
    pub fn tail_biases(&self) -> impl DoubleEndedIterator<Item = P> {
        self.tails.iter().map(|tail| tail.bias)
    }
}

/// One tail's working memory.
struct Part<R> {
    words: Range<usize>,
    width: usize,
    softmax: FullSoftmax<R>,
    /// The tokens whose targets are in this tail, in order, and their targets, counted from its first word.
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
    tails: Vec<Part<R>>,
    /// What each token's target is in the head: a word or a tail.
    classes: Vec<u32>,
    /// h and ∂h of one tail's tokens: \[N, H\].
    h: Buffer<R>,
    dh: Buffer<R>,
    within: Vec<f64>,
}

impl<R: Real> AdaptiveSoftmax<R> {
    /// Room for `tokens` at a time; for gradients too if `training`, with products as precise as said.
    pub fn new(
        tokens: usize,
        units: usize,
        words: usize,
        tails: &[Tail],
        training: bool,
        precision: Precision,
    ) -> Self {
        let layer = |units, words| match training {
            true => FullSoftmax::new(tokens, units, words).precision(precision),
            false => FullSoftmax::without_gradient(tokens, units, words, Tile::default()),
        };
        let back = |n: usize| if training { n } else { 0 };
        let part = |(words, tail): (Range<usize>, &Tail)| Part {
            width: tail.width,
            softmax: layer(tail.width, words.len()),
            words,
            tokens: Vec::with_capacity(tokens),
            targets: Vec::with_capacity(tokens),
            projected: Buffer::zeros(tokens * tail.width),
            dprojected: Buffer::zeros(back(tokens * tail.width)),
            back: Packed::new(back(tail.width), units, precision),
            precision,
        };
        AdaptiveSoftmax {
            units,
            head: layer(units, tails.first().map_or(words, |tail| tail.first) + tails.len()),
            tails: Tail::ranges(tails, words).zip(tails).map(part).collect(),
            classes: Vec::with_capacity(tokens),
            h: Buffer::zeros(tokens * units),
            dh: Buffer::zeros(back(tokens * units)),
            within: Vec::with_capacity(tokens),
        }
    }

    /// Bytes of [`AdaptiveSoftmax::new`], but for a little.
    pub fn bytes(tokens: usize, units: usize, words: usize, tails: &[Tail], training: bool) -> usize {
        let ways = if training { 2 } else { 1 };
        let part = |(range, tail): (Range<usize>, &Tail)| {
            FullSoftmax::<R>::bytes(tokens, tail.width, range.len(), Tile::default(), training)
                + ways * tokens * tail.width * size_of::<R>()
        };
        let classes = tails.first().map_or(words, |tail| tail.first) + tails.len();
        FullSoftmax::<R>::bytes(tokens, units, classes, Tile::default(), training)
            + Tail::ranges(tails, words).zip(tails).map(part).sum::<usize>()
            + ways * tokens * units * size_of::<R>()
    }

    /// The mean cross-entropy of `targets` \[N\] given states `h` \[N, H\], in nats. ∂J/∂h goes to `dh`, the gradients of the tensors
    /// `p` to `g`; all are overwritten.
    pub fn loss(
        &mut self,
        g: &mut Arena<R>,
        dh: &mut [R],
        h: &[R],
        targets: &[u32],
        p: &AdaptiveTables,
        w: &Arena<R>,
    ) -> f64 {
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
            let _span = span(Of::States);
            // ∂P = hᵀ ∂(hP), ∂h += ∂(hP) Pᵀ
            let precision = tail.precision;
            let (own, dprojected) = (view(&self.h[..n * units], n, units), view(dprojected, n, width));
            dprojection.par_chunks_mut(PIECE * width).enumerate().for_each(|(i, dp)| {
                let rows = dp.len() / width;
                precision.product(
                    view_mut(dp, rows, width),
                    own.slice(s![.., i * PIECE..i * PIECE + rows]).t(),
                    dprojected,
                );
            });
            tail.back.pack(w.matrix(p.projection).t());
            let back = &tail.back;
            self.dh[..n * units].par_chunks_mut(PIECE * units).enumerate().for_each(|(i, dh)| {
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
    pub fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], p: &AdaptiveTables, w: &Arena<R>) {
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

    /// ln ŷ of all words \[V\], given one state `h` \[H\].
    pub fn distribution(&self, out: &mut [R], h: &[R], p: &AdaptiveTables, w: &Arena<R>) {
        let logits = |u: P, b: P, h: &[R]| -> Vec<f64> {
            let mut logits = w.slice(b).to_vec();
            let words = logits.len();
            add_product(view_mut(&mut logits, 1, words), view(h, 1, h.len()), w.matrix(u).t());
            let logits: Vec<f64> = logits.iter().map(|x| x.f64()).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = largest + logits.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            logits.into_iter().map(|x| x - total).collect()
        };
        let head = logits(p.output, p.bias, h);
        let words = head.len() - self.tails.len();
        out[..words].iter_mut().zip(&head).for_each(|(out, &x)| *out = R::of(x));
        for ((tail, p), class) in self.tails.iter().zip(&p.tails).zip(&head[words..]) {
            let mut projected = vec![R::zero(); tail.width];
            product(view_mut(&mut projected, 1, tail.width), view(h, 1, h.len()), w.matrix(p.projection));
            let within = logits(p.output, p.bias, &projected);
            out[tail.words.clone()].iter_mut().zip(within).for_each(|(out, x)| *out = R::of(x + class));
        }
    }

    /// Tells each token's class in the head, and which tokens are whose.
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

impl<R: Real> Part<R> {
    /// h of the tail's tokens, to `own`, and hP.
    fn project(&mut self, own: &mut [R], h: &[R], units: usize, projection: &[R]) {
        let _span = span(Of::Logits);
        let (n, width, precision) = (self.tokens.len(), self.width, self.precision);
        let projection = view(projection, units, width);
        let pieces = own[..n * units].par_chunks_mut(PIECE * units).zip(self.tokens.par_chunks(PIECE));
        pieces.zip(self.projected[..n * width].par_chunks_mut(PIECE * width)).for_each(|((own, tokens), projected)| {
            for (own, &t) in own.chunks_exact_mut(units).zip(tokens) {
                own.copy_from_slice(&h[t as usize * units..][..units]);
            }
            precision.product(view_mut(projected, tokens.len(), width), view(own, tokens.len(), units), projection);
        });
    }
}
