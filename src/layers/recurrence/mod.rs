//! The recurrent part of a model: nets of recurrent cells, and dropout between their layers.
//!
//! A net consists of its weights ([`Net`]), packed weights for the products of one step ([`Prepared`]), and for each shard of the lanes
//! what its steps read and write ([`Tape`]) and what its kind stores besides (`Recurrence`).

mod gated_feedback;
mod stack;

pub use stack::Weights;

use super::cells::{Block, Cell, Stacked, Unit};
use super::norms::Norms;
use crate::blas::{Packed, Precision};
use crate::kernels::dropout::{Keep, dropout_backward, scale};
use crate::params::{Arena, Layout, Tensor, TensorId};
use crate::pool;
use crate::real::Real;
use crate::rng::{Place, Purpose};
use crate::sys::memory::{Buffer, Room};
use serde::Serialize;
use std::collections::BTreeMap;

/// Sizes of a recurrent net, and its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The cell.
    pub cell: Cell,
    /// D: width of the inputs.
    pub inputs: usize,
    /// H: units per layer.
    pub units: usize,
    /// Number of layers.
    pub layers: usize,
}

/// A net: its shape and where its tensors are.
pub struct Net {
    shape: Shape,
    weights: Kinds,
}

/// The tensors of a net, by its kind.
enum Kinds {
    Stack(Stacked, Vec<Weights>),
    Feedback(gated_feedback::Weights),
}

/// A matrix, packed for forward products and, transposed, for backward products.
struct Pair<R> {
    p: TensorId,
    forward: Packed<R>,
    back: Packed<R>,
}

/// The matrices of a net, packed for the products of one step: the same number for each layer, then others.
pub struct Prepared<R> {
    pairs: Vec<Pair<R>>,
    precision: Precision,
}

impl<R: Real> Prepared<R> {
    /// The N matrices of one layer.
    fn layer<const N: usize>(&self, layer: usize) -> &[Pair<R>; N] {
        self.pairs[layer * N..].first_chunk().expect("the net has the layer")
    }

    /// The last matrix.
    fn last(&self) -> &Pair<R> {
        self.pairs.last().expect("a net has matrices")
    }
}

/// The steps that one forward and backward pass of a net covers.
#[derive(Clone, Copy)]
pub struct Steps<'a, R> {
    /// Number of inputs: one per step and lane.
    pub rows: usize,
    /// Whether the state before a row is zero.
    pub reset: &'a dyn Fn(usize) -> bool,
    /// Dropout.
    pub masks: Masks,
    /// The packed weights.
    pub prepared: &'a Prepared<R>,
}

/// What the steps of a net read and write, for T steps of b lanes.
pub struct Tape<R> {
    /// b
    pub lanes: usize,
    /// The states that the next steps begin with, \[b, S\] for each layer.
    pub state: Vec<Buffer<R>>,
    /// ∂J/∂h of the highest layer, before [`Net::backward`]: \[T·b, H\].
    pub dh: Buffer<R>,
    /// The input of each layer, dropout included: \[T·b, D or H\].
    x: Vec<Buffer<R>>,
    /// The outputs of each layer: \[T·b, H\].
    h: Vec<Buffer<R>>,
    /// Gradients of inputs: \[T·b, max(D, H)\].
    dx: Buffer<R>,
}

/// What one kind of net stores for T steps of b lanes besides a [`Tape`], and how it runs.
trait Recurrence<R: Real>: Send + Sync {
    /// See [`Net::forward`].
    fn forward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, w: &Arena<R>);

    /// See [`Net::backward`]; the gradient of the inputs goes to `tape.dx`, before the mask of the inputs is applied.
    fn backward(&mut self, tape: &mut Tape<R>, steps: Steps<R>, g: &mut Arena<R>, norms: Option<&mut Norms>);

    /// S: width of a layer's state.
    fn state_width(&self) -> usize;

    /// The state \[b, S\] of a layer after step `t`, whose output is `h` \[b, H\].
    fn state_after(&self, state: &mut [R], layer: usize, h: &[R], t: usize);

    /// The means of the gates in the `rows` of the last forward pass.
    fn gates(&self, rows: usize) -> Gates;
}

/// A net's working memory for one shard of the lanes.
pub struct Memory<R: Real> {
    /// What its steps read and write.
    pub tape: Tape<R>,
    units: usize,
    recurrence: Box<dyn Recurrence<R>>,
}

