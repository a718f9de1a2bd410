//! Pretrained word vectors, read from the files of GloVe and word2vec. Only the rows of requested words are kept.
//!
//! | format | first line | rows |
//! |---|---|---|
//! | GloVe text | a row | word and numbers, separated by spaces |
//! | word2vec text | number of rows, numbers per row | the same |
//! | word2vec binary | the same | word, space, little-endian `f32`s, with or without a line feed |
//!
//! The format of a file is detected from its beginning. A word in a text file may contain spaces (some of GloVe's do), as long as none
//! of its parts except the first is a number, and anything if a header gives the numbers per row.
//!
//! Unusable rows are skipped and counted, with a warning: rows whose word is truncated within a character, empty, or white space; of
//! another width; with an invalid or non-finite number; truncated by the end of the file. If they are more than half of the rows
//! examined, the file is something else.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use hashbrown::{HashMap, HashSet};

use super::Inputs;
use super::inputs::stream_failed;
use super::signatures;
use super::words::{Coverage, Digits, Form, resolve};
use crate::notices::Notice;
use crate::{Error, Result};

/// The format of a file of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text without a header.
    Glove,
    /// Text with a header.
    Word2vecText,
    /// Header and binary rows.
    Word2vecBinary,
}

/// How a word is looked up, after itself and its lower case.
const DIGITS: [Digits; 2] = [Digits::Zeros, Digits::Hashes];
/// Bytes examined to detect the format of a file; more than one row of any sensible file.
const HEAD: usize = 1 << 16;
/// A header or row with more numbers than this is considered damaged.
const WIDEST: usize = 1 << 14;
/// A word with more bytes than this is considered damaged.
const LONGEST: u64 = 1 << 12;

/// The vectors of the requested words.
#[derive(Debug)]
pub struct Vectors {
    /// The format of the file.
    pub format: Format,
    /// Numbers per row.
    pub width: usize,
    /// Number of usable rows in the file.
    pub rows: usize,
    /// Number of requested rows whose word had a row before; the first counts.
    pub duplicates: usize,
    numbers: HashMap<String, usize>,
    values: Vec<f32>,
}

/// The rows of a file to keep.
#[derive(Debug, Default)]
pub struct Wanted {
    words: HashSet<String>,
    first: usize,
}

impl Wanted {
    /// The rows of `words`, and of the forms that stand in for them.
    pub fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut wanted = Wanted::default();
        for word in words {
            resolve::<()>(word, &DIGITS, |form, _| {
                wanted.words.insert(form.to_owned());
                None
            });
        }
        wanted
    }

    /// Also the first `rows` rows of the file.
    pub fn and_first(self, rows: usize) -> Self {
        Wanted { first: rows, ..self }
    }
}

