//! All input files are read through [`Inputs`]: compressed files are unpacked, other encodings decoded, the conventions of other
//! systems for lines and marks recognised, and files that are not text rejected by name.

use super::packed::Packing;
use super::signatures::{self, HEAD};
use super::{not_utf8, wrong_byte};
use crate::error::counted;
use crate::notices::{Notice, Notices, Oddity};
use crate::sys::files::{FileBytes, map_file};
use crate::{Error, Result};
use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether `path` stands for standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How bytes that are not UTF-8 are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum BadUtf8 {
    /// Reject the file
    #[default]
    Fail,
    /// Drop them
    Skip,
    /// U+FFFD takes their place
    Replace,
}

impl BadUtf8 {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == BadUtf8::default()
    }
}

/// How the bytes of files are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoding {
    /// The encoding of texts and tables, if it is not UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// How bytes that are not UTF-8 are handled.
    pub bad_utf8: BadUtf8,
    /// Whether Unicode spaces are spaces, Unicode line separators end lines, and zero-width marks are dropped.
    pub unicode_spaces: bool,
}

/// How input files are read, and where irregularities are reported.
#[derive(Default)]
pub struct Inputs {
    notices: Arc<Notices>,
    decoding: Decoding,
    /// Pipes that have been read.
    read: Mutex<BTreeSet<PathBuf>>,
}

/// The bytes of an input file.
#[derive(Debug)]
pub struct Content {
    bytes: FileBytes,
    range: Range<usize>,
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl From<FileBytes> for Content {
    fn from(bytes: FileBytes) -> Self {
        Content { range: 0..bytes.len(), bytes }
    }
}

impl Content {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Content::from(FileBytes::from(bytes))
    }

    /// The result of `read` on the bytes; an error if the file has changed meanwhile.
    ///
    /// # Errors
    /// Those of `read` and of [`FileBytes::check_unchanged`].
    pub fn read<T>(&self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        self.bytes.read(|_| read(self))
    }

    /// The content `bytes`, which was made from these bytes.
    pub(super) fn becomes(self, bytes: Vec<u8>) -> Result<Content> {
        self.bytes.check_unchanged()?;
        Ok(Content::of(bytes))
    }

    /// Without the first `from` and the last `to` bytes.
    fn without(mut self, from: usize, to: usize) -> Self {
        self.range = self.range.start + from..self.range.end - to;
        self
    }
}

/// What is expected instead of a NUL byte.
pub(super) const NO_NUL: &str = "text, not a binary file (--encoding utf-16le reads UTF-16 without a byte order mark)";

const BOM: &[u8] = "\u{feff}".as_bytes();

impl Inputs {
    /// Input files whose warnings go to `notices`.
    pub fn new(notices: Notices, decoding: Decoding) -> Self {
        Inputs { notices: Arc::new(notices), decoding, read: Mutex::default() }
    }

    /// Warns about an irregularity that is accepted.
    ///
    /// # Errors
    /// Under `--strict`, if an option controls it.
    pub fn warn(&self, notice: Notice) -> Result<()> {
        self.notices.warn(notice)
    }

    /// Whether a stream that begins with `head` can be read as it is: it is UTF-8 as far as `head` shows, and no option requests
    /// anything else.
    pub fn is_plain(&self, head: &[u8]) -> bool {
        let Decoding { encoding, bad_utf8, unicode_spaces } = self.decoding;
        let text = match std::str::from_utf8(head) {
            Ok(_) => true,
            // A character may be incomplete at its end.
            Err(error) => error.error_len().is_none(),
        };
        text && !head.contains(&0) && encoding.is_none() && bad_utf8.is_default() && !unicode_spaces
    }

    /// The destination of warnings.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Returns an error if a file is evidently missing or unreadable, before it is needed. A pipe is not opened.
    ///
    /// # Errors
    /// The error of the system on opening it.
    pub fn check(&self, path: &Path) -> Result<()> {
        if is_standard_input(path) {
            return Ok(());
        }
        let failed = |e| Error::io(path, "reading", e);
        if path.metadata().map_err(failed)?.is_file() {
            File::open(path).map_err(failed)?;
        }
        Ok(())
    }

