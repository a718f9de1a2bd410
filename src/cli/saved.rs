//! What a checkpoint holds beside its tensors.

use super::ner;
use crate::error::{Error, Result};
use crate::models::language_model;
use crate::train::checkpoint::{Checkpoint, ModelDir, Purpose};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of a checkpoint that says what the model is.
pub const CONFIG: &str = "config.json";
/// The file of a checkpoint that lists its words.
pub const VOCABULARY: &str = "vocab.txt";
/// The file of a checkpoint that holds the options it was trained with, for `--config`.
pub const OPTIONS: &str = "options.toml";

/// `config.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Saved {
    /// A recurrent language model.
    LanguageModel(language_model::Config),
    /// A tagger.
    Ner(ner::Config),
}

impl Saved {
    /// What a checkpoint says that it is.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let path = checkpoint.path().join(CONFIG);
        serde_json::from_slice(&checkpoint.read(CONFIG)?)
            .map_err(|error| Error::model(&path, format!("is not a model's configuration: {error}")))
    }

    /// As the bytes of [`CONFIG`].
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a plain struct is JSON")
    }

    /// The error of a verb that is for models of another kind.
    pub fn wrong_kind(&self, dir: &Path) -> Error {
        Error::model(
            dir,
            match self {
                Saved::LanguageModel(_) => "is a language model; this is for taggers (wordmill train ner)",
                Saved::Ner(_) => "is a tagger; this is for language models (wordmill train lm)",
            },
        )
    }
}

/// Opens the best checkpoint of a model directory; warnings go to standard error.
pub fn open(dir: &Path) -> Result<Checkpoint> {
    let checkpoint = ModelDir::open(dir)?.load_best(Purpose::Use)?;
    for warning in &checkpoint.warnings {
        eprintln!("wordmill: warning: {warning}");
    }
    Ok(checkpoint)
}
