//! Text files as ids. A file is mapped into memory, divided into pieces of a fixed size and read in parallel; the result does not
//! depend on the pieces or on the number of threads.
//!
//! A text has one sentence per line, with words separated by white space: space, tab, form feed, carriage return. [`EOS`] is implied at
//! the end of every line, including empty ones. CRLF, a byte order mark at the beginning of a line, spaces at either end of a line or
//! repeated, and a missing end of the last line make no difference. A word that is literally [`UNK`](super::vocabulary::UNK) or [`EOS`]
//! is that special word.

use super::inputs::{Content, NO_NUL, Odd, unmarked};
use super::marks::{Counts, Marks};
use super::signatures::HEAD;
use super::vocabulary::{EOS, Key, Ranking, Vocabulary, Words, load};
use super::{Inputs, is_space, not_utf8, wrong_byte};
use crate::notices::Notice;
use crate::pool;
use crate::{Error, Result};
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use std::path::Path;

/// Maximum length of a word in bytes.
pub const LONGEST_WORD: usize = 64 << 10;

/// A text as one stream of ids, sentence after sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// All words, with [`EOS`] after every line.
    pub ids: Vec<u32>,
    /// The number of ids that are [`UNK`](super::vocabulary::UNK).
    pub unknown: u64,
    /// The number of lines.
    pub lines: u64,
}

/// A text as ids, divided into its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// All words, with [`EOS`] after every line.
    pub ids: Vec<u32>,
    /// The beginning of each line in `ids`, followed by the length of `ids`.
    pub starts: Vec<usize>,
    /// The number of ids that are [`UNK`](super::vocabulary::UNK).
    pub unknown: u64,
}

impl Corpus {
    /// Reads a training text and builds its vocabulary: see [`Vocabulary::from_counts`] for which words are cut. Warns about
    /// irregularities of training texts.
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or contains no word; limits that leave no word.
    pub fn read_training(
        path: &Path,
        min_count: u64,
        max_vocab: Option<usize>,
        marks: &Marks,
        inputs: &Inputs,
    ) -> Result<(Vocabulary, Corpus)> {
        let (vocabulary, corpus) = train(path, min_count, max_vocab, CUT, marks, inputs)?;
        corpus.warn_training(path, &vocabulary, inputs)?;
        Ok((vocabulary.stripping_marks(marks.strip), corpus))
    }

    /// Reads a text with the words of `vocabulary`; others become [`UNK`](super::vocabulary::UNK).
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or is empty.
    pub fn read_with(path: &Path, vocabulary: &Vocabulary, inputs: &Inputs) -> Result<Corpus> {
        let Lines { ids, starts, unknown } = encode(path, vocabulary, CUT, inputs)?;
        Ok(Corpus { ids, unknown, lines: starts.len() as u64 - 1 })
    }
}

/// Fraction of unknown words above which there is a warning.
const MANY_UNKNOWN: f64 = 0.3;
/// Mean line length above which a text has hardly any sentence ends.
const LONG_LINES: u64 = 1000;
/// Number of words inspected where a sample suffices.
const SAMPLE: usize = 1 << 17;

impl Corpus {
    /// The fraction of tokens that are unknown.
    pub fn unknown_rate(&self) -> f64 {
        self.unknown as f64 / self.ids.len().max(1) as f64
    }

    /// Warns about properties that make a text hard to learn from.
    fn warn_training(&self, path: &Path, vocabulary: &Vocabulary, inputs: &Inputs) -> Result<()> {
        let warn = |line, found: String, done: &str, option: &str| {
            inputs.warn(Notice::of_file(path, line, found).done(done).option(option))
        };
        let (tokens, lines) = (self.ids.len() as u64, self.lines);
        if tokens / lines > LONG_LINES {
            let found = match lines {
                1 => format!("one line of {tokens} words"),
                _ => format!("{lines} lines of {} words on average", tokens / lines),
            };
            warn(1, found, "the model hardly learns the ends of sentences; put one sentence on each line", "")?;
        }
        if self.unknown_rate() > MANY_UNKNOWN {
            let found = format!("{:.1} % of the words are unknown", 100.0 * self.unknown_rate());
            let done = "the model learns to predict <unk>, and its perplexity looks better than it is";
            warn(0, found, done, "a lower --min-count or a larger --max-vocab keeps more words")?;
        }
        let head = &self.ids[..self.ids.len().min(SAMPLE)];
        let eos = vocabulary.eos();
        let sample: Vec<&[u32]> =
            head.split(|&id| id == eos).take(head.iter().filter(|&&id| id == eos).count()).collect();
        let empty = sample.iter().filter(|line| line.is_empty()).count();
        if sample.len() >= 20 && empty * 2 > sample.len() {
            let found = format!("{} of the first {} lines are empty", empty, sample.len());
            warn(0, found, "learned as sentences without words; `grep .` removes them", "")?;
        }
        let firsts: Vec<u32> = sample.iter().filter(|line| line.len() > 1).map(|line| line[0]).collect();
        let once = firsts.iter().filter(|&&id| vocabulary.count(id) == 1).count();
        let others = sample.iter().flat_map(|line| line.get(1..).unwrap_or_default());
        let (all, rare) =
            others.fold((0, 0), |(all, rare), &id| (all + 1, rare + usize::from(vocabulary.count(id) == 1)));
        if firsts.len() >= 20 && once * 10 >= firsts.len() * 9 && rare * 2 < all {
            let found = "nearly all lines begin with a unique word: utterance ids?";
            warn(1, found.into(), "learned as words; `cut -d ' ' -f 2-` removes them", "")?;
        }
        Ok(())
    }