    /// The bytes of a text or table: unpacked, decoded, without a byte order mark at the beginning, and with line feeds as line ends if
    /// there were only carriage returns. Whether they are valid UTF-8 and otherwise regular is left to the reader:
    /// [`text`](Inputs::text) checks it.
    ///
    /// # Errors
    /// The file cannot be read, is a directory, is compressed and damaged, or its first bytes are not text; a pipe that has already
    /// been read.
    pub fn open(&self, path: &Path) -> Result<Content> {
        let file = if self.begin(path)? {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io(path, "reading", e))?;
            Content::of(bytes)
        } else {
            Content::from(map_file(path)?)
        };
        let file = self.unpacked(path, file)?;
        refuse(path, &file)?;
        let file = self.decoded(path, file)?;
        let file = trimmed(file);
        let file = self.repaired(path, file)?;
        let file = with_line_feeds(file)?;
        if !self.decoding.unicode_spaces {
            return Ok(file);
        }
        match std::str::from_utf8(&file).map(plain) {
            Ok(Cow::Owned(text)) => file.becomes(text.into_bytes()),
            // The reader reports it if it is not UTF-8.
            Ok(Cow::Borrowed(_)) | Err(_) => Ok(file),
        }
    }

    /// Part of a plain stream, as [`open`](Inputs::open) would read it: see [`is_plain`](Inputs::is_plain).
    ///
    /// # Errors
    /// Its first bytes are not text.
    pub(super) fn part(&self, path: &Path, bytes: Vec<u8>, is_first: bool) -> Result<Content> {
        if is_first {
            refuse(path, &bytes)?;
        }
        let part = trimmed(Content::of(bytes));
        // A first part without a line feed is the whole.
        if is_first { with_line_feeds(part) } else { Ok(part) }
    }

    /// A file to be read sequentially because it may be too large for memory: unpacked, and decoded if it is UTF-16.
    ///
    /// # Errors
    /// The file cannot be opened, or its first bytes are not text; a pipe that has already been read.
    pub fn stream(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        let failed = |e| Error::io(path, "reading", e);
        let mut file: Box<dyn Read + Send> = if self.begin(path)? {
            Box::new(std::io::stdin())
        } else {
            let file = File::open(path).map_err(failed)?;
            if file.metadata().is_ok_and(|kind| kind.is_dir()) {
                return Err(Error::input(path, 0, "a directory", "a file"));
            }
            Box::new(file)
        };
        loop {
            let mut head = Vec::new();
            let taken = file.by_ref().take(HEAD as u64).read_to_end(&mut head);
            taken.map_err(|e| stream_failed(path, e))?;
            let packing = Packing::of(&head);
            if packing.is_none() {
                refuse(path, &head)?;
            }
            let utf16 = utf16(&head).is_some();
            let whole = Cursor::new(head).chain(file);
            match packing {
                Some(packing) => {
                    file = packing.unpack(BufReader::with_capacity(1 << 18, whole), self.garbage(path));
                }
                None if utf16 => {
                    let mut bytes = Vec::new();
                    BufReader::new(whole).read_to_end(&mut bytes).map_err(failed)?;
                    let bytes = self.decoded(path, Content::of(bytes))?.to_vec();
                    return Ok(Box::new(Cursor::new(bytes)));
                }
                None => return Ok(Box::new(whole)),
            }
        }
    }

    /// As [`stream`](Inputs::stream), and decoded as by [`open`](Inputs::open), with the whole file in memory if an option requires it.
    ///
    /// # Errors
    /// As both.
    pub fn stream_text(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        let Decoding { encoding, bad_utf8, unicode_spaces } = self.decoding;
        if encoding.is_some() || !bad_utf8.is_default() || unicode_spaces {
            return Ok(Box::new(Cursor::new(self.open(path)?.read(|bytes| Ok(bytes.to_vec()))?)));
        }
        self.stream(path)
    }

    /// The text of a file, as read by [`open`](Inputs::open), with a line feed at the end of each line and no byte order marks at the
    /// beginnings of lines.
    ///
    /// # Errors
    /// As [`open`](Inputs::open); it is not UTF-8 (line, byte), contains a NUL byte, or is HTML, XML or JSON instead of what is `expected`.
    pub fn text(&self, path: &Path, expected: &str) -> Result<String> {
        self.open(path)?.read(|bytes| self.checked_text(path, bytes, expected))
    }

    fn checked_text(&self, path: &Path, bytes: &[u8], expected: &str) -> Result<String> {
        let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(path, bytes, e.valid_up_to()))?;
        if let Some(at) = text.find('\0') {
            return Err(wrong_byte(path, bytes, at, "a NUL byte", NO_NUL));
        }
        refuse_markup(path, bytes, expected)?;
        let alone = if text.contains('\r') { lone_returns(text) } else { Oddity::default() };
        if alone.count > 0 {
            let notice = Notice::of_file(path, alone.line, format!("{} carriage returns within lines", alone.count));
            self.warn(notice.done("read as line ends"))?;
        }
        if alone.count > 0 || text.contains("\r\r") {
            return Ok(without_marks(&one_line_end(text)).into_owned());
        }
        Ok(without_marks(text).into_owned())
    }

    /// Warns if the text at `path` begins like HTML, XML or JSON.
    ///
    /// # Errors
    /// Under `--strict`.
    pub fn warn_of_markup(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let found = signatures::markup(bytes).map(|line| (line, "a web page instead of a text?"));
        let Some((line, what)) = found.or_else(|| Some((signatures::json(bytes)?, "JSON instead of a text?"))) else {
            return Ok(());
        };
        let notice = Notice::of_file(path, 0, format!("begins with {line:?}: {what}"));
        self.warn(notice.done("read as text nonetheless").option("--strict refuses it"))
    }

    /// Records that `path` is about to be read; returns whether it is standard input.
    pub(super) fn begin(&self, path: &Path) -> Result<bool> {
        let stdin = is_standard_input(path);
        let once = stdin || path.metadata().is_ok_and(|kind| !kind.is_file() && !kind.is_dir());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if once && path != Path::new("/dev/null") && !read.insert(path.to_owned()) {
            let name = if stdin { "standard input".into() } else { path.display().to_string() };
            return Err(Error::Usage(format!("{name} is given twice, but can be read only once")));
        }
        Ok(stdin)
    }

    fn unpacked(&self, path: &Path, mut file: Content) -> Result<Content> {
        while let Some(packing) = Packing::of(&file) {
            let mut bytes = Vec::new();
            // A damaged archive may claim a size that cannot be allocated.
            _ = bytes.try_reserve(packing.size_hint(&file));
            if let Err(error) = packing.unpack(&*file, self.garbage(path)).read_to_end(&mut bytes) {
                let (what, test) = packing.names();
                let expected = format!("an intact one: `{test} {}` tests it", path.display());
                return Err(Error::input(path, 0, format!("a damaged {what} ({error})"), expected));
            }
            file = file.becomes(bytes)?;
        }
        Ok(file)
    }

    /// Warns about data after an archive, possibly from another thread.
    fn garbage(&self, path: &Path) -> impl FnMut() + Send + use<> {
        let (notices, path) = (self.notices.clone(), path.to_owned());
        move || {
            let notice = Notice::of_file(&path, 0, "other data after the gzip archive").done("ignored, as gzip does");
            // No option controls it, so that it is never an error.
            _ = notices.warn(notice);
        }
    }

    /// Converts to UTF-8 if the encoding is known to be another one.
    fn decoded(&self, path: &Path, file: Content) -> Result<Content> {
        let (encoding, said) = match (utf16(&file), self.decoding.encoding) {
            (Some(encoding), _) => (encoding, false),
            (None, Some(encoding)) if encoding != UTF_8 => (encoding, true),
            _ => return Ok(file),
        };
        let bad = self.decoding.bad_utf8;
        let (mut decoder, mut rest) = (encoding.new_decoder(), &file[..]);
        let (mut text, mut count, mut line) = (String::with_capacity(file.len()), 0, 0);
        loop {
            // Extra capacity, so that each round makes progress.
            text.reserve(rest.len() + 64);
            let (result, taken) = decoder.decode_to_string_without_replacement(rest, &mut text, true);
            rest = &rest[taken..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    count += 1;
                    if count == 1 {
                        line = 1 + text.matches('\n').count();
                    }
                    match bad {
                        BadUtf8::Fail => {
                            let found = format!("bytes that are not {}", encoding.name());
                            let expected =
                                format!("text in {}; --bad-utf8 replace reads it nonetheless", encoding.name());
                            return Err(Error::input(path, line, found, expected));
                        }
                        BadUtf8::Replace => text.push(char::REPLACEMENT_CHARACTER),
                        BadUtf8::Skip => {}
                    }
                }
            }
        }
        if count > 0 {
            self.warn_of_bad(path, line, count, encoding.name())?;
        }
        if !said {
            self.warn(Notice::of_file(path, 0, format!("{} text", encoding.name())).done("decoded"))?;
        } else if !file.is_ascii() && std::str::from_utf8(&file).is_ok() {
            // Text in another encoding is hardly ever valid UTF-8.
            let notice = Notice::of_file(path, 0, format!("UTF-8 text, read as {}", encoding.name()));
            self.warn(notice.option("--encoding utf-8 reads it correctly"))?;
        }
        file.becomes(text.into_bytes())
    }

    /// Drops or replaces bytes that are not UTF-8, with `--bad-utf8`.
    fn repaired(&self, path: &Path, file: Content) -> Result<Content> {
        let bad = self.decoding.bad_utf8;
        if bad == BadUtf8::Fail {
            return Ok(file);
        }
        let Err(first) = std::str::from_utf8(&file) else { return Ok(file) };
        let line = 1 + file[..first.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        let (mut text, mut count) = (String::with_capacity(file.len()), 0);
        for chunk in file.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                count += 1;
                if bad == BadUtf8::Replace {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
        self.warn_of_bad(path, line, count, "UTF-8")?;
        file.becomes(text.into_bytes())
    }

    /// Reports how many bytes `--bad-utf8` has changed, and the first line of them.
    fn warn_of_bad(&self, path: &Path, line: usize, count: usize, encoding: &str) -> Result<()> {
        let found = format!("bytes in {} that are not {encoding}", counted(count, "place"));
        let replaced = self.decoding.bad_utf8 == BadUtf8::Replace;
        self.warn(Notice::of_file(path, line, found).done(if replaced { "replaced by U+FFFD" } else { "left out" }))
    }
}

/// The error of reading a stream of the file at `path`: decompression reports damage, which the system never reports in this way.
pub(super) fn stream_failed(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            let found = format!("a damaged archive ({error})");
            Error::input(path, 0, found, "an intact one: gzip -t or zstd -t tests it")
        }
        _ => Error::io(path, "reading", error),
    }
}

