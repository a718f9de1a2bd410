//! Beginnings of sentences, read word by word.

use super::language_model::TrainedLm;
use crate::models::language_model::Reading;
use crate::text::marks::Marks;
use crate::text::vocabulary::UNK;

/// A sentence that a model is reading.
pub(super) struct Sentence<'a> {
    pub trained: &'a TrainedLm,
    reading: Reading<'a>,
    state: Vec<f32>,
    /// What the next word is predicted from.
    pub top: Vec<f32>,
}

/// A prompt that has been read.
pub(super) struct Prompt {
    /// Its words, separated by single spaces.
    pub text: String,
    /// Those that the model does not know.
    pub unknown: Vec<String>,
}

impl<'a> Sentence<'a> {
    pub fn new(trained: &'a TrainedLm) -> Self {
        let reading = trained.model.reading(&trained.w, 0);
        let (state, top) = (vec![0.0; reading.state_len()], vec![0.0; reading.top_len()]);
        Sentence { trained, reading, state, top }
    }

    /// Reads a word.
    pub fn read(&mut self, word: u32) {
        self.reading.read(&[word], &mut self.state, &mut self.top);
    }

    /// Begins a new sentence, with the words of `prompt`.
    pub fn begin(&mut self, prompt: &str) -> Prompt {
        let vocabulary = &self.trained.vocabulary;
        self.state.fill(0.0);
        let mut words: Vec<&str> = prompt.split_ascii_whitespace().collect();
        if vocabulary.strips_marks() {
            // Nothing would follow a sentence marker at the end of the prompt.
            words = Marks::stripped(&words).to_vec();
        }
        self.read(vocabulary.eos());
        let mut unknown: Vec<String> = Vec::new();
        for &word in &words {
            let id = vocabulary.id_or_unk(word);
            if id == vocabulary.unk() && word != UNK && !unknown.iter().any(|known| known == word) {
                unknown.push(word.to_owned());
            }
            self.read(id);
        }
        Prompt { text: words.join(" "), unknown }
    }

    /// Scores of all words \[V\] to come next: ln ŷ plus a constant.
    pub fn logits(&self, out: &mut [f32]) {
        self.trained.model.next_logits(out, &self.top, &self.trained.w);
    }
}
