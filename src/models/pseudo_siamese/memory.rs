//! The working memory of the pseudo-Siamese network: what a shard of examples stores for a step, and what all shards share.

use super::{Config, PseudoSiamese};
use crate::layers::losses::{DropoutPenalty, LabelSoftmax};
use crate::layers::matrix::Matrix;
use crate::layers::window::Uses;
use crate::params::Arena;
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use std::ops::Range;

/// Examples per shard.
pub const SHARD: usize = 64;

/// What one shard of examples stores for a step.
pub(super) struct Shard<R: Real> {
    /// Its examples within the batch.
    pub examples: Range<usize>,
    /// x, and ∂x: [n, D].
    pub x: Matrix<R>,
    pub dx: Matrix<R>,
    /// h₁, h₂, and their sum, later δ₂, then δ₄: [n, H].
    pub h1: Matrix<R>,
    pub h2: Matrix<R>,
    pub sum: Matrix<R>,
    /// δ₂, then δ₃: [n, H].
    pub delta: Matrix<R>,
    /// θ, later δ₁: [n, K].
    pub theta: Matrix<R>,
    pub softmax: LabelSoftmax<R>,
    pub penalty: DropoutPenalty<R>,
    pub gradients: Arena<R>,
    pub loss: f64,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// Maximum number of examples in a batch.
    pub(super) examples: usize,
    pub(super) shards: Vec<Shard<R>>,
    /// W₁, W₂ and W₃ transposed.
    pub(super) sigmoid: Buffer<R>,
    pub(super) relu: Buffer<R>,
    pub(super) output: Buffer<R>,
    pub(super) uses: Uses,
}

impl PseudoSiamese {
    /// Working memory for batches of up to `examples` examples.
    pub fn space<R: Real>(&self, examples: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, examples))
    }

    /// Approximate bytes of [`PseudoSiamese::space`].
    pub fn space_bytes<R: Real>(&self, examples: usize) -> usize {
        Room::count(|room| self.space_in::<R>(room, examples))
    }

    fn space_in<R: Real>(&self, room: &mut Room, examples: usize) -> Space<R> {
        let Config { embed, hidden, labels, freeze, dropout_penalty, .. } = self.config;
        let (n, back) = (SHARD.min(examples), if freeze { 0 } else { embed });
        let shard = |room: &mut Room| Shard {
            examples: 0..0,
            x: Matrix::new(room, n, embed),
            dx: Matrix::new(room, n, back),
            h1: Matrix::new(room, n, hidden),
            h2: Matrix::new(room, n, hidden),
            sum: Matrix::new(room, n, hidden),
            delta: Matrix::new(room, n, hidden),
            theta: Matrix::new(room, n, labels),
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
}
