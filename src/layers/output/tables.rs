//! The tensors of an output layer.

use super::clusters::Tail;
use crate::blas::{add_product, product};
use crate::layers::matrix::{view, view_mut};
use crate::math::{exp, ln};
use crate::params::{Arena, Layout, Role, TensorId};
use crate::real::Real;
use std::ops::Range;

/// The tensors of an output layer; without tails, those of the whole vocabulary.
#[derive(Clone, Debug)]
pub struct Tables {
    /// U₀: \[words of the head + tails, H\]
    pub output: TensorId,
    /// b₀
    pub bias: TensorId,
    pub(super) tails: Vec<TailTables>,
}

/// The tensors of one tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailTables {
    /// Pᵢ: \[H, width\]
    pub projection: TensorId,
    /// Uᵢ: \[words, width\]
    pub output: TensorId,
    /// bᵢ
    pub bias: TensorId,
}

impl Tables {
    /// Adds the tensors for `words` words on `units` units.
    pub fn add(layout: &mut Layout, words: usize, units: usize, tails: &[Tail]) -> Self {
        assert!(Tail::fit(tails, words), "tails are parts of the vocabulary");
        let classes = tails.first().map_or(words, |tail| tail.first) + tails.len();
        let output = layout.add("output", classes, units, Role::Output);
        let bias = layout.add("output.bias", 1, classes, Role::Bias);
        let tail = |(i, range): (usize, Range<usize>)| TailTables {
            projection: layout.add(format!("tail{i}.projection"), units, tails[i].width, Role::Weight),
            output: layout.add(format!("tail{i}.output"), range.len(), tails[i].width, Role::Output),
            bias: layout.add(format!("tail{i}.bias"), 1, range.len(), Role::Bias),
        };
        Tables { output, bias, tails: Tail::ranges(tails, words).enumerate().map(tail).collect() }
    }

    /// Tensors of the whole vocabulary.
    pub fn whole(output: TensorId, bias: TensorId) -> Self {
        Tables { output, bias, tails: Vec::new() }
    }

    /// Whether all words have their logits in one table.
    pub fn are_whole(&self) -> bool {
        self.tails.is_empty()
    }

    /// The tails' biases.
    pub fn tail_biases(&self) -> impl DoubleEndedIterator<Item = TensorId> {
        self.tails.iter().map(|tail| tail.bias)
    }

    /// ln ŷ of all words \[V\], given one state `h` \[H\].
    pub fn distribution<R: Real>(&self, out: &mut [R], h: &[R], w: &Arena<R>) {
        let logits = |u: TensorId, b: TensorId, h: &[R]| -> Vec<f64> {
            let mut logits = w.slice(b).to_vec();
            let words = logits.len();
            add_product(view_mut(&mut logits, 1, words), view(h, 1, h.len()), w.matrix(u).t());
            let logits: Vec<f64> = logits.iter().map(|x| x.f64()).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = largest + ln(logits.iter().map(|x| exp(x - largest)).sum());
            logits.into_iter().map(|x| x - total).collect()
        };
        let head = logits(self.output, self.bias, h);
        let (head, classes) = head.split_at(head.len() - self.tails.len());
        let (first, mut rest) = out.split_at_mut(head.len());
        first.iter_mut().zip(head).for_each(|(out, &x)| *out = R::of(x));
        for (tail, class) in self.tails.iter().zip(classes) {
            let width = w.layout().tensor(tail.projection).columns;
            let mut projected = vec![R::zero(); width];
            product(view_mut(&mut projected, 1, width), view(h, 1, h.len()), w.matrix(tail.projection));
            let within = logits(tail.output, tail.bias, &projected);
            let (own, others) = rest.split_at_mut(within.len());
            own.iter_mut().zip(within).for_each(|(out, x)| *out = R::of(x + class));
            rest = others;
        }
    }
}
