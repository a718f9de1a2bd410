//! `wordmill tag`

use super::form::FormOptions;
use super::inputs::InputOptions;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::tagger::Tagger;
use crate::tasks::tagger::text::{Output, tag_text};
use crate::tasks::{Model, options, saved};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Tag a text with a trained tagger: CoNLL lines with an additional column, or plain text
///
/// CoNLL: one token per line, its word in the first column, an empty line after each sentence; every line is copied,
/// tokens with the predicted tag as an additional column. With --text: one sentence per line, words separated by white
/// space. Standard input is tagged and written as soon as it is complete: line by line with --text, otherwise sentence
/// by sentence, at the empty line after it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill tag tagger test.conll > tagged.conll
  echo 'John lives in New York .' | wordmill tag tagger --text
  wordmill tag tagger --text --output column article.txt")]
pub struct TagText {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// File to tag, - for standard input [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The input is plain text, one sentence per line
    #[arg(long)]
    text: bool,
    /// How tagged plain text is written
    #[arg(long, default_value = "inline", value_enum, requires = "text")]
    output: Output,
    #[command(flatten)]
    form: FormOptions,
    #[command(flatten)]
    inputs: InputOptions,
    /// Number of threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

impl TagText {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let pool = pool(self.threads)?;
        let (inputs, tagger) = pool.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&options::read(&mut checkpoint)?);
            Ok::<_, Error>((inputs, Tagger::read(&mut checkpoint)?))
        })?;
        let form = self.form.choice(None).form(tagger.config.form)?;
        let path = self.file.as_deref().unwrap_or(Path::new("-"));
        tag_text(&tagger, path, form, self.text.then_some(self.output), &pool, &inputs, out)
    }
}
