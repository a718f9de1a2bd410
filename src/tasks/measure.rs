//! Evaluation of models of any kind.

use crate::error::{Error, Result};
use crate::text::conll::{Column, Form};
use crate::text::spans::Confusion;
use serde::Serialize;

/// How a model is evaluated, where this differs from training.
#[derive(Clone, Debug, Default)]
pub struct Measuring {
    /// Taggers: the columns of words and tags.
    pub form: FormChoice,
    /// Models of words: columns of the words and of their label, from 1; if empty, the first suitable columns.
    pub columns: Vec<usize>,
    /// Language models: evaluate on about this many words.
    pub tokens: Option<usize>,
    /// Language models: remove sentence markers of other tools.
    pub strip_marks: bool,
    /// Language models: report every line too.
    pub by_line: bool,
}

/// The columns of words and tags in a CoNLL file; `None` if not chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormChoice {
    /// Column of the words, from 1.
    pub words: Option<usize>,
    /// Column of the tags, from 1.
    pub tags: Option<usize>,
    /// Maximum number of tokens of a sentence; longer ones are split.
    pub longest: Option<usize>,
}

impl FormChoice {
    /// `form` with these choices applied.
    pub fn form(&self, form: Form) -> Result<Form> {
        let form = Form {
            word: self.words.unwrap_or(form.word),
            tags: self.tags.map_or(form.tags, Column::Number),
            longest: self.longest.unwrap_or(form.longest),
        };
        if form.tags == Column::Number(form.word) {
            let (n, hint) = (form.word, "--word-column selects the column of the words, --column that of the tags");
            return Err(Error::Usage(format!("--column {n}: column {n} contains the words; {hint}")));
        }
        Ok(form)
    }
}

/// The result of an evaluation.
pub struct Measured {
    /// All results.
    pub json: serde_json::Value,
    /// As readable text.
    pub text: String,
    /// The confusion matrix of the labels, if there are labels.
    pub confusion: Option<Confusion>,
}

impl Measured {
    /// The result as JSON and as text.
    pub fn new(found: &impl Serialize, text: String, confusion: Option<Confusion>) -> Self {
        let json = serde_json::to_value(found).expect("a plain struct of numbers is JSON");
        Measured { json, text, confusion }
    }
}
