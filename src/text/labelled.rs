//! Words and their labels: word TAB label, one per line (see [`super::rows`]).

use super::{Inputs, rows, rows::Shape};
use crate::Result;
use std::path::{Path, PathBuf};

/// One word with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its line in the file.
    pub line: usize,
    /// The word.
    pub word: String,
    /// The label.
    pub label: String,
}

/// A file of words with labels.
#[derive(Clone, Debug)]
pub struct LabelledWords {
    /// The file.
    pub path: PathBuf,
    /// The words, at least one.
    pub words: Vec<Labelled>,
}

impl LabelledWords {
    /// Reads a file; `columns` are the numbers of the columns of the word and the label; if empty, these are detected.
    ///
    /// # Errors
    /// Those of [`rows::read`].
    pub fn read(path: impl AsRef<Path>, columns: &[usize], inputs: &Inputs) -> Result<LabelledWords> {
        let path = path.as_ref();
        let mut words = Vec::new();
        let shape = Shape { expected: "word TAB label", numeric: false };
        rows::read(path, shape, columns, inputs, |line, [word, label]| {
            words.push(Labelled { line, word: word.to_owned(), label: label.to_owned() });
            Ok(())
        })?;
        Ok(LabelledWords { path: path.to_owned(), words })
    }

    /// The distinct labels, sorted.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = self.words.iter().map(|word| word.label.clone()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}
