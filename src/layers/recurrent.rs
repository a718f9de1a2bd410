//! A cell unrolled over time: the products, truncated back-propagation through time (BPTT), and the carried state.
//!
//! Steps lie one after the other: rows t·b .. (t+1)·b of a matrix belong to step t of b lanes. The input products of all steps are
//! one product before the loop, the weight gradients one product each after it; only h₋U and δUᵀ are inside.

use super::cells::{Cell, Columns};
use super::matrix::{clear_rows, sum_rows, view, view_mut};
use crate::blas::{Packed, Precision};
use crate::kernels::{Buffer, update::add};
use crate::params::{Arena, Layout, P, Role};
use crate::real::Real;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// The weights of one layer, for D inputs and H units: W \[D, columns·H\], U \[H, columns·H\], bias \[total columns·H\].
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// W, on the input.
    pub input: P,
    /// U, on the state before.
    pub recurrent: P,
    /// The bias.
    pub bias: P,
}

impl Weights {
    /// Adds a layer's tensors.
    pub fn add(layout: &mut Layout, name: &str, inputs: usize, units: usize, columns: &Columns) -> Self {
        let blocks = |of: &Range<usize>| of.len() * units;
        Weights {
            input: layout.add(format!("{name}.input"), inputs, blocks(&columns.input), Role::Weight),
            recurrent: layout.add(format!("{name}.recurrent"), units, blocks(&columns.recurrent), Role::Recurrent),
            bias: layout.add(format!("{name}.bias"), 1, columns.total * units, Role::Bias),
        }
    }
}

/// The weights of one layer, packed for the products of a step's forward and backward pass.
pub struct Prepared<R> {
    input: Packed<R>,
    recurrent: Packed<R>,
    input_back: Packed<R>,
    recurrent_back: Packed<R>,
    precision: Precision,
}

impl<R: Real> Prepared<R> {
    /// Room for the layer's weights; products are as precise as said, those of gradients too.
    pub fn new(layout: &Layout, p: &Weights, precision: Precision) -> Self {
        let (w, u) = (layout.tensor(p.input), layout.tensor(p.recurrent));
        Prepared {
            input: Packed::new(w.rows, w.columns, precision),
            recurrent: Packed::new(u.rows, u.columns, precision),
            input_back: Packed::new(w.columns, w.rows, precision),
            recurrent_back: Packed::new(u.columns, u.rows, precision),
            precision,
        }
    }

    /// Takes the present weights: for the way there, and if `back`, for the way back too.
    pub fn refresh(&mut self, w: &Arena<R>, p: &Weights, back: bool) {
        let (input, recurrent) = (w.matrix(p.input), w.matrix(p.recurrent));
        let mut forward = || rayon::join(|| self.input.pack(input), || self.recurrent.pack(recurrent));
        if back {
            let back = || rayon::join(|| self.input_back.pack(input.t()), || self.recurrent_back.pack(recurrent.t()));
            rayon::join(forward, back);
        } else {
            forward();
        }
    }
}

/// What a layer keeps of T steps for b lanes: inputs x and outputs h are the caller's.
pub struct Unrolled<R> {
    lanes: usize,
    units: usize,
    columns: Columns,
    /// The state that each step began with: [T·b, H].
    before: Buffer<R>,
    /// Pre-activations, then what the cell keeps, then their gradient: [T·b, total·H].
    a: Buffer<R>,
    /// What comes back from the step after: [b, H].
    carry: Buffer<R>,
}

impl<R: Real> Unrolled<R> {
    /// Room for up to `steps`.
    pub fn new(steps: usize, lanes: usize, units: usize, columns: Columns) -> Self {
        Unrolled {
            lanes,
            units,
            before: Buffer::zeros(steps * lanes * units),
            a: Buffer::zeros(steps * lanes * columns.total * units),
            carry: Buffer::zeros(lanes * units),
            columns,
        }
    }

    /// Elements that [`Unrolled::new`] takes.
    pub fn len(steps: usize, lanes: usize, units: usize, columns: &Columns) -> usize {
        ((1 + columns.total) * steps + 1) * lanes * units
    }

