//! Lines of a text that are read one by one, each with an id before it if they have any: at once, or in parts as they arrive.

use super::corpus::{Lines, Seen, warn_of_head, warn_of_unknown};
use super::inputs::Content;
use super::signatures::HEAD;
use super::vocabulary::Vocabulary;
use super::{Inputs, not_utf8};
use crate::notices::Notice;
use crate::{Error, Result};
use hashbrown::HashSet;
use std::path::Path;

/// Some consecutive lines of a text.
#[derive(Default)]
pub struct Part {
    /// The ids before the lines, if they have any.
    pub ids: Option<Vec<String>>,
    /// The lines.
    pub lines: Lines,
    /// The lines as they were written, without ids and markers; empty unless requested.
    pub text: String,
}

/// Reads the lines of a text, and counts what its user should know.
pub struct LineReader<'a> {
    path: &'a Path,
    vocabulary: &'a Vocabulary,
    inputs: &'a Inputs,
    has_ids: bool,
    keeps_text: bool,
    /// The beginning of a stream.
    head: Vec<u8>,
    /// Numbers of lines and of words so far, including line ends, and how many of the words are unknown.
    lines: usize,
    words: usize,
    unknown: u64,
    seen: Seen,
    /// The first line with an odd word.
    odd_line: usize,
    begins: Beginnings,
}

/// The first two words of the lines that have more: their number, how many are unknown, and the known ones.
#[derive(Default)]
struct Beginnings {
    lines: usize,
    unknown: [usize; 2],
    known: [HashSet<u32>; 2],
}

impl Beginnings {
    fn add(&mut self, line: &[u32], unk: u32) {
        // The last one is the line's end.
        let [first, second, _, ..] = *line else { return };
        self.lines += 1;
        for (place, id) in [first, second].into_iter().enumerate() {
            if id == unk {
                self.unknown[place] += 1;
            } else {
                self.known[place].insert(id);
            }
        }
    }

    fn different(&self, place: usize) -> usize {
        self.unknown[place] + self.known[place].len()
    }

    /// Warns if the first words of the lines look like ids: nearly all unknown while other words are not, or all different while the
    /// second words are not. There are `unknown` unknown ones among all `words`.
    fn warn_of_ids(&self, path: &Path, words: usize, unknown: u64, inputs: &Inputs) -> Result<()> {
        let count = self.lines;
        let (others, all) = (unknown - self.unknown[0] as u64, (words - count) as u64);
        let strange = count >= 3 && self.unknown[0] * 10 >= count * 9 && others * 2 < all;
        // Of a few lines of prose all first words may differ, but then most second words do too.
        let unique = count >= 30 && self.different(0) * 20 >= count * 19 && self.different(1) * 2 <= count;
        if !strange && !unique {
            return Ok(());
        }
        let what = if strange { "unknown" } else { "all different" };
        let notice =
            Notice::of_file(path, 1, format!("the first words of nearly all lines are {what}: utterance ids?"));
        inputs.warn(notice.done("scored as words").option("--ids separates them and prints them before the scores"))
    }
}

impl<'a> LineReader<'a> {
    /// A reader of the text at `path`, whose lines begin with an id if `has_ids`.
    pub fn new(path: &'a Path, vocabulary: &'a Vocabulary, has_ids: bool, inputs: &'a Inputs) -> Self {
        LineReader {
            path,
            vocabulary,
            inputs,
            has_ids,
            keeps_text: false,
            head: Vec::new(),
            lines: 0,
            words: 0,
            unknown: 0,
            seen: Seen::default(),
            odd_line: 0,
            begins: Beginnings::default(),
        }
    }

    /// The same, which returns the text beside the ids of its words, if `keeps`.
    pub fn keeping_text(self, keeps: bool) -> Self {
        LineReader { keeps_text: keeps, ..self }
    }

    /// All lines of the file, with the warnings of [`LineReader::finish`].
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or is empty; with ids, an empty line.
    pub fn whole(mut self) -> Result<Part> {
        let file = self.inputs.open(self.path)?;
        if !self.has_ids {
            warn_of_head(self.path, &file, self.inputs)?;
        }
        let part = self.read(file)?;
        self.finish()?;
        Ok(part)
    }

    /// The lines of the next part of a stream.
    ///
    /// # Errors
    /// As [`LineReader::whole`].
    pub fn part(&mut self, bytes: Vec<u8>) -> Result<Part> {
        let before = self.lines;
        let file = self.inputs.part(self.path, bytes, before == 0)?;
        self.head.extend_from_slice(&file[..file.len().min(HEAD - self.head.len())]);
        if file.is_empty() {
            // What was trimmed was all of it.
            return Ok(Part::default());
        }
        self.read(file).map_err(|error| match error {
            Error::Input { path, line, found, expected } if before > 0 && line > 0 => {
                // Its offset would be that in the part.
                let found = found.split(" at byte offset ").next().unwrap_or_default().to_owned();
                Error::Input { path, line: before + line, found, expected }
            }
            error => error,
        })
    }

    /// Warns about what all parts together had that their user should know.
    ///
    /// # Errors
    /// There was no part; warnings under `--strict`.
    pub fn finish(self) -> Result<()> {
        let LineReader { path, vocabulary, inputs, .. } = self;
        if self.lines == 0 {
            return Err(Error::input(path, 0, "an empty file", "a text, one sentence per line"));
        }
        if !self.has_ids {
            warn_of_head(path, &self.head, inputs)?;
        }
        self.seen.odd.warn(path, self.odd_line, inputs)?;
        self.seen.marks.warn_reading(path, self.lines as u64, vocabulary, inputs)?;
        if !self.has_ids {
            self.begins.warn_of_ids(path, self.words, self.unknown, inputs)?;
        }
        let done = "they are all treated as the same word, so that lines with them score too well";
        warn_of_unknown(self.unknown as f64 / self.words as f64, path, done, inputs)
    }

    fn read(&mut self, file: Content) -> Result<Part> {
        let (ids, file) =
            if self.has_ids { self.split_ids(file).map(|(ids, file)| (Some(ids), file))? } else { (None, file) };
        let (lines, seen, file) = Lines::read_content(self.path, file, self.vocabulary)?;
        if self.odd_line == 0 {
            self.odd_line = match seen.odd.line(&file) {
                0 => 0,
                line => self.lines + line,
            };
        }
        let text = if self.keeps_text {
            file.read(|bytes| Ok(String::from_utf8_lossy(bytes).into_owned()))?
        } else {
            String::new()
        };
        self.seen = self.seen.and(seen);
        self.lines += lines.len();
        self.words += lines.ids.len();
        self.unknown += lines.unknown;
        lines.iter().for_each(|line| self.begins.add(line, self.vocabulary.unk()));
        Ok(Part { ids, lines, text })
    }

    /// The ids of the lines, and what follows them.
    fn split_ids(&self, file: Content) -> Result<(Vec<String>, Content)> {
        let text = std::str::from_utf8(&file).map_err(|e| not_utf8(self.path, &file, e.valid_up_to()))?;
        let (mut ids, mut rest) = (Vec::new(), String::with_capacity(text.len()));
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_ascii();
            let Some(id) = line.split_ascii_whitespace().next() else {
                return Err(Error::input(self.path, number, "an empty line", "an id and the words of a line"));
            };
            ids.push(id.to_owned());
            rest.push_str(&line[id.len()..]);
            rest.push('\n');
        }
        Ok((ids, file.becomes(rest.into_bytes())?))
    }
}
