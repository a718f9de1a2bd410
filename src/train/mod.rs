//! Training: the loop, and what is saved, reported and scheduled. Independent of text and of particular models.

pub mod checkpoint;
pub mod fit;
pub mod metrics;
pub mod optimizer;
pub mod plot;
pub mod progress;
pub mod saver;
pub mod schedule;
pub mod stepper;
pub mod tensor_file;
pub mod writer;