/// The dropout masks of one optimizer step in one shard of the lanes, if any.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    /// In training: the kept share, the run's seed, and the optimizer step.
    pub training: Option<(Keep, u64, u64)>,
    /// The factor of all values when there are no masks.
    pub at_test: f64,
    /// Whether all time steps have the same mask (Gal and Ghahramani 2016).
    pub variational: bool,
    /// Number of the shard.
    pub shard: usize,
}

/// Means of gates over steps, lanes and units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gates {
    /// The gates of the cells by name, for each layer.
    #[serde(flatten)]
    pub named: BTreeMap<&'static str, Vec<f64>>,
    /// gⁱʲ of a gated-feedback net: row i, column j.
    pub feedback: Vec<Vec<f64>>,
}

impl Masks {
    /// Multiplies the output of layer `layer` (0: the inputs) by its mask; `step_len` elements belong to one time step.
    /// The backward pass is the same.
    pub fn apply<R: Real>(&self, layer: usize, step_len: usize, x: &mut [R]) {
        match self.training {
            Some((keep, seed, step)) => {
                let place = Place::new(seed, Purpose::Dropout, step, (layer << 16 | self.shard) as u32);
                let same = if self.variational { step_len } else { x.len() };
                x.chunks_mut(same.max(1)).for_each(|x| dropout_backward(keep, place, x));
            }
            None => scale(R::of(self.at_test), x),
        }
    }
}

impl Gates {
    /// Adds the means of a layer, given rows of `blocks` of `units` columns each.
    fn add<R: Real>(&mut self, rows: &[R], blocks: &[Block], units: usize) {
        for (i, block) in blocks.iter().enumerate().filter(|(_, block)| block.is_gate) {
            let mean = mean(rows, blocks.len() * units, i * units..(i + 1) * units);
            self.named.entry(block.name).or_default().push(mean);
        }
    }
}

impl Net {
    /// Adds the tensors of a net to a layout.
    pub fn add(layout: &mut Layout, shape: Shape) -> Net {
        let Shape { inputs, units, layers, .. } = shape;
        let Some(cell) = shape.cell.stacked() else {
            let gru = shape.cell.unit() == Unit::Gru;
            let weights = gated_feedback::Weights::add(layout, inputs, units, layers, gru);
            return Net { shape, weights: Kinds::Feedback(weights) };
        };
        let columns = cell.columns();
        let of = |l| if l == 0 { inputs } else { units };
        let layer = |l| Weights::add(layout, &format!("layer{l}"), of(l), units, columns);
        Net { shape, weights: Kinds::Stack(cell, (0..layers).map(layer).collect()) }
    }

    /// The tensors of each layer of a stack; none of a gated-feedback net.
    pub fn stack(&self) -> &[Weights] {
        match &self.weights {
            Kinds::Stack(_, all) => all,
            Kinds::Feedback(_) => &[],
        }
    }

    /// Gives the biases of cells their initial values.
    pub fn begin<R: Real>(&self, w: &mut Arena<R>) {
        let Kinds::Stack(cell, layers) = &self.weights else { return };
        for layer in layers {
            let bias = w.slice_mut(layer.bias).chunks_exact_mut(self.shape.units);
            bias.zip(cell.columns().blocks).for_each(|(bias, block)| bias.fill(R::of(block.bias)));
        }
    }

    /// Allocates the packed weights; `precision` is that of all products, including those of gradients.
    pub fn prepared<R: Real>(&self, room: &mut Room, layout: &Layout, precision: Precision) -> Prepared<R> {
        let matrices = match &self.weights {
            Kinds::Stack(_, all) => all.iter().flat_map(Weights::matrices).collect(),
            Kinds::Feedback(weights) => weights.matrices(),
        };
        let pair = |p: TensorId| {
            let Tensor { rows, columns, .. } = *layout.tensor(p);
            let forward = Packed::new(room, rows, columns, precision);
            Pair { p, forward, back: Packed::new(room, columns, rows, precision) }
        };
        Prepared { pairs: matrices.into_iter().map(pair).collect(), precision }
    }

    /// Packs the current weights for the forward pass and, if `back`, for the backward pass.
    pub fn prepare<R: Real>(&self, prepared: &mut Prepared<R>, w: &Arena<R>, back: bool) {
        pool::each(&mut prepared.pairs, |_, Pair { p, forward, back: backward }| {
            let matrix = w.matrix(*p);
            if back {
                pool::join(|| forward.pack(matrix), || backward.pack(matrix.t()));
            } else {
                forward.pack(matrix);
            }
        });
    }

