//! Siamese networks on pairs of words: model and data together.

pub mod train;

pub use train::{Plan, train};

use super::epochs::Batches;
use super::lexicon::{LeftOut, check_sizes, read_words};
use super::measure::{Measured, Measuring};
use super::memory::{self, Needs};
use super::model::Model;
use super::neighbors::Points;
use super::saved::{Saved, SiameseConfig as Config, read_arena};
use crate::error::{Result, counted};
use crate::models::Siamese;
use crate::models::siamese::{self, Batch, Space};
use crate::params::{Arena, Gradients, Layout};
use crate::pool;
use crate::text::Inputs;
use crate::text::pairs::{Grades, Pairs};
use crate::text::ranking::{Roc, roc, spearman};
use crate::text::words::{END, Form, WordIndex};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Pairs as inputs of the model.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    first: Vec<u32>,
    second: Vec<u32>,
    /// Similarity, 0 to 1.
    alike: Vec<f32>,
    /// The labels as given in the file.
    labels: Vec<f64>,
}

impl Encoded {
    /// The pairs whose words are known. Warns about the number of other pairs.
    ///
    /// # Errors
    /// No pair has known words.
    pub fn new(pairs: &Pairs, words: &WordIndex, grades: Grades, inputs: &Inputs) -> Result<Self> {
        let mut encoded = Encoded::default();
        let mut left_out = LeftOut::default();
        for pair in &pairs.pairs {
            let found = pair.words.each_ref().map(|word| (words.find(word), word));
            match found.iter().find(|((_, form), _)| *form == Form::Unknown) {
                Some((_, word)) => left_out.add(pair.line, word),
                None => {
                    encoded.first.push(found[0].0.0);
                    encoded.second.push(found[1].0.0);
                    encoded.alike.push(grades.alike(pair.label) as f32);
                    encoded.labels.push(pair.label);
                }
            }
        }
        left_out.tell(&pairs.path, "pairs", pairs.pairs.len(), inputs)?;
        Ok(encoded)
    }

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.alike.len()
    }

    /// The labels as given in the file.
    pub fn labels(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        self.labels.iter().copied()
    }

    /// Compares distances with labels.
    pub fn evaluate(&self, net: &Siamese, w: &Arena<f32>) -> Evaluation {
        let distances: Vec<f64> = net.distances(&self.first, &self.second, w).into_iter().map(f64::from).collect();
        let grades = Grades::of(self.labels());
        let is_alike: Vec<bool> = self.labels.iter().map(|&label| label == grades.high).collect();
        let mean = |which: bool| {
            let of = distances.iter().zip(&is_alike).filter(|(_, alike)| **alike == which).map(|(d, _)| d);
            let (n, sum) = of.fold((0u64, 0.0), |(n, sum), d| (n + 1, sum + d));
            (n > 0).then(|| sum / n as f64)
        };
        let binary = !grades.graded;
        Evaluation {
            pairs: self.pairs(),
            alike: binary.then(|| is_alike.iter().filter(|alike| **alike).count()),
            roc: if binary { roc(&distances, &is_alike) } else { None },
            spearman: grades.graded.then(|| spearman(&distances, &self.labels).map(|rho| -rho)),
            mean_distance: distances.iter().sum::<f64>() / distances.len() as f64,
            mean_distance_alike: if binary { mean(true) } else { None },
            mean_distance_others: if binary { mean(false) } else { None },
        }
    }
}

/// The evaluation of a model on pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    pairs: usize,
    /// Number of pairs with the higher of two labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    alike: Option<usize>,
    #[serde(flatten)]
    roc: Option<Roc>,
    /// Correlation of negative distances with graded labels; null if all distances are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    spearman: Option<Option<f64>>,
    mean_distance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_distance_alike: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_distance_others: Option<f64>,
}

impl Evaluation {
    /// The score by which the best model is selected.
    pub fn score(&self) -> Option<Score> {
        let auc = self.roc.map(|roc| Score { measure: Measure::Auc, value: roc.auc });
        auc.or(self.spearman.flatten().map(|value| Score { measure: Measure::Spearman, value }))
    }

    /// As readable text.
    pub fn text(&self) -> String {
        let mut text = counted(self.pairs, "pair");
        if let Some(alike) = self.alike {
            text += &format!(", {alike} of them similar");
        }
        if let Some(roc) = self.roc {
            text += &format!(
                "\nROC AUC {:.4}\naccuracy {:.2} % at the best threshold, a distance of {:.4}",
                roc.auc,
                100.0 * roc.accuracy,
                roc.threshold
            );
        }
        match self.spearman {
            Some(Some(spearman)) => text += &format!("\nSpearman correlation {spearman:.4}"),
            Some(None) => text += "\nSpearman correlation not defined: all distances are equal",
            None => {}
        }
        text += &format!("\nmean distance {:.4}", self.mean_distance);
        if let (Some(alike), Some(others)) = (self.mean_distance_alike, self.mean_distance_others) {
            text += &format!("; {alike:.4} of similar pairs, {others:.4} of dissimilar pairs");
        }
        text
    }
}

