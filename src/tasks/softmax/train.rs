//! Training of a softmax classifier on a table of numbers.

use super::{Examples, SoftmaxTask, TrainedSoftmax};
use crate::blas::Precision;
use crate::error::{Error, Result, counted};
use crate::models::{SoftmaxRegression, softmax_regression};
use crate::params::Arena;
use crate::tasks::columns::Choice;
use crate::tasks::memory::Needs;
use crate::tasks::run::{self, Run, Summary};
use crate::tasks::saved::{Saved, SoftmaxConfig as Config};
use crate::text::Inputs;
use crate::text::table::Table;
use crate::train::progress::Progress;
use std::path::PathBuf;

/// The plan for training a softmax classifier.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A CSV file: numbers in columns, and the class of each row.
    pub train: PathBuf,
    /// The same for validation; cross-entropy is computed after every epoch.
    pub valid: Option<PathBuf>,
    /// Which columns, and how they are read.
    pub columns: Choice,
    /// The fraction of inputs whose expected dropout penalty is added.
    pub dropout_penalty: f64,
    /// The run.
    pub run: run::Plan,
}

impl Plan {
    /// The defaults of the program.
    pub fn new(train: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Plan {
            train: train.into(),
            valid: None,
            columns: Choice::default(),
            dropout_penalty: 0.0,
            run: run::Plan { rate: 0.05, l2: 0.0001, epochs: 100, ..run::Plan::new(out) },
        }
    }
}

/// Trains, inside a thread pool.
pub fn train(plan: &Plan, inputs: &Inputs, progress: Progress) -> Result<Summary> {
    let data = [("train", Some(plan.train.as_path())), ("valid", plan.valid.as_deref())];
    let progress = progress.without_perplexity().counting("examples");
    let mut run = Run::begin(&plan.run, "softmax", data, &[], inputs, progress)?;
    // Inputs are read before an existing model is replaced.
    let (train, columns) = plan.columns.read(&plan.train, inputs)?;
    let valid = plan.valid.as_ref().map(|path| columns.read(path, &train.names, inputs)).transpose()?;
    let features = train.features.len();
    let config = Config {
        net: softmax_regression::Config { features, classes: train.names.len(), dropout_penalty: plan.dropout_penalty },
        columns,
        classes: train.names.clone(),
    };
    let net = SoftmaxRegression::new(config.net.clone());
    let bytes = |needs: Needs| SoftmaxTask::bytes(&net, train.len(), valid.as_ref().map(Table::len), needs);
    run.check_memory([None; 2], bytes)?;

    run.open()?;
    run.progress.say(&format!(
        "{} of {}, {} classes, {} parameters",
        counted(train.len(), "example"),
        counted(features, "number"),
        train.names.len(),
        net.layout().parameters()
    ));
    let w = match run.before::<TrainedSoftmax>()? {
        // The loss is convex: training may start anywhere, such as where every class is equally likely.
        None => Arena::zeros(net.layout()),
        Some(before) => {
            let Config { net, columns, classes } = &before.config;
            if *net != config.net || *classes != config.classes || !config.columns.continues(columns) {
                let expected = "those of the run to resume";
                return Err(Error::input(&plan.train, 0, "different examples", expected));
            }
            before.w
        }
    };
    let (train, valid) = (Examples::new(train), valid.map(Examples::new));
    let files = run.files(&Saved::Softmax(config), Vec::new())?;
    let optimizer = plan.run.optimizer(net.layout()).lazy();
    let mut task = SoftmaxTask::new(&net, train, valid, plan.run.batch, plan.run.seed, files);
    run.fit(&mut task, w, optimizer, Precision::F32)
}
