//! Reports of a training run: `metrics.jsonl`, one JSON object per line, and the curves drawn from it.

use super::checkpoint::{CURVES, METRICS, PARTIAL};
use super::plot::{Axes, Curve, OTHER, SIZE, TRAIN, VALID, panel, readable};
use super::schedule::{Measure, Score};
use crate::error::{Error, Result};
use crate::math::exp;
use plotters::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The metrics of training at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Epochs over the training data, including the fraction of the current one: 1.5 is the middle of the second epoch.
    pub epoch: f64,
    /// Optimizer steps made.
    pub step: u64,
    /// Target words trained on, over all epochs.
    pub tokens: u64,
    /// Training time in seconds, over all runs of this model.
    pub seconds: f64,
    /// Target words/s since the last report.
    pub words_per_second: f64,
    /// Mean loss per target word, in nats, since the last report.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_loss: f64,
    /// Perplexity on the validation text, if it was evaluated for this report.
    #[serde(serialize_with = "finite_or_null")]
    pub valid_perplexity: Option<f64>,
    /// F1 of entities on the validation text, 0 to 1, if it was evaluated for this report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_f1: Option<f64>,
    /// Any other measure on the validation data, if it was evaluated for this report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<Score>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean norm of the gradient, before clipping, since the last report.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// The same for individual tensors, if any are watched.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grad_norms: BTreeMap<String, f64>,
}

/// JSON has neither NaN nor infinity: they are written as null.
fn null_is_nan<'de, D: Deserializer<'de>>(json: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or(f64::NAN))
}

fn finite_or_null<S: serde::Serializer>(value: &Option<f64>, json: S) -> std::result::Result<S::Ok, S::Error> {
    value.filter(|value| value.is_finite()).serialize(json)
}

/// The reports of a model directory, in memory and in its `metrics.jsonl`.
#[derive(Debug)]
pub struct Metrics {
    dir: PathBuf,
    file: File,
    reports: Vec<Report>,
    /// Warnings about damaged lines, which were skipped.
    pub warnings: Vec<String>,
    /// When the curves were drawn last, and how long that took.
    drawn: Option<(Instant, Duration)>,
}

impl Metrics {
    /// Creates metrics without reports in the model directory `dir`.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self> {
        Self::start(dir.as_ref(), Vec::new(), Vec::new())
    }

    /// Resumes after `step`: later reports belong to steps that will be repeated, and are dropped. So are damaged lines, with a
    /// warning: training does not depend on them.
    pub fn resume(dir: impl AsRef<Path>, step: u64) -> Result<Self> {
        let (mut reports, mut warnings) = (Vec::new(), Vec::new());
        for line in lines(&dir.as_ref().join(METRICS))? {
            match line {
                Ok(report) if report.step <= step => reports.push(report),
                Ok(_) => {}
                Err(e) => warnings.push(format!("{e}; the line is skipped")),
            }
        }
        Self::start(dir.as_ref(), reports, warnings)
    }

    /// Atomically replaces the file by one that contains exactly `reports`.
    fn start(dir: &Path, reports: Vec<Report>, warnings: Vec<String>) -> Result<Self> {
        let lines: String = reports.iter().map(line).collect();
        let path = dir.join(METRICS);
        replace(&path, lines.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| Error::io(&path, "opening", e))?;
        Ok(Metrics { dir: dir.to_owned(), file, reports, warnings, drawn: None })
    }

    /// Adds a report. It is in the file when this returns, so that a killed run loses none.
    pub fn append(&mut self, report: Report) -> Result<()> {
        // In one write: the file then contains the whole report or, on a full disk, a truncated last line.
        let written = self.file.write_all(line(&report).as_bytes());
        written.map_err(|e| Error::io(self.dir.join(METRICS), "writing", e))?;
        self.reports.push(report);
        Ok(())
    }

    /// All reports so far, in order.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Draws the curves of all reports to `curves.svg`; `unit` is the unit of targets. Unless it is the `last` time,
    /// drawing is skipped if it would take more than a small fraction of the run.
    pub fn draw(&mut self, unit: &str, last: bool) -> Result<()> {
        let start = Instant::now();
        if self.drawn.is_some_and(|(when, took)| !last && start - when < 50 * took) {
            return Ok(());
        }
        let path = self.dir.join(CURVES);
        let svg = curves(&self.reports, unit).map_err(|e| Error::io(&path, "drawing", std::io::Error::other(e)))?;
        replace(&path, svg.as_bytes())?;
        self.drawn = Some((Instant::now(), start.elapsed()));
        Ok(())
    }
}