    /// Warns if many words of the text are unknown.
    ///
    /// # Errors
    /// Those of [`Inputs::warn`]; none at present.
    pub fn warn_of_unknown(&self, path: &Path, inputs: &Inputs) -> Result<()> {
        let done = "perplexity treats them all as the same word, and looks better than it is";
        warn_of_unknown(self.unknown_rate(), path, done, inputs)
    }
}

/// Warns if `rate`, the fraction of unknown words, is large.
pub(super) fn warn_of_unknown(rate: f64, path: &Path, done: &str, inputs: &Inputs) -> Result<()> {
    if rate <= MANY_UNKNOWN {
        return Ok(());
    }
    let found = format!("{:.1} % of the words are unknown to the model", 100.0 * rate);
    inputs.warn(Notice::of_file(path, 0, found).done(done).option("--strict refuses it"))
}

impl Default for Lines {
    /// No lines.
    fn default() -> Self {
        Lines { ids: Vec::new(), starts: vec![0], unknown: 0 }
    }
}

impl Lines {
    /// Reads a text with the words of `vocabulary`; others become [`UNK`](super::vocabulary::UNK).
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or is empty.
    pub fn read_with(path: &Path, vocabulary: &Vocabulary, inputs: &Inputs) -> Result<Lines> {
        encode(path, vocabulary, CUT, inputs)
    }

    /// As [`Lines::read_with`] of what has been opened, without warnings; the text is returned as it was read.
    ///
    /// # Errors
    /// As [`Lines::read_with`].
    pub(super) fn read_content(path: &Path, file: Content, vocabulary: &Vocabulary) -> Result<(Lines, Seen, Content)> {
        encode_content(path, file, vocabulary, CUT)
    }

    /// The number of lines.
    #[expect(clippy::len_without_is_empty, reason = "a text without a line is refused")]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The ids of a line, with [`EOS`] at its end.
    pub fn line(&self, number: usize) -> &[u32] {
        &self.ids[self.starts[number]..self.starts[number + 1]]
    }

    /// The ids of each line, with [`EOS`] at its end.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.starts.windows(2).map(|ends| &self.ids[ends[0]..ends[1]])
    }
}

/// How a file is divided: in tests into much smaller pieces.
#[derive(Clone, Copy)]
struct Cut {
    /// Bytes per piece.
    piece: usize,
    /// Pieces read before their words are counted together.
    round: usize,
    /// Maximum number of bytes of all distinct words: positions in them are 32 bits.
    letters: usize,
}

const CUT: Cut = Cut { piece: 2 << 20, round: 16, letters: u32::MAX as usize };

/// The words of a file are counted in this many parts, by hash.
const SHARDS: usize = 64;

fn train(
    path: &Path,
    min_count: u64,
    max_vocab: Option<usize>,
    cut: Cut,
    marks: &Marks,
    inputs: &Inputs,
) -> Result<(Vocabulary, Corpus)> {
    let Numbered { mut ids, shards, lines } = number(path, cut, marks, inputs)?;
    let mut bases = [0; SHARDS];
    let mut words = Vec::with_capacity(shards.iter().map(|shard| shard.words.len()).sum());
    for (base, shard) in bases.iter_mut().zip(&shards) {
        *base = words.len();
        words.extend(shard.words.iter().zip(shard.counts.iter().copied()));
    }
    let ranking = Ranking::new(words, min_count, max_vocab)?;
    let rank = |id: &mut u32| {
        let (s, place) = (*id as usize % SHARDS, *id as usize / SHARDS);
        *id = ranking.ids[bases[s] + place];
    };
    let rank_all = || pool::each(pool::chunks_mut(&mut ids, 1 << 16), |_, ids| ids.iter_mut().for_each(rank));
    let (vocabulary, ()) = pool::join(|| ranking.vocabulary(), rank_all);
    let vocabulary = vocabulary?;
    let unknown = vocabulary.count(vocabulary.unk());
    Ok((vocabulary, Corpus { ids, unknown, lines: lines as u64 }))
}

/// A text whose words are numbered, but not yet by rank.
struct Numbered {
    ids: Vec<u32>,
    shards: Vec<Shard>,
    lines: usize,
}

fn number(path: &Path, cut: Cut, marks: &Marks, inputs: &Inputs) -> Result<Numbered> {
    let mut file = inputs.open(path)?;
    warn_of_head(path, &file, inputs)?;
    if let Some(text) = marks.apply(&file) {
        file = file.becomes(text)?;
    }
    let (mut found, mut seen) = file.read(|bytes| number_words(path, bytes, cut))?;
    if seen.odd.marked
        && let Some(text) = unmarked(&file)
    {
        file = file.becomes(text)?;
        (found, seen) = file.read(|bytes| number_words(path, bytes, cut))?;
    }
    seen.odd.warn(path, seen.odd.line(&file), inputs)?;
    seen.marks.warn_training(path, found.ids.len() as u64, found.lines as u64, inputs)?;
    Ok(found)
}

