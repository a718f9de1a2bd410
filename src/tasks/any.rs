//! Models of any kind.

use super::model::Model;
use super::saved::{self, Saved};
use super::{language_model, pseudo_siamese, siamese, softmax, tagger};
use crate::error::Result;
use crate::train::checkpoint::Checkpoint;
use std::path::Path;

/// The configuration and the model of a model directory; warnings go to standard error.
pub fn load(dir: &Path) -> Result<(Saved, Box<dyn Model>)> {
    let mut checkpoint = saved::open(dir)?;
    let saved = Saved::read(&mut checkpoint)?;
    let model = read(&saved, &mut checkpoint)?;
    Ok((saved, model))
}

/// The model of a checkpoint with this configuration.
pub fn read(saved: &Saved, checkpoint: &mut Checkpoint) -> Result<Box<dyn Model>> {
    Ok(match saved {
        Saved::LanguageModel(_) => Box::new(language_model::TrainedLm::read(checkpoint)?),
        Saved::Ner(_) => Box::new(tagger::Tagger::read(checkpoint)?),
        Saved::Siamese(_) => Box::new(siamese::TrainedSiamese::read(checkpoint)?),
        Saved::PseudoSiamese(_) => Box::new(pseudo_siamese::TrainedPseudoSiamese::read(checkpoint)?),
        Saved::Softmax(_) => Box::new(softmax::TrainedSoftmax::read(checkpoint)?),
    })
}
