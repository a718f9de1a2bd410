//! Files with one token a line: the word in the first column, its tag in the last or in one that is named.
//!
//! - Columns are separated by tabs if any token's line holds one (then words may hold spaces), else by runs of spaces.
//! - Lines that are empty or hold only spaces and tabs end a sentence, and so do lines that begin with the field
//!   `-DOCSTART-`, however many fields follow.
//! - Only a line feed ends a line; a carriage return before it and a byte-order mark at the beginning are dropped. The
//!   last line needs no line feed.
//! - Words are kept as they are: they may begin with `#`, hold no-break spaces or be U+200B. A word may even be empty
//!   (`⇥O`), which is counted.
//! - Of several tags joined by commas (`B-person,B-group`) the first counts, and how often that was so is counted.
//!
//! The text of the file is kept, so that it can be written again with one more column.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use super::Inputs;
use super::tags::{self, Kinds, Scheme, Tag};
use crate::{Error, Result};

/// Where the tags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// There are none, or they are not wanted.
    Absent,
    /// In the last column.
    Last,
    /// In this column, counted from 1; at least 2, since the words are in column 1.
    Number(usize),
}

/// More entity types than this in one file mean that the column holds something else.
const MOST_KINDS: usize = 2000;

/// One token: where its word is in the text, and the number of its tag.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    bytes: u32,
    tag: u32,
}

/// Something odd that is accepted, but that the user should hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddity {
    /// How often.
    pub count: usize,
    /// The first line, from 1; 0 if there is none.
    pub line: usize,
}

impl Oddity {
    fn add(&mut self, line: usize) {
        self.count += 1;
        if self.line == 0 {
            self.line = line;
        }
    }
}

/// A file of tokens; see the description of this module.
#[derive(Debug)]
pub struct Conll {
    path: PathBuf,
    text: String,
    rows: Vec<Row>,
    /// Where each sentence ends, in tokens.
    ends: Vec<usize>,
    /// Where each `-DOCSTART-` line begins, in bytes.
    documents: Vec<usize>,
    tag_texts: Vec<String>,
    tabs: bool,
    columns: usize,
    /// Tokens whose word is empty.
    pub empty_words: Oddity,
    /// Tags joined by commas, of which the first was taken.
    pub joined_tags: Oddity,
}

/// The tags of a file, one a token, in a known scheme.
#[derive(Clone, Debug)]
pub struct Gold {
    /// The scheme they are in.
    pub scheme: Scheme,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Tags that the scheme did not allow and that were rewritten.
    pub repaired: Oddity,
}

impl Conll {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, is a page of HTML, its rows differ in their number of columns, or the
    /// column of tags does not exist or is empty somewhere.
    pub fn read(path: impl AsRef<Path>, column: Column, inputs: &Inputs) -> Result<Conll> {
        let text = inputs.text(path.as_ref(), "lines of a word and its tag")?;
        Conll::parse(path, text.into_bytes(), column)
    }

    /// Reads the content of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Conll::read`].
    pub fn parse(path: impl AsRef<Path>, bytes: Vec<u8>, column: Column) -> Result<Conll> {
        let path = path.as_ref();
        if let Column::Number(n @ 0..=1) = column {
            return Err(Error::Usage(format!(
                "found column {n} for the tags, expected 2 or more (column 1 holds the words)"
            )));
        }
        let text = utf8(path, bytes)?;
        if is_markup(text.as_bytes()) {
            return Err(Error::input(path, 0, "a page of HTML or XML", "lines of a word and its tag"));
        }
        let tabs = has_tabs(&text);
        let mut file = Conll {
            path: path.to_owned(),
            text: String::new(),
            rows: Vec::new(),
            ends: Vec::new(),
            documents: Vec::new(),
            tag_texts: Vec::new(),
            tabs,
            columns: 0,
            empty_words: Oddity::default(),
            joined_tags: Oddity::default(),
        };
        file.scan(&text, column)?;
        file.text = text;
        Ok(file)
    }

