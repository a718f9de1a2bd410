//! The gated-feedback recurrent network (equations, section 8; Chung et al. 2015): each layer's state goes to every layer of the next
//! step, through a scalar gate for each pair of layers.
//!
//! h* = \[h¹₋ … h^L₋\]    sⁱʲ = xʲ w_gⁱʲ + h* u_gⁱʲ    gⁱʲ = σ(sⁱʲ)    vʲ = Σᵢ gⁱʲ hⁱ₋ Uⁱʲ    x¹ = x, xʲ = hʲ⁻¹
//!
//! tanh units: hʲ = tanh(xʲWʲ + bʲ + vʲ); GRUs: r, z = σ(xʲWʲ + bʲ + hʲ₋Uʲ), n = tanh(xʲWʲ + bʲ + r ∘ vʲ), h = (1 − z) ∘ hʲ₋ + z ∘ n.
//!
//! In a step, the products with h* come first, for all layers and gates, as they depend on nothing else; then layer by layer.

use super::{Gates, Recurrence, Steps, Tape, mean};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::multiply;
use crate::kernels::gates::{self, FeedbackGradient, feedback, feedback_backward};
use crate::kernels::update::add;
use crate::layers::cells::Block;
use crate::layers::matrix::{clear_rows, sum_rows, view, view_mut};
use crate::layers::norms::{Norms, norm};
use crate::params::{Arena, Layout, Role, TensorId};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::{Axis, s};
use std::ops::Range;

/// The weights of one layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// Wʲ \[D or H, width\]
    input: TensorId,
    /// w_gⁱʲ, one column for each i: \[D or H, L\]
    gates: TensorId,
    /// From this layer to each layer and, with GRUs, to its own r and z: \[H, sent\]
    recurrent: TensorId,
    /// bʲ \[width\]
    bias: TensorId,
}

/// What gated units store.
const GATED: &[Block] = &[Block::gate("reset"), Block::gate("update"), Block::value("candidate")];

/// The weights of all layers.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    shape: gates::Feedback,
    layers: Vec<Layer>,
    /// u_gⁱʲ in column j·L + i: \[L·H, L·L\]
    gates: TensorId,
}

impl Weights {
    /// Adds the tensors of a network.
    pub fn add(layout: &mut Layout, inputs: usize, units: usize, layers: usize, gru: bool) -> Self {
        let shape = gates::Feedback { units, layers, layer: 0, gru };
        let all = (0..layers).map(|l| {
            let (name, rows) = (format!("layer{l}"), if l == 0 { inputs } else { units });
            Layer {
                input: layout.add(format!("{name}.input"), rows, shape.width(), Role::Weight),
                gates: layout.add(format!("{name}.gates"), rows, layers, Role::Weight),
                recurrent: layout.add(format!("{name}.recurrent"), units, shape.sent(), Role::Recurrent),
                bias: layout.add(format!("{name}.bias"), 1, shape.width(), Role::Bias),
            }
        });
        let all = all.collect();
        Weights { shape, layers: all, gates: layout.add("gates", layers * units, layers * layers, Role::Weight) }
    }

    /// What [`Prepared`] holds: three matrices of each layer, then that of all gates.
    pub fn matrices(&self) -> Vec<TensorId> {
        let layers = self.layers.iter().flat_map(|l| [l.input, l.gates, l.recurrent]);
        layers.chain([self.gates]).collect()
    }

    fn at(&self, layer: usize) -> gates::Feedback {
        gates::Feedback { layer, ..self.shape }
    }
}

/// What the network stores for T steps of b lanes.
pub(super) struct Feedback<R> {
    p: Weights,
    lanes: usize,
    /// Number of pre-activations of a layer.
    width: usize,
    /// h*, the states that each step began with: \[T·b, L·H\].
    before: Buffer<R>,
    /// For each layer, pre-activations, then what the units store, then their gradient: \[T·b, width\].
    a: Vec<Buffer<R>>,
    /// Dropout factors of the output of each layer except the last: \[T·b, H\].
    mask: Vec<Buffer<R>>,
    /// hⁱ₋Uⁱʲ of all pairs, then their gradient: \[T·b, L·sent\].
    q: Buffer<R>,
    /// s, then g, then ∂s: \[T·b, L·L\].
    g: Buffer<R>,
    /// The gradient from the next step: \[b, L·H\].
    carry: Buffer<R>,
    /// ∂J/∂h of each layer in one step: \[L, b, H\].
    dh: Buffer<R>,
    /// ∂J/∂x of one step: \[b, H\]; a row of working memory: \[H\].
    dx: Buffer<R>,
    dv: Buffer<R>,
}

