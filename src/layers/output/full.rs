//! The exact softmax cross-entropy over the whole vocabulary (equations, section 2).
//!
//! θ = hUᵀ + b    J = −log softmax(θ)ₖ = log Σ e^θ − θₖ    ∂θ = (ŷ − y) / N    ∂h = ∂θ U    ∂U = ∂θᵀ h    ∂b = Σ ∂θ
//!
//! U is \[V, H\], one row per word. Tokens are processed in chunks, the vocabulary in groups of rows, and a chunk's
//! logits are stored transposed, \[V, chunk\], so that all three products read rows in order. Each group of rows belongs
//! to one task, so ∂U needs no reduction; the groups are the same for any number of threads. The logits of a chunk are
//! replaced by their gradient in place:
//!
//! 1. per group: θᵀ = U hᵀ, then e^(θ − largest) and its sum for each token, for each block of rows;
//! 2. per token: the blocks' sums are combined into the normaliser and the loss;
//! 3. per group: ∂θᵀ = e^… · scale − y/N, then ∂b, ∂U += ∂θᵀ h and a share of ∂hᵀ = Uᵀ ∂θᵀ;
//! 4. per strip of tokens: the shares are added by the tree of the groups.

use super::{OutputLayer, Tables};
use crate::blas::{Packed, Precision};
use crate::kernels::softmax::{exp_columns, gather_columns, join_blocks, logistic_columns, scale_columns};
use crate::layers::matrix::{view, view_mut};
use crate::math::{exp, ln, ln_1p};
use crate::params::{Arena, Gradients};
use crate::pool;
use crate::profile::{Part, span, task};
use crate::real::{LANES, Real};
use crate::sys::memory::{Buffer, Room};
use crate::tree;
use ndarray::s;

/// Maximum number of tokens in a chunk.
const CHUNK: usize = 320;
/// Maximum bytes of a chunk's logits, beyond which the chunk is made smaller (down to 32 tokens).
const LOGITS: usize = 64 << 20;
/// Groups of vocabulary rows: the maximum number of tasks in a phase.
const GROUPS: usize = 32;
/// Fewest rows in a group: with fewer, adding the shares of the groups costs more than their products.
const FEWEST: usize = 16;
/// Maximum number of rows in a block: with 320 tokens its logits take 210 KiB, which stay in L2.
const BLOCK: usize = 160;

/// The largest block of the logits processed at a time: it should stay in cache. It affects the order of sums, and so
/// the last bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Tokens.
    pub tokens: usize,
    /// Words.
    pub words: usize,
}

impl Default for Tile {
    fn default() -> Self {
        Tile { tokens: CHUNK, words: BLOCK }
    }
}

/// The output layer for V words and H units, with its working memory.
pub struct FullSoftmax<R> {
    units: usize,
    words: usize,
    tile: Tile,
    /// Whether there are gradients: they need the logits of all words; otherwise those of one block per group are kept.
    training: bool,
    precision: Precision,
    /// hᵀ and h of the current chunk, for the products of all blocks of words.
    states: [Packed<R>; 2],
    /// Maximum number of tokens in a chunk.
    most: usize,
    /// Tokens in a chunk of the current call, a multiple of 16.
    chunk: usize,
    /// Distance between the rows of a chunk: an odd number of cache lines, so that rows do not compete for the same cache sets.
    stride: usize,
    /// Columns of the current chunk: its tokens, padded to whole vectors.
    columns: usize,
    /// Rows of a group, and of a block in it.
    group: usize,
    block: usize,
    /// hᵀ of all chunks: [chunks, H, chunk].
    transposed: Buffer<R>,
    /// Per group: its rows of the logits, exponentials, gradients: [group, chunk], or [block, chunk] without training.
    logits: Buffer<R>,
    /// Per group and block: largest logit, sum of exponentials, later the factor: [columns] each.
    largest: Buffer<R>,
    sums: Buffer<R>,
    /// Per token of a chunk: the sum of all exponentials.
    totals: Buffer<R>,
    /// Per group: its share of ∂hᵀ: [H, chunk].
    shares: Buffer<R>,
    /// The target's logit (with bias) of each token of a chunk, written by the group that holds it.
    target: Vec<Vec<(u32, R)>>,
    losses: Buffer<f64>,
}

/// The own targets of one chunk.
#[derive(Clone, Copy, Default)]
struct OwnChunk<'a> {
    /// The chunk's first token.
    first: usize,
    hits: &'a [(u32, u32)],
    logistic: bool,
}