    /// Runs the cell over the steps of `x` \[T·b, D\] from `state` \[b, H\]; `h` \[T·b, H\] gets every state. Where `reset`
    /// (row of a step and lane) holds, the state before is zero.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn forward(
        &mut self,
        h: &mut [R],
        x: ArrayView2<R>,
        state: &[R],
        reset: &dyn Fn(usize) -> bool,
        cell: &dyn Cell<R>,
        bias: &[R],
        w: &Prepared<R>,
    ) {
        let (rows, b, units, width) = (x.nrows(), self.lanes, self.units, self.columns.total * self.units);
        assert!(h.len() == rows * units && state.len() == b * units && rows.is_multiple_of(b));
        let (input, recurrent) = (self.part(&self.columns.input), self.part(&self.columns.recurrent));
        let a = &mut self.a[..rows * width];
        for row in a.chunks_exact_mut(width) {
            row.copy_from_slice(bias);
        }
        w.input.add_product(view_mut(a, rows, width).slice_mut(s![.., input]), x);
        let steps = self.before.chunks_exact_mut(b * units).zip(a.chunks_exact_mut(b * width));
        for (t, (before, a)) in steps.enumerate() {
            let (past, now) = h.split_at_mut(t * b * units);
            before.copy_from_slice(if t == 0 { state } else { &past[(t - 1) * b * units..] });
            clear_rows(before, units, |lane| reset(t * b + lane));
            let products = view_mut(a, b, width);
            w.recurrent.add_product(products.slice_move(s![.., recurrent.clone()]), view(before, b, units));
            cell.forward(&mut now[..b * units], a, before, units);
        }
    }

    /// The way back through the steps of the last [`Unrolled::forward`]: from `dh` = ∂J/∂h \[T·b, H\], to which what comes back from
    /// later steps is added, the gradients of the layer's weights, written to `g`, and ∂J/∂x \[T·b, D\]. Nothing goes back beyond
    /// the first step.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn backward(
        &mut self,
        dx: ArrayViewMut2<R>,
        dh: &mut [R],
        h: &[R],
        x: ArrayView2<R>,
        reset: &dyn Fn(usize) -> bool,
        cell: &dyn Cell<R>,
        w: &Prepared<R>,
        g: &mut Arena<R>,
        p: &Weights,
    ) {
        let (rows, b, units, width) = (x.nrows(), self.lanes, self.units, self.columns.total * self.units);
        assert!(h.len() == rows * units && dh.len() == rows * units);
        let (input, recurrent) = (self.part(&self.columns.input), self.part(&self.columns.recurrent));
        let a = &mut self.a[..rows * width];
        self.carry.fill(R::zero());
        for t in (0..rows / b).rev() {
            let at = t * b * units..(t + 1) * b * units;
            let (a, dh) = (&mut a[t * b * width..][..b * width], &mut dh[at.clone()]);
            add(dh, &self.carry);
            cell.backward(a, &mut self.carry, dh, &h[at.clone()], &self.before[at], units);
            if t > 0 {
                let delta = view(a, b, width);
                w.recurrent_back
                    .add_product(view_mut(&mut self.carry, b, units), delta.slice(s![.., recurrent.clone()]));
                clear_rows(&mut self.carry, units, |lane| reset(t * b + lane));
            }
        }
        let delta = view(a, rows, width);
        let before = view(&self.before[..rows * units], rows, units);
        w.precision.product(g.matrix_mut(p.input), x.t(), delta.slice(s![.., input.clone()]));
        w.precision.product(g.matrix_mut(p.recurrent), before.t(), delta.slice(s![.., recurrent]));
        sum_rows(g.slice_mut(p.bias), a);
        w.input_back.product(dx, delta.slice(s![.., input]));
    }

    /// What the cell keeps of `rows`: \[rows, total·H\].
    pub fn kept(&self, rows: usize) -> &[R] {
        &self.a[..rows * self.columns.total * self.units]
    }

    /// Columns of the pre-activations in elements.
    fn part(&self, of: &Range<usize>) -> Range<usize> {
        of.start * self.units..of.end * self.units
    }
}