    fn scan(&mut self, text: &str, column: Column) -> Result<()> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        // Most tags are the tag of the row before: its text and number.
        let mut last: Option<(&str, u32)> = None;
        let (mut first_line, mut open) = (0, false);
        for (index, (start, line)) in lines(text).enumerate() {
            if is_separator(line) || is_document(line) {
                if open {
                    self.ends.push(self.rows.len());
                    open = false;
                }
                if is_document(line) {
                    self.documents.push(start);
                }
                continue;
            }
            let number = index + 1;
            let fields = self.fields(line, column);
            if self.columns == 0 {
                (self.columns, first_line) = (fields.count, number);
                self.check_column(column, number, fields.count)?;
            } else if fields.count != self.columns {
                let split = if self.tabs { "split at tabs, since the file has tabs" } else { "split at spaces" };
                let found = format!("{} ({split})", columns(fields.count));
                let expected = format!("{} as in line {first_line}", columns(self.columns));
                return Err(Error::input(&self.path, number, found, expected));
            }
            let tag = match fields.tag {
                None => 0,
                Some("") => {
                    return Err(Error::input(&self.path, number, "an empty tag", "O or the tag of an entity"));
                }
                Some(tag) => match last {
                    Some((text, same)) if text == tag => same,
                    _ => {
                        let first = tags::first_of_joined(tag);
                        let kept = first.unwrap_or(tag);
                        let id = numbers.get(kept).copied().unwrap_or_else(|| {
                            let id = self.tag_texts.len() as u32;
                            numbers.insert(kept.to_owned(), id);
                            self.tag_texts.push(kept.to_owned());
                            id
                        });
                        if first.is_some() {
                            self.joined_tags.add(number);
                        } else {
                            last = Some((tag, id));
                        }
                        id
                    }
                },
            };
            let Ok(bytes) = u32::try_from(fields.word.len()) else {
                let found = format!("a word of {} bytes", fields.word.len());
                return Err(Error::input(&self.path, number, found, "a word of less than 4 GiB"));
            };
            if bytes == 0 {
                self.empty_words.add(number);
            }
            self.rows.push(Row { start: start + fields.offset, bytes, tag });
            open = true;
        }
        if open {
            self.ends.push(self.rows.len());
        }
        Ok(())
    }

    fn fields<'t>(&self, line: &'t str, column: Column) -> Fields<'t> {
        let mut fields = Fields { word: "", offset: 0, tag: None, count: 0 };
        let mut take = |field: &'t str, offset: usize| {
            fields.count += 1;
            if fields.count == 1 {
                (fields.word, fields.offset) = (field, offset);
            }
            if column == Column::Last || column == Column::Number(fields.count) {
                fields.tag = Some(field);
            }
        };
        let mut start = 0;
        let separator = if self.tabs { b'\t' } else { b' ' };
        for (i, _) in line.bytes().enumerate().filter(|(_, b)| *b == separator) {
            if self.tabs || i > start {
                take(&line[start..i], start);
            }
            start = i + 1;
        }
        if self.tabs || line.len() > start {
            take(&line[start..], start);
        }
        fields.tag = fields.tag.map(|tag| tag.trim_matches(' '));
        fields
    }

    fn check_column(&self, column: Column, line: usize, found: usize) -> Result<()> {
        let expected = match column {
            Column::Last if found < 2 => "at least 2, a word and its tag".to_owned(),
            Column::Number(n) if found < n => {
                format!("at least {n}, since the tags are in column {n}")
            }
            _ => return Ok(()),
        };
        Err(Error::input(&self.path, line, columns(found), expected))
    }

    /// The tags of the file, in `scheme` if it is given, else in the one that they are written in.
    /// With `repair`, sentences that the scheme does not allow are read as by `conlleval` and written again in the
    /// scheme; without it they are errors. Entity types are entered into `kinds`.
    ///
    /// # Errors
    /// A tag that is none in the scheme, or may not follow its neighbour (file, line); more entity types than make
    /// sense.
    ///
    /// # Panics
    /// If the file was read with [`Column::Absent`].
    pub fn gold(&self, scheme: Option<Scheme>, repair: bool, kinds: &mut Kinds) -> Result<Gold> {
        assert!(!self.tag_texts.is_empty() || self.rows.is_empty(), "the file was read without tags");
        let entities = || self.tag_texts.iter().filter(|text| *text != "O");
        let any_prefix = entities().any(|text| tags::has_prefix(text));
        // `io` may be asked for where the tags are bare: both say the same.
        let bare = scheme == Some(Scheme::Bare)
            || matches!(scheme, None | Some(Scheme::Io)) && !any_prefix && entities().next().is_some();
        let mut parsed = Vec::with_capacity(self.tag_texts.len());
        for (number, text) in self.tag_texts.iter().enumerate() {
            let tag = if bare { Tag::parse_bare(text, kinds) } else { Tag::parse(text, kinds) };
            let Some(tag) = tag else {
                let expected = "O or a tag that begins with B-, I-, E- or S- (types without prefix: the scheme `bare`)";
                return Err(self.error(self.first_with(number), format!("the tag `{text}`"), expected));
            };
            if kinds.len() > MOST_KINDS {
                let found = format!("more than {MOST_KINDS} entity types");
                return Err(self.error(self.first_with(number), found, "a column of tags: is it another one?"));
            }
            parsed.push(tag);
        }
        let mut tags: Vec<Tag> = self.rows.iter().map(|row| parsed[row.tag as usize]).collect();
        let scheme = match scheme {
            _ if bare => Scheme::Bare,
            Some(scheme) => scheme,
            None => Scheme::detect(self.sentences().map(|s| &tags[s])),
        };
        let mut repaired = Oddity::default();
        for sentence in self.sentences() {
            let Some(place) = scheme.check(&tags[sentence.clone()]) else {
                continue;
            };
            if !repair {
                return Err(self.not_allowed(&tags, sentence, place, scheme, kinds));
            }
            let changed = tags::convert(&mut tags[sentence.clone()], scheme);
            if repaired.count == 0 {
                repaired.line = self.line(sentence.start + place.min(sentence.len() - 1));
            }
            repaired.count += changed;
        }
        Ok(Gold { scheme, tags, repaired })
    }

    fn first_with(&self, tag: usize) -> usize {
        self.rows.iter().position(|row| row.tag as usize == tag).unwrap_or(0)
    }

    fn not_allowed(&self, tags: &[Tag], sentence: Range<usize>, place: usize, scheme: Scheme, kinds: &Kinds) -> Error {
        let token = sentence.start + place;
        let text = |token: usize| tags[token].text(kinds, scheme);
        let before =
            if place == 0 { "at the beginning of its sentence".into() } else { format!("after `{}`", text(token - 1)) };
        let found = if token == sentence.end {
            format!("`{}` at the end of its sentence", text(token - 1))
        } else {
            format!("`{}` {before}", text(token))
        };
        let repair = "--repair reads the tags as conlleval does";
        self.error(token.min(sentence.end - 1), found, format!("tags in the scheme {scheme} ({repair})"))
    }

    /// An error at a token: what is there and what was expected.
    pub fn error(&self, token: usize, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::input(&self.path, self.line(token), found, expected)
    }

    /// The line of a token, from 1. Counts lines from the file's beginning.
    pub fn line(&self, token: usize) -> usize {
        let before = &self.text.as_bytes()[..self.rows[token].start];
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.rows.len()
    }

    /// The number of columns; 0 if there are no tokens.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The word of a token.
    pub fn word(&self, token: usize) -> &str {
        let row = self.rows[token];
        &self.text[row.start..row.start + row.bytes as usize]
    }

    /// All words in order.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.rows.len()).map(|token| self.word(token))
    }

    /// The sentences, as ranges of tokens; none is empty.
    pub fn sentences(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        (0..self.ends.len()).map(|i| if i == 0 { 0 } else { self.ends[i - 1] }..self.ends[i])
    }

    /// Writes the file as it was read with one column more: `tag(token)` for every token and `O` for `-DOCSTART-` lines.
    /// All other lines, line ends and the byte-order mark stay as they are; spaces at the end of a line that gets a
    /// column go. The column is separated by a tab in files with tabs, else by a space. Give it a buffered writer.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write<'a>(&self, out: &mut impl Write, mut tag: impl FnMut(usize) -> &'a str) -> std::io::Result<()> {
        let separator = if self.tabs { b"\t" } else { b" " };
        let text = self.text.as_bytes();
        let mut copied = 0;
        let mut documents = self.documents.iter().copied().peekable();
        let mut add = |start: usize, tag: &str| {
            let line = line_from(&self.text[start..]);
            let end = start + if self.tabs { line } else { line.trim_end_matches(' ') }.len();
            out.write_all(&text[copied..end])?;
            copied = start + line.len();
            out.write_all(separator)?;
            out.write_all(tag.as_bytes())
        };
        for (token, row) in self.rows.iter().enumerate() {
            while let Some(start) = documents.next_if(|&start| start < row.start) {
                add(start, "O")?;
            }
            add(row.start, tag(token))?;
        }
        for start in documents {
            add(start, "O")?;
        }
        out.write_all(&text[copied..])
    }
}

