//! Long short-term memory with a forget gate and without peepholes, as in PyTorch (equations, section 7; Hochreiter and Schmidhuber
//! 1997; Gers et al. 2000).
//!
//! i, f, o = σ(xW + h₋U + b)    g = tanh(xW_g + h₋U_g + b_g)    c = f ∘ c₋ + i ∘ g    h = o ∘ tanh(c)
//!
//! A row of pre-activations is \[i | f | g | o | c\]: both products compute the first four blocks; c, stored in the fifth, is
//! passed to the next step along with h. The bias of the forget gate is initially 1, so that c lasts (Jozefowicz et al. 2015).

use super::{Block, Columns, Step, Torch};
use crate::kernels::gates;
use crate::real::Real;

/// The layout of a row of its pre-activations.
pub const COLUMNS: Columns = Columns {
    blocks: &[
        Block::gate("input"),
        Block::gate("forget").biased(1.0),
        Block::value("candidate"),
        Block::gate("output"),
        Block::value("cell"),
    ],
    input: 0..4,
    recurrent: 0..4,
    carried: 4..5,
    torch: Torch { module: "nn.LSTM", rows: &[(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (3, 3, 1.0)] },
};

/// The cell; it has no options.
#[derive(Clone, Copy, Debug)]
pub struct Lstm;

impl<R: Real> Step<R> for Lstm {
    fn forward(&self, h: &mut [R], a: &mut [R], before: &[R], units: usize) {
        gates::lstm(h, a, before, units);
    }

    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], _h: &[R], before: &[R], units: usize) {
        gates::lstm_backward(a, carry, dh, before, units);
    }
}
