//! Inference with a pseudo-Siamese network: the probabilities of labels.

use super::memory::SHARD;
use super::{Config, Input, PseudoSiamese};
use crate::layers::matrix::transpose;
use crate::layers::shards;
use crate::math::exp;
use crate::params::Arena;
use crate::real::Real;
use crate::sys::memory::Buffer;

impl PseudoSiamese {
    /// ŷ of examples: \[N, K\].
    pub fn probabilities<R: Real>(&self, input: Input<R>, w: &Arena<R>) -> Vec<R> {
        let Config { labels, .. } = self.config;
        let (ids, table) = self.table(input, w);
        let mut output = Buffer::zeros(self.config.hidden * labels);
        transpose(&mut output, w.matrix(self.output.0));
        let mut y = vec![R::zero(); ids.len() * labels];
        shards::blocks(&mut y, labels, SHARD, |rows, y| {
            let ids = &ids[rows];
            let mut space = self.space::<R>(ids.len());
            let shard = &mut space.shards[0];
            shard.examples = 0..ids.len();
            self.forward(shard, ids, table, &output, w);
            let theta = shard.theta.first(ids.len()).chunks_exact(labels);
            for (y, theta) in y.chunks_exact_mut(labels).zip(theta) {
                y.iter_mut().zip(theta).zip(w.slice(self.output.1)).for_each(|((y, &theta), &b)| *y = theta + b);
                let largest = y.iter().copied().fold(R::neg_infinity(), R::max);
                y.iter_mut().for_each(|y| *y = R::of(exp((*y - largest).f64())));
                let sum: R = y.iter().copied().sum();
                y.iter_mut().for_each(|y| *y /= sum);
            }
        });
        y
    }

    /// Bytes that [`PseudoSiamese::probabilities`] of `examples` examples needs with `threads` threads.
    pub fn probabilities_bytes<R: Real>(&self, examples: usize, threads: usize) -> usize {
        examples * self.config.labels * size_of::<R>()
            + threads.min(examples.div_ceil(SHARD)) * self.space_bytes::<R>(SHARD.min(examples))
    }
}
