//! Rows of numbers with their classes, in CSV files: the inputs of softmax classifiers and pseudo-Siamese networks.

use super::memory;
use crate::error::{Error, Result, counted};
use crate::notices::Notice;
use crate::text::spans::Confusion;
use crate::text::table::{Missing, Reading, Style, Table};
use crate::text::{Inputs, list};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which columns of a CSV file a model learns from, and how they are read.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Column of the class: its name, or its number from 1; detected if not given.
    pub label: Option<String>,
    /// Columns to ignore: names or numbers, separated by commas.
    pub drop: Option<String>,
    /// Whether a first column that only numbers the rows is kept.
    pub keep_index: bool,
    /// Whether the numbers are used as they are, not scaled.
    pub unscaled: bool,
    /// The format of the file.
    pub style: Style,
}

impl Choice {
    /// Reads a training file and determines the columns that the model uses. The numbers of the table are scaled.
    ///
    /// # Errors
    /// Those of [`Table::read`], and a file of one class.
    pub fn read(&self, path: &Path, inputs: &Inputs) -> Result<(Table, Columns)> {
        let reading = Reading::Train {
            label: self.label.as_deref(),
            drop: self.drop.as_deref(),
            keep_index: self.keep_index,
            centred: !self.unscaled,
        };
        let mut table = Table::read(path, reading, self.style, &|bytes, rows| room(bytes, rows, inputs), inputs)?;
        if table.names.len() < 2 {
            let found = format!("the class {} only", table.names.join(""));
            let expected = format!("at least two classes in column {}; --label COLUMN selects another", table.label);
            return Err(Error::input(path, 0, found, expected));
        }
        let features = table.features.len();
        let (means, deviations, constant) = moments(&table);
        if !constant.is_empty() {
            let names: Vec<&str> = constant.iter().map(|&column| table.features[column].as_str()).collect();
            let found = format!("{} with a single value: {}", counted(names.len(), "column"), list(&names, 5));
            inputs.warn(Notice::of_file(path, 0, found).done("kept, although nothing can be learned from them"))?;
        }
        let (mean, deviation, fill) = if self.unscaled {
            (vec![0.0; features], vec![1.0; features], means)
        } else {
            (means, deviations, Vec::new())
        };
        let Style { decimal_comma, missing, header, .. } = self.style;
        let (features, label) = (table.features.clone(), table.label.clone());
        let columns = Columns { features, label, mean, deviation, fill, missing, decimal_comma, header };
        columns.scale(&mut table);
        Ok((table, columns))
    }
}

/// Rejects a table of `bytes` bytes and `rows` rows (0: not known) that does not fit in memory.
fn room(bytes: usize, rows: usize, inputs: &Inputs) -> Result<()> {
    let predicted = memory::predicted_peak(bytes);
    let fits = |room: usize| {
        let free = room.saturating_sub(predicted - bytes.min(predicted));
        let fitting = (rows as f64 * free as f64 / bytes.max(1) as f64) as usize;
        if fitting > 0 { vec![format!("the first {}", counted(fitting, "row"))] } else { Vec::new() }
    };
    memory::check("reading the table", predicted, fits, inputs)
}

/// The columns of a CSV file that a model uses: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Names of the numeric columns.
    features: Vec<String>,
    /// Name of the column with the class.
    label: String,
    /// What is subtracted from the numbers of each column.
    mean: Vec<f64>,
    /// What they are then divided by.
    deviation: Vec<f64>,
    /// The value of missing numbers, if it is not `mean`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fill: Vec<f64>,
    /// How missing numbers are handled.
    #[serde(default = "before_missing")]
    missing: Missing,
    /// Whether a comma is the decimal point.
    #[serde(default)]
    decimal_comma: bool,
    /// Whether the first row is a header, if set by an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<bool>,
}

/// How missing numbers were handled before this was saved with the model.
fn before_missing() -> Missing {
    Missing::Fail
}

impl Columns {
    /// The number of numeric columns.
    pub fn count(&self) -> usize {
        self.features.len()
    }

    /// Reads a file that also has these columns; classes other than those in `names` are numbered after them. The numbers of the table
    /// are scaled.
    pub fn read(&self, path: &Path, names: &[String], inputs: &Inputs) -> Result<Table> {
        let reading = Reading::Like { features: &self.features, label: &self.label, names, base: &self.mean };
        let Columns { decimal_comma, missing, header, .. } = *self;
        let style = Style { decimal_comma, missing, header, missing_given: true };
        let mut table = Table::read(path, reading, style, &|bytes, rows| room(bytes, rows, inputs), inputs)?;
        self.scale(&mut table);
        Ok(table)
    }

    /// Subtracts the mean from the numbers of a table, divides them by the deviation, and fills in missing ones.
    fn scale(&self, table: &mut Table) {
        let fill = if self.fill.is_empty() { &self.mean } else { &self.fill };
        let columns: Vec<[f64; 3]> = (0..self.features.len())
            .map(|i| {
                let (mean, deviation) = (self.mean[i], self.deviation[i]);
                [table.base[i] - mean, deviation, (fill[i] - mean) / deviation]
            })
            .collect();
        for row in table.values.chunks_exact_mut(columns.len()) {
            for (x, [shift, deviation, fill]) in row.iter_mut().zip(&columns) {
                let scaled = if x.is_nan() { *fill } else { (f64::from(*x) + shift) / deviation };
                *x = scaled as f32;
            }
        }
        table.base.fill(0.0);
    }

