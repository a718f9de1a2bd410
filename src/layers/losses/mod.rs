//! Losses over a vocabulary: each takes states h and target words, returns the loss, and leaves ∂h and the gradients of its tables.

mod full_softmax;

pub use full_softmax::{FullSoftmax, Gradient};
