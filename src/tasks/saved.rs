//! The contents of a checkpoint besides its tensors.

use super::columns::Columns;
use crate::error::{Error, Result};
use crate::models::language_model;
use crate::notices::say;
use crate::params::{Arena, Layout};
use crate::text::conll::Form;
use crate::text::pairs::Grades;
use crate::text::tags::Labels;
use crate::train::checkpoint::{Checkpoint, MODEL, ModelDir, Purpose};
use crate::train::fit::read_weights;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The file of a checkpoint that contains the model's configuration.
pub const CONFIG: &str = "config.json";
/// The file of a checkpoint that lists its words.
pub const VOCABULARY: &str = "vocab.txt";

/// The contents of `config.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Saved {
    /// A recurrent language model.
    LanguageModel(language_model::Config),
    /// A tagger.
    Ner(NerConfig),
    /// A Siamese network.
    Siamese(SiameseConfig),
    /// A pseudo-Siamese network.
    PseudoSiamese(PseudoSiameseConfig),
    /// A softmax classifier.
    Softmax(SoftmaxConfig),
}

/// The configuration of a tagger, saved with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NerConfig {
    /// The network.
    pub net: crate::models::ner::Config,
    /// The labels to choose from.
    pub labels: Labels,
    /// Whether the case of words is ignored.
    pub lowercase: bool,
    /// Whether capitalisation is a feature.
    pub caps: bool,
    /// Whether suffixes are features.
    pub suffix: bool,
    /// The form of the training text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub form: Form,
}

fn is_default(form: &Form) -> bool {
    *form == Form::default()
}

/// The configuration of a Siamese network, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiameseConfig {
    /// The network.
    pub net: crate::models::siamese::Config,
    /// The meaning of the labels of its training pairs.
    pub grades: Grades,
}

/// The configuration of a pseudo-Siamese network, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PseudoSiameseConfig {
    /// The network.
    pub net: crate::models::pseudo_siamese::Config,
    /// The labels to choose from, sorted.
    pub labels: Vec<String>,
    /// The columns of its CSV file, if its inputs are not words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
}

/// The configuration of a softmax classifier, saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxConfig {
    /// The model.
    pub net: crate::models::softmax_regression::Config,
    /// The columns of its CSV file.
    pub columns: Columns,
    /// The classes, sorted.
    pub classes: Vec<String>,
}

impl Saved {
    /// Reads the configuration of a checkpoint.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let path = checkpoint.path().join(CONFIG);
        serde_json::from_slice(&checkpoint.read(CONFIG)?)
            .map_err(|error| Error::model(&path, format!("is not a model's configuration: {error}")))
    }

    /// The contents of [`CONFIG`].
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a plain struct is JSON")
    }

    /// The error of a command for other kinds of models, such as `taggers (wordmill train ner)`.
    pub fn wrong_kind(&self, dir: &Path, wanted: &str) -> Error {
        Error::model(dir, format!("is a {}; this command is for {wanted}", self.kind()))
    }

    /// The error of a command for models of words.
    pub fn has_no_words(&self, dir: &Path) -> Error {
        Error::model(dir, format!("is a {}: it has no words", self.kind()))
    }

    /// Whether it is a classifier or tagger.
    pub fn is_classifier(&self) -> bool {
        match self {
            Saved::Ner(_) | Saved::Softmax(_) => true,
            Saved::PseudoSiamese(config) => config.columns.is_some(),
            Saved::LanguageModel(_) | Saved::Siamese(_) => false,
        }
    }

    /// Whether it is evaluated on labelled words, or on pairs of words.
    pub fn has_rows_of_words(&self) -> bool {
        matches!(self, Saved::Siamese(_)) || matches!(self, Saved::PseudoSiamese(config) if config.columns.is_none())
    }

    /// The subcommand of `train` for such a model.
    pub fn verb(&self) -> &'static str {
        match self {
            Saved::LanguageModel(_) => "lm",
            Saved::Ner(_) => "ner",
            Saved::Siamese(_) => "siamese",
            Saved::PseudoSiamese(_) => "pseudo-siamese",
            Saved::Softmax(_) => "softmax",
        }
    }

    /// The name of this kind of model.
    pub fn kind(&self) -> &'static str {
        match self {
            Saved::LanguageModel(_) => "language model",
            Saved::Ner(_) => "tagger",
            Saved::Siamese(_) => "Siamese net",
            Saved::PseudoSiamese(_) => "pseudo-Siamese net",
            Saved::Softmax(_) => "softmax classifier",
        }
    }
}

/// Opens the best checkpoint of a model directory; warnings go to standard error.
pub fn open(dir: &Path) -> Result<Checkpoint> {
    let checkpoint = ModelDir::open(dir)?.load_best(Purpose::Use)?;
    for warning in &checkpoint.warnings {
        say(&format!("warning: {warning}"));
    }
    Ok(checkpoint)
}

/// Returns an error unless `fits`: whether the sizes in a checkpoint's configuration are consistent.
pub fn check_fit(checkpoint: &Checkpoint, fits: bool) -> Result<()> {
    let wrong = || Error::model(checkpoint.path().join(CONFIG), "has inconsistent sizes");
    fits.then_some(()).ok_or_else(wrong)
}

/// Reads the weights of a checkpoint, in `layout`. Nothing is allocated before its file is known to contain as many.
pub fn read_arena(checkpoint: &mut Checkpoint, layout: &Arc<Layout>) -> Result<Arena<f32>> {
    let shapes = checkpoint.shapes(MODEL)?;
    let held: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if held != layout.parameters() {
        let what = format!("needs {} parameters, its tensors contain {held}", layout.parameters());
        return Err(Error::model(checkpoint.path().join(CONFIG), what));
    }
    let mut w = Arena::zeros(layout);
    read_weights(checkpoint, &mut w)?;
    Ok(w)
}
