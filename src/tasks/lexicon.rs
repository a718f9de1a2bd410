//! Words with vectors, as the nets on single words and on pairs of them take them.

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
    /// The words, those of the file of vectors in its order.
    pub words: WordIndex,
    vectors: Vectors,
}

impl Lexicon {
    /// The first `rows` rows of a file of vectors, and those of `words`.
    pub fn read<'a>(
        path: &Path,
        rows: usize,
        words: impl IntoIterator<Item = &'a str>,
        inputs: &Inputs,
    ) -> Result<Self> {
        let vectors = Vectors::read_wanted(path, Wanted::words(words).and_first(rows), inputs)?;
        Ok(Lexicon { words: WordIndex::listed(vectors.words()), vectors })
    }

    /// What the most is that is taken beside the vectors and what there was before, when weights of `layout` are filled
    /// from them, and they make room then for the rest of `training` bytes.
    pub fn beside(&self, layout: &Layout, training: usize) -> usize {
        let own = self.words.words().len() * self.width() * size_of::<f32>();
        (layout.len() * size_of::<f32>()).max(training.saturating_sub(own))
    }

    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.vectors.width
    }

    /// Puts the vectors into a table of as many rows as there are words; what has none becomes zero.
    pub fn fill(&self, table: &mut [f32]) {
        for (row, word) in table.chunks_exact_mut(self.width()).zip(self.words.words()) {
            match self.vectors.find(word) {
                Some((vector, Form::Exact)) => row.copy_from_slice(vector),
                _ => row.fill(0.0),
            }
        }
    }
}

/// Examples that a word without a vector leaves out.
#[derive(Default)]
pub struct LeftOut<'a> {
    count: usize,
    /// Line and word of the first.
    first: Option<(usize, &'a str)>,
}

impl<'a> LeftOut<'a> {
    /// Counts one, whose line and unknown word these are.
    pub fn add(&mut self, line: usize, word: &'a str) {
        self.count += 1;
        self.first.get_or_insert((line, word));
    }

    /// Warns of them; `what` and `all` are those of the file at `path`.
    ///
    /// # Errors
    /// They are all that there are.
    pub fn tell(&self, path: &Path, what: &str, all: usize, inputs: &Inputs) -> Result<()> {
        let (count, Some((line, word))) = (self.count, self.first) else {
            return Ok(());
        };
        if count == all {
            let found = format!("`{word}`, which has no vector, and so on to the end");
            return Err(Error::input(path, line, found, "words that have vectors"));
        }
        let found = format!("{count} of {all} {what} of words without a vector, the first is `{word}`");
        inputs.warn(Notice::of_file(path, line, found).done("they are left out"))
    }
}

/// The words of a checkpoint.
pub fn read_words(checkpoint: &mut Checkpoint) -> Result<WordIndex> {
    let path = checkpoint.path().join(VOCABULARY);
    let text = String::from_utf8(checkpoint.read(VOCABULARY)?)
        .map_err(|_| Error::model(&path, "is damaged: it is not UTF-8"))?;
    WordIndex::parse(&path, &text)
}

/// An error if the sizes of a checkpoint's configuration are none that a model has, or `fits` says that they do not go
/// with its other files.
pub fn check_sizes(checkpoint: &Checkpoint, sizes: &[usize], fits: bool) -> Result<()> {
    if sizes.iter().all(|size| (1..=1 << 20).contains(size)) && fits {
        return Ok(());
    }
    let what = format!("has invalid sizes, or does not fit its {VOCABULARY}");
    Err(Error::model(checkpoint.path().join(CONFIG), what))
}