/// Returns an error if the bytes are those of something other than text.
fn refuse(path: &Path, bytes: &[u8]) -> Result<()> {
    let shown = path.display().to_string();
    if let Some(signatures::Signature { what, then }) = signatures::foreign(bytes) {
        return Err(Error::input(path, 0, what, then.replace("FILE", &shown)));
    }
    if let Some(target) = signatures::link(bytes) {
        let found = format!("only the path {target:?}: a symbolic link that was saved as text");
        return Err(Error::input(path, 0, found, "the file it points to"));
    }
    Ok(())
}

/// An error if a file begins as a page of HTML or XML or as JSON does.
pub(super) fn refuse_markup(path: &Path, bytes: &[u8], expected: &str) -> Result<()> {
    if let Some(line) = signatures::markup(bytes) {
        return Err(Error::input(path, 0, format!("a page of HTML or XML, which begins with {line:?}"), expected));
    }
    if let Some(line) = signatures::json(bytes) {
        return Err(Error::input(path, 0, format!("JSON, which begins with {line:?}"), expected));
    }
    Ok(())
}

/// The byte order of UTF-16, detected by its mark or by the positions of NUL bytes.
fn utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    if bytes.starts_with(b"\xFF\xFE") {
        return Some(UTF_16LE);
    }
    if bytes.starts_with(b"\xFE\xFF") {
        return Some(UTF_16BE);
    }
    let (units, _) = bytes[..bytes.len().min(HEAD)].as_chunks::<2>();
    let zeros = |place: usize| units.iter().filter(|unit| unit[place] == 0).count();
    let (high, low) = (zeros(0), zeros(1));
    // In Latin script nearly every unit has one; if there are fewer, they are NUL bytes in a text.
    let few = units.len().div_ceil(2).max(1);
    // Spaces and line ends must occur as units: other data contain NUL bytes, too.
    let spaced = |place: usize| {
        units.iter().any(|unit| unit[place] == 0 && matches!(unit[1 - place], b' ' | b'\n' | b'\r' | b'\t'))
    };
    match (high, low) {
        (0, low) if low >= few && spaced(1) => Some(UTF_16LE),
        (high, 0) if high >= few && spaced(0) => Some(UTF_16BE),
        _ => None,
    }
}

