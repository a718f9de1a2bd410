//! The word vectors of any model.

use super::language_model;
use super::ner::Tagger;
use super::saved::{self, Saved};
use super::{pseudo_siamese, siamese};
use crate::error::Result;
use std::path::Path;

/// The words of a model and their vectors: \[words, width\].
pub fn words_and_vectors(dir: &Path) -> Result<(Vec<String>, Vec<f32>)> {
    let mut checkpoint = saved::open(dir)?;
    Ok(match Saved::read(&mut checkpoint)? {
        Saved::LanguageModel(_) => {
            let trained = language_model::Trained::read(&mut checkpoint)?;
            let words = trained.vocabulary.words().map(str::to_owned).collect();
            (words, trained.w.slice(trained.model.words()).to_vec())
        }
        Saved::Ner(_) => {
            let tagger = Tagger::read(&mut checkpoint)?;
            (tagger.encoder.words.words().to_vec(), tagger.w.slice(tagger.net.words()).to_vec())
        }
        saved @ Saved::Softmax(_) => return Err(saved.has_no_words(dir)),
        Saved::Siamese(_) => {
            let trained = siamese::Trained::read(&mut checkpoint)?;
            (trained.words.words().to_vec(), trained.w.slice(trained.net.words()).to_vec())
        }
        saved @ Saved::PseudoSiamese(_) => {
            let trained = pseudo_siamese::Trained::read(&mut checkpoint)?;
            let (words, table) = trained.vectors().ok_or_else(|| saved.has_no_words(dir))?;
            (words.words().to_vec(), table.to_vec())
        }
    })
}
