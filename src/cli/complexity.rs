//! `wordmill complexity`

use super::inputs::print;
use super::tune::SizeFlags;
use crate::error::Result;
use crate::tasks::complexity::complexity;
use crate::tasks::scaling::scaling;
use std::io::Write;
use std::path::PathBuf;

/// Test how the time of a training step scales, from the measurements of `cargo bench -- complexity`
///
/// In theory the time per token is a |V| D_h + b tau/stride D_h^2 + c, where d << D_h << |V|. Each claim is about one
/// size: a power law is fitted in log-log space to the points that meet its assumption, with a 95 % confidence
/// interval. A claim holds if the interval lies within 0.1 of the claimed exponent, is refuted if it lies outside, and
/// is open otherwise. Plots (SVG) show all points.
///
/// With --threads: how fast a training step would be on 1, 2, 4 … 64 cores. Steps of the given model are run on this
/// machine with their parallel parts timed, and those are distributed over the cores: a simulation, with its result for
/// this machine beside the measured one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo bench -- complexity && wordmill complexity
  cargo bench -- complexity --quick && wordmill complexity --json
  wordmill complexity --threads --cell gru --words 10000 --hidden 256
  wordmill complexity --threads 16 --words 1000000 --samples 4096")]
pub struct Complexity {
    /// Directory of criterion's results
    #[arg(long, default_value = "target/criterion", value_name = "DIR")]
    from: PathBuf,
    /// Directory for the plots
    #[arg(long, default_value = "target/complexity", value_name = "DIR")]
    out: PathBuf,
    /// Simulate training steps on up to this many cores instead
    #[arg(long, num_args = 0..=1, default_missing_value = "64", value_name = "CORES")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    model: SizeFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Complexity {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        if let Some(cores) = self.threads {
            let report = scaling(&self.model.tuned()?, cores.into())?;
            return print(out, self.json, &report, || report.to_string());
        }
        let report = complexity(&self.from, &self.out)?;
        print(out, self.json, &report, || format!("{report}plots in {}\n", self.out.display()))
    }
}
