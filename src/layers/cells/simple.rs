//! The simple recurrent cell (equations, section 4; Elman 1990).
//!
//! h = f(xW + h₋U + b)
//!
//! δ = ∂J/∂h ∘ f'(h)

use super::{Block, Columns, Step, Torch};
use crate::kernels::activation::Activation;
use crate::real::Real;

/// The layout of a row of its pre-activations.
pub const COLUMNS: Columns = Columns {
    blocks: &[Block::value("state")],
    input: 0..1,
    recurrent: 0..1,
    carried: 0..0,
    torch: Torch { module: "nn.RNN", rows: &[(0, 0, 1.0)] },
};

/// The cell, with f = σ, tanh or relu.
#[derive(Clone, Copy, Debug)]
pub struct Simple(pub Activation);

impl<R: Real> Step<R> for Simple {
    fn forward(&self, h: &mut [R], a: &mut [R], _before: &[R], _units: usize) {
        self.0.forward(a, h);
    }

    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], h: &[R], _before: &[R], _units: usize) {
        a.copy_from_slice(dh);
        self.0.backward(a, h);
        carry.fill(R::zero());
    }
}
