//! Word vectors trained elsewhere, read from the files of GloVe and word2vec. Of a file, only the rows of the words that
//! are asked for are kept.
//!
//! | format | first line | rows |
//! |---|---|---|
//! | GloVe text | a row | word and numbers, separated by spaces |
//! | word2vec text | number of rows, of numbers a row | the same |
//! | word2vec binary | the same | word, space, little-endian `f32`s, with or without a line feed |
//!
//! Which one a file is in is found from its beginning. A word of a text file may hold spaces (some of GloVe's do), as long
//! as none of its parts but the first is a number.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use hashbrown::{HashMap, HashSet};

use super::Inputs;
use super::conll::is_markup;
use super::words::{Coverage, Digits, Form, resolve};
use crate::{Error, Result};

/// How a file of vectors is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text without a header.
    Glove,
    /// Text with a header.
    Word2vecText,
    /// Header and binary rows.
    Word2vecBinary,
}

/// How a word is looked for, after itself and its lower case.
const DIGITS: [Digits; 2] = [Digits::Zeros, Digits::Hashes];
/// How much of a file is looked at to find its format; more than one row of any sensible file.
const HEAD: usize = 1 << 16;
/// A header or row with more numbers than this is taken for damage.
const WIDEST: usize = 1 << 14;
/// A word with more bytes than this is taken for damage.
const LONGEST: u64 = 1 << 12;

/// The vectors of the words that were asked for.
#[derive(Debug)]
pub struct Vectors {
    /// The format of the file.
    pub format: Format,
    /// Numbers in a row.
    pub width: usize,
    /// Rows in the file.
    pub rows: usize,
    /// Rows, among those asked for, of a word that had one before; the first counts.
    pub duplicates: usize,
    numbers: HashMap<String, usize>,
    values: Vec<f32>,
}

/// Rows of a file that are kept.
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

    /// The `rows` first rows of the file too.
    pub fn and_first(self, rows: usize) -> Self {
        Wanted { first: rows, ..self }
    }
}

impl Vectors {
    /// Reads the vectors of `words`, and of the forms that stand in for them, from a file.
    ///
    /// # Errors
    /// The file cannot be read, is empty, packed, or a page of HTML; a row is not UTF-8 or of another width than the
    /// first (line, or row of a binary file); a number of a row that is asked for is none, or not finite; there are not
    /// as many rows as the header says.
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
    pub fn parse(path: impl AsRef<Path>, mut file: impl Read, wanted: Wanted, _inputs: &Inputs) -> Result<Vectors> {
        let path = path.as_ref();
        let mut head = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|e| Error::io(path, "reading", e))?;
        check_head(path, &head)?;
        let header = header(path, &head)?;
        let format = match header {
            None => Format::Glove,
            Some(header) if is_binary(&head, header) => Format::Word2vecBinary,
            Some(_) => Format::Word2vecText,
        };
        let mut reader = Reader {
            path,
            input: BufReader::with_capacity(1 << 18, Cursor::new(head).chain(file)),
            wanted,
            vectors: Vectors { format, width: 0, rows: 0, duplicates: 0, numbers: HashMap::new(), values: Vec::new() },
        };
        match (format, header) {
            (Format::Word2vecBinary, Some(header)) => reader.binary(header)?,
            (_, header) => reader.text(header)?,
        }
        Ok(reader.vectors)
    }

    /// The vector of a word, or of the form that stands in for it: lower case, then digits as `0`, then as `#`.
    pub fn find(&self, word: &str) -> Option<(&[f32], Form)> {
        let row = |row: usize| &self.values[row * self.width..(row + 1) * self.width];
        resolve(word, &DIGITS, |text, form| Some((row(*self.numbers.get(text)?), form)))
    }

    /// The words whose rows were kept, in the order of the file.
    pub fn words(&self) -> Vec<&str> {
        let mut words = vec![""; self.numbers.len()];
        self.numbers.iter().for_each(|(word, &number)| words[number] = word);
        words
    }

    /// The number of rows that were kept.
    pub fn kept(&self) -> usize {
        self.numbers.len()
    }

    /// How the given words are found.
    pub fn coverage<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Coverage {
        let mut coverage = Coverage::default();
        words.into_iter().for_each(|word| coverage.add(self.find(word).map_or(Form::Unknown, |(_, form)| form)));
        coverage
    }
}

/// What the first line of a word2vec file says.
#[derive(Clone, Copy)]
struct Header {
    rows: usize,
    width: usize,
    bytes: usize,
}

