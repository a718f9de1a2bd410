//! `wordmill inspect`

use super::inputs::InputOptions;
use super::language_model::Trained;
use super::output_failed;
use super::saved::{self, Saved};
use super::values::size;
use crate::error::{Error, Result};
use crate::layers::norms::norm;
use crate::layers::recurrence::Gates;
use crate::models::language_model::Window;
use crate::params::{Arena, Layout};
use crate::pool::pool;
use crate::text::Corpus;
use crate::train::checkpoint::METRICS;
use crate::train::metrics;
use crate::train::plot::{Axes, Curve, OTHER, TRAIN, VALID, chart, matrix};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Look into a model: its weights, and with a text how its gates open and how far gradients travel back
///
/// Of a pseudo-Siamese net it shows the norms of the gradients of its two layers over the training, the larger the faster a layer learns.
///
/// The gradient of the loss at one word is followed back through the states of the words before it: with simple cells it vanishes
/// (or explodes) within few words, with gates it lasts longer.
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
    /// Words that the gradient is followed back
    #[arg(long, default_value = "20", value_parser = size, value_name = "STEPS")]
    steps: usize,
    /// Draw the norm of the gradient over the steps back, or of a pseudo-Siamese net those of its layers over the training (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Draw the mean gates between the layers of a gated-feedback net (SVG)
    #[arg(long, value_name = "FILE", requires = "text")]
    gates: Option<PathBuf>,
    #[command(flatten)]
    inputs: InputOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    parameters: usize,
    tensors: Vec<TensorReport>,
    /// ‖∂J/∂h‖ by layer: 0, 1, 2 … steps before the word whose loss J is.
    #[serde(skip_serializing_if = "Option::is_none")]
    gradient: Option<Vec<Vec<f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<Gates>,
    /// Norms of the gradients of single tensors over the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
}

#[derive(Serialize)]
struct Training {
    epochs: Vec<f64>,
    /// A norm for each report, the mean since the one before.
    norms: BTreeMap<String, Vec<f64>>,
}

impl Training {
    /// The mean of all reports.
    fn mean(norms: &[f64]) -> f64 {
        norms.iter().sum::<f64>() / norms.len().max(1) as f64
    }
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: [usize; 2],
    norm: f64,
    root_mean_square: f64,
    largest: f64,
    /// Of each square block of a state-to-state matrix, the largest first; with a BLAS feature.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    singular_values: Vec<Vec<f32>>,
}

