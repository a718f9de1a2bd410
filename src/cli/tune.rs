//! `wordmill tune`

use super::inputs::print;
use super::values::{positive, size};
use crate::blas::Precision;
use crate::error::Result;
use crate::layers::recurrence::Kind;
use crate::tasks::language_model::check_precision;
use crate::tasks::tune::Tuned;
use crate::tasks::tuning::{Tuning, place};
use std::io::Write;
use std::path::PathBuf;

/// Find out how training is fastest on this machine for a model of given sizes
///
/// Measures whole training steps with other numbers of threads and other sizes of the parts that a step is divided
/// into, each beside the best so far, in turns, and keeps what is clearly better. The result goes to a file, for train
/// lm --tuning. Threads change no bit of a model; the other sizes change the last bits, and are saved with the model's
/// options. WORDMILL_ISA=avx2 tunes for AVX2.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill tune --words 10000 --hidden 100                      then: wordmill train lm --tuning auto …
  wordmill tune --cell gru --words 50000 --embed 256 --hidden 256 --tau 20 --out tuning.toml
  wordmill tune --hidden 32 --words 1000 --json")]
pub struct Tune {
    /// The tuning file, to which the result is added: auto is the one of train lm --tuning auto
    #[arg(long, default_value = "auto", value_name = "FILE")]
    out: PathBuf,
    /// Words in the vocabulary
    #[arg(long, default_value = "10000", value_parser = size, value_name = "V")]
    words: usize,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Width of a word vector
    #[arg(long, default_value = "50", value_parser = size, value_name = "D")]
    embed: usize,
    /// Units per recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Recurrent layers
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    layers: u8,
    /// BPTT length: time steps that gradients are propagated back
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// Batch size: parallel streams of the text
    #[arg(long, default_value = "64", value_parser = size, value_name = "LANES")]
    batch: usize,
    /// For --loss sampled with so many samples, rather than the full softmax
    #[arg(long, value_parser = size, value_name = "S")]
    samples: Option<usize>,
    /// For train lm --precision bf16
    #[arg(long, default_value = "f32", value_enum)]
    precision: Precision,
    /// Seconds for each choice
    #[arg(long, default_value = "2", value_parser = positive, value_name = "SECONDS")]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Tune {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        check_precision(self.precision)?;
        let path = place(&self.out)?;
        // What cannot be written into is reported before measuring.
        let mut tuning = Tuning::read_or_new(&path)?;
        let Tune { words, cell, embed, hidden, layers, tau, batch, samples, precision, seconds, .. } = self;
        let layers = layers.into();
        let tuned = Tuned { words, cell, embed, hidden, layers, tau, batch, samples, precision, seconds };
        let report = tuned.search()?;
        tuning.put(report.entry.clone());
        tuning.write(&path)?;
        print(out, self.json, &report, || {
            format!("{report}written to {}; train lm --tuning takes it\n", path.display())
        })
    }
}
