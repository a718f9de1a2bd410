//! Norms of gradients as they propagate back in time.

use crate::real::Real;

/// The norms of ∂J/∂h, one per step for each layer, written by a net's backward pass on request.
pub type Norms = Vec<Vec<f64>>;

/// √Σx²
pub fn norm<R: Real>(x: &[R]) -> f64 {
    x.iter().map(|x| x.f64() * x.f64()).sum::<f64>().sqrt()
}
