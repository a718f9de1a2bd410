//! The simple recurrent cell (equations, section 4; Elman 1990).
//!
//! h = f(xW + h₋U + b)
//!
//! δ = ∂J/∂h ∘ f'(h)

use super::{Block, Columns, Step};
use crate::kernels::activation::Activation;
use crate::real::Real;

/// A row of its pre-activations.
const BLOCKS: &[Block] = &[Block::value("state")];

/// f is σ, tanh or relu.
#[derive(Clone, Copy, Debug)]
pub struct Simple(pub Activation);

impl<R: Real> Step<R> for Simple {
    fn columns(&self) -> Columns {
        Columns { blocks: BLOCKS, input: 0..1, recurrent: 0..1, carried: 0..0 }
    }

    fn forward(&self, h: &mut [R], a: &mut [R], _before: &[R], _units: usize) {
        self.0.forward(a, h);
    }

    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], h: &[R], _before: &[R], _units: usize) {
        a.copy_from_slice(dh);
        self.0.backward(a, h);
        carry.fill(R::zero());
    }
}
