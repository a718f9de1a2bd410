//! `wordmill neighbors`

use super::inputs::{InputOptions, print};
use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::pool::pool;
use crate::tasks::any;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Show the nearest neighbours of words: by cosine similarity of their vectors, or for a Siamese network by distance
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill neighbors tagger London protein --count 5
  wordmill neighbors twins Monday")]
pub struct Neighbors {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Words whose nearest neighbours are shown
    #[arg(value_name = "WORD", required = true)]
    words: Vec<String>,
    /// Number of neighbours per word
    #[arg(long, short = 'n', default_value = "10", value_parser = super::values::size, value_name = "N")]
    count: usize,
    /// Print a JSON object per word
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    word: &'a str,
    /// The form under which the model knows the word.
    known_as: &'a str,
    /// Each with its cosine similarity, or its distance.
    neighbors: Vec<(&'a str, f64)>,
}

impl Neighbors {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = InputOptions::default().inputs(false);
        let pool = pool(1)?;
        let (saved, model) = pool.install(|| any::load(&self.model))?;
        let points = pool.install(|| model.places()).ok_or_else(|| saved.has_no_words(&self.model))?;
        let unknown =
            |word: &str| Error::Usage(format!("`{word}` is not in the vocabulary of {}", self.model.display()));
        let find = |word: &String| points.row(word).ok_or_else(|| unknown(word));
        let rows = self.words.iter().map(find).collect::<Result<Vec<usize>>>()?;
        for (word, row) in self.words.iter().zip(rows) {
            let all = points.near(row);
            if all.is_empty() {
                let what = format!("`{word}` has no neighbours: its vector, or every other one, is all zeros");
                inputs.warn(Notice::new(what))?;
            }
            let neighbors = all.iter().take(self.count).map(|&(i, near)| (points.words[i], near)).collect();
            let found = Found { word, known_as: points.words[row], neighbors };
            print(out, self.json, &found, || found.text())?;
        }
        Ok(())
    }
}

impl Found<'_> {
    fn text(&self) -> String {
        let form = if self.known_as == self.word { String::new() } else { format!(" (as {})", self.known_as) };
        let neighbors = self.neighbors.iter().map(|(word, near)| format!("  {near:.3}  {word}\n"));
        format!("{}{form}\n{}", self.word, neighbors.collect::<String>())
    }
}
