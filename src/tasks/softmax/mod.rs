//! Softmax classifiers on tables of numbers: model and data together.

pub mod train;

pub use train::{Plan, train};

use super::columns::Evaluation;
use super::epochs::Batches;
use super::measure::{Measured, Measuring};
use super::memory::{self, Needs};
use super::model::Model;
use super::neighbors::Points;
use super::saved::{Saved, SoftmaxConfig as Config, check_fit, read_arena};
use crate::error::Result;
use crate::layers::losses::largest;
use crate::math::{exp, ln};
use crate::models::SoftmaxRegression;
use crate::models::softmax_regression::{self, Space};
use crate::params::{Arena, Gradients, Layout};
use crate::text::Inputs;
use crate::text::table::Table;
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use ndarray::{Array2, s};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Examples as inputs of the model.
pub struct Examples {
    /// \[N, D\], scaled.
    x: Array2<f32>,
    /// \[N\]; classes numbered from the model's number of classes are unknown to it.
    y: Vec<u32>,
    /// Names of the classes.
    classes: Vec<String>,
}

impl Examples {
    /// The examples of a scaled table.
    pub fn new(table: Table) -> Self {
        let x = Array2::from_shape_vec((table.len(), table.features.len()), table.values);
        Examples { x: x.expect("a table has whole rows"), y: table.classes, classes: table.names }
    }

    /// Evaluates the model on the examples.
    pub fn evaluate(&self, net: &SoftmaxRegression, w: &Arena<f32>) -> Evaluation {
        let (n, k) = (self.y.len(), net.config().classes as u32);
        let mut evaluation = Evaluation::new(&self.classes);
        let mut add = |space: &mut Space<f32>, rows: Range<usize>| {
            let y = &self.y[rows.clone()];
            let all_known = y.iter().all(|&class| class < k);
            let known: Vec<u32> = y.iter().map(|&class| class.min(k - 1)).collect();
            let (scores, mean) = net.scores(space, self.x.slice(s![rows, ..]), &known, w);
            for (scores, &class) in scores.rows().into_iter().zip(y) {
                let own = || {
                    let top = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                    let sum: f64 = scores.iter().map(|&score| exp(f64::from(score) - top)).sum();
                    ln(sum) + top - f64::from(scores[class as usize])
                };
                // If all classes are known, the mean loss of these rows is used for each.
                let loss = (class < k).then(|| if all_known { mean } else { own() });
                evaluation.add(class, largest(scores.iter()), loss);
            }
        };
        let whole = n / BLOCK * BLOCK;
        if whole > 0 {
            let mut space = net.space(BLOCK);
            (0..whole).step_by(BLOCK).for_each(|from| add(&mut space, from..from + BLOCK));
        }
        if whole < n {
            add(&mut net.space(n - whole), whole..n);
        }
        evaluation
    }
}

/// Number of examples evaluated together.
const BLOCK: usize = 1024;

/// A trained classifier.
pub struct TrainedSoftmax {
    /// Its configuration.
    pub config: Config,
    /// The model.
    pub net: SoftmaxRegression,
    /// Its weights.
    pub w: Arena<f32>,
}

impl TrainedSoftmax {
    /// Evaluates the model on a file.
    pub fn evaluate_rows(&self, path: &Path, inputs: &Inputs) -> Result<Evaluation> {
        let Config { columns, classes, .. } = &self.config;
        Ok(Examples::new(columns.read(path, classes, inputs)?).evaluate(&self.net, &self.w))
    }
}

impl Model for TrainedSoftmax {
    fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::Softmax(config) => config,
            other => return Err(other.wrong_kind(checkpoint.path(), "softmax classifiers (wordmill train softmax)")),
        };
        let softmax_regression::Config { features, classes, dropout_penalty } = config.net;
        let fits = classes > 1 && classes == config.classes.len() && (0.0..1.0).contains(&dropout_penalty);
        check_fit(checkpoint, fits && config.columns.fit(&[features, classes]))?;
        let net = SoftmaxRegression::new(config.net.clone());
        let w = read_arena(checkpoint, net.layout())?;
        Ok(TrainedSoftmax { config, net, w })
    }

    fn weights(&self) -> &Arena<f32> {
        &self.w
    }

    fn vectors(&self) -> Option<Points<'_>> {
        None
    }

    fn evaluate(&self, file: &Path, _: &Measuring, inputs: &Inputs) -> Result<Measured> {
        let found = self.evaluate_rows(file, inputs)?;
        Ok(Measured::new(&found.report(), found.text(), Some(found.confusion())))
    }
}

