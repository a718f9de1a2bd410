//! Files with one token per line: the word in the first column or in a given one, its tag in the last column or in a given one.
//!
//! - Columns are separated by tabs if most lines of the first sentence contain one (words may then contain spaces), otherwise by runs
//!   of spaces and tabs. If tags are not needed and most lines contain one word, each line is a word, including spaces within it.
//! - Lines that are empty or contain only white space, including that of Unicode and zero-width marks, end a sentence, and so do lines
//!   whose first field is `-DOCSTART-`, whatever follows.
//! - A line that begins with `#` is a comment unless it has the form of a row: `#word O` and `# O` are tokens, `# sent_id = 1`,
//!   `#⇥url⇥[date]⇥` and `## prose` are comments (see `Look::is_comment`).
//! - If tokens are numbered in the first column and words are in another, the ranges (`1-2`) and empty nodes (`8.1`) of CoNLL-U are not
//!   tokens.
//! - Only a line feed ends a line; a carriage return before it and a byte order mark at the beginning are dropped. The last line needs
//!   no line feed.
//! - Words are kept unchanged: they may begin with `#`, contain no-break spaces or be a space. A word may even be empty (`⇥O`); such
//!   words are counted, and so are rows with a different number of columns.
//! - Of several tags joined by commas (`B-person,B-group`) the first one is used; these are counted, too.
//! - Sentences with too many tokens, as in a file without empty lines, are split after full stops.
//!
//! The text of the file is kept, so that it can be written again with an additional column.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::tags::{self, Kinds, Scheme, Tag};
use super::{Inputs, list, shown};
use crate::error::counted;
use crate::notices::{Notice, Oddity};
use crate::{Error, Result};

/// Where the tags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Column {
    /// There are none, or they are not needed.
    Absent,
    /// In the last column.
    Last,
    /// In this column, counted from 1.
    Number(usize),
}

/// The columns of a file, and the maximum length of its sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Form {
    /// The column of the words, counted from 1.
    pub word: usize,
    /// The column of the tags.
    pub tags: Column,
    /// Maximum number of tokens of a sentence; longer ones are split.
    pub longest: usize,
}

impl Default for Form {
    /// Words in the first column, tags in the last.
    fn default() -> Self {
        Form { word: 1, tags: Column::Last, longest: Form::LONGEST }
    }
}

impl Form {
    /// Default maximum number of tokens of a sentence: more than real sentences have.
    pub const LONGEST: usize = 2000;

    /// The form with words in the first column and tags in `tags`.
    pub fn tags(tags: Column) -> Self {
        Form { tags, ..Form::default() }
    }
}

/// More entity types than this in one file indicate that the column contains something else.
const MOST_KINDS: usize = 2000;
/// A single sentence of this many tokens or more probably lacks empty lines.
const ONE_SENTENCE: usize = 200;
/// Maximum number of tags in another notation that have a warning each; the others share one.
const ODD_TAGS: usize = 3;
/// Maximum number of lines of the first sentence used to detect the form of a file.
const HEAD: usize = 1000;

/// One token: the position of its word in the text, and the number of its tag.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    bytes: u32,
    tag: u32,
}

/// Irregularities in the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Tokens whose word is empty.
    pub empty_words: Oddity,
    /// Tags joined by commas, of which the first was used.
    pub joined_tags: Oddity,
    /// Rows with a different number of columns than the file.
    pub ragged: Oddity,
    /// Lines of white space other than spaces and tabs, or of zero-width marks.
    pub odd_blanks: Oddity,
    /// Sentences that were split.
    pub cut: Oddity,
    /// Number of pieces they were split into.
    pub pieces: usize,
}

impl Oddities {
    /// Appends those of a later part of a file.
    pub fn append(&mut self, later: Oddities) {
        let Oddities { empty_words, joined_tags, ragged, odd_blanks, cut, pieces } = self;
        let both = [
            (empty_words, later.empty_words),
            (joined_tags, later.joined_tags),
            (ragged, later.ragged),
            (odd_blanks, later.odd_blanks),
            (cut, later.cut),
        ];
        both.into_iter().for_each(|(all, later)| all.append(later));
        *pieces += later.pieces;
    }

    /// The warnings about the file at `path`, whose rows have `columns` columns and whose sentences were split if they had more than
    /// `longest` tokens.
    pub fn notices(&self, path: &Path, columns: usize, longest: usize) -> Vec<Notice> {
        let other = format!("with another number of columns than {columns}");
        let cut = (self.cut.count > 0).then(|| {
            let are = if self.cut.count == 1 { "it is" } else { "they are" };
            let found = format!("{} of more than {longest} tokens", counted(self.cut.count, "sentence"));
            let missing = "are there empty lines between sentences?";
            let done = format!("{are} split into {} pieces, after full stops if there are any", self.pieces);
            Notice::of_file(path, self.cut.line, format!("{found} ({missing})"))
                .done(done)
                .option("--max-sentence N splits sentences of more than N tokens")
        });
        let all = [
            self.empty_words.notice(path, "empty word", "empty words", "kept as words"),
            self.joined_tags.notice(path, "tag joined by commas", "tags joined by commas", "the first of each is used"),
            self.ragged.notice(path, &format!("row {other}"), &format!("rows {other}"), "the columns needed are used"),
            self.odd_blanks.notice(
                path,
                "line with only Unicode white space or zero-width marks",
                "lines with only Unicode white space or zero-width marks",
                "treated as empty lines, which end sentences",
            ),
            cut,
        ];
        all.into_iter().flatten().collect()
    }
}

/// How the fields of a line are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    /// By single tabs.
    Tabs,
    /// By runs of spaces and tabs.
    Spaces,
    /// Each line is one word.
    None,
}

/// The form of a file, detected from its first sentence.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    split: Split,
    /// The number of columns of most rows, and the first line with this number.
    columns: usize,
    line: usize,
    /// Whether its tags have prefixes.
    prefixed: bool,
    /// Whether the first column numbers the tokens.
    numbered: bool,
}

