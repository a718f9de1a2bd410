//! `wordmill eval`

use super::form::{FormOptions, column};
use super::inputs::{InputOptions, json};
use crate::error::{Error, Result, reject};
use crate::pool::pool;
use crate::sys::files;
use crate::tasks::measure::{FormChoice, Measuring};
use crate::tasks::saved::{self, Saved};
use crate::tasks::{any, options};
use std::io::Write;
use std::path::PathBuf;

/// Evaluate a model: the perplexity of a language model with the full softmax, the F1 of a tagger, how well a Siamese
/// network ranks pairs
///
/// A Siamese network is evaluated on word TAB word TAB label: how well distances separate similar from dissimilar pairs
/// (ROC AUC, accuracy at the best threshold), or Spearman's correlation for graded labels; a pseudo-Siamese network on
/// word TAB label: accuracy.
///
/// A softmax classifier is evaluated on a CSV file with the columns it was trained on: accuracy and cross-entropy; so
/// is a pseudo-Siamese network that was trained on a CSV file.
///
/// A tagger is evaluated on a CoNLL file: entities read as conlleval does and strictly, tags other than O, accuracy,
/// and the confusion matrix of the tags.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill eval model test.txt
  wordmill eval model test.txt --json | jq .perplexity
  wordmill eval model test.txt --lines                      words, log-probability, perplexity and unknown words of each line
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
    /// Plot the confusion matrix of a tagger or classifier (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// For a tagger: column of the tags, from 1 [default: as in training]
    #[arg(long, value_name = "N", value_parser = column)]
    column: Option<usize>,
    #[command(flatten)]
    form: FormOptions,
    /// No effect, kept for compatibility with older commands
    #[arg(long, hide = true)]
    repair: bool,
    /// For pairs of words and for words with labels: column numbers of the words and of their label, such as 1,2,4
    /// [default: the first suitable columns]
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', value_parser = super::values::size)]
    columns: Vec<usize>,
    /// For a language model: evaluate on about this many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    eval_tokens: Option<u64>,
    /// For a language model: report every line too: its words (with its end), their log-probability (natural logarithm), perplexity and
    /// unknown words; with --json as by_line
    #[arg(long)]
    lines: bool,
    /// For a language model: remove sentence markers of other tools, such as <s> and </s>; a model trained with this
    /// option does it automatically
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
            by_line: self.lines,
        };
        let (found, inputs) = pool(self.threads)?.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&options::read(&mut checkpoint)?);
            let saved = Saved::read(&mut checkpoint)?;
            self.check(&saved, &how)?;
            let found = any::read(&saved, &mut checkpoint)?.evaluate(&self.text, &how, &inputs)?;
            Ok::<_, Error>((found, inputs))
        })?;
        if let (Some(path), Some(confusion)) = (&self.svg, &found.confusion) {
            let title = format!("{} on {}", self.model.display(), self.text.display());
            files::write(path, confusion.svg(&title))?;
        }
        let text = if self.json { json(&found.json, &inputs) } else { found.text };
        writeln!(out, "{text}").map_err(Error::output)
    }

    /// Rejects options that are for other kinds of models.
    fn check(&self, saved: &Saved, how: &Measuring) -> Result<()> {
        let (is_text, is_tagger) = (matches!(saved, Saved::LanguageModel(_)), matches!(saved, Saved::Ner(_)));
        let of_form = self.repair || how.form != FormChoice::default();
        let other_rows = !how.columns.is_empty() && !saved.has_rows_of_words();
        let mistakes = [
            (!is_tagger && of_form, "--column, --word-column, --max-sentence and --repair are only for taggers"),
            (
                self.svg.is_some() && !saved.is_classifier(),
                "--svg plots the confusion matrix of taggers and classifiers only",
            ),
            (!is_text && how.strip_marks, "--strip-marks is only for language models"),
            (!is_text && how.by_line, "--lines is only for language models"),
            (!is_text && how.tokens.is_some(), "--eval-tokens is only for language models"),
            (other_rows, "--columns is only for pairs of words and words with labels"),
        ];
        reject(&mistakes)
            .map_err(|what| Error::Usage(format!("{what}; {} is a {}", self.model.display(), saved.kind())))
    }
}
