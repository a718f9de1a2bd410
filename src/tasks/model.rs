//! The operations on trained models of any kind.

use super::measure::{Measured, Measuring};
use super::neighbors::Points;
use super::saved;
use crate::error::Result;
use crate::params::Arena;
use crate::text::Inputs;
use crate::train::checkpoint::Checkpoint;
use std::path::Path;

/// A trained model.
pub trait Model: Send + Sync {
    /// Reads a checkpoint. Nothing large is allocated before the file is known to contain it.
    fn read(checkpoint: &mut Checkpoint) -> Result<Self>
    where
        Self: Sized;

    /// Loads the best checkpoint of a model directory; warnings go to standard error.
    fn load(dir: &Path) -> Result<Self>
    where
        Self: Sized,
    {
        Self::read(&mut saved::open(dir)?)
    }

    /// Its weights.
    fn weights(&self) -> &Arena<f32>;

    /// Its words and their vectors, if it has any.
    fn vectors(&self) -> Option<Points<'_>>;

    /// The same, as points for nearest-neighbour search.
    fn places(&self) -> Option<Points<'_>> {
        self.vectors()
    }

    /// Evaluates the model on a file.
    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured>;
}
