//! The configuration of a tagger.

use serde::{Deserialize, Serialize};

/// The training objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Each token's label by itself (softmax).
    Window,
    /// The labels of a sentence together: scores of tags that follow each other, decoded by Viterbi.
    Sentence,
}

/// A table whose rows stand for words, or for one of their features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The tensor's name, such as `embedding`.
    pub name: String,
    /// Number of rows.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
}

/// The configuration of a tagger, saved with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The words' table, then those of their features.
    pub tables: Vec<Table>,
    /// Number of places in a window, odd.
    pub window: usize,
    /// H: hidden units.
    pub hidden: usize,
    /// K: labels.
    pub labels: usize,
    /// The training objective.
    pub objective: Objective,
}
