//! `wordmill neighbors`

use super::inputs::{InputOptions, print};
use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::pool::pool;
use crate::tasks::any;
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

impl Neighbors {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = InputOptions::default().inputs(false);
        let pool = pool(1)?;
        let (saved, model) = pool.install(|| any::load(&self.model))?;
        let points = pool.install(|| model.places()).ok_or_else(|| saved.has_no_words(&self.model))?;
        if let Some(word) = self.words.iter().find(|word| points.row(word).is_none()) {
            let dir = self.model.display();
            return Err(Error::Usage(format!("`{word}` is not in the vocabulary of {dir}")));
        }
        for found in self.words.iter().filter_map(|word| points.neighbors(word, self.count)) {
            if found.neighbors.is_empty() {
                let what = "has no neighbours: its vector, or every other one, is all zeros";
                inputs.warn(Notice::new(format!("`{}` {what}", found.word)))?;
            }
            print(out, self.json, &found, || found.to_string())?;
        }
        Ok(())
    }
}
