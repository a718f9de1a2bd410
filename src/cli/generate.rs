//! `wordmill generate`

use super::language_model::Trained;
use super::output_failed;
use super::values::positive;
use crate::error::{Error, Result};
use crate::models::language_model::Space;
use crate::pool::pool;
use crate::rng::{Purpose, Stream};
use crate::text::marks::Marks;
use crate::text::vocabulary::UNK;
use rand::RngExt;
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// Let a language model write
///
/// Without a prompt on a terminal, asks for the beginning of a sentence again and again; otherwise begins sentences itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill generate model --prompt \"the president of\"
  wordmill generate model --sentences 5 --temperature 0.8 --top-k 50
  wordmill generate model                                  asks for beginnings: > ")]
pub struct Generate {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The beginning of the sentence
    #[arg(long)]
    prompt: Option<String>,
    /// Most words of a sentence that are drawn
    #[arg(long, default_value = "100", value_name = "N")]
    words: usize,
    /// How many sentences
    #[arg(long, default_value = "1", value_name = "N", value_parser = super::values::count)]
    sentences: u64,
    /// Below 1 plays safe, above 1 takes risks
    #[arg(long, default_value = "1", value_parser = positive, value_name = "T")]
    temperature: f64,
    /// Draw from the K likeliest words only
    #[arg(long, value_name = "K", value_parser = super::values::size)]
    top_k: Option<usize>,
    /// Of a model that --loss nce has trained: take its scores for normalised, and look only at as many words as it takes to draw one
    #[arg(long)]
    self_normalised: bool,
    /// Allow the unknown word to be drawn
    #[arg(long)]
    unknown: bool,
    /// Seed of the draws
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print a JSON object per sentence: text, words drawn, whether the sentence ended by itself, and the prompt's unknown words
    #[arg(long)]
    json: bool,
}

/// What the model makes of a prompt.
#[derive(Serialize)]
struct Sentence {
    text: String,
    words: usize,
    ended: bool,
    /// Words of the prompt that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
}

impl Sentence {
    /// Says which words of the prompt are unknown.
    fn warn(&self) {
        if !self.unknown.is_empty() {
            // If nobody can read it, there is nothing else to do.
            _ = writeln!(
                io::stderr(),
                "warning: unknown words in the prompt: {}; read as {UNK}",
                self.unknown.join(" ")
            );
        }
    }
}

impl Generate {
    /// Does it.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        // One sentence is one lane: a second thread has nothing to do.
        pool(1)?.install(|| {
            let trained = Trained::load(&self.model)?;
            let ln_z = self.ln_z(&trained)?;
            let mut writer = Generator::new(&trained, ln_z);
            if self.prompt.is_none() && !self.json && io::stdin().is_terminal() && io::stdout().is_terminal() {
                return self.converse(&mut writer, out);
            }
            for number in 0..self.sentences {
                let prompt = self.prompt.as_deref().unwrap_or_default();
                let sentence = writer.sentence(prompt, &self, number);
                if number == 0 {
                    sentence.warn();
                }
                let written = if self.json {
                    serde_json::to_writer(&mut *out, &sentence).map_err(Into::into).and_then(|()| writeln!(out))
                } else {
                    writeln!(out, "{}", sentence.text)
                };
                written.map_err(output_failed)?;
            }
            Ok(())
        })
    }

    /// ln Z, if the model's scores are to be taken for normalised by it.
    fn ln_z(&self, trained: &Trained) -> Result<Option<f64>> {
        if !self.self_normalised {
            return Ok(None);
        }
        if self.temperature != 1.0 || self.top_k.is_some() {
            let what = "--self-normalised draws from the scores as they are: without --temperature and --top-k";
            return Err(Error::Usage(what.into()));
        }
        trained.self_normalised(&self.model).map(Some)
    }

    /// Sentences for the demo.
    pub fn demo(trained: &Trained, sentences: u64) -> Vec<String> {
        let options = Generate {
            model: PathBuf::new(),
            prompt: None,
            words: 40,
            sentences,
            temperature: 0.8,
            top_k: None,
            self_normalised: false,
            unknown: false,
            seed: 1,
            json: false,
        };
        let mut writer = Generator::new(trained, None);
        (0..sentences).map(|number| writer.sentence("", &options, number).text).collect()
    }

    fn converse(&self, writer: &mut Generator, out: &mut (dyn Write + Send)) -> Result<()> {
        let mut line = String::new();
        for number in 0.. {
            write!(out, "> ").and_then(|()| out.flush()).map_err(output_failed)?;
            line.clear();
            let read =
                io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("standard input", "reading", e))?;
            if read == 0 {
                writeln!(out).map_err(output_failed)?;
                break;
            }
            let sentence = writer.sentence(line.trim(), self, number);
            sentence.warn();
            writeln!(out, "{}", sentence.text).map_err(output_failed)?;
        }
        Ok(())
    }
}

