//! Pseudo-Siamese networks on labelled words or on rows of numbers: model and data together.

pub mod train;

pub use train::{Plan, train};

use super::columns::{self, Columns};
use super::epochs::Batches;
use super::lexicon::{LeftOut, check_sizes, read_words};
use super::measure::{Measured, Measuring};
use super::memory::{self, Needs};
use super::model::Model;
use super::neighbors::Points;
use super::saved::{PseudoSiameseConfig as Config, Saved, check_fit, read_arena};
use crate::error::{Result, counted};
use crate::layers::losses::largest;
use crate::math::ln;
use crate::models::PseudoSiamese;
use crate::models::pseudo_siamese::{self, Input, Space};
use crate::notices::Notice;
use crate::params::{Arena, Gradients, Layout, TensorId};
use crate::pool;
use crate::text::Inputs;
use crate::text::labelled::LabelledWords;
use crate::text::table::Table;
use crate::text::words::{END, Form, WordIndex};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// A label that the model does not know: always counted as an error.
const UNSEEN: u32 = u32::MAX;

/// Examples and labels as inputs of the model.
pub struct Encoded {
    ids: Vec<u32>,
    targets: Vec<u32>,
    /// The rows that ids refer to, if they are not words.
    rows: Option<Vec<f32>>,
}

impl Encoded {
    /// The rows of a scaled table. Classes numbered from the model's number of labels are unknown to it.
    pub fn rows(table: Table) -> Self {
        Encoded { ids: (0..table.len() as u32).collect(), targets: table.classes, rows: Some(table.values) }
    }

    /// The known words. Warns about the number of unknown words and labels.
    ///
    /// # Errors
    /// None of them is known.
    pub fn words(file: &LabelledWords, words: &WordIndex, labels: &[String], inputs: &Inputs) -> Result<Self> {
        let mut encoded = Encoded { ids: Vec::new(), targets: Vec::new(), rows: None };
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
        left_out.tell(&file.path, "words", file.words.len(), inputs)?;
        if let Some(first) = unseen {
            let count = encoded.targets.iter().filter(|target| **target == UNSEEN).count();
            let label = &first.label;
            let words = counted(count, "word");
            let found = format!("{words} with labels that do not occur in training, the first is `{label}`");
            inputs.warn(Notice::of_file(&file.path, first.line, found).done("they count as errors"))?;
        }
        Ok(encoded)
    }

    /// Some of the examples, as input of the model.
    fn input<'a>(&'a self, ids: &'a [u32]) -> Input<'a, f32> {
        self.rows.as_ref().map_or(Input::Words(ids), |rows| Input::Rows(ids, rows))
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.ids.len()
    }

    /// The probabilities ŷ: \[N, K\].
    fn probabilities(&self, net: &PseudoSiamese, w: &Arena<f32>) -> Vec<f32> {
        net.probabilities(self.input(&self.ids), w)
    }

    /// The fraction of the examples whose label has the highest probability.
    fn accuracy(&self, net: &PseudoSiamese, w: &Arena<f32>) -> f64 {
        let probabilities = self.probabilities(net, w);
        let found = probabilities.chunks_exact(net.config().labels).map(|y| largest(y.iter().copied()));
        let right = found.zip(&self.targets).filter(|&(found, &target)| found as u32 == target).count();
        right as f64 / self.examples() as f64
    }

    /// Evaluates the model on the rows of a table with these class names.
    pub fn evaluate_rows(&self, net: &PseudoSiamese, classes: &[String], w: &Arena<f32>) -> columns::Evaluation {
        let mut evaluation = columns::Evaluation::new(classes);
        for (y, &class) in self.probabilities(net, w).chunks_exact(net.config().labels).zip(&self.targets) {
            let loss = y.get(class as usize).map(|y| -ln(f64::from(y.max(f32::MIN_POSITIVE))));
            evaluation.add(class, largest(y.iter().copied()), loss);
        }
        evaluation
    }