/// Removes byte order marks at the beginning, and the Ctrl-Z at the end of DOS files.
fn trimmed(file: Content) -> Content {
    let marks = file.chunks(BOM.len()).take_while(|chunk| *chunk == BOM).count() * BOM.len();
    let ends = if file.ends_with(b"\x1A") { file.iter().rev().take_while(|&&byte| byte == 0x1A).count() } else { 0 };
    file.without(marks, ends)
}

/// Replaces carriage returns by line feeds if there are no line feeds: the files of old Macs.
fn with_line_feeds(file: Content) -> Result<Content> {
    let head = &file[..file.len().min(1 << 16)];
    let old = head.contains(&b'\r') && !head.contains(&b'\n') && !file.contains(&b'\n');
    // A carriage return only at the very end is just trailing white space.
    if old && file.trim_ascii_end().contains(&b'\r') {
        let fed = file.iter().map(|&byte| if byte == b'\r' { b'\n' } else { byte }).collect();
        return file.becomes(fed);
    }
    Ok(file)
}

/// Carriage returns not followed by a line feed or carriage return.
fn lone_returns(text: &str) -> Oddity {
    let mut alone = Oddity::default();
    for (line, content) in (1..).zip(text.split('\n')) {
        let within = content.trim_end_matches('\r').bytes().filter(|&byte| byte == b'\r').count();
        (0..within).for_each(|_| alone.add(line));
    }
    alone
}

