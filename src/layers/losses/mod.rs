//! Losses over a few labels: each takes scores θ and targets, returns the loss and writes the gradients.

mod dropout_penalty;
mod label_softmax;
mod sentence;

pub use dropout_penalty::DropoutPenalty;
pub use label_softmax::LabelSoftmax;
pub use sentence::{Lattice, Sentences, Transitions, largest};
