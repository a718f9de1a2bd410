//! Stacked cells, unrolled over time: the products, truncated backpropagation through time (BPTT), and the carried state.
//!
//! Steps are stored one after the other: rows t·b .. (t+1)·b of a matrix belong to step t of b lanes. The input products of all steps are
//! one product before the loop, the weight gradients one product each after it; only h₋U and δUᵀ are inside. The output of a layer,
//! after dropout, is the input of the one above.

use super::{Gates, Pair, Recurrence, Steps, Tape};
use crate::blas::Precision;
use crate::kernels::update::add;
use crate::layers::cells::{Columns, Stacked, Step};
use crate::layers::matrix::{clear_rows, view, view_mut};
use crate::layers::norms::{Norms, norm};
use crate::params::{Arena, Layout, Role, TensorId};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::{ArrayView2, ArrayViewMut2, s};

/// The weights of one layer, for D inputs and H units, in blocks of H columns: W \[D, blocks of the input\], U \[H, blocks of the
/// state\], bias \[all blocks with products\].
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// W, applied to the input.
    pub input: TensorId,
    /// U, applied to the previous state.
    pub recurrent: TensorId,
    /// The bias.
    pub bias: TensorId,
}

impl Weights {
    /// Adds a layer's tensors.
    pub(super) fn add(layout: &mut Layout, name: &str, inputs: usize, units: usize, columns: &Columns) -> Self {
        Weights {
            input: layout.add(format!("{name}.input"), inputs, columns.input.len() * units, Role::Weight),
            recurrent: layout.add(format!("{name}.recurrent"), units, columns.recurrent.len() * units, Role::Recurrent),
            bias: layout.add(format!("{name}.bias"), 1, columns.biased(units), Role::Bias),
        }
    }

    /// What [`Prepared`] holds of a layer.
    pub(super) fn matrices(&self) -> [TensorId; 2] {
        [self.input, self.recurrent]
    }
}

/// What one layer stores for T steps of b lanes.
struct Layer<R> {
    p: Weights,
    inputs: usize,
    /// The state that each step began with: [T·b, S].
    before: Buffer<R>,
    /// Pre-activations, then what the cell stores, then their gradient: [T·b, width].
    a: Buffer<R>,
    /// The gradient from the next step: [b, S].
    carry: Buffer<R>,
}

/// The stacked layers.
pub(super) struct Stack<R> {
    sizes: Sizes,
    layers: Vec<Layer<R>>,
}

/// What the layers have in common.
struct Sizes {
    cell: Stacked,
    columns: &'static Columns,
    lanes: usize,
    units: usize,
}

impl<R: Real> Stack<R> {
    /// Allocates memory for up to `steps` steps of `lanes` lanes.
    pub fn new(
        room: &mut Room,
        cell: Stacked,
        all: &[Weights],
        [inputs, units]: [usize; 2],
        [steps, lanes]: [usize; 2],
    ) -> Self {
        let columns = cell.columns();
        let state = columns.state_width(units);
        let layer = |(l, &p): (usize, &Weights)| Layer {
            p,
            inputs: if l == 0 { inputs } else { units },
            before: room.zeros(steps * lanes * state),
            a: room.zeros(steps * lanes * columns.width(units)),
            carry: room.zeros(lanes * state),
        };
        let layers = all.iter().enumerate().map(layer).collect();
        Stack { sizes: Sizes { cell, columns, lanes, units }, layers }
    }
}

impl<R: Real> Recurrence<R> for Stack<R> {
    fn forward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, w: &Arena<R>) {
        let Steps { rows, reset, masks, prepared } = steps;
        let Sizes { cell, lanes, units, .. } = &self.sizes;
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let (h, x) = (&mut tape.h[l][..rows * units], &tape.x[l][..rows * layer.inputs]);
            let (x, bias) = (view(x, rows, layer.inputs), w.slice(layer.p.bias));
            layer.forward(h, x, &tape.state[l], reset, &self.sizes, cell.step(), bias, prepared.layer(l));
            if let Some(above) = tape.x.get_mut(l + 1) {
                let above = &mut above[..rows * units];
                above.copy_from_slice(h);
                masks.apply(l + 1, lanes * units, above);
            }
        }
    }

    fn backward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, g: &mut Arena<R>, mut norms: Option<&mut Norms>) {
        let Steps { rows, reset, masks, prepared } = steps;
        let Sizes { cell, lanes, units, .. } = &self.sizes;
        let dh = &mut tape.dh[..rows * units];
        for (l, layer) in self.layers.iter_mut().enumerate().rev() {
            let (x, h) = (&tape.x[l][..rows * layer.inputs], &tape.h[l][..rows * units]);
            let dx = &mut tape.dx[..rows * layer.inputs];
            let (x, to) = (view(x, rows, layer.inputs), view_mut(dx, rows, layer.inputs));
            layer.backward(to, dh, h, x, reset, &self.sizes, cell.step(), prepared.layer(l), prepared.precision, g);
            if let Some(norms) = &mut norms {
                norms[l] = dh.chunks_exact(lanes * units).map(norm).collect();
            }
            if l > 0 {
                masks.apply(l, lanes * units, dx);
                dh.copy_from_slice(dx);
            }
        }
    }

    fn state_width(&self) -> usize {
        self.sizes.columns.state_width(self.sizes.units)
    }

    fn state_after(&self, state: &mut [R], layer: usize, h: &[R], t: usize) {
        let step_len = self.sizes.lanes * self.sizes.columns.width(self.sizes.units);
        self.sizes.state_after(state, h, &self.layers[layer].a[t * step_len..][..step_len]);
    }

    fn gates(&self, rows: usize) -> Gates {
        let Sizes { columns, units, .. } = &self.sizes;
        let mut gates = Gates::default();
        self.layers
            .iter()
            .for_each(|layer| gates.add(&layer.a[..rows * columns.width(*units)], columns.blocks, *units));
        gates
    }
}

