//! `wordmill train softmax`

use super::columns::ColumnOptions;
use super::inputs::InputOptions;
use super::run::{ExampleFlags, RunFlags, TrainFlags};
use super::values::{not_negative, share};
use crate::error::{Result, quoted};
use crate::tasks::run::Summary;
use crate::tasks::softmax::{Plan, train};
use crate::text::Inputs;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;

/// Train a softmax classifier on a CSV file with numeric columns and a class in each row
///
/// The model is trained through its computation graph (wordmill graph softmax draws it). The file may be separated by commas,
/// semicolons, tabs, | or spaces; the first line is a header if none of its fields is a number, or if names are above
/// columns of numbers. yes, true, no and false are the numbers 1 and 0, 1,234.5 is 1234.5, and 12 % is 0.12. A first
/// column that only numbers the rows is ignored, as are lines above and notes below the table; a warning reports every
/// such choice.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("100")))]
#[command(mut_arg("lr", |arg| arg.default_value("0.05").help("Learning rate; sgd needs larger values, such as 0.5")))]
#[command(after_help = "\
Examples:
  wordmill train softmax --train iris.csv --label species --out iris
  wordmill train softmax --train train.csv --valid valid.csv --out classes --epochs 300
  wordmill train softmax --train train.csv --valid valid.csv --out classes --dropout-penalty 0.3 --l2 0
  wordmill train softmax --out classes --resume --epochs 600")]
pub struct SoftmaxFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: SoftmaxFixed,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunFlags,
}

/// Options that a resumed run must share with the run it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SoftmaxFixed {
    /// Training examples
    #[arg(long, value_name = "CSV")]
    train: PathBuf,
    /// Validation examples, with columns of the same names; their cross-entropy is computed after every epoch
    #[arg(long, value_name = "CSV")]
    valid: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    columns: ColumnOptions,
    /// Add the expected penalty of dropping a fraction P of the inputs, to second order (Wager et al. 2013); no masks
    /// are sampled
    #[arg(long, default_value = "0", value_parser = share, value_name = "P")]
    dropout_penalty: f64,
    /// L2 penalty lambda/2 |W|^2
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
}

impl TrainFlags for SoftmaxFlags {
    type Fixed = SoftmaxFixed;
    type Plan = Plan;
    const TRAIN: fn(&Plan, &Inputs, Progress) -> Result<Summary> = train;

    fn parts(&self) -> (&SoftmaxFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        Ok(Plan {
            valid: fixed.valid.clone(),
            columns: fixed.columns.choice(),
            dropout_penalty: fixed.dropout_penalty,
            run: fixed.examples.plan(fixed.l2, &self.run, self)?,
            ..Plan::new(&fixed.train, &self.run.out)
        })
    }

    fn next(&self) -> String {
        let file = self.fixed.valid.as_ref().unwrap_or(&self.fixed.train);
        format!("wordmill eval {} {}", quoted(&self.run.out), quoted(file))
    }
}