/// Writes sentences, one after the other.
struct Generator<'a> {
    trained: &'a Trained,
    space: Space<f32>,
    /// Where the scores are taken for normalised.
    ln_z: Option<f64>,
    logits: Vec<f32>,
    order: Vec<u32>,
}

/// Words whose scores are computed together, where they are not needed of all.
const BLOCK: usize = 512;
/// Draws until one falls on a word, where the words' probabilities sum to less than 1.
const TRIES: usize = 100;

impl<'a> Generator<'a> {
    fn new(trained: &'a Trained, ln_z: Option<f64>) -> Self {
        let words = trained.vocabulary.len();
        Generator {
            trained,
            space: match ln_z {
                Some(_) => trained.model.state_space(1, 1),
                None => trained.model.evaluation_space(1, 1),
            },
            ln_z,
            logits: vec![0.0; if ln_z.is_some() { BLOCK.min(words) } else { words }],
            order: Vec::with_capacity(words),
        }
    }

    /// `prompt` and what the model makes of it.
    fn sentence(&mut self, prompt: &str, options: &Generate, number: u64) -> Sentence {
        let Trained { model, w, vocabulary } = self.trained;
        let mut random = Stream::new(options.seed, Purpose::Generate, number, 0);
        self.space.reset();
        let mut prompt: Vec<&str> = prompt.split_ascii_whitespace().collect();
        if vocabulary.strips_marks() {
            // A mark at its end would not be followed by anything.
            prompt = Marks::stripped(&prompt).to_vec();
        }
        let mut text = prompt.join(" ");
        model.read_word(&mut self.space, vocabulary.eos(), w);
        let mut unknown: Vec<String> = Vec::new();
        for word in prompt {
            let id = vocabulary.id_or_unk(word);
            if id == vocabulary.unk() && word != UNK && !unknown.iter().any(|known| known == word) {
                unknown.push(word.to_owned());
            }
            model.read_word(&mut self.space, id, w);
        }
        let (mut words, mut ended) = (0, false);
        while words < options.words {
            let word = match self.ln_z {
                Some(ln_z) => self.walk(ln_z, options, &mut random),
                None => {
                    model.next_logits(&mut self.logits, &self.space, w);
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
            model.read_word(&mut self.space, word, w);
        }
        Sentence { text, words, ended, unknown }
    }

    /// A word drawn by e^(o − ln Z): down the vocabulary, the frequent words first, until the probabilities seen reach a random
    /// number. Where all together are less than 1 it may lie beyond, and another is drawn; what is beyond 1 is never reached.
    fn walk(&mut self, ln_z: f64, options: &Generate, random: &mut Stream) -> u32 {
        let Trained { model, w, vocabulary } = self.trained;
        for _ in 0..TRIES {
            let mut left = random.random::<f64>();
            for first in (0..vocabulary.len()).step_by(BLOCK) {
                let block = BLOCK.min(vocabulary.len() - first);
                let logits = &mut self.logits[..block];
                model.logits(logits, &self.space, first, w);
                for (word, &logit) in (first as u32..).zip(logits.iter()) {
                    if word != vocabulary.unk() || options.unknown {
                        left -= (f64::from(logit) - ln_z).exp();
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

/// A word drawn from softmax(logits / temperature), of the likeliest K if so asked.
fn draw(order: &mut Vec<u32>, logits: &[f32], options: &Generate, random: &mut Stream) -> u32 {
    order.clear();
    order.extend(0..logits.len() as u32);
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if let Some(k) = options.top_k.filter(|&k| k < order.len()) {
        order.select_nth_unstable_by(k - 1, by_logit);
        order.truncate(k);
        order.sort_unstable();
    }
    let largest = order.iter().fold(f32::NEG_INFINITY, |a, &i| a.max(logits[i as usize]));
    let weight = |i: u32| (f64::from(logits[i as usize] - largest) / options.temperature).exp();
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut left = random.random::<f64>() * total;
    for &i in order.iter() {
        left -= weight(i);
        if left < 0.0 {
            return i;
        }
    }
    // Rounding may leave a little over: the likeliest word takes it.
    order.iter().copied().min_by(by_logit).unwrap_or(0)
}
