//! Recurrent cells. A cell knows one step of one batch, never time.

mod gru;
mod simple;

pub use gru::Gru;
pub use simple::Simple;

use crate::real::Real;
use std::ops::Range;

/// What a unit of a layer has in a row of pre-activations, in columns of H elements: those that the product with the input makes,
/// and those that the product with the state before makes; both where the two are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// All of them.
    pub total: usize,
    /// xW is added to these.
    pub input: Range<usize>,
    /// h₋U is added to these.
    pub recurrent: Range<usize>,
}

/// One step of a recurrent layer between its matrix products, for b lanes and H units.
pub trait Cell<R: Real>: Send + Sync {
    /// The columns of its pre-activations.
    fn columns(&self) -> Columns;

    /// Computes the state `h` \[b, H\] from that before, `before`, and the pre-activations `a` \[b, total·H\] (products and biases),
    /// in which it keeps what [`Cell::backward`] needs.
    fn forward(&self, h: &mut [R], a: &mut [R], before: &[R], units: usize);

    /// From `dh` = ∂J/∂h and the states, turns what `a` keeps into ∂J/∂(pre-activations), and writes to `carry` the part of
    /// ∂J/∂h₋ that does not go through the product.
    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], h: &[R], before: &[R], units: usize);
}