impl Inspect {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let report = pool(0)?.install(|| self.report())?;
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
            let title = format!("How far the gradient travels in {}", self.model.display());
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
            let title = format!("Gradients of the two layers of {}", self.model.display());
            let svg = chart(axes, &title, &curves).map_err(|e| Error::io(path, "drawing", std::io::Error::other(e)))?;
            write(path, &svg)?;
        } else if let (Some(path), None) = (&self.svg, &report.gradient) {
            let what = "--svg draws the gradients in a language model, which needs a text, or of a pseudo-Siamese net's training";
            return Err(Error::Usage(format!("{what}: there is nothing to draw to {}", path.display())));
        }
        if let (Some(path), Some(gates)) = (&self.gates, &report.gates) {
            write(path, &matrix("Mean gates between layers", "from", "to", &gates.feedback))?;
        }
        let written = if self.json {
            serde_json::to_writer(&mut *out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        } else {
            report.print(out)
        };
        written.map_err(output_failed)
    }

    fn report(&self) -> Result<Report> {
        let mut checkpoint = saved::open(&self.model)?;
        match Saved::read(&mut checkpoint)? {
            saved if !matches!(saved, Saved::LanguageModel(_)) && self.text.is_some() => Err(Error::Usage(format!(
                "{} is a {}: it has no states to follow back",
                self.model.display(),
                saved.kind()
            ))),
            Saved::Ner(_) => {
                let tagger = super::ner::Tagger::read(&mut checkpoint)?;
                Ok(weights(tagger.net.layout(), &tagger.w))
            }
            Saved::Siamese(_) => {
                let trained = super::siamese::Trained::read(&mut checkpoint)?;
                Ok(weights(trained.net.layout(), &trained.w))
            }
            Saved::Softmax(_) => {
                let trained = super::softmax::Trained::read(&mut checkpoint)?;
                Ok(weights(trained.net.layout(), &trained.w))
            }
            Saved::PseudoSiamese(_) => {
                let trained = super::pseudo_siamese::Trained::read(&mut checkpoint)?;
                let training = self.training()?;
                Ok(Report { training, ..weights(trained.net.layout(), &trained.w) })
            }
            Saved::LanguageModel(_) => {
                let trained = Trained::read(&mut checkpoint)?;
                let watched = self.text.as_deref().map(|text| self.watch(&trained, text)).transpose()?;
                let (gradient, gates) = watched.unzip();
                Ok(Report { gradient, gates, ..weights(trained.model.layout(), &trained.w) })
            }
        }
    }

    /// What the run reported of single tensors.
    fn training(&self) -> Result<Option<Training>> {
        let reports = metrics::read(&self.model.join(METRICS))?;
        let mut norms: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, norm) in reports.iter().flat_map(|report| &report.grad_norms) {
            norms.entry(name.clone()).or_default().push(*norm);
        }
        let epochs = reports.iter().map(|report| report.epoch).collect();
        Ok((!norms.is_empty()).then_some(Training { epochs, norms }))
    }

    /// Follows gradients back from the ends of windows of the text, and averages them.
    fn watch(&self, trained: &Trained, text: &Path) -> Result<(Vec<Vec<f64>>, Gates)> {
        const WINDOWS: usize = 20;
        const LANES: usize = 16;
        let Trained { model, w, vocabulary } = trained;
        let ids = Corpus::read_with(text, vocabulary, &self.inputs.inputs(false))?.ids;
        let lanes = LANES;
        let (steps, length) = (self.steps + 1, ids.len().saturating_sub(1) / lanes);
        if length < steps {
            let found = format!("{} words, line ends counted", ids.len());
            return Err(Error::input(
                text,
                0,
                found,
                format!("at least {} for --steps {}", lanes * steps + 1, self.steps),
            ));
        }
        let mut space = model.space::<f32>(steps, lanes);
        let windows = WINDOWS.min(length / steps);
        let mut sums = vec![vec![0.0; steps]; model.config().layers];
        let mut gates: Vec<Gates> = Vec::new();
        for window in 0..windows {
            let at = |shift: usize| -> Vec<u32> {
                let ids = &ids;
                (0..steps)
                    .flat_map(|t| (0..lanes).map(move |lane| ids[lane * length + window * steps + t + shift]))
                    .collect()
            };
            let (inputs, targets) = (at(0), at(1));
            let data = Window { inputs: &inputs, targets: &targets, loss_from: steps - 1 };
            let (norms, found) = model.watch(&mut space, data, w);
            model.carry(&mut space, steps);
            gates.push(found);
            for (sums, norms) in sums.iter_mut().zip(norms) {
                sums.iter_mut().zip(norms.iter().rev()).for_each(|(sum, norm)| *sum += norm / windows as f64);
            }
        }
        let all = |of: &dyn Fn(&Gates) -> &[f64]| -> Vec<f64> {
            let n = of(&gates[0]).len();
            (0..n).map(|i| gates.iter().map(|g| of(g)[i]).sum::<f64>() / windows as f64).collect()
        };
        let feedback = (0..gates[0].feedback.len()).map(|row| all(&|g: &Gates| &g.feedback[row])).collect();
        let named = gates[0].named.keys().map(|&name| (name, all(&|g: &Gates| &g.named[name]))).collect();
        Ok((sums, Gates { named, feedback }))
    }
}

fn write(path: &Path, svg: &str) -> Result<()> {
    std::fs::write(path, svg).map_err(|e| Error::io(path, "writing", e))
}

fn weights(layout: &Layout, w: &Arena<f32>) -> Report {
    let tensors = layout.tensors().map(|(p, tensor)| {
        let x = w.slice(p);
        let norm = norm(x);
        TensorReport {
            name: tensor.name.clone(),
            shape: [tensor.rows, tensor.columns],
            norm,
            root_mean_square: norm / (x.len() as f64).sqrt(),
            largest: x.iter().fold(0.0, |a: f64, x| a.max(f64::from(x.abs()))),
            singular_values: singular_values(tensor, w.matrix(p)),
        }
    });
    Report { parameters: layout.parameters(), tensors: tensors.collect(), gradient: None, gates: None, training: None }
}

