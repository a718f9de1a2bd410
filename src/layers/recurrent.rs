//! A cell unrolled over time: the products, truncated back-propagation through time (BPTT), and the carried state.
//!
//! Steps lie one after the other: rows t·b .. (t+1)·b of a matrix belong to step t of b lanes. The input products of all steps are
//! one product before the loop, the weight gradients one product each after it; only h₋U and δUᵀ are inside.

use super::cells::Cell;
use crate::blas::{add_product, product};
use crate::kernels::{Buffer, update::add};
use crate::params::{Arena, Layout, P, Role};
use crate::real::Real;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// The weights of one layer, for D inputs and H units with G gates: W \[D, G·H\], U \[H, G·H\], bias \[G·H\].
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
    pub fn add(layout: &mut Layout, name: &str, inputs: usize, units: usize, gates: usize) -> Self {
        Weights {
            input: layout.add(format!("{name}.input"), inputs, gates * units, Role::Weight),
            recurrent: layout.add(format!("{name}.recurrent"), units, gates * units, Role::Recurrent),
            bias: layout.add(format!("{name}.bias"), 1, gates * units, Role::Bias),
        }
    }
}

/// The transposed weights of one layer, made once a step: backward products want their rows contiguous.
pub struct Transposed<R> {
    input: Buffer<R>,
    recurrent: Buffer<R>,
}

impl<R: Real> Transposed<R> {
    /// Room for the layer's weights.
    pub fn new(layout: &Layout, p: &Weights) -> Self {
        let room = |p| Buffer::zeros(layout.tensor(p).range().len());
        Transposed { input: room(p.input), recurrent: room(p.recurrent) }
    }

    /// Takes the present weights.
    pub fn refresh(&mut self, w: &Arena<R>, p: &Weights) {
        transpose(&mut self.input, w.matrix(p.input));
        transpose(&mut self.recurrent, w.matrix(p.recurrent));
    }
}

/// What a layer keeps of T steps for b lanes: inputs x and outputs h are the caller's.
pub struct Unrolled<R> {
    lanes: usize,
    units: usize,
    gates: usize,
    /// The state that each step began with: [T·b, H].
    before: Buffer<R>,
    /// Pre-activations, then what the cell keeps, then their gradient: [T·b, G·H].
    a: Buffer<R>,
    /// What comes back from the step after: [b, H].
    carry: Buffer<R>,
}

impl<R: Real> Unrolled<R> {
    /// Room for up to `steps`.
    pub fn new(steps: usize, lanes: usize, units: usize, gates: usize) -> Self {
        Unrolled {
            lanes,
            units,
            gates,
            before: Buffer::zeros(steps * lanes * units),
            a: Buffer::zeros(steps * lanes * gates * units),
            carry: Buffer::zeros(lanes * units),
        }
    }

