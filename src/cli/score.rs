//! `wordmill score`

use super::inputs::InputOptions;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::Model;
use crate::tasks::language_model::Trained;
use crate::tasks::saved;
use crate::tasks::score::score;
use crate::text::Lines;
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
        let (ids, scores, lines, unk) = pool(self.threads)?.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&saved::options(&mut checkpoint)?);
            let mut trained = Trained::read(&mut checkpoint)?;
            let strips = self.strip_marks || trained.vocabulary.strips_marks();
            trained.vocabulary = trained.vocabulary.stripping_marks(strips);
            let vocabulary = &trained.vocabulary;
            let (ids, lines) = if self.ids {
                Lines::read_with_ids(&self.text, vocabulary, &inputs).map(|(ids, lines)| (Some(ids), lines))?
            } else {
                let lines = Lines::read_with(&self.text, vocabulary, &inputs)?;
                lines.warn_of_ids(&self.text, vocabulary, &inputs)?;
                (None, lines)
            };
            lines.warn_of_unknown(&self.text, &inputs)?;
            let lines = if self.no_eos { lines.without_ends() } else { lines };
            let ln_z = self.self_normalised.then(|| trained.self_normalised(&self.model)).transpose()?;
            Ok((ids, score(&trained, &lines, ln_z), lines, vocabulary.unk()))
        })?;
        let factor = if self.negate { -1.0 } else { 1.0 } / if self.log10 { std::f64::consts::LN_10 } else { 1.0 };
        for (i, (score, line)) in scores.iter().zip(lines.iter()).enumerate() {
            // Without the sign of −0.
            let score = score * factor + 0.0;
            let id = ids.as_ref().map(|ids| &ids[i]);
            let written = if self.json {
                let unknown = line.iter().filter(|&&id| id == unk).count();
                let mut row = serde_json::json!({ "log_probability": score, "words": line.len(), "unknown": unknown });
                if let Some(id) = id {
                    row["id"] = id.as_str().into();
                }
                writeln!(out, "{row}")
            } else if let Some(id) = id {
                writeln!(out, "{id} {score:.6}")
            } else {
                writeln!(out, "{score:.6}")
            };
            written.map_err(Error::output)?;
        }
        Ok(())
    }
}
