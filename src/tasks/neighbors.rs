//! Nearest neighbours of words.

use crate::kernels::pairs::squared_distances;
use crate::text::words::{Form, WordIndex};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// The words of a model as points.
pub struct Points<'a> {
    /// The words.
    pub words: Vec<&'a str>,
    /// Their vectors: \[words, width\].
    pub table: Cow<'a, [f32]>,
    /// An index that also finds words in other forms; without it, only exact matches are found.
    pub index: Option<&'a WordIndex>,
    /// Whether neighbours are by distance, rather than by cosine similarity.
    pub by_distance: bool,
    /// Rows before this one are special tokens.
    pub from: usize,
}

impl<'a> Points<'a> {
    /// Words compared by cosine similarity and found by exact match.
    pub fn new(words: Vec<&'a str>, table: &'a [f32]) -> Self {
        Points { words, table: table.into(), index: None, by_distance: false, from: 0 }
    }

    /// The words of an index, which are also found in other forms.
    pub fn indexed(index: &'a WordIndex, table: &'a [f32]) -> Self {
        let words = index.words().iter().map(String::as_str).collect();
        Points { index: Some(index), ..Points::new(words, table) }
    }

    /// The numbers of a vector.
    pub fn width(&self) -> usize {
        self.table.len() / self.words.len()
    }

    /// The row of a word.
    pub fn row(&self, word: &str) -> Option<usize> {
        match self.index {
            None => self.words.iter().position(|known| *known == word),
            Some(index) => match index.find(word) {
                (_, Form::Unknown) => None,
                (row, _) => Some(row as usize),
            },
        }
    }

    /// All other words by their rows, the nearest first, with their cosine similarity or distance.
    pub fn near(&self, row: usize) -> Vec<(usize, f64)> {
        let width = self.width();
        let own = &self.table[row * width..][..width];
        // In f64 the square of the smallest f32 is not zero.
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let length = |x: &[f32]| dot(x, x).sqrt();
        let own_length = length(own);
        let how_near = |other: &[f32]| {
            if self.by_distance {
                let mut squared = [0.0f32];
                squared_distances(&mut squared, own, other);
                f64::from(squared[0].sqrt())
            } else {
                dot(own, other) / (own_length * length(other))
            }
        };
        let mut all: Vec<(usize, f64)> = self.table.chunks_exact(width).map(how_near).enumerate().collect();
        // A zero vector has no direction: its word has no neighbours.
        all.retain(|(other, near)| *other != row && *other >= self.from && !near.is_nan());
        // Ties are ordered by frequency.
        all.sort_by(|a, b| if self.by_distance { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
        all
    }

    /// The `count` nearest neighbours of a word; `None` if it is unknown.
    pub fn neighbors<'p>(&'p self, word: &'p str, count: usize) -> Option<Neighbors<'p>> {
        let row = self.row(word)?;
        let neighbors = self.near(row).into_iter().take(count).map(|(i, near)| (self.words[i], near)).collect();
        Some(Neighbors { word, known_as: self.words[row], neighbors })
    }
}

/// The nearest neighbours of a word.
#[derive(Serialize)]
pub struct Neighbors<'a> {
    /// The word.
    pub word: &'a str,
    /// The form under which the model knows it.
    pub known_as: &'a str,
    /// Each with its cosine similarity, or its distance; none of a zero vector.
    pub neighbors: Vec<(&'a str, f64)>,
}

impl fmt::Display for Neighbors<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let form = if self.known_as == self.word { String::new() } else { format!(" (as {})", self.known_as) };
        writeln!(out, "{}{form}", self.word)?;
        self.neighbors.iter().try_for_each(|(word, near)| writeln!(out, "  {near:.3}  {word}"))
    }
}
