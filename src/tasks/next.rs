//! The most likely next words after the beginning of a sentence.

use super::language_model::TrainedLm;
use super::prompt::{Prompt, Sentence};
use crate::math::exp;
use serde::Serialize;

/// What may follow the beginning of a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextWords {
    /// The beginning.
    pub prompt: String,
    /// The most likely next words, the most likely first; [`EOS`](crate::text::vocabulary::EOS) is the end of the sentence.
    pub next: Vec<NextWord>,
    /// Words of the prompt that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A word that may be next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextWord {
    /// The word.
    pub word: String,
    /// Its probability among all words of the model.
    pub probability: f64,
}

/// Predicts next words, for one prompt after another.
pub struct Predictor<'a> {
    sentence: Sentence<'a>,
    logits: Vec<f32>,
    order: Vec<u32>,
}

impl<'a> Predictor<'a> {
    /// Allocates the working memory.
    pub fn new(trained: &'a TrainedLm) -> Self {
        let words = trained.vocabulary.len();
        Predictor { sentence: Sentence::new(trained), logits: vec![0.0; words], order: Vec::with_capacity(words) }
    }

    /// The `top` most likely words after `prompt`; `<unk>` is one of them only if `unknown`. Equally likely words are in the order of
    /// the vocabulary.
    pub fn next_words(&mut self, prompt: &str, top: usize, unknown: bool) -> NextWords {
        let vocabulary = &self.sentence.trained.vocabulary;
        let Prompt { text, unknown: unknown_words } = self.sentence.begin(prompt);
        self.sentence.logits(&mut self.logits);
        let logits = &self.logits;
        let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let share = |logit: f32| exp(f64::from(logit - largest));
        let total: f64 = logits.iter().map(|&logit| share(logit)).sum();
        self.order.clear();
        self.order.extend((0..logits.len() as u32).filter(|&word| unknown || word != vocabulary.unk()));
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if top < self.order.len() {
            self.order.select_nth_unstable_by(top, by_logit);
            self.order.truncate(top);
        }
        self.order.sort_unstable_by(by_logit);
        let word = |&word: &u32| NextWord {
            word: vocabulary.word(word).to_owned(),
            probability: share(logits[word as usize]) / total,
        };
        NextWords { prompt: text, next: self.order.iter().map(word).collect(), unknown: unknown_words }
    }
}
