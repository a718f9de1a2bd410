//! How large gradients are on their way back in time.

use crate::real::Real;

/// The norms of ∂J/∂h, one a step for each layer: what the backward pass of a net writes where they are asked for.
pub type Norms = Vec<Vec<f64>>;

/// √Σx²
pub fn norm<R: Real>(x: &[R]) -> f64 {
    x.iter().map(|x| x.f64() * x.f64()).sum::<f64>().sqrt()
}
