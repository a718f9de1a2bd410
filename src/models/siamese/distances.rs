//! Inference with a Siamese network: encodings of words, and distances between words.

use super::{Config, Siamese};
use crate::kernels::pairs::squared_distances;
use crate::layers::matrix::Rows;
use crate::layers::shards;
use crate::params::Arena;
use crate::real::Real;

/// Words encoded per task.
const BLOCK: usize = 512;

impl Siamese {
    /// h of the words `ids`: \[N, H\].
    pub fn encode<R: Real>(&self, ids: &[u32], w: &Arena<R>) -> Vec<R> {
        let Config { embed, hidden, .. } = self.config;
        let mut h = vec![R::zero(); ids.len() * hidden];
        shards::blocks(&mut h, hidden, BLOCK, |rows, h| {
            let x = &mut vec![R::zero(); rows.len() * embed];
            self.hidden(Rows::new(h, hidden), Rows::new(x, embed), &ids[rows], w);
        });
        h
    }

    /// The distance of each pair of words: ‖h₁ − h₂‖.
    pub fn distances<R: Real>(&self, first: &[u32], second: &[u32], w: &Arena<R>) -> Vec<R> {
        assert_eq!(first.len(), second.len());
        let mut distances = vec![R::zero(); first.len()];
        shards::blocks(&mut distances, 1, BLOCK, |pairs, d| {
            squared_distances(d, &self.encode(&first[pairs.clone()], w), &self.encode(&second[pairs], w));
            d.iter_mut().for_each(|d| *d = d.sqrt());
        });
        distances
    }

    /// Bytes that [`Siamese::distances`] of `pairs` pairs needs with `threads` threads.
    pub fn distances_bytes<R: Real>(&self, pairs: usize, threads: usize) -> usize {
        let Config { embed, hidden, .. } = self.config;
        (pairs + threads.min(pairs.div_ceil(BLOCK)) * BLOCK.min(pairs) * (embed + 2 * hidden)) * size_of::<R>()
    }
}
