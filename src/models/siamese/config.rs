//! The configuration of a Siamese network.

use serde::{Deserialize, Serialize};

/// The training loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Loss {
    /// Similar words are pulled together, others pushed apart up to the margin.
    Contrastive {
        /// m: the distance that dissimilar words should have.
        margin: f64,
    },
    /// All pairs are pulled together: the loss of the source, which a constant h makes zero.
    Source,
}

/// The configuration of a network, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words.
    pub words: usize,
    /// D: width of a word's vector.
    pub embed: usize,
    /// H: hidden units.
    pub hidden: usize,
    /// The training loss.
    pub loss: Loss,
    /// Whether word vectors are frozen.
    pub freeze: bool,
}
