//! What a Siamese net is.

use serde::{Deserialize, Serialize};

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Loss {
    /// Pairs that are alike come near, the others go away from each other up to the margin.
    Contrastive {
        /// m: the distance that pairs which are not alike are to have.
        margin: f64,
    },
    /// All pairs come near: the loss of the source, which a constant h makes zero.
    Source,
}

/// What a net is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words.
    pub words: usize,
    /// D: width of a word's vector.
    pub embed: usize,
    /// H: hidden units.
    pub hidden: usize,
    /// What is made small.
    pub loss: Loss,
    /// Whether the words' vectors stay as they are.
    pub freeze: bool,
}