impl Vectors {
    /// Reads the vectors of `words`, and of the forms that stand in for them, from a file.
    ///
    /// # Errors
    /// The file cannot be read, is empty, an archive or an HTML page; more than half of its rows are unusable (line, or row
    /// of a binary file); a binary file does not end after the number of rows in its header.
    pub fn read<'a>(
        path: impl AsRef<Path>,
        words: impl IntoIterator<Item = &'a str>,
        inputs: &Inputs,
    ) -> Result<Vectors> {
        Vectors::read_wanted(path, Wanted::words(words), inputs)
    }

    /// As [`Vectors::read`], for any choice of rows.
    ///
    /// # Errors
    /// As [`Vectors::read`].
    pub fn read_wanted(path: impl AsRef<Path>, wanted: Wanted, inputs: &Inputs) -> Result<Vectors> {
        let file = inputs.stream(path.as_ref())?;
        Vectors::parse(path, file, wanted, inputs)
    }

    /// As [`Vectors::read`], from any source; `path` is for messages.
    ///
    /// # Errors
    /// As [`Vectors::read`].
    pub fn parse(path: impl AsRef<Path>, mut file: impl Read, wanted: Wanted, inputs: &Inputs) -> Result<Vectors> {
        let path = path.as_ref();
        let mut head = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|e| stream_failed(path, e))?;
        check_head(path, &head)?;
        let header = header(path, &head)?;
        let format = match header {
            None => Format::Glove,
            Some(header) if is_binary(&head, header) => Format::Word2vecBinary,
            Some(_) => Format::Word2vecText,
        };
        let width = match header {
            Some(header) => header.width,
            None => width(path, &head)?,
        };
        let mut reader = Reader {
            path,
            input: BufReader::with_capacity(1 << 18, Cursor::new(head).chain(file)),
            wanted,
            vectors: Vectors { format, width, rows: 0, duplicates: 0, numbers: HashMap::new(), values: Vec::new() },
            unused: Unused::default(),
        };
        match (format, header) {
            (Format::Word2vecBinary, Some(header)) => reader.binary(header)?,
            (_, header) => reader.text(header)?,
        }
        reader.tell(header, inputs)?;
        Ok(reader.vectors)
    }

    /// The vector of a word, or of the form that stands in for it: lower case, then digits as `0`, then as `#`.
    pub fn find(&self, word: &str) -> Option<(&[f32], Form)> {
        let row = |row: usize| &self.values[row * self.width..(row + 1) * self.width];
        resolve(word, &DIGITS, |text, form| Some((row(*self.numbers.get(text)?), form)))
    }

    /// The words whose rows are kept, in the order of the file.
    pub fn words(&self) -> Vec<&str> {
        let mut words = vec![""; self.numbers.len()];
        self.numbers.iter().for_each(|(word, &number)| words[number] = word);
        words
    }

    /// The number of rows kept.
    pub fn kept(&self) -> usize {
        self.numbers.len()
    }

    /// How many of the given words are found, and under which form.
    pub fn coverage<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Coverage {
        let mut coverage = Coverage::default();
        words.into_iter().for_each(|word| coverage.add(self.find(word).map_or(Form::Unknown, |(_, form)| form)));
        coverage
    }
}

/// The content of the first line of a word2vec file.
#[derive(Clone, Copy)]
struct Header {
    rows: usize,
    width: usize,
    bytes: usize,
}

fn check_head(path: &Path, head: &[u8]) -> Result<()> {
    let found = if head.trim_ascii().is_empty() {
        "an empty file"
    } else if signatures::markup(head).is_some() {
        "a page of HTML or XML"
    } else {
        return Ok(());
    };
    Err(Error::input(path, 0, found, "word vectors: GloVe text, word2vec text or word2vec binary"))
}

/// The header, if the first line is one: two whole numbers and nothing else.
fn header(path: &Path, head: &[u8]) -> Result<Option<Header>> {
    let Some(end) = head.iter().position(|b| *b == b'\n') else {
        return Ok(None);
    };
    let Ok(line) = std::str::from_utf8(&head[..end]) else {
        return Ok(None);
    };
    let mut numbers = line.trim_start_matches('\u{feff}').split_ascii_whitespace().map(str::parse::<usize>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(_)), Some(Ok(width)), None) if width == 0 || width > WIDEST => {
            Err(Error::input(path, 1, format!("a header of rows of {width} numbers"), format!("1 to {WIDEST}")))
        }
        (Some(Ok(rows)), Some(Ok(width)), None) => Ok(Some(Header { rows, width, bytes: end + 1 })),
        _ => Ok(None),
    }
}

/// Whether the data after the header is binary. Examines the bytes in the place of the first row's numbers: binary numbers contain
/// bytes that no text has or that, up to the first line feed, are not UTF-8 or contain no digit.
fn is_binary(head: &[u8], header: Header) -> bool {
    let rest = &head[header.bytes..];
    let Some(word) = rest.iter().position(|b| *b == b' ') else {
        return false;
    };
    let numbers = &rest[word + 1..];
    let numbers = &numbers[..numbers.len().min(4 * header.width)];
    if numbers.iter().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r')) {
        return true;
    }
    let line = numbers.split(|b| *b == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).is_err() || !line.iter().any(u8::is_ascii_digit)
}

