//! `wordmill inspect`

use super::inputs::{InputOptions, print};
use super::values::size;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::sys::files;
use crate::tasks::inspect::inspect;
use crate::train::plot::matrix;
use std::io::Write;
use std::path::PathBuf;

/// Inspect a model: its weights, and given a text its gate activations and how far gradients reach back
///
/// For a pseudo-Siamese network it shows the gradient norms of its two layers over the training: the layer with the
/// larger norm learns faster.
///
/// The gradient of the loss at one word is propagated back through the states of the words before it: with simple cells
/// it vanishes (or explodes) within a few words, with gated cells it reaches further.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill inspect model
  wordmill inspect model test.txt --steps 30 --svg gradient.svg
  wordmill inspect model test.txt --gates gates.svg      for a gated-feedback net
  wordmill inspect kinds --svg gradients.svg             for a pseudo-Siamese net")]
pub struct Inspect {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one sentence per line, for a language model
    #[arg(value_name = "FILE")]
    text: Option<PathBuf>,
    /// Number of words that the gradient is propagated back
    #[arg(long, default_value = "20", value_parser = size, value_name = "STEPS")]
    steps: usize,
    /// Plot the gradient norm over the steps back, or for a pseudo-Siamese network those of its layers over the
    /// training (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Plot the mean gates between the layers of a gated-feedback network (SVG)
    #[arg(long, value_name = "FILE", requires = "text")]
    gates: Option<PathBuf>,
    #[command(flatten)]
    inputs: InputOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = self.inputs.inputs(false);
        let report = pool(0)?.install(|| inspect(&self.model, self.text.as_deref(), self.steps, &inputs))?;
        if let (Some(_), Some(gates)) = (&self.gates, &report.gates)
            && gates.feedback.is_empty()
        {
            return Err(Error::Usage(format!("--gates: {} is not a gated-feedback net", self.model.display())));
        }
        if let Some(path) = &self.svg
            && !report.plot_gradients(&self.model, path)?
        {
            let what = "--svg plots gradients of a language model, given a text, \
                        or those of a pseudo-Siamese network's training";
            return Err(Error::Usage(format!("{what}: there is nothing to draw to {}", path.display())));
        }
        if let (Some(path), Some(gates)) = (&self.gates, &report.gates) {
            files::write(path, matrix("Mean gates between layers", "from", "to", &gates.feedback))?;
        }
        print(out, self.json, &report, || report.to_string())
    }
}