/// Where the gradients go: \[N, H\], \[V, H\] and \[V\]; all are overwritten.
pub struct Gradient<'a, R> {
    /// ∂J/∂h
    pub h: &'a mut [R],
    /// ∂J/∂U
    pub output: &'a mut [R],
    /// ∂J/∂b
    pub bias: &'a mut [R],
}

/// Targets that are not among the rows: each token has a logit of its own for its target (sampled losses).
pub struct Own<'a, R> {
    /// The targets' logits, with bias, \[N\]; replaced by their gradients.
    pub logits: &'a mut [R],
    /// Elements of the matrix \[token, row\] that are left out, sorted by token.
    pub hits: &'a [(u32, u32)],
    /// Whether each logit is classified by itself as word or noise (noise-contrastive estimation), without a softmax.
    pub logistic: bool,
}

/// Stands for −∞: its exponential is zero, and the difference of two is finite.
const NEVER: f64 = -1e30;

impl<R: Real> FullSoftmax<R> {
    /// Allocates memory for `tokens` tokens at a time.
    pub fn new(tokens: usize, units: usize, words: usize) -> Self {
        let tile = Tile::default();
        Room::make(|room| Self::within(room, tokens, units, words, tile, true, Precision::F32))
    }

    /// The same, allocated in `room`, with blocks of logits of the size `tile` and products in `precision`; without
    /// `training` it has no gradients, and needs little memory for any number of words.
    pub fn within(
        room: &mut Room,
        tokens: usize,
        units: usize,
        words: usize,
        tile: Tile,
        training: bool,
        precision: Precision,
    ) -> Self {
        let precision = if training { precision } else { Precision::F32 };
        let (group, block) = Self::rows(words, tile);
        // With fewer words there may be more groups, as they are divided more evenly.
        let (groups, blocks) = (words.div_ceil(8).min(GROUPS), group.div_ceil(block));
        let most = Self::most(words, tile, training);
        let (chunk, stride) = Self::chunk(tokens.min(most), most);
        // Every chunk may be padded to whole vectors, and its stride be one vector longer.
        let transposed = (tokens + 2 * LANES * tokens.div_ceil(most)) * units;
        let rows = if training { words } else { words.div_ceil(group) * block };
        FullSoftmax {
            units,
            words,
            tile,
            training,
            precision,
            states: [(units, chunk), (chunk, units)].map(|(k, n)| Packed::new(room, k, n, precision)),
            most,
            chunk,
            stride,
            columns: chunk,
            group,
            block,
            transposed: room.zeros(transposed),
            logits: room.zeros(rows * stride),
            // One more for the tokens' own targets.
            largest: room.zeros((groups * blocks + 1) * chunk),
            sums: room.zeros((groups * blocks + 1) * chunk),
            totals: room.zeros(chunk),
            shares: room.zeros(if training { groups * units * stride } else { 0 }),
            target: (0..groups).map(|_| room.vec(chunk)).collect(),
            losses: room.zeros(chunk),
        }
    }

    /// Rows of a group, and of a block in it.
    fn rows(words: usize, tile: Tile) -> (usize, usize) {
        let group = words.div_ceil(GROUPS).next_multiple_of(8).max(FEWEST);
        (group, group.div_ceil(group.div_ceil(tile.words.max(8))).next_multiple_of(8))
    }

    /// Maximum number of tokens in a chunk, as memory and cache allow.
    fn most(words: usize, tile: Tile, training: bool) -> usize {
        let room = if training { LOGITS / size_of::<R>() / words.max(1) / LANES * LANES } else { usize::MAX };
        room.clamp(2 * LANES, tile.tokens.max(2 * LANES))
    }

    /// Tokens of a chunk and the stride of its rows, for `tokens` in all; chunks are of equal size.
    fn chunk(tokens: usize, most: usize) -> (usize, usize) {
        let chunk = tokens.div_ceil(tokens.div_ceil(most).max(1)).next_multiple_of(LANES);
        (chunk, if (chunk / LANES).is_multiple_of(2) { chunk + LANES } else { chunk })
    }

    /// Changes V, up to that of [`FullSoftmax::new`].
    pub fn set_words(&mut self, words: usize) {
        assert!(self.training && words > 0 && words * self.stride <= self.logits.len());
        self.words = words;
        (self.group, self.block) = Self::rows(words, self.tile);
    }

    /// Divides the tokens of a call into chunks.
    fn begin(&mut self, tokens: usize) {
        (self.chunk, self.stride) = Self::chunk(tokens, self.most);
    }

    /// The mean cross-entropy of `targets` \[N\] given states `h` \[N, H\], in nats, and its gradient; `u` is \[V, H\],
    /// `b` \[V\].
    pub fn loss(&mut self, gradient: Gradient<R>, h: &[R], targets: &[u32], u: &[R], b: &[R]) -> f64 {
        self.scaled_loss(1.0 / targets.len() as f64, gradient, h, targets, u, b)
    }