    /// Evaluates the model on words.
    pub fn evaluate(&self, net: &PseudoSiamese, labels: &[String], w: &Arena<f32>) -> Evaluation {
        let k = labels.len();
        let probabilities = self.probabilities(net, w);
        let mut counts: Vec<LabelReport> =
            labels.iter().map(|label| LabelReport { label: label.clone(), words: 0, predicted: 0, right: 0 }).collect();
        let (mut right, mut loss, mut seen) = (0, 0.0, 0);
        for (y, &target) in probabilities.chunks_exact(k).zip(&self.targets) {
            let predicted = largest(y.iter().copied());
            counts[predicted].predicted += 1;
            if target != UNSEEN {
                seen += 1;
                counts[target as usize].words += 1;
                loss -= ln(f64::from(y[target as usize].max(f32::MIN_POSITIVE)));
                if target as usize == predicted {
                    right += 1;
                    counts[predicted].right += 1;
                }
            }
        }
        let accuracy = right as f64 / self.examples() as f64;
        let loss = (seen > 0).then(|| loss / f64::from(seen));
        Evaluation { words: self.examples(), right, accuracy, loss, labels: counts }
    }
}

/// The evaluation of a model on words.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    words: usize,
    right: usize,
    accuracy: f64,
    /// Mean −log ŷ of the words whose labels the model knows, in nats; `None` if it knows none.
    loss: Option<f64>,
    labels: Vec<LabelReport>,
}

#[derive(Clone, Debug, Serialize)]
struct LabelReport {
    label: String,
    /// Number of words with the label, of words predicted to have it, and of words for which both hold.
    words: usize,
    predicted: usize,
    right: usize,
}

impl Evaluation {
    /// As readable text.
    pub fn text(&self) -> String {
        let Evaluation { words, right, accuracy, loss, labels } = self;
        let width = labels.iter().map(|label| label.label.chars().count()).max().unwrap_or(0).max(5);
        let percent = |part: usize, of: usize| {
            if of == 0 { "-".to_owned() } else { format!("{:.2}", 100.0 * part as f64 / of as f64) }
        };
        let loss = loss
            .map_or("not defined: the model knows none of the labels".to_owned(), |x| format!("{x:.4} nats per word"));
        let mut text = format!(
            "{}, {right} correct: accuracy {:.2} %\nloss {loss}\n\n{:width$}  {:>6}  {:>9}  {:>8}",
            counted(words, "word"),
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

/// A trained model.
pub struct TrainedPseudoSiamese {
    /// Its configuration.
    pub config: Config,
    /// The network.
    pub net: PseudoSiamese,
    /// Its weights.
    pub w: Arena<f32>,
    /// Its inputs.
    pub sees: Sees<WordIndex>,
}

/// The inputs of a model.
#[derive(Clone, Debug)]
pub enum Sees<W, C = Columns> {
    /// Words.
    Words(W),
    /// Numbers, in columns of a CSV file.
    Columns(C),
}

impl Model for TrainedPseudoSiamese {
    fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::PseudoSiamese(config) => config,
            other => {
                let wanted = "pseudo-Siamese nets (wordmill train pseudo-siamese)";
                return Err(other.wrong_kind(checkpoint.path(), wanted));
            }
        };
        let pseudo_siamese::Config { words: rows, embed, hidden, labels, freeze, dropout_penalty } = config.net;
        let fits = labels == config.labels.len() && (0.0..1.0).contains(&dropout_penalty);
        let sees = match &config.columns {
            None => {
                let words = read_words(checkpoint)?;
                check_sizes(checkpoint, &[embed, hidden, labels], fits && rows == Some(words.len()))?;
                Sees::Words(words)
            }
            Some(columns) => {
                let fits = fits && rows.is_none() && freeze;
                check_fit(checkpoint, fits && columns.fit(&[embed, hidden, labels]))?;
                Sees::Columns(columns.clone())
            }
        };
        let net = PseudoSiamese::new(config.net.clone());
        let w = read_arena(checkpoint, net.layout())?;
        Ok(TrainedPseudoSiamese { config, net, w, sees })
    }

    fn weights(&self) -> &Arena<f32> {
        &self.w
    }

    fn vectors(&self) -> Option<Points<'_>> {
        let Sees::Words(words) = &self.sees else { return None };
        Some(Points { from: END as usize + 1, ..Points::indexed(words, self.w.slice(self.net.words()?)) })
    }

    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured> {
        let TrainedPseudoSiamese { config, net, w, sees } = self;
        match sees {
            Sees::Words(words) => {
                let file = LabelledWords::read(file, &how.columns, inputs)?;
                let found = Encoded::words(&file, words, &config.labels, inputs)?.evaluate(net, &config.labels, w);
                Ok(Measured::new(&found, found.text(), None))
            }
            Sees::Columns(columns) => {
                let table = columns.read(file, &config.labels, inputs)?;
                let classes = table.names.clone();
                let found = Encoded::rows(table).evaluate_rows(net, &classes, w);
                Ok(Measured::new(&found.report(), found.text(), Some(found.confusion())))
            }
        }
    }
}