struct Fields<'t> {
    word: &'t str,
    /// Where the word begins in its line.
    offset: usize,
    tag: Option<&'t str>,
    count: usize,
}

fn columns(count: usize) -> String {
    format!("{count} column{}", if count == 1 { "" } else { "s" })
}

/// The lines of a text with their places, without their ends and without the byte-order mark.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    text[at..].split_inclusive('\n').map(move |whole| {
        let start = at;
        at += whole.len();
        (start, line_from(whole))
    })
}

/// What is left of the line at the beginning of `text`, without its end.
fn line_from(text: &str) -> &str {
    let line = text.split_once('\n').map_or(text, |(line, _)| line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn is_separator(line: &str) -> bool {
    line.bytes().all(|b| b == b' ' || b == b'\t')
}

fn is_document(line: &str) -> bool {
    line.strip_prefix("-DOCSTART-").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// Whether a line of a token holds a tab.
fn has_tabs(text: &str) -> bool {
    text.contains('\t') && lines(text).any(|(_, line)| line.contains('\t') && !is_separator(line) && !is_document(line))
}

/// The bytes as text, or the line of the first byte that is none.
pub(super) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        Error::input(path, line, format!("the byte 0x{:02X}", e.as_bytes()[good.len()]), "UTF-8")
    })
}