    /// `scale` times the sum of the cross-entropies, and its gradient: for tokens that are part of a larger mean.
    pub fn scaled_loss(
        &mut self,
        scale: f64,
        gradient: Gradient<R>,
        h: &[R],
        targets: &[u32],
        u: &[R],
        b: &[R],
    ) -> f64 {
        assert!(self.training, "there is room for gradients");
        self.begin(targets.len());
        self.transpose_states(h);
        gradient.bias.fill(R::zero());
        let mut total = 0.0;
        let rows = self.chunk * self.units;
        let chunks = h.chunks(rows).zip(gradient.h.chunks_mut(rows)).zip(targets.chunks(self.chunk));
        for (i, ((h, dh), targets)) in chunks.enumerate() {
            self.exponentials(i, targets.len(), targets, None, u, b);
            total += self.normalise(targets.len(), None).iter().sum::<f64>();
            self.backward(i == 0, h, targets, u, scale, gradient.output, gradient.bias);
            self.gather_states(dh);
        }
        total * scale
    }

    /// `scale` times the losses of tokens whose targets have logits of their own besides those of the V rows, and the
    /// gradient: a softmax over V + 1 logits, or V + 1 logistic losses. ∂J/∂h lacks the part of the own targets.
    pub fn own_loss(&mut self, scale: f64, gradient: Gradient<R>, h: &[R], own: Own<R>, u: &[R], b: &[R]) -> f64 {
        let tokens = own.logits.len();
        self.begin(tokens);
        self.transpose_states(h);
        gradient.bias.fill(R::zero());
        let mut total = 0.0;
        let rows = self.chunk * self.units;
        let chunks = h.chunks(rows).zip(gradient.h.chunks_mut(rows)).zip(own.logits.chunks_mut(self.chunk));
        let mut hits = own.hits;
        for (i, ((h, dh), logits)) in chunks.enumerate() {
            let end = hits.partition_point(|&(t, _)| (t as usize) < (i + 1) * self.chunk);
            let (now, later) = hits.split_at(end);
            hits = later;
            let part = OwnChunk { first: i * self.chunk, hits: now, logistic: own.logistic };
            self.exponentials(i, logits.len(), &[], Some(part), u, b);
            total += if own.logistic {
                self.logistic_losses(logits)
            } else {
                self.normalise(logits.len(), Some(logits)).iter().sum()
            };
            let hot = R::of(scale);
            logits.iter_mut().for_each(|x| *x = (*x - R::one()) * hot);
            // No token has its target among the rows.
            self.backward_of(i == 0, h, &[], logits.len(), u, scale, gradient.output, gradient.bias);
            self.gather_states(dh);
        }
        total * scale
    }

