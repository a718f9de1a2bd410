//! `wordmill complexity`

use super::inputs::print;
use crate::error::Result;
use crate::tasks::complexity::complexity;
use std::io::Write;
use std::path::PathBuf;

/// Test how the time of a training step scales, from the measurements of `cargo bench -- complexity`
///
/// In theory the time per token is a |V| D_h + b tau/stride D_h^2 + c, where d << D_h << |V|. Each claim is about one
/// size: a power law is fitted in log-log space to the points that meet its assumption, with a 95 % confidence
/// interval. A claim holds if the interval lies within 0.1 of the claimed exponent, is refuted if it lies outside, and
/// is open otherwise. Plots (SVG) show all points.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo bench -- complexity && wordmill complexity
  cargo bench -- complexity --quick && wordmill complexity --json")]
pub struct Complexity {
    /// Directory of criterion's results
    #[arg(long, default_value = "target/criterion", value_name = "DIR")]
    from: PathBuf,
    /// Directory for the plots
    #[arg(long, default_value = "target/complexity", value_name = "DIR")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Complexity {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let report = complexity(&self.from, &self.out)?;
        print(out, self.json, &report, || format!("{report}plots in {}\n", self.out.display()))
    }
}
