//! `wordmill eval`

use super::language_model::{Evaluator, Trained};
use super::output_failed;
use crate::error::Result;
use crate::pool::pool;
use crate::text::Corpus;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Measure a model on a text: perplexity with the full softmax
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill eval model test.txt
  wordmill eval model test.txt --json | jq .perplexity")]
pub struct Eval {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one sentence a line
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value = "0")]
    threads: usize,
}

#[derive(Serialize)]
struct Evaluation {
    perplexity: f64,
    loss: f64,
    bits_per_word: f64,
    tokens: usize,
    lines: u64,
    unknown: u64,
    unknown_rate: f64,
    words_per_second: f64,
}

impl Eval {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let result = pool(self.threads)?.install(|| {
            let trained = Trained::load(&self.model)?;
            if let Some(warning) = Corpus::warning(&self.text) {
                eprintln!("wordmill: warning: {warning}");
            }
            let corpus = Corpus::read_with(&self.text, &trained.vocabulary)?;
            let start = std::time::Instant::now();
            let mut evaluator = Evaluator::new(&trained.model, corpus.ids.len());
            let loss = evaluator.loss(&trained.model, &trained.w, &corpus.ids, trained.vocabulary.eos());
            Ok(Evaluation {
                perplexity: loss.exp(),
                loss,
                bits_per_word: loss / std::f64::consts::LN_2,
                tokens: corpus.ids.len(),
                lines: corpus.lines,
                unknown: corpus.unknown,
                unknown_rate: corpus.unknown as f64 / corpus.ids.len() as f64,
                words_per_second: corpus.ids.len() as f64 / start.elapsed().as_secs_f64(),
            })
        })?;
        let Evaluation { perplexity, loss, bits_per_word, tokens, lines, unknown, unknown_rate, .. } = result;
        let written = if self.json {
            serde_json::to_writer(&mut *out, &result).map_err(Into::into).and_then(|()| writeln!(out))
        } else {
            writeln!(
                out,
                "perplexity {perplexity:.3}\nloss {loss:.5} nats a word, {bits_per_word:.4} bits a word\n\
                 {tokens} words in {lines} lines (line ends counted), {unknown} unknown ({:.2} %)",
                100.0 * unknown_rate
            )
        };
        written.map_err(output_failed)
    }
}