    /// ln ŷₖ of each of `targets` \[N\], given states `h` \[N, H\].
    pub fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], u: &[R], b: &[R]) {
        self.begin(targets.len());
        self.transpose_states(h);
        for (i, (out, targets)) in out.chunks_mut(self.chunk).zip(targets.chunks(self.chunk)).enumerate() {
            self.exponentials(i, targets.len(), targets, None, u, b);
            for (out, loss) in out.iter_mut().zip(self.normalise(targets.len(), None)) {
                *out = -loss;
            }
        }
    }

    /// hᵀ, chunk by chunk, so that the lanes of a vector are tokens. The last columns of an incomplete chunk are zero:
    /// their results are not used, but a NaN left there would reach the sums over rows.
    fn transpose_states(&mut self, h: &[R]) {
        let _span = span(Part::Logits);
        let (units, chunk, stride) = (self.units, self.chunk, self.stride);
        let transposed = pool::chunks_mut(&mut self.transposed, units * stride);
        pool::each((transposed, pool::chunks(h, units * chunk)), |_, (out, h)| {
            if h.len() < units * chunk {
                out.fill(R::zero());
            }
            for (strip, rows) in h.chunks(LANES * units).enumerate() {
                for (t, row) in rows.chunks_exact(units).enumerate() {
                    for (k, &x) in row.iter().enumerate() {
                        out[k * stride + strip * LANES + t] = x;
                    }
                }
            }
        });
    }

    /// Phase 1, of `tokens` tokens.
    fn exponentials(&mut self, index: usize, tokens: usize, targets: &[u32], own: Option<OwnChunk>, u: &[R], b: &[R]) {
        let _span = span(Part::Logits);
        let (units, stride, group, block) = (self.units, self.stride, self.group, self.block);
        let training = self.training;
        assert!(u.len() == self.words * units && b.len() == self.words);
        assert!(targets.iter().all(|&word| (word as usize) < self.words), "a target is beyond the vocabulary");
        let columns = tokens.next_multiple_of(LANES);
        self.columns = columns;
        let transposed = view(&self.transposed[index * units * stride..][..units * stride], units, stride);
        let transposed = transposed.slice(s![.., ..columns]);
        self.states[0].pack(transposed);
        let states = &self.states[0];
        let blocks = group.div_ceil(block) * columns;
        let room = if training { group } else { block } * stride;
        let groups = (
            pool::chunks_mut(&mut self.logits, room),
            pool::chunks(u, group * units),
            pool::chunks(b, group),
            pool::chunks_mut(&mut self.largest, blocks),
            pool::chunks_mut(&mut self.sums, blocks),
            &mut self.target,
        );
        pool::each(groups, |g, (logits, u, b, largest, sums, found)| {
            let _task = task(Part::Logits);
            found.clear();
            let blocks = u.chunks(block * units).zip(b.chunks(block));
            let blocks = blocks.zip(largest.chunks_exact_mut(columns)).zip(sums.chunks_exact_mut(columns));
            for (i, (((u, b), largest), sums)) in blocks.enumerate() {
                let x = &mut logits[if training { i * block * stride } else { 0 }..][..b.len() * stride];
                let mut logits = view_mut(x, b.len(), stride);
                let logits = logits.slice_mut(s![.., ..columns]);
                states.product(logits, view(u, b.len(), units));
                let first = g * group + i * block;
                for (t, &word) in targets.iter().enumerate() {
                    if let Some(row) = (word as usize).checked_sub(first).filter(|&row| row < b.len()) {
                        found.push((t as u32, x[row * stride + t] + b[row]));
                    }
                }
                let OwnChunk { first: token, hits, logistic } = own.unwrap_or_default();
                for &(t, row) in hits {
                    if let Some(row) = (row as usize).checked_sub(first).filter(|&row| row < b.len()) {
                        x[row * stride + t as usize - token] = R::of(NEVER);
                    }
                }
                if logistic {
                    logistic_columns(x, stride, b, sums);
                } else {
                    exp_columns(x, stride, b, largest, sums);
                }
            }
        });
    }

    /// Elements of `largest` and `sums` that the blocks fill.
    fn used(&self) -> usize {
        let last = self.words - (self.words - 1) / self.group * self.group;
        let blocks = (self.words - last) / self.group * self.group.div_ceil(self.block) + last.div_ceil(self.block);
        blocks * self.columns
    }

    /// Phase 2 for logistic losses: the losses of noise words and targets. The targets' logits become σ.
    fn logistic_losses(&mut self, own: &mut [R]) -> f64 {
        let _span = span(Part::Normalise);
        let used = self.used();
        let of_block = |sums: &[R]| sums[..own.len()].iter().map(|x| x.f64()).sum();
        let noise = tree::sum(self.sums[..used].chunks_exact(self.columns).map(of_block));
        // A factor of one for every block: σ is the gradient already.
        self.sums[..used].fill(R::one());
        let target = |x: &mut R| {
            let z = x.f64();
            *x = R::of(1.0 / (1.0 + exp(-z)));
            ln_1p(exp(-z.abs())) + (-z).max(0.0)
        };
        noise + own.iter_mut().map(target).sum::<f64>()
    }

    /// Phase 2: the loss of each of `tokens` tokens. `sums` become the factors that turn exponentials into probabilities,
    /// the tokens' own logits become probabilities.
    fn normalise(&mut self, tokens: usize, own: Option<&mut [R]>) -> &[f64] {
        let _span = span(Part::Normalise);
        let (rows, mut used) = (self.used(), self.used());
        if let Some(own) = &own {
            let (largest, sums) = (&mut self.largest[used..][..self.columns], &mut self.sums[used..][..self.columns]);
            largest.fill(R::zero());
            largest[..tokens].copy_from_slice(own);
            sums.fill(R::one());
            used += self.columns;
        }
        join_blocks(&mut self.largest[..used], &mut self.sums[..used], &mut self.totals[..self.columns]);
        for ((loss, largest), total) in self.losses.iter_mut().zip(&*self.largest).zip(&self.totals[..self.columns]) {
            *loss = largest.f64() + ln(total.f64());
        }
        match own {
            Some(own) => {
                for ((loss, own), &probability) in self.losses.iter_mut().zip(own).zip(&self.sums[rows..]) {
                    *loss -= own.f64();
                    *own = probability;
                }
            }
            None => {
                for &(t, logit) in self.target.iter().flatten() {
                    self.losses[t as usize] -= logit.f64();
                }
            }
        }
        &self.losses[..tokens]
    }

    /// Phase 3. The first chunk writes ∂U, the others add to it.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn backward(&mut self, first: bool, h: &[R], targets: &[u32], u: &[R], scale: f64, du: &mut [R], db: &mut [R]) {
        self.backward_of(first, h, targets, targets.len(), u, scale, du, db);
    }

    /// Phase 3 for `tokens` tokens, the first of which have `targets` among the rows.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn backward_of(
        &mut self,
        first: bool,
        h: &[R],
        targets: &[u32],
        tokens: usize,
        u: &[R],
        scale: f64,
        du: &mut [R],
        db: &mut [R],
    ) {
        let _span = span(Part::Gradients);
        let (units, columns, stride, group, block) = (self.units, self.columns, self.stride, self.group, self.block);
        let (hot, precision) = (R::of(scale), self.precision);
        let h = view(h, tokens, units);
        self.states[1].pack(h);
        let states = &self.states[1];
        let blocks = group.div_ceil(block) * columns;
        let groups = (
            pool::chunks_mut(&mut self.logits[..self.words * stride], group * stride),
            pool::chunks(u, group * units),
            pool::chunks_mut(du, group * units),
            pool::chunks_mut(db, group),
            pool::chunks_mut(&mut self.sums, blocks),
            pool::chunks_mut(&mut self.shares, units * stride),
        );
        pool::each(groups, |g, (logits, u, du, db, factors, share)| {
            let _task = task(Part::Gradients);
            let blocks =
                logits.chunks_mut(block * stride).zip(u.chunks(block * units)).zip(du.chunks_mut(block * units));
            let blocks = blocks.zip(db.chunks_mut(block)).zip(factors.chunks_exact_mut(columns));
            for (i, ((((x, u), du), db), factors)) in blocks.enumerate() {
                factors[tokens..].fill(R::zero());
                factors[..tokens].iter_mut().for_each(|factor| *factor *= hot);
                scale_columns(x, stride, factors, db);
                let word = g * group + i * block;
                for (t, &target) in targets.iter().enumerate() {
                    if let Some(row) = (target as usize).checked_sub(word).filter(|&row| row < db.len()) {
                        x[row * stride + t] -= hot;
                        db[row] -= hot;
                    }
                }
                let x = view(x, db.len(), stride);
                let gradient = view_mut(du, db.len(), units);
                states.product_or_add(gradient, x.slice(s![.., ..tokens]), !first);
                let mut share = view_mut(share, units, stride);
                let (share, x) = (share.slice_mut(s![.., ..columns]), x.slice(s![.., ..columns]));
                let u = view(u, db.len(), units);
                if i == 0 { precision.product(share, u.t(), x) } else { precision.add_product(share, u.t(), x) }
            }
        });
    }

    /// Phase 4.
    fn gather_states(&mut self, dh: &mut [R]) {
        let _span = span(Part::States);
        let (units, stride) = (self.units, self.stride);
        let shares = &self.shares[..self.words.div_ceil(self.group) * units * stride];
        pool::each(pool::chunks_mut(dh, LANES * units), |strip, dh| {
            gather_columns(dh, shares, stride, units, strip * LANES);
        });
    }
}