/// Whether a file begins as a page of HTML or XML does: a download that went wrong.
pub(super) fn is_markup(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let begins = |with: &str| bytes.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with.as_bytes()));
    begins("<!doctype") || begins("<html") || begins("<?xml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str, column: Column) -> Result<Conll> {
        Conll::parse("f.conll", text.as_bytes().to_vec(), column)
    }

    fn words(file: &Conll) -> Vec<Vec<&str>> {
        file.sentences().map(|s| s.map(|token| file.word(token)).collect()).collect()
    }

    fn tags(file: &Conll) -> String {
        let mut kinds = Kinds::default();
        let gold = file.gold(None, false, &mut kinds).unwrap();
        let texts: Vec<String> = gold.tags.iter().map(|tag| tag.text(&kinds, gold.scheme)).collect();
        texts.join(" ")
    }

    fn written<'a>(file: &Conll, tag: impl FnMut(usize) -> &'a str) -> String {
        let mut out = Vec::new();
        file.write(&mut out, tag).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn message(text: &str, column: Column) -> String {
        let file = parse(text, column);
        file.and_then(|file| file.gold(None, false, &mut Kinds::default())).unwrap_err().to_string()
    }

    #[test]
    fn tabs_and_what_separates_sentences() {
        let text = "#1 hit\tO\n\u{a0}\tO\n\t\n\n \u{200b}\tB-x\r\n   \n#\tI-x\n-DOCSTART-\nEU\tO";
        // (I-x begins a sentence: allowed in neither iob1 nor iob2, so the words are read without tags.)
        let file = parse(text, Column::Absent).unwrap();
        assert_eq!(words(&file), [vec!["#1 hit", "\u{a0}"], vec![" \u{200b}"], vec!["#"], vec!["EU"]]);
        assert_eq!((file.tokens(), file.columns(), file.sentences().len()), (5, 2, 4));
        assert_eq!((0..5).map(|token| file.line(token)).collect::<Vec<_>>(), [1, 2, 5, 7, 9]);
        let expected = "#1 hit\tO\t0\n\u{a0}\tO\t1\n\t\n\n \u{200b}\tB-x\t2\r\n   \n#\tI-x\t3\n-DOCSTART-\tO\nEU\tO\t4";
        assert_eq!(written(&file, |token| ["0", "1", "2", "3", "4"][token]), expected);
    }

    #[test]
    fn spaces_and_documents_of_any_width() {
        let text = "\u{feff}-DOCSTART- -X- O O\r\n\r\nEU  NNP I-NP I-ORG \r\n rejects VBZ I-VP O\r\n\t\r\n\
                    -DOCSTART-\nPeter NNP I-NP I-PER\n-DOCSTART- (2 x)\n\n";
        let file = parse(text, Column::Last).unwrap();
        assert_eq!(words(&file), [vec!["EU", "rejects"], vec!["Peter"]]);
        assert_eq!(tags(&file), "I-ORG O I-PER");
        assert_eq!(tags(&parse(text, Column::Number(3)).unwrap()), "I-NP I-VP I-NP");
        assert_eq!(file.columns(), 4);
        let expected = "\u{feff}-DOCSTART- -X- O O O\r\n\r\nEU  NNP I-NP I-ORG p\r\n rejects VBZ I-VP O p\r\n\t\r\n\
                        -DOCSTART- O\nPeter NNP I-NP I-PER p\n-DOCSTART- (2 x) O\n\n";
        assert_eq!(written(&file, |_| "p"), expected);
    }

    #[test]
    fn what_looks_like_something_else_is_a_word() {
        // Only a line feed ends a line, only spaces and tabs separate, and a mark is a mark at the beginning only.
        for word in ["a\u{85}b", "\u{2028}", "\u{feff}", "-DOCSTART-x", "--", "a\rb", "#", "\u{b}", "\u{a0}"] {
            let text = format!("first O\n{word} O\n");
            let file = parse(&text, Column::Last).unwrap();
            assert_eq!(words(&file), [["first", word]]);
            assert_eq!(written(&file, |_| "O"), text.replace(" O", " O O"));
        }
    }

    #[test]
    fn one_column() {
        let file = parse("EU\nrejects\n\n-DOCSTART-\nit\n", Column::Absent).unwrap();
        assert_eq!(words(&file), [vec!["EU", "rejects"], vec!["it"]]);
        assert_eq!(written(&file, |_| "B-x"), "EU B-x\nrejects B-x\n\n-DOCSTART- O\nit B-x\n");
        let expected = "f.conll:1: found 1 column, expected at least 2, a word and its tag";
        assert_eq!(message("EU\n", Column::Last), expected);
    }

    #[test]
    fn no_tokens() {
        for text in ["", "\n\n", "\u{feff}", " \t\n", "-DOCSTART- O\n"] {
            let file = parse(text, Column::Last).unwrap();
            assert_eq!((file.tokens(), file.sentences().len()), (0, 0));
            assert_eq!(file.gold(None, false, &mut Kinds::default()).unwrap().tags, []);
            assert_eq!(written(&file, |_| "x"), text.replace(" O", " O O"));
        }
    }

    #[test]
    fn empty_words_are_kept_and_counted() {
        let file = parse("a\tO\n\tO\n\tB-x\n", Column::Last).unwrap();
        assert_eq!(words(&file), [["a", "", ""]]);
        assert_eq!(file.empty_words, Oddity { count: 2, line: 2 });
        assert_eq!(written(&file, |_| "O"), "a\tO\tO\n\tO\tO\n\tB-x\tO\n");
    }

    #[test]
    fn of_joined_tags_the_first_counts() {
        let file = parse("a\tB-x,B-y\nb\tI-x\nc\tB-x,B-y\nd\tO\ne\tB-y\n", Column::Last).unwrap();
        assert_eq!(tags(&file), "B-x I-x B-x O B-y");
        assert_eq!(file.joined_tags, Oddity { count: 2, line: 1 });
    }

    #[test]
    fn wrong_rows() {
        let expected = "f.conll:3: found 3 columns (split at spaces), expected 2 columns as in line 1";
        assert_eq!(message("a O\n\nb x O\n", Column::Last), expected);
        let expected =
            "f.conll:2: found 1 column (split at tabs, since the file has tabs), expected 2 columns as in line 1";
        assert_eq!(message("a\tO\nb O\n", Column::Last), expected);
        let expected = "f.conll:1: found 2 columns, expected at least 4, since the tags are in column 4";
        assert_eq!(message("a O\n", Column::Number(4)), expected);
        let expected = "f.conll:2: found an empty tag, expected O or the tag of an entity";
        assert_eq!(message("a\tO\nb\t\n", Column::Last), expected);
        let expected = "found column 1 for the tags, expected 2 or more (column 1 holds the words)";
        assert_eq!(message("a O\n", Column::Number(1)), expected);
        let latin = Conll::parse("f.conll", b"a O\nb\xE9 O\n".to_vec(), Column::Last).unwrap_err();
        assert_eq!(latin.to_string(), "f.conll:2: found the byte 0xE9, expected UTF-8");
        let page = message("\n <!DOCTYPE html>\n", Column::Last);
        assert_eq!(page, "f.conll: found a page of HTML or XML, expected lines of a word and its tag");
        assert_eq!(Conll::read("no/such/file", Column::Last, &Inputs::default()).unwrap_err().exit_code(), 6);
    }

    #[test]
    fn tags_that_the_scheme_does_not_allow() {
        let hint = "(--repair reads the tags as conlleval does)";
        let fail = |text: &str, scheme| {
            let file = parse(text, Column::Last).unwrap();
            file.gold(scheme, false, &mut Kinds::default()).unwrap_err().to_string()
        };
        let text = "a B-x\nb I-x\n\nc O\nd I-x\n\ne B-x\n";
        let expected = format!("f.conll:5: found `I-x` after `O`, expected tags in the scheme iob2 {hint}");
        assert_eq!(fail(text, None), expected);
        let found = "`B-x` at the beginning of its sentence";
        let expected = format!("f.conll:1: found {found}, expected tags in the scheme iob1 {hint}");
        assert_eq!(fail(text, Some(Scheme::Iob1)), expected);
        let expected = "f.conll:2: found `I-x` at the end of its sentence, expected tags in the scheme iobes ";
        assert!(fail(text, Some(Scheme::Iobes)).starts_with(expected));
        let expected = "f.conll:2: found the tag `L-x`, expected O or a tag that begins with B-, I-, E- or S- ";
        assert!(fail("a B-x\nb L-x\n", None).starts_with(expected));
        assert!(fail("a B-x\nb x\n", None).starts_with("f.conll:2: found the tag `x`,"));

        let file = parse(text, Column::Last).unwrap();
        let mut kinds = Kinds::default();
        let gold = file.gold(None, true, &mut kinds).unwrap();
        let repaired: Vec<String> = gold.tags.iter().map(|tag| tag.text(&kinds, gold.scheme)).collect();
        assert_eq!(repaired, ["B-x", "I-x", "O", "B-x", "B-x"]);
        assert_eq!(gold.repaired, Oddity { count: 1, line: 5 });
        let gold = file.gold(Some(Scheme::Iobes), true, &mut kinds).unwrap();
        let repaired: Vec<String> = gold.tags.iter().map(|tag| tag.text(&kinds, gold.scheme)).collect();
        assert_eq!(repaired, ["B-x", "E-x", "O", "S-x", "S-x"]);
    }

    #[test]
    fn bare_tags() {
        let file = parse("a PER\nb PER\nc O\nd LOC\n", Column::Last).unwrap();
        for scheme in [None, Some(Scheme::Io), Some(Scheme::Bare)] {
            let mut kinds = Kinds::default();
            let gold = file.gold(scheme, false, &mut kinds).unwrap();
            assert_eq!(gold.scheme, Scheme::Bare);
            assert_eq!(tags(&file), "PER PER O LOC");
        }
        let error = file.gold(Some(Scheme::Iob2), false, &mut Kinds::default()).unwrap_err();
        assert!(error.to_string().starts_with("f.conll:1: found the tag `PER`"), "{error}");
    }

    #[test]
    fn a_column_of_words_is_no_column_of_tags() {
        let text: String = (0..=MOST_KINDS).map(|i| format!("a w{i}\n")).collect();
        let expected = "f.conll:2001: found more than 2000 entity types, expected a column of tags: is it another one?";
        assert_eq!(message(&text, Column::Last), expected);
    }

    #[test]
    fn long_sentences_and_lines() {
        let long = "x".repeat(13_000);
        let text: String =
            (0..1238).map(|i| if i == 700 { format!("{long}\tO\n") } else { format!("w{i}\tB-x\n") }).collect();
        let file = parse(&text, Column::Last).unwrap();
        assert_eq!((file.sentences().len(), file.sentences().next()), (1, Some(0..1238)));
        assert_eq!(file.word(700), long);
        assert_eq!(written(&file, |_| "O").len(), text.len() + 2 * 1238);
    }

    fn real(name: &str) -> Option<PathBuf> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/ner")).join(name);
        if !path.exists() {
            println!("skipped: {} is not there", path.display());
            return None;
        }
        Some(path)
    }

    #[test]
    fn real_files() {
        // Name, scheme, sentences, tokens, entity types.
        let files = [
            ("wnut17/wnut17train.conll", Scheme::Iob2, 3394, 62_730, 6),
            ("wnut17/emerging.dev.conll", Scheme::Iob2, 1009, 15_733, 6),
            ("wnut17/emerging.test.annotated", Scheme::Iob2, 1287, 23_394, 6),
            ("wikigold/wikigold.conll.txt", Scheme::Iob1, 1696, 39_007, 4),
            ("bc2gm/train.tsv", Scheme::Iob2, 12_574, 355_405, 1),
            ("bc2gm/devel.tsv", Scheme::Iob2, 2519, 71_042, 1),
            ("bc2gm/test.tsv", Scheme::Iob2, 5038, 143_465, 1),
        ];
        for (name, scheme, sentences, tokens, types) in files {
            let Some(path) = real(name) else { return };
            let file = Conll::read(&path, Column::Last, &Inputs::default()).unwrap();
            let mut kinds = Kinds::default();
            let gold = file.gold(None, false, &mut kinds).unwrap();
            assert_eq!(gold.scheme, scheme, "{name}");
            let found = (file.sentences().len(), file.tokens(), kinds.len());
            assert_eq!(found, (sentences, tokens, types), "{name}");
            // Written with its own tags, every line is there, and the last two columns are equal.
            let texts: Vec<String> = gold.tags.iter().map(|tag| tag.text(&kinds, scheme)).collect();
            let out = written(&file, |token| &texts[token]);
            let before = std::fs::read_to_string(&path).unwrap();
            let again: String = out
                .split_inclusive('\n')
                .map(|line| match line.rfind(['\t', ' ']) {
                    Some(place) if !line.trim().is_empty() => format!("{}\n", &line[..place]),
                    _ => line.to_owned(),
                })
                .collect();
            assert!(again == before, "{name}");
            let both = Conll::parse(&path, out.clone().into_bytes(), Column::Number(2)).unwrap();
            let last = Conll::parse(&path, out.into_bytes(), Column::Last).unwrap();
            let mut again = |file: &Conll| file.gold(None, false, &mut kinds).unwrap().tags;
            assert_eq!(again(&both), gold.tags);
            assert_eq!(again(&last), gold.tags);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), n in 0usize..4) {
            let _ = Conll::parse("f", bytes, Column::Number(n));
        }

        /// Whatever is read is written as it was, but for the column; and reads as the same words.
        #[test]
        fn any_file_survives(text in "(\u{feff}|)([a-c\t \r\u{200b}#]|\n|O\n|-DOCSTART-){0,40}") {
            if let Ok(file) = parse(&text, Column::Absent) {
                let out = written(&file, |_| "T");
                prop_assert_eq!(out.split('\n').count(), text.split('\n').count());
                let again = parse(&out, Column::Last).unwrap();
                prop_assert_eq!(words(&again), words(&file));
                prop_assert_eq!(again.columns(), if file.tokens() == 0 { 0 } else { file.columns() + 1 });
            }
        }
    }
}
