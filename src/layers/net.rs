//! The recurrent part of a model: which cells there are, and layers of them on one another, with dropout between.

use super::cells::{Cell, Gru, Simple};
use super::norms::{Norms, norm};
use super::{gated_feedback, recurrent};
use crate::blas::Precision;
use crate::kernels::Buffer;
use crate::kernels::activation::Activation;
use crate::kernels::dropout::{Keep, dropout_backward, scale};
use crate::layers::matrix::{view, view_mut};
use crate::params::{Arena, Layout};
use crate::real::Real;
use crate::rng::{Place, Purpose};
use serde::{Deserialize, Serialize};

/// The recurrent cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A non-linearity of input and state: --activation (Elman 1990)
    Rnn,
    /// Gated recurrent units (Cho et al. 2014)
    Gru,
    /// Every layer feeds all layers of the next step, through gates (Chung et al. 2015)
    GatedFeedback,
}

/// The units of a gated-feedback net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// tanh
    Tanh,
    /// Gated recurrent units
    Gru,
}

/// Sizes and kinds of a recurrent net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The cell.
    pub kind: Kind,
    /// Of [`Kind::Rnn`].
    pub activation: Activation,
    /// Of [`Kind::GatedFeedback`].
    pub unit: Unit,
    /// D: width of the inputs.
    pub inputs: usize,
    /// H: units of a layer.
    pub units: usize,
    /// Layers.
    pub layers: usize,
}

/// The tensors of a net.
enum Weights {
    Stack(Vec<recurrent::Weights>),
    Feedback(gated_feedback::Weights),
}

/// A net: its shape and where its tensors are.
pub struct Net {
    shape: Shape,
    weights: Weights,
}

/// Its weights packed for the products of one step.
pub struct Prepared<R>(Packed<R>);

enum Packed<R> {
    Stack(Vec<recurrent::Prepared<R>>),
    Feedback(gated_feedback::Prepared<R>),
}

enum Unrolled<R> {
    Stack(Vec<recurrent::Unrolled<R>>),
    Feedback(gated_feedback::Unrolled<R>),
}

/// What a net keeps of T steps for b lanes.
pub struct Memory<R> {
    /// b
    pub lanes: usize,
    /// The states that the next steps begin with, \[b, H\] for each layer.
    pub state: Vec<Buffer<R>>,
    /// ∂J/∂h of the highest layer, before [`Net::backward`]: \[T·b, H\].
    pub dh: Buffer<R>,
    /// The input of each layer, dropout included: \[T·b, D or H\].
    x: Vec<Buffer<R>>,
    /// The states of each layer: \[T·b, H\].
    h: Vec<Buffer<R>>,
    /// Gradients of inputs: \[T·b, max(D, H)\].
    dx: Buffer<R>,
    /// Factors of dropout between the layers of a gated-feedback net: \[T·b, H\] for each but the last.
    mask: Vec<Buffer<R>>,
    unrolled: Unrolled<R>,
}

/// The dropout masks of one step in one shard of the lanes, or the lack of them.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    /// In training: the kept share, the run's seed, and the optimizer step.
    pub training: Option<(Keep, u64, u64)>,
    /// What all values are multiplied by when there are no masks.
    pub at_test: f64,
    /// Whether all time steps have the same mask (Gal and Ghahramani 2016).
    pub variational: bool,
    /// Number of the shard.
    pub shard: usize,
}

/// Means of gates over steps, lanes and units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gates {
    /// r of each layer, with gated units: how much of the state goes into the candidate.
    pub reset: Vec<f64>,
    /// z of each layer, with gated units: how much of the state is replaced.
    pub update: Vec<f64>,
    /// gⁱʲ of a gated-feedback net: row i, column j.
    pub feedback: Vec<Vec<f64>>,
}