    /// Working memory for up to `steps` steps of `lanes` lanes; the states are zero.
    pub fn memory<R: Real>(&self, room: &mut Room, steps: usize, lanes: usize) -> Memory<R> {
        let Shape { inputs, units, layers, .. } = self.shape;
        let rows = steps * lanes;
        let recurrence: Box<dyn Recurrence<R>> = match &self.weights {
            Kinds::Stack(cell, all) => Box::new(stack::Stack::new(room, *cell, all, [inputs, units], [steps, lanes])),
            Kinds::Feedback(weights) => Box::new(gated_feedback::Feedback::new(room, weights, steps, lanes)),
        };
        let tape = Tape {
            lanes,
            state: (0..layers).map(|_| room.zeros(lanes * recurrence.state_width())).collect(),
            dh: room.zeros(rows * units),
            x: (0..layers).map(|l| room.zeros(rows * if l == 0 { inputs } else { units })).collect(),
            h: (0..layers).map(|_| room.zeros(rows * units)).collect(),
            dx: room.zeros(rows * inputs.max(units)),
        };
        Memory { tape, units, recurrence }
    }

    /// Runs the net over the inputs of `steps`.
    pub fn forward<R: Real>(&self, m: &mut Memory<R>, steps: Steps<R>, w: &Arena<R>) {
        let inputs = self.shape.inputs;
        steps.masks.apply(0, m.tape.lanes * inputs, &mut m.tape.x[0][..steps.rows * inputs]);
        m.recurrence.forward(&mut m.tape, steps, w);
    }

    /// The backward pass through the `steps` of the last [`Net::forward`], from [`Tape::dh`], which is overwritten. Writes the gradients
    /// of the weights to `g` and, on request, the norms of ∂J/∂h; returns ∂J/∂(inputs) \[rows, D\].
    pub fn backward<'m, R: Real>(
        &self,
        m: &'m mut Memory<R>,
        steps: Steps<R>,
        g: &mut Arena<R>,
        norms: Option<&mut Norms>,
    ) -> &'m [R] {
        let (Steps { rows, masks, .. }, inputs) = (steps, self.shape.inputs);
        m.recurrence.backward(&mut m.tape, steps, g, norms);
        let dx = &mut m.tape.dx[..rows * inputs];
        masks.apply(0, m.tape.lanes * inputs, dx);
        dx
    }
}

impl<R: Real> Memory<R> {
    /// The inputs of `rows` rows, to be filled before [`Net::forward`].
    pub fn inputs(&mut self, rows: usize, width: usize) -> &mut [R] {
        &mut self.tape.x[0][..rows * width]
    }

    /// The outputs of the highest layer: \[T·b, H\].
    pub fn top(&self) -> &[R] {
        self.tape.h.last().expect("a net has a layer")
    }

    /// What [`Net::backward`] returned last: ∂J/∂(inputs).
    pub fn dx(&self) -> &[R] {
        &self.tape.dx
    }

    /// Carries over the state after the first `steps` steps: the next ones begin with it.
    pub fn carry(&mut self, steps: usize) {
        for (l, (state, h)) in self.tape.state.iter_mut().zip(&self.tape.h).enumerate() {
            let step_len = self.tape.lanes * self.units;
            let t = steps - 1;
            self.recurrence.state_after(state, l, &h[t * step_len..][..step_len], t);
        }
    }

    /// Sets the state of one lane to zero.
    pub fn forget(&mut self, lane: usize) {
        let width = self.recurrence.state_width();
        self.tape.state.iter_mut().for_each(|state| state[lane * width..][..width].fill(R::zero()));
    }

    /// The means of the gates in the `rows` of the last [`Net::forward`].
    pub fn gates(&self, rows: usize) -> Gates {
        self.recurrence.gates(rows)
    }
}

/// The mean of some columns of rows of `width`.
fn mean<R: Real>(x: &[R], width: usize, columns: std::ops::Range<usize>) -> f64 {
    let rows = x.chunks_exact(width);
    let count = (rows.len() * columns.len()) as f64;
    rows.flat_map(|row| &row[columns.clone()]).map(|x| x.f64()).sum::<f64>() / count
}
