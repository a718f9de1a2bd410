//! A fast, reproducible CPU trainer for word-level neural nets.

pub mod error;
pub mod kernels;
pub mod real;
pub mod rng;

pub use error::{Error, Result};
pub use real::Real;