/// The [`OutputLayer`] of a model.
pub(super) struct Full<R> {
    pub tables: Tables,
    pub layer: FullSoftmax<R>,
}

impl<R: Real> OutputLayer<R> for Full<R> {
    fn loss(&mut self, g: &mut Gradients<R>, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) -> f64 {
        let Tables { output, bias, .. } = self.tables;
        let [doutput, dbias] = g.arena.slices_mut([output, bias]);
        let gradient = Gradient { h: dh, output: doutput, bias: dbias };
        self.layer.loss(gradient, h, targets, w.slice(output), w.slice(bias))
    }

    fn states_gradient(&mut self, dh: &mut [R], h: &[R], targets: &[u32], w: &Arena<R>) {
        let (u, b) = (w.slice(self.tables.output), w.slice(self.tables.bias));
        let (mut output, mut bias) = (Buffer::zeros(u.len()), Buffer::zeros(b.len()));
        self.layer.loss(Gradient { h: dh, output: &mut output, bias: &mut bias }, h, targets, u, b);
    }

    fn log_probabilities(&mut self, out: &mut [f64], h: &[R], targets: &[u32], w: &Arena<R>) {
        let (u, b) = (w.slice(self.tables.output), w.slice(self.tables.bias));
        self.layer.log_probabilities(out, h, targets, u, b);
    }
}
