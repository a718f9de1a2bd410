//! `wordmill neighbors`

use super::inputs::InputOptions;
use super::language_model::Trained;
use super::ner::Tagger;
use super::output_failed;
use super::saved::{self, Saved};
use super::{pseudo_siamese, siamese};
use crate::error::{Error, Result};
use crate::kernels::pairs::squared_distances;
use crate::notices::Notice;
use crate::pool::pool;
use crate::text::words::{END, Form, WordIndex};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Show the words that a model takes for alike: their vectors point in the direction of a word's own, or, in a Siamese net, lie near
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill neighbors tagger London protein --count 5
  wordmill neighbors twins Monday")]
pub struct Neighbors {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Words whose neighbors are wanted
    #[arg(value_name = "WORD", required = true)]
    words: Vec<String>,
    /// Neighbors of each word
    #[arg(long, short = 'n', default_value = "10", value_parser = super::values::size, value_name = "N")]
    count: usize,
    /// Print a JSON object per word
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    word: &'a str,
    /// The form of the word that the model knows.
    known_as: &'a str,
    /// With the cosine of the angle between the two, or the distance.
    neighbors: Vec<(&'a str, f64)>,
}

/// Words as points.
struct Points {
    words: Vec<String>,
    /// \[words, width\]
    table: Vec<f32>,
    /// Whether near is by distance, not by direction.
    by_distance: bool,
    /// The rows that are asked for.
    rows: Vec<usize>,
    /// Words before this one stand for no word of the text.
    from: usize,
}

impl Points {
    /// All words, the nearest first, with what tells how near they are.
    fn near(&self, row: usize) -> Vec<(usize, f64)> {
        let width = self.table.len() / self.words.len();
        let own = &self.table[row * width..][..width];
        // In 64 bits the square of the smallest number is not zero.
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let length = |x: &[f32]| dot(x, x).sqrt();
        let how_near = |other: &[f32]| {
            if self.by_distance {
                let mut squared = [0.0f32];
                squared_distances(&mut squared, own, other);
                f64::from(squared[0].sqrt())
            } else {
                dot(own, other) / (length(own) * length(other))
            }
        };
        let mut all: Vec<(usize, f64)> = self.table.chunks_exact(width).map(how_near).enumerate().collect();
        // A vector of zeros has no direction: its word is a neighbour of none.
        all.retain(|(other, near)| *other != row && *other >= self.from && !near.is_nan());
        // Of equally near words the more frequent first.
        all.sort_by(|a, b| if self.by_distance { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
        all
    }
}

impl Neighbors {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = InputOptions::default().inputs(false);
        let points = pool(1)?.install(|| self.read())?;
        for (word, &row) in self.words.iter().zip(&points.rows) {
            let all = points.near(row);
            if all.is_empty() {
                let what = format!("`{word}` has no neighbors: its vector, or every other one, is all zeros");
                inputs.warn(Notice::new(what))?;
            }
            let neighbors = all.iter().take(self.count).map(|&(i, near)| (points.words[i].as_str(), near)).collect();
            let found = Found { word, known_as: &points.words[row], neighbors };
            let written = if self.json {
                serde_json::to_writer(&mut *out, &found).map_err(Into::into).and_then(|()| writeln!(out))
            } else {
                found.print(out)
            };
            written.map_err(output_failed)?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Points> {
        let mut checkpoint = saved::open(&self.model)?;
        let unknown =
            |word: &str| Error::Usage(format!("`{word}` is not in the vocabulary of {}", self.model.display()));
        let rows = |words: &WordIndex| {
            let find = |word: &String| match words.find(word) {
                (_, Form::Unknown) => Err(unknown(word)),
                (row, _) => Ok(row as usize),
            };
            self.words.iter().map(find).collect::<Result<Vec<usize>>>()
        };
        match Saved::read(&mut checkpoint)? {
            Saved::Ner(_) => {
                let Tagger { net, w, encoder, .. } = Tagger::read(&mut checkpoint)?;
                let (rows, words) = (rows(&encoder.words)?, encoder.words.words().to_vec());
                Ok(Points { words, table: w.slice(net.words()).to_vec(), by_distance: false, rows, from: 0 })
            }
            Saved::Siamese(_) => {
                let siamese::Trained { net, w, words, .. } = siamese::Trained::read(&mut checkpoint)?;
                let all: Vec<u32> = (0..words.len() as u32).collect();
                let (rows, table) = (rows(&words)?, net.encode(&all, &w));
                Ok(Points { words: words.words().to_vec(), table, by_distance: true, rows, from: END as usize + 1 })
            }
            saved @ Saved::PseudoSiamese(_) => {
                let trained = pseudo_siamese::Trained::read(&mut checkpoint)?;
                let (words, table) = trained.vectors().ok_or_else(|| saved.has_no_words(&self.model))?;
                let (rows, table) = (rows(words)?, table.to_vec());
                Ok(Points { words: words.words().to_vec(), table, by_distance: false, rows, from: END as usize + 1 })
            }
            saved @ Saved::Softmax(_) => Err(saved.has_no_words(&self.model)),
            Saved::LanguageModel(_) => {
                let trained = Trained::read(&mut checkpoint)?;
                let words: Vec<String> = trained.vocabulary.words().map(str::to_owned).collect();
                let find = |word: &String| words.iter().position(|known| known == word).ok_or_else(|| unknown(word));
                let rows = self.words.iter().map(find).collect::<Result<_>>()?;
                let table = trained.w.slice(trained.model.words()).to_vec();
                Ok(Points { words, table, by_distance: false, rows, from: 0 })
            }
        }
    }
}

impl Found<'_> {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let form = if self.known_as == self.word { String::new() } else { format!(" (as {})", self.known_as) };
        writeln!(out, "{}{form}", self.word)?;
        self.neighbors.iter().try_for_each(|(word, cosine)| writeln!(out, "  {cosine:.3}  {word}"))
    }
}