impl Sizes {
    /// The state \[b, S\] after a step, from its h and what the cell has stored.
    fn state_after<R: Real>(&self, state: &mut [R], h: &[R], a: &[R]) {
        let units = self.units;
        if self.columns.carried.is_empty() {
            return state.copy_from_slice(h);
        }
        let carried = Columns::of(&self.columns.carried, units);
        let rows = state.chunks_exact_mut(self.columns.state_width(units)).zip(h.chunks_exact(units));
        for ((state, h), a) in rows.zip(a.chunks_exact(self.columns.width(units))) {
            state[..units].copy_from_slice(h);
            state[units..].copy_from_slice(&a[carried.clone()]);
        }
    }
}

impl<R: Real> Layer<R> {
    /// Runs the cell over the steps of `x` \[T·b, D\] from `state` \[b, S\], and writes all outputs to `h` \[T·b, H\]. Where `reset`
    /// holds for the row of a step and lane, the previous state is zero.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn forward(
        &mut self,
        h: &mut [R],
        x: ArrayView2<R>,
        state: &[R],
        reset: &dyn Fn(usize) -> bool,
        sizes: &Sizes,
        cell: &dyn Step<R>,
        bias: &[R],
        [w, u]: &[Pair<R>; 2],
    ) {
        let Sizes { columns, lanes: b, units, .. } = sizes;
        let (rows, b, units, width) = (x.nrows(), *b, *units, columns.width(*units));
        let of_state = columns.state_width(units);
        assert!(h.len() == rows * units && state.len() == b * of_state && rows.is_multiple_of(b));
        let (input, recurrent) = (Columns::of(&columns.input, units), Columns::of(&columns.recurrent, units));
        let a = &mut self.a[..rows * width];
        for row in a.chunks_exact_mut(width) {
            row[..bias.len()].copy_from_slice(bias);
        }
        w.forward.add_product(view_mut(a, rows, width).slice_mut(s![.., input]), x);
        for (t, before) in self.before[..rows * of_state].chunks_exact_mut(b * of_state).enumerate() {
            let (past, now) = h.split_at_mut(t * b * units);
            let (kept, a) = a.split_at_mut(t * b * width);
            let a = &mut a[..b * width];
            match t.checked_sub(1) {
                None => before.copy_from_slice(state),
                Some(last) => sizes.state_after(before, &past[last * b * units..], &kept[last * b * width..]),
            }
            clear_rows(before, of_state, |lane| reset(t * b + lane));
            let (products, past) = (view_mut(a, b, width), view(before, b, of_state));
            u.forward.add_product(products.slice_move(s![.., recurrent.clone()]), past.slice(s![.., ..units]));
            cell.forward(&mut now[..b * units], a, before, units);
        }
    }

    /// The backward pass through the steps of the last [`Layer::forward`]: adds the gradients from later steps to `dh` = ∂J/∂h
    /// \[T·b, H\], and writes the gradients of the layer's weights to `g` and ∂J/∂x \[T·b, D\] to `dx`. No gradient goes back beyond
    /// the first step.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    fn backward(
        &mut self,
        dx: ArrayViewMut2<R>,
        dh: &mut [R],
        h: &[R],
        x: ArrayView2<R>,
        reset: &dyn Fn(usize) -> bool,
        sizes: &Sizes,
        cell: &dyn Step<R>,
        [w, u]: &[Pair<R>; 2],
        precision: Precision,
        g: &mut Arena<R>,
    ) {
        let Sizes { columns, lanes: b, units, .. } = sizes;
        let (rows, b, units, width) = (x.nrows(), *b, *units, columns.width(*units));
        let of_state = columns.state_width(units);
        assert!(h.len() == rows * units && dh.len() == rows * units);
        let (input, recurrent) = (Columns::of(&columns.input, units), Columns::of(&columns.recurrent, units));
        let a = &mut self.a[..rows * width];
        self.carry.fill(R::zero());
        for t in (0..rows / b).rev() {
            let at = |width: usize| t * b * width..(t + 1) * b * width;
            let (a, dh) = (&mut a[at(width)], &mut dh[at(units)]);
            if of_state == units {
                add(dh, &self.carry);
            } else {
                let rows = dh.chunks_exact_mut(units).zip(self.carry.chunks_exact(of_state));
                rows.for_each(|(dh, carry)| add(dh, &carry[..units]));
            }
            cell.backward(a, &mut self.carry, dh, &h[at(units)], &self.before[at(of_state)], units);
            if t > 0 {
                let (delta, carry) = (view(a, b, width), view_mut(&mut self.carry, b, of_state));
                u.back.add_product(carry.slice_move(s![.., ..units]), delta.slice(s![.., recurrent.clone()]));
                clear_rows(&mut self.carry, of_state, |lane| reset(t * b + lane));
            }
        }
        let delta = view(a, rows, width);
        let before = view(&self.before[..rows * of_state], rows, of_state);
        let before = before.slice(s![.., ..units]);
        precision.product(g.matrix_mut(self.p.input), x.t(), delta.slice(s![.., input.clone()]));
        precision.product(g.matrix_mut(self.p.recurrent), before.t(), delta.slice(s![.., recurrent]));
        let db = g.slice_mut(self.p.bias);
        db.fill(R::zero());
        a.chunks_exact(width).for_each(|row| add(db, &row[..db.len()]));
        w.back.product(dx, delta.slice(s![.., input]));
    }
}