/// Words that warrant a warning.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) odd: Odd,
    pub(super) marks: Counts,
}

impl Seen {
    /// The sum of both.
    pub(super) fn and(self, other: Seen) -> Seen {
        Seen { odd: self.odd.and(other.odd), marks: self.marks.and(other.marks) }
    }
}

/// Warns if a text begins like another format: a web page, JSON, a table.
pub(super) fn warn_of_head(path: &Path, file: &[u8], inputs: &Inputs) -> Result<()> {
    inputs.warn_of_markup(path, file)?;
    let head = &file[..file.len().min(HEAD)];
    let mut lines: Vec<&[u8]> = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).collect();
    // The last line is empty or incomplete.
    lines.pop();
    lines.retain(|line| !line.is_empty());
    if lines.iter().any(|line| line.starts_with(b"-DOCSTART-")) {
        let notice = Notice::of_file(path, 0, "-DOCSTART- lines: a CoNLL file instead of a text?");
        return inputs.warn(notice.done("read as text nonetheless").option("--strict refuses it"));
    }
    let tabs = |line: &&[u8]| count(line, |byte| byte == b'\t');
    let columns = lines.first().map_or(1, |line| 1 + tabs(line));
    if lines.len() >= 5 && columns > 1 && lines.iter().all(|line| 1 + tabs(line) == columns) {
        let found =
            format!("{columns} columns separated by tabs in every line: a table or CoNLL file instead of a text?");
        let notice = Notice::of_file(path, 1, found).done("read as text, with tabs as spaces");
        return inputs.warn(notice.option("--strict refuses it"));
    }
    Ok(())
}

fn number_words(path: &Path, file: &[u8], cut: Cut) -> Result<(Numbered, Seen)> {
    let text = Text::check(path, file, cut)?;
    if text.tokens == text.lines {
        return Err(Error::input(path, 0, "no words", "a text, one sentence per line"));
    }
    let mut ids = vec![0; text.tokens];
    let mut parts = split(&mut ids, text.pieces.iter().map(|piece| piece.tokens));
    let hasher = DefaultHashBuilder::default();
    let mut shards: Vec<_> = (0..SHARDS).map(|_| Shard::new(&hasher)).collect();
    for (pieces, parts) in text.pieces.chunks(cut.round).zip(parts.chunks_mut(cut.round)) {
        let interned =
            pool::map((pieces, &mut *parts), |(piece, ids)| ByShard::new(intern(piece, &hasher, ids, |_| ())));
        // The numbers of the words of each shard and piece.
        let numbers = pool::map((0..SHARDS, &mut shards), |(s, shard)| {
            interned.iter().map(|words| shard.merge(s, words.of(s))).collect()
        });
        let numbers: Option<Vec<Vec<Vec<u32>>>> = numbers.into_iter().collect();
        let letters: usize = shards.iter().map(|shard| shard.words.bytes()).sum();
        let numbers = numbers.filter(|_| letters <= cut.letters).ok_or_else(|| {
            let found = format!("more than {} bytes of different words", cut.letters);
            Error::input(path, 0, found, "a text with fewer different words")
        })?;
        pool::each((parts, &interned), |p, (ids, words)| {
            let mut map = vec![0; words.words.len()];
            for (s, numbers) in numbers.iter().enumerate() {
                for (&local, &number) in words.order(s).iter().zip(&numbers[p]) {
                    map[local as usize] = number;
                }
            }
            ids.iter_mut().for_each(|id| *id = map.get(*id as usize).copied().unwrap_or(0));
        });
    }
    let seen = pool::map(&shards, |shard| {
        let mut seen = Seen::default();
        for (word, &count) in shard.words.iter().zip(&shard.counts) {
            seen.odd.add(word, count);
            seen.marks.add(word, count);
        }
        seen
    });
    let seen = seen.into_iter().fold(Seen::default(), Seen::and);
    Ok((Numbered { ids, shards, lines: text.lines }, seen))
}

fn encode(path: &Path, vocabulary: &Vocabulary, cut: Cut, inputs: &Inputs) -> Result<Lines> {
    let file = inputs.open(path)?;
    warn_of_head(path, &file, inputs)?;
    let (found, seen, file) = encode_content(path, file, vocabulary, cut)?;
    seen.odd.warn(path, seen.odd.line(&file), inputs)?;
    seen.marks.warn_reading(path, found.len() as u64, vocabulary, inputs)?;
    Ok(found)
}