impl Masks {
    /// Multiplies the output of layer `layer` (0: the inputs) by its mask; rows of `a_step` elements belong to one time step.
    /// Its own backward.
    pub fn apply<R: Real>(&self, layer: usize, a_step: usize, x: &mut [R]) {
        match self.training {
            Some((keep, seed, step)) => {
                let place = Place::new(seed, Purpose::Dropout, step, (layer << 16 | self.shard) as u32);
                let same = if self.variational { a_step } else { x.len() };
                x.chunks_mut(same.max(1)).for_each(|x| dropout_backward(keep, place, x));
            }
            None => scale(R::of(self.at_test), x),
        }
    }
}

impl Net {
    /// Adds the tensors of a net to a layout.
    pub fn add(layout: &mut Layout, shape: Shape) -> Net {
        let Shape { inputs, units, layers, .. } = shape;
        let weights = if shape.kind == Kind::GatedFeedback {
            let gru = shape.unit == Unit::Gru;
            Weights::Feedback(gated_feedback::Weights::add(layout, inputs, units, layers, gru))
        } else {
            let columns = cell::<f32>(&shape).columns();
            let of = |l| if l == 0 { inputs } else { units };
            let layer = |l| recurrent::Weights::add(layout, &format!("layer{l}"), of(l), units, &columns);
            Weights::Stack((0..layers).map(layer).collect())
        };
        Net { shape, weights }
    }

    /// The tensors of each layer of a stack; none of a gated-feedback net.
    pub fn stack(&self) -> &[recurrent::Weights] {
        match &self.weights {
            Weights::Stack(all) => all,
            Weights::Feedback(_) => &[],
        }
    }

    /// Room for the packed weights, whose products are as precise as said.
    pub fn prepared<R: Real>(&self, layout: &Layout, precision: Precision) -> Prepared<R> {
        Prepared(match &self.weights {
            Weights::Stack(all) => {
                Packed::Stack(all.iter().map(|p| recurrent::Prepared::new(layout, p, precision)).collect())
            }
            Weights::Feedback(p) => Packed::Feedback(gated_feedback::Prepared::new(layout, p, precision)),
        })
    }

    /// Packs the present weights, for the way there, and if `back`, for the way back too.
    pub fn prepare<R: Real>(&self, prepared: &mut Prepared<R>, w: &Arena<R>, back: bool) {
        match (&self.weights, &mut prepared.0) {
            (Weights::Stack(p), Packed::Stack(all)) => all.iter_mut().zip(p).for_each(|(to, p)| to.refresh(w, p, back)),
            (Weights::Feedback(p), Packed::Feedback(to)) => to.refresh(w, p, back),
            _ => unreachable!("packed weights are of the net that made them"),
        }
    }

    /// Room for up to `steps` of `lanes`; the states are zero.
    pub fn memory<R: Real>(&self, steps: usize, lanes: usize) -> Memory<R> {
        let Shape { inputs, units, layers, .. } = self.shape;
        let rows = steps * lanes;
        let states = |n: usize| (0..n).map(|_| Buffer::zeros(rows * units)).collect();
        let (masks, unrolled) = match &self.weights {
            Weights::Stack(_) => {
                let columns = cell::<R>(&self.shape).columns();
                let layer = |_| recurrent::Unrolled::new(steps, lanes, units, columns.clone());
                (0, Unrolled::Stack((0..layers).map(layer).collect()))
            }
            Weights::Feedback(p) => (layers - 1, Unrolled::Feedback(gated_feedback::Unrolled::new(steps, lanes, p))),
        };
        Memory {
            lanes,
            state: (0..layers).map(|_| Buffer::zeros(lanes * units)).collect(),
            dh: Buffer::zeros(rows * units),
            x: (0..layers).map(|l| Buffer::zeros(rows * if l == 0 { inputs } else { units })).collect(),
            h: states(layers),
            dx: Buffer::zeros(rows * inputs.max(units)),
            mask: states(masks),
            unrolled,
        }
    }

