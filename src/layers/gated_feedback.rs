//! The gated-feedback recurrent net (equations, section 8; Chung et al. 2015): each layer's state goes to every layer of the next
//! step, through a gate that is one number for each pair of layers.
//!
//! h* = \[h¹₋ … h^L₋\]    sⁱʲ = xʲ w_gⁱʲ + h* u_gⁱʲ    gⁱʲ = σ(sⁱʲ)    vʲ = Σᵢ gⁱʲ hⁱ₋ Uⁱʲ    x¹ = x, xʲ = hʲ⁻¹
//!
//! tanh units: hʲ = tanh(xʲWʲ + bʲ + vʲ); GRUs: r, z = σ(xʲWʲ + bʲ + hʲ₋Uʲ), n = tanh(xʲWʲ + bʲ + r ∘ vʲ), h = (1 − z) ∘ hʲ₋ + z ∘ n.
//!
//! Products with h*, for all layers and gates, come first in a step, as they wait for nothing; then layer upon layer.

use super::norms::{Norms, norm};
use super::matrix::{clear_rows, sum_rows, view, view_mut};
use crate::blas::{Packed, Precision};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::multiply;
use crate::kernels::gates::{Feedback, FeedbackGradient, feedback, feedback_backward};
use crate::kernels::{Buffer, update::add};
use crate::params::{Arena, Layout, P, Role, Tensor};
use crate::real::Real;
use ndarray::{Axis, s};
use std::ops::Range;

/// The weights of one layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// Wʲ \[D or H, width\]
    input: P,
    /// w_gⁱʲ, a column for each i: \[D or H, L\]
    gates: P,
    /// What goes from here to each layer, and with GRUs to the own r and z: \[H, sent\]
    recurrent: P,
    /// bʲ \[width\]
    bias: P,
}

/// The weights of all layers.
#[derive(Clone, Debug)]
pub struct Weights {
    shape: Feedback,
    layers: Vec<Layer>,
    /// u_gⁱʲ in column j·L + i: \[L·H, L·L\]
    gates: P,
}

impl Weights {
    /// Adds the tensors of a net.
    pub fn add(layout: &mut Layout, inputs: usize, units: usize, layers: usize, gru: bool) -> Self {
        let shape = Feedback { units, layers, layer: 0, gru };
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

    fn at(&self, layer: usize) -> Feedback {
        Feedback { layer, ..self.shape }
    }
}

/// A matrix for products forward and, transposed, backward.
struct Pair<R> {
    forward: Packed<R>,
    back: Packed<R>,
}

impl<R: Real> Pair<R> {
    fn new(layout: &Layout, p: P, precision: Precision) -> Self {
        let Tensor { rows, columns, .. } = *layout.tensor(p);
        Pair { forward: Packed::new(rows, columns, precision), back: Packed::new(columns, rows, precision) }
    }

    fn refresh(&mut self, w: &Arena<R>, p: P, back: bool) {
        if back {
            rayon::join(|| self.forward.pack(w.matrix(p)), || self.back.pack(w.matrix(p).reversed_axes()));
        } else {
            self.forward.pack(w.matrix(p));
        }
    }
}

/// The weights packed for the products of a step.
pub struct Prepared<R> {
    /// Of each layer: input, gates, recurrent.
    layers: Vec<[Pair<R>; 3]>,
    gates: Pair<R>,
    precision: Precision,
}

impl<R: Real> Prepared<R> {
    /// Room for the weights; products are as precise as said, those of gradients too.
    pub fn new(layout: &Layout, p: &Weights, precision: Precision) -> Self {
        let pair = |p| Pair::new(layout, p, precision);
        let layers = p.layers.iter().map(|l| [l.input, l.gates, l.recurrent].map(pair));
        Prepared { layers: layers.collect(), gates: pair(p.gates), precision }
    }

    /// Takes the present weights: for the way there, and if `back`, for the way back too.
    pub fn refresh(&mut self, w: &Arena<R>, p: &Weights, back: bool) {
        for (pairs, l) in self.layers.iter_mut().zip(&p.layers) {
            pairs.iter_mut().zip([l.input, l.gates, l.recurrent]).for_each(|(pair, p)| pair.refresh(w, p, back));
        }
        self.gates.refresh(w, p.gates, back);
    }
}

/// What the net keeps of T steps for b lanes; inputs and states of the layers are the caller's.
pub struct Unrolled<R> {
    lanes: usize,
    /// Pre-activations of a layer.
    width: usize,
    /// h*, the states that each step began with: \[T·b, L·H\].
    before: Buffer<R>,
    /// For each layer, pre-activations, then what the units keep, then their gradient: \[T·b, width\].
    a: Vec<Buffer<R>>,
    /// hⁱ₋Uⁱʲ of all pairs, then their gradient: \[T·b, L·sent\].
    q: Buffer<R>,
    /// s, then g, then ∂s: \[T·b, L·L\].
    g: Buffer<R>,
    /// What comes back from the step after: \[b, L·H\].
    carry: Buffer<R>,
    /// ∂J/∂h of each layer in one step: \[L, b, H\].
    dh: Buffer<R>,
    /// ∂J/∂x of one step: \[b, H\]; room for a row: \[H\].
    dx: Buffer<R>,
    dv: Buffer<R>,
}

impl<R: Real> Unrolled<R> {
    /// Room for up to `steps`.
    pub fn new(steps: usize, lanes: usize, p: &Weights) -> Self {
        let Feedback { units, layers, .. } = p.shape;
        let rows = steps * lanes;
        Unrolled {
            lanes,
            width: p.shape.width(),
            before: Buffer::zeros(rows * layers * units),
            a: (0..layers).map(|_| Buffer::zeros(rows * p.shape.width())).collect(),
            q: Buffer::zeros(rows * layers * p.shape.sent()),
            g: Buffer::zeros(rows * layers * layers),
            carry: Buffer::zeros(lanes * layers * units),
            dh: Buffer::zeros(layers * lanes * units),
            dx: Buffer::zeros(lanes * units),
            dv: Buffer::zeros(units),
        }
    }

