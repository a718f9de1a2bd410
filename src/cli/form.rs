//! Options for the columns of CoNLL files, the same for every command that reads one.

use super::values::size;
use crate::tasks::measure::FormChoice;
use serde::Serialize;

/// Where words and tags are in a CoNLL file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FormOptions {
    /// For taggers: column of the words, counted from 1 [default: the first, or for a trained model that of its
    /// training text]
    #[arg(long, value_name = "N", value_parser = column)]
    word_column: Option<usize>,
    /// For taggers: split sentences of more than N tokens, after full stops if there are any [default: 2000, or as in
    /// training]
    #[arg(long, value_name = "N", value_parser = size)]
    max_sentence: Option<usize>,
}

impl FormOptions {
    /// The choices made; `tags` is the column of the tags.
    pub fn choice(&self, tags: Option<usize>) -> FormChoice {
        FormChoice { words: self.word_column, tags, longest: self.max_sentence }
    }
}

/// A column.
pub fn column(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        _ => Err("expected a column number, from 1".into()),
    }
}
