//! Recurrent cells. A cell knows one step of one batch, never time.

mod simple;

pub use simple::Simple;

use crate::real::Real;

/// One step of a recurrent layer between its two matrix products, for b lanes and H units with G pre-activations each.
pub trait Cell<R: Real>: Send + Sync {
    /// G: pre-activations a unit has.
    fn gates(&self) -> usize;

    /// Computes the state `h` \[b, H\] from the pre-activations `a` = xW + h₋U + bias \[b, G·H\], in which it keeps what
    /// [`Cell::backward`] needs.
    fn forward(&self, h: &mut [R], a: &mut [R]);

    /// From `dh` = ∂J/∂h and the state `h`, turns what `a` keeps into ∂J/∂(pre-activations).
    fn backward(&self, a: &mut [R], dh: &[R], h: &[R]);
}
