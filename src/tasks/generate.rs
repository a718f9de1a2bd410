//! Text generation with a language model.

use super::language_model::TrainedLm;
use super::prompt::{self, Prompt};
use crate::error::{Error, Result};
use crate::math::exp;
use crate::rng::{Purpose, Stream};
use rand::RngExt;
use serde::Serialize;

/// How words are sampled.
#[derive(Clone, Debug)]
pub struct Draws {
    /// Maximum number of words generated per sentence.
    pub words: usize,
    /// Sampling temperature: below 1 favours likely words, above 1 flattens the distribution.
    pub temperature: f64,
    /// Sample from this many of the most likely words only.
    pub top_k: Option<usize>,
    /// Sample from the smallest number of the most likely words whose probabilities sum to this or more.
    pub top_p: Option<f64>,
    /// Words that complete a sentence, as their last word.
    pub stop: Vec<u32>,
    /// Whether `<unk>` may be generated.
    pub unknown: bool,
    /// Random seed.
    pub seed: u64,
}

impl Default for Draws {
    fn default() -> Self {
        Draws { words: 100, temperature: 1.0, top_k: None, top_p: None, stop: Vec::new(), unknown: false, seed: 1 }
    }
}

/// A generated sentence.
#[derive(Clone, Debug, Serialize)]
pub struct Sentence {
    /// The prompt and what follows.
    pub text: String,
    /// Number of words generated.
    pub words: usize,
    /// Whether it is complete: ended by `<eos>` or a word to stop at.
    pub ended: bool,
    /// Words of the prompt that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Generates sentences, one after another.
pub struct Generator<'a> {
    sentence: prompt::Sentence<'a>,
    /// The normaliser, if scores are treated as normalised.
    ln_z: Option<f64>,
    logits: Vec<f32>,
    order: Vec<u32>,
}

/// Words whose scores are computed together when not all are needed.
const BLOCK: usize = 512;
/// Maximum number of draws for one word, if the words' probabilities sum to less than 1.
const TRIES: usize = 100;

impl<'a> Generator<'a> {
    /// Allocates the working memory; with `ln_z` the scores are treated as normalised by it, and sampled from as they are.
    pub fn new(trained: &'a TrainedLm, ln_z: Option<f64>) -> Self {
        let words = trained.vocabulary.len();
        Generator {
            sentence: prompt::Sentence::new(trained),
            ln_z,
            logits: vec![0.0; if ln_z.is_some() { BLOCK.min(words) } else { words }],
            order: Vec::with_capacity(words),
        }
    }

    /// Continues `prompt`, with the random numbers of sentence `number`.
    pub fn sentence(&mut self, prompt: &str, options: &Draws, number: u64) -> Sentence {
        let vocabulary = &self.sentence.trained.vocabulary;
        let mut random = Stream::new(options.seed, Purpose::Generate, number, 0);
        let Prompt { mut text, unknown } = self.sentence.begin(prompt);
        let (mut words, mut ended) = (0, false);
        while words < options.words {
            let word = match self.ln_z {
                Some(ln_z) => self.walk(ln_z, options, &mut random),
                None => {
                    self.sentence.logits(&mut self.logits);
                    if !options.unknown {
                        self.logits[vocabulary.unk() as usize] = f32::NEG_INFINITY;
                    }
                    draw(&mut self.order, &self.logits, options, &mut random)
                }
            };
            if word == vocabulary.eos() {
                ended = true;
                break;
            }
            words += 1;
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(vocabulary.word(word));
            if options.stop.contains(&word) {
                ended = true;
                break;
            }
            self.sentence.read(word);
        }
        Sentence { text, words, ended, unknown }
    }

    /// Samples a word by e^(o − ln Z): goes through the vocabulary, frequent words first, until the cumulative probability reaches a
    /// random number. If the total is below 1 the number may lie beyond it, and another is drawn; probability beyond a total of 1 is
    /// never reached.
    fn walk(&mut self, ln_z: f64, options: &Draws, random: &mut Stream) -> u32 {
        let TrainedLm { model, w, vocabulary } = self.sentence.trained;
        for _ in 0..TRIES {
            let mut left = random.random::<f64>();
            for first in (0..vocabulary.len()).step_by(BLOCK) {
                let block = BLOCK.min(vocabulary.len() - first);
                let logits = &mut self.logits[..block];
                model.logits(logits, &self.sentence.top, first, w);
                for (word, &logit) in (first as u32..).zip(logits.iter()) {
                    if word != vocabulary.unk() || options.unknown {
                        left -= exp(f64::from(logit) - ln_z);
                        if left < 0.0 {
                            return word;
                        }
                    }
                }
            }
        }
        vocabulary.eos()
    }
}

/// Samples a word from softmax(logits / temperature), restricted to the most likely words if requested.
fn draw(order: &mut Vec<u32>, logits: &[f32], options: &Draws, random: &mut Stream) -> u32 {
    order.clear();
    order.extend(0..logits.len() as u32);
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if let Some(k) = options.top_k.filter(|&k| k < order.len()) {
        order.select_nth_unstable_by(k - 1, by_logit);
        order.truncate(k);
        order.sort_unstable();
    }
    let largest = order.iter().fold(f32::NEG_INFINITY, |a, &i| a.max(logits[i as usize]));
    let weight = |i: u32| exp(f64::from(logits[i as usize] - largest) / options.temperature);
    if let Some(p) = options.top_p.filter(|&p| p < 1.0) {
        let mut left = p * order.iter().map(|&i| weight(i)).sum::<f64>();
        order.sort_unstable_by(by_logit);
        let enough = order.iter().position(|&i| {
            left -= weight(i);
            left <= 0.0
        });
        order.truncate(enough.map_or(order.len(), |last| last + 1));
        order.sort_unstable();
    }
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut left = random.random::<f64>() * total;
    for &i in order.iter() {
        left -= weight(i);
        if left < 0.0 {
            return i;
        }
    }
    // Rounding may leave a remainder: the most likely word takes it.
    order.iter().copied().min_by(by_logit).unwrap_or(0)
}

/// The ids of words to stop at. An error if the model does not know one of them.
pub fn stops(trained: &TrainedLm, words: &[String]) -> Result<Vec<u32>> {
    let id = |word: &String| {
        let unknown = || format!("--stop {word}: not a word of the model, which would never generate it");
        trained.vocabulary.id(word).ok_or_else(|| Error::Usage(unknown()))
    };
    words.iter().map(id).collect()
}
