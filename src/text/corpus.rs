//! Text files as ids. A file is mapped into memory, cut into pieces of a fixed size and read in parallel; what comes out
//! does not depend on the pieces or on the number of threads.
//!
//! A text holds one sentence a line, its words separated by white space: space, tab, form feed, carriage return.
//! [`EOS`] is implied at the end of every line, empty ones included. CRLF, a byte order mark at the beginning, spaces at
//! either end of a line or several in a row, and a missing end of the last line make no difference. A word that is
//! literally [`UNK`](super::vocabulary::UNK) or [`EOS`] is that special word.

use super::vocabulary::{EOS, Ranking, Vocabulary, Words, hash};
use super::{is_space, not_utf8, wrong_byte};
use crate::kernels::memory::map_file;
use crate::{Error, Result};
use hashbrown::hash_table::{Entry, HashTable};
use hashbrown::DefaultHashBuilder;
use rayon::prelude::*;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest word that is taken for one, in bytes.
pub const LONGEST_WORD: usize = 64 << 10;

/// A text as one stream of ids, sentence after sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// All words, with [`EOS`] behind every line.
    pub ids: Vec<u32>,
    /// How many of them are [`UNK`](super::vocabulary::UNK).
    pub unknown: u64,
    /// The number of lines.
    pub lines: u64,
}

/// A text as ids that keeps its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// All words, with [`EOS`] behind every line.
    pub ids: Vec<u32>,
    /// Where each line begins in `ids`, and after the last one the length of `ids`.
    pub starts: Vec<usize>,
    /// How many of the ids are [`UNK`](super::vocabulary::UNK).
    pub unknown: u64,
}

impl Corpus {
    /// Reads a text to train on, and makes its vocabulary: see [`Vocabulary::from_counts`] for what is cut.
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or holds no word; cuts that leave no word.
    pub fn read_training(path: &Path, min_count: u64, max_vocab: Option<usize>) -> Result<(Vocabulary, Corpus)> {
        train(path, min_count, max_vocab, CUT)
    }

    /// Reads a text in the words of `vocabulary`; others become [`UNK`](super::vocabulary::UNK).
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or is empty.
    pub fn read_with(path: &Path, vocabulary: &Vocabulary) -> Result<Corpus> {
        let Lines { ids, starts, unknown } = encode(path, vocabulary, CUT)?;
        Ok(Corpus { ids, unknown, lines: starts.len() as u64 - 1 })
    }

    /// What is odd about a text that can be read all the same: a web page or an XML error saved in its place. For the
    /// user, and only for files: a pipe can be read but once.
    pub fn warning(path: &Path) -> Option<String> {
        const MARKS: [&str; 3] = ["<!doctype", "<html", "<?xml"];
        let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|kind| kind.is_file()))?;
        let mut start = Vec::new();
        file.take(4096).read_to_end(&mut start).ok()?;
        let start = String::from_utf8_lossy(start.strip_prefix(BOM).unwrap_or(&start));
        let line = start.trim_start().lines().next()?;
        let page = MARKS.iter().any(|mark| line.get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark)));
        let line: String = line.trim_end().chars().take(60).collect();
        page.then(|| format!("{}: begins with {line:?}: a web page in place of a text?", path.display()))
    }
}

impl Lines {
    /// Reads a text in the words of `vocabulary`; others become [`UNK`](super::vocabulary::UNK).
    ///
    /// # Errors
    /// A file that cannot be read, is not text, or is empty.
    pub fn read_with(path: &Path, vocabulary: &Vocabulary) -> Result<Lines> {
        encode(path, vocabulary, CUT)
    }

    /// The number of lines.
    #[expect(clippy::len_without_is_empty, reason = "a text without a line is refused")]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The ids of each line, [`EOS`] at its end.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.starts.windows(2).map(|ends| &self.ids[ends[0]..ends[1]])
    }
}

const BOM: &[u8] = "\u{feff}".as_bytes();

/// How a file is cut up: in tests much smaller than in earnest.
#[derive(Clone, Copy)]
struct Cut {
    /// Bytes of a piece.
    piece: usize,
    /// Pieces read before their words are counted together.
    round: usize,
    /// Bytes of all different words: positions in them are 32 bits.
    letters: usize,
}

const CUT: Cut = Cut { piece: 4 << 20, round: 16, letters: u32::MAX as usize };

/// Counting is spread over this many parts of all words, by hash.
const SHARDS: usize = 64;

