//! A fast, reproducible CPU trainer for word-level neural nets.

pub mod blas;
pub mod cli;
pub mod error;
pub mod kernels;
pub mod layers;
pub mod models;
pub mod params;
pub mod pool;
pub mod real;
pub mod rng;
pub mod text;
pub mod train;

pub use error::{Error, Result};
pub use real::Real;
