//! `wordmill inspect`

use super::inputs::{InputOptions, print};
use super::values::size;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::inspect::{Training, inspect};
use crate::train::plot::{Axes, Curve, OTHER, TRAIN, VALID, chart, matrix};
use std::io::Write;
use std::path::{Path, PathBuf};

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
        if let (Some(path), Some(norms)) = (&self.svg, &report.gradient) {
            let colors = [TRAIN, VALID, OTHER];
            let names: Vec<String> = (1..=norms.len()).map(|l| format!("layer {l}")).collect();
            let curves: Vec<Curve> = (norms.iter().zip(&names).enumerate())
                .map(|(l, (norms, name))| {
                    let points = norms.iter().enumerate().map(|(t, &norm)| (t as f64, norm)).collect();
                    Curve { name, color: colors[l % colors.len()], dots: true, points }
                })
                .collect();
            let axes = Axes { x: "steps back in time", end: self.steps as f64, y: "norm of ∂J/∂h", log: true };
            let title = format!("Gradient norm over time steps back in {}", self.model.display());
            let svg = chart(axes, &title, &curves).map_err(|e| Error::io(path, "drawing", std::io::Error::other(e)))?;
            write(path, &svg)?;
        }
        if let (Some(path), Some(Training { epochs, norms })) = (&self.svg, &report.training) {
            let points = |norms: &[f64]| epochs.iter().copied().zip(norms.iter().copied()).collect();
            let curves: Vec<Curve> = (norms.iter().zip([TRAIN, VALID]))
                .map(|((name, norms), color)| Curve { name, color, dots: false, points: points(norms) })
                .collect();
            let end = epochs.last().copied().unwrap_or(1.0);
            let axes = Axes { x: "epochs", end, y: "norm of the gradient", log: true };
            let title = format!("Gradient norms of the two layers of {}", self.model.display());
            let svg = chart(axes, &title, &curves).map_err(|e| Error::io(path, "drawing", std::io::Error::other(e)))?;
            write(path, &svg)?;
        } else if let (Some(path), None) = (&self.svg, &report.gradient) {
            let what = "--svg plots gradients of a language model, given a text, or those of a pseudo-Siamese network's training";
            return Err(Error::Usage(format!("{what}: there is nothing to draw to {}", path.display())));
        }
        if let (Some(path), Some(gates)) = (&self.gates, &report.gates) {
            write(path, &matrix("Mean gates between layers", "from", "to", &gates.feedback))?;
        }
        print(out, self.json, &report, || report.to_string())
    }
}

fn write(path: &Path, svg: &str) -> Result<()> {
    std::fs::write(path, svg).map_err(|e| Error::io(path, "writing", e))
}
