//! Pseudo-Siamese nets on words with labels: where the net and its files meet.

use super::lexicon::{LeftOut, check_parameters, check_sizes, read_words};
use super::memory::{self, Needs};
use super::run::Shuffled;
use super::saved::{PseudoSiameseConfig as Config, Saved};
use crate::error::Result;
use crate::models::PseudoSiamese;
use crate::models::pseudo_siamese::{self, Space};
use crate::params::{Arena, Gradients, Layout, P};
use crate::text::labelled::LabelledWords;
use crate::text::words::{Form, WordIndex};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, Task, read_weights};
use crate::train::schedule::{Measure, Score};
use serde::Serialize;
use std::sync::Arc;

/// A label that the net does not know: it is always missed.
const UNSEEN: u32 = u32::MAX;

/// Words and labels as the net takes them.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    ids: Vec<u32>,
    targets: Vec<u32>,
}

impl Encoded {
    /// The words that are known. How many are not, and how many labels, is told to `say`.
    ///
    /// # Errors
    /// None is.
    pub fn new(file: &LabelledWords, words: &WordIndex, labels: &[String], mut say: impl FnMut(&str)) -> Result<Self> {
        let mut encoded = Encoded::default();
        let (mut left_out, mut unseen) = (LeftOut::default(), None);
        for labelled in &file.words {
            match words.find(&labelled.word) {
                (_, Form::Unknown) => left_out.add(labelled.line, &labelled.word),
                (id, _) => {
                    let label = labels.binary_search(&labelled.label).map_or(UNSEEN, |label| label as u32);
                    if label == UNSEEN {
                        unseen.get_or_insert(labelled);
                    }
                    encoded.ids.push(id);
                    encoded.targets.push(label);
                }
            }
        }
        left_out.tell(&file.path, "words are", file.words.len(), &mut say)?;
        if let Some(first) = unseen {
            let count = encoded.targets.iter().filter(|target| **target == UNSEEN).count();
            let (path, line, label) = (file.path.display(), first.line, &first.label);
            say(&format!(
                "{path}:{line}: {count} words have labels that the training words do not have, the first is `{label}`; they count as missed"
            ));
        }
        Ok(encoded)
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// How the net does.
    pub fn evaluate(&self, net: &PseudoSiamese, labels: &[String], w: &Arena<f32>) -> Evaluation {
        let k = labels.len();
        let probabilities = net.probabilities(&self.ids, w);
        let mut counts: Vec<LabelReport> =
            labels.iter().map(|label| LabelReport { label: label.clone(), words: 0, predicted: 0, right: 0 }).collect();
        let (mut right, mut loss, mut seen) = (0, 0.0, 0);
        for (y, &target) in probabilities.chunks_exact(k).zip(&self.targets) {
            let predicted = crate::layers::losses::largest(y.iter().copied());
            counts[predicted].predicted += 1;
            if target != UNSEEN {
                seen += 1;
                counts[target as usize].words += 1;
                loss -= f64::from(y[target as usize].max(f32::MIN_POSITIVE)).ln();
                if target as usize == predicted {
                    right += 1;
                    counts[predicted].right += 1;
                }
            }
        }
        let accuracy = right as f64 / self.len() as f64;
        Evaluation { words: self.len(), right, accuracy, loss: loss / f64::from(seen), labels: counts }
    }
}

/// How a net does on some words.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    words: usize,
    right: usize,
    accuracy: f64,
    /// Mean −log ŷ of the words whose labels the net knows, in nats.
    loss: f64,
    labels: Vec<LabelReport>,
}

#[derive(Clone, Debug, Serialize)]
struct LabelReport {
    label: String,
    /// Words that have it, words that are taken for it, and both.
    words: usize,
    predicted: usize,
    right: usize,
}

impl Evaluation {
    /// The figure that the best model has most of.
    pub fn score(&self) -> Score {
        Score { measure: Measure::Accuracy, value: self.accuracy }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Evaluation { words, right, accuracy, loss, labels } = self;
        let width = labels.iter().map(|label| label.label.chars().count()).max().unwrap_or(0).max(5);
        let percent = |part: usize, of: usize| {
            if of == 0 { "-".to_owned() } else { format!("{:.2}", 100.0 * part as f64 / of as f64) }
        };
        let mut text = format!(
            "{words} words, {right} right: accuracy {:.2} %\nloss {loss:.4} nats a word\n\n{:width$}  {:>6}  {:>9}  {:>8}",
            100.0 * accuracy,
            "label",
            "words",
            "precision",
            "recall"
        );
        for LabelReport { label, words, predicted, right } in labels {
            let (precision, recall) = (percent(*right, *predicted), percent(*right, *words));
            text += &format!("\n{label:width$}  {words:6}  {precision:>9}  {recall:>8}");
        }
        text
    }
}