/// Of each square block of a state-to-state matrix.
#[cfg(feature = "linked-blas")]
fn singular_values(tensor: &crate::params::Tensor, x: ndarray::ArrayView2<f32>) -> Vec<Vec<f32>> {
    use ndarray_linalg::SVD;
    if tensor.role != crate::params::Role::Recurrent {
        return Vec::new();
    }
    let blocks = x.axis_chunks_iter(ndarray::Axis(1), tensor.rows).filter(|block| block.is_square());
    blocks.filter_map(|block| Some(block.to_owned().svd(false, false).ok()?.1.to_vec())).collect()
}

#[cfg(not(feature = "linked-blas"))]
fn singular_values(_: &crate::params::Tensor, _: ndarray::ArrayView2<f32>) -> Vec<Vec<f32>> {
    Vec::new()
}

impl Report {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let width = self.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
        writeln!(out, "{} parameters\n", self.parameters)?;
        writeln!(out, "{:width$}  {:>16}  {:>10}  {:>10}  {:>10}", "tensor", "shape", "norm", "rms", "largest")?;
        for TensorReport { name, shape: [rows, columns], norm, root_mean_square, largest, singular_values } in
            &self.tensors
        {
            let shape = format!("{rows} × {columns}");
            writeln!(out, "{name:width$}  {shape:>16}  {norm:10.4}  {root_mean_square:10.5}  {largest:10.5}")?;
            for (i, values) in singular_values.iter().enumerate() {
                let (first, last) = (values.first().unwrap_or(&0.0), values.last().unwrap_or(&0.0));
                writeln!(out, "{:width$}  block {}: singular values {first:.4} … {last:.4}", "", i + 1)?;
            }
        }
        if let Some(gates) = &self.gates {
            for l in 0..gates.named.values().next().map_or(0, Vec::len) {
                let means = gates.named.iter().map(|(name, of)| format!("mean {name} gate {:.3}", of[l]));
                writeln!(out, "\nlayer {}: {}", l + 1, means.collect::<Vec<_>>().join(", "))?;
            }
            if !gates.feedback.is_empty() {
                writeln!(out, "\nmean gates, from layer (row) to layer (column)")?;
            }
            for row in &gates.feedback {
                let row: Vec<String> = row.iter().map(|gate| format!("{gate:.3}")).collect();
                writeln!(out, "  {}", row.join("  "))?;
            }
        }
        if let Some(Training { epochs, norms }) = &self.training {
            let names: Vec<String> = norms.keys().map(|name| format!("{name:>9}")).collect();
            writeln!(out, "\nmean norms of the gradients since the line before\n  epoch  {}", names.join("  "))?;
            let last = epochs.len().saturating_sub(1);
            let shown = (0..epochs.len()).filter(|i| (i + 1) % (last / 10).max(1) == 0 || *i == last);
            for i in shown {
                let of: Vec<String> = norms.values().map(|norms| format!("{:9.2e}", norms[i])).collect();
                writeln!(out, "  {:5.2}  {}", epochs[i], of.join("  "))?;
            }
            let all: Vec<String> =
                norms.iter().map(|(name, norms)| format!("{name} {:.3e}", Training::mean(norms))).collect();
            writeln!(out, "over the whole training: {}", all.join(", "))?;
        }
        if let Some(norms) = &self.gradient {
            writeln!(out, "\nnorm of the gradient of a word's loss by the states before it, a column for each layer")?;
            let steps = norms[0].len();
            for back in (0..steps).filter(|b| *b < 10 || b % 5 == 0 || b + 1 == steps) {
                let of: Vec<String> = norms.iter().map(|norms| format!("{:9.2e}", norms[back])).collect();
                writeln!(out, "  {back:4} steps back  {}", of.join("  "))?;
            }
        }
        Ok(())
    }
}