/// Numbers per row of a file without a header: as most of its first rows have at their ends.
fn width(path: &Path, head: &[u8]) -> Result<usize> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    // The last line of the head may be incomplete, unless it is the only one.
    let whole = head.iter().rposition(|byte| *byte == b'\n').unwrap_or(head.len());
    for line in head[..whole].split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let fields = || line.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
        // The first field is the word, whatever it looks like.
        let numbers =
            fields().rev().take_while(|field| is_number(field)).count().min(fields().count().saturating_sub(1));
        if numbers > 0 {
            *counts.entry(numbers).or_insert(0) += 1;
        }
    }
    // Of equally common widths the larger: a row of few numbers is more likely truncated.
    let width = counts.into_iter().max_by_key(|&(width, count)| (count, width)).map_or(0, |(width, _)| width);
    if width == 0 {
        let (found, expected) = ("a line that does not end in a number", "a word and its numbers");
        return Err(Error::input(path, 1, found, expected));
    }
    if width > WIDEST {
        return Err(Error::input(path, 1, format!("rows of {width} numbers"), format!("1 to {WIDEST}")));
    }
    Ok(width)
}

/// Why a row is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NotUtf8,
    NoWord,
    Width,
    Number,
    Cut,
}

impl Why {
    const ALL: [Why; 5] = [Why::NotUtf8, Why::NoWord, Why::Width, Why::Number, Why::Cut];

    fn text(self) -> &'static str {
        match self {
            Why::NotUtf8 => "of words that are not UTF-8",
            Why::NoWord => "of words that are empty or white space",
            Why::Width => "of another number of numbers",
            Why::Number => "with something else than finite numbers",
            Why::Cut => "cut by the end of the file",
        }
    }
}

/// Unusable rows.
#[derive(Default)]
struct Unused {
    counts: [usize; Why::ALL.len()],
    /// Line, or row of a binary file, and what was found.
    first: Option<(usize, String)>,
    /// Number of rows whose words contain numbers, which a header allows, and the first of them.
    longer: (usize, usize),
}

impl Unused {
    fn add(&mut self, line: usize, why: Why, found: impl FnOnce() -> String) {
        self.counts[why as usize] += 1;
        self.first.get_or_insert_with(|| (line, found()));
    }

    fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

struct Reader<'p, R> {
    path: &'p Path,
    input: BufReader<R>,
    wanted: Wanted,
    vectors: Vectors,
    unused: Unused,
}