impl Look {
    /// Examines the first sentence with a line that does not begin with `#`; if there is none, the lines that do. The second value is
    /// whether there was one.
    fn at(text: &str, form: Form, before: usize) -> (Look, bool) {
        let rows = |marked: bool| {
            let all = (before + 1..).zip(lines(text).map(|(_, line)| line));
            let all = all.skip_while(move |(_, line)| !is_row(line, marked));
            let sentence = all.take_while(|(_, line)| !is_separator(line) && !is_document(line));
            sentence.filter(move |(_, line)| is_row(line, marked)).take(HEAD)
        };
        let found = rows(false).next().is_some();
        let rows = || rows(!found);
        let (count, tabs) =
            rows().fold((0, 0), |(n, tabs), (_, line)| (n + 1, tabs + usize::from(line.contains('\t'))));
        let split = if tabs > 0 && 2 * tabs >= count { Split::Tabs } else { Split::Spaces };
        let mut look = Look { split, columns: 0, line: 0, prefixed: false, numbered: count > 0 };
        // Each number of columns, how many rows have it, and the first of them.
        let mut widths: Vec<(usize, usize, usize)> = Vec::new();
        for (number, line) in rows() {
            let fields = look.fields(line, form);
            match widths.iter_mut().find(|(width, ..)| *width == fields.count) {
                Some((_, rows, _)) => *rows += 1,
                None => widths.push((fields.count, 1, number)),
            }
            look.prefixed |= fields.last.contains(['-', '_', ':']) && tags::has_prefix(fields.last);
            look.numbered &= is_number(fields.first) || is_range(fields.first);
        }
        if let Some(&(width, _, line)) = widths.iter().rev().max_by_key(|(_, rows, _)| *rows) {
            (look.columns, look.line) = (width, line);
        }
        if split == Split::Spaces && look.columns == 1 && form.word == 1 && form.tags == Column::Absent {
            look.split = Split::None;
        }
        (look, found)
    }

    fn fields<'t>(&self, line: &'t str, form: Form) -> Fields<'t> {
        let mut fields = Fields { first: "", last: "", word: None, tag: None, count: 0 };
        let mut take = |field: &'t str, offset: usize| {
            fields.count += 1;
            if fields.count == 1 {
                fields.first = field;
            }
            if fields.count == form.word {
                fields.word = Some((offset, field));
            }
            if form.tags == Column::Number(fields.count) {
                fields.tag = Some(field);
            }
            fields.last = field;
        };
        let mut start = 0;
        match self.split {
            Split::Tabs => {
                for (i, _) in line.bytes().enumerate().filter(|(_, b)| *b == b'\t') {
                    take(&line[start..i], start);
                    start = i + 1;
                }
                take(&line[start..], start);
            }
            Split::Spaces => {
                for (i, _) in line.bytes().enumerate().filter(|(_, b)| matches!(*b, b' ' | b'\t')) {
                    if i > start {
                        take(&line[start..i], start);
                    }
                    start = i + 1;
                }
                if line.len() > start {
                    take(&line[start..], start);
                }
            }
            Split::None => {
                // A tab still ends the word, as it does when the file is read again.
                let word = line.split('\t').next().unwrap_or(line).trim_start_matches(' ');
                let start = line.split('\t').next().unwrap_or(line).len() - word.len();
                take(word.trim_end_matches(' '), start);
            }
        }
        fields.last = fields.last.trim_matches(' ');
        fields.tag = match form.tags {
            Column::Absent => None,
            Column::Last => Some(fields.last),
            Column::Number(_) => fields.tag.map(|tag| tag.trim_matches(' ')),
        };
        fields
    }

    /// Whether a line that begins with `#` is a comment. `begins`: whether a sentence would begin there.
    ///
    /// `#begin document` and `#end document` of CoNLL-2012 are comments. Any other line is a row if it has as many columns as other
    /// rows and a tag in the column of tags. Otherwise it is still a row, of irregular width, if it has a tag and does not look like a
    /// comment.
    fn is_comment(&self, line: &str, fields: &Fields, begins: bool) -> bool {
        if ["#begin document", "#end document"].iter().any(|mark| line.starts_with(mark)) {
            return true;
        }
        let marked = matches!(line.as_bytes().get(1), Some(b' ' | b'\t' | b'#'));
        if self.split == Split::None {
            return marked && begins && line.trim_end().contains([' ', '\t']);
        }
        let tagged = self.is_tag(fields.tag.unwrap_or(fields.last));
        if fields.count != self.columns { !tagged || marked && begins } else { marked && fields.count > 1 && !tagged }
    }

    /// Whether a field could be a tag of the file.
    fn is_tag(&self, text: &str) -> bool {
        if self.prefixed {
            return tags::is_outside(text) || tags::has_prefix(text);
        }
        let plain = |c: char| c.is_alphanumeric() || "-_:.,|/+*&$'".contains(c);
        !text.is_empty() && text.chars().all(plain) && !matches!(text, "newdoc" | "newpar")
    }
}