    /// Elements that [`Net::memory`] takes.
    pub fn memory_len<R: Real>(&self, steps: usize, lanes: usize) -> usize {
        let Shape { inputs, units, layers, .. } = self.shape;
        let (masks, unrolled) = match &self.weights {
            Weights::Stack(_) => {
                (0, layers * recurrent::Unrolled::<R>::len(steps, lanes, units, &cell::<R>(&self.shape).columns()))
            }
            Weights::Feedback(p) => (layers - 1, gated_feedback::Unrolled::<R>::len(steps, lanes, p)),
        };
        // x and h of the layers, masks, ∂h and ∂x.
        let a_row = inputs + (layers - 1 + layers + masks + 1) * units + inputs.max(units);
        steps * lanes * a_row + layers * lanes * units + unrolled
    }

    /// Runs the net over `rows` inputs. Where `reset` (row of a step and lane) holds, the state before is zero.
    pub fn forward<R: Real>(
        &self,
        m: &mut Memory<R>,
        rows: usize,
        reset: &dyn Fn(usize) -> bool,
        masks: Masks,
        w: &Arena<R>,
        prepared: &Prepared<R>,
    ) {
        let Shape { inputs, units, layers, .. } = self.shape;
        masks.apply(0, m.lanes * inputs, &mut m.x[0][..rows * inputs]);
        match (&self.weights, &mut m.unrolled, &prepared.0) {
            (Weights::Stack(p), Unrolled::Stack(unrolled), Packed::Stack(prepared)) => {
                let cell = cell(&self.shape);
                for l in 0..layers {
                    let width = if l == 0 { inputs } else { units };
                    let (h, x) = (&mut m.h[l][..rows * units], view(&m.x[l][..rows * width], rows, width));
                    let bias = w.slice(p[l].bias);
                    unrolled[l].forward(h, x, &m.state[l], reset, cell, bias, &prepared[l]);
                    if let Some(above) = m.x.get_mut(l + 1) {
                        let above = &mut above[..rows * units];
                        above.copy_from_slice(h);
                        masks.apply(l + 1, m.lanes * units, above);
                    }
                }
            }
            (Weights::Feedback(p), Unrolled::Feedback(unrolled), Packed::Feedback(prepared)) => {
                for (l, mask) in m.mask.iter_mut().enumerate() {
                    mask.fill(R::one());
                    masks.apply(l + 1, m.lanes * units, &mut mask[..rows * units]);
                }
                unrolled.forward(&mut m.h, &mut m.x, &m.mask, rows, &m.state, reset, w, prepared, p);
            }
            _ => unreachable!("memory and packed weights are of the net that made them"),
        }
    }

    /// The way back through the `rows` of the last [`Net::forward`], from `m.dh`, which is used up: the gradients of the weights,
    /// written to `g`, and where asked for the norms of ∂J/∂h. Returns ∂J of the inputs \[rows, D\].
    #[expect(clippy::too_many_arguments, reason = "the operands of the equations, each under its name")]
    pub fn backward<'m, R: Real>(
        &self,
        m: &'m mut Memory<R>,
        rows: usize,
        reset: &dyn Fn(usize) -> bool,
        masks: Masks,
        prepared: &Prepared<R>,
        g: &mut Arena<R>,
        mut norms: Option<&mut Norms>,
    ) -> &'m [R] {
        let Shape { inputs, units, layers, .. } = self.shape;
        let dh = &mut m.dh[..rows * units];
        match (&self.weights, &mut m.unrolled, &prepared.0) {
            (Weights::Stack(p), Unrolled::Stack(unrolled), Packed::Stack(prepared)) => {
                let cell = cell(&self.shape);
                for l in (0..layers).rev() {
                    let width = if l == 0 { inputs } else { units };
                    let (x, h) = (view(&m.x[l][..rows * width], rows, width), &m.h[l][..rows * units]);
                    let dx = &mut m.dx[..rows * width];
                    let to = view_mut(dx, rows, width);
                    unrolled[l].backward(to, dh, h, x, reset, cell, &prepared[l], g, &p[l]);
                    if let Some(norms) = &mut norms {
                        norms[l] = dh.chunks_exact(m.lanes * units).map(norm).collect();
                    }
                    if l > 0 {
                        masks.apply(l, m.lanes * units, dx);
                        dh.copy_from_slice(dx);
                    }
                }
            }
            (Weights::Feedback(p), Unrolled::Feedback(unrolled), Packed::Feedback(prepared)) => {
                let dx = &mut m.dx[..rows * inputs];
                unrolled.backward(dx, dh, &m.h, &m.x, &m.mask, reset, prepared, g, norms, p);
            }
            _ => unreachable!("memory and packed weights are of the net that made them"),
        }
        let dx = &mut m.dx[..rows * inputs];
        masks.apply(0, m.lanes * inputs, dx);
        dx
    }
}

