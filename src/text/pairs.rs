//! Pairs of words and their similarity: word TAB word TAB label, one pair per line (see [`super::rows`]). A label is a number; the
//! lowest label of the training pairs means dissimilar, the highest similar, and there may be grades between them.

use super::{Inputs, rows, rows::Shape};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The content of a row.
const ROW: &str = "word TAB word TAB label, the label a number (such as 1 for similar, 0 for dissimilar)";
const SHAPE: Shape = Shape { expected: ROW, numeric: true };

/// One pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Its line in the file.
    pub line: usize,
    /// Its words.
    pub words: [String; 2],
    /// Their similarity, as given in the file.
    pub label: f64,
}

/// A file of pairs.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// The file.
    pub path: PathBuf,
    /// The pairs, at least one.
    pub pairs: Vec<Pair>,
}

impl Pairs {
    /// Reads a file; `columns` are the numbers of the columns of the words and the label; if empty, these are detected.
    ///
    /// # Errors
    /// Those of [`rows::read`]; a label that is not a finite number.
    pub fn read(path: impl AsRef<Path>, columns: &[usize], inputs: &Inputs) -> Result<Pairs> {
        let path = path.as_ref();
        let mut pairs = Vec::new();
        rows::read(path, SHAPE, columns, inputs, |line, [first, second, label]| {
            let label = label.parse().ok().filter(|label: &f64| label.is_finite());
            let label = label.ok_or_else(|| Error::input(path, line, "a label that is not a finite number", ROW))?;
            pairs.push(Pair { line, words: [first.to_owned(), second.to_owned()], label });
            Ok(())
        })?;
        Ok(Pairs { path: path.to_owned(), pairs })
    }

    /// All words, with repetitions.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().flat_map(|pair| pair.words.iter().map(String::as_str))
    }
}

/// The meaning of the labels of some pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grades {
    /// The label of dissimilar pairs.
    pub low: f64,
    /// The label of similar pairs.
    pub high: f64,
    /// Whether there are labels between the two.
    pub graded: bool,
}

impl Grades {
    /// The grades of these labels.
    pub fn of(labels: impl Iterator<Item = f64> + Clone) -> Self {
        let low = labels.clone().fold(f64::INFINITY, f64::min);
        let high = labels.clone().fold(f64::NEG_INFINITY, f64::max);
        Grades { low, high, graded: labels.clone().any(|label| label != low && label != high) }
    }

    /// Whether there is only one label.
    pub fn is_one(self) -> bool {
        self.low == self.high
    }

    /// The similarity of the words of a pair, 0 to 1.
    pub fn alike(self, label: f64) -> f64 {
        if self.is_one() { 1.0 } else { ((label - self.low) / (self.high - self.low)).clamp(0.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<Vec<Pair>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let told = |e: Error| e.to_string().replace(&file.path().display().to_string(), "pairs");
        Pairs::read(file.path(), &[], &Inputs::default()).map(|pairs| pairs.pairs).map_err(told)
    }

    #[test]
    fn pairs_in_the_forms_that_files_have() {
        let pair = |line, first: &str, second: &str, label| Pair { line, words: [first.into(), second.into()], label };
        let expected = Ok(vec![pair(1, "cat", "dog", 1.0), pair(3, "New York", "sea", 0.0)]);
        assert_eq!(read("cat\tdog\t1\n \t\nNew York\tsea\t0\n"), expected);
        assert_eq!(read("\u{feff}cat\tdog\t1\r\n\r\nNew York\t sea \t0e3"), expected);
        assert_eq!(read("  cat  dog 7.25 \n"), Ok(vec![pair(1, "cat", "dog", 7.25)]));
        let fails = |text: &str, found: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(found), "{error}");
        };
        fails("", "pairs: found no rows, expected lines of word TAB word TAB label");
        fails("a\tb\t1\na b 1\n", "pairs:2: found 1 column, expected word TAB word");
        fails("a\t\t1\n", "pairs:1: found an empty column 2");
        // As in many published lists: the judgements of each person after their mean, and a header.
        assert_eq!(read("a\tb\t1\t2\nc\td\t3\t4\n"), Ok(vec![pair(1, "a", "b", 1.0), pair(2, "c", "d", 3.0)]));
        let simlex = "word1\tword2\tPOS\tSimLex999\tconc(w1)\nold\tnew\tA\t1.58\t2.72\nsmart\tbright\tA\t9.2\t1.75\n";
        assert_eq!(read(simlex), Ok(vec![pair(2, "old", "new", 1.58), pair(3, "smart", "bright", 9.2)]));
        assert_eq!(
            read("# a list\nWord 1,Word 2,Human (mean)\nlove,sex,6.77\n"),
            Ok(vec![pair(3, "love", "sex", 6.77)])
        );
        assert_eq!(
            read("cord;smile;0.02\nnoon;string;0.04"),
            Ok(vec![pair(1, "cord", "smile", 0.02), pair(2, "noon", "string", 0.04)])
        );
        assert_eq!(
            read("1\tcat\tdog\n0\tcat\tsea\n"),
            Ok(vec![pair(1, "cat", "dog", 1.0), pair(2, "cat", "sea", 0.0)])
        );
        fails("a\tb\tc\td\n", "pairs:1: found 4 columns, with ambiguous contents");
        fails("a\tb\tyes\n", "pairs:1: found a label that is not a finite number");
        fails("a\tb\tNaN\n", "pairs:1: found a label that is not a finite number");
        fails("<!doctype html>\n", "a page of HTML or XML");
    }

    #[test]
    fn labels_become_grades() {
        let of = |labels: &[f64]| Grades::of(labels.iter().copied());
        assert_eq!(of(&[1.0, 0.0, 1.0]), Grades { low: 0.0, high: 1.0, graded: false });
        let graded = of(&[2.0, 10.0, 4.0]);
        assert_eq!((graded.graded, graded.alike(4.0), graded.alike(11.0), graded.alike(0.0)), (true, 0.25, 1.0, 0.0));
        assert_eq!(of(&[1.0, 1.0]).alike(1.0), 1.0);
    }
}