impl<R: Read> Reader<'_, R> {
    fn io(&self, e: std::io::Error) -> Error {
        stream_failed(self.path, e)
    }

    /// Warns about skipped rows, or rejects the file if most rows are unusable.
    fn tell(&self, header: Option<Header>, inputs: &Inputs) -> Result<()> {
        let Vectors { format, width, rows, duplicates, .. } = self.vectors;
        let binary = format == Format::Word2vecBinary;
        let bad = self.unused.total();
        if let Some((line, found)) = &self.unused.first {
            let (at, row) = if binary { (0, format!(" in row {line}")) } else { (*line, String::new()) };
            if bad > rows {
                let expected = format!("a word and {width} numbers; so in {bad} of {} rows", rows + bad);
                return Err(Error::input(self.path, at, format!("{found}{row}"), expected));
            }
            let kinds: Vec<String> = Why::ALL
                .iter()
                .filter(|&&why| self.unused.counts[why as usize] > 0)
                .map(|&why| format!("{} {}", self.unused.counts[why as usize], why.text()))
                .collect();
            let what = format!("rows that cannot be used ({}), the first with {found}{row}", kinds.join(", "));
            inputs.warn(Notice::of_file(self.path, at, what).done(format!("{bad} of {} rows left out", rows + bad)))?;
        }
        let (longer, first) = self.unused.longer;
        if 2 * longer > rows {
            let found = format!("more than {width} numbers in {longer} of {rows} rows");
            return Err(Error::input(self.path, first, found, format!("{width} as the header says")));
        }
        if let Some(header) = header.filter(|header| header.rows != rows + bad) {
            let found = format!("a header of {} rows above {}", header.rows, rows + bad);
            inputs.warn(Notice::of_file(self.path, 1, found).done("those that are there are read"))?;
        }
        if duplicates > 0 {
            let found = match duplicates {
                1 => "a row of a word that has one before".to_owned(),
                _ => format!("{duplicates} rows of words that have one before"),
            };
            inputs.warn(Notice::of_file(self.path, 0, found).done("the first row of a word counts"))?;
        }
        Ok(())
    }

    fn text(&mut self, header: Option<Header>) -> Result<()> {
        let (mut buffer, mut line) = (Vec::new(), 0);
        // Whether the previous line was a piece of a word that contains a line feed.
        let mut piece = false;
        loop {
            // A file that is something else need not be read to its end.
            if self.unused.total() > 10_000.max(self.vectors.rows) {
                return Ok(());
            }
            buffer.clear();
            if self.input.read_until(b'\n', &mut buffer).map_err(|e| self.io(e))? == 0 {
                return Ok(());
            }
            line += 1;
            if line == 1 && header.is_some() {
                continue;
            }
            let ends = buffer.last() == Some(&b'\n');
            let bytes = if line == 1 { buffer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&buffer) } else { &buffer };
            let row = match std::str::from_utf8(bytes) {
                Ok(row) => row,
                Err(e) => {
                    let why = if ends { Why::NotUtf8 } else { Why::Cut };
                    self.unused.add(line, why, || format!("the byte 0x{:02X}", bytes[e.valid_up_to()]));
                    piece = false;
                    continue;
                }
            };
            let row = row.trim_end_matches([' ', '\t', '\r', '\n']);
            if row.is_empty() {
                continue;
            }
            if piece {
                // It was reported at its first line.
                piece = false;
                continue;
            }
            piece = self.text_row(line, row, header.is_some(), ends);
        }
    }

    /// Processes a row; returns whether it is only the beginning of a word.
    fn text_row(&mut self, line: usize, row: &str, header: bool, ends: bool) -> bool {
        let is_space = |byte: u8| byte == b' ' || byte == b'\t';
        let width = self.vectors.width;
        // Numbers are parsed from the end: the word may contain spaces.
        let bytes = row.as_bytes();
        let (mut end, mut count, mut last) = (bytes.len(), 0, row);
        while count < width {
            let begin = bytes[..end].iter().rposition(|&byte| is_space(byte)).map_or(0, |at| at + 1);
            if begin == 0 {
                break;
            }
            if count == 0 {
                last = &row[begin..];
            }
            count += 1;
            end = begin;
            while end > 0 && is_space(bytes[end - 1]) {
                end -= 1;
            }
        }
        let (word, numbers) = row.split_at(end);
        let fields = || row.split([' ', '\t']).filter(|field| !field.is_empty()).count();
        let of_fields = || format!("a row of {} fields", fields());
        if count < width {
            // Without any number it is a piece of a word, if more lines follow.
            let is_piece = header && ends && !row.split([' ', '\t']).skip(1).any(is_number);
            let why = match (ends, is_piece) {
                (false, _) => Why::Cut,
                (true, true) => Why::NoWord,
                (true, false) => Why::Width,
            };
            self.unused.add(line, why, of_fields);
            return is_piece;
        }
        if word.trim().is_empty() {
            self.unused.add(line, Why::NoWord, || "no word".to_owned());
            return false;
        }
        // The parts of a word are not numbers, unless the width is known.
        if word.split([' ', '\t']).skip(1).any(is_number) {
            if !header {
                self.unused.add(line, Why::Width, of_fields);
                return false;
            }
            let (count, first) = self.unused.longer;
            self.unused.longer = (count + 1, if count == 0 { line } else { first });
        }
        let not_a_number = |field: &str| format!("`{}`", field.chars().take(40).collect::<String>());
        if !self.wants(word) {
            // Only one number of a row that is not requested is parsed, to distinguish vectors from prose.
            match last.parse::<f32>() {
                Ok(_) => self.vectors.rows += 1,
                Err(_) => self.unused.add(line, Why::Number, || not_a_number(last)),
            }
            return false;
        }
        let from = self.vectors.values.len();
        for field in numbers.split([' ', '\t']).filter(|field| !field.is_empty()) {
            match field.parse::<f32>() {
                Ok(value) if value.is_finite() => self.vectors.values.push(value),
                _ => {
                    self.vectors.values.truncate(from);
                    self.unused.add(line, Why::Number, || not_a_number(field));
                    return false;
                }
            }
        }
        self.take(word);
        false
    }

    /// Whether the row of `word` should be kept.
    fn wants(&mut self, word: &str) -> bool {
        if self.vectors.rows >= self.wanted.first && !self.wanted.words.contains(word) {
            return false;
        }
        let again = self.vectors.numbers.contains_key(word);
        self.vectors.duplicates += usize::from(again);
        !again
    }

    /// Keeps the row of `word`, whose numbers are stored already.
    fn take(&mut self, word: &str) {
        let next = self.vectors.numbers.len();
        self.vectors.numbers.insert(word.to_owned(), next);
        self.vectors.rows += 1;
    }

    fn binary(&mut self, header: Header) -> Result<()> {
        self.input.read_until(b'\n', &mut Vec::new()).map_err(|e| self.io(e))?;
        let (mut word, mut row) = (Vec::new(), vec![0; 4 * header.width]);
        for number in 1..=header.rows {
            word.clear();
            self.input.by_ref().take(LONGEST).read_until(b' ', &mut word).map_err(|e| self.io(e))?;
            if matches!(word[..], [] | [b'\n']) {
                // The file ends before the number of rows in its header.
                return Ok(());
            }
            let is_word = word.pop() == Some(b' ');
            if !is_word && word.len() as u64 + 1 == LONGEST {
                let (found, rows) = (format!("no word in row {number} of {}", header.rows), "a word and a space");
                return Err(Error::input(self.path, 0, found, rows));
            }
            let whole = is_word
                && match self.input.read_exact(&mut row) {
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => false,
                    result => result.map(|()| true).map_err(|e| self.io(e))?,
                };
            if !whole {
                self.unused.add(number, Why::Cut, || "the end of the file".to_owned());
                return Ok(());
            }
            let word = match std::str::from_utf8(word.strip_prefix(b"\n").unwrap_or(&word)) {
                Ok(word) if word.trim().is_empty() => {
                    self.unused.add(number, Why::NoWord, || "no word".to_owned());
                    continue;
                }
                Ok(word) => word,
                Err(_) => {
                    self.unused.add(number, Why::NotUtf8, || "a word that is not UTF-8".to_owned());
                    continue;
                }
            };
            if !self.wants(word) {
                self.vectors.rows += 1;
                continue;
            }
            let from = self.vectors.values.len();
            self.vectors.values.extend(row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            match self.vectors.values[from..].iter().copied().find(|value| !value.is_finite()) {
                Some(value) => {
                    self.vectors.values.truncate(from);
                    self.unused.add(number, Why::Number, || format!("{value}"));
                }
                None => self.take(word),
            }
        }
        let mut rest = Vec::new();
        self.input.by_ref().take(2).read_to_end(&mut rest).map_err(|e| self.io(e))?;
        if !matches!(rest[..], [] | [b'\n']) {
            return Err(Error::input(self.path, 0, "more bytes", format!("the end after {} rows", header.rows)));
        }
        Ok(())
    }
}

