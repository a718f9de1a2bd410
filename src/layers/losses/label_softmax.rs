//! The softmax cross-entropy over a few labels, token by token (equations, sections 1 and 3).
//!
//! J = −log softmax(θ)ₖ = log Σ e^θ − θₖ    ∂θ = ŷ − y
//!
//! Labels are few and tokens many, so the scores are transposed: the lanes of a vector are tokens.

use crate::kernels::softmax::exp_columns;
use crate::math::ln;
use crate::real::{LANES, Real};
use crate::sys::memory::{Buffer, Room};

/// Working memory for a maximum number of tokens.
pub struct LabelSoftmax<R> {
    labels: usize,
    /// [K, tokens rounded up to whole vectors]
    columns: Buffer<R>,
    largest: Buffer<R>,
    sums: Buffer<R>,
}

impl<R: Real> LabelSoftmax<R> {
    /// Allocates memory for `tokens` tokens with `labels` scores each.
    pub fn new(room: &mut Room, tokens: usize, labels: usize) -> Self {
        let wide = tokens.next_multiple_of(LANES);
        LabelSoftmax { labels, columns: room.zeros(labels * wide), largest: room.zeros(wide), sums: room.zeros(wide) }
    }

    /// Replaces the scores `theta` \[N, K\], without their bias, by ∂J = `scale` · (ŷ − y), where J is `scale` times the sum
    /// of the losses; its column sums go to `dbias` \[K\]. Returns the sum of the losses, unscaled.
    pub fn loss(&mut self, theta: &mut [R], dbias: &mut [R], bias: &[R], targets: &[u32], scale: f64) -> f64 {
        let (labels, n) = (self.labels, targets.len());
        assert!(theta.len() == n * labels && dbias.len() == labels);
        let wide = n.next_multiple_of(LANES);
        let columns = &mut self.columns[..labels * wide];
        let (largest, sums) = (&mut self.largest[..wide], &mut self.sums[..wide]);
        for (label, column) in columns.chunks_exact_mut(wide).enumerate() {
            for (t, x) in column[..n].iter_mut().enumerate() {
                *x = theta[t * labels + label];
            }
            column[n..].fill(R::zero());
        }
        let chosen = |t: usize, theta: &[R]| theta[t * labels + targets[t] as usize] + bias[targets[t] as usize];
        exp_columns(columns, wide, bias, largest, sums);
        let loss = (0..n).map(|t| ln(sums[t].f64()) + (largest[t] - chosen(t, theta)).f64()).sum::<f64>();
        let scale = R::of(scale);
        for sum in &mut sums[..n] {
            *sum = scale / *sum;
        }
        for ((label, column), dbias) in columns.chunks_exact(wide).enumerate().zip(dbias) {
            *dbias = R::zero();
            for (t, &e) in column[..n].iter().enumerate() {
                let y = if targets[t] as usize == label { scale } else { R::zero() };
                let delta = e * sums[t] - y;
                theta[t * labels + label] = delta;
                *dbias += delta;
            }
        }
        loss
    }
}
