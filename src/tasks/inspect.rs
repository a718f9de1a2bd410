//! Inspection of a model: its weights, its gates, and how far gradients reach back.

use super::any;
use super::language_model::TrainedLm;
use super::model::Model;
use super::saved::{self, Saved};
use crate::error::{Error, Result, counted};
use crate::layers::norms::norm;
use crate::layers::recurrence::Gates;
use crate::models::language_model::Window;
use crate::params::Arena;
use crate::sys::files;
use crate::text::{Corpus, Inputs};
use crate::train::checkpoint::METRICS;
use crate::train::metrics;
use crate::train::plot::{Axes, Curve, OTHER, TRAIN, VALID, chart};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The result of an inspection.
#[derive(Serialize)]
pub struct Report {
    /// Number of parameters.
    pub parameters: usize,
    /// Each tensor.
    pub tensors: Vec<TensorReport>,
    /// ‖∂J/∂h‖ by layer: 0, 1, 2 … steps before the word with loss J.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient: Option<Vec<Vec<f64>>>,
    /// Mean gate activations of a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
    /// Gradient norms of individual tensors over the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// The reports of a run.
#[derive(Serialize)]
pub struct Training {
    /// The time of each report, in epochs.
    pub epochs: Vec<f64>,
    /// One norm per report: the mean since the previous one.
    pub norms: BTreeMap<String, Vec<f64>>,
}

impl Training {
    /// The mean of all reports.
    fn mean(norms: &[f64]) -> f64 {
        norms.iter().sum::<f64>() / norms.len().max(1) as f64
    }
}

/// A tensor.
#[derive(Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The square root of the sum of its squared elements.
    pub norm: f64,
    /// The square root of their mean.
    pub root_mean_square: f64,
    /// The largest absolute value.
    pub largest: f64,
    /// Singular values of each square block of a state-to-state matrix, in descending order; with a BLAS feature.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub singular_values: Vec<Vec<f32>>,
}

/// Inspects the model in `dir`; given a text also the states of a language model, through which gradients are
/// propagated back for `steps` words.
pub fn inspect(dir: &Path, text: Option<&Path>, steps: usize, inputs: &Inputs) -> Result<Report> {
    let mut checkpoint = saved::open(dir)?;
    match (Saved::read(&mut checkpoint)?, text) {
        (Saved::LanguageModel(_), Some(text)) => {
            let trained = TrainedLm::read(&mut checkpoint)?;
            let (gradient, gates) = watch(&trained, text, steps, inputs)?;
            Ok(Report { gradient: Some(gradient), gates: Some(gates), ..weights(&trained.w) })
        }
        (saved, Some(_)) => {
            let kind = saved.kind();
            let what = format!("is a {kind}: it has no states to propagate gradients through");
            Err(Error::Usage(format!("{} {what}", dir.display())))
        }
        (saved, None) => {
            let report = weights(any::read(&saved, &mut checkpoint)?.weights());
            let training = if matches!(saved, Saved::PseudoSiamese(_)) { training(dir)? } else { None };
            Ok(Report { training, ..report })
        }
    }
}

/// The reports of the run on individual tensors.
fn training(model: &Path) -> Result<Option<Training>> {
    let reports = metrics::read(&model.join(METRICS))?;
    let mut norms: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, norm) in reports.iter().flat_map(|report| &report.grad_norms) {
        norms.entry(name.clone()).or_default().push(*norm);
    }
    let epochs = reports.iter().map(|report| report.epoch).collect();
    Ok((!norms.is_empty()).then_some(Training { epochs, norms }))
}

/// Propagates gradients back from the ends of windows of the text, and averages their norms.
fn watch(trained: &TrainedLm, text: &Path, back: usize, inputs: &Inputs) -> Result<(Vec<Vec<f64>>, Gates)> {
    const WINDOWS: usize = 20;
    const LANES: usize = 16;
    let TrainedLm { model, w, vocabulary } = trained;
    let ids = Corpus::read_with(text, vocabulary, inputs)?.ids;
    let lanes = LANES;
    let (steps, length) = (back + 1, ids.len().saturating_sub(1) / lanes);
    if length < steps {
        let found = format!("{}, including line ends", counted(ids.len(), "word"));
        return Err(Error::input(text, 0, found, format!("at least {} for --steps {}", lanes * steps + 1, back)));
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
        let (words, targets) = (at(0), at(1));
        let data = Window { inputs: &words, targets: &targets, loss_from: steps - 1 };
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

fn weights(w: &Arena<f32>) -> Report {
    let layout = w.layout();
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

/// The singular values of each square block of a state-to-state matrix.
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
    /// Plots the norms of gradients over the steps back, or over the training, of the model in `dir`, to the SVG file
    /// `to`. Returns whether there are any.
    pub fn plot_gradients(&self, dir: &Path, to: &Path) -> Result<bool> {
        let (dir, colors) = (dir.display(), [TRAIN, VALID, OTHER]);
        let drawn = if let Some(norms) = &self.gradient {
            let names: Vec<String> = (1..=norms.len()).map(|l| format!("layer {l}")).collect();
            let curves: Vec<Curve> = (norms.iter().zip(&names).zip(colors.iter().cycle()))
                .map(|((norms, name), &color)| {
                    let points = norms.iter().enumerate().map(|(t, &norm)| (t as f64, norm)).collect();
                    Curve { name, color, dots: true, points }
                })
                .collect();
            let end = norms[0].len() as f64 - 1.0;
            let axes = Axes { x: "steps back in time", end, y: "norm of ∂J/∂h", log: true };
            chart(axes, &format!("Gradient norm over time steps back in {dir}"), &curves)
        } else if let Some(Training { epochs, norms }) = &self.training {
            let points = |norms: &[f64]| epochs.iter().copied().zip(norms.iter().copied()).collect();
            let curves: Vec<Curve> = (norms.iter().zip(colors))
                .map(|((name, norms), color)| Curve { name, color, dots: false, points: points(norms) })
                .collect();
            let end = epochs.last().copied().unwrap_or(1.0);
            let axes = Axes { x: "epochs", end, y: "norm of the gradient", log: true };
            chart(axes, &format!("Gradient norms of the two layers of {dir}"), &curves)
        } else {
            return Ok(false);
        };
        files::write(to, drawn.map_err(|e| Error::io(to, "drawing", std::io::Error::other(e)))?)?;
        Ok(true)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
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
            writeln!(out, "\nmean gradient norms since the previous line\n  epoch  {}", names.join("  "))?;
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