/// A model and its training examples.
pub struct PseudoSiameseTask<'a> {
    net: &'a PseudoSiamese,
    train: Encoded,
    valid: Option<Encoded>,
    order: Batches,
    space: Space<f32>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    files: Vec<SmallFile>,
}

impl<'a> PseudoSiameseTask<'a> {
    /// Bytes that training `net` takes, including its weights.
    pub fn bytes(net: &PseudoSiamese, train: &Encoded, valid: Option<&Encoded>, needs: Needs) -> usize {
        let batch = needs.batch.min(train.examples());
        let threads = pool::threads();
        let evaluation = valid.map_or(0, |valid| net.probabilities_bytes::<f32>(valid.examples(), threads));
        memory::learning_bytes(net.layout(), net.trained(), needs.rule, batch, evaluation)
            + net.space_bytes::<f32>(batch)
    }

    /// Allocates the working memory. `batch`: examples per step; `files`: the small files of a checkpoint.
    pub fn new(
        net: &'a PseudoSiamese,
        train: Encoded,
        valid: Option<Encoded>,
        batch: usize,
        seed: u64,
        files: Vec<SmallFile>,
    ) -> Self {
        let order = Batches::new(train.examples(), batch, seed);
        let batch = order.size();
        PseudoSiameseTask {
            order,
            space: net.space(batch),
            ids: Vec::with_capacity(batch),
            targets: Vec::with_capacity(batch),
            net,
            train,
            valid,
            files,
        }
    }
}

impl Task for PseudoSiameseTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.net.trained()
    }

    fn rows(&self) -> usize {
        self.order.size()
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
        self.ids.clear();
        self.targets.clear();
        for &example in self.order.of_step(step) {
            self.ids.push(self.train.ids[example as usize]);
            self.targets.push(self.train.targets[example as usize]);
        }
        let loss = self.net.step(g, &mut self.space, self.train.input(&self.ids), &self.targets, w);
        Outcome { loss, targets: self.ids.len() as u64 }
    }

    fn classes(&self) -> Option<usize> {
        // With inputs of any magnitude the loss may be large until the weights have adapted to them.
        self.train.rows.is_none().then_some(self.net.config().labels)
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        Some(Score { measure: Measure::Accuracy, value: self.valid.as_ref()?.accuracy(self.net, w) })
    }

    fn measure(&self) -> Measure {
        Measure::Accuracy
    }

    fn unit(&self) -> &'static str {
        if self.train.rows.is_some() { "examples" } else { "words" }
    }

    /// W₁ and W₂: the source asks which of the two learns faster.
    fn watched(&self) -> &[TensorId] {
        self.net.towers()
    }

    fn files(&self) -> &[SmallFile] {
        &self.files
    }
}
