//! A fast, reproducible CPU trainer for word-level neural nets.

pub mod cli;
pub mod error;
pub mod rng;
pub mod train;

pub use error::{Error, Result};
