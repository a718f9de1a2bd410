//! The working memory of the Siamese network: what a shard of pairs stores for a step, and what all shards share.

use super::{Config, Siamese};
use crate::layers::matrix::Matrix;
use crate::layers::window::Uses;
use crate::params::Arena;
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use std::ops::Range;
use std::sync::Arc;

/// Pairs per shard.
pub const SHARD: usize = 64;

/// What one shard of pairs stores for a step.
pub(super) struct Shard<R: Real> {
    /// Its pairs within the batch.
    pub pairs: Range<usize>,
    /// The words' rows, the first ones before the second ones.
    pub ids: Vec<u32>,
    /// x, and ∂x: [2n, D].
    pub x: Matrix<R>,
    pub dx: Matrix<R>,
    /// h, later δ: [2n, H].
    pub h: Matrix<R>,
    /// D², later c, the factor of h₁ − h₂ in ∂h₁: [n].
    pub d: Buffer<R>,
    pub gradients: Arena<R>,
    pub loss: f64,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// Maximum number of pairs in a batch.
    pub(super) pairs: usize,
    pub(super) shards: Vec<Shard<R>>,
    pub(super) in_use: usize,
    /// W transposed, for ∂x.
    pub(super) hidden: Buffer<R>,
    pub(super) uses: Uses,
}

impl Siamese {
    /// Working memory for batches of up to `pairs` pairs.
    pub fn space<R: Real>(&self, pairs: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, pairs))
    }

    /// Approximate bytes of [`Siamese::space`].
    pub fn space_bytes<R: Real>(&self, pairs: usize) -> usize {
        Room::count(|room| self.space_in::<R>(room, pairs))
    }

    fn space_in<R: Real>(&self, room: &mut Room, pairs: usize) -> Space<R> {
        let Config { embed, hidden, freeze, .. } = self.config;
        let local = Arc::new(self.layout.before(self.words));
        let (n, back) = (SHARD.min(pairs), usize::from(!freeze));
        let shard = |room: &mut Room| Shard {
            pairs: 0..0,
            ids: room.vec(2 * n),
            x: Matrix::new(room, 2 * n, embed),
            dx: Matrix::new(room, 2 * n, back * embed),
            h: Matrix::new(room, 2 * n, hidden),
            d: room.zeros(n),
            gradients: Arena::within(room, &local),
            loss: 0.0,
        };
        Space {
            pairs,
            shards: room.many(pairs.div_ceil(SHARD), shard),
            in_use: 0,
            hidden: room.zeros(back * embed * hidden),
            uses: Uses::new(room, back * 2 * pairs),
        }
    }
}