impl<R: Real> Memory<R> {
    /// The inputs of `rows`, to be filled before [`Net::forward`].
    pub fn inputs(&mut self, rows: usize, width: usize) -> &mut [R] {
        &mut self.x[0][..rows * width]
    }

    /// The states of the highest layer: \[T·b, H\].
    pub fn top(&self) -> &[R] {
        self.h.last().expect("a net has a layer")
    }

    /// What [`Net::backward`] returned last: ∂J of the inputs.
    pub fn dx(&self) -> &[R] {
        &self.dx
    }

    /// Makes the state after the first `steps` steps the one that the next begin with.
    pub fn carry(&mut self, steps: usize) {
        for (state, h) in self.state.iter_mut().zip(&self.h) {
            let row = state.len();
            state.copy_from_slice(&h[(steps - 1) * row..][..row]);
        }
    }
}

impl Net {
    /// The means of the gates in the `rows` of the last [`Net::forward`].
    pub fn gates<R: Real>(&self, m: &Memory<R>, rows: usize) -> Gates {
        let Shape { units, layers, .. } = self.shape;
        let mut gates = Gates::default();
        let mut add = |a: &[R], width: usize, reset: usize, update: usize| {
            gates.reset.push(mean(a, width, reset..reset + units));
            gates.update.push(mean(a, width, update..update + units));
        };
        match &m.unrolled {
            Unrolled::Stack(all) if self.shape.kind == Kind::Gru => {
                all.iter().for_each(|u| add(u.kept(rows), 4 * units, units, 2 * units));
            }
            Unrolled::Stack(_) => {}
            Unrolled::Feedback(u) => {
                if self.shape.unit == Unit::Gru {
                    (0..layers).for_each(|l| add(u.kept(l, rows), 3 * units, 0, units));
                }
                let of = |i: usize, j: usize| mean(u.gates(rows), layers * layers, j * layers + i..j * layers + i + 1);
                gates.feedback = (0..layers).map(|i| (0..layers).map(|j| of(i, j)).collect()).collect();
            }
        }
        gates
    }
}

/// The mean of some columns of rows of `width`.
fn mean<R: Real>(x: &[R], width: usize, columns: std::ops::Range<usize>) -> f64 {
    let rows = x.chunks_exact(width);
    let count = (rows.len() * columns.len()) as f64;
    rows.flat_map(|row| &row[columns.clone()]).map(|x| x.f64()).sum::<f64>() / count
}

/// The cell of a stack.
fn cell<R: Real>(shape: &Shape) -> &'static dyn Cell<R> {
    match (shape.kind, shape.activation) {
        (Kind::Rnn, Activation::Sigmoid) => &Simple(Activation::Sigmoid),
        (Kind::Rnn, Activation::Tanh) => &Simple(Activation::Tanh),
        (Kind::Rnn, Activation::Relu) => &Simple(Activation::Relu),
        (Kind::Gru, _) => &Gru,
        (Kind::GatedFeedback, _) => unreachable!("a gated-feedback net is not a stack"),
    }
}
