//! Losses: each takes states h (or scores θ) and targets, returns the loss, and leaves the gradients.

mod adaptive_softmax;
pub mod clusters;
mod dropout_penalty;
mod full_softmax;
mod label_softmax;
mod sampled;
mod sampler;
mod sentence;

pub use adaptive_softmax::{AdaptiveSoftmax, AdaptiveTables};
pub use clusters::Tail;
pub use dropout_penalty::DropoutPenalty;
pub use full_softmax::{FullSoftmax, Gradient, Own, Tile};
pub use label_softmax::LabelSoftmax;
pub use sampled::{Draws, Negatives, Objective, Recipe, Sampled};
pub use sampler::Sampler;
pub use sentence::{Lattice, Sentences, Transitions, largest};