/// A classifier and its training examples.
pub struct SoftmaxTask<'a> {
    net: &'a SoftmaxRegression,
    train: Examples,
    valid: Option<Examples>,
    order: Batches,
    /// The graph of a batch, and that of the last batch of an epoch if it is smaller.
    space: Space<f32>,
    last: Option<Space<f32>>,
    x: Array2<f32>,
    y: Vec<u32>,
    files: Vec<SmallFile>,
}

impl<'a> SoftmaxTask<'a> {
    /// Bytes that training `net` on `train` examples takes besides these, and evaluating it on others.
    pub fn bytes(net: &SoftmaxRegression, train: usize, valid: Option<usize>, needs: Needs) -> usize {
        let batch = needs.batch.min(train);
        let space = |examples: usize| if examples > 0 { net.space::<f32>(examples).bytes() } else { 0 };
        let classes = net.config().classes;
        let examples = (train + valid.unwrap_or(0)) * 2 * size_of::<u32>();
        let evaluation = valid.map_or(0, |valid| space(valid.min(BLOCK)) + classes * classes * size_of::<u64>());
        memory::learning_bytes(net.layout(), net.layout(), needs.rule, 0, evaluation)
            + space(batch)
            + space(train % batch)
            + examples
    }

    /// Allocates the working memory; `files` are the small files of a checkpoint.
    pub fn new(
        net: &'a SoftmaxRegression,
        train: Examples,
        valid: Option<Examples>,
        batch: usize,
        seed: u64,
        files: Vec<SmallFile>,
    ) -> Self {
        let (n, features) = train.x.dim();
        let order = Batches::new(n, batch, seed);
        let batch = order.size();
        let rest = n % batch;
        SoftmaxTask {
            order,
            space: net.space(batch),
            last: (rest > 0).then(|| net.space(rest)),
            x: Array2::zeros((batch, features)),
            y: Vec::with_capacity(batch),
            net,
            train,
            valid,
            files,
        }
    }
}

impl Task for SoftmaxTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.net.layout()
    }

    fn rows(&self) -> usize {
        0
    }

    fn steps_per_epoch(&self) -> u64 {
        self.order.count()
    }

    fn targets_before(&self, steps: u64) -> u64 {
        self.order.examples_before(steps)
    }

    type Touched = ();

    fn touch(&mut self, _g: &mut Gradients<f32>, _step: u64) {}

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, (): (), w: &Arena<f32>) -> Outcome {
        self.y.clear();
        for (mut to, &example) in self.x.rows_mut().into_iter().zip(self.order.of_step(step)) {
            to.assign(&self.train.x.row(example as usize));
            self.y.push(self.train.y[example as usize]);
        }
        let n = self.y.len();
        let space = if n == self.x.nrows() { &mut self.space } else { self.last.as_mut().unwrap_or(&mut self.space) };
        let loss = self.net.step(g, space, self.x.slice(s![..n, ..]), &self.y, w);
        Outcome { loss, targets: n as u64 }
    }

    fn classes(&self) -> Option<usize> {
        // With inputs of any magnitude the loss may be large until the weights have adapted to them.
        None
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let found = self.valid.as_ref()?.evaluate(self.net, w);
        Some(Score { measure: Measure::CrossEntropy, value: found.cross_entropy() })
    }

    fn measure(&self) -> Measure {
        Measure::CrossEntropy
    }

    fn unit(&self) -> &'static str {
        "examples"
    }

    fn files(&self) -> &[SmallFile] {
        &self.files
    }
}
