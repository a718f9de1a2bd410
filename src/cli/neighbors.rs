//! `wordmill neighbors`

use super::language_model::Trained;
use super::ner::Tagger;
use super::output_failed;
use super::saved::{self, Saved};
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::text::words::UNKNOWN;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Show the words whose learned vectors point in the direction of a word's own
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill neighbors tagger London protein --count 5")]
pub struct Neighbors {
    /// Directory of the model: a tagger or a language model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Words whose neighbors are wanted
    #[arg(value_name = "WORD", required = true)]
    words: Vec<String>,
    /// Neighbors of each word
    #[arg(long, short = 'n', default_value = "10", value_parser = super::values::size, value_name = "N")]
    count: usize,
    /// Print a JSON object a word
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    word: &'a str,
    /// The form of the word that the model knows.
    known_as: &'a str,
    neighbors: Vec<(&'a str, f64)>,
}

impl Neighbors {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let (words, table, rows) = pool(1)?.install(|| self.read())?;
        let width = table.len() / words.len();
        let unit: Vec<f32> = table
            .chunks_exact(width)
            .flat_map(|row| {
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
                row.iter().map(move |x| x / norm)
            })
            .collect();
        for (word, &row) in self.words.iter().zip(&rows) {
            let own = &unit[row * width..][..width];
            let cosine = |other: &[f32]| own.iter().zip(other).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let mut all: Vec<(usize, f64)> = unit.chunks_exact(width).map(cosine).enumerate().collect();
            all.retain(|(other, _)| *other != row);
            // Of equally near words the more frequent first.
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let neighbors = all.iter().take(self.count).map(|&(i, cosine)| (words[i].as_str(), cosine)).collect();
            let found = Found { word, known_as: &words[row], neighbors };
            let written = if self.json {
                serde_json::to_writer(&mut *out, &found).map_err(Into::into).and_then(|()| writeln!(out))
            } else {
                found.print(out)
            };
            written.map_err(output_failed)?;
        }
        Ok(())
    }

    /// The model's words, their vectors, and the rows of the words that were asked for.
    fn read(&self) -> Result<(Vec<String>, Vec<f32>, Vec<usize>)> {
        let mut checkpoint = saved::open(&self.model)?;
        let unknown =
            |word: &str| Error::Usage(format!("`{word}` is not in the vocabulary of {}", self.model.display()));
        match Saved::read(&mut checkpoint)? {
            Saved::Ner(_) => {
                let tagger = Tagger::read(&mut checkpoint)?;
                let find = |word: &String| match tagger.encoder.words.find(word).0 {
                    UNKNOWN if word != "<unk>" => Err(unknown(word)),
                    row => Ok(row as usize),
                };
                let rows = self.words.iter().map(find).collect::<Result<_>>()?;
                let table = tagger.w.slice(tagger.net.words()).to_vec();
                Ok((tagger.encoder.words.words().to_vec(), table, rows))
            }
            Saved::LanguageModel(_) => {
                let trained = Trained::read(&mut checkpoint)?;
                let words: Vec<String> = trained.vocabulary.words().map(str::to_owned).collect();
                let find = |word: &String| words.iter().position(|known| known == word).ok_or_else(|| unknown(word));
                let rows = self.words.iter().map(find).collect::<Result<_>>()?;
                let table = trained.w.slice(trained.model.words()).to_vec();
                Ok((words, table, rows))
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