/// Whether a line is a row: of those that begin with `#` (`marked`), or of the others.
fn is_row(line: &str, marked: bool) -> bool {
    line.starts_with('#') == marked && !is_separator(line) && !is_document(line) && !is_odd_blank(line)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A range of tokens (`1-2`) or an empty node (`8.1`) of CoNLL-U.
fn is_range(text: &str) -> bool {
    text.split_once(['-', '.']).is_some_and(|(a, b)| is_number(a) && is_number(b))
}

/// A file of tokens; see the description of this module.
#[derive(Debug)]
pub struct Conll {
    path: PathBuf,
    text: String,
    form: Form,
    look: Look,
    /// Number of lines before the text, if it is part of a file.
    before: usize,
    rows: Vec<Row>,
    /// The end of each sentence, in tokens.
    ends: Vec<usize>,
    /// The beginning of each `-DOCSTART-` line, in bytes.
    documents: Vec<usize>,
    /// Whether there are comments.
    comments: bool,
    /// Whether all lines used to detect the form of the file begin with `#`.
    marked: bool,
    /// Whether an added column is separated by a tab.
    tabs: bool,
    tag_texts: Vec<String>,
    /// Irregularities in its lines.
    pub odd: Oddities,
}

/// The tags of a file, one per token, in a known scheme.
#[derive(Clone, Debug)]
pub struct Gold {
    /// Their scheme.
    pub scheme: Scheme,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Tags that the scheme did not allow and that were rewritten.
    pub repaired: Oddity,
    /// Further warnings.
    notices: Vec<Notice>,
}

impl Gold {
    /// The warnings.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }
}

/// The position of the next part in a stream of sentences.
#[derive(Default)]
pub struct Place {
    look: Option<Look>,
    lines: usize,
    /// Whether added columns are separated by tabs.
    tabs: bool,
}

impl Place {
    /// The number of columns; 0 before the first token.
    pub fn columns(&self) -> usize {
        self.look.map_or(0, |look| look.columns)
    }
}

impl Conll {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8 or is an HTML page; a row lacks the column of words or of tags, or has an empty tag.
    pub fn read(path: impl AsRef<Path>, form: Form, inputs: &Inputs) -> Result<Conll> {
        let text = inputs.text(path.as_ref(), "lines of a word and its tag")?;
        Conll::parse(path, text, form)
    }

    /// Reads the content of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Conll::read`].
    pub fn parse(path: impl AsRef<Path>, text: String, form: Form) -> Result<Conll> {
        Conll::part(path, text, form, &mut Place::default())
    }

    /// Reads a part of a stream, which ends where a sentence ends, and advances `place`.
    ///
    /// # Errors
    /// As [`Conll::read`].
    pub fn part(path: impl AsRef<Path>, text: String, form: Form, place: &mut Place) -> Result<Conll> {
        if form.word == 0 || form.tags == Column::Number(0) {
            return Err(Error::Usage("columns are counted from 1".into()));
        }
        if form.tags == Column::Number(form.word) {
            let what = format!("column {} contains the words, and cannot contain the tags too", form.word);
            return Err(Error::Usage(what));
        }
        let (look, sure) = place.look.map_or_else(|| Look::at(&text, form, place.lines), |look| (look, true));
        let mut file = Conll {
            path: path.as_ref().to_owned(),
            text: String::new(),
            form,
            look,
            before: place.lines,
            rows: Vec::new(),
            ends: Vec::new(),
            documents: Vec::new(),
            comments: false,
            marked: !sure,
            tabs: false,
            tag_texts: Vec::new(),
            odd: Oddities::default(),
        };
        place.lines += file.scan(&text)?;
        if sure {
            place.look = Some(look);
        }
        file.text = text;
        place.tabs |= match look.split {
            Split::Tabs => true,
            Split::Spaces => false,
            // So that the output is read as the same words.
            Split::None => file.comments || file.words().any(|word| word.is_empty() || word.contains([' ', '\t'])),
        };
        file.tabs = place.tabs;
        Ok(file)
    }

    /// Finds the tokens, and counts lines.
    fn scan(&mut self, text: &str) -> Result<usize> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        // Most tags are equal to that of the previous row: its text and number.
        let mut last: Option<(&str, u32)> = None;
        let (look, form) = (self.look, self.form);
        let (mut open, mut begin, mut count) = (false, 0, 0);
        for (index, (start, line)) in lines(text).enumerate() {
            count = index + 1;
            let number = self.before + count;
            let odd = is_odd_blank(line);
            if odd {
                self.odd.odd_blanks.add(number);
            }
            if odd || is_separator(line) || is_document(line) {
                if open {
                    self.close(text, begin);
                    open = false;
                }
                if is_document(line) {
                    self.documents.push(start);
                }
                continue;
            }
            let mut fields = look.fields(line, form);
            if fields.count > look.columns && fields.last.is_empty() && form.tags == Column::Last {
                // Surplus tabs at its end.
                let surplus = line.len() - line.trim_end_matches('\t').len();
                let count = fields.count;
                fields = Fields { count, ..look.fields(&line[..line.len() - surplus.min(count - look.columns)], form) };
            }
            if line.starts_with('#') && look.is_comment(line, &fields, !open)
                || form.word > 1 && look.numbered && is_range(fields.first)
            {
                self.comments = true;
                continue;
            }
            let Some((offset, word)) = fields.word else { return Err(self.wrong_row(number, line, &fields)) };
            if fields.count != look.columns {
                self.odd.ragged.add(number);
            }
            let tag = match fields.tag {
                None if form.tags == Column::Absent => 0,
                Some(_) if form.tags == Column::Last && fields.count == form.word => {
                    return Err(self.wrong_row(number, line, &fields));
                }
                None => return Err(self.wrong_row(number, line, &fields)),
                Some("") => return Err(self.empty_tag(number, line, &fields)),
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
                            self.odd.joined_tags.add(number);
                        } else {
                            last = Some((tag, id));
                        }
                        id
                    }
                },
            };
            let Ok(bytes) = u32::try_from(word.len()) else {
                let found = format!("a word of {} bytes", word.len());
                return Err(Error::input(&self.path, number, found, "a word of less than 4 GiB"));
            };
            if bytes == 0 {
                self.odd.empty_words.add(number);
            }
            self.rows.push(Row { start: start + offset, bytes, tag });
            if !open {
                (open, begin) = (true, number);
            }
        }
        if open {
            self.close(text, begin);
        }
        Ok(count)
    }

    /// Ends a sentence that began in `line`, and splits it if it is too long.
    fn close(&mut self, text: &str, line: usize) {
        let from = self.ends.last().copied().unwrap_or(0);
        let (to, longest) = (self.rows.len(), self.form.longest);
        if to - from > longest {
            let word = |token: usize| {
                let row: Row = self.rows[token];
                &text[row.start..row.start + row.bytes as usize]
            };
            let cut = cuts(word, from..to, longest);
            self.odd.cut.add(line);
            self.odd.pieces += cut.len() + 1;
            self.ends.extend(cut);
        }
        self.ends.push(to);
    }

    fn split(&self) -> &'static str {
        match self.look.split {
            Split::Tabs => "split at tabs, since the file has tabs",
            Split::Spaces => "split at spaces",
            Split::None => "each line is a word",
        }
    }

    /// The error of a row that lacks a column.
    fn wrong_row(&self, number: usize, line: &str, fields: &Fields) -> Error {
        let Form { word, tags, .. } = self.form;
        let found = format!("{} ({}): {}", columns(fields.count), self.split(), shown(line));
        let least = match tags {
            Column::Absent => word,
            Column::Last => word + 1,
            Column::Number(n) => word.max(n),
        };
        let what = match tags {
            _ if fields.count < word && word > 1 => {
                format!("at least {least}, since the words are in column {word} (--word-column N)")
            }
            Column::Number(n) => format!("at least {least}, since the tags are in column {n} (--column N)"),
            _ if word > 1 => format!("at least {least}, since the words are in column {word} and tags in the last"),
            _ => "at least 2, a word and its tag".to_owned(),
        };
        Error::input(&self.path, number, found, what + &self.other_rows(fields.count))
    }

    /// How the error of a row with `count` columns describes the other rows.
    fn other_rows(&self, count: usize) -> String {
        match self.look.columns {
            same if same == count && self.marked => {
                "; all lines begin with `#`: does the file contain only comments?".into()
            }
            same if same == count => String::new(),
            most => format!("; line {} has {}", self.look.line, columns(most)),
        }
    }

    /// The line of a token.
    fn row(&self, token: usize) -> &str {
        let start = self.rows[token].start;
        line_from(&self.text[self.text[..start].rfind('\n').map_or(0, |end| end + 1)..])
    }

    /// The error of a token with an invalid tag.
    fn no_tag(&self, token: usize) -> Error {
        let text = shown(&self.tag_texts[self.rows[token].tag as usize]);
        let (count, most) = (self.look.fields(self.row(token), self.form).count, self.look.columns);
        let ragged = self.form.tags == Column::Last && count != most;
        let (found, column) = match ragged {
            true => (
                format!("the tag {text} in the last of {}", columns(count)),
                format!("; --column {most} reads the tags from column {most} of every row"),
            ),
            false => (format!("the tag {text}"), String::new()),
        };
        let expected = "O or a tag that begins with B-, I-, E- or S- (types without prefix: the scheme `bare`)";
        self.error(token, found, format!("{expected}{}{column}", self.other_rows(count)))
    }

    /// Whether a column, counted from 1, has a tag in every row, with a prefix in some.
    fn holds_tags(&self, column: usize) -> bool {
        let form = Form { tags: Column::Number(column), ..self.form };
        let mut any = false;
        let all = (0..self.rows.len()).all(|token| {
            let tag = self.look.fields(self.row(token), form).tag.unwrap_or_default();
            let prefixed = tag.contains(['-', '_', ':']) && tags::has_prefix(tag);
            any |= prefixed;
            prefixed || tags::is_outside(tag)
        });
        all && any
    }

    /// The columns directly before the last that also contain tags, the nearest first, if the tags were read from the last one.
    pub fn other_tags(&self) -> impl Iterator<Item = usize> {
        let columns = if self.form.tags == Column::Last { self.form.word + 1..self.look.columns } else { 0..0 };
        columns.rev().take_while(|&column| self.holds_tags(column))
    }

    /// The same file with the tags from another column.
    ///
    /// # Errors
    /// As [`Conll::read`].
    pub fn with_tags_of(&self, column: usize) -> Result<Conll> {
        Conll::parse(&self.path, self.text.clone(), Form { tags: Column::Number(column), ..self.form })
    }

    /// The error of a row whose tag is empty.
    fn empty_tag(&self, number: usize, line: &str, fields: &Fields) -> Error {
        let (found, hint) = match self.form.tags {
            Column::Number(n) => (format!("an empty tag in column {n}"), String::new()),
            _ if line.trim_start().ends_with('\t') && fields.count > self.form.word + 1 => (
                format!("an empty tag: the line ends in a tab, so its last column {} is empty", fields.count),
                format!(" (--column {} reads the tags from the column before it)", fields.count - 1),
            ),
            _ => ("an empty tag: the line ends in a tab with nothing after it".to_owned(), String::new()),
        };
        Error::input(&self.path, number, found, format!("O or the tag of an entity{hint}"))
    }

    /// The tags of the file, in `scheme` if given, otherwise in the scheme detected. Sentences that the scheme does not allow are read
    /// as by `conlleval` and converted to the scheme, which is counted. Entity types are added to `kinds`.
    ///
    /// # Errors
    /// An invalid tag (file, line); implausibly many entity types; words in the column of tags.
    ///
    /// # Panics
    /// If the file was read with [`Column::Absent`].
    pub fn gold(&self, scheme: Option<Scheme>, kinds: &mut Kinds) -> Result<Gold> {
        assert!(!self.tag_texts.is_empty() || self.rows.is_empty(), "the file was read without tags");
        self.check_order()?;
        let known = kinds.len();
        let spelled = tags::parse_all(&self.tag_texts, scheme, kinds);
        let spelled = spelled.map_err(|number| self.no_tag(self.first_with(number)))?;
        if kinds.len() > MOST_KINDS {
            let last = spelled.tags.iter().position(|tag| *tag != Tag::O && tag.kind as usize >= MOST_KINDS);
            let found = format!("more than {MOST_KINDS} entity types");
            let expected = "a column of tags (--column N selects another)";
            return Err(self.error(self.first_with(last.unwrap_or(0)), found, expected));
        }
        let mut notices = self.odd_tags(&spelled, kinds, known);
        let mut tags: Vec<Tag> = self.rows.iter().map(|row| spelled.tags[row.tag as usize]).collect();
        let scheme = match scheme {
            _ if spelled.bare => Scheme::Bare,
            Some(scheme) => scheme,
            None => Scheme::detect(self.sentences().map(|s| &tags[s])),
        };
        let (mut repaired, mut first) = (Oddity::default(), String::new());
        for sentence in self.sentences() {
            let Some(place) = scheme.check(&tags[sentence.clone()]) else {
                continue;
            };
            if repaired.count == 0 {
                repaired.line = self.line(sentence.start + place.min(sentence.len() - 1));
                first = not_allowed(&tags[sentence.clone()], place, scheme, kinds);
            }
            repaired.count += tags::convert(&mut tags[sentence], scheme);
        }
        if repaired.count > 0 {
            let tags = counted(repaired.count, "tag");
            let found = format!("{tags} that the scheme {scheme} does not allow, first {first}");
            let notice = Notice::of_file(&self.path, repaired.line, found);
            notices.push(notice.done("read as conlleval reads them").option("--strict refuses them"));
        }
        Ok(Gold { scheme, tags, repaired, notices })
    }

    /// Returns an error if tags are in the first column and words in the last, where the respective other is expected.
    fn check_order(&self) -> Result<()> {
        if self.form.word != 1 || self.form.tags != Column::Last || self.rows.is_empty() {
            return Ok(());
        }
        let tag = |text: &str| tags::is_outside(text) || text.len() > 1 && tags::has_prefix(text);
        let no_tags = || self.tag_texts.iter().any(|text| !tag(text)) && !self.tag_texts.iter().any(|text| text == "O");
        let prefixed = || self.words().all(tag) && self.words().any(|word| word.len() > 1);
        let bare = || {
            let outside = self.words().take(HEAD).filter(|word| *word == "O").count();
            outside > 4 && 2 * outside > self.rows.len().min(HEAD)
        };
        if (bare() || prefixed()) && no_tags() {
            let last = self.look.columns;
            let found = format!("tags in column 1 and words in column {last}");
            let expected = format!(
                "the word first and its tag last; --column 1 --word-column {last} reads them from these columns"
            );
            return Err(self.error(0, found, expected));
        }
        Ok(())
    }

    /// The warnings about the notation of the tags.
    fn odd_tags(&self, spelled: &tags::Spelled, kinds: &Kinds, known: usize) -> Vec<Notice> {
        let mut notices = Vec::new();
        if !spelled.other.is_empty() {
            // The number of occurrences of each tag, and the first token that has it.
            let mut places = vec![(0, 0); self.tag_texts.len()];
            for (token, row) in self.rows.iter().enumerate() {
                let (count, first) = &mut places[row.tag as usize];
                *first = if *count == 0 { token } else { *first };
                *count += 1;
            }
            let (each, more) = spelled.other.split_at(spelled.other.len().min(ODD_TAGS));
            for &number in each {
                let tag = spelled.tags[number].text(kinds, if spelled.bare { Scheme::Bare } else { Scheme::Iob2 });
                let (count, first) = places[number];
                let found = format!("the tag {} ({})", shown(&self.tag_texts[number]), counted(count, "time"));
                let notice = Notice::of_file(&self.path, self.line(first), found);
                notices.push(notice.done(format!("read as {tag}")).option("--strict refuses it"));
            }
            if let [number, ..] = more {
                let names: Vec<String> = more.iter().map(|&number| shown(&self.tag_texts[number])).collect();
                let found = format!("and {} of this kind: {}", counted(more.len(), "more tag"), list(&names, 5));
                let notice = Notice::of_file(&self.path, self.line(places[*number].1), found);
                notices.push(notice.done("read as intended").option("--strict refuses them"));
            }
        }
        let types = || kinds.names().iter().skip(known);
        let column = "--column N reads the tags from column N";
        // Segmentation of words into syllables or characters (BMES) has no `O` either, but its tags have prefixes.
        if spelled.bare && self.rows.len() > 9 && spelled.tags.iter().all(|tag| *tag != Tag::O) {
            let names: Vec<String> = kinds.names().iter().map(|name| shown(name)).collect();
            let names = format!(" ({})", list(&names, 5));
            let found = format!("no tag is O: every token has one of {} types{names}", kinds.len());
            notices.push(Notice::of_file(&self.path, 0, found).done("all are read as entity types").option(column));
            return notices;
        }
        let no_letter = |name: &&String| !name.is_empty() && !name.chars().any(char::is_alphabetic);
        let strange: Vec<String> = types().filter(no_letter).map(|name| shown(name)).collect();
        if !strange.is_empty() {
            let found = format!("entity types without a letter: {}", list(&strange, 5));
            notices.push(Notice::of_file(&self.path, 0, found).done("read as entity types").option(column));
        }
        notices
    }

    /// The warnings, except those about tags.
    pub fn notices(&self) -> Vec<Notice> {
        let odd = self.odd.notices(&self.path, self.look.columns, self.form.longest);
        let tokens = self.rows.len();
        let one = (self.ends.len() == 1 && tokens >= ONE_SENTENCE).then(|| {
            let found = format!("one sentence of {tokens} tokens (are there empty lines between sentences?)");
            let notice = Notice::of_file(&self.path, self.line(0), found).done("not split");
            notice.option("--max-sentence N splits sentences of more than N tokens")
        });
        let marked = (self.marked && tokens > 0).then(|| {
            let notice = Notice::of_file(&self.path, self.line(0), "all lines begin with `#`");
            notice.done("read as rows, not as comments").option("--strict refuses them")
        });
        odd.into_iter().chain(self.numbered()).chain(one).chain(marked).collect()
    }

    /// A warning if the words are token numbers, and another column could contain the words.
    pub fn numbered(&self) -> Option<Notice> {
        let others = self.look.columns - usize::from(self.form.tags != Column::Absent && self.look.columns > 0);
        (self.form.word == 1 && others > 1 && self.counts_tokens()).then(|| {
            let notice = Notice::of_file(&self.path, self.line(0), "the words are consecutive numbers: 1, 2, 3 …");
            let tags =
                if others > 2 { ", and --column N the tags from column N, which need not be the last" } else { "" };
            notice.done("read as words").option(format!("--word-column 2 reads the words from column 2{tags}"))
        })
    }

    /// Whether at least 9 of 10 words are the numbers of their tokens.
    fn counts_tokens(&self) -> bool {
        let (mut counted, mut before) = (0, None);
        for (token, word) in self.words().enumerate() {
            let number = word.parse::<u64>().ok();
            counted += usize::from(number.is_some_and(|n| n <= 1 || before.is_some_and(|b| n == b + 1)));
            before = number;
            if token >= 20 && 2 * counted < token {
                return false;
            }
        }
        self.rows.len() > 2 && 10 * counted >= 9 * self.rows.len()
    }

    fn first_with(&self, tag: usize) -> usize {
        self.rows.iter().position(|row| row.tag as usize == tag).unwrap_or(0)
    }

    /// An error at a token: what was found and what was expected.
    pub fn error(&self, token: usize, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::input(&self.path, self.line(token), found, expected)
    }

    /// The line of a token, from 1; 0 if there is no such token. Counts the lines before it.
    pub fn line(&self, token: usize) -> usize {
        let Some(row) = self.rows.get(token) else { return 0 };
        let before = &self.text.as_bytes()[..row.start];
        1 + self.before + before.iter().filter(|b| **b == b'\n').count()
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.rows.len()
    }

    /// The number of columns of most rows of the first sentence; 0 if there are no rows.
    pub fn columns(&self) -> usize {
        self.look.columns
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

    /// Writes the file as it was read with one additional column: `tag(token)` for every token and `O` for `-DOCSTART-` lines. All
    /// other lines, line ends and the byte order mark are unchanged; trailing spaces of a line that gets a column are removed. The
    /// column is separated by a tab in files with tabs and if words contain spaces, otherwise by a space. `out` should be buffered.
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
            let end = start
                + match self.look.split {
                    Split::Tabs => line.len(),
                    _ => line.trim_end_matches([' ', '\t']).len(),
                };
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
    first: &'t str,
    last: &'t str,
    /// The word, and its position in the line.
    word: Option<(usize, &'t str)>,
    tag: Option<&'t str>,
    count: usize,
}

fn columns(count: usize) -> String {
    counted(count, "column")
}

/// Describes what a sentence has at a position where its scheme does not allow it.
fn not_allowed(tags: &[Tag], place: usize, scheme: Scheme, kinds: &Kinds) -> String {
    let text = |place: usize| shown(&tags[place].text(kinds, scheme));
    match place {
        _ if place == tags.len() => format!("{} at the end of its sentence", text(place - 1)),
        0 => format!("{} at the beginning of its sentence", text(0)),
        _ => format!("{} after {}", text(place), text(place - 1)),
    }
}

/// Where `tokens`, if there are more than `longest`, are split: after full stops, into pieces of at most `longest`.
pub fn cuts<'t>(word: impl Fn(usize) -> &'t str + Copy, tokens: Range<usize>, longest: usize) -> Vec<usize> {
    let (mut start, mut cuts) = (tokens.start, Vec::new());
    if tokens.len() > longest {
        for end in tokens.start + 1..tokens.end {
            if end - start >= longest || ends_sentence(word, tokens.start, end) {
                cuts.push(end);
                start = end;
            }
        }
    }
    cuts
}

