//! Training: the loop, and what is saved, reported and scheduled while a model learns. Nothing here knows text or a particular model.

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