    /// Elements that [`Unrolled::new`] takes.
    pub fn len(steps: usize, lanes: usize, p: &Weights) -> usize {
        let Feedback { units, layers, .. } = p.shape;
        let a_row = layers * (units + p.shape.width() + p.shape.sent() + layers);
        steps * lanes * a_row + (2 * layers + 1) * lanes * units + units
    }

    /// What the units of layer `l` keep of `rows`: \[rows, width\].
    pub fn kept(&self, l: usize, rows: usize) -> &[R] {
        &self.a[l][..rows * self.width]
    }

    /// The gates of `rows`: \[rows, L·L\].
    pub fn gates(&self, rows: usize) -> &[R] {
        &self.g[..rows * self.a.len() * self.a.len()]
    }

    /// Runs the net over the steps of `x[0]` \[T·b, D\] from `state`, \[b, H\] of each layer; `h` \[T·b, H\] of each gets its states.
    /// The inputs of the layers above, `x[1]` …, become h ∘ `mask` of the layer below. Where `reset` holds, h* is zero.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn forward(
        &mut self,
        h: &mut [Buffer<R>],
        x: &mut [Buffer<R>],
        mask: &[Buffer<R>],
        rows: usize,
        state: &[Buffer<R>],
        reset: &dyn Fn(usize) -> bool,
        w: &Arena<R>,
        prepared: &Prepared<R>,
        p: &Weights,
    ) {
        let Feedback { units, layers, .. } = p.shape;
        let (b, width, sent, star) = (self.lanes, p.shape.width(), p.shape.sent(), layers * units);
        for row in self.a[0][..rows * width].chunks_exact_mut(width) {
            row.copy_from_slice(w.slice(p.layers[0].bias));
        }
        let inputs = w.matrix(p.layers[0].input).nrows();
        let first = view(&x[0][..rows * inputs], rows, inputs);
        prepared.layers[0][0].forward.add_product(view_mut(&mut self.a[0][..rows * width], rows, width), first);
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
            for (l, [_, _, recurrent]) in prepared.layers.iter().enumerate() {
                let q = view_mut(q, b, layers * sent);
                recurrent.forward.product(q.slice_move(s![.., sends(l, sent)]), before.slice(s![.., sends(l, units)]));
            }
            prepared.gates.forward.product(view_mut(g, b, layers * layers), before);
            for (l, [input, gates, _]) in prepared.layers.iter().enumerate() {
                let a = &mut self.a[l][at(width)];
                if l > 0 {
                    let x = &mut x[l][at(units)];
                    x.copy_from_slice(&h[l - 1][at(units)]);
                    multiply(x, &mask[l - 1][at(units)]);
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

    /// The way back through the steps of the last [`Unrolled::forward`]: from `dtop` = ∂J/∂h of the highest layer \[T·b, H\] the
    /// gradients of the weights, written to `g`, and ∂J/∂x \[T·b, D\]; where asked for, the norms of ∂J/∂h.
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn backward(
        &mut self,
        dx: &mut [R],
        dtop: &[R],
        h: &[Buffer<R>],
        x: &[Buffer<R>],
        mask: &[Buffer<R>],
        reset: &dyn Fn(usize) -> bool,
        prepared: &Prepared<R>,
        g: &mut Arena<R>,
        mut norms: Option<&mut Norms>,
        p: &Weights,
    ) {
        let Feedback { units, layers, .. } = p.shape;
        let (b, width, sent, star) = (self.lanes, p.shape.width(), p.shape.sent(), layers * units);
        let (rows, pairs) = (dtop.len() / units, layers * layers);
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
                    let [input, gates, _] = &prepared.layers[l];
                    let s = view(s, b, pairs);
                    input.back.product(view_mut(&mut self.dx, b, units), view(a, b, width));
                    gates.back.add_product(view_mut(&mut self.dx, b, units), s.slice(s![.., sends(l, layers)]));
                    multiply(&mut self.dx, &mask[l - 1][at(units)]);
                    add(&mut below[(l - 1) * b * units..], &self.dx);
                }
            }
            if t > 0 {
                let (q, s) = (view(q, b, layers * sent), view(s, b, pairs));
                prepared.gates.back.add_product(view_mut(&mut self.carry, b, star), s);
                for (l, [_, _, recurrent]) in prepared.layers.iter().enumerate() {
                    let carry = view_mut(&mut self.carry, b, star);
                    recurrent
                        .back
                        .add_product(carry.slice_move(s![.., sends(l, units)]), q.slice(s![.., sends(l, sent)]));
                }
                clear_rows(&mut self.carry, star, |lane| reset(t * b + lane));
            }
        }
        // They came from the last step to the first.
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
        let inputs = dx.len() / rows;
        let [input, gates, _] = &prepared.layers[0];
        input.back.product(view_mut(dx, rows, inputs), view(&self.a[0][..rows * width], rows, width));
        gates.back.add_product(view_mut(dx, rows, inputs), s.slice(s![.., sends(0, layers)]));
    }
}

/// The columns of layer `l`, `width` for each.
fn sends(l: usize, width: usize) -> Range<usize> {
    l * width..(l + 1) * width
}