/// Whether a field is a number (`nan` and `inf`, which `f32` reads, are words here).
fn is_number(field: &str) -> bool {
    field.bytes().any(|b| b.is_ascii_digit()) && field.parse::<f32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: impl AsRef<[u8]>, words: &[&str]) -> Result<Vectors> {
        Vectors::parse("v", bytes.as_ref(), Wanted::words(words.iter().copied()), &Inputs::default())
    }

    fn message(bytes: impl AsRef<[u8]>) -> String {
        parse(bytes, &["a", "b", "c"]).unwrap_err().to_string()
    }

    fn binary(rows: &[(&str, &[f32])], end: &str) -> Vec<u8> {
        let mut out = format!("{} {}\n", rows.len(), rows[0].1.len()).into_bytes();
        for (word, values) in rows {
            out.extend(format!("{word} ").bytes());
            out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            out.extend(end.bytes());
        }
        out
    }

    #[test]
    fn formats_are_told_apart_and_agree() {
        let rows: [(&str, &[f32]); 4] = [
            ("the", &[0.5, -1.25, 3e-5]),
            ("b", &[1.0, 2.0, 3.0]),
            ("Über", &[-0.0, 7.5, 0.1]),
            ("the", &[9.0, 9.0, 9.0]),
        ];
        let text: String = rows
            .iter()
            .map(|(w, v)| format!("{w} {}\n", v.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")))
            .collect();
        let files = [
            (Format::Glove, text.clone().into_bytes()),
            (Format::Glove, text.trim_end().replace('\n', " \r\n").into_bytes()),
            (Format::Word2vecText, format!("4 3\n{text}\n").into_bytes()),
            (Format::Word2vecText, format!("\u{feff}4 3 \r\n{}", text.replace(' ', "\t")).into_bytes()),
            (Format::Word2vecBinary, binary(&rows, "")),
            (Format::Word2vecBinary, binary(&rows, "\n")),
        ];
        for (format, bytes) in files {
            let vectors = parse(bytes, &["the", "Über", "none"]).unwrap();
            assert_eq!((vectors.format, vectors.width, vectors.rows), (format, 3, 4));
            assert_eq!((vectors.kept(), vectors.duplicates), (2, 1));
            assert_eq!(
                vectors.find("the"),
                Some((&[0.5, -1.25, 3e-5][..], Form::Exact)),
                "{format:?}: the first counts"
            );
            assert_eq!(vectors.find("Über"), Some((&[-0.0, 7.5, 0.1][..], Form::Exact)));
            assert_eq!(vectors.find("b"), None, "not asked for");
        }
    }

    #[test]
    fn binary_numbers_that_look_like_text() {
        // No control bytes: recognised by bytes that are not UTF-8, or by the lack of digits before a line feed.
        for bytes in [*b"5\xE9A?", *b"\nAB?", *b"AB\nC"] {
            let value = f32::from_le_bytes(bytes);
            let vectors = parse(binary(&[("a", &[value])], "\n"), &["a"]).unwrap();
            assert_eq!(vectors.format, Format::Word2vecBinary);
            assert_eq!(vectors.find("a").unwrap().0, [value]);
        }
    }

    #[test]
    fn forms_that_stand_in_and_coverage() {
        let words = ["The", "the", "IL-2", "IL-3", "1984", "Q7", "x"];
        let vectors = parse("the 1 1\nil-0 2 2\nIL-2 3 3\n#### 4 4\nx7 5 5\n0000 6 6\n", &words).unwrap();
        assert_eq!(vectors.find("The"), Some((&[1.0, 1.0][..], Form::Lower)));
        assert_eq!(vectors.find("IL-2"), Some((&[3.0, 3.0][..], Form::Exact)));
        assert_eq!(vectors.find("IL-3"), Some((&[2.0, 2.0][..], Form::Digits)));
        assert_eq!(vectors.find("1984"), Some((&[6.0, 6.0][..], Form::Digits)));
        assert_eq!(vectors.kept(), 5);
        let coverage = vectors.coverage(words);
        assert_eq!(coverage, Coverage { exact: 2, lower: 1, digits: 2, unknown: 2 });
    }

    #[test]
    fn words_with_spaces() {
        let vectors =
            parse("a 1 2\n. . . 3 4\nat name@domain.com 5 6\n7 8 9\n", &[". . .", "at name@domain.com", "7"]).unwrap();
        assert_eq!(vectors.width, 2);
        assert_eq!(vectors.find(". . .").unwrap().0, [3.0, 4.0]);
        assert_eq!(vectors.find("at name@domain.com").unwrap().0, [5.0, 6.0]);
        assert_eq!(vectors.find("7").unwrap().0, [8.0, 9.0]);
    }

    /// Reads a file of rows; returns the vectors and the warnings.
    fn told(bytes: impl AsRef<[u8]>) -> (Vectors, Vec<String>) {
        let inputs = Inputs::default();
        let words = Wanted::words(["a", "b", "c", "d"]);
        let vectors = Vectors::parse("v", bytes.as_ref(), words, &inputs).unwrap();
        (vectors, inputs.notices().all().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rows_that_cannot_be_used_are_left_out() {
        let cut = "rows that cannot be used";
        for (row, line, found) in [
            (&b"q 1\n"[..], 3, "1 of another number of numbers), the first with a row of 2 fields"),
            (b"q 1 2 3\n", 3, "1 of another number of numbers), the first with a row of 4 fields"),
            (b" 1 2\n", 3, "1 of words that are empty or white space), the first with no word"),
            (b"  1 2\n", 3, "1 of words that are empty or white space), the first with no word"),
            ("\u{a0} 1 2\n".as_bytes(), 3, "1 of words that are empty or white space), the first with no word"),
            (b"d 1 x\n", 3, "1 with something else than finite numbers), the first with `x`"),
            (b"d nan 2\n", 3, "1 with something else than finite numbers), the first with `nan`"),
            (b"d 1e60 2\n", 3, "1 with something else than finite numbers), the first with `1e60`"),
            (b"q\xE9 1 2\n", 3, "1 of words that are not UTF-8), the first with the byte 0xE9"),
        ] {
            let (vectors, warnings) = told([&b"a 1 2\nb 3 4\n"[..], row, b"c 5 6\n"].concat());
            assert_eq!(warnings, [format!("v:{line}: {cut} ({found}; 1 of 4 rows left out")]);
            assert_eq!((vectors.kept(), vectors.rows, vectors.find("c").unwrap().0), (3, 3, &[5.0, 6.0][..]));
        }
        // The end of an interrupted download, within a number and within a character.
        for end in [&b"c 5"[..], b"c\xC3"] {
            let (vectors, warnings) = told([b"a 1 2\nb 3 4\n", end].concat());
            assert_eq!((vectors.kept(), warnings.len()), (2, 1));
            assert!(warnings[0].contains("1 cut by the end of the file"), "{warnings:?}");
        }
        let (vectors, warnings) = told("a 1 2\n\nb 1 2\n\n");
        assert_eq!((vectors.rows, warnings.len()), (2, 0), "empty lines are no rows");
        let (vectors, warnings) = told("a 1 2\nb 3 4\na 5 6\n");
        assert_eq!(vectors.find("a").unwrap().0, [1.0, 2.0]);
        assert_eq!(warnings, ["v: a row of a word that has one before; the first row of a word counts"]);
    }

    #[test]
    fn a_header_says_the_width() {
        // Words may contain anything: spaces, numbers, a line feed.
        let (vectors, warnings) = told("5 2\na 1 2\n1 000 3 4\nx\ny 9 9\n. . 5 6\nb 7 8\n");
        assert_eq!((vectors.rows, vectors.find("b").unwrap().0, vectors.find("y")), (4, &[7.0, 8.0][..], None));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("v:4: rows that cannot be used (1 of words that are empty"), "{warnings:?}");
        // `head -n` of a larger file, and a file with rows appended.
        for rows in [2, 99] {
            let (vectors, warnings) = told(format!("{rows} 2\na 1 2\nb 3 4\nc 5 6\n"));
            assert_eq!(vectors.kept(), 3);
            assert_eq!(warnings, [format!("v:1: a header of {rows} rows above 3; those that are there are read")]);
        }
        let (vectors, warnings) = told("3 2 \r\na\t1\t2\t\r\nb 3 4 \r\nc  5 6\r\n");
        assert_eq!((vectors.kept(), warnings.len()), (3, 0));
    }

    #[test]
    fn wrong_text() {
        let most = "v:2: found a row of 2 fields, expected a word and 2 numbers; so in 2 of 3 rows";
        assert_eq!(message("3 2\nq 1\nr 2\na 3 4\n"), most);
        assert_eq!(
            message("3 2\na 1 2 3\nb 1 2 3\nc 1 2\n"),
            "v:2: found more than 2 numbers in 2 of 3 rows, expected 2 as the header says"
        );
        assert_eq!(message("2 0\n"), "v:1: found a header of rows of 0 numbers, expected 1 to 16384");
        assert_eq!(
            message("3 99999999999\n"),
            "v:1: found a header of rows of 99999999999 numbers, expected 1 to 16384"
        );
        let expected = "v:1: found a line that does not end in a number, expected a word and its numbers";
        assert_eq!(message("/Users/x/file.txt"), expected);
        assert_eq!(message("a b c\n"), expected);
        let text = "the first line\nthe year 1990\nthe third line\n";
        assert_eq!(message(text), "v:1: found `line`, expected a word and 1 numbers; so in 2 of 3 rows");
        let kinds = "expected word vectors: GloVe text, word2vec text or word2vec binary";
        assert_eq!(message(""), format!("v: found an empty file, {kinds}"));
        assert_eq!(message(" \n\n"), format!("v: found an empty file, {kinds}"));
        assert_eq!(message("\n\n<!doctype HTML>\n"), format!("v: found a page of HTML or XML, {kinds}"));
        assert_eq!(Vectors::read("no/such/file", [], &Inputs::default()).unwrap_err().exit_code(), 6);
    }

    #[test]
    fn odd_binary() {
        let rows: [(&str, &[f32]); 3] = [("a", &[0.5, -1.25]), ("b", &[1.0, 2.0]), ("c", &[3.0, 4.0])];
        let good = binary(&rows, "\n");
        // Truncated within the last row's numbers and word, and after a row.
        for (cut, warnings) in [(2, 1), (10, 1), (11, 1), (12, 1)] {
            let (vectors, told) = told(&good[..good.len() - cut]);
            assert_eq!(
                (vectors.kept(), told.len()),
                (2, if cut == 11 || cut == 12 { 1 } else { warnings }),
                "{cut} {told:?}"
            );
        }
        let more = [&good[..], b"c "].concat();
        assert_eq!(message(more), "v: found more bytes, expected the end after 3 rows");
        let rows: [(&str, &[f32]); 3] = [("a", &[0.5, -1.25]), ("b", &[f32::NAN, 2.0]), ("c", &[3.0, 4.0])];
        let (vectors, warnings) = told(binary(&rows, ""));
        assert_eq!((vectors.find("c").unwrap().0, vectors.find("b")), (&[3.0, 4.0][..], None));
        let told_of = "v: rows that cannot be used (1 with something else than finite numbers), the first with NaN in row 2; 1 of 3 rows left out";
        assert_eq!(warnings, [told_of]);
        let mut latin = good.clone();
        latin[4] = 0xE9;
        let (vectors, warnings) = told(&latin);
        assert_eq!((vectors.kept(), warnings.len()), (2, 1));
        assert!(warnings[0].contains("the first with a word that is not UTF-8 in row 1"), "{warnings:?}");
        let rows: [(&str, &[f32]); 3] = [("a", &[0.5, -1.25]), ("", &[1.0, 2.0]), ("\n", &[3.0, 4.0])];
        assert_eq!(
            message(binary(&rows, "")),
            "v: found no word in row 2, expected a word and 2 numbers; so in 2 of 3 rows"
        );
    }

    #[test]
    fn real_files() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
        if !root.exists() {
            println!("skipped: {} is not there", root.display());
            return;
        }
        let words = ["the", "The", "#", "1984", "zzzzz"];
        let read = |name: &str| Vectors::read(root.join(name), words, &Inputs::default());
        let glove = read("vectors/glove.6B.50d.first2445.utf8.txt").unwrap();
        assert_eq!((glove.format, glove.rows, glove.width), (Format::Glove, 2445, 50));
        assert_eq!(glove.find("The").unwrap().0[..2], [0.418, 0.24968]);
        let twitter = read("vectors/glove.twitter.27B.25d.12k.txt").unwrap();
        assert_eq!((twitter.format, twitter.rows, twitter.width), (Format::Glove, 11_925, 25));
        // Some of its words are truncated within a character, and it ends as an interrupted download: the rest is usable.
        let inputs = Inputs::default();
        let cut = Vectors::read(root.join("vectors/glove.6B.50d.first1MiB.txt"), words, &inputs).unwrap();
        assert_eq!(cut.find("The"), glove.find("The"));
        let warnings = inputs.notices().all();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].found.contains("5 of words that are not UTF-8"), "{}", warnings[0]);
        for (name, found) in [
            ("ptb.train.html-page.txt", "found a page of HTML"),
            ("wikitext-2.s3-error-xml.zip", "found a page of HTML or XML"),
            ("symlink-target-as-text.txt", "a symbolic link that was saved as text"),
        ] {
            let error = read(&format!("traps/{name}")).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), n in 0u8..9) {
            let _ = parse(&bytes, &["a", "0"]);
            let _ = parse([format!("{n} 2\na ").as_bytes(), &bytes].concat(), &["a", "0"]);
        }

        #[test]
        fn binary_is_found_and_read(
            rows in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 12), 1..20), line_feed in any::<bool>()
        ) {
            let names: Vec<String> = (0..rows.len()).map(|i| format!("w{i}")).collect();
            let pairs: Vec<(&str, &[f32])> = names.iter().map(String::as_str).zip(rows.iter().map(Vec::as_slice)).collect();
            let vectors = parse(binary(&pairs, if line_feed { "\n" } else { "" }), &["w0"]).unwrap();
            prop_assert_eq!(vectors.format, Format::Word2vecBinary);
            prop_assert_eq!(vectors.find("w0").unwrap().0, &rows[0][..]);
        }
    }
}
