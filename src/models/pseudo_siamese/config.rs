//! What a pseudo-Siamese net is.

use serde::{Deserialize, Serialize};

/// What a net is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words; none where x is given as numbers.
    pub words: Option<usize>,
    /// D: width of x.
    pub embed: usize,
    /// H: units of each of the two layers.
    pub hidden: usize,
    /// K: labels.
    pub labels: usize,
    /// Whether x stays as it is, as given numbers do.
    pub freeze: bool,
    /// p: the dropout of h₁ + h₂ whose quadratic penalty is added to the loss in training.
    pub dropout_penalty: f64,
}