fn line(report: &Report) -> String {
    // A plain struct of numbers can always be written as JSON.
    serde_json::to_string(report).expect("a report is JSON") + "\n"
}

/// Replaces the file at `path` by one with the given contents: readers see either the old or the new one.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!("{PARTIAL}{name}"));
    let written = fs::write(&partial, contents).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // What cannot be removed now is left to the next run's cleanup.
        _ = fs::remove_file(&partial);
    }
    written.map_err(|e| Error::io(path, "writing", e))
}

/// The reports in the file at `path`; none if there is no such file. A truncated last line, as left by a killed run, is ignored.
///
/// # Errors
/// A file that cannot be read, and the first damaged line.
pub fn read(path: &Path) -> Result<Vec<Report>> {
    lines(path)?.into_iter().collect()
}

/// The lines of the file at `path`, except a truncated last one: each is a report or an error.
fn lines(path: &Path) -> Result<Vec<Result<Report>>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(path, "reading", e)),
    };
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
        match serde_json::from_slice(line) {
            Ok(report) => all.push(Ok(report)),
            Err(_) if !line.ends_with(b"\n") => {}
            Err(e) => all.push(Err(Error::input(path, number, e.to_string(), "a report"))),
        }
    }
    Ok(all)
}

/// The drawing, as SVG: at the top perplexity on the training and validation text (or the loss, and the measure on the validation
/// data), below speed and learning rate.
fn curves(reports: &[Report], unit: &str) -> std::result::Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let points = |value: &dyn Fn(&Report) -> Option<f64>| -> Vec<(f64, f64)> {
        let all = reports.iter().filter_map(|report| Some((report.epoch, value(report)?)));
        all.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let train = points(&|report| Some(exp(report.train_loss)));
    let valid = points(&|report| report.valid_perplexity.filter(|perplexity| *perplexity > 0.0));
    let score = |report: &Report| report.valid_f1.map(Score::f1).or(report.valid);
    let other = points(&|report| score(report).map(|score| score.value));
    let measure = reports.iter().find_map(score).map_or(Measure::F1, |score| score.measure);
    let loss = points(&|report| Some(report.train_loss));
    let speed = points(&|report| Some(report.words_per_second));
    let rate = points(&|report| Some(report.learning_rate));
    let end = reports.iter().map(|report| report.epoch).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let end = if end > 0.0 { end } else { 1.0 };
    let epochs = |y, log| Axes { x: "epochs", end, y, log };
    let title = match reports.last() {
        Some(last) => {
            let best = valid.iter().map(|(_, y)| *y).reduce(f64::min);
            let best = best.map_or(String::new(), |best| format!(", best validation perplexity {best:.2}"));
            let other = other.iter().map(|&(_, value)| Score { measure, value }).reduce(Score::better);
            let best = other.map_or(best, |score| format!(", best validation {score}"));
            format!("{} steps, {} {unit}{best}", readable(last.step as f64), readable(last.tokens as f64))
        }
        None => "no reports yet".to_owned(),
    };

    let (measured, a_second) = (format!("{measure} on the validation data"), format!("{unit}/s"));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.margin(10, 10, 10, 18);
        let (above, below) = root.split_vertically(460);
        let (left, right) = below.split_horizontally(SIZE.0 / 2 - 14);
        if other.is_empty() {
            let curves = [
                Curve { name: "training", color: TRAIN, dots: false, points: train },
                Curve { name: "validation", color: VALID, dots: true, points: valid },
            ];
            panel(&above, epochs("perplexity", true), Some(&title), &curves)?;
        } else {
            let (score_side, loss_side) = above.split_horizontally(SIZE.0 / 2 - 14);
            let other = [Curve { name: "validation", color: VALID, dots: true, points: other }];
            panel(&score_side, epochs(&measured, false), Some(&title), &other)?;
            let loss = [Curve { name: "training", color: TRAIN, dots: false, points: loss }];
            panel(&loss_side, epochs("mean loss", true), Some(" "), &loss)?;
        }
        let speed = [Curve { name: &a_second, color: OTHER, dots: false, points: speed }];
        panel(&left, epochs(&a_second, false), None, &speed)?;
        let rate = [Curve { name: "learning rate", color: OTHER, dots: false, points: rate }];
        panel(&right, epochs("learning rate", false), None, &rate)?;
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64, train_loss: f64, valid_perplexity: Option<f64>) -> Report {
        Report {
            epoch: step as f64 / 100.0,
            step,
            tokens: step * 640,
            seconds: step as f64 * 0.02,
            words_per_second: 31_000.0 + 900.0 * (step as f64 * 0.7).sin(),
            train_loss,
            valid_perplexity,
            valid_f1: None,
            valid: None,
            learning_rate: 0.001 * (1.0 - step as f64 / 1200.0),
            grad_norm: 1.25,
            grad_norms: BTreeMap::new(),
        }
    }

    #[test]
    fn a_report_is_one_line_with_the_documented_keys() {
        let text = line(&report(50, 5.5, None));
        let keys = "{\"epoch\":0.5,\"step\":50,\"tokens\":32000,\"seconds\":1.0,\"words_per_second\":";
        assert!(text.starts_with(keys) && text.ends_with("}\n"), "{text}");
        assert!(text.contains("\"train_loss\":5.5,\"valid_perplexity\":null,\"learning_rate\":"), "{text}");
        // Values that JSON cannot represent are read back as NaN, not as an error.
        let back: Report = serde_json::from_str(&line(&report(1, f64::INFINITY, Some(f64::INFINITY)))).unwrap();
        assert!(back.train_loss.is_nan() && back.valid_perplexity.is_none());
    }

    /// `WORDMILL_TEST_CURVES` names a directory in which the drawings are kept for inspection.
    #[test]
    fn curves_are_drawn_whatever_the_reports() {
        let falling = |step: u64| 4.6 + 4.4 * (-(step as f64) / 150.0).exp() + 0.03 * (step as f64).sin();
        let long = (1..=100u64).map(|n| n * 10).map(|step| {
            let valid = step.is_multiple_of(100).then(|| (falling(step) + 0.12).exp());
            report(step, falling(step), valid)
        });
        let spoilt = [report(1, f64::NAN, Some(f64::INFINITY)), report(2, 5.0, None), report(3, 800.0, Some(0.0))];
        let cases: [(&str, Vec<Report>); 5] = [
            ("long", long.collect()),
            ("none", vec![]),
            ("one", vec![report(1, 9.0, Some(8000.0))]),
            ("spoilt", spoilt.to_vec()),
            ("flat", (1..5).map(|step| report(step, 5.0, Some(148.4))).collect()),
        ];
        let tagger = (1..5).map(|step| Report { valid_f1: Some(0.1 * step as f64), ..report(step, 0.5, None) });
        let svg = curves(&tagger.collect::<Vec<_>>(), "words").unwrap();
        assert!(svg.contains("best validation F1 40.00 %") && !svg.contains("perplexity"));
        // A loss of zero has no logarithm.
        let nothing = [0.5, 0.1, 0.0, 0.0].map(|loss| Report { valid_f1: Some(0.5), ..report(1, loss, None) });
        assert!(curves(&nothing, "words").unwrap().contains("mean loss"));
        for (name, reports) in cases {
            let svg = curves(&reports, "words").unwrap();
            for text in ["perplexity", "epochs", "learning rate", "words/s"] {
                assert!(svg.contains(text), "{name} lacks {text}");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            if let Some(dir) = std::env::var_os("WORDMILL_TEST_CURVES") {
                fs::write(Path::new(&dir).join(format!("{name}.svg")), svg).unwrap();
            }
        }
    }
}
