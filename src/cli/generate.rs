//! `wordmill generate`

use super::values::positive;
use crate::error::{Error, Result};
use crate::notices::say;
use crate::pool::pool;
use crate::tasks::Model;
use crate::tasks::generate::{Draws, Generator, Sentence};
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
fn warn(sentence: &Sentence) {
    if !sentence.unknown.is_empty() {
        say(&format!("warning: unknown words in the prompt: {}; read as {UNK}", sentence.unknown.join(" ")));
    }
}

impl Generate {
    /// Runs the command.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        // One sentence is one lane: a second thread would have nothing to do.
        pool(1)?.install(|| {
            let trained = TrainedLm::load(&self.model)?;
            let ln_z = self.ln_z(&trained)?;
            let mut writer = Generator::new(&trained, ln_z);
            if self.prompt.is_none() && !self.json && io::stdin().is_terminal() && io::stdout().is_terminal() {
                return self.converse(&mut writer, out);
            }
            for number in 0..self.sentences {
                let prompt = self.prompt.as_deref().unwrap_or_default();
                let sentence = writer.sentence(prompt, &self.draws(), number);
                if number == 0 {
                    warn(&sentence);
                }
                let written = if self.json {
                    serde_json::to_writer(&mut *out, &sentence).map_err(Into::into).and_then(|()| writeln!(out))
                } else {
                    writeln!(out, "{}", sentence.text)
                };
                written.map_err(Error::output)?;
            }
            Ok(())
        })
    }

    /// ln Z, if the model's scores are to be treated as normalised by it.
    fn ln_z(&self, trained: &TrainedLm) -> Result<Option<f64>> {
        if !self.self_normalised {
            return Ok(None);
        }
        if self.temperature != 1.0 || self.top_k.is_some() {
            let what = "--self-normalised samples from unscaled scores: it excludes --temperature and --top-k";
            return Err(Error::Usage(what.into()));
        }
        trained.self_normalised(&self.model).map(Some)
    }

    fn draws(&self) -> Draws {
        let &Generate { words, temperature, top_k, unknown, seed, .. } = self;
        Draws { words, temperature, top_k, unknown, seed }
    }

    fn converse(&self, writer: &mut Generator, out: &mut (dyn Write + Send)) -> Result<()> {
        let mut line = String::new();
        for number in 0.. {
            write!(out, "> ").and_then(|()| out.flush()).map_err(Error::output)?;
            line.clear();
            let read =
                io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("standard input", "reading", e))?;
            if read == 0 {
                writeln!(out).map_err(Error::output)?;
                break;
            }
            let sentence = writer.sentence(line.trim(), &self.draws(), number);
            warn(&sentence);
            writeln!(out, "{}", sentence.text).map_err(Error::output)?;
        }
        Ok(())
    }
}
