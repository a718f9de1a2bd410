//! A fast, reproducible CPU trainer for word-level neural nets.

pub mod error;
pub mod rng;
pub mod text;

pub use error::{Error, Result};
