//! The options for input files, the same for every command that reads any.

use super::output_failed;
use crate::error::Result;
use crate::notices::Notices;
use crate::text::Inputs;
use serde::Serialize;
use std::io::{self, Write};

/// How input files are read.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InputOptions {
    /// Refuse what an option decides, where there would be a warning
    #[arg(long)]
    #[serde(skip)]
    strict: bool,
}

impl InputOptions {
    /// The front that files come through. Warnings go to standard error, unless `quiet`.
    pub fn inputs(&self, quiet: bool) -> Inputs {
        let warn = move |text: &str| {
            if !quiet {
                say(&format!("warning: {text}"));
            }
        };
        Inputs::new(Notices::new(self.strict, warn))
    }
}

/// Prints a line on standard error. If that is full or gone, nothing else changes: results and exit code are what they are.
pub fn say(line: &str) {
    // In one write, so that lines of other processes do not come between.
    _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// `result` as a JSON object with all warnings in its member `warnings`.
pub fn json(result: &impl Serialize, inputs: &Inputs) -> String {
    let mut object = serde_json::to_value(result).expect("a plain struct of numbers is JSON");
    object["warnings"] = serde_json::to_value(inputs.notices().all()).expect("warnings are JSON");
    object.to_string()
}

/// Prints [`json`] in a line.
pub fn print_json(result: &impl Serialize, inputs: &Inputs, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", json(result, inputs)).map_err(output_failed)
}
