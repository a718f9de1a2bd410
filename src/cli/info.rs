//! `wordmill info`

use super::inputs::print;
use crate::error::Result;
use crate::tasks::speed::Report;
use std::io::Write;
use std::time::Duration;

/// Show this build's version and features, and the speed of matrix products on this machine
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Seconds per measurement
    #[arg(long, default_value = "2", value_parser = super::values::positive, value_name = "SECONDS")]
    seconds: f64,
}

impl Info {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let report = Report::measure(Duration::from_secs_f64(self.seconds.min(3600.0)))?;
        print(out, self.json, &report, || report.to_string())
    }
}