impl<R: Real> Feedback<R> {
    /// Allocates memory for up to `steps` steps of `lanes` lanes.
    pub fn new(room: &mut Room, p: &Weights, steps: usize, lanes: usize) -> Self {
        let gates::Feedback { units, layers, .. } = p.shape;
        let (rows, width) = (steps * lanes, p.shape.width());
        Feedback {
            lanes,
            width,
            before: room.zeros(rows * layers * units),
            a: (0..layers).map(|_| room.zeros(rows * width)).collect(),
            q: room.zeros(rows * layers * p.shape.sent()),
            g: room.zeros(rows * layers * layers),
            mask: (1..layers).map(|_| room.zeros(rows * units)).collect(),
            carry: room.zeros(lanes * layers * units),
            dh: room.zeros(layers * lanes * units),
            dx: room.zeros(lanes * units),
            dv: room.zeros(units),
            p: p.clone(),
        }
    }
}

impl<R: Real> Recurrence<R> for Feedback<R> {
    /// The inputs of the layers above the first become h ∘ mask of the layer below. Where `reset` holds, h* is zero.
    fn forward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, w: &Arena<R>) {
        let Steps { rows, reset, masks, prepared } = steps;
        let (p, Tape { state, x, h, .. }) = (&self.p, tape);
        let gates::Feedback { units, layers, .. } = p.shape;
        let (b, width, sent, star) = (self.lanes, p.shape.width(), p.shape.sent(), layers * units);
        for (l, mask) in self.mask.iter_mut().enumerate() {
            mask.fill(R::one());
            masks.apply(l + 1, b * units, &mut mask[..rows * units]);
        }
        for row in self.a[0][..rows * width].chunks_exact_mut(width) {
            row.copy_from_slice(w.slice(p.layers[0].bias));
        }
        let inputs = w.matrix(p.layers[0].input).nrows();
        let first = view(&x[0][..rows * inputs], rows, inputs);
        let of_gates = prepared.last();
        prepared.layer::<3>(0)[0].forward.add_product(view_mut(&mut self.a[0][..rows * width], rows, width), first);
        for t in 0..rows / b {
            let at = |width: usize| t * b * width..(t + 1) * b * width;
            let before = &mut self.before[at(star)];
            for l in 0..layers {
                let past = if t == 0 { &state[l][..] } else { &h[l][(t - 1) * b * units..t * b * units] };
                for (row, past) in before.chunks_exact_mut(star).zip(past.chunks_exact(units)) {
                    row[l * units..][..units].copy_from_slice(past);
                }
            }
            clear_rows(before, star, |lane| reset(t * b + lane));
            let before = view(before, b, star);
            let (q, g) = (&mut self.q[at(layers * sent)], &mut self.g[at(layers * layers)]);
            for l in 0..layers {
                let [_, _, recurrent] = prepared.layer(l);
                let q = view_mut(q, b, layers * sent);
                recurrent.forward.product(q.slice_move(s![.., sends(l, sent)]), before.slice(s![.., sends(l, units)]));
            }
            of_gates.forward.product(view_mut(g, b, layers * layers), before);
            for l in 0..layers {
                let [input, gates, _] = prepared.layer(l);
                let a = &mut self.a[l][at(width)];
                if l > 0 {
                    let x = &mut x[l][at(units)];
                    x.copy_from_slice(&h[l - 1][at(units)]);
                    multiply(x, &self.mask[l - 1][at(units)]);
                    for row in a.chunks_exact_mut(width) {
                        row.copy_from_slice(w.slice(p.layers[l].bias));
                    }
                    input.forward.add_product(view_mut(a, b, width), view(x, b, units));
                }
                let inputs = if l == 0 { inputs } else { units };
                let s = view_mut(g, b, layers * layers);
                gates.forward.add_product(s.slice_move(s![.., sends(l, layers)]), view(&x[l][at(inputs)], b, inputs));
                for row in g.chunks_exact_mut(layers * layers) {
                    Activation::Sigmoid.apply(&mut row[sends(l, layers)]);
                }
                feedback(p.at(l), &mut h[l][at(units)], a, q, g, &self.before[at(star)]);
            }
        }
    }

    fn backward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, g: &mut Arena<R>, mut norms: Option<&mut Norms>) {
        let Steps { rows, reset, prepared, .. } = steps;
        let (p, Tape { x, h, dh: dtop, dx, .. }) = (&self.p, tape);
        let gates::Feedback { units, layers, .. } = p.shape;
        let (b, width, sent, star) = (self.lanes, p.shape.width(), p.shape.sent(), layers * units);
        let (pairs, of_gates) = (layers * layers, prepared.last());
        self.carry.fill(R::zero());
        for t in (0..rows / b).rev() {
            let at = |width: usize| t * b * width..(t + 1) * b * width;
            for (l, dh) in self.dh.chunks_exact_mut(b * units).enumerate() {
                for (dh, carry) in dh.chunks_exact_mut(units).zip(self.carry.chunks_exact(star)) {
                    dh.copy_from_slice(&carry[sends(l, units)]);
                }
                if l + 1 == layers {
                    add(dh, &dtop[at(units)]);
                }
            }
            let (q, s) = (&mut self.q[at(layers * sent)], &mut self.g[at(pairs)]);
            for l in (0..layers).rev() {
                let (below, dh) = self.dh.split_at_mut(l * b * units);
                if let Some(norms) = &mut norms {
                    norms[l].push(norm(&dh[..b * units]));
                }
                let a = &mut self.a[l][at(width)];
                let operands = FeedbackGradient {
                    a: &mut *a,
                    q: &mut *q,
                    g: &mut *s,
                    carry: &mut self.carry,
                    dv: &mut self.dv,
                    dh: &dh[..b * units],
                    h: &h[l][at(units)],
                    before: &self.before[at(star)],
                };
                feedback_backward(p.at(l), operands);
                if l > 0 {
                    let [input, gates, _] = prepared.layer(l);
                    let s = view(s, b, pairs);
                    input.back.product(view_mut(&mut self.dx, b, units), view(a, b, width));
                    gates.back.add_product(view_mut(&mut self.dx, b, units), s.slice(s![.., sends(l, layers)]));
                    multiply(&mut self.dx, &self.mask[l - 1][at(units)]);
                    add(&mut below[(l - 1) * b * units..], &self.dx);
                }
            }
            if t > 0 {
                let (q, s) = (view(q, b, layers * sent), view(s, b, pairs));
                of_gates.back.add_product(view_mut(&mut self.carry, b, star), s);
                for l in 0..layers {
                    let [_, _, recurrent] = prepared.layer(l);
                    let carry = view_mut(&mut self.carry, b, star);
                    recurrent
                        .back
                        .add_product(carry.slice_move(s![.., sends(l, units)]), q.slice(s![.., sends(l, sent)]));
                }
                clear_rows(&mut self.carry, star, |lane| reset(t * b + lane));
            }
        }
        // They were computed from the last step to the first.
        norms.into_iter().flatten().for_each(|of_layer| of_layer.reverse());
        let before = view(&self.before[..rows * star], rows, star);
        let (q, s) =
            (view(&self.q[..rows * layers * sent], rows, layers * sent), view(&self.g[..rows * pairs], rows, pairs));
        let precision = prepared.precision;
        precision.product(g.matrix_mut(p.gates), before.t(), s);
        for (l, tensors) in p.layers.iter().enumerate() {
            let inputs = g.layout().tensor(tensors.input).rows;
            let (x, a) = (view(&x[l][..rows * inputs], rows, inputs), &self.a[l][..rows * width]);
            precision.product(g.matrix_mut(tensors.input), x.t(), view(a, rows, width));
            precision.product(g.matrix_mut(tensors.gates), x.t(), s.slice(s![.., sends(l, layers)]));
            let own = before.slice_axis(Axis(1), sends(l, units).into());
            precision.product(g.matrix_mut(tensors.recurrent), own.t(), q.slice(s![.., sends(l, sent)]));
            sum_rows(g.slice_mut(tensors.bias), a);
        }
        let inputs = g.layout().tensor(p.layers[0].input).rows;
        let (dx, [input, gates, _]) = (&mut dx[..rows * inputs], prepared.layer(0));
        input.back.product(view_mut(dx, rows, inputs), view(&self.a[0][..rows * width], rows, width));
        gates.back.add_product(view_mut(dx, rows, inputs), s.slice(s![.., sends(0, layers)]));
    }

    fn state_width(&self) -> usize {
        self.p.shape.units
    }

    fn state_after(&self, state: &mut [R], _layer: usize, h: &[R], _t: usize) {
        state.copy_from_slice(h);
    }

    fn gates(&self, rows: usize) -> Gates {
        let gates::Feedback { units, layers, gru, .. } = self.p.shape;
        let mut gates = Gates::default();
        if gru {
            self.a.iter().for_each(|a| gates.add(&a[..rows * self.width], GATED, units));
        }
        let g = &self.g[..rows * layers * layers];
        let of = |i: usize, j: usize| mean(g, layers * layers, j * layers + i..j * layers + i + 1);
        gates.feedback = (0..layers).map(|i| (0..layers).map(|j| of(i, j)).collect()).collect();
        gates
    }
}

/// The columns of layer `l`, `width` for each.
fn sends(l: usize, width: usize) -> Range<usize> {
    l * width..(l + 1) * width
}
