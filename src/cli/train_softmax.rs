//! `wordmill train softmax`

use super::memory::Needs;
use super::run::{RunOptions, Summary, absolute, options_file, to_toml};
use super::saved::{CONFIG, Saved, SoftmaxConfig as Config};
use super::softmax::{Examples, SoftmaxTask, Trained};
use super::values::not_negative;
use crate::error::{Error, Result};
use crate::models::{SoftmaxRegression, softmax_regression};
use crate::params::Arena;
use crate::text::table::{Reading, Table};
use crate::train::progress::{Progress, Style};
use crate::train::signals::Signals;
use serde::Serialize;
use std::path::PathBuf;

/// Train a softmax classifier on a CSV file: numbers in columns, and the class of each row
///
/// The model is trained through its computation graph (wordmill graph softmax draws it). The first line is a header of names if
/// none of its fields is a number.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("100")))]
#[command(mut_arg("lr", |arg| arg.default_value("0.05").help("Learning rate; sgd takes larger ones, as 0.5")))]
#[command(after_help = "\
Examples:
  wordmill train softmax --train iris.csv --label species --out iris
  wordmill train softmax --train train.csv --valid valid.csv --out classes --epochs 300
  wordmill train softmax --out classes --resume --epochs 600")]
pub struct SoftmaxOptions {
    /// Examples to learn from
    #[arg(long, value_name = "CSV")]
    train: PathBuf,
    /// Examples to measure cross-entropy on after every epoch, with columns of the same names
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    /// Column of the class: its name, or its number from 1 [default: the last]
    #[arg(long, value_name = "COLUMN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// What is done to the numbers of each column first
    #[arg(long, default_value = "standard", value_enum)]
    scale: Scale,
    /// L2 penalty lambda/2 |W|^2
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
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

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 5] = ["train", "valid", "label", "scale", "l2"];

impl SoftmaxOptions {
    /// For `--config`, and to be read again on resuming.
    fn to_toml(&self) -> Result<String> {
        to_toml(&SoftmaxOptions {
            train: absolute(&self.train)?,
            valid: self.valid.as_deref().map(absolute).transpose()?,
            run: self.run.saved()?,
            ..self.clone()
        })
    }

    /// What to try with the model.
    pub fn next(&self) -> String {
        let file = self.valid.as_ref().unwrap_or(&self.train);
        format!("wordmill eval {} {}", self.run.out.display(), file.display())
    }
}

/// Trains, inside a pool of threads.
pub fn train_softmax(options: &SoftmaxOptions) -> Result<Summary> {
    let run = &options.run;
    run.check()?;
    let mut progress = Progress::new(Style::choose(run.quiet)).without_perplexity().counting("examples");
    let signals = Signals::install()?;
    // The inputs are read before a model is replaced.
    let train = Table::read(&options.train, Reading::Train(options.label.as_deref()))?;
    if train.names.len() < 2 {
        let found = format!("the class {} only", train.names.join(""));
        return Err(Error::input(&options.train, 0, found, format!("two classes or more in column {}", train.label)));
    }
    let like = Reading::Like { features: &train.features, label: &train.label, names: &train.names };
    let valid = options.valid.as_ref().map(|path| Table::read(path, like)).transpose()?;
    let features = train.features.len();
    let (mean, deviation) = match options.scale {
        Scale::Standard => moments(&train),
        Scale::None => (vec![0.0; features], vec![1.0; features]),
    };
    let config = Config {
        net: softmax_regression::Config { features, classes: train.names.len() },
        features: train.features.clone(),
        label: train.label.clone(),
        classes: train.names.clone(),
        mean,
        deviation,
    };
    let net = SoftmaxRegression::new(config.net.clone());
    let bytes = |needs: Needs| SoftmaxTask::bytes(&net, train.len(), valid.as_ref().map(Table::len), needs);
    run.check_memory(None, bytes, &mut progress)?;

    let toml = options.to_toml()?;
    let mut opened = run.open(&toml, &FIXED, &mut progress)?;
    progress.say(&format!(
        "{} examples of {features} numbers, {} classes, {} parameters",
        train.len(),
        train.names.len(),
        net.layout().parameters()
    ));
    let w = match &mut opened.checkpoint {
        // The loss has one lowest place: the way there may begin anywhere, also where every class is equally likely.
        None => Arena::zeros(net.layout()),
        Some(checkpoint) => {
            let before = Trained::read(checkpoint)?;
            if before.config != config {
                let expected = "those that the run to be continued learns from";
                return Err(Error::input(&options.train, 0, "other examples", expected));
            }
            before.w
        }
    };
    let examples = |table: &Table| Examples::new(table, &config);
    let (train, valid) = (examples(&train), valid.as_ref().map(examples));
    let files = vec![(CONFIG, Saved::Softmax(config).to_json()), options_file(&toml)];
    let optimizer = run.optimizer(options.l2, net.layout());
    let mut task = SoftmaxTask::new(&net, train, valid, run.batch, run.seed, files);
    run.fit("softmax", &mut task, w, optimizer, opened, (progress, signals))
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
