//! `wordmill generate`

use super::inputs::print;
use super::values::positive;
use crate::error::{Error, Result};
use crate::notices::say;
use crate::pool::pool;
use crate::tasks::Model;
use crate::tasks::generate::{Draws, Generator, stops};
use crate::tasks::language_model::TrainedLm;
use crate::text::vocabulary::UNK;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// Generate text with a language model
///
/// On a terminal and without --prompt, asks for the beginnings of sentences interactively; otherwise generates whole
/// sentences.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill generate model --prompt \"the president of\"
  wordmill generate model --sentences 5 --temperature 0.8 --top-k 50
  wordmill generate model --prompt \"once upon\" --top-p 0.9 --stop . --stop ?
  wordmill generate model                                  interactive: prompts with > ")]
pub struct Generate {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The beginning of the sentence
    #[arg(long)]
    prompt: Option<String>,
    /// Maximum number of words generated per sentence
    #[arg(long, default_value = "100", value_name = "N")]
    words: usize,
    /// Number of sentences
    #[arg(long, default_value = "1", value_name = "N", value_parser = super::values::count)]
    sentences: u64,
    /// Sampling temperature: below 1 favours likely words, above 1 flattens the distribution
    #[arg(long, default_value = "1", value_parser = positive, value_name = "T")]
    temperature: f64,
    /// Sample from the K most likely words only
    #[arg(long, value_name = "K", value_parser = super::values::size)]
    top_k: Option<usize>,
    /// Sample from the most likely words only, as few as have a total probability of P or more
    #[arg(long, value_name = "P", value_parser = super::values::keep_probability)]
    top_p: Option<f64>,
    /// Word that completes a sentence, as its last word; may be repeated
    #[arg(long, value_name = "WORD")]
    stop: Vec<String>,
    /// For a model trained with --loss nce: treat its scores as normalised, and compute only as many as are needed to
    /// sample a word
    #[arg(long)]
    self_normalised: bool,
    /// Allow <unk> to be generated
    #[arg(long)]
    unknown: bool,
    /// Random seed
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print a JSON object per sentence: the text, the number of words generated, whether the sentence is complete, and
    /// the unknown words of the prompt
    #[arg(long)]
    json: bool,
}

/// Reports which words of the prompt are unknown.
pub(super) fn warn(unknown: &[String]) {
    if !unknown.is_empty() {
        say(&format!("warning: unknown words in the prompt: {}; read as {UNK}", unknown.join(" ")));
    }
}

impl Generate {
    /// Runs the command.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        // One sentence is one lane: a second thread would have nothing to do.
        pool(1)?.install(|| {
            let trained = TrainedLm::load(&self.model)?;
            let (ln_z, draws) = (self.ln_z(&trained)?, self.draws(&trained)?);
            let mut writer = Generator::new(&trained, ln_z);
            if self.prompt.is_none() && !self.json && io::stdin().is_terminal() && io::stdout().is_terminal() {
                return converse(&mut writer, &draws, out);
            }
            for number in 0..self.sentences {
                let prompt = self.prompt.as_deref().unwrap_or_default();
                let sentence = writer.sentence(prompt, &draws, number);
                if number == 0 {
                    warn(&sentence.unknown);
                }
                print(out, self.json, &sentence, || format!("{}\n", sentence.text))?;
            }
            Ok(())
        })
    }

    /// ln Z, if the model's scores are to be treated as normalised by it.
    fn ln_z(&self, trained: &TrainedLm) -> Result<Option<f64>> {
        if !self.self_normalised {
            return Ok(None);
        }
        if self.temperature != 1.0 || self.top_k.is_some() || self.top_p.is_some() {
            let what = "--self-normalised samples from unscaled scores: it excludes --temperature, --top-k and --top-p";
            return Err(Error::Usage(what.into()));
        }
        trained.self_normalised(&self.model).map(Some)
    }

    fn draws(&self, trained: &TrainedLm) -> Result<Draws> {
        let &Generate { words, temperature, top_k, top_p, unknown, seed, .. } = self;
        Ok(Draws { words, temperature, top_k, top_p, stop: stops(trained, &self.stop)?, unknown, seed })
    }
}

/// Asks for the beginnings of sentences, and continues each.
fn converse(writer: &mut Generator, draws: &Draws, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut line = String::new();
    for number in 0.. {
        write!(out, "> ").and_then(|()| out.flush()).map_err(Error::output)?;
        line.clear();
        let read = io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("standard input", "reading", e))?;
        if read == 0 {
            writeln!(out).map_err(Error::output)?;
            break;
        }
        let sentence = writer.sentence(line.trim(), draws, number);
        warn(&sentence.unknown);
        writeln!(out, "{}", sentence.text).map_err(Error::output)?;
    }
    Ok(())
}