/// A trained net.
pub struct Trained {
    /// What it is.
    pub config: Config,
    /// The net.
    pub net: PseudoSiamese,
    /// Its weights.
    pub w: Arena<f32>,
    /// Its words.
    pub words: WordIndex,
}

impl Trained {
    /// Reads a checkpoint. Nothing large is allocated before the file is known to hold it.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::PseudoSiamese(config) => config,
            other => {
                let wanted = "pseudo-Siamese nets (wordmill train pseudo-siamese)";
                return Err(other.wrong_kind(checkpoint.path(), wanted));
            }
        };
        let words = read_words(checkpoint)?;
        let pseudo_siamese::Config { words: rows, embed, hidden, labels, dropout_penalty, .. } = config.net;
        let fits = rows == words.len() && labels == config.labels.len() && (0.0..1.0).contains(&dropout_penalty);
        check_sizes(checkpoint, &[embed, hidden, labels], fits)?;
        let net = PseudoSiamese::new(config.net.clone());
        check_parameters(checkpoint, net.layout())?;
        let mut w = Arena::zeros(net.layout());
        read_weights(checkpoint, &mut w)?;
        Ok(Trained { config, net, w, words })
    }
}

/// A net and the words it learns from.
pub struct PseudoSiameseTask<'a> {
    net: &'a PseudoSiamese,
    labels: &'a [String],
    train: Encoded,
    valid: Option<Encoded>,
    batch: usize,
    order: Shuffled,
    space: Space<f32>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl<'a> PseudoSiameseTask<'a> {
    /// Bytes that training `net` takes, its weights included.
    pub fn bytes(net: &PseudoSiamese, train: &Encoded, valid: Option<&Encoded>, needs: Needs) -> usize {
        let batch = needs.batch.min(train.len());
        let threads = rayon::current_num_threads();
        let evaluation = valid.map_or(0, |valid| net.probabilities_bytes::<f32>(valid.len(), threads));
        memory::learning_bytes(net.layout(), net.trained(), needs.rule, batch, evaluation)
            + net.space_bytes::<f32>(batch)
    }

    /// Allocates the working memory. `batch`: words of a step; `files`: the small files of a checkpoint.
    pub fn new(
        (net, labels): (&'a PseudoSiamese, &'a [String]),
        train: Encoded,
        valid: Option<Encoded>,
        batch: usize,
        seed: u64,
        files: Vec<(&'static str, Vec<u8>)>,
    ) -> Self {
        let batch = batch.min(train.len());
        PseudoSiameseTask {
            order: Shuffled::new(train.len(), seed),
            space: net.space(batch),
            ids: Vec::with_capacity(batch),
            targets: Vec::with_capacity(batch),
            net,
            labels,
            train,
            valid,
            batch,
            files,
        }
    }
}

impl Task for PseudoSiameseTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.net.trained()
    }

    fn rows(&self) -> usize {
        self.batch
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.len().div_ceil(self.batch) as u64
    }

    fn targets_before(&self, steps: u64) -> u64 {
        (steps as usize * self.batch).min(self.train.len()) as u64
    }

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> Outcome {
        let (epoch, index) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        self.ids.clear();
        self.targets.clear();
        for &word in self.order.batch(epoch, index as usize, self.batch) {
            self.ids.push(self.train.ids[word as usize]);
            self.targets.push(self.train.targets[word as usize]);
        }
        let loss = self.net.step(g, &mut self.space, &self.ids, &self.targets, w);
        Outcome { loss, targets: self.ids.len() as u64 }
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        Some(self.valid.as_ref()?.evaluate(self.net, self.labels, w).score())
    }

    fn measure(&self) -> Measure {
        Measure::Accuracy
    }

    /// W₁ and W₂: which of the two learns faster is a question of the source.
    fn watched(&self) -> &[P] {
        self.net.towers()
    }

    fn files(&self) -> Vec<(&str, Vec<u8>)> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.clone())).collect()
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        Vec::new()
    }
}