fn encode_content(path: &Path, mut file: Content, vocabulary: &Vocabulary, cut: Cut) -> Result<(Lines, Seen, Content)> {
    let marks = Marks { strip: vocabulary.strips_marks(), unk_token: None };
    if let Some(text) = marks.apply(&file) {
        file = file.becomes(text)?;
    }
    let (mut found, mut seen) = file.read(|bytes| encode_words(path, bytes, vocabulary, cut))?;
    if seen.odd.marked
        && let Some(text) = unmarked(&file)
    {
        file = file.becomes(text)?;
        (found, seen) = file.read(|bytes| encode_words(path, bytes, vocabulary, cut))?;
    }
    Ok((found, seen, file))
}

fn encode_words(path: &Path, file: &[u8], vocabulary: &Vocabulary, cut: Cut) -> Result<(Lines, Seen)> {
    let text = Text::check(path, file, cut)?;
    if text.tokens == 0 {
        return Err(Error::input(path, 0, "an empty file", "a text, one sentence per line"));
    }
    let (mut ids, mut starts) = (vec![0; text.tokens], vec![0; text.lines + 1]);
    let ids_of = split(&mut ids, text.pieces.iter().map(|piece| piece.tokens));
    let starts_of = split(&mut starts[1..], text.pieces.iter().map(|piece| piece.lines));
    let first = text.pieces.iter().scan(0, |sum, piece| {
        *sum += piece.tokens;
        Some(*sum - piece.tokens)
    });
    let first: Vec<usize> = first.collect();
    let hasher = DefaultHashBuilder::default();
    let found = pool::map((&text.pieces, ids_of, starts_of, first), |(piece, ids, starts, first)| {
        let mut starts = starts.iter_mut();
        let words = intern(piece, &hasher, ids, |end| {
            if let Some(start) = starts.next() {
                *start = first + end;
            }
        });
        let map: Vec<u32> = words.iter().map(|word| vocabulary.id_or_unk(word.word)).collect();
        ids.iter_mut().for_each(|id| *id = map.get(*id as usize).copied().unwrap_or(0));
        let (mut unknown, mut seen) = (0, Seen::default());
        for (word, id) in words.iter().zip(map) {
            let count = u64::from(word.count);
            seen.marks.add(word.word, count);
            seen.odd.marked |= word.word.starts_with('\u{feff}');
            // Unusual words in the vocabulary were reported when it was built.
            if id == vocabulary.unk() {
                unknown += count;
                seen.odd.add(word.word, count);
            }
        }
        (unknown, seen)
    });
    let and = |(unknown, seen): (u64, Seen), (more, others)| (unknown + more, seen.and(others));
    let (unknown, seen) = found.into_iter().fold((0, Seen::default()), and);
    Ok((Lines { ids, starts, unknown }, seen))
}

/// A file that has been checked, and contains no errors.
struct Text<'a> {
    pieces: Vec<Piece<'a>>,
    tokens: usize,
    lines: usize,
}

/// Part of a file that begins and ends with whole words.
struct Piece<'a> {
    text: &'a str,
    /// Number of words and line ends.
    tokens: usize,
    lines: usize,
    /// Whether the end of the last line is missing; it is counted nevertheless.
    open: bool,
}

/// What a text must not contain.
enum Fault {
    NotUtf8,
    Nul,
    LongWord,
}

impl<'a> Text<'a> {
    fn check(path: &Path, file: &'a [u8], cut: Cut) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = file;
        while !rest.is_empty() {
            let least = cut.piece.min(rest.len());
            let space = rest[least..].iter().position(|&byte| is_space(byte));
            let (part, after) = rest.split_at(space.map_or(rest.len(), |n| least + n + 1));
            parts.push((file.len() - rest.len(), part));
            rest = after;
        }
        let checked: Vec<_> = pool::map(&parts, |(_, part)| Piece::check(part));
        let mut pieces = Vec::with_capacity(parts.len());
        for (piece, (start, _)) in checked.into_iter().zip(&parts) {
            pieces.push(piece.map_err(|(at, fault)| fault.error(path, file, start + at))?);
        }
        if let Some(last) = pieces.last_mut().filter(|last| !last.text.ends_with('\n')) {
            last.open = true;
            last.tokens += 1;
            last.lines += 1;
        }
        let tokens = pieces.iter().map(|piece| piece.tokens).sum();
        let lines = pieces.iter().map(|piece| piece.lines).sum();
        Ok(Text { pieces, tokens, lines })
    }
}

impl<'a> Piece<'a> {
    /// The first fault is reported, whatever its kind.
    fn check(bytes: &'a [u8]) -> std::result::Result<Self, (usize, Fault)> {
        let text = std::str::from_utf8(bytes);
        let good = text.map_or_else(|e| e.valid_up_to(), str::len);
        let nul = if bytes[..good].contains(&0) { bytes.iter().position(|&byte| byte == 0) } else { None };
        let good = nul.unwrap_or(good);
        if let Some(at) = long_word(&bytes[..good]) {
            return Err((at, Fault::LongWord));
        }
        if let Some(at) = nul {
            return Err((at, Fault::Nul));
        }
        let text = text.map_err(|e| (e.valid_up_to(), Fault::NotUtf8))?;
        let lines = count(bytes, |byte| byte == b'\n');
        Ok(Piece { text, tokens: words(bytes) + lines, lines, open: false })
    }
}