/// Replaces each carriage return within a line by a line feed, and several at its end by one.
fn one_line_end(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        all.extend(content.chars().map(|c| if c == '\r' { '\n' } else { c }));
        let end = &line[content.len()..];
        all.push_str(if end.ends_with("\r\n") { "\r\n" } else { end });
    }
    all
}

/// Removes byte order marks at the beginnings of lines, as left by concatenating files.
fn without_marks(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{feff}') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split_inclusive('\n').map(|line| line.trim_start_matches('\u{feff}')).collect())
}

/// Kinds of characters that are invisible or look like a space, but are part of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invisible {
    /// A Unicode space, such as the no-break space.
    Space,
    /// A line separator other than the line feed.
    LineEnd,
    /// A zero-width mark.
    Mark,
    /// A control character.
    Control,
}

const INVISIBLE: [(Invisible, &str); 4] = [
    (Invisible::Space, "no-break or other Unicode spaces"),
    (Invisible::LineEnd, "vertical tabs or Unicode line separators"),
    (Invisible::Mark, "zero-width, direction or byte order marks or soft hyphens"),
    (Invisible::Control, "control characters"),
];

fn invisible(c: char) -> Option<Invisible> {
    Some(match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Invisible::Space,
        '\u{b}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Invisible::LineEnd,
        // Except the joiners U+200C and U+200D, which belong to words of Persian, Hindi and others.
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' => Invisible::Mark,
        '\u{2066}'..='\u{2069}' | '\u{feff}' => Invisible::Mark,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => Invisible::Control,
        _ => return None,
    })
}

