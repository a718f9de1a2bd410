//! `wordmill synth`

use crate::error::{Error, Result};
use crate::text::grammar::{Grammar, synth};
use std::io::Write;
use std::path::PathBuf;

/// Generate synthetic text from a grammar: sentences for a language model, and the same sentences with entity tags
///
/// Writes lm/{train,valid,test}.txt and ner/{train,valid,test}.conll, 80 %, 10 % and 10 % of the words.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill synth --tokens 200000 --out sample
  wordmill synth --grammar mine.toml --tokens 1000000 --seed 7 --out text")]
pub struct Synth {
    /// Grammar in TOML [default: the bundled newspaper grammar]
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
    /// Smallest number of words to generate
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    tokens: u64,
    /// Random seed
    #[arg(long, default_value = "1", value_parser = super::values::seed)]
    seed: u64,
    /// Directory to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

impl Synth {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let grammar = self.grammar.map_or_else(|| Ok(Grammar::bundled()), Grammar::read)?;
        let drawn = synth(&grammar, self.tokens, self.seed, &self.out, self.force)?;
        let [train, valid, test] = drawn.words;
        writeln!(out, "{train} words for training, {valid} for validation, {test} for testing")
            .map_err(Error::output)?;
        for file in &drawn.files {
            writeln!(out, "{}", file.display()).map_err(Error::output)?;
        }
        Ok(())
    }
}
