//! The working memory of a language model: what each shard of a batch stores.

use crate::layers::embedding::Order;
use crate::layers::matrix::Matrix;
use crate::layers::output::OutputLayer;
use crate::layers::recurrence::{Memory, Prepared};
use crate::layers::shards::Division;
use crate::params::Arena;
use crate::real::Real;

/// One window of text for B lanes: inputs and targets are \[T, B\], step by step.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// x⁽ᵗ⁾
    pub inputs: &'a [u32],
    /// x⁽ᵗ⁺¹⁾
    pub targets: &'a [u32],
    /// The first step whose targets count.
    pub loss_from: usize,
}

/// What one shard of lanes stores for a window.
pub(super) struct Shard<R: Real> {
    /// Its first lane in the batch.
    pub first: usize,
    pub inputs: Vec<u32>,
    pub net: Memory<R>,
    pub gradients: Arena<R>,
}

/// Working memory for windows of up to T steps and B lanes.
pub struct Space<R: Real> {
    pub(super) lanes: Division,
    pub(super) shards: Vec<Shard<R>>,
    pub(super) prepared: Prepared<R>,
    pub(super) output: Box<dyn OutputLayer<R>>,
    /// For the output layer, counted tokens only: m ∘ h and its gradient \[N, H\], and the targets \[N\].
    pub(super) top: Matrix<R>,
    pub(super) dtop: Matrix<R>,
    pub(super) targets: Vec<u32>,
    /// The tokens sorted by word, and the list of distinct words if no gradient holds it.
    pub(super) order: Order,
    pub(super) rows: Vec<u32>,
}

impl<R: Real> Shard<R> {
    pub fn lanes(&self) -> usize {
        self.net.tape.lanes
    }
}

impl<R: Real> Space<R> {
    /// Reorders numbers of the counted tokens, stored shard by shard, as \[counted steps, B\].
    pub(super) fn by_lane(&self, out: &mut [f64], by_shard: &[f64]) {
        assert_eq!(out.len(), by_shard.len());
        let counted = by_shard.len() / self.lanes.all;
        let mut from = 0;
        for shard in &self.shards {
            for t in 0..counted {
                let lanes = shard.lanes();
                out[t * self.lanes.all + shard.first..][..lanes].copy_from_slice(&by_shard[from..][..lanes]);
                from += lanes;
            }
        }
    }

    /// Sets all states to zero.
    pub fn reset(&mut self) {
        self.states_mut().for_each(|state| state.fill(R::zero()));
    }

    /// The states that the next window begins with, a slice for each shard and layer.
    pub fn states(&self) -> impl Iterator<Item = &[R]> {
        self.shards.iter().flat_map(|shard| shard.net.tape.state.iter().map(|state| &state[..]))
    }

    /// The same, mutable, to be restored.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut [R]> {
        self.shards.iter_mut().flat_map(|shard| shard.net.tape.state.iter_mut().map(|state| &mut state[..]))
    }
}