/// Whether a sentence that begins at `from` plausibly ends before the token `end`: after a full stop that does not belong to an initial
/// or a short abbreviation, and not before a lower-case letter.
fn ends_sentence<'t>(word: impl Fn(usize) -> &'t str, from: usize, end: usize) -> bool {
    let last = word(end - 1);
    let bare = last.trim_end_matches(['"', '\'', ')', '”', '’', '»']);
    let stem = bare.trim_end_matches(['.', '!', '?', '。', '！', '？', '…']);
    if stem.len() == bare.len() || word(end).starts_with(char::is_lowercase) {
        return false;
    }
    let long = |word: &str| !word.ends_with('.') && word.chars().filter(|c| c.is_alphanumeric()).count() > 3;
    match stem {
        "" => !bare.starts_with('.') || end - 1 > from && long(word(end - 2)),
        _ => !bare.ends_with('.') || long(stem),
    }
}

/// The lines of a text with their positions, without line ends and the byte order mark.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    text[at..].split_inclusive('\n').map(move |whole| {
        let start = at;
        at += whole.len();
        (start, line_from(whole))
    })
}

/// The rest of the line at the beginning of `text`, without its end.
fn line_from(text: &str) -> &str {
    let line = text.split_once('\n').map_or(text, |(line, _)| line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// Whether a line, without its end, separates sentences.
pub(super) fn is_separator(line: impl AsRef<[u8]>) -> bool {
    line.as_ref().iter().all(|b| matches!(b, b' ' | b'\t'))
}

/// Whether a line looks blank, but contains more than spaces and tabs.
fn is_odd_blank(line: &str) -> bool {
    let odd = |byte: &u8| !byte.is_ascii() || byte.is_ascii_control() && *byte != b'\t';
    let first = line.bytes().find(|byte| !matches!(byte, b' ' | b'\t'));
    first.is_some_and(|byte| odd(&byte)) && line.chars().all(super::is_invisible)
}

fn is_document(line: &str) -> bool {
    line.strip_prefix("-DOCSTART-").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str, column: Column) -> Result<Conll> {
        Conll::parse("f.conll", text.to_owned(), Form::tags(column))
    }

    fn words(file: &Conll) -> Vec<Vec<&str>> {
        file.sentences().map(|s| s.map(|token| file.word(token)).collect()).collect()
    }

    fn tags(file: &Conll) -> String {
        let mut kinds = Kinds::default();
        let gold = file.gold(None, &mut kinds).unwrap();
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
        file.and_then(|file| file.gold(None, &mut Kinds::default())).unwrap_err().to_string()
    }

    #[test]
    fn tabs_and_what_separates_sentences() {
        let text = "#1 hit\tO\n\u{a0}\tO\n\t\n\n \u{200b}\tB-x\r\n   \n#\tI-x\n-DOCSTART-\nEU\tO";
        // (B-x begins one sentence and I-x another: neither iob1 nor iob2 allows both, so the words are read without tags.)
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
        // Only a line feed ends a line, only spaces and tabs separate words, and a byte order mark counts at the beginning only.
        for word in ["a\u{85}b", "\u{2028}", "\u{feff}", "-DOCSTART-x", "--", "a\rb", "#", "##x", "\u{b}", "\u{a0}"] {
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
        let expected = "f.conll:1: found 1 column (split at spaces): `EU`, expected at least 2, a word and its tag";
        assert_eq!(message("EU\n", Column::Last), expected);
    }

    #[test]
    fn no_tokens() {
        for text in ["", "\n\n", "\u{feff}", " \t\n", "-DOCSTART- O\n"] {
            let file = parse(text, Column::Last).unwrap();
            assert_eq!((file.tokens(), file.sentences().len()), (0, 0));
            assert_eq!(file.gold(None, &mut Kinds::default()).unwrap().tags, []);
            assert_eq!(written(&file, |_| "x"), text.replace(" O", " O O"));
        }
    }

    #[test]
    fn empty_words_are_kept_and_counted() {
        let file = parse("a\tO\n\tO\n\tB-x\n", Column::Last).unwrap();
        assert_eq!(words(&file), [["a", "", ""]]);
        assert_eq!(file.odd.empty_words, Oddity { count: 2, line: 2 });
        assert_eq!(written(&file, |_| "O"), "a\tO\tO\n\tO\tO\n\tB-x\tO\n");
    }

    #[test]
    fn of_joined_tags_the_first_counts() {
        let file = parse("a\tB-x,B-y\nb\tI-x\nc\tB-x,B-y\nd\tO\ne\tB-y\n", Column::Last).unwrap();
        assert_eq!(tags(&file), "B-x I-x B-x O B-y");
        assert_eq!(file.odd.joined_tags, Oddity { count: 2, line: 1 });
    }

    #[test]
    fn wrong_rows() {
        let expected = "f.conll:2: found 1 column (split at tabs, since the file has tabs): `b O`, expected at least 2, a word and \
                        its tag; line 1 has 2 columns";
        assert_eq!(message("a\tO\nb O\n", Column::Last), expected);
        let expected = "f.conll:1: found 2 columns (split at spaces): `a O`, expected at least 4, since the tags are in column 4 \
                        (--column N)";
        assert_eq!(message("a O\n", Column::Number(4)), expected);
        let expected = "f.conll:2: found an empty tag: the line ends in a tab with nothing after it, expected O or the tag of an entity";
        assert_eq!(message("a\tO\nb\t\n", Column::Last), expected);
        let expected = "column 1 contains the words, and cannot contain the tags too";
        assert_eq!(message("a O\n", Column::Number(1)), expected);
        assert_eq!(Conll::read("no/such/file", Form::default(), &Inputs::default()).unwrap_err().exit_code(), 6);
    }

    #[test]
    fn tags_that_the_scheme_does_not_allow() {
        let read = |text: &str, scheme| {
            let file = parse(text, Column::Last).unwrap();
            let mut kinds = Kinds::default();
            let gold = file.gold(scheme, &mut kinds).unwrap();
            let texts: Vec<String> = gold.tags.iter().map(|tag| tag.text(&kinds, gold.scheme)).collect();
            let told: Vec<String> = gold.notices().iter().map(ToString::to_string).collect();
            (texts.join(" "), gold.repaired, told.join("\n"))
        };
        let text = "a B-x\nb I-x\n\nc O\nd I-x\n\ne B-x\n";
        let told = "f.conll:5: 1 tag that the scheme iob2 does not allow, first `I-x` after `O`; read as conlleval reads them; \
                    --strict refuses them";
        assert_eq!(read(text, None), ("B-x I-x O B-x B-x".into(), Oddity { count: 1, line: 5 }, told.into()));
        let (tags, repaired, told) = read(text, Some(Scheme::Iob1));
        assert_eq!((tags.as_str(), repaired), ("I-x I-x O I-x I-x", Oddity { count: 2, line: 1 }));
        assert!(told.contains("first `B-x` at the beginning of its sentence"), "{told}");
        let (tags, repaired, told) = read(text, Some(Scheme::Iobes));
        assert_eq!((tags.as_str(), repaired), ("B-x E-x O S-x S-x", Oddity { count: 3, line: 2 }));
        assert!(told.contains("first `I-x` at the end of its sentence"), "{told}");
        let expected = "f.conll:2: found the tag `x`, expected O or a tag that begins with B-, I-, E- or S- ";
        assert!(message("a B-x\nb x\n", Column::Last).starts_with(expected));
    }

    #[test]
    fn comments() {
        // Each line, and whether it is a comment at the beginning of a sentence and within one, in a file with tags and one without.
        let cases = [
            ("# sent_id = 1", true, true),
            ("# O", false, false),
            ("#word O", false, false),
            ("#word B-new", false, false),
            ("# newdoc", true, true),
            ("## prose of several words", true, true),
            ("#begin document (a); part 0", true, true),
            ("# one B-x", true, false),
            ("#a b O", false, false),
        ];
        for (line, first, within) in cases {
            let text = format!("a B-x\n\n{line}\nb O\n{line}\n");
            for column in [Column::Last, Column::Absent] {
                let file = parse(&text, column).unwrap();
                let token = |comment: bool| usize::from(!comment);
                assert_eq!(file.tokens(), 2 + token(first) + token(within), "{line} {column:?}");
            }
        }
        // With tabs a comment may have as many columns as rows.
        let text = "#\turl\t[date]\t\n1\ta\tO\tO\n\n#\tb\tO\tO\n## id\ta b\n2\tc\tO\tO\n";
        assert_eq!(words(&parse(text, Column::Last).unwrap()), [vec!["1"], vec!["#", "2"]]);
        // Comments determine neither the separator nor the number of columns.
        assert_eq!(words(&parse("#\tx\n# y z\na B-x\n", Column::Last).unwrap()), [["a"]]);
        // If there are no other lines, they are rows.
        assert_eq!(words(&parse("#a\n\n#\n", Column::Absent).unwrap()), [["#a"], ["#"]]);
    }

    #[test]
    fn words_with_spaces_one_per_line() {
        let file = parse("# sent_id = 1\nEU\n New York \nrejects\n", Column::Absent).unwrap();
        assert_eq!(words(&file), [["EU", "New York", "rejects"]]);
        assert_eq!(written(&file, |_| "O"), "# sent_id = 1\nEU\tO\n New York\tO\nrejects\tO\n");
    }

    #[test]
    fn long_sentences_are_cut_after_full_stops() {
        let text = "J.\nA.\nSmith\nreturned.\nHe\nsaid\n\"\nyes\n?\n\"\nand\nleft\n.\nThen\n\nshort\nshort.\nShort\n";
        let form = Form { longest: 8, ..Form::tags(Column::Absent) };
        let file = Conll::parse("f", text.to_owned(), form).unwrap();
        let lengths: Vec<usize> = file.sentences().map(|s| s.len()).collect();
        assert_eq!(lengths, [4, 5, 4, 1, 3]);
        assert_eq!((file.odd.cut, file.odd.pieces), (Oddity { count: 1, line: 1 }, 4));
        let none = "w\n".repeat(20);
        let file = Conll::parse("f", none, form).unwrap();
        assert_eq!(file.sentences().map(|s| s.len()).collect::<Vec<_>>(), [8, 8, 4]);
    }

    #[test]
    fn parts_read_as_the_whole() {
        let text = "# a\n\n# c\na\tO\n\nb\tO\n\n#\tO\nc x\tO\n\n";
        let whole = parse(text, Column::Absent).unwrap();
        let (mut place, mut found, mut out) = (Place::default(), Vec::new(), String::new());
        for part in text.split_inclusive("\n\n") {
            let file = Conll::part("f", part.to_owned(), Form::tags(Column::Absent), &mut place).unwrap();
            found.extend((0..file.tokens()).map(|token| (file.line(token), file.word(token).to_owned())));
            out += &written(&file, |_| "T");
        }
        let expected: Vec<_> =
            (0..whole.tokens()).map(|token| (whole.line(token), whole.word(token).to_owned())).collect();
        // A comment of a single word cannot be told from a word.
        assert_eq!(found[1..], expected);
        assert_eq!(out.replacen("# a T", "# a", 1), written(&whole, |_| "T"));
    }

    #[test]
    fn bare_tags() {
        let file = parse("a PER\nb PER\nc O\nd LOC\n", Column::Last).unwrap();
        for scheme in [None, Some(Scheme::Io), Some(Scheme::Bare)] {
            let mut kinds = Kinds::default();
            let gold = file.gold(scheme, &mut kinds).unwrap();
            assert_eq!(gold.scheme, Scheme::Bare);
            assert_eq!(tags(&file), "PER PER O LOC");
        }
        let error = file.gold(Some(Scheme::Iob2), &mut Kinds::default()).unwrap_err();
        assert!(error.to_string().starts_with("f.conll:1: found the tag `PER`"), "{error}");
    }

    #[test]
    fn a_column_of_words_is_no_column_of_tags() {
        let text: String = (0..=MOST_KINDS).map(|i| format!("a w{i}\n")).collect();
        let expected =
            "f.conll:2001: found more than 2000 entity types, expected a column of tags (--column N selects another)";
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
            let file = Conll::read(&path, Form::default(), &Inputs::default()).unwrap();
            let mut kinds = Kinds::default();
            let gold = file.gold(None, &mut kinds).unwrap();
            assert_eq!(gold.scheme, scheme, "{name}");
            let found = (file.sentences().len(), file.tokens(), kinds.len());
            assert_eq!(found, (sentences, tokens, types), "{name}");
            // Written with its own tags, every line is preserved, and the last two columns are equal.
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
            let both = Conll::parse(&path, out.clone(), Form::tags(Column::Number(2))).unwrap();
            let last = Conll::parse(&path, out, Form::default()).unwrap();
            let mut again = |file: &Conll| file.gold(None, &mut kinds).unwrap().tags;
            assert_eq!(again(&both), gold.tags);
            assert_eq!(again(&last), gold.tags);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in "([a-z\t\n #OBI\u{a0}0-9-]{0,200})".prop_map(String::into_bytes), n in 0usize..4) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Ok(file) = Conll::parse("f", text, Form { word: 1 + n / 2, tags: Column::Number(n), longest: 3 }) {
                let _ = file.gold(None, &mut Kinds::default());
            }
        }

        /// Whatever is read is written unchanged, except for the new column, and is read again as the same words.
        #[test]
        fn any_file_survives(text in "(\u{feff}|)([a-c\t \r\u{200b}]|\n|O\n|-DOCSTART-){0,40}") {
            if let Ok(file) = parse(&text, Column::Absent) {
                let out = written(&file, |_| "T");
                prop_assert_eq!(out.split('\n').count(), text.split('\n').count());
                let again = parse(&out, Column::Last).unwrap();
                // Spaces around a word that is a whole line do not belong to it.
                let trimmed = |file| words(file).concat().into_iter().map(|word| word.trim_matches(' ').to_owned()).collect::<Vec<_>>();
                prop_assert_eq!(trimmed(&again), trimmed(&file));
                prop_assert_eq!(again.sentences().len(), file.sentences().len());
            }
        }
    }
}
