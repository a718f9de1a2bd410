//! Softmax classifiers on tables of numbers: where the model and CSV files meet.

use super::memory::{self, Needs};
use super::run::Shuffled;
use super::saved::{self, CONFIG, Saved, SoftmaxConfig as Config};
use crate::error::{Error, Result};
use crate::layers::losses::largest;
use crate::models::SoftmaxRegression;
use crate::models::softmax_regression::{self, Space};
use crate::params::{Arena, Gradients, Layout};
use crate::text::spans::Confusion;
use crate::text::table::{Reading, Table};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, Task, read_weights};
use crate::train::schedule::{Measure, Score};
use ndarray::{Array2, s};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Examples as the model sees them.
pub struct Examples {
    /// \[N, D\], scaled.
    x: Array2<f32>,
    /// \[N\]
    y: Vec<u32>,
}

impl Examples {
    /// The examples of a table: every number less `mean`, divided by `deviation`.
    pub fn new(table: &Table, config: &Config) -> Self {
        let features = table.features.len();
        let scale = config.mean.iter().zip(&config.deviation);
        let scaled =
            table.values.iter().zip(scale.cycle()).map(|(x, (mean, deviation))| ((x - mean) / deviation) as f32);
        let x = Array2::from_shape_vec((table.len(), features), scaled.collect()).expect("a table has whole rows");
        Examples { x, y: table.classes.clone() }
    }

    /// How well the model does on them.
    pub fn evaluate(&self, net: &SoftmaxRegression, w: &Arena<f32>) -> Evaluation {
        let (n, k) = (self.y.len(), net.config().classes);
        let mut counts = vec![vec![0; k]; k];
        let mut loss = 0.0;
        let mut add = |space: &mut Space<f32>, rows: Range<usize>| {
            let y = &self.y[rows.clone()];
            let (scores, mean) = net.scores(space, self.x.slice(s![rows.clone(), ..]), y, w);
            loss += mean * rows.len() as f64;
            for (scores, &class) in scores.rows().into_iter().zip(y) {
                counts[class as usize][largest(scores.iter())] += 1;
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
        let right: u64 = (0..k).map(|class| counts[class][class]).sum();
        Evaluation { examples: n, accuracy: right as f64 / n as f64, cross_entropy: loss / n as f64, counts }
    }
}

/// Examples that are evaluated together.
const BLOCK: usize = 1024;

/// How well a classifier does.
#[derive(Serialize)]
pub struct Evaluation {
    examples: usize,
    /// The share of examples whose class has the highest score.
    pub accuracy: f64,
    /// −ln of the probability of the right class, the mean, in nats.
    pub cross_entropy: f64,
    /// By right class and class found.
    counts: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Which class was taken for which.
    pub fn confusion(&self, config: &Config) -> Confusion {
        Confusion { tags: config.classes.clone(), counts: self.counts.clone() }
    }

    /// As people read it.
    pub fn text(&self, config: &Config) -> String {
        let Evaluation { examples, accuracy, cross_entropy, .. } = self;
        format!(
            "accuracy {:.2} %, cross-entropy {cross_entropy:.5} nats, {examples} examples\n\n{}",
            100.0 * accuracy,
            self.confusion(config).table().trim_end()
        )
    }
}

/// A trained classifier.
pub struct Trained {
    /// What it is.
    pub config: Config,
    /// The model.
    pub net: SoftmaxRegression,
    /// Its weights.
    pub w: Arena<f32>,
}

impl Trained {
    /// Loads the best checkpoint of a model directory; warnings go to standard error.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::read(&mut saved::open(dir)?)
    }

    /// Reads a checkpoint. Nothing large is allocated before the file is known to hold it.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::Softmax(config) => config,
            other => return Err(other.wrong_kind(checkpoint.path(), "softmax classifiers (wordmill train softmax)")),
        };
        let (features, classes) = (config.net.features, config.net.classes);
        let fits = features > 0
            && [config.features.len(), config.mean.len(), config.deviation.len()].iter().all(|&n| n == features)
            && classes == config.classes.len()
            && classes > 1
            && config.deviation.iter().all(|&x| x > 0.0);
        if !fits {
            return Err(Error::model(checkpoint.path().join(CONFIG), "has sizes that do not fit each other"));
        }
        let net = SoftmaxRegression::new(config.net.clone());
        let mut w = Arena::zeros(net.layout());
        read_weights(checkpoint, &mut w)?;
        Ok(Trained { config, net, w })
    }

    /// How well it does on a file.
    pub fn evaluate(&self, path: &Path) -> Result<Evaluation> {
        let Config { features, label, classes, .. } = &self.config;
        let table = Table::read(path, Reading::Like { features, label, names: classes })?;
        Ok(Examples::new(&table, &self.config).evaluate(&self.net, &self.w))
    }
}

/// A classifier and the examples it learns from.
pub struct SoftmaxTask<'a> {
    net: &'a SoftmaxRegression,
    train: Examples,
    valid: Option<Examples>,
    order: Shuffled,
    batch: usize,
    /// The graph of a batch, and that of an epoch's last one where it is smaller.
    space: Space<f32>,
    last: Option<Space<f32>>,
    x: Array2<f32>,
    y: Vec<u32>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl<'a> SoftmaxTask<'a> {
    /// Bytes that training `net` on so many examples takes, and measuring it on others.
    pub fn bytes(net: &SoftmaxRegression, train: usize, valid: Option<usize>, needs: Needs) -> usize {
        let batch = needs.batch.min(train);
        let space = |examples: usize| if examples > 0 { net.space::<f32>(examples).bytes() } else { 0 };
        let &softmax_regression::Config { features, classes } = net.config();
        let examples = (train + valid.unwrap_or(0)) * (features + 2) * size_of::<f32>();
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
        files: Vec<(&'static str, Vec<u8>)>,
    ) -> Self {
        let (n, features) = train.x.dim();
        let batch = batch.min(n);
        let rest = n % batch;
        SoftmaxTask {
            order: Shuffled::new(n, seed),
            batch,
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
        self.train.y.len().div_ceil(self.batch) as u64
    }

    fn targets_before(&self, steps: u64) -> u64 {
        (steps as usize * self.batch).min(self.train.y.len()) as u64
    }

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> Outcome {
        let (epoch, index) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let examples = self.order.batch(epoch, index as usize, self.batch);
        self.y.clear();
        for (mut to, &example) in self.x.rows_mut().into_iter().zip(examples) {
            to.assign(&self.train.x.row(example as usize));
            self.y.push(self.train.y[example as usize]);
        }
        let n = self.y.len();
        let space = if n == self.batch { &mut self.space } else { self.last.as_mut().unwrap_or(&mut self.space) };
        let loss = self.net.step(g, space, self.x.slice(s![..n, ..]), &self.y, w);
        Outcome { loss, targets: n as u64 }
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let found = self.valid.as_ref()?.evaluate(self.net, w);
        Some(Score { measure: Measure::CrossEntropy, value: found.cross_entropy })
    }

    fn measure(&self) -> Measure {
        Measure::CrossEntropy
    }

    fn unit(&self) -> &'static str {
        "examples"
    }

    fn files(&self) -> Vec<(&str, Vec<u8>)> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.clone())).collect()
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        Vec::new()
    }
}
