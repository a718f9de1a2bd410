//! Rows of numbers with their classes, in CSV files: as softmax classifiers and pseudo-Siamese nets take them.

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
    /// Column of the class: its name, or its number from 1; without it one that looks like it.
    pub label: Option<String>,
    /// Columns that are left out: names or numbers, separated by commas.
    pub drop: Option<String>,
    /// Whether a first column that only numbers the rows is kept.
    pub keep_index: bool,
    /// Whether the numbers are taken as they are, not scaled.
    pub unscaled: bool,
    /// How the file is written.
    pub style: Style,
}

impl Choice {
    /// Reads a file to learn from, and what of it the model takes. The numbers of the table are scaled.
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
            let expected = format!("two classes or more in column {}; --label COLUMN names another", table.label);
            return Err(Error::input(path, 0, found, expected));
        }
        let features = table.features.len();
        let (means, deviations, constant) = moments(&table);
        if !constant.is_empty() {
            let names: Vec<&str> = constant.iter().map(|&column| table.features[column].as_str()).collect();
            let found = format!("{} of one number only: {}", counted(names.len(), "column"), list(&names, 5));
            inputs.warn(Notice::of_file(path, 0, found).done("kept, though nothing is learned from them"))?;
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

/// Refuses a table of so many bytes, those of so many rows (0: not known), that there is no room for.
fn room(bytes: usize, rows: usize, inputs: &Inputs) -> Result<()> {
    let predicted = memory::predicted_peak(bytes);
    let fits = |room: usize| {
        let free = room.saturating_sub(predicted - bytes.min(predicted));
        let fitting = (rows as f64 * free as f64 / bytes.max(1) as f64) as usize;
        if fitting > 0 { vec![format!("the first {}", counted(fitting, "row"))] } else { Vec::new() }
    };
    memory::check("reading the table", predicted, fits, inputs)
}

/// What a model takes of a CSV file: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Names of the columns with numbers.
    features: Vec<String>,
    /// Name of the column with the class.
    label: String,
    /// What is taken from the numbers of each column.
    mean: Vec<f64>,
    /// What they are divided by then.
    deviation: Vec<f64>,
    /// What is taken for numbers that are missing, where it is not `mean`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fill: Vec<f64>,
    /// What becomes of them.
    #[serde(default = "before_missing")]
    missing: Missing,
    /// Whether a comma is the decimal point.
    #[serde(default)]
    decimal_comma: bool,
    /// Whether the first row is one of names, if an option said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<bool>,
}

/// What became of missing numbers before models said so.
fn before_missing() -> Missing {
    Missing::Fail
}

impl Columns {
    /// Columns with numbers.
    pub fn count(&self) -> usize {
        self.features.len()
    }

    /// Reads a file that has these columns too; classes other than those named `names` have the numbers behind theirs. The
    /// numbers of the table are scaled.
    pub fn read(&self, path: &Path, names: &[String], inputs: &Inputs) -> Result<Table> {
        let reading = Reading::Like { features: &self.features, label: &self.label, names, base: &self.mean };
        let Columns { decimal_comma, missing, header, .. } = *self;
        let style = Style { decimal_comma, missing, header, missing_given: true };
        let mut table = Table::read(path, reading, style, &|bytes, rows| room(bytes, rows, inputs), inputs)?;
        self.scale(&mut table);
        Ok(table)
    }

    /// Takes the mean from the numbers of a table, divides them by the deviation, and fills in those that are missing.
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

    /// Whether a run on these columns goes on with what one on `other` began: means may differ by rounding, as between versions of
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

    /// Whether a model of such sizes, that of its input first, can be one of these columns.
    pub fn fit(&self, sizes: &[usize]) -> bool {
        let fill = if self.fill.is_empty() { sizes[0] } else { self.fill.len() };
        let lengths = [self.features.len(), self.mean.len(), self.deviation.len(), fill];
        let sane = sizes.iter().all(|size| (1..=1 << 20).contains(size));
        sane && lengths == [sizes[0]; 4] && self.deviation.iter().all(|&x| x > 0.0)
    }
}

/// How well a classifier does on the rows of a file.
pub struct Evaluation {
    /// Names of the classes, those that the classifier knows first.
    classes: Vec<String>,
    /// By right class and class found.
    counts: Vec<Vec<u64>>,
    /// The sum of −ln of the probability of the right class, in nats …
    loss: f64,
    /// … over the rows whose class is known.
    known: u64,
}

impl Evaluation {
    /// Of no rows yet, by such classes.
    pub fn new(classes: &[String]) -> Self {
        let counts = vec![vec![0; classes.len()]; classes.len()];
        Evaluation { classes: classes.to_vec(), counts, loss: 0.0, known: 0 }
    }

    /// A row more: its class, the one that was found, and −ln of the right one's probability if the classifier knows it.
    pub fn add(&mut self, class: u32, found: usize, loss: Option<f64>) {
        self.counts[class as usize][found] += 1;
        self.loss += loss.unwrap_or(0.0);
        self.known += u64::from(loss.is_some());
    }

    fn examples(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of examples whose class has the highest score.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, found)| found[class]).sum();
        right as f64 / self.examples() as f64
    }

    /// −ln of the probability of the right class, the mean over the rows whose class is known, in nats.
    pub fn cross_entropy(&self) -> f64 {
        self.loss / self.known as f64
    }

    /// Which class was taken for which.
    pub fn confusion(&self) -> Confusion {
        Confusion { tags: self.classes.clone(), counts: self.counts.clone() }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let examples = self.examples();
        let unknown = match examples - self.known {
            0 => String::new(),
            n => format!(", {n} of them of classes that the model does not know"),
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

/// Mean and standard deviation of the numbers that are there in each column; 1 in place of a deviation that is nothing but rounding, and
/// the columns where that is so.
fn moments(table: &Table) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
    let features = table.features.len();
    let mut count = vec![0u64; features];
    // Of the differences from the table's base.
    let mut mean = vec![0.0; features];
    for row in table.values.chunks_exact(features) {
        for ((sum, count), &x) in mean.iter_mut().zip(&mut count).zip(row) {
            if !x.is_nan() {
                *sum += f64::from(x);
                *count += 1;
            }
        }
    }
    // A column without a number is left out before.
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