impl Fault {
    fn error(self, path: &Path, file: &[u8], at: usize) -> Error {
        match self {
            Fault::NotUtf8 => not_utf8(path, file, at),
            Fault::Nul => wrong_byte(path, file, at, "a NUL byte", NO_NUL),
            Fault::LongWord => {
                let length = file[at..].iter().position(|&byte| is_space(byte)).unwrap_or(file.len() - at);
                let found = format!("a word of {length} bytes");
                wrong_byte(path, file, at, &found, &format!("words of at most {LONGEST_WORD} bytes"))
            }
        }
    }
}

/// The position of the first word that is too long.
fn long_word(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    // A word that is too long fills a window after some space; the search continues after the last space within a window.
    while bytes.len() - start > LONGEST_WORD {
        match bytes[start..=start + LONGEST_WORD].iter().rposition(|&byte| is_space(byte)) {
            Some(space) => start += space + 1,
            None => return Some(start),
        }
    }
    None
}

/// The number of words, each of which ends at a space or at the end.
fn words(bytes: &[u8]) -> usize {
    let last = bytes.last().is_some_and(|&byte| !is_space(byte));
    let pairs = bytes.chunks(255).zip(bytes.get(1..).unwrap_or_default().chunks(255));
    let ends =
        |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(&a, &b)| u8::from(!is_space(a) & is_space(b))).sum::<u8>();
    usize::from(last) + pairs.map(|pair| usize::from(ends(pair))).sum::<usize>()
}

/// Counted in bytes, 255 elements at a time, so that a vector register counts many of them at once.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.chunks(255).map(|bytes| usize::from(bytes.iter().map(|&byte| u8::from(is(byte))).sum::<u8>())).sum()
}

/// Splits `all` into parts of these lengths.
fn split<T>(mut all: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths.map(|length| all.split_off_mut(..length).expect("lengths that sum to the whole")).collect()
}

/// A word of a piece, and its number of occurrences.
struct Counted<'a> {
    word: &'a str,
    hash: u64,
    count: u32,
}

/// A word in the index of a piece.
struct Known {
    key: Key,
    id: u32,
    count: u32,
}

/// The distinct words of a piece, in the order of their first appearance. `ids` become indices into them, and `line_end` is called with
/// the number of tokens up to the end of each line. A text changed by another program after its tokens were counted may end sooner or
/// later: its result is discarded, see [`FileBytes::read`].
///
/// [`FileBytes::read`]: crate::sys::files::FileBytes::read
fn intern<'a>(
    piece: &Piece<'a>,
    hasher: &DefaultHashBuilder,
    ids: &mut [u32],
    mut line_end: impl FnMut(usize),
) -> Vec<Counted<'a>> {
    let bytes = piece.text.as_bytes();
    let mut words: Vec<Counted<'a>> = Vec::new();
    let mut index = HashTable::<Known>::new();
    let mut note = |key: Key, word: &'a str| {
        let hash = key.hash(hasher);
        let same = |known: &Known| known.key == key && (key.is_exact() || words[known.id as usize].word == word);
        match index.entry(hash, same, |known| known.key.hash(hasher)) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.count += 1;
                known.id
            }
            Entry::Vacant(entry) => {
                let id = words.len() as u32;
                entry.insert(Known { key, id, count: 1 });
                words.push(Counted { word, hash, count: 0 });
                id
            }
        }
    };
    let eos = Key::new(hasher, EOS.as_bytes(), 0, EOS.len());
    let (mut at, mut token) = (0, 0);
    while at < bytes.len() {
        if is_space(bytes[at]) {
            if bytes[at] == b'\n' {
                let Some(id) = ids.get_mut(token) else { break };
                *id = note(eos, EOS);
                token += 1;
                line_end(token);
            }
            at += 1;
        } else {
            let end = end_of_word(bytes, at);
            let (Some(id), Some(word)) = (ids.get_mut(token), piece.text.get(at..end)) else { break };
            *id = note(Key::new(hasher, bytes, at, end), word);
            token += 1;
            at = end;
        }
    }
    if piece.open
        && let Some(id) = ids.get_mut(token)
    {
        *id = note(eos, EOS);
        line_end(token + 1);
    }
    for known in &index {
        words[known.id as usize].count = known.count;
    }
    words
}

/// The end of the word around `at`.
#[inline(always)]
fn end_of_word(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        // The high bit of every byte up to 0x20, and possibly of some bytes above the first of these.
        let eight = load(bytes, at);
        let low = eight.wrapping_sub(0x2121_2121_2121_2121) & !eight & 0x8080_8080_8080_8080;
        at += low.trailing_zeros() as usize / 8;
        if low != 0 {
            if bytes.get(at).is_none_or(|&byte| is_space(byte)) {
                break;
            }
            at += 1;
        }
    }
    at
}

/// Words ordered by shard.
struct ByShard<'a> {
    words: Vec<Counted<'a>>,
    /// Indices into `words`.
    order: Vec<u32>,
    /// The end of each shard in `order`.
    ends: [usize; SHARDS],
}

