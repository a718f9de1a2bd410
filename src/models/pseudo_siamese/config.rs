//! The configuration of a pseudo-Siamese network.

use serde::{Deserialize, Serialize};

/// The configuration of a network, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words; none if x is given as numbers.
    pub words: Option<usize>,
    /// D: width of x.
    pub embed: usize,
    /// H: units in each of the two layers.
    pub hidden: usize,
    /// K: labels.
    pub labels: usize,
    /// Whether x is frozen, as given numbers always are.
    pub freeze: bool,
    /// p: the dropout probability of h₁ + h₂ whose quadratic penalty is added to the loss in training.
    pub dropout_penalty: f64,
}
