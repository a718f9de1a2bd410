//! The gated recurrent unit, reset after the product (equations, section 7; Cho et al. 2014, as in cuDNN and PyTorch).
//!
//! q = h₋U_q + b_q    r = σ(xW_r + h₋U_r + b_r)    z = σ(xW_z + h₋U_z + b_z)    n = tanh(xW_n + b_n + r ∘ q)
//!
//! h = (1 − z) ∘ h₋ + z ∘ n
//!
//! A row of pre-activations is \[q | r | z | n\]: one product with the state computes the first three blocks, one with the input the
//! last three, and likewise for the gradients of U and W. PyTorch's z is 1 − z.

use super::{Block, Columns, Step, Torch};
use crate::kernels::gates;
use crate::real::Real;

/// The layout of a row of its pre-activations.
pub const COLUMNS: Columns = Columns {
    blocks: &[
        Block::value("recurrent candidate"),
        Block::gate("reset"),
        Block::gate("update"),
        Block::value("candidate"),
    ],
    input: 1..4,
    recurrent: 0..3,
    carried: 0..0,
    torch: Torch { module: "nn.GRU", rows: &[(1, 1, 1.0), (2, 2, -1.0), (3, 0, 1.0)] },
};

/// The cell; it has no options.
#[derive(Clone, Copy, Debug)]
pub struct Gru;

impl<R: Real> Step<R> for Gru {
    fn forward(&self, h: &mut [R], a: &mut [R], before: &[R], units: usize) {
        gates::gru(h, a, before, units);
    }

    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], _h: &[R], before: &[R], units: usize) {
        gates::gru_backward(a, carry, dh, before, units);
    }
}
