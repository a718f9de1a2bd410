//! `wordmill score`

use super::inputs::{InputOptions, print};
use crate::error::Result;
use crate::pool::pool;
use crate::tasks::language_model::TrainedLm;
use crate::tasks::score::Hypotheses;
use crate::tasks::{Model, options, saved};
use std::io::Write;
use std::path::PathBuf;

/// Print the log-probability of every line of a text, in order: for rescoring n-best lists
///
/// Logarithms are natural, or with --log10 to base 10.
///
/// Every line is scored independently, including its end; the score of an empty line is that of a sentence that ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill score model hypotheses.txt > scores.txt
  wordmill score model text --ids > scores.txt                  Kaldi format: an utterance id, then the words
  zcat hypotheses.gz | wordmill score model - --log10
  wordmill score model hypotheses.txt | paste - hypotheses.txt | sort -g | tail -1     the most likely line")]
pub struct Score {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one hypothesis per line; - is standard input
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// For a model trained with --loss nce: treat its scores as normalised, without summing over the vocabulary
    #[arg(long)]
    self_normalised: bool,
    /// The first word of each line is an id: keep it, and print it before the score
    #[arg(long)]
    ids: bool,
    /// Print logarithms to base 10
    #[arg(long)]
    log10: bool,
    /// Print the negative log-probability, a cost
    #[arg(long)]
    negate: bool,
    /// Exclude the probability of the end of the line
    #[arg(long)]
    no_eos: bool,
    /// Remove sentence markers of other tools, such as <s> and </s>; a model trained with this option does it automatically
    #[arg(long)]
    strip_marks: bool,
    /// Print a JSON object per line: log_probability, words, unknown, and with --ids id
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inputs: InputOptions,
    /// Number of threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

impl Score {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let pool = pool(self.threads)?;
        let (trained, text, ln_z) = pool.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&options::read(&mut checkpoint)?);
            let mut trained = TrainedLm::read(&mut checkpoint)?;
            let strips = self.strip_marks || trained.vocabulary.strips_marks();
            trained.vocabulary = trained.vocabulary.stripping_marks(strips);
            let text = Hypotheses::read(&self.text, &trained.vocabulary, self.ids, !self.no_eos, &inputs)?;
            let ln_z = self.self_normalised.then(|| trained.self_normalised(&self.model)).transpose()?;
            Ok((trained, text, ln_z))
        })?;
        let factor = if self.negate { -1.0 } else { 1.0 } / if self.log10 { std::f64::consts::LN_10 } else { 1.0 };
        for mut line in pool.install(|| text.scored(&trained, ln_z)) {
            // Without the sign of −0.
            line.log_probability = line.log_probability * factor + 0.0;
            let id = line.id.map_or(String::new(), |id| format!("{id} "));
            print(out, self.json, &line, || format!("{id}{:.6}\n", line.log_probability))?;
        }
        Ok(())
    }
}