impl<'a> ByShard<'a> {
    fn new(words: Vec<Counted<'a>>) -> Self {
        let mut next = [0; SHARDS];
        for word in &words {
            next[shard_of(word.hash)] += 1;
        }
        let mut sum = 0;
        for next in &mut next {
            sum += std::mem::replace(next, sum);
        }
        let mut order = vec![0; words.len()];
        for (i, word) in (0..).zip(&words) {
            let next = &mut next[shard_of(word.hash)];
            order[*next] = i;
            *next += 1;
        }
        ByShard { words, order, ends: next }
    }

    fn order(&self, s: usize) -> &[u32] {
        let start = if s == 0 { 0 } else { self.ends[s - 1] };
        &self.order[start..self.ends[s]]
    }

    fn of(&self, s: usize) -> impl Iterator<Item = &Counted<'a>> {
        self.order(s).iter().map(|&i| &self.words[i as usize])
    }
}

fn shard_of(hash: u64) -> usize {
    // Hash tables use the seven highest and the lowest bits.
    (hash >> 40) as usize % SHARDS
}

/// One shard of the words of the file.
struct Shard {
    words: Words,
    counts: Vec<u64>,
}

impl Shard {
    fn new(hasher: &DefaultHashBuilder) -> Self {
        Shard { words: Words::with_hasher(hasher.clone()), counts: Vec::new() }
    }

    /// Adds `words` to this shard, which has number `s`, and returns their numbers among the words of all shards: `SHARDS` times the
    /// position in the shard, plus `s`. None if a number exceeds 32 bits.
    fn merge<'a>(&mut self, s: usize, words: impl Iterator<Item = &'a Counted<'a>>) -> Option<Vec<u32>> {
        words
            .map(|counted| {
                let place = self.words.intern(counted.word, counted.hash)?;
                if place as usize == self.counts.len() {
                    self.counts.push(0);
                }
                self.counts[place as usize] += u64::from(counted.count);
                place.checked_mul(SHARDS as u32)?.checked_add(s as u32)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::UNK;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn file(bytes: impl AsRef<[u8]>) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes.as_ref()).unwrap();
        file
    }

    fn small(piece: usize, round: usize) -> Cut {
        Cut { piece, round, letters: 1 << 20 }
    }

    /// The text of a corpus, tokens separated by spaces.
    fn spelled(vocabulary: &Vocabulary, ids: &[u32]) -> String {
        ids.iter().map(|&id| vocabulary.word(id)).collect::<Vec<_>>().join(" ")
    }

