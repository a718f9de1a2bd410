//! Training: what is saved, reported and scheduled while a model learns.

pub mod checkpoint;
pub mod disk;
pub mod metrics;
pub mod progress;
pub mod schedule;
pub mod signals;
pub mod tensor_file;
pub mod writer;