/// A trained model.
pub struct TrainedSiamese {
    /// Its configuration.
    pub config: Config,
    /// The network.
    pub net: Siamese,
    /// Its weights.
    pub w: Arena<f32>,
    /// Its words.
    pub words: WordIndex,
}

impl Model for TrainedSiamese {
    fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::Siamese(config) => config,
            other => return Err(other.wrong_kind(checkpoint.path(), "Siamese nets (wordmill train siamese)")),
        };
        let words = read_words(checkpoint)?;
        let siamese::Config { words: rows, embed, hidden, .. } = config.net;
        check_sizes(checkpoint, &[embed, hidden], rows == words.len())?;
        let net = Siamese::new(config.net.clone());
        let w = read_arena(checkpoint, net.layout())?;
        Ok(TrainedSiamese { config, net, w, words })
    }

    fn weights(&self) -> &Arena<f32> {
        &self.w
    }

    fn vectors(&self) -> Option<Points<'_>> {
        Some(Points::indexed(&self.words, self.w.slice(self.net.words())))
    }

    /// The words in the output space of the model.
    fn places(&self) -> Option<Points<'_>> {
        let all: Vec<u32> = (0..self.words.len() as u32).collect();
        let table = self.net.encode(&all, &self.w).into();
        Some(Points { table, by_distance: true, from: END as usize + 1, ..self.vectors()? })
    }

    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured> {
        let pairs = Pairs::read(file, &how.columns, inputs)?;
        let pairs = Encoded::new(&pairs, &self.words, self.config.grades, inputs)?;
        let bytes = |threads| self.net.distances_bytes::<f32>(pairs.pairs(), threads);
        memory::check_threads("evaluation", bytes, inputs)?;
        let found = pairs.evaluate(&self.net, &self.w);
        Ok(Measured::new(&found, found.text(), None))
    }
}

/// A model and its training pairs.
pub struct SiameseTask<'a> {
    net: &'a Siamese,
    train: Encoded,
    valid: Option<Encoded>,
    measure: Measure,
    order: Batches,
    space: Space<f32>,
    first: Vec<u32>,
    second: Vec<u32>,
    alike: Vec<f32>,
    files: Vec<SmallFile>,
}

impl<'a> SiameseTask<'a> {
    /// Bytes that training `net` takes, including its weights.
    pub fn bytes(net: &Siamese, train: &Encoded, valid: Option<&Encoded>, needs: Needs) -> usize {
        let batch = needs.batch.min(train.pairs());
        let threads = pool::threads();
        let evaluation = valid.map_or(0, |valid| net.distances_bytes::<f32>(valid.pairs(), threads));
        memory::learning_bytes(net.layout(), net.trained(), needs.rule, 2 * batch, evaluation)
            + net.space_bytes::<f32>(batch)
    }

    /// Allocates the working memory. `batch`: pairs per step; `files`: the small files of a checkpoint.
    pub fn new(
        net: &'a Siamese,
        train: Encoded,
        valid: Option<Encoded>,
        batch: usize,
        seed: u64,
        files: Vec<SmallFile>,
    ) -> Self {
        let order = Batches::new(train.pairs(), batch, seed);
        let batch = order.size();
        let graded = |of: &Encoded| Grades::of(of.labels()).graded;
        let measure = if graded(valid.as_ref().unwrap_or(&train)) { Measure::Spearman } else { Measure::Auc };
        SiameseTask {
            order,
            space: net.space(batch),
            first: Vec::with_capacity(batch),
            second: Vec::with_capacity(batch),
            alike: Vec::with_capacity(batch),
            net,
            train,
            valid,
            measure,
            files,
        }
    }
}

impl Task for SiameseTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.net.trained()
    }

    fn rows(&self) -> usize {
        2 * self.order.size()
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
        let Encoded { first, second, alike, .. } = &self.train;
        self.first.clear();
        self.second.clear();
        self.alike.clear();
        for &pair in self.order.of_step(step) {
            self.first.push(first[pair as usize]);
            self.second.push(second[pair as usize]);
            self.alike.push(alike[pair as usize]);
        }
        let batch = Batch { first: &self.first, second: &self.second, alike: &self.alike };
        let loss = self.net.step(g, &mut self.space, batch, w);
        Outcome { loss, targets: self.alike.len() as u64 }
    }

    fn classes(&self) -> Option<usize> {
        None
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        self.valid.as_ref()?.evaluate(self.net, w).score()
    }

    fn measure(&self) -> Measure {
        self.measure
    }

    fn is_cross_entropy(&self) -> bool {
        false
    }

    fn unit(&self) -> &'static str {
        "pairs"
    }

    fn files(&self) -> &[SmallFile] {
        &self.files
    }
}