    /// A plain reference implementation: the lines of words, and the words with their counts.
    fn plainly(text: &str) -> (Vec<Vec<&str>>, Vec<(&str, u64)>) {
        // Without line feeds, carriage returns end lines.
        let old = !text.contains('\n') && text.trim_ascii_end().contains('\r');
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.split_inclusive(if old { '\r' } else { '\n' });
        // A byte order mark alone at the end is not a line.
        let lines = lines.map(|line| line.trim_start_matches('\u{feff}')).filter(|line| !line.is_empty());
        let lines: Vec<Vec<_>> = lines.map(|line| line.split_ascii_whitespace().chain([EOS]).collect()).collect();
        let mut counts = HashMap::from([(UNK, 0), (EOS, 0)]);
        lines.iter().flatten().for_each(|word| *counts.entry(word).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.as_bytes().cmp(b.0.as_bytes())));
        (lines, counts)
    }

    /// Texts full of pitfalls: words of all lengths around 8 and 16, characters that merely look like white space, control characters.
    fn texts() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            6 => "[ab]{1,2}",
            3 => "[a-c]{7,10}",
            3 => "[ab]{15,18}",
            1 => "[\u{1}\u{b}\u{1f}\u{7f}é]{1,9}",
            1 => "[x\u{a0}\u{200b}\u{2028}\u{85}\u{feff}]{1,4}",
            1 => prop_oneof![Just(UNK.to_string()), Just(EOS.to_string())],
        ];
        let space = prop_oneof![6 => Just(" "), 2 => Just("\n"), 1 => Just("\r\n"), 1 => "[ \t\r\n\u{c}]{1,3}".prop_map(|s| &*s.leak())];
        let start = prop_oneof![4 => Just(""), 1 => Just("\u{feff}")];
        let body = prop::collection::vec((word, space), 1..60);
        (start, body, any::<bool>()).prop_map(|(start, body, cut)| {
            let mut text: String = body.iter().flat_map(|(word, space)| [word.as_str(), space]).collect();
            text.truncate(if cut { text.trim_end().len() } else { text.len() });
            format!("{start}{text}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn reads_as_a_plain_reader_does(text in texts(), piece in 1usize..50, round in 1usize..4) {
            // A text without words is an error, which another test covers.
            prop_assume!(plainly(&text).0.concat().iter().any(|word| *word != EOS));
            let (lines, counts) = plainly(&text);
            let file = file(&text);
            let (vocabulary, corpus) = train(file.path(), 1, None, small(piece, round), &Marks::default(), &Inputs::default()).unwrap();
            let words: Vec<_> = vocabulary.words().zip(vocabulary.counts().iter().copied()).collect();
            prop_assert_eq!(&words, &counts);
            prop_assert_eq!(spelled(&vocabulary, &corpus.ids), lines.concat().join(" "));
            prop_assert_eq!(corpus.lines, lines.len() as u64);
            prop_assert_eq!(corpus.unknown, vocabulary.count(vocabulary.unk()));

            let kept = encode(file.path(), &vocabulary, small(piece, round), &Inputs::default()).unwrap();
            prop_assert_eq!(&kept.ids, &corpus.ids);
            prop_assert_eq!(kept.unknown, corpus.unknown);
            prop_assert_eq!(kept.len(), lines.len());
            for (line, ids) in lines.iter().zip(kept.iter()) {
                prop_assert_eq!(spelled(&vocabulary, ids), line.join(" "));
            }
        }

        #[test]
        fn cut_words_are_unknown(text in texts(), min_count in 0u64..4, max_vocab in 3usize..12) {
            let (lines, _) = plainly(&text);
            let file = file(&text);
            let Ok((vocabulary, corpus)) = train(file.path(), min_count, Some(max_vocab), small(20, 2), &Marks::default(), &Inputs::default()) else {
                return Ok(());
            };
            prop_assert!(vocabulary.len() <= max_vocab);
            let tokens = lines.concat();
            prop_assert_eq!(corpus.ids.len(), tokens.len());
            for (&id, word) in corpus.ids.iter().zip(&tokens) {
                prop_assert_eq!(id, vocabulary.id_or_unk(word));
            }
            for id in 0..vocabulary.len() as u32 {
                let count = corpus.ids.iter().filter(|&&other| other == id).count() as u64;
                prop_assert_eq!(vocabulary.count(id), count);
                prop_assert!(count >= min_count || id == vocabulary.unk() || id == vocabulary.eos());
            }
            prop_assert_eq!(corpus.unknown, vocabulary.count(vocabulary.unk()));
            prop_assert_eq!(Corpus::read_with(file.path(), &vocabulary, &Inputs::default()).unwrap(), corpus);
        }

        #[test]
        fn dirt_makes_no_difference(
            lines in prop::collection::vec(prop::collection::vec("[a-d]{1,3}", 0..5), 1..20),
            ends in prop::collection::vec(("[ \t]{0,2}", "[ \t]{1,3}", "[ \t]{0,2}(\r)?"), 20),
            bom in any::<bool>(),
        ) {
            let clean: String = lines.iter().map(|line| line.join(" ") + "\n").collect();
            let mut dirty = String::from(if bom { "\u{feff}" } else { "" });
            for (line, (before, between, after)) in lines.iter().zip(&ends) {
                dirty += &format!("{before}{}{after}\n", line.join(between));
            }
            let whole = !lines.concat().is_empty();
            let open = dirty.strip_suffix('\n').unwrap().to_string();
            let open_counts = !open.is_empty() && !open.ends_with('\n') && open != "\u{feff}";
            let clean = file(clean);
            if !whole {
                prop_assert!(train(clean.path(), 1, None, CUT, &Marks::default(), &Inputs::default()).is_err());
                return Ok(());
            }
            let (vocabulary, corpus) = train(clean.path(), 1, None, CUT, &Marks::default(), &Inputs::default()).unwrap();
            for variant in [Some(dirty), open_counts.then_some(open)].into_iter().flatten() {
                let (other, same) = train(file(variant).path(), 1, None, small(7, 3), &Marks::default(), &Inputs::default()).unwrap();
                prop_assert_eq!(&same, &corpus);
                prop_assert!(other.words().eq(vocabulary.words()));
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let text: String = (0u64..20_000)
            .map(|i| {
                let word = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
                format!("w{}{}", word % (1 + i % 700), if i % 13 == 0 { "\n" } else { " " })
            })
            .collect();
        let file = file(text);
        let read = |threads| {
            let pool = pool::pool(threads).unwrap();
            let (vocabulary, corpus) = pool
                .install(|| train(file.path(), 2, Some(500), small(1000, 7), &Marks::default(), &Inputs::default()))
                .unwrap();
            let lines = pool.install(|| encode(file.path(), &vocabulary, small(1000, 7), &Inputs::default())).unwrap();
            let words: Vec<_> = vocabulary.words().map(str::to_string).collect();
            (words, vocabulary.counts().to_vec(), corpus, lines)
        };
        let one = read(1);
        assert!(one.0.len() == 500 && one.2.unknown > 0);
        for threads in [2, 3, 8] {
            assert!(read(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn lines_keep_a_literal_end_of_sentence() {
        let (vocabulary, _) =
            Corpus::read_training(file("a b <eos>\n").path(), 1, None, &Marks::default(), &Inputs::default()).unwrap();
        let lines = Lines::read_with(file("a <eos> b\n\n <unk> c").path(), &vocabulary, &Inputs::default()).unwrap();
        assert_eq!(lines.starts, [0, 4, 5, 8]);
        assert_eq!(spelled(&vocabulary, &lines.ids), "a <eos> b <eos> <eos> <unk> <unk> <eos>");
        assert_eq!((lines.unknown, lines.len()), (2, 3));
        let corpus = Corpus::read_with(file("\n").path(), &vocabulary, &Inputs::default()).unwrap();
        assert_eq!(corpus, Corpus { ids: vec![vocabulary.eos()], unknown: 0, lines: 1 });
    }

    #[test]
    fn refuses_what_is_no_text() {
        let long = "x".repeat(LONGEST_WORD + 1);
        let cases: [(&[u8], &str); 12] = [
            (b"", ": found no words, expected a text, one sentence per line"),
            (b"\xEF\xBB\xBF", ": found no words,"),
            (b" \n\r\n", ": found no words,"),
            (b"a b\nc \xFFd\n", ":2: found invalid UTF-8 (0xFF) at byte offset 6, expected UTF-8 text"),
            (b"\xEF\xBB\xBFa\n\n\xC3", ":3: found invalid UTF-8 (0xC3) at byte offset 3,"),
            (b"\xFFa\n", ":1: found invalid UTF-8 (0xFF) at byte offset 0,"),
            (b"a\n\n b\0\n\xFF", ":3: found a NUL byte at byte offset 5, expected text, not a binary file"),
            (
                format!("a\n{long}").leak().as_bytes(),
                ":2: found a word of 65537 bytes at byte offset 2, expected words",
            ),
            (format!("a\nb {long} c\n\0").leak().as_bytes(), ":2: found a word of 65537 bytes at byte offset 4,"),
            (
                format!("\u{feff}{long}{long} \u{a0}").leak().as_bytes(),
                ":1: found a word of 131074 bytes at byte offset 0,",
            ),
            (format!("\0{long}").leak().as_bytes(), ":1: found a NUL byte at byte offset 0,"),
            (format!("aaaa {long}\0 b").leak().as_bytes(), ":1: found a word of 65538 bytes at byte offset 5,"),
        ];
        for (text, message) in cases {
            let file = file(text);
            // Of several faults, the first one in the file is reported, however it is divided.
            for cut in [CUT, small(1, 1), small(5, 2)] {
                let error = train(file.path(), 1, None, cut, &Marks::default(), &Inputs::default()).err().unwrap();
                assert_eq!(error.exit_code(), 3);
                let error = error.to_string();
                let start = format!("{}{message}", file.path().display());
                assert!(error.starts_with(&start), "{error}\nis not\n{start}");
            }
        }
        let (vocabulary, _) =
            Corpus::read_training(file("a").path(), 1, None, &Marks::default(), &Inputs::default()).unwrap();
        for empty in ["", "\u{feff}"] {
            let error = Corpus::read_with(file(empty).path(), &vocabulary, &Inputs::default()).unwrap_err().to_string();
            assert!(error.contains(": found an empty file, expected"), "{error}");
        }
        let directory = Corpus::read_with(Path::new("/"), &vocabulary, &Inputs::default()).unwrap_err().to_string();
        assert!(directory.contains("a directory"), "{directory}");
        let missing = Corpus::read_with(Path::new("no/such/file"), &vocabulary, &Inputs::default()).unwrap_err();
        assert_eq!(missing.exit_code(), 6);
    }

    #[test]
    fn takes_the_longest_words() {
        let long = "x".repeat(LONGEST_WORD);
        for text in [long.clone(), format!("{long} {long}\n"), format!("a {long}\n{long}")] {
            let (vocabulary, _) =
                train(file(text).path(), 1, None, small(100, 2), &Marks::default(), &Inputs::default()).unwrap();
            assert!(vocabulary.id(&long).is_some());
        }
    }

    #[test]
    fn refuses_more_words_than_can_be_numbered() {
        let cut = Cut { letters: 5 + 3, ..small(4, 1) };
        train(file("a b c a b c").path(), 1, None, cut, &Marks::default(), &Inputs::default()).unwrap();
        let error = train(file("a b c a b d").path(), 1, None, cut, &Marks::default(), &Inputs::default())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.ends_with(": found more than 8 bytes of different words, expected a text with fewer different words")
        );
    }

    /// The sizes of real texts, as counted by other tools.
    #[test]
    fn real_texts() {
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
        if !data.exists() {
            println!("skipped: no {}", data.display());
            return;
        }
        let sizes = [("lm/bible45", 9_135_035, 641_611), ("lm/books10k", 985_536, 10_000 - 2)];
        for (name, tokens, words) in sizes {
            let (vocabulary, corpus) = Corpus::read_training(
                &data.join(name).join("train.txt"),
                1,
                None,
                &Marks::default(),
                &Inputs::default(),
            )
            .unwrap();
            assert_eq!(corpus.ids.len(), tokens);
            assert_eq!(vocabulary.len(), words + 2);
            assert_eq!(vocabulary.counts().iter().sum::<u64>(), tokens as u64);
            assert_eq!(corpus.lines, vocabulary.count(vocabulary.eos()));
        }
        for trap in ["ptb.train.html-page.txt", "wikitext-2.s3-error-xml.zip"] {
            let path = data.join("traps").join(trap);
            let inputs = Inputs::default();
            Corpus::read_training(&path, 1, None, &Marks::default(), &inputs).unwrap();
            assert!(inputs.notices().all()[0].found.contains("a web page instead of a text?"));
        }
    }
}