fn train(path: &Path, min_count: u64, max_vocab: Option<usize>, cut: Cut) -> Result<(Vocabulary, Corpus)> {
    let file = map_file(path)?;
    let text = Text::check(path, &file, cut)?;
    if text.tokens == text.lines {
        return Err(Error::input(path, 0, "no words", "a text, one sentence a line"));
    }
    let mut ids = vec![0; text.tokens];
    let mut parts = split(&mut ids, text.pieces.iter().map(|piece| piece.tokens));
    let hasher = DefaultHashBuilder::default();
    let mut shards: Vec<_> = (0..SHARDS).map(|_| Shard::new(&hasher)).collect();
    for (pieces, parts) in text.pieces.chunks(cut.round).zip(parts.chunks_mut(cut.round)) {
        let interned: Vec<_> = pieces
            .par_iter()
            .zip(&mut *parts)
            .with_max_len(1)
            .map(|(piece, ids)| ByShard::new(intern(piece, &hasher, ids, |_| ())))
            .collect();
        // By shard and piece: the numbers of its words. They are the words' places in the shards.
        let numbers: Option<Vec<Vec<Vec<u32>>>> = shards
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .map(|(s, shard)| interned.iter().map(|words| shard.merge(s, words.of(s))).collect())
            .collect();
        let letters: usize = shards.iter().map(|shard| shard.words.bytes()).sum();
        let numbers = numbers.filter(|_| letters <= cut.letters).ok_or_else(|| {
            let found = format!("more than {} bytes of different words", cut.letters);
            Error::input(path, 0, found, "a text with fewer different words")
        })?;
        parts.par_iter_mut().zip(&interned).enumerate().with_max_len(1).for_each(|(p, (ids, words))| {
            let mut map = vec![0; words.words.len()];
            for (s, numbers) in numbers.iter().enumerate() {
                for (&local, &number) in words.order(s).iter().zip(&numbers[p]) {
                    map[local as usize] = number;
                }
            }
            ids.iter_mut().for_each(|id| *id = map[*id as usize]);
        });
    }

    let mut bases = [0; SHARDS];
    let mut words = Vec::with_capacity(shards.iter().map(|shard| shard.words.len()).sum());
    for (base, shard) in bases.iter_mut().zip(&shards) {
        *base = words.len();
        words.extend(shard.words.iter().zip(shard.counts.iter().copied()));
    }
    let ranking = Ranking::new(words, min_count, max_vocab)?;
    let renumber = |id: &mut u32| {
        let (s, number) = (*id as usize % SHARDS, *id as usize / SHARDS);
        *id = ranking.ids[bases[s] + number];
    };
    let (vocabulary, ()) =
        rayon::join(|| ranking.vocabulary(), || ids.par_chunks_mut(1 << 16).for_each(|ids| ids.iter_mut().for_each(renumber)));
    let vocabulary = vocabulary?;
    let unknown = vocabulary.count(vocabulary.unk());
    Ok((vocabulary, Corpus { ids, unknown, lines: text.lines as u64 }))
}

fn encode(path: &Path, vocabulary: &Vocabulary, cut: Cut) -> Result<Lines> {
    let file = map_file(path)?;
    let text = Text::check(path, &file, cut)?;
    if text.tokens == 0 {
        return Err(Error::input(path, 0, "an empty file", "a text, one sentence a line"));
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
    let unknown = text
        .pieces
        .par_iter()
        .zip(ids_of)
        .zip(starts_of)
        .zip(first)
        .with_max_len(1)
        .map(|(((piece, ids), starts), first)| {
            let mut starts = starts.iter_mut();
            let words = intern(piece, &hasher, ids, |end| *starts.next().expect("counted") = first + end);
            let map: Vec<u32> = words.iter().map(|word| vocabulary.id_or_unk(word.word)).collect();
            ids.iter_mut().for_each(|id| *id = map[*id as usize]);
            let unknown = words.iter().zip(map).filter(|(_, id)| *id == vocabulary.unk());
            unknown.map(|(word, _)| u64::from(word.count)).sum::<u64>()
        })
        .sum();
    Ok(Lines { ids, starts, unknown })
}

/// A file that has been checked: nothing can be wrong with it any more.
struct Text<'a> {
    pieces: Vec<Piece<'a>>,
    tokens: usize,
    lines: usize,
}

/// Part of a file that begins and ends with whole words.
struct Piece<'a> {
    text: &'a str,
    /// Words and ends of lines.
    tokens: usize,
    lines: usize,
    /// The end of the last line is missing, and counted all the same.
    open: bool,
}

/// What a text cannot hold.
enum Fault {
    NotUtf8,
    Nul,
    LongWord,
}

