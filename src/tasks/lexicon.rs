//! Words with vectors: the inputs of the models of single words and of pairs of words.

use super::saved::{CONFIG, VOCABULARY};
use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::params::Layout;
use crate::text::Inputs;
use crate::text::vectors::{Vectors, Wanted};
use crate::text::words::{Form, WordIndex};
use crate::train::checkpoint::Checkpoint;
use std::path::Path;

/// Words with their vectors.
pub struct Lexicon {
    /// The words; those of the vector file are in its order.
    pub words: WordIndex,
    vectors: Vectors,
}

impl Lexicon {
    /// Reads the first `rows` rows of a vector file, and those of `words`.
    pub fn read<'a>(
        path: &Path,
        rows: usize,
        words: impl IntoIterator<Item = &'a str>,
        inputs: &Inputs,
    ) -> Result<Self> {
        let vectors = Vectors::read_wanted(path, Wanted::words(words).and_first(rows), inputs)?;
        Ok(Lexicon { words: WordIndex::listed(vectors.words()), vectors })
    }

    /// Peak memory in addition to the vectors and to what was allocated before, if weights in `layout` are filled from the vectors,
    /// which are then freed before the rest of the `training` bytes is allocated.
    pub fn beside(&self, layout: &Layout, training: usize) -> usize {
        let own = self.words.words().len() * self.width() * size_of::<f32>();
        (layout.len() * size_of::<f32>()).max(training.saturating_sub(own))
    }

    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.vectors.width
    }

    /// Copies the vectors into a table with one row per word; words without a vector become zero.
    pub fn fill(&self, table: &mut [f32]) {
        for (row, word) in table.chunks_exact_mut(self.width()).zip(self.words.words()) {
            match self.vectors.find(word) {
                Some((vector, Form::Exact)) => row.copy_from_slice(vector),
                _ => row.fill(0.0),
            }
        }
    }
}

/// Examples that are omitted because a word has no vector.
#[derive(Default)]
pub struct LeftOut<'a> {
    count: usize,
    /// Line and word of the first one.
    first: Option<(usize, &'a str)>,
}

impl<'a> LeftOut<'a> {
    /// Counts an example, given its line and unknown word.
    pub fn add(&mut self, line: usize, word: &'a str) {
        self.count += 1;
        self.first.get_or_insert((line, word));
    }

    /// Warns about them; `what` and `all` describe the examples of the file at `path`.
    ///
    /// # Errors
    /// All examples are omitted.
    pub fn tell(&self, path: &Path, what: &str, all: usize, inputs: &Inputs) -> Result<()> {
        let (count, Some((line, word))) = (self.count, self.first) else {
            return Ok(());
        };
        if count == all {
            let found = format!("`{word}`, which has no vector, and no word with one");
            return Err(Error::input(path, line, found, "words that have vectors"));
        }
        let found = format!("{count} of {all} {what} with words that have no vector, the first is `{word}`");
        inputs.warn(Notice::of_file(path, line, found).done("left out"))
    }
}

/// The words of a checkpoint.
pub fn read_words(checkpoint: &mut Checkpoint) -> Result<WordIndex> {
    let path = checkpoint.path().join(VOCABULARY);
    let text = String::from_utf8(checkpoint.read(VOCABULARY)?)
        .map_err(|_| Error::model(&path, "is damaged: it is not UTF-8"))?;
    WordIndex::parse(&path, &text)
}

/// Returns an error if the sizes in a checkpoint's configuration are invalid or, according to `fits`, inconsistent with its other files.
pub fn check_sizes(checkpoint: &Checkpoint, sizes: &[usize], fits: bool) -> Result<()> {
    if sizes.iter().all(|size| (1..=1 << 20).contains(size)) && fits {
        return Ok(());
    }
    let what = format!("has invalid sizes, or does not fit its {VOCABULARY}");
    Err(Error::model(checkpoint.path().join(CONFIG), what))
}