fn check_head(path: &Path, head: &[u8]) -> Result<()> {
    let found = if head.trim_ascii().is_empty() {
        "an empty file"
    } else if is_markup(head) {
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

/// Whether what follows the header is binary. Looked at are the bytes that would be the numbers of the first row: binary
/// numbers hold bytes that no text has, or, up to the first line feed, that are not UTF-8 or hold no digit.
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

struct Reader<'p, R> {
    path: &'p Path,
    input: BufReader<R>,
    wanted: Wanted,
    vectors: Vectors,
}

impl<R: Read> Reader<'_, R> {
    fn io(&self, e: std::io::Error) -> Error {
        Error::io(self.path, "reading", e)
    }

    fn text(&mut self, header: Option<Header>) -> Result<()> {
        self.vectors.width = header.map_or(0, |h| h.width);
        let (mut buffer, mut line, mut empty) = (Vec::new(), 0, 0);
        loop {
            buffer.clear();
            if self.input.read_until(b'\n', &mut buffer).map_err(|e| self.io(e))? == 0 {
                break;
            }
            line += 1;
            let bytes = if line == 1 { buffer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&buffer) } else { &buffer };
            let row = std::str::from_utf8(bytes).map_err(|e| {
                let bad = bytes[e.valid_up_to()];
                Error::input(self.path, line, format!("the byte 0x{bad:02X}"), "UTF-8")
            })?;
            let row = row.trim_end_matches([' ', '\t', '\r', '\n']);
            if line == 1 && header.is_some() {
                continue;
            }
            // Empty lines may only end the file.
            if row.is_empty() {
                empty = if empty == 0 { line } else { empty };
                continue;
            }
            if empty != 0 {
                return Err(Error::input(self.path, empty, "an empty line", "a word and its numbers"));
            }
            self.text_row(line, row)?;
        }
        let rows = self.vectors.rows;
        match header {
            Some(header) if header.rows != rows => {
                Err(Error::input(self.path, 0, format!("{rows} rows"), format!("{} as the header says", header.rows)))
            }
            _ => Ok(()),
        }
    }

    fn text_row(&mut self, line: usize, row: &str) -> Result<()> {
        let fields = || row.split([' ', '\t']).filter(|field| !field.is_empty());
        let count = fields().count();
        if self.vectors.width == 0 {
            // The first row of a file without a header: all numbers at its end.
            let last = row.rsplit([' ', '\t']).filter(|field| !field.is_empty());
            self.vectors.width = last.take_while(|field| is_number(field)).count().min(count - 1);
        }
        let (path, width) = (self.path, self.vectors.width);
        let wrong = |found: String| {
            let expected =
                if width == 0 { "a word and its numbers".into() } else { format!("a word and {width} numbers") };
            Err(Error::input(path, line, found, expected))
        };
        if width == 0 {
            return wrong("a line that does not end in a number".into());
        }
        if width > WIDEST || count < width + 1 || row.starts_with([' ', '\t']) {
            return wrong(format!("a row of {count} fields"));
        }
        let mut word = 0;
        for (i, field) in fields().take(count - width).enumerate() {
            if i > 0 && is_number(field) {
                return wrong(format!("a row of {count} fields"));
            }
            word = field.as_ptr() as usize - row.as_ptr() as usize + field.len();
        }
        self.vectors.rows += 1;
        let (word, numbers) = row.split_at(word);
        if !self.wants(word) {
            return Ok(());
        }
        for field in numbers.split([' ', '\t']).filter(|field| !field.is_empty()) {
            match field.parse::<f32>() {
                Ok(value) if value.is_finite() => self.vectors.values.push(value),
                _ => return wrong(format!("`{field}`")),
            }
        }
        Ok(())
    }

    /// Whether the row of `word` is to be kept; if so, its number is taken.
    fn wants(&mut self, word: &str) -> bool {
        if self.vectors.rows > self.wanted.first && !self.wanted.words.contains(word) {
            return false;
        }
        let next = self.vectors.numbers.len();
        match self.vectors.numbers.entry_ref(word) {
            hashbrown::hash_map::EntryRef::Occupied(_) => {
                self.vectors.duplicates += 1;
                false
            }
            hashbrown::hash_map::EntryRef::Vacant(entry) => {
                entry.insert(next);
                true
            }
        }
    }

    fn binary(&mut self, header: Header) -> Result<()> {
        self.vectors.width = header.width;
        self.input.read_until(b'\n', &mut Vec::new()).map_err(|e| self.io(e))?;
        let (mut word, mut row) = (Vec::new(), vec![0; 4 * header.width]);
        for number in 1..=header.rows {
            let wrong = |found: &str, expected: &str| {
                let rows = header.rows;
                Err(Error::input(self.path, 0, format!("{found} in row {number} of {rows}"), expected))
            };
            word.clear();
            self.input.by_ref().take(LONGEST).read_until(b' ', &mut word).map_err(|e| self.io(e))?;
            if word.pop() != Some(b' ') {
                return wrong("no word", "a word and a space");
            }
            let Ok(word) = std::str::from_utf8(word.strip_prefix(b"\n").unwrap_or(&word)) else {
                return wrong("a word that is not UTF-8", "UTF-8");
            };
            match self.input.read_exact(&mut row) {
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return wrong("the end of the file", &format!("{} numbers", header.width));
                }
                result => result.map_err(|e| self.io(e))?,
            }
            self.vectors.rows += 1;
            if self.wants(word) {
                let values = row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                let from = self.vectors.values.len();
                self.vectors.values.extend(values);
                if let Some(value) = self.vectors.values[from..].iter().find(|value| !value.is_finite()) {
                    let found = format!("{value} in row {number}, of `{word}`");
                    return Err(Error::input(self.path, 0, found, "finite numbers"));
                }
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
        // No control bytes: known by what is not UTF-8, or by the lack of digits before a line feed.
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

    #[test]
    fn wrong_text() {
        assert_eq!(message("a 1 2\nq 1\n"), "v:2: found a row of 2 fields, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\nq 1 2 3\n"), "v:2: found a row of 4 fields, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\n 1 2\n"), "v:2: found a row of 2 fields, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\nb 1 x\n"), "v:2: found `x`, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\nb nan 2\n"), "v:2: found `nan`, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\nb 1e60 2\n"), "v:2: found `1e60`, expected a word and 2 numbers");
        assert_eq!(message("a 1 2\n\nb 1 2\n"), "v:2: found an empty line, expected a word and its numbers");
        assert_eq!(message(b"a 1 2\nq\xE9 1 2\n"), "v:2: found the byte 0xE9, expected UTF-8");
        assert_eq!(message("2 2\na 1 2\nb 1 2 3\n"), "v:3: found a row of 4 fields, expected a word and 2 numbers");
        assert_eq!(message("3 2\na 1 2\nb 1 2\n"), "v: found 2 rows, expected 3 as the header says");
        assert_eq!(message("1 2\na 1 2\nb 1 2\n"), "v: found 2 rows, expected 1 as the header says");
        assert_eq!(message("2 0\n"), "v:1: found a header of rows of 0 numbers, expected 1 to 16384");
        assert_eq!(
            message("3 99999999999\n"),
            "v:1: found a header of rows of 99999999999 numbers, expected 1 to 16384"
        );
        let expected = "v:1: found a line that does not end in a number, expected a word and its numbers";
        assert_eq!(message("/Users/x/file.txt"), expected);
        assert_eq!(message("a b c\n"), expected);
        let kinds = "expected word vectors: GloVe text, word2vec text or word2vec binary";
        assert_eq!(message(""), format!("v: found an empty file, {kinds}"));
        assert_eq!(message(" \n\n"), format!("v: found an empty file, {kinds}"));
        assert_eq!(message("\n\n<!doctype HTML>\n"), format!("v: found a page of HTML or XML, {kinds}"));
        assert_eq!(message(b"PK\x03\x04rest"), format!("v: found a packed file (zip or gzip), {kinds}"));
        assert_eq!(Vectors::read("no/such/file", [], &Inputs::default()).unwrap_err().exit_code(), 6);
    }

    #[test]
    fn wrong_binary() {
        let rows: [(&str, &[f32]); 2] = [("a", &[0.5, -1.25]), ("b", &[1.0, 2.0])];
        let good = binary(&rows, "\n");
        assert_eq!(message(&good[..good.len() - 2]), "v: found the end of the file in row 2 of 2, expected 2 numbers");
        let cut = good.len() - 11;
        assert_eq!(message(&good[..cut]), "v: found no word in row 2 of 2, expected a word and a space");
        let more = [&good[..], b"c "].concat();
        assert_eq!(message(more), "v: found more bytes, expected the end after 2 rows");
        let rows: [(&str, &[f32]); 2] = [("a", &[0.5, -1.25]), ("b", &[f32::NAN, 2.0])];
        assert_eq!(message(binary(&rows, "")), "v: found NaN in row 2, of `b`, expected finite numbers");
        let mut latin = good.clone();
        latin[4] = 0xE9;
        let expected = "v: found a word that is not UTF-8 in row 1 of 2, expected UTF-8";
        assert_eq!(message(&latin), expected);
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
        let cut = read("vectors/glove.6B.50d.first1MiB.txt").unwrap_err().to_string();
        assert!(cut.contains(".txt:") && cut.ends_with("expected UTF-8"), "{cut}");
        for (name, found) in [
            ("ptb.train.html-page.txt", "found a page of HTML"),
            ("wikitext-2.s3-error-xml.zip", "found a page of HTML or XML"),
            ("symlink-target-as-text.txt", "found a line that does not end in a number"),
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
