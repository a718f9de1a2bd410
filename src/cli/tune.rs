//! `wordmill tune`

use super::inputs::print;
use super::values::{positive, size};
use crate::blas::Precision;
use crate::error::Result;
use crate::layers::cells::Kind;
use crate::tasks::language_model::check_precision;
use crate::tasks::tune::Tuned;
use crate::tasks::tuning::{Tuning, place};
use std::io::Write;
use std::path::PathBuf;

/// Find the fastest training settings on this machine for a model of given sizes
///
/// Measures complete training steps with different numbers of threads and block sizes, each alternating with the best
/// so far, and keeps what is clearly faster. The result is written to a file for train lm --tuning. The number of
/// threads does not affect results; block sizes affect rounding and what dropout draws, and are saved with the model's options.
/// WORDMILL_ISA=avx2 tunes for AVX2.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill tune --words 10000 --hidden 100                      then: wordmill train lm --tuning auto …
  wordmill tune --cell gru --words 50000 --embed 256 --hidden 256 --tau 20 --out tuning.toml
  wordmill tune --hidden 32 --words 1000 --json")]
pub struct Tune {
    /// Tuning file that the result is added to: auto is the file of train lm --tuning auto
    #[arg(long, default_value = "auto", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: SizeFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The model whose training steps are measured.
#[derive(Debug, clap::Args)]
pub struct SizeFlags {
    /// Size of the vocabulary
    #[arg(long, default_value = "10000", value_parser = size, value_name = "V")]
    words: usize,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Embedding size: width of a word vector
    #[arg(long, default_value = "50", value_parser = size, value_name = "D")]
    embed: usize,
    /// Units per recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Number of recurrent layers
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    layers: u8,
    /// BPTT length: time steps that gradients are propagated back
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// Batch size: parallel streams of the text
    #[arg(long, default_value = "64", value_parser = size, value_name = "LANES")]
    batch: usize,
    /// Samples of --loss sampled, instead of the full softmax
    #[arg(long, value_parser = size, value_name = "S")]
    samples: Option<usize>,
    /// Precision that train lm --precision is given
    #[arg(long, default_value = "f32", value_enum)]
    precision: Precision,
    /// Seconds per measurement
    #[arg(long, default_value = "2", value_parser = positive, value_name = "SECONDS")]
    seconds: f64,
}

impl SizeFlags {
    /// The same, checked.
    pub fn tuned(&self) -> Result<Tuned> {
        check_precision(self.precision)?;
        let &SizeFlags { words, cell, embed, hidden, layers, tau, batch, samples, precision, seconds } = self;
        Ok(Tuned { words, cell, embed, hidden, layers: layers.into(), tau, batch, samples, precision, seconds })
    }
}

impl Tune {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let tuned = self.model.tuned()?;
        let path = place(&self.out)?;
        // A file that cannot be written is reported before measuring.
        let mut tuning = Tuning::read_or_new(&path)?;
        let report = tuned.search()?;
        tuning.put(report.entry.clone());
        tuning.write(&path)?;
        print(out, self.json, &report, || format!("{report}written to {}, for train lm --tuning\n", path.display()))
    }
}
