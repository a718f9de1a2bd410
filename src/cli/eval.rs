//! `wordmill eval`

use super::inputs::{InputOptions, json};
use super::language_model::{Evaluated, Evaluator, Trained};
use super::ner::{FormOptions, Tagger, column, read_tagged, warn_of_unseen};
use super::pseudo_siamese::Sees;
use super::saved::{self, Saved};
use super::siamese::{self, Encoded};
use super::{columns, memory, output_failed, pseudo_siamese, softmax};
use crate::error::{Error, Result, counted};
use crate::pool::pool;
use crate::text::labelled::LabelledWords;
use crate::text::pairs::Pairs;
use crate::text::spans::Confusion;
use crate::text::{Corpus, Inputs, Subset};
use crate::train::checkpoint::Checkpoint;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Measure a model on a text: a language model's perplexity with the full softmax, a tagger's F1, how a Siamese net ranks pairs
///
/// A Siamese net is measured on word TAB word TAB label: how well distances tell the pairs that are alike (ROC AUC, accuracy at the
/// best threshold), or Spearman's correlation where labels have grades; a pseudo-Siamese net on word TAB label: accuracy.
///
/// A softmax classifier is measured on a CSV file with the columns that it was trained on: accuracy and cross-entropy; so is a
/// pseudo-Siamese net that was trained on one.
///
/// A tagger is measured on a CoNLL file: entities read as conlleval does and strictly, tags other than O, accuracy, and which tag
/// was taken for which.
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
    /// For pairs of words, and words with labels: numbers of the columns of the words and of their label, as 1,2,4 [default: the first
    /// that hold such]
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', value_parser = super::values::size)]
    columns: Vec<usize>,
    /// For a language model: measure on so many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    eval_tokens: Option<u64>,
    /// For a language model: leave out other tools' marks around lines, as <s> and </s>; a model that was trained so does it by itself
    #[arg(long)]
    strip_marks: bool,
    #[command(flatten)]
    inputs: InputOptions,
    /// Worker threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

#[derive(Serialize)]
struct Evaluation {
    perplexity: f64,
    loss: f64,
    bits_per_word: f64,
    /// Of known words only, without the ends of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    perplexity_of_known_words: Option<f64>,
    /// Of a model of --loss nce: the mean of ln Z over the text, its standard deviation, and what it was trained to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    ln_z: Option<[f64; 3]>,
    tokens: usize,
    lines: u64,
    /// Lines of the whole text, where a subset of them was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_lines: Option<u64>,
    unknown: u64,
    unknown_rate: f64,
    words_per_second: f64,
}

