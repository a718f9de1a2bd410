//! `wordmill score`

use super::inputs::InputOptions;
use super::language_model::{Trained, score};
use super::output_failed;
use crate::error::Result;
use crate::pool::pool;
use crate::text::Lines;
use std::io::Write;
use std::path::PathBuf;

/// Give every line of a text its natural-log probability, in order: for rescoring n-best lists
///
/// Every line is read alone, its end included; an empty line scores the end of a sentence right at its beginning.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill score model hypotheses.txt > scores.txt
  wordmill score model hypotheses.txt | paste - hypotheses.txt | sort -g | tail -1     the likeliest line")]
pub struct Score {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one hypothesis a line
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// Of a model that --loss nce has trained: take its scores for normalised, and sum nothing over the words
    #[arg(long)]
    self_normalised: bool,
    /// Print a JSON object a line: log_probability, words, unknown
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inputs: InputOptions,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

impl Score {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = self.inputs.inputs(false);
        let (scores, lines, unk) = pool(self.threads)?.install(|| {
            let trained = Trained::load(&self.model)?;
            let lines = Lines::read_with(&self.text, &trained.vocabulary, &inputs)?;
            let ln_z = self.self_normalised.then(|| trained.self_normalised(&self.model)).transpose()?;
            Ok((score(&trained, &lines, ln_z), lines, trained.vocabulary.unk()))
        })?;
        for (score, line) in scores.iter().zip(lines.iter()) {
            let written = if self.json {
                let unknown = line.iter().filter(|&&id| id == unk).count();
                let row = serde_json::json!({ "log_probability": score, "words": line.len(), "unknown": unknown });
                writeln!(out, "{row}")
            } else {
                writeln!(out, "{score:.6}")
            };
            written.map_err(output_failed)?;
        }
        Ok(())
    }
}
