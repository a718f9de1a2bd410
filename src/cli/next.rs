//! `wordmill next`

use super::generate::warn;
use super::inputs::print;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::Model;
use crate::tasks::language_model::TrainedLm;
use crate::tasks::next::{NextWord, NextWords, Predictor};
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

/// Print the most likely next words after the beginning of a sentence, with their probabilities
///
/// Without --prompt, reads the beginnings from standard input, one per line, and answers each with one line as soon as it has
/// arrived. <eos> is the end of the sentence.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill next model --prompt \"the president of\"          word TAB probability, one word per line
  wordmill next model --prompt \"the president of\" --top 3 --json
  wordmill next model < beginnings.txt                     one line per beginning: word SPACE probability, separated by tabs")]
pub struct Next {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The beginning of the sentence
    #[arg(long)]
    prompt: Option<String>,
    /// Number of words
    #[arg(long, default_value = "10", value_name = "N", value_parser = super::values::size)]
    top: usize,
    /// Include <unk>, which stands for all unknown words together
    #[arg(long)]
    unknown: bool,
    /// Print a JSON object per beginning: prompt, next (word and probability of each), and its unknown words
    #[arg(long)]
    json: bool,
}

impl Next {
    /// Runs the command.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        // One sentence is one lane: a second thread would have nothing to do.
        pool(1)?.install(|| {
            let trained = TrainedLm::load(&self.model)?;
            let mut predictor = Predictor::new(&trained);
            if let Some(prompt) = &self.prompt {
                let found = predictor.next_words(prompt, self.top, self.unknown);
                warn(&found.unknown);
                return self.print(out, &found, "\t", "\n");
            }
            let mut stdin = io::stdin().lock();
            let mut line = Vec::new();
            for number in 1.. {
                line.clear();
                let failed = |e| Error::io("standard input", "reading", e);
                if stdin.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                    break;
                }
                let Ok(prompt) = std::str::from_utf8(&line) else {
                    return Err(Error::input("-", number, "invalid UTF-8", "beginnings of sentences in UTF-8"));
                };
                let found = predictor.next_words(prompt.trim_start_matches('\u{feff}'), self.top, self.unknown);
                self.print(out, &found, " ", "\t")?;
                // Its sender may be waiting for the answer.
                out.flush().map_err(Error::output)?;
            }
            Ok(())
        })
    }

    /// Prints words and probabilities with these strings between and after them; one line of all, if the latter is a tab.
    fn print(&self, out: &mut dyn Write, found: &NextWords, between: &str, after: &str) -> Result<()> {
        print(out, self.json, found, || {
            let word = |NextWord { word, probability }: &NextWord| format!("{word}{between}{probability:.6}");
            let words: Vec<String> = found.next.iter().map(word).collect();
            words.join(after) + "\n"
        })
    }
}
