//! Losses: each takes states h (or scores θ) and targets, returns the loss, and leaves the gradients.

mod full_softmax;
mod label_softmax;
mod sentence;

pub use full_softmax::{FullSoftmax, Gradient};
pub use label_softmax::LabelSoftmax;
pub use sentence::{Sentences, Transitions, largest};