impl<'a> Text<'a> {
    fn check(path: &Path, file: &'a [u8], cut: Cut) -> Result<Self> {
        let text = file.strip_prefix(BOM).unwrap_or(file);
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let least = cut.piece.min(rest.len());
            let space = rest[least..].iter().position(|&byte| is_space(byte));
            let (part, after) = rest.split_at(space.map_or(rest.len(), |n| least + n + 1));
            parts.push((file.len() - rest.len(), part));
            rest = after;
        }
        let checked: Vec<_> = parts.par_iter().with_max_len(1).map(|(_, part)| Piece::check(part)).collect();
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
    /// The first fault is the one told, whatever its kind.
    fn check(bytes: &'a [u8]) -> std::result::Result<Self, (usize, Fault)> {
        let text = std::str::from_utf8(bytes);
        let good = text.map_or_else(|e| e.valid_up_to(), str::len);
        let nul = bytes[..good].iter().position(|&byte| byte == 0);
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
            Fault::Nul => wrong_byte(path, file, at, "a NUL byte", "text, not a binary file"),
            Fault::LongWord => {
                let length = file[at..].iter().position(|&byte| is_space(byte)).unwrap_or(file.len() - at);
                let found = format!("a word of {length} bytes");
                wrong_byte(path, file, at, &found, &format!("words of at most {LONGEST_WORD} bytes"))
            }
        }
    }
}

/// Where the first word begins that is too long.
fn long_word(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    // Too long a word fills a window behind some space; the last space within a window is the next one to look from.
    while bytes.len() - start > LONGEST_WORD {
        match bytes[start..=start + LONGEST_WORD].iter().rposition(|&byte| is_space(byte)) {
            Some(space) => start += space + 1,
            None => return Some(start),
        }
    }
    None
}

/// How many words there are, each one ending at a space or at the end.
fn words(bytes: &[u8]) -> usize {
    let last = bytes.last().is_some_and(|&byte| !is_space(byte));
    let pairs = bytes.chunks(255).zip(bytes.get(1..).unwrap_or_default().chunks(255));
    let ends = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(&a, &b)| u8::from(!is_space(a) & is_space(b))).sum::<u8>();
    usize::from(last) + pairs.map(|pair| usize::from(ends(pair))).sum::<usize>()
}

/// Summed in bytes, 255 at a time: many at once in a vector register.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.chunks(255).map(|bytes| usize::from(bytes.iter().map(|&byte| u8::from(is(byte))).sum::<u8>())).sum()
}

/// Cuts `all` into parts of these lengths.
fn split<T>(mut all: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths.map(|length| all.split_off_mut(..length).expect("lengths that sum to the whole")).collect()
}

/// A word of a piece, and how often it is there.
struct Counted<'a> {
    word: &'a str,
    hash: u64,
    count: u32,
}

/// The words of a piece, each once, in the order of their first appearance after [`EOS`]. `ids` become indices into
/// them, and `line_end` is called with the number of tokens up to the end of each line.
fn intern<'a>(
    piece: &Piece<'a>,
    hasher: &DefaultHashBuilder,
    ids: &mut [u32],
    mut line_end: impl FnMut(usize),
) -> Vec<Counted<'a>> {
    let bytes = piece.text.as_bytes();
    let mut words = vec![Counted { word: EOS, hash: hash(hasher, EOS.as_bytes()), count: 0 }];
    let mut index = HashTable::<u32>::new();
    index.insert_unique(words[0].hash, 0, |_| unreachable!());
    let (mut at, mut token) = (0, 0);
    loop {
        while at < bytes.len() && is_space(bytes[at]) {
            if bytes[at] == b'\n' {
                ids[token] = 0;
                token += 1;
                words[0].count += 1;
                line_end(token);
            }
            at += 1;
        }
        if at == bytes.len() {
            break;
        }
        let start = at;
        while at < bytes.len() && !is_space(bytes[at]) {
            at += 1;
        }
        let word = &bytes[start..at];
        let hash = hash(hasher, word);
        let same = |&id: &u32| words[id as usize].word.as_bytes() == word;
        let id = match index.entry(hash, same, |&id| words[id as usize].hash) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let id = words.len() as u32;
                entry.insert(id);
                words.push(Counted { word: &piece.text[start..at], hash, count: 0 });
                id
            }
        };
        words[id as usize].count += 1;
        ids[token] = id;
        token += 1;
    }
    if piece.open {
        ids[token] = 0;
        words[0].count += 1;
        line_end(token + 1);
    }
    words
}

/// Words in the order of the shards they belong to.
struct ByShard<'a> {
    words: Vec<Counted<'a>>,
    /// Indices into `words`.
    order: Vec<u32>,
    /// Where each shard ends in `order`.
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
    // The highest seven bits and the lowest ones are those that hash tables use.
    (hash >> 40) as usize % SHARDS
}

/// A part of all words of the file.
struct Shard {
    words: Words,
    counts: Vec<u64>,
}

impl Shard {
    fn new(hasher: &DefaultHashBuilder) -> Self {
        Shard { words: Words::with_hasher(hasher.clone()), counts: Vec::new() }
    }

    /// Adds `words` to this shard, the one with number `s`, and returns their numbers among the words of all shards:
    /// `SHARDS` times the place in the shard, plus `s`. None if one is beyond 32 bits.
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
