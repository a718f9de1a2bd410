//! Recurrent cells. A cell computes one step of one batch and knows nothing about time.
//!
//! This file is their registry: a new cell needs a file here, lines below, a kernel, and its equations as a graph in
//! [`crate::models::graphs`]. Everything else finds it through [`Kind`], [`Cell`] and [`Columns`].

mod gru;
mod lstm;
mod simple;
mod step;

pub use gru::Gru;
pub use lstm::Lstm;
pub use simple::Simple;
pub use step::{Block, Columns, Step, Torch};

use crate::kernels::activation::Activation;
use crate::real::Real;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The recurrent cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A non-linearity of input and state: --activation (Elman 1990)
    Rnn,
    /// Gated recurrent units (Cho et al. 2014)
    Gru,
    /// Long short-term memory, with forget gates (Hochreiter and Schmidhuber 1997)
    Lstm,
    /// Every layer feeds all layers of the next step, through gates (Chung et al. 2015)
    GatedFeedback,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Rnn, Kind::Gru, Kind::Lstm, Kind::GatedFeedback];
}

/// The units of a gated-feedback network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// tanh
    Tanh,
    /// Gated recurrent units
    Gru,
}

/// A recurrent cell with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A non-linearity of input and state (Elman 1990).
    Rnn(Activation),
    /// Gated recurrent units (Cho et al. 2014).
    Gru,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997).
    Lstm,
    /// Every layer feeds all layers of the next step, through gates (Chung et al. 2015).
    GatedFeedback(Unit),
}

impl Cell {
    /// The cell of a kind, with the option that applies to it.
    pub fn new(kind: Kind, activation: Activation, unit: Unit) -> Cell {
        match kind {
            Kind::Rnn => Cell::Rnn(activation),
            Kind::Gru => Cell::Gru,
            Kind::Lstm => Cell::Lstm,
            Kind::GatedFeedback => Cell::GatedFeedback(unit),
        }
    }

    /// Every cell with each of its options.
    pub fn all() -> impl Iterator<Item = Cell> {
        let of = |kind| match kind {
            Kind::Rnn => [Activation::Tanh, Activation::Sigmoid, Activation::Relu].map(Cell::Rnn).to_vec(),
            Kind::Gru => vec![Cell::Gru],
            Kind::Lstm => vec![Cell::Lstm],
            Kind::GatedFeedback => [Unit::Gru, Unit::Tanh].map(Cell::GatedFeedback).to_vec(),
        };
        Kind::ALL.into_iter().flat_map(of)
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            Cell::Rnn(_) => Kind::Rnn,
            Cell::Gru => Kind::Gru,
            Cell::Lstm => Kind::Lstm,
            Cell::GatedFeedback(_) => Kind::GatedFeedback,
        }
    }

    /// The cell of stacked layers; none for gated feedback.
    pub fn stacked(self) -> Option<Stacked> {
        match self {
            Cell::Rnn(activation) => Some(Stacked::Simple(Simple(activation))),
            Cell::Gru => Some(Stacked::Gru(Gru)),
            Cell::Lstm => Some(Stacked::Lstm(Lstm)),
            Cell::GatedFeedback(_) => None,
        }
    }

    /// The non-linearity of [`Cell::Rnn`]; tanh for the others, which have their own.
    pub fn activation(self) -> Activation {
        match self {
            Cell::Rnn(activation) => activation,
            _ => Activation::Tanh,
        }
    }

    /// The units of [`Cell::GatedFeedback`]; gated units for the others.
    pub fn unit(self) -> Unit {
        match self {
            Cell::GatedFeedback(unit) => unit,
            _ => Unit::Gru,
        }
    }
}

/// The name used in options and files.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Rnn => "rnn",
            Kind::Gru => "gru",
            Kind::Lstm => "lstm",
            Kind::GatedFeedback => "gated-feedback",
        })
    }
}

/// With tanh for [`Kind::Rnn`], and gated units for [`Kind::GatedFeedback`].
impl From<Kind> for Cell {
    fn from(kind: Kind) -> Cell {
        Cell::new(kind, Activation::Tanh, Unit::Gru)
    }
}

/// The cells that can be stacked.
#[derive(Clone, Copy, Debug)]
pub enum Stacked {
    /// See [`Simple`].
    Simple(Simple),
    /// See [`Gru`].
    Gru(Gru),
    /// See [`Lstm`].
    Lstm(Lstm),
}

impl Stacked {
    /// Its step.
    pub fn step<R: Real>(&self) -> &dyn Step<R> {
        match self {
            Stacked::Simple(cell) => cell,
            Stacked::Gru(cell) => cell,
            Stacked::Lstm(cell) => cell,
        }
    }

    /// The columns of its pre-activations.
    pub fn columns(&self) -> &'static Columns {
        match self {
            Stacked::Simple(_) => &simple::COLUMNS,
            Stacked::Gru(_) => &gru::COLUMNS,
            Stacked::Lstm(_) => &lstm::COLUMNS,
        }
    }
}
