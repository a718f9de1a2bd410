//! `wordmill eval`

use super::form::{FormOptions, column};
use super::inputs::{InputOptions, json};
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::any;
use crate::tasks::model::{FormChoice, Measuring};
use crate::tasks::saved::{self, Saved};
use std::io::Write;
use std::path::PathBuf;

/// Measure a model on a text: a language model's perplexity with the full softmax, a tagger's F1, how a Siamese net
/// ranks pairs
///
/// A Siamese net is measured on word TAB word TAB label: how well distances tell the pairs that are alike (ROC AUC,
/// accuracy at the best threshold), or Spearman's correlation where labels have grades; a pseudo-Siamese net on word
/// TAB label: accuracy.
///
/// A softmax classifier is measured on a CSV file with the columns that it was trained on: accuracy and cross-entropy;
/// so is a pseudo-Siamese net that was trained on one.
///
/// A tagger is measured on a CoNLL file: entities read as conlleval does and strictly, tags other than O, accuracy, and
/// which tag was taken for which.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill eval model test.txt
  wordmill eval model test.txt --json | jq .perplexity
  wordmill eval tagger test.conll --svg confusion.svg
  wordmill eval twins pairs.tsv
  wordmill eval iris iris.csv")]
pub struct Eval {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one sentence per line; for a tagger, one token per line; for a Siamese net, pairs; for a pseudo-Siamese
    /// net, words with labels or CSV; for a classifier, CSV
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the confusion matrix of a tagger or classifier (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// For a tagger: column of the tags, from 1 [default: as in training]
    #[arg(long, value_name = "N", value_parser = column)]
    column: Option<usize>,
    #[command(flatten)]
    form: FormOptions,
    /// What is always done now, for commands from before
    #[arg(long, hide = true)]
    repair: bool,
    /// For pairs of words, and words with labels: numbers of the columns of the words and of their label, as 1,2,4
    /// [default: the first that hold such]
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', value_parser = super::values::size)]
    columns: Vec<usize>,
    /// For a language model: measure on so many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    eval_tokens: Option<u64>,
    /// For a language model: leave out other tools' marks around lines, as <s> and </s>; a model that was trained so
    /// does it by itself
    #[arg(long)]
    strip_marks: bool,
    #[command(flatten)]
    inputs: InputOptions,
    /// Number of threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

impl Eval {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let how = Measuring {
            form: self.form.choice(self.column),
            columns: self.columns.clone(),
            tokens: self.eval_tokens.map(|tokens| tokens as usize),
            strip_marks: self.strip_marks,
        };
        let (found, inputs) = pool(self.threads)?.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&saved::options(&mut checkpoint)?);
            let saved = Saved::read(&mut checkpoint)?;
            self.check(&saved, &how)?;
            let found = any::read(&saved, &mut checkpoint)?.evaluate(&self.text, &how, &inputs)?;
            Ok::<_, Error>((found, inputs))
        })?;
        if let (Some(path), Some(confusion)) = (&self.svg, &found.confusion) {
            let title = format!("{} on {}", self.model.display(), self.text.display());
            std::fs::write(path, confusion.svg(&title)).map_err(|e| Error::io(path, "writing", e))?;
        }
        let text = if self.json { json(&found.json, &inputs) } else { found.text };
        writeln!(out, "{text}").map_err(Error::output)
    }

    /// Refuses options that are for models of other kinds.
    fn check(&self, saved: &Saved, how: &Measuring) -> Result<()> {
        let (dir, kind) = (self.model.display(), saved.kind());
        let is = |what: &str| Err(Error::Usage(format!("{what}; {dir} is a {kind}")));
        let of_form = self.repair || how.form != FormChoice::default();
        let for_text = if self.strip_marks { "--strip-marks" } else { "--eval-tokens" };
        if !matches!(saved, Saved::Ner(_)) && of_form {
            return is("--column, --word-column, --max-sentence and --repair are for taggers");
        }
        if self.svg.is_some() && !saved.is_classifier() {
            return is("--svg draws the labels of taggers and classifiers");
        }
        if !matches!(saved, Saved::LanguageModel(_)) && (how.tokens.is_some() || how.strip_marks) {
            return is(&format!("{for_text} is for language models"));
        }
        if !how.columns.is_empty() && !saved.has_rows_of_words() {
            return is("--columns is for pairs of words and words with labels");
        }
        Ok(())
    }
}