impl Eval {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        pool(self.threads)?
            .install(|| {
                let mut checkpoint = saved::open(&self.model)?;
                let inputs = &self.inputs.like_training(&saved::options(&mut checkpoint)?);
                match Saved::read(&mut checkpoint)? {
                    saved
                        if !matches!(saved, Saved::Ner(_))
                            && (self.column.is_some() || self.repair || self.form.any()) =>
                    {
                        let (dir, kind) = (self.model.display(), saved.kind());
                        Err(Error::Usage(format!(
                            "--column, --word-column, --max-sentence and --repair are for taggers; {dir} is a {kind}"
                        )))
                    }
                    saved if self.svg.is_some() && !saved.is_classifier() => {
                        let (dir, kind) = (self.model.display(), saved.kind());
                        Err(Error::Usage(format!(
                            "--svg draws the labels of taggers and classifiers; {dir} is a {kind}"
                        )))
                    }
                    saved
                        if !matches!(saved, Saved::LanguageModel(_))
                            && (self.eval_tokens.is_some() || self.strip_marks) =>
                    {
                        let option = if self.strip_marks { "--strip-marks" } else { "--eval-tokens" };
                        Err(Error::Usage(format!(
                            "{option} is for language models; {} is a {}",
                            self.model.display(),
                            saved.kind()
                        )))
                    }
                    saved if !self.columns.is_empty() && !saved.has_rows_of_words() => Err(Error::Usage(format!(
                        "--columns is for pairs of words and words with labels; {} is a {}",
                        self.model.display(),
                        saved.kind()
                    ))),
                    Saved::Softmax(_) => self.softmax(&mut checkpoint, inputs),
                    Saved::Siamese(_) => self.siamese(&mut checkpoint, inputs),
                    Saved::PseudoSiamese(_) => self.pseudo_siamese(&mut checkpoint, inputs),
                    Saved::LanguageModel(_) => self.language_model(&mut checkpoint, inputs),
                    Saved::Ner(_) => self.tagger(&mut checkpoint, inputs),
                }
            })
            .and_then(|text| writeln!(out, "{text}").map_err(output_failed))
    }

    fn softmax(&self, checkpoint: &mut Checkpoint, inputs: &Inputs) -> Result<String> {
        let trained = softmax::Trained::read(checkpoint)?;
        self.classified(&trained.evaluate(&self.text, inputs)?, inputs)
    }

    /// What there is to say of a classifier.
    fn classified(&self, found: &columns::Evaluation, inputs: &Inputs) -> Result<String> {
        if let Some(path) = &self.svg {
            self.draw(path, &found.confusion())?;
        }
        Ok(if self.json { json(&found.report(), inputs) } else { found.text() })
    }

    fn draw(&self, path: &Path, confusion: &Confusion) -> Result<()> {
        let title = format!("{} on {}", self.model.display(), self.text.display());
        std::fs::write(path, confusion.svg(&title)).map_err(|e| Error::io(path, "writing", e))
    }

    fn pseudo_siamese(&self, checkpoint: &mut Checkpoint, inputs: &Inputs) -> Result<String> {
        let trained = pseudo_siamese::Trained::read(checkpoint)?;
        let pseudo_siamese::Trained { config, net, w, sees } = &trained;
        let found = match sees {
            Sees::Words(words) => {
                let file = LabelledWords::read(&self.text, &self.columns, inputs)?;
                pseudo_siamese::Encoded::words(&file, words, &config.labels, inputs)?.evaluate(net, &config.labels, w)
            }
            Sees::Columns(columns) => {
                let table = columns.read(&self.text, &config.labels, inputs)?;
                let classes = table.names.clone();
                let found = pseudo_siamese::Encoded::rows(table).evaluate_rows(net, &classes, w);
                return self.classified(&found, inputs);
            }
        };
        if self.json {
            return Ok(json(&found, inputs));
        }
        Ok(found.text())
    }

    fn siamese(&self, checkpoint: &mut Checkpoint, inputs: &Inputs) -> Result<String> {
        let siamese::Trained { config, net, w, words } = siamese::Trained::read(checkpoint)?;
        let pairs = Encoded::new(&Pairs::read(&self.text, &self.columns, inputs)?, &words, config.grades, inputs)?;
        let bytes = |threads| net.distances_bytes::<f32>(pairs.len(), threads);
        memory::check_threads("evaluation", bytes, inputs)?;
        let found = pairs.evaluate(&net, &w);
        if self.json {
            return Ok(json(&found, inputs));
        }
        Ok(found.text())
    }

    fn tagger(&self, checkpoint: &mut Checkpoint, inputs: &Inputs) -> Result<String> {
        let tagger = Tagger::read(checkpoint)?;
        let form = self.form.form(tagger.config.form, self.column)?;
        let labels = &tagger.config.labels;
        let mut kinds = labels.kinds.clone();
        let tagged = read_tagged(&self.text, form, Some(labels.scheme), &mut kinds, inputs)?;
        warn_of_unseen(labels, &tagged, &kinds, inputs)?;
        let report = tagger.evaluate(&tagged, &kinds, inputs)?;
        if let Some(path) = &self.svg {
            self.draw(path, &report.confusion)?;
        }
        if self.json {
            return Ok(json(&report, inputs));
        }
        let unknown = tagger.encoder.words.coverage(tagged.file.words());
        Ok(format!("{}words: {unknown}\n\n{}", report.table(), report.confusion.table().trim_end()))
    }

    fn language_model(&self, checkpoint: &mut Checkpoint, inputs: &Inputs) -> Result<String> {
        let result = {
            let trained = Trained::read(checkpoint)?;
            let vocabulary = &trained.vocabulary;
            let strips = self.strip_marks || vocabulary.strips_marks();
            let vocabulary = &vocabulary.clone().stripping_marks(strips);
            let mut corpus = Corpus::read_with(&self.text, vocabulary, inputs)?;
            corpus.warn_of_unknown(&self.text, inputs)?;
            let (unk, eos) = (vocabulary.unk(), vocabulary.eos());
            let mut of_lines = None;
            if let Some(tokens) = self.eval_tokens {
                let Subset { ids, lines, of_lines: all, .. } = Subset::choose(&corpus.ids, eos, tokens as usize);
                let unknown = ids.iter().filter(|&&id| id == unk).count() as u64;
                corpus = Corpus { ids, unknown, lines };
                of_lines = Some(all);
            }
            let bytes = Evaluator::bytes(&trained.model, corpus.ids.len());
            memory::check_threads("evaluation", |_| bytes, inputs)?;
            let start = std::time::Instant::now();
            let mut evaluator = Evaluator::new(&trained.model, corpus.ids.len());
            let Evaluated { loss, ln_z, known } =
                evaluator.evaluate(&trained.model, &trained.w, &corpus.ids, [unk, eos]);
            Evaluation {
                perplexity: loss.exp(),
                loss,
                bits_per_word: loss / std::f64::consts::LN_2,
                perplexity_of_known_words: known.map(f64::exp),
                ln_z: ln_z.zip(trained.model.ln_z()).map(|((mean, deviation), taken)| [mean, deviation, taken]),
                tokens: corpus.ids.len(),
                lines: corpus.lines,
                of_lines,
                unknown: corpus.unknown,
                unknown_rate: corpus.unknown_rate(),
                words_per_second: corpus.ids.len() as f64 / start.elapsed().as_secs_f64(),
            }
        };
        let Evaluation { perplexity, loss, bits_per_word, tokens, lines, of_lines, unknown, unknown_rate, .. } = result;
        if self.json {
            return Ok(json(&result, inputs));
        }
        let ln_z = result.ln_z.map_or(String::new(), |[mean, deviation, taken]| {
            format!("\nln Z {mean:.4} ± {deviation:.4}, trained to be {taken}")
        });
        let known = result.perplexity_of_known_words.map_or(String::new(), |perplexity| {
            format!("\nperplexity {perplexity:.3} without unknown words and ends of lines")
        });
        let part = of_lines.map_or(String::new(), |all| format!(", a fixed random subset of {all}"));
        Ok(format!(
            "perplexity {perplexity:.3}{known}\nloss {loss:.5} nats per word, {bits_per_word:.4} bits per word{ln_z}\n\
             {} in {}{part} (line ends counted), {unknown} unknown ({:.2} %)",
            counted(tokens, "word"),
            counted(lines, "line"),
            100.0 * unknown_rate
        ))
    }
}