/// Whether such characters may begin with a byte.
const BEGINS_INVISIBLE: [bool; 256] = {
    let (mut begins, mut byte) = ([false; 256], 0);
    while byte < begins.len() {
        begins[byte] = matches!(byte, 0..0x20 | 0x7F | 0xC2 | 0xE1..=0xE3 | 0xEF);
        byte += 1;
    }
    begins
};

/// Whether the bytes may contain an [`Invisible`] character. Hardly any do; without branches, since there may be millions of words.
fn may_be_odd(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |any, &byte| any | BEGINS_INVISIBLE[byte as usize])
}

/// The number of words that contain [`Invisible`] characters, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Odd {
    words: [u64; INVISIBLE.len()],
    /// Whether a word begins with a byte order mark.
    pub(super) marked: bool,
}

impl Odd {
    /// Counts a word that occurs `count` times.
    pub(super) fn add(&mut self, word: &str, count: u64) {
        if !may_be_odd(word.as_bytes()) {
            return;
        }
        self.marked |= word.starts_with('\u{feff}');
        if let Some(kind) = word.chars().find_map(invisible) {
            self.words[kind as usize] += count;
        }
    }

    /// The sum of both.
    pub(super) fn and(mut self, other: Odd) -> Odd {
        self.words.iter_mut().zip(other.words).for_each(|(sum, words)| *sum += words);
        Odd { marked: self.marked || other.marked, ..self }
    }

    /// The first line of `file` with one of them; 0 if there is none.
    pub(super) fn line(&self, file: &[u8]) -> usize {
        if self.words.iter().all(|words| *words == 0) {
            return 0;
        }
        let counted = |c| invisible(c).is_some_and(|kind| self.words[kind as usize] > 0);
        // Most lines contain none of the first bytes of such characters.
        let mut begins = [false; 256];
        for c in ('\0'..='\u{ffff}').filter(|&c| counted(c)) {
            begins[c.encode_utf8(&mut [0; 4]).as_bytes()[0] as usize] = true;
        }
        let has = |line: &[u8]| {
            line.iter().any(|&byte| begins[byte as usize])
                && std::str::from_utf8(line).is_ok_and(|line| line.contains(counted))
        };
        file.split(|&byte| byte == b'\n').position(has).map_or(0, |line| line + 1)
    }

    /// Warns about them; `line` is the first one that they were found in.
    ///
    /// # Errors
    /// Under `--strict`.
    pub(super) fn warn(self, path: &Path, line: usize, inputs: &Inputs) -> Result<()> {
        let found: Vec<String> = (self.words.iter().zip(INVISIBLE))
            .filter(|(words, _)| **words > 0)
            .map(|(words, (_, what))| format!("{words} with {what}"))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        let notice = Notice::of_file(path, line, format!("words: {}", found.join(", ")));
        let notice = notice.done("kept as parts of words");
        inputs.warn(notice.option("--unicode-spaces treats them as spaces and line ends, and removes marks"))
    }
}

/// The bytes of a text without the byte order marks at the beginnings of its lines, if there are any.
pub(super) fn unmarked(file: &[u8]) -> Option<Vec<u8>> {
    let text = without_marks(std::str::from_utf8(file).ok()?);
    (text.len() < file.len()).then(|| text.into_owned().into_bytes())
}

/// Replaces Unicode spaces and line separators by plain ones, and drops marks and control characters.
fn plain(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| invisible(byte.into()).is_some()) {
        return Cow::Borrowed(text);
    }
    let one = |c: char| match invisible(c) {
        None => Some(c),
        // A NUL byte is an error, not dropped.
        Some(Invisible::Control) if c == '\0' => Some(c),
        Some(Invisible::Space) => Some(' '),
        Some(Invisible::LineEnd) => Some('\n'),
        Some(Invisible::Mark | Invisible::Control) => None,
    };
    Cow::Owned(text.chars().filter_map(one).collect())
}
