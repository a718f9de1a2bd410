//! `wordmill train softmax`

use super::columns::ColumnOptions;
use super::memory::Needs;
use super::run::{RunOptions, Summary, absolute, options_file, to_toml};
use super::saved::{CONFIG, Saved, SoftmaxConfig as Config};
use super::softmax::{Examples, SoftmaxTask, Trained};
use super::values::{not_negative, share};
use crate::error::{Error, Result};
use crate::models::{SoftmaxRegression, softmax_regression};
use crate::params::Arena;
use crate::sys::signals::Signals;
use crate::text::Inputs;
use crate::text::table::Table;
use crate::train::progress::{Progress, Style};
use serde::Serialize;
use std::path::PathBuf;

/// Train a softmax classifier on a CSV file: numbers in columns, and the class of each row
///
/// The model is trained through its computation graph (wordmill graph softmax draws it). The file may be separated by commas,
/// semicolons, tabs, | or spaces; the first line is a header of names if none of its fields is a number, or if names stand above
/// columns of numbers. yes, true, no and false are the numbers 1 and 0, 1,234.5 is 1234.5, and 12 % is 0.12. A first column that only
/// numbers the rows is left out, as are lines above and notes below the table; whatever is chosen or left out is warned of.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("100")))]
#[command(mut_arg("lr", |arg| arg.default_value("0.05").help("Learning rate; sgd takes larger ones, as 0.5")))]
#[command(after_help = "\
Examples:
  wordmill train softmax --train iris.csv --label species --out iris
  wordmill train softmax --train train.csv --valid valid.csv --out classes --epochs 300
  wordmill train softmax --train train.csv --valid valid.csv --out classes --dropout-penalty 0.3 --l2 0
  wordmill train softmax --out classes --resume --epochs 600")]
pub struct SoftmaxOptions {
    /// Examples to learn from
    #[arg(long, value_name = "CSV")]
    train: PathBuf,
    /// Examples to measure cross-entropy on after every epoch, with columns of the same names
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    columns: ColumnOptions,
    /// Add what dropping a share P of the numbers would cost on average, to second order (Wager et al. 2013); no mask is drawn
    #[arg(long, default_value = "0", value_parser = share, value_name = "P")]
    dropout_penalty: f64,
    /// L2 penalty lambda/2 |W|^2
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 4] = ["train", "valid", "dropout-penalty", "l2"];

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
pub fn train_softmax(options: &SoftmaxOptions, inputs: &Inputs) -> Result<Summary> {
    let run = &options.run;
    run.check(options.valid.is_some())?;
    let mut progress = Progress::new(Style::choose(run.quiet)).without_perplexity().counting("examples");
    let signals = Signals::install()?;
    run.check_there(&[("train", Some(&options.train)), ("valid", options.valid.as_ref())])?;
    // The inputs are read before a model is replaced.
    let (train, columns) = options.columns.read(&options.train, inputs)?;
    let valid = options.valid.as_ref().map(|path| columns.read(path, &train.names, inputs)).transpose()?;
    let features = train.features.len();
    let config = Config {
        net: softmax_regression::Config {
            features,
            classes: train.names.len(),
            dropout_penalty: options.dropout_penalty,
        },
        columns,
        classes: train.names.clone(),
    };
    let net = SoftmaxRegression::new(config.net.clone());
    let bytes = |needs: Needs| SoftmaxTask::bytes(&net, train.len(), valid.as_ref().map(Table::len), needs);
    run.check_memory([None; 2], bytes, &mut progress, inputs)?;

    let toml = options.to_toml()?;
    let mut opened = run.open(&toml, &[&FIXED[..], &ColumnOptions::NAMES].concat(), inputs)?;
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
            let Config { net, columns, classes } = &before.config;
            if *net != config.net || *classes != config.classes || !config.columns.continues(columns) {
                let expected = "those that the run to be continued learns from";
                return Err(Error::input(&options.train, 0, "other examples", expected));
            }
            before.w
        }
    };
    let (train, valid) = (Examples::new(train), valid.map(Examples::new));
    let files = vec![(CONFIG, Saved::Softmax(config).to_json()), options_file(&toml)];
    let optimizer = run.optimizer(options.l2, net.layout());
    let mut task = SoftmaxTask::new(&net, train, valid, run.batch, run.seed, files);
    let data = [("train", Some(&options.train)), ("valid", options.valid.as_ref())];
    run.fit("softmax", &data, inputs, &mut task, w, optimizer, opened, (progress, signals))
}