    /// Runs the cell over the steps of `x` \[T·b, D\] from `state` \[b, H\]; `h` \[T·b, H\] gets every state. Where `reset`
    /// (row of a step and lane) holds, the state before is zero.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn forward(
        &mut self,
        h: &mut [R],
        x: ArrayView2<R>,
        state: &[R],
        reset: impl Fn(usize) -> bool,
        cell: &dyn Cell<R>,
        w: &Arena<R>,
        p: &Weights,
    ) {
        let (rows, b, units, width) = (x.nrows(), self.lanes, self.units, self.gates * self.units);
        assert!(h.len() == rows * units && state.len() == b * units && rows.is_multiple_of(b));
        let a = &mut self.a[..rows * width];
        for row in a.chunks_exact_mut(width) {
            row.copy_from_slice(w.slice(p.bias));
        }
        add_product(view_mut(a, rows, width), x, w.matrix(p.input));
        let steps = self.before.chunks_exact_mut(b * units).zip(a.chunks_exact_mut(b * width));
        for (t, (before, a)) in steps.enumerate() {
            let (past, now) = h.split_at_mut(t * b * units);
            before.copy_from_slice(if t == 0 { state } else { &past[(t - 1) * b * units..] });
            for (lane, row) in before.chunks_exact_mut(units).enumerate() {
                if reset(t * b + lane) {
                    row.fill(R::zero());
                }
            }
            add_product(view_mut(a, b, width), view(before, b, units), w.matrix(p.recurrent));
            cell.forward(&mut now[..b * units], a);
        }
    }

    /// The way back through the steps of the last [`Unrolled::forward`]: from `dh` = ∂J/∂h \[T·b, H\] (used up) the gradients of
    /// the layer's weights, written to `g`, and ∂J/∂x \[T·b, D\]. Nothing goes back beyond the first step.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn backward(
        &mut self,
        dx: ArrayViewMut2<R>,
        dh: &mut [R],
        h: &[R],
        x: ArrayView2<R>,
        reset: impl Fn(usize) -> bool,
        cell: &dyn Cell<R>,
        transposed: &Transposed<R>,
        g: &mut Arena<R>,
        p: &Weights,
    ) {
        let (rows, b, units, width) = (x.nrows(), self.lanes, self.units, self.gates * self.units);
        assert!(h.len() == rows * units && dh.len() == rows * units);
        let recurrent = view(&transposed.recurrent, width, units);
        let a = &mut self.a[..rows * width];
        self.carry.fill(R::zero());
        for t in (0..rows / b).rev() {
            let at = t * b * units..(t + 1) * b * units;
            let (a, dh) = (&mut a[t * b * width..][..b * width], &mut dh[at.clone()]);
            add(dh, &self.carry);
            cell.backward(a, dh, &h[at]);
            if t > 0 {
                product(view_mut(&mut self.carry, b, units), view(a, b, width), recurrent);
                for (lane, row) in self.carry.chunks_exact_mut(units).enumerate() {
                    if reset(t * b + lane) {
                        row.fill(R::zero());
                    }
                }
            }
        }
        let delta = view(a, rows, width);
        product(g.matrix_mut(p.input), x.t(), delta);
        product(g.matrix_mut(p.recurrent), view(&self.before[..rows * units], rows, units).t(), delta);
        let bias = g.slice_mut(p.bias);
        bias.fill(R::zero());
        for row in a.chunks_exact(width) {
            add(bias, row);
        }
        product(dx, delta, view(&transposed.input, width, x.ncols()));
    }
}

/// A slice as a matrix.
pub fn view<R>(x: &[R], rows: usize, columns: usize) -> ArrayView2<'_, R> {
    ArrayView2::from_shape((rows, columns), x).expect("the slice has rows × columns elements")
}

/// A slice as a matrix.
pub fn view_mut<R>(x: &mut [R], rows: usize, columns: usize) -> ArrayViewMut2<'_, R> {
    ArrayViewMut2::from_shape((rows, columns), x).expect("the slice has rows × columns elements")
}

/// `out` = xᵀ, in blocks that stay in L1.
pub fn transpose<R: Real>(out: &mut [R], x: ArrayView2<R>) {
    transpose_columns(out, x, 0..x.ncols());
}

/// `out` = the transposed columns `of` of `x`: as many rows.
pub fn transpose_columns<R: Real>(out: &mut [R], x: ArrayView2<R>, of: Range<usize>) {
    const BLOCK: usize = 16;
    let (rows, columns) = x.dim();
    let x = x.as_slice().expect("the matrix is contiguous");
    assert!(of.end <= columns && out.len() == rows * of.len());
    for i0 in (0..rows).step_by(BLOCK) {
        for j0 in (0..of.len()).step_by(BLOCK) {
            for j in j0..(j0 + BLOCK).min(of.len()) {
                for i in i0..(i0 + BLOCK).min(rows) {
                    out[j * rows + i] = x[i * columns + of.start + j];
                }
            }
        }
    }
}
