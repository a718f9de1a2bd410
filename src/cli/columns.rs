//! Rows of numbers with their classes, in CSV files: as softmax classifiers and pseudo-Siamese nets take them.

use crate::error::{Error, Result};
use crate::text::Inputs;
use crate::text::spans::Confusion;
use crate::text::table::{Reading, Table};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Options for the columns of a CSV file.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ColumnOptions {
    /// Column of the class in a CSV file: its name, or its number from 1 [default: the last]
    #[arg(long, value_name = "COLUMN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// What is done to the numbers of each column of a CSV file first [default: standard]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
}

/// What is done to the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Scale {
    /// Less the mean of the training examples, divided by their standard deviation; both are saved with the model
    Standard,
    /// Nothing
    None,
}

impl ColumnOptions {
    /// Whether any is given.
    pub fn given(&self) -> bool {
        self.label.is_some() || self.scale.is_some()
    }

    /// Reads a file to learn from, and what of it the model takes.
    ///
    /// # Errors
    /// Those of [`Table::read`], and a file of one class.
    pub fn read(&self, path: &Path, inputs: &Inputs) -> Result<(Table, Columns)> {
        let table = Table::read(path, Reading::Train(self.label.as_deref()), inputs)?;
        if table.names.len() < 2 {
            let found = format!("the class {} only", table.names.join(""));
            return Err(Error::input(path, 0, found, format!("two classes or more in column {}", table.label)));
        }
        let features = table.features.len();
        let (mean, deviation) = match self.scale.unwrap_or(Scale::Standard) {
            Scale::Standard => moments(&table),
            Scale::None => (vec![0.0; features], vec![1.0; features]),
        };
        let columns = Columns { features: table.features.clone(), label: table.label.clone(), mean, deviation };
        Ok((table, columns))
    }
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
}

impl Columns {
    /// Columns with numbers.
    pub fn count(&self) -> usize {
        self.features.len()
    }

    /// Reads a file that has these columns too, and no other classes than those named `names`.
    pub fn read(&self, path: &Path, names: &[String], inputs: &Inputs) -> Result<Table> {
        Table::read(path, Reading::Like { features: &self.features, label: &self.label, names }, inputs)
    }

    /// The numbers of a table, row after row: each less the mean, divided by the deviation.
    pub fn scaled(&self, table: &Table) -> Vec<f32> {
        let scale = self.mean.iter().zip(&self.deviation).cycle();
        table.values.iter().zip(scale).map(|(x, (mean, deviation))| ((x - mean) / deviation) as f32).collect()
    }

    /// Whether a model of such sizes, that of its input first, can be one of these columns.
    pub fn fit(&self, sizes: &[usize]) -> bool {
        let lengths = [self.features.len(), self.mean.len(), self.deviation.len()];
        let sane = sizes.iter().all(|size| (1..=1 << 20).contains(size));
        sane && lengths == [sizes[0]; 3] && self.deviation.iter().all(|&x| x > 0.0)
    }
}

/// How well a classifier does on the rows of a file.
pub struct Evaluation {
    /// By right class and class found.
    counts: Vec<Vec<u64>>,
    /// The sum of −ln of the probability of the right class, in nats.
    loss: f64,
}

impl Evaluation {
    /// Of no rows yet, by so many classes.
    pub fn new(classes: usize) -> Self {
        Evaluation { counts: vec![vec![0; classes]; classes], loss: 0.0 }
    }

    /// A row more: its class, the one that was found, and −ln of the right one's probability.
    pub fn add(&mut self, class: u32, found: usize, loss: f64) {
        self.counts[class as usize][found] += 1;
        self.loss += loss;
    }

    fn examples(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of examples whose class has the highest score.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, found)| found[class]).sum();
        right as f64 / self.examples() as f64
    }

    /// −ln of the probability of the right class, the mean, in nats.
    pub fn cross_entropy(&self) -> f64 {
        self.loss / self.examples() as f64
    }

    /// Which class was taken for which.
    pub fn confusion(&self, classes: &[String]) -> Confusion {
        Confusion { tags: classes.to_vec(), counts: self.counts.clone() }
    }

    /// As people read it.
    pub fn text(&self, classes: &[String]) -> String {
        format!(
            "accuracy {:.2} %, cross-entropy {:.5} nats, {} examples\n\n{}",
            100.0 * self.accuracy(),
            self.cross_entropy(),
            self.examples(),
            self.confusion(classes).table().trim_end()
        )
    }

    /// As JSON.
    pub fn report(&self) -> serde_json::Value {
        let Evaluation { counts, .. } = self;
        let (examples, accuracy, cross_entropy) = (self.examples(), self.accuracy(), self.cross_entropy());
        serde_json::json!({ "examples": examples, "accuracy": accuracy, "cross_entropy": cross_entropy, "counts": counts })
    }
}

/// Mean and standard deviation of each column; 1 in place of a deviation that is nothing but rounding.
fn moments(table: &Table) -> (Vec<f64>, Vec<f64>) {
    let (n, features) = (table.len() as f64, table.features.len());
    let mut mean = vec![0.0; features];
    for row in table.values.chunks_exact(features) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n);
    }
    let mut variance = vec![0.0; features];
    for row in table.values.chunks_exact(features) {
        let squares = row.iter().zip(&mean).map(|(x, mean)| (x - mean) * (x - mean));
        variance.iter_mut().zip(squares).for_each(|(variance, square)| *variance += square / n);
    }
    let deviation = |(variance, mean): (&f64, &f64)| Some(variance.sqrt()).filter(|d| *d > 1e-9 * mean.abs());
    let deviation = variance.iter().zip(&mean).map(|both| deviation(both).unwrap_or(1.0)).collect();
    (mean, deviation)
}
