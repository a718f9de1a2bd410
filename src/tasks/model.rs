//! What can be done with a trained model of whatever kind.

use super::neighbors::Points;
use super::saved;
use crate::error::{Error, Result};
use crate::params::Arena;
use crate::text::Inputs;
use crate::text::conll::{Column, Form};
use crate::text::spans::Confusion;
use crate::train::checkpoint::Checkpoint;
use serde::Serialize;
use std::path::Path;

/// A trained model.
pub trait Model: Send + Sync {
    /// Reads a checkpoint. Nothing large is allocated before the file is known to hold it.
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

    /// The same as places among which neighbours are sought.
    fn places(&self) -> Option<Points<'_>> {
        self.vectors()
    }

    /// How well it does on a file.
    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured>;
}

/// How a model is measured, where that is not as it was trained.
#[derive(Clone, Debug, Default)]
pub struct Measuring {
    /// Of taggers: where words and tags are.
    pub form: FormChoice,
    /// Of nets on words: columns of the words and of their label, from 1; where there are none, the first that hold such.
    pub columns: Vec<usize>,
    /// Of language models: measure on about so many words.
    pub tokens: Option<usize>,
    /// Of language models: leave out other tools' marks around lines.
    pub strip_marks: bool,
}

/// Where words and tags are in a CoNLL file, as far as that is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormChoice {
    /// Column of the words, from 1.
    pub words: Option<usize>,
    /// Column of the tags, from 1.
    pub tags: Option<usize>,
    /// Tokens of the longest sentence that is not cut.
    pub longest: Option<usize>,
}

impl FormChoice {
    /// What is chosen, and the rest of `form`.
    pub fn form(&self, form: Form) -> Result<Form> {
        let form = Form {
            word: self.words.unwrap_or(form.word),
            tags: self.tags.map_or(form.tags, Column::Number),
            longest: self.longest.unwrap_or(form.longest),
        };
        if form.tags == Column::Number(form.word) {
            let (n, hint) = (form.word, "--word-column says where the words are, --column where the tags");
            return Err(Error::Usage(format!("--column {n}: column {n} holds the words; {hint}")));
        }
        Ok(form)
    }
}

/// How well a model does.
pub struct Measured {
    /// All figures.
    pub json: serde_json::Value,
    /// As readable text.
    pub text: String,
    /// Which label was taken for which, where there are labels.
    pub confusion: Option<Confusion>,
}

impl Measured {
    /// What was found, and that as text.
    pub fn new(found: &impl Serialize, text: String, confusion: Option<Confusion>) -> Self {
        let json = serde_json::to_value(found).expect("a plain struct of numbers is JSON");
        Measured { json, text, confusion }
    }
}
