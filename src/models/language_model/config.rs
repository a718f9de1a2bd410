//! The configuration of a language model, and its form in files.

use crate::blas::Precision;
use crate::kernels::activation::Activation;
use crate::layers::cells::{Cell, Kind, Unit};
use crate::layers::output::{Loss, Tile};
use crate::layers::shards::Division;
use serde::{Deserialize, Serialize};

/// The configuration of a language model, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Config {
    /// V: words in the vocabulary.
    pub words: usize,
    /// D: width of a word vector.
    pub embed: usize,
    /// H: units per layer.
    pub hidden: usize,
    /// Number of recurrent layers.
    pub layers: usize,
    /// The cell.
    pub cell: Cell,
    /// Whether word vectors and output weights are one table; then D is H.
    pub tie: bool,
    /// If set, the state is reset to zero whenever this word is read: sentences are independent of each other.
    pub reset_at: Option<u32>,
    /// Whether all steps of a window have the same dropout mask.
    pub variational: bool,
    /// The training loss.
    pub loss: Loss,
    /// The factor of values that dropout applies to when nothing is dropped: 1, or the kept share for a model trained
    /// with [`crate::kernels::dropout::Keep::unscaled`].
    pub at_test: f64,
    /// Sizes of the parts of a step, where they are not the default.
    pub sizes: Sizes,
    /// The precision of the operands of products in training; evaluation is always in f32.
    pub precision: Precision,
}

/// A [`Config`] in a file: the cell is in three fields; those that do not apply to it have their default.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Config", deny_unknown_fields)]
struct Written {
    words: usize,
    embed: usize,
    hidden: usize,
    layers: usize,
    cell: Kind,
    activation: Activation,
    unit: Unit,
    tie: bool,
    reset_at: Option<u32>,
    variational: bool,
    loss: Loss,
    at_test: f64,
    #[serde(default, skip_serializing_if = "Sizes::are_default")]
    sizes: Sizes,
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    precision: Precision,
}

impl From<Written> for Config {
    fn from(written: Written) -> Config {
        let Written { words, embed, hidden, layers, cell, activation, unit, .. } = written;
        let Written { tie, reset_at, variational, loss, at_test, sizes, precision, .. } = written;
        let cell = Cell::new(cell, activation, unit);
        Config { words, embed, hidden, layers, cell, tie, reset_at, variational, loss, at_test, sizes, precision }
    }
}

impl From<Config> for Written {
    fn from(config: Config) -> Written {
        let Config { words, embed, hidden, layers, cell, tie, reset_at, variational, loss, at_test, sizes, precision } =
            config;
        let (cell, activation, unit) = (cell.kind(), cell.activation(), cell.unit());
        Written {
            words,
            embed,
            hidden,
            layers,
            cell,
            activation,
            unit,
            tie,
            reset_at,
            variational,
            loss,
            at_test,
            sizes,
            precision,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            words: 1,
            embed: 50,
            hidden: 100,
            layers: 1,
            cell: Cell::Rnn(Activation::Tanh),
            tie: false,
            reset_at: None,
            variational: false,
            loss: Loss::Full,
            at_test: 1.0,
            sizes: Sizes::default(),
            precision: Precision::F32,
        }
    }
}

/// Sizes of the parts that a step is divided into; none: the default. They affect the speed of a step and the order of its sums, and
/// so the last bits of results; the lanes of a shard also what dropout draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Lanes per shard, which the recurrent part processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
    /// Maximum number of tokens in a chunk of the output layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// Maximum number of words in a block of the output layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
}

impl Sizes {
    /// Whether all are the default.
    pub fn are_default(&self) -> bool {
        *self == Sizes::default()
    }

    /// How a batch of `lanes` is divided.
    pub(super) fn division(&self, lanes: usize) -> Division {
        Division { all: lanes, each: self.shard.map_or(shard_lanes(lanes), |shard| shard.clamp(1, lanes)) }
    }

    /// The tile of the output layer.
    pub(super) fn tile(&self) -> Tile {
        let Tile { tokens, words } = Tile::default();
        Tile { tokens: self.chunk.unwrap_or(tokens), words: self.block.unwrap_or(words) }
    }
}

/// Default lanes per shard in a batch of `lanes`: a quarter of them, so that four threads have one shard each, but at least 16, below
/// which products are slow, and at most 32, so that more threads have work too.
pub fn shard_lanes(lanes: usize) -> usize {
    lanes.div_ceil(4).clamp(16, 32).min(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files describe every cell as they did when a configuration had one field per option.
    #[test]
    fn a_cell_is_written_in_three_fields() {
        let all = [
            (Cell::Rnn(Activation::Relu), "rnn", "relu", "gru"),
            (Cell::Gru, "gru", "tanh", "gru"),
            (Cell::GatedFeedback(Unit::Tanh), "gated-feedback", "tanh", "tanh"),
        ];
        for (cell, kind, activation, unit) in all {
            let config = Config { cell, ..Config::default() };
            let text = serde_json::to_string(&config).unwrap();
            let fields =
                format!(r#""layers":1,"cell":"{kind}","activation":"{activation}","unit":"{unit}","tie":false"#);
            assert!(text.contains(&fields), "{text}");
            assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
            assert!(serde_json::from_str::<Config>(&text.replace("tie", "tied")).is_err());
        }
    }
}