    /// Whether a run on these columns can resume one on `other`: means may differ by rounding, as between versions of
    /// this program.
    pub fn continues(&self, other: &Columns) -> bool {
        let near = |a: &[f64], b: &[f64]| {
            a.len() == b.len()
                && a.iter().zip(b).zip(&self.deviation).all(|((a, b), deviation)| (a - b).abs() <= 1e-5 * deviation)
        };
        self.features == other.features
            && self.label == other.label
            && near(&self.mean, &other.mean)
            && near(&self.deviation, &other.deviation)
    }

    /// Whether a model of these sizes, the input size first, fits these columns.
    pub fn fit(&self, sizes: &[usize]) -> bool {
        let fill = if self.fill.is_empty() { sizes[0] } else { self.fill.len() };
        let lengths = [self.features.len(), self.mean.len(), self.deviation.len(), fill];
        let sane = sizes.iter().all(|size| (1..=1 << 20).contains(size));
        sane && lengths == [sizes[0]; 4] && self.deviation.iter().all(|&x| x > 0.0)
    }
}

/// The evaluation of a classifier on the rows of a file.
pub struct Evaluation {
    /// Names of the classes, those that the classifier knows first.
    classes: Vec<String>,
    /// Indexed by true class and predicted class.
    counts: Vec<Vec<u64>>,
    /// The sum of −ln of the probability of the true class, in nats, over the rows whose class is known.
    loss: f64,
    /// Number of rows whose class is known.
    known: u64,
}

impl Evaluation {
    /// Creates an evaluation without rows for these classes.
    pub fn new(classes: &[String]) -> Self {
        let counts = vec![vec![0; classes.len()]; classes.len()];
        Evaluation { classes: classes.to_vec(), counts, loss: 0.0, known: 0 }
    }

    /// Adds a row: its class, the predicted class, and −ln of the probability of the true class if the classifier knows it.
    pub fn add(&mut self, class: u32, found: usize, loss: Option<f64>) {
        self.counts[class as usize][found] += 1;
        self.loss += loss.unwrap_or(0.0);
        self.known += u64::from(loss.is_some());
    }

    fn examples(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The fraction of examples whose true class has the highest score.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, found)| found[class]).sum();
        right as f64 / self.examples() as f64
    }

    /// Mean −ln of the probability of the true class, in nats, over the rows whose class is known.
    pub fn cross_entropy(&self) -> f64 {
        self.loss / self.known as f64
    }

    /// The confusion matrix of the classes.
    pub fn confusion(&self) -> Confusion {
        Confusion { tags: self.classes.clone(), counts: self.counts.clone() }
    }

    /// As readable text.
    pub fn text(&self) -> String {
        let examples = self.examples();
        let unknown = match examples - self.known {
            0 => String::new(),
            n => format!(", {n} of them with classes that the model does not know"),
        };
        format!(
            "accuracy {:.2} %, cross-entropy {:.5} nats, {}{unknown}\n\n{}",
            100.0 * self.accuracy(),
            self.cross_entropy(),
            counted(examples, "example"),
            self.confusion().table().trim_end()
        )
    }

    /// As JSON.
    pub fn report(&self) -> serde_json::Value {
        let Evaluation { classes, counts, known, .. } = self;
        let (examples, accuracy, cross_entropy) = (self.examples(), self.accuracy(), self.cross_entropy());
        serde_json::json!({
            "examples": examples, "unknown_class": examples - known, "accuracy": accuracy, "cross_entropy": cross_entropy,
            "classes": classes, "counts": counts
        })
    }
}

/// Mean and standard deviation of the numbers present in each column, with 1 in place of a deviation that is only
/// rounding error, and the columns where that is so.
fn moments(table: &Table) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
    let features = table.features.len();
    let mut count = vec![0u64; features];
    // Computed from differences to the table's base.
    let mut mean = vec![0.0; features];
    for row in table.values.chunks_exact(features) {
        for ((sum, count), &x) in mean.iter_mut().zip(&mut count).zip(row) {
            if !x.is_nan() {
                *sum += f64::from(x);
                *count += 1;
            }
        }
    }
    // Columns without a number have been left out.
    mean.iter_mut().zip(&count).for_each(|(sum, &n)| *sum /= n as f64);
    let mut variance = vec![0.0; features];
    for row in table.values.chunks_exact(features) {
        for ((sum, mean), &x) in variance.iter_mut().zip(&mean).zip(row) {
            if !x.is_nan() {
                *sum += (f64::from(x) - mean) * (f64::from(x) - mean);
            }
        }
    }
    mean.iter_mut().zip(&table.base).for_each(|(mean, base)| *mean += base);
    variance.iter_mut().zip(&count).for_each(|(sum, &n)| *sum /= n as f64);
    let mut constant = Vec::new();
    for (column, (variance, mean)) in variance.iter_mut().zip(&mean).enumerate() {
        *variance = variance.sqrt();
        if variance.is_nan() || *variance <= 1e-9 * mean.abs() {
            *variance = 1.0;
            constant.push(column);
        }
    }
    (mean, variance, constant)
}
