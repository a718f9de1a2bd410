//! Language models on text: model and data together.

pub mod evaluate;
pub mod task;
pub mod train;

pub use evaluate::Evaluator;
pub use train::{Plan, train};

use super::measure::{Measured, Measuring};
use super::model::Model;
use super::neighbors::Points;
use super::options;
use super::saved::{CONFIG, Saved, VOCABULARY, read_arena};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::isa;
use crate::layers::output::{Draws, Objective, Tail};
use crate::models::LanguageModel;
use crate::models::language_model::{Config, Loss};
use crate::notices::say;
use crate::params::Arena;
use crate::text::{Inputs, Vocabulary};
use crate::train::checkpoint::Checkpoint;
use std::path::Path;

/// The option of a run whose texts are read without sentence markers.
pub const STRIP_MARKS: &str = "strip-marks";

/// Returns an error if this machine does not support products of this precision.
pub fn check_precision(precision: Precision) -> Result<()> {
    if precision.available() {
        return Ok(());
    }
    let what = format!("--precision bf16 needs a processor with AVX-512 BF16; the instruction set in use is {}", isa());
    Err(Error::Usage(what))
}

/// A trained language model.
pub struct TrainedLm {
    /// The model.
    pub model: LanguageModel,
    /// Its weights.
    pub w: Arena<f32>,
    /// Its words.
    pub vocabulary: Vocabulary,
}

impl TrainedLm {
    /// The ln Z that the model in `dir` was trained towards; also reported on standard error.
    pub fn self_normalised(&self, dir: &Path) -> Result<f64> {
        let Some(ln_z) = self.model.ln_z() else {
            let what =
                format!("--self-normalised is only for models trained with --loss nce; {} is not one", dir.display());
            return Err(Error::Usage(what));
        };
        say(&format!("scores are not summed over the vocabulary: ln Z is assumed to be {ln_z}, as in training"));
        Ok(ln_z)
    }
}

impl Model for TrainedLm {
    /// Reads a checkpoint. Nothing is allocated before the file is known to contain it.
    fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let saved = match Saved::read(checkpoint)? {
            Saved::LanguageModel(saved) => saved,
            other => return Err(other.wrong_kind(checkpoint.path(), "language models (wordmill train lm)")),
        };
        let vocabulary = Vocabulary::parse(&checkpoint.path().join(VOCABULARY), &checkpoint.read(VOCABULARY)?)?;
        let vocabulary = vocabulary.stripping_marks(options::is_set(checkpoint, STRIP_MARKS)?);
        let config = checkpoint.path().join(CONFIG);
        let sane = |n: usize| (1..=1 << 20).contains(&n);
        if saved.words != vocabulary.len() {
            let what = format!("has {} words, its {VOCABULARY} {}", saved.words, vocabulary.len());
            return Err(Error::model(config, what));
        }
        let widths = sane(saved.embed) && sane(saved.hidden) && (!saved.tie || saved.embed == saved.hidden);
        let loss = match &saved.loss {
            Loss::Full => true,
            &Loss::Sampled { objective, draws, samples, .. } => {
                !saved.tie && sane(samples) && (draws == Draws::WithReplacement || objective == Objective::Softmax)
            }
            Loss::Adaptive { tails } => {
                !saved.tie && Tail::fit(tails, saved.words) && tails.iter().all(|tail| sane(tail.width))
            }
        };
        let reset = saved.reset_at.is_none_or(|word| (word as usize) < saved.words);
        let numbers = (1..=64).contains(&saved.layers) && saved.at_test > 0.0 && saved.at_test <= 1.0;
        if !(widths && loss && reset && numbers) {
            return Err(Error::model(config, "has invalid sizes"));
        }
        // A loaded model is not trained further.
        let model = LanguageModel::new(Config { precision: Precision::F32, ..saved });
        let w = read_arena(checkpoint, model.layout())?;
        Ok(TrainedLm { model, w, vocabulary })
    }

    fn weights(&self) -> &Arena<f32> {
        &self.w
    }

    fn vectors(&self) -> Option<Points<'_>> {
        let words: Vec<&str> = self.vocabulary.words().collect();
        Some(Points::new(words, self.w.slice(self.model.words())))
    }

    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured> {
        let found = self.evaluate_text(file, how, inputs)?;
        Ok(Measured::new(&found, found.text(), None))
    }
}
